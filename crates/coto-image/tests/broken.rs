//! Broken and hostile files: each a clear error, none a panic.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use coto_image::{ImageColumns, ImageSet, Picture, Processor};
use flate2::{Compression, write::GzEncoder};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("goldens")
        .join(name)
}

fn image(name: &str) -> Vec<u8> {
    fs::read(golden("images").join(name)).unwrap()
}

fn contains(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "no {part:?} in {message:?}");
    }
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// The error of the set at a path within.
    fn refused(&self, path: &str, columns: &ImageColumns) -> String {
        let path = self.0.path().join(path);
        ImageSet::load(path, columns, None).unwrap_err().to_string()
    }
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn idx(sizes: &[u32], values: &[u8]) -> Vec<u8> {
    let sizes = sizes.iter().flat_map(|size| size.to_be_bytes());
    let header = [0, 0, 8, (sizes.clone().count() / 4) as u8];
    header
        .into_iter()
        .chain(sizes)
        .chain(values.iter().copied())
        .collect()
}

/// A BMP of this many pixels, of which there are none.
fn empty_bmp(width: i32, height: i32) -> Vec<u8> {
    let mut bytes = image("rgb.bmp");
    bytes[18..22].copy_from_slice(&width.to_le_bytes());
    bytes[22..26].copy_from_slice(&height.to_le_bytes());
    bytes
}

#[test]
fn what_is_no_image_says_so_with_its_path() {
    let cut = |name: &str, share: f64| {
        let bytes = image(name);
        bytes[..(bytes.len() as f64 * share) as usize].to_vec()
    };
    let table: [(&str, Vec<u8>, &str); 13] = [
        ("empty.png", Vec::new(), "no image"),
        ("text.png", b"not an image at all".to_vec(), "no image"),
        ("cut.png", cut("rgb.png", 0.5), "unreadable image"),
        ("head.png", cut("rgb.png", 0.006), "unreadable image"),
        ("cut.jpg", cut("whole.jpg", 0.7), "cut short"),
        ("head.jpg", cut("whole.jpg", 0.1), "cut short"),
        ("cut.webp", cut("lossless.webp", 0.5), "unreadable image"),
        ("cut.gif", cut("palette.gif", 0.2), "unreadable image"),
        ("cut.bmp", cut("rgb.bmp", 0.5), "unreadable image"),
        ("wide.bmp", empty_bmp(1 << 20, 1), "too large"),
        ("large.bmp", empty_bmp(60_000, 60_000), "too large"),
        ("inks.jpg", image("cmyk.jpg"), "CMYK is not supported"),
        (
            "noise.jpg",
            b"\xff\xd8\xff\xe0\0\x10garbage garbage garbage garbage".to_vec(),
            "JPEG",
        ),
    ];
    let folder = Folder::new();
    for (name, content, part) in &table {
        folder.file(&format!("set/class/{name}"), content);
        let set = ImageSet::load(folder.0.path().join("set"), &ImageColumns::default(), None);
        let message = set.unwrap().picture(0).unwrap_err().to_string();
        contains(&message, &[&format!("class/{name}: "), part]);
        fs::remove_dir_all(folder.0.path().join("set")).unwrap();
    }
}

#[test]
fn damaged_images_never_panic() {
    let mut refused = 0;
    for name in [
        "rgb.png",
        "palette_alpha.png",
        "grey16.png",
        "half.jpg",
        "progressive.jpg",
        "palette.gif",
        "rgb.bmp",
        "lossless.webp",
    ] {
        let whole = image(name);
        for position in (0..whole.len()).step_by(3) {
            let mut damaged = whole.clone();
            damaged[position] ^= 0x91;
            refused += usize::from(Picture::decode(&damaged).is_err());
            refused += usize::from(Picture::decode(&whole[..position]).is_err());
        }
    }
    assert!(refused > 1000, "{refused}");
}

#[test]
fn folders_hold_images_in_class_folders_and_nothing_else() {
    let refused = |files: &[&str]| {
        let folder = Folder::new();
        fs::create_dir(folder.0.path().join("empty")).unwrap();
        for name in files {
            folder.file(name, b"");
        }
        folder.refused("", &ImageColumns::default())
    };
    contains(&refused(&[]), &["there are no images"]);
    contains(
        &refused(&["a/1.png", "a/notes.txt"]),
        &["a/notes.txt: no image by its name", ".webp"],
    );
    contains(
        &refused(&["a/1.png", "b.png"]),
        &["b.png: a file beside the class folders"],
    );
    contains(
        &refused(&["a/b/1.png"]),
        &["a/b: a folder within a class folder"],
    );
    let folder = Folder::new();
    folder.file("cat/1.png", b"");
    let labels = ["cats".to_owned(), "dogs".to_owned()];
    let message = ImageSet::folder(folder.0.path(), Some(&labels))
        .unwrap_err()
        .to_string();
    contains(
        &message,
        &[
            "/cat: ",
            "`cat` is not in the label set",
            "nearest is `cats`",
        ],
    );
    contains(
        &folder.refused("none", &ImageColumns::default()),
        &["cannot open", "none"],
    );
    folder.file("archive.zip", b"");
    contains(
        &folder.refused("archive.zip", &ImageColumns::default()),
        &["archive.zip: no known form"],
    );
}

#[test]
fn idx_files_are_held_against_their_headers() {
    let good = [idx(&[2, 2, 2], &[7; 8]), idx(&[2], &[0, 1])];
    let refused = |images: &[u8], labels: &[u8], end: &str| {
        let folder = Folder::new();
        folder.file(&format!("x-images-idx3-ubyte{end}"), images);
        folder.file(&format!("x-labels-idx1-ubyte{end}"), labels);
        folder.refused(
            &format!("x-images-idx3-ubyte{end}"),
            &ImageColumns::default(),
        )
    };
    let huge = idx(&[1 << 31, 28, 28], &[7; 100]);
    contains(
        &refused(&huge, &good[1], ""),
        &[
            "x-images-idx3-ubyte: ",
            "promises 1683627180032 bytes",
            "100",
        ],
    );
    contains(
        &refused(&gzip(&huge), &gzip(&good[1]), ".gz"),
        &["promises 1683627180032 bytes of images"],
    );
    contains(
        &refused(&idx(&[u32::MAX; 3], &[]), &good[1], ""),
        &["promises 18446744073709551615 bytes"],
    );
    contains(
        &refused(&idx(&[2, 2, 3], &[7; 8]), &good[1], ""),
        &["promises 12 bytes", "at most 8"],
    );
    contains(
        &refused(&gzip(&idx(&[2, 2, 3], &[7; 8])), &gzip(&good[1]), ".gz"),
        &["promises 12 bytes", "has 8"],
    );
    contains(
        &refused(&idx(&[2, 2, 1], &[7; 8]), &good[1], ""),
        &["promises 4 bytes", "has more"],
    );
    contains(
        &refused(&good[0][..9], &good[1], ""),
        &["promises a header of 16 bytes", "has 9"],
    );
    contains(
        &refused(&good[0], &idx(&[3], &[0, 1, 1]), ""),
        &["has 2 images", "has 3 labels"],
    );
    contains(
        &refused(&idx(&[0, 2, 2], &[]), &idx(&[0], &[]), ""),
        &["there are no images"],
    );
    contains(
        &refused(&good[1], &good[1], ""),
        &[
            "no IDX file of images",
            "[00, 00, 08, 01]",
            "[00, 00, 08, 03]",
        ],
    );
    contains(
        &refused(&good[0], &good[0], ""),
        &["x-labels-idx1-ubyte: no IDX file of labels"],
    );
    contains(
        &refused(b"\x89PNG\r\n\x1a\n", &good[1], ""),
        &["no IDX file of images"],
    );
    contains(
        &refused(&good[0], &gzip(&good[1]), ".gz"),
        &["cannot read on"],
    );
    let packed = gzip(&good[0]);
    contains(
        &refused(&packed[..packed.len() - 9], &gzip(&good[1]), ".gz"),
        &["cannot read on"],
    );
    let folder = Folder::new();
    folder.file("x-images-idx3-ubyte", &good[0]);
    contains(
        &folder.refused("x-images-idx3-ubyte", &ImageColumns::default()),
        &["cannot open", "x-labels-idx1-ubyte"],
    );
}

#[test]
fn parquet_columns_must_fit() {
    let refused = |image: &str, label: &str, parts: &[&str]| {
        let columns = ImageColumns {
            image: image.into(),
            label: label.into(),
        };
        let path = golden("sets/plain.parquet");
        let message = ImageSet::load(path, &columns, None)
            .unwrap_err()
            .to_string();
        contains(&message, parts);
        contains(&message, &["plain.parquet"]);
    };
    refused("img", "label", &["no column `img`", "nearest is `image`"]);
    refused(
        "image",
        "lable",
        &["no column `lable`", "nearest is `label`"],
    );
    refused(
        "word",
        "label",
        &[
            "`word` holds BYTE_ARRAY values of type UTF8",
            "encoded images",
        ],
    );
    refused("score", "label", &["`score` holds DOUBLE values"]);
    refused(
        "image",
        "score",
        &["`score` holds DOUBLE values", "texts or whole numbers"],
    );
    refused("image", "image", &["`image` holds lists or structures"]);
    refused("gap", "label", &["row 3", "`gap` is empty"]);

    let folder = Folder::new();
    let whole = fs::read(golden("sets/hub.parquet")).unwrap();
    folder.file("cut.parquet", &whole[..whole.len() / 2]);
    contains(
        &folder.refused("cut.parquet", &ImageColumns::default()),
        &["cut.parquet: unreadable Parquet"],
    );
    for position in (0..whole.len()).step_by(61) {
        let mut damaged = whole.clone();
        damaged[position] ^= 0x91;
        let path = folder.file("damaged.parquet", &damaged);
        if let Ok(set) = ImageSet::load(path, &ImageColumns::default(), None) {
            for index in 0..set.len() {
                let _ = set.picture(index);
            }
        }
    }
}

#[test]
fn an_image_of_parquet_is_told_by_its_row() {
    let path = golden("sets/plain.parquet");
    let set = ImageSet::load(&path, &ImageColumns::default(), None).unwrap();
    let settings = r#"{"image_processor_type": "ViTImageProcessor", "do_resize": false}"#;
    let processor = Processor::from_json("settings", settings).unwrap();
    let message = set.pixels(3, &processor).unwrap_err().to_string();
    contains(&message, &["plain.parquet, row 4: ", "224×224 are wanted"]);
}
