//! Broken files: each must be refused with an error that names the thing, and none may panic or allocate at will.

use std::fs;
use std::io::Write;

use coto_gguf::{Error, Gguf};
use proptest::prelude::*;

/// Does one kind of harm to a sound file.
type Harm = fn(&mut Vec<u8>);

/// Metadata: a string, a bool, an array of i32, an array of strings, an alignment. Tensors: `a.weight`, F32 [2, 4], then
/// `b.weight`, Q4_0 [2, 32].
fn good() -> Vec<u8> {
    let mut file = b"GGUF\x03\0\0\0".to_vec();
    let u64s = |file: &mut Vec<u8>, values: &[u64]| {
        file.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    };
    u64s(&mut file, &[2, 5]);
    let mut entry = |key: &str, types: &[u32], value: &[u8]| {
        u64s(&mut file, &[key.len() as u64]);
        file.extend(key.as_bytes());
        file.extend(types.iter().flat_map(|v| v.to_le_bytes()));
        file.extend(value);
    };
    entry("general.name", &[8], b"\x05\0\0\0\0\0\0\0llama");
    entry("test.flag", &[7], &[1]);
    entry(
        "test.list",
        &[9, 5],
        b"\x02\0\0\0\0\0\0\0\x07\0\0\0\x08\0\0\0",
    );
    entry(
        "test.words",
        &[9, 8],
        b"\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0hi",
    );
    entry("general.alignment", &[4], &32_u32.to_le_bytes());
    for (name, columns, dtype, offset) in [("a.weight", 4, 0_u32, 0), ("b.weight", 32, 2, 32)] {
        u64s(&mut file, &[name.len() as u64]);
        file.extend(name.as_bytes());
        file.extend(2_u32.to_le_bytes());
        u64s(&mut file, &[columns, 2]);
        file.extend(dtype.to_le_bytes());
        u64s(&mut file, &[offset]);
    }
    file.resize(file.len().next_multiple_of(32), 0);
    file.extend((0..8).flat_map(|i| (i as f32).to_le_bytes()));
    file.extend([0x3c; 36]);
    file
}

fn open(bytes: &[u8]) -> Result<Gguf, Error> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    Gguf::open(file.path())
}

/// The message, and the path at its beginning as `FILE`.
fn refusal(bytes: &[u8]) -> String {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let path = file.path().display().to_string();
    match Gguf::open(file.path()) {
        Ok(_) => "accepted".to_owned(),
        Err(error) => error.to_string().replacen(&path, "FILE", 1),
    }
}

/// Where the first such text ends.
fn after(file: &[u8], text: &str) -> usize {
    file.windows(text.len())
        .position(|w| w == text.as_bytes())
        .unwrap()
        + text.len()
}

/// Writes over the bytes so far after a text.
fn put(file: &mut [u8], text: &str, distance: isize, bytes: &[u8]) {
    let at = after(file, text).strict_add_signed(distance);
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

const HUGE: [u8; 8] = (u64::MAX / 2).to_le_bytes();

#[rustfmt::skip]
const CASES: &[(&str, Harm, &str)] = &[
    ("an empty file", |f| f.clear(),
        "`FILE`: cut short: the magic at byte 0 needs 4 bytes, but the file has 0 more"),
    ("cut in the header", |f| f.truncate(14),
        "`FILE`: cut short: a count at byte 8 needs 8 bytes, but the file has 6 more"),
    ("cut in a value", |f| { let at = after(f, "llama") - 2; f.truncate(at) },
        "`FILE`: 2 tensors cannot be: at 24 bytes or more each they do not fit in the 43 bytes that are left"),
    ("cut in a text", |f| { let at = after(f, "hi") - 1; f.truncate(at) },
        "`FILE`: metadata key `test.words`: cut short: a string at byte 166 needs 2 bytes, but the file has 1 more"),
    ("cut in a tensor's entry", |f| { let at = after(f, "b.weight") + 22; f.truncate(at) },
        "`FILE`: tensor `b.weight`: cut short: the type at byte 285 needs 4 bytes, but the file has 2 more"),
    ("the last byte missing", |f| { f.pop(); },
        "`FILE`: tensor `b.weight`: cut short: offset 32 and size 36 reach beyond the 67 bytes of tensor data"),
    ("another format", |f| put(f, "GGUF", -4, b"PK\x03\x04"),
        "`FILE`: not a GGUF file: it begins with \"PK\\x03\\x04\", not with \"GGUF\""),
    ("version 1", |f| put(f, "GGUF", 0, &[1]), "`FILE`: GGUF version 1 is not supported: 2 and 3 are"),
    ("version 4", |f| put(f, "GGUF", 0, &[4]), "`FILE`: GGUF version 4 is not supported: 2 and 3 are"),
    ("big-endian", |f| put(f, "GGUF", 0, &[0, 0, 0, 3]),
        "`FILE`: a big-endian GGUF file (version 3) is not supported: write it again as little-endian"),
    ("more tensors than bytes", |f| put(f, "GGUF", 4, &HUGE),
        "`FILE`: 9223372036854775807 tensors cannot be: at 24 bytes or more each they do not fit in the 372 bytes that are left"),
    ("more entries than bytes", |f| put(f, "GGUF", 12, &[200]),
        "`FILE`: 200 metadata entries cannot be: at 13 bytes or more each they do not fit in the 364 bytes that are left"),
    ("an endless key", |f| put(f, "GGUF", 20, &HUGE),
        "`FILE`: a metadata key at byte 24 is 9223372036854775807 bytes long, but at most 65535 are allowed"),
    ("a key beyond the end", |f| put(f, "GGUF", 20, &[0xff, 0xff]),
        "`FILE`: cut short: a metadata key at byte 32 needs 65535 bytes, but the file has 356 more"),
    ("a key that is not UTF-8", |f| put(f, "general", -1, &[0xff]),
        "`FILE`: a metadata key is not UTF-8: byte 38 of the file is the first wrong one"),
    ("a key twice", |f| put(f, "test.list", -4, b"flag"), "`FILE`: metadata key `test.flag` is there twice"),
    ("an unknown value type", |f| put(f, "general.name", 0, &[13]),
        "`FILE`: metadata key `general.name`: value type 13 is unknown: 0 to 12 are known"),
    ("an endless string", |f| put(f, "general.name", 4, &HUGE),
        "`FILE`: metadata key `general.name`: cut short: a string at byte 56 needs 9223372036854775807 bytes, but the file has 332 more"),
    ("a string that is not UTF-8", |f| put(f, "llama", -1, &[0xc3]),
        "`FILE`: metadata key `general.name`: a string is not UTF-8: byte 60 of the file is the first wrong one"),
    ("a bool of 2", |f| put(f, "test.flag", 4, &[2]),
        "`FILE`: metadata key `test.flag`: a bool is 2, but must be 0 or 1"),
    ("an endless array", |f| put(f, "test.list", 8, &HUGE),
        "`FILE`: metadata key `test.list`: 9223372036854775807 array elements cannot be: at 4 bytes or more each they do not \
         fit in the 272 bytes that are left"),
    ("an endless array of strings", |f| put(f, "test.words", 8, &[100]),
        "`FILE`: metadata key `test.words`: 100 array elements cannot be: at 8 bytes or more each they do not fit in the \
         230 bytes that are left"),
    ("an array of an unknown type", |f| put(f, "test.list", 4, &[99]),
        "`FILE`: metadata key `test.list`: value type 99 is unknown: 0 to 12 are known"),
    ("arrays without end", |f| {
        let at = after(f, "test.list") + 4;
        let deep = [&9_u32.to_le_bytes()[..], &1_u64.to_le_bytes()].concat().repeat(1000);
        f.splice(at..at, deep);
    }, "`FILE`: metadata key `test.list`: arrays are nested more than 4 deep"),
    ("an alignment of 0", |f| put(f, "general.alignment", 4, &[0]),
        "`FILE`: general.alignment is 0, but must be a u32 power of two of at least 8"),
    ("an alignment of 48", |f| put(f, "general.alignment", 4, &[48]),
        "`FILE`: general.alignment is 48, but must be a u32 power of two of at least 8"),
    ("a float for an alignment", |f| put(f, "general.alignment", 0, &[6]),
        "`FILE`: general.alignment is of type f32, but must be a u32 power of two of at least 8"),
    ("a tensor name that is not UTF-8", |f| put(f, "a.weight", -8, &[0x80]),
        "`FILE`: a tensor name is not UTF-8: byte 209 of the file is the first wrong one"),
    ("a tensor twice", |f| put(f, "b.weight", -8, b"a"), "`FILE`: tensor `a.weight` is there twice"),
    ("five dims", |f| put(f, "a.weight", 0, &[5]), "`FILE`: tensor `a.weight`: 5 dims, but at most 4 are allowed"),
    ("too many elements", |f| put(f, "a.weight", 4, &[0, 0, 0, 0, 0, 0, 0, 0x40, 4]),
        "`FILE`: tensor `a.weight`: dims [4611686018427387904, 4] (innermost first) multiply to more than 2^63 bytes"),
    ("too many elements, and none", |f| put(f, "a.weight", 0, &[vec![3, 0, 0, 0], vec![0; 8], HUGE.to_vec(), HUGE.to_vec()].concat()),
        "`FILE`: tensor `a.weight`: dims [0, 9223372036854775807, 9223372036854775807] (innermost first) multiply to more \
         than 2^63 bytes"),
    ("half a block", |f| put(f, "b.weight", 4, &[48]),
        "`FILE`: tensor `b.weight`: rows of 48 elements cannot be Q4_0, whose blocks have 32"),
    ("blocks across rows", |f| put(f, "b.weight", 4, &[16]),
        "`FILE`: tensor `b.weight`: rows of 16 elements cannot be Q4_0, whose blocks have 32"),
    ("an unsupported type", |f| put(f, "b.weight", 20, &[6]),
        "`FILE`: tensor `b.weight`: tensor type 6 (Q5_0) is not supported: F32, F16, BF16, Q4_0, Q4_1, Q8_0, Q4_K, Q6_K are"),
    ("an unknown type", |f| put(f, "b.weight", 20, &[99]),
        "`FILE`: tensor `b.weight`: tensor type 99 (unknown) is not supported: F32, F16, BF16, Q4_0, Q4_1, Q8_0, Q4_K, Q6_K are"),
    ("an offset between the alignments", |f| put(f, "b.weight", 24, &[33]),
        "`FILE`: tensor `b.weight`: offset 33 is not a multiple of the alignment 32"),
    ("an offset beyond the end", |f| put(f, "b.weight", 24, &[96]),
        "`FILE`: tensor `b.weight`: cut short: offset 96 and size 36 reach beyond the 68 bytes of tensor data"),
    ("an offset that overflows", |f| put(f, "b.weight", 24, &(u64::MAX - 31).to_le_bytes()),
        "`FILE`: tensor `b.weight`: cut short: offset 18446744073709551584 and size 36 reach beyond the 68 bytes of tensor data"),
    ("a tensor that is too long", |f| put(f, "b.weight", 12, &[4]),
        "`FILE`: tensor `b.weight`: cut short: offset 32 and size 72 reach beyond the 68 bytes of tensor data"),
    ("tensors that overlap", |f| put(f, "b.weight", 24, &[0]), "`FILE`: tensors `a.weight` and `b.weight` overlap"),
];

#[test]
fn every_broken_file_is_refused_by_name() {
    assert_eq!(refusal(&good()), "accepted");
    let mut wrong = String::new();
    for (what, harm, wanted) in CASES {
        let mut file = good();
        harm(&mut file);
        let found = refusal(&file);
        if found != *wanted {
            wrong += &format!("{what}\n  wanted {wanted}\n  found  {found}\n");
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let file = good();
    for length in 0..file.len() {
        let found = refusal(&file[..length]);
        assert!(
            found.contains("cut short") || found.contains("do not fit"),
            "{length}: {found}"
        );
    }
}

#[test]
fn what_cannot_be_opened_is_named() {
    let dir = tempfile::tempdir().unwrap();
    for path in [dir.path().to_owned(), dir.path().join("no.gguf")] {
        let error = Gguf::open(&path).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("`{}`: cannot ", path.display())),
            "{error}"
        );
    }
}

#[test]
fn a_file_that_shrinks_later_is_an_error() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&good()).unwrap();
    let gguf = Gguf::open(file.path()).unwrap();
    fs::OpenOptions::new()
        .write(true)
        .open(file.path())
        .unwrap()
        .set_len(100)
        .unwrap();
    let tensor = gguf.tensor("b.weight").unwrap();
    let error = tensor.dequantise().unwrap_err().to_string();
    assert!(error.contains("tensor `b.weight`: cannot read"), "{error}");
}

#[test]
fn tensors_without_axes_or_elements_read() {
    let mut file = good();
    put(&mut file, "a.weight", 12, &[0]);
    let gguf = open(&file).unwrap();
    let tensor = gguf.tensor("a.weight").unwrap();
    assert_eq!((tensor.shape(), tensor.bytes()), (&[0, 4][..], 0));
    assert_eq!(tensor.dequantise().unwrap(), []);

    let mut file = good();
    let at = after(&file, "a.weight");
    file[at] = 0;
    file.drain(at + 4..at + 20); // The two dims; the padding makes up for them.
    let end = after(&file, "b.weight") + 32;
    file.splice(end..end, [0; 16]);
    let gguf = open(&file).unwrap();
    let tensor = gguf.tensor("a.weight").unwrap();
    assert_eq!((tensor.shape(), tensor.elements()), (&[][..], 1));
    assert_eq!(tensor.dequantise_row_range(0..1).unwrap(), [0.0]);
}

proptest! {
    #[test]
    fn no_damage_makes_it_panic(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut file = good();
        for (at, byte) in changes {
            let at = at.index(file.len());
            file[at] = byte;
        }
        if let Ok(gguf) = open(&file) {
            for tensor in gguf.tensors() {
                prop_assert_eq!(tensor.dequantise().unwrap().len(), tensor.elements());
            }
        }
    }
}
