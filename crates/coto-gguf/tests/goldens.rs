//! A file that the Python package `gguf` wrote, and the values it dequantises (see `goldens/make.py`).

use std::fs;
use std::path::{Path, PathBuf};

use coto_gguf::{Array, GgmlType, Gguf, Value, dequantise, dequantise_row_range, groups};
use safetensors::SafeTensors;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("goldens")
        .join(name)
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn every_type_dequantises_to_the_bits_of_the_python_package() {
    let gguf = Gguf::open(golden("types.gguf")).unwrap();
    let file = fs::read(golden("expected.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&file).unwrap();
    assert_eq!(gguf.tensors().len(), expected.len());
    for dtype in GgmlType::ALL {
        assert!(gguf.tensors().any(|t| t.dtype() == dtype), "{dtype}");
    }
    for tensor in gguf.tensors() {
        let name = tensor.name();
        let view = expected.tensor(name).unwrap();
        let wanted: Vec<u32> = view
            .data()
            .as_chunks()
            .0
            .iter()
            .map(|&b| u32::from_le_bytes(b))
            .collect();
        assert_eq!(tensor.shape(), view.shape(), "{name}");
        assert_eq!(tensor.elements(), wanted.len(), "{name}");
        assert_eq!(bits(&tensor.dequantise().unwrap()), wanted, "{name}");

        let bytes = tensor.read_bytes().unwrap();
        assert_eq!(bytes.len(), tensor.bytes(), "{name}");
        let whole = dequantise(tensor.dtype(), &bytes, wanted.len()).unwrap();
        assert_eq!(bits(&whole), wanted, "{name}");

        let columns = *tensor.shape().last().unwrap();
        let rows = wanted.len() / columns;
        for range in [0..0, 0..1, rows / 2..rows, 0..rows] {
            let part = &wanted[range.start * columns..range.end * columns];
            let read = tensor.dequantise_row_range(range.clone()).unwrap();
            let pure = dequantise_row_range(tensor.dtype(), &bytes, columns, range.clone());
            assert_eq!(bits(&read), part, "{name} {range:?}");
            assert_eq!(bits(&pure.unwrap()), part, "{name} {range:?}");
        }
        let beyond = tensor.dequantise_row_range(0..rows + 1).unwrap_err();
        assert!(beyond.to_string().contains(name), "{beyond}");
    }
}

#[test]
fn every_metadata_type_reads() {
    let gguf = Gguf::open(golden("types.gguf")).unwrap();
    let metadata = gguf.metadata();
    let list = |value: &[&str]| value.iter().map(|s| s.to_string()).collect::<Vec<_>>();
    let u64s = i128::from(1_u64 << 63);
    for (key, value) in [
        ("scalar.u8", Value::U8(200)),
        ("scalar.u16", Value::U16(60_000)),
        ("scalar.u32", Value::U32(4_000_000_000)),
        ("scalar.u64", Value::U64(1 << 63)),
        ("scalar.i8", Value::I8(-100)),
        ("scalar.i16", Value::I16(-30_000)),
        ("scalar.i32", Value::I32(-2_000_000_000)),
        ("scalar.i64", Value::I64(i64::MIN)),
        ("scalar.f32", Value::F32(0.1)),
        ("scalar.f64", Value::F64(0.1)),
        ("array.bool", Value::Array(Array::Bool(vec![true, false]))),
        ("array.u8", Value::Array(Array::U8(vec![0, 255]))),
        ("array.i64", Value::Array(Array::I64(vec![i64::MIN]))),
        (
            "array.nested",
            Value::Array(Array::Array(vec![
                Array::I32(vec![1, 2]),
                Array::I32(vec![3]),
            ])),
        ),
        (
            "array.nested_strings",
            Value::Array(Array::Array(vec![
                Array::String(list(&["a"])),
                Array::String(list(&["b", "c"])),
            ])),
        ),
    ] {
        assert_eq!(metadata.get(key), Some(&value), "{key}");
    }
    assert_eq!(gguf.version(), 3);
    assert_eq!(metadata.len(), metadata.iter().count());
    assert_eq!(metadata.get("scalar.u64").unwrap().as_integer(), Some(u64s));
    assert_eq!(metadata.get_str("general.name").unwrap(), "Größe 字 🦙");
    assert_eq!(metadata.get_u32("general.alignment").unwrap(), 64);
    assert_eq!(metadata.get_u32("scalar.u8").unwrap(), 200);
    assert_eq!(metadata.get_u64("scalar.u64").unwrap(), 1 << 63);
    assert_eq!(metadata.get_f32("scalar.f32").unwrap(), 0.1);
    assert!(metadata.get_bool("scalar.yes").unwrap() && !metadata.get_bool("scalar.no").unwrap());
    assert_eq!(
        metadata.get_strings("array.string").unwrap(),
        list(&["a", "", "字"])
    );
    assert_eq!(metadata.get_f32s("array.f32").unwrap(), [0.5, -1.25]);
    assert_eq!(metadata.get_i32s("array.i32").unwrap(), [3, -1, 2]);
}

#[test]
fn a_getter_that_cannot_answer_says_what_there_is() {
    let path = golden("types.gguf");
    let gguf = Gguf::open(&path).unwrap();
    let m = gguf.metadata();
    let cases: [(coto_gguf::Error, &str); 11] = [
        (
            m.get_u32("scalar.ye").unwrap_err(),
            "metadata key `scalar.ye` is missing (nearest: `scalar.yes`, ",
        ),
        (
            m.get_u32("zzzzzzzz").unwrap_err(),
            "metadata key `zzzzzzzz` is missing",
        ),
        (
            m.get_u32("scalar.u64").unwrap_err(),
            "metadata key `scalar.u64` holds 9223372036854775808, which is not a u32",
        ),
        (
            m.get_u64("scalar.i8").unwrap_err(),
            "metadata key `scalar.i8` holds -100, which is not a u64",
        ),
        (
            m.get_u32("scalar.f32").unwrap_err(),
            "metadata key `scalar.f32` is f32, not a u32",
        ),
        (
            m.get_f32("scalar.f64").unwrap_err(),
            "metadata key `scalar.f64` is f64, not an f32",
        ),
        (
            m.get_str("array.string").unwrap_err(),
            "metadata key `array.string` is an array of string, not a string",
        ),
        (
            m.get_strings("array.i32").unwrap_err(),
            "metadata key `array.i32` is an array of i32, not an array of string",
        ),
        (
            m.get_strings("general.name").unwrap_err(),
            "metadata key `general.name` is string, not an array of string",
        ),
        (
            m.get_i32s("array.u32").unwrap_err(),
            "metadata key `array.u32` holds 4000000000, which is not an i32",
        ),
        (
            gguf.tensor("matrix.Q4K").unwrap_err(),
            "tensor `matrix.Q4K` is missing (nearest: `matrix.Q4_K`, ",
        ),
    ];
    for (error, message) in cases {
        let wanted = format!("`{}`: {message}", path.display());
        assert!(error.to_string().starts_with(&wanted), "{error}");
    }
}

#[test]
fn version_2_has_the_same_layout() {
    let mut bytes = fs::read(golden("types.gguf")).unwrap();
    bytes[4] = 2;
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, bytes).unwrap();
    let gguf = Gguf::open(&file).unwrap();
    assert_eq!(gguf.version(), 2);
    assert_eq!(
        gguf.tensor("vector").unwrap().dequantise().unwrap(),
        [1.5, -2.0, 3.25]
    );
}

#[test]
fn groups_give_the_values_of_every_quantised_type() {
    let gguf = Gguf::open(golden("types.gguf")).unwrap();
    let mut seen = Vec::new();
    for tensor in gguf.tensors() {
        let (name, dtype) = (tensor.name(), tensor.dtype());
        let Some(groups) = tensor.groups().unwrap() else {
            assert_eq!(dtype.block_elements(), 1, "{name}");
            continue;
        };
        seen.push(dtype);
        let codes: Vec<f32> = match groups.bits {
            4 => (groups.codes.iter())
                .flat_map(|&byte| [f32::from(byte & 15), f32::from(byte >> 4)])
                .collect(),
            8 => groups.codes.iter().map(|&c| f32::from(c as i8)).collect(),
            bits => panic!("{name}: {bits} bits"),
        };
        assert_eq!(codes.len(), tensor.elements(), "{name}");
        assert_eq!(groups.scales.len() * groups.group, codes.len(), "{name}");
        let values = codes.iter().enumerate().map(|(i, code)| {
            let product = groups.scales[i / groups.group] * code;
            match groups.offsets[..] {
                [] => product,
                ref offsets => product + offsets[i / groups.group],
            }
        });
        // The sum d·8 + (−8 d) of Q4_0 is +0, the product d·(8 − 8) of a negative d is −0.
        let sign = |value: f32| match dtype {
            GgmlType::Q4_0 => value + 0.0,
            _ => value,
        };
        let wanted: Vec<f32> = tensor.dequantise().unwrap().into_iter().map(sign).collect();
        let values: Vec<f32> = values.map(sign).collect();
        assert_eq!(bits(&values), bits(&wanted), "{name}");
    }
    for dtype in GgmlType::ALL {
        assert_eq!(seen.contains(&dtype), dtype.block_elements() > 1, "{dtype}");
    }
    let error = groups(GgmlType::Q4_0, &[0; 17], 32).unwrap_err();
    assert_eq!(
        error.to_string(),
        "32 elements of Q4_0 cannot have 17 bytes"
    );
}
