//! Sets of every form, whole and broken.

use std::fs;
use std::path::{Path, PathBuf};

use coto_data::Share;
use coto_image::{Error, ImageColumns, ImageSet, Mode, Processor};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("goldens/sets")
        .join(name)
}

fn columns(image: &str, label: &str) -> ImageColumns {
    ImageColumns {
        image: image.into(),
        label: label.into(),
    }
}

fn load(path: impl AsRef<Path>) -> Result<ImageSet, Error> {
    ImageSet::load(path, &ImageColumns::default(), None)
}

fn classes(set: &ImageSet) -> Vec<usize> {
    (0..set.len()).map(|index| set.label(index)).collect()
}

/// The first pixel of each image.
fn colours(set: &ImageSet) -> Vec<[u8; 3]> {
    let colour = |index| *set.picture(index).unwrap().pixels().first_chunk().unwrap();
    (0..set.len()).map(colour).collect()
}

fn names(labels: &[&str]) -> Vec<String> {
    labels.iter().map(|&label| label.into()).collect()
}

const RED: [u8; 3] = [255, 0, 0];
const GREEN: [u8; 3] = [0, 128, 0];
const BLUE: [u8; 3] = [0, 0, 255];

#[test]
fn a_folder_has_a_folder_for_each_class() {
    let set = load(golden("folder")).unwrap();
    assert_eq!(set.labels(), ["blue", "red"]);
    assert_eq!(classes(&set), [0, 1, 1]);
    assert_eq!(colours(&set), [BLUE, RED, [255, 99, 71]]);
    assert_eq!(set.picture(0).unwrap().size(), (5, 6));

    let given = names(&["red", "green", "blue"]);
    let set = ImageSet::folder(golden("folder"), Some(&given)).unwrap();
    assert_eq!(
        (classes(&set), set.class_counts()),
        (vec![2, 0, 0], vec![2, 0, 1])
    );

    let root = tempfile::tempdir().unwrap();
    for (from, to) in [
        ("blue/a.png", "train/2"),
        ("red/1.png", "train/10"),
        ("red/1.png", "test/10"),
    ] {
        let folder = root.path().join(to);
        fs::create_dir_all(&folder).unwrap();
        fs::copy(golden("folder").join(from), folder.join("x.png")).unwrap();
        fs::write(folder.join(".hidden"), "").unwrap();
    }
    let set = load(root.path()).unwrap();
    assert_eq!(set.labels(), ["2", "10"], "whole numbers sort as numbers");
    assert_eq!(
        (classes(&set), colours(&set)),
        (vec![1, 0], vec![RED, BLUE])
    );
    assert_eq!(load(root.path().join("test")).unwrap().labels(), ["10"]);
}

#[test]
fn parquet_has_hugging_faces_layout_or_plain_bytes() {
    let first = [RED, GREEN, BLUE, [255; 3], [0; 3]];
    let set = load(golden("hub.parquet")).unwrap();
    assert_eq!(
        set.labels(),
        ["stop", "go", "wait"],
        "names of the metadata"
    );
    assert_eq!(
        (classes(&set), colours(&set)),
        (vec![0, 1, 2, 1, 0], first.to_vec())
    );

    let plain = |image: &str, label: &str| {
        ImageSet::load(golden("plain.parquet"), &columns(image, label), None).unwrap()
    };
    let set = plain("image", "label");
    assert_eq!(
        (set.labels(), classes(&set)),
        (&names(&["0", "1", "2"])[..], vec![0, 1, 2, 1, 0])
    );
    let set = plain("plain", "word");
    assert_eq!(set.labels(), ["class 0", "class 1", "class 2"]);
    assert_eq!(colours(&set), first);
}

#[test]
fn given_names_stand_for_numbers_by_name_or_by_place() {
    let with = |file: &str, labels: &[&str]| {
        let labels = names(labels);
        ImageSet::load(golden(file), &ImageColumns::default(), Some(&labels))
            .map(|set| classes(&set))
    };
    // The file's own names come first, then places, then the numbers as texts.
    assert_eq!(
        with("hub.parquet", &["go", "stop", "wait"]).unwrap(),
        [1, 0, 2, 0, 1]
    );
    assert_eq!(
        with("plain.parquet", &["go", "stop", "wait"]).unwrap(),
        [0, 1, 2, 1, 0]
    );
    assert_eq!(
        with("plain.parquet", &["2", "1", "0"]).unwrap(),
        [2, 1, 0, 1, 2]
    );
    assert_eq!(
        with("test-images-idx3-ubyte", &["a", "b", "c"]).unwrap(),
        [2, 0, 1, 2, 2, 0]
    );
    for (file, labels, parts) in [
        (
            "plain.parquet",
            &["go", "stop"],
            ["plain.parquet, row 3", "2 is outside of the 2 names"],
        ),
        (
            "plain.parquet",
            &["0", "1"],
            ["row 3", "`2` is not in the label set"],
        ),
        (
            "hub.parquet",
            &["stop", "go"],
            ["row 3", "`wait` is not in the label set; the nearest"],
        ),
        (
            "test-images-idx3-ubyte",
            &["a", "b"],
            ["test-labels-idx1-ubyte, row 1", "2 is outside"],
        ),
    ] {
        let message = with(file, labels).unwrap_err().to_string();
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    }
}

#[test]
fn idx_files_are_read_packed_or_not() {
    let set = load(golden("test-images-idx3-ubyte")).unwrap();
    let packed = load(golden("test-images-idx3-ubyte.gz")).unwrap();
    assert_eq!(set.labels(), ["0", "1", "2"]);
    assert_eq!(classes(&set), [2, 0, 1, 2, 2, 0]);
    let bytes = fs::read(golden("test-images-idx3-ubyte")).unwrap();
    for index in 0..6 {
        let picture = set.picture(index).unwrap();
        assert_eq!((picture.size(), picture.mode()), ((4, 3), Mode::L));
        assert_eq!(picture.pixels(), &bytes[16 + 12 * index..][..12]);
        assert_eq!(picture, packed.picture(index).unwrap());
    }
    assert_eq!(set.fingerprint().unwrap(), packed.fingerprint().unwrap());

    let settings = r#"{"image_processor_type": "ViTImageProcessor", "do_resize": false, "size": {"height": 4, "width": 3},
        "image_mean": [0.5], "image_std": [0.5]}"#;
    let processor = Processor::from_json("settings", settings).unwrap();
    assert_eq!(processor.shape(), [1, 4, 3]);
    let pixels = set.pixels(5, &processor).unwrap();
    assert_eq!(
        pixels[11],
        ((f64::from(bytes[87]) / 255.0) as f32 - 0.5) / 0.5
    );
    let other = load(golden("folder"))
        .unwrap()
        .pixels(0, &processor)
        .unwrap_err();
    let message = other.to_string();
    assert!(
        message.contains("a.png: ") && message.contains("5×6 pixels, but 4×3"),
        "{message}"
    );
}

#[test]
fn a_list_names_files_beside_it() {
    let set = load(golden("list.jsonl")).unwrap();
    assert_eq!(
        (set.labels(), colours(&set)),
        (&names(&["cold", "warm"])[..], vec![RED, BLUE])
    );
    let root = tempfile::tempdir().unwrap();
    let list = root.path().join("list.csv");
    fs::write(&list, "image,label\nnone.png,1\n").unwrap();
    let message = load(&list).unwrap().picture(0).unwrap_err().to_string();
    assert!(
        message.contains("cannot open") && message.contains("none.png"),
        "{message}"
    );
}

#[test]
fn samples_share_the_images_and_keep_their_order() {
    let set = load(golden("hub.parquet")).unwrap();
    let few = set.few_shot(1, 3);
    assert_eq!(few.class_counts(), [1, 1, 1]);
    assert!(
        colours(&few)
            .iter()
            .all(|colour| colours(&set).contains(colour))
    );
    assert_eq!(
        few.fingerprint().unwrap(),
        set.few_shot(1, 3).fingerprint().unwrap()
    );
    assert_eq!(
        set.few_shot(9, 3).fingerprint().unwrap(),
        set.fingerprint().unwrap()
    );
    assert!(set.few_shot(0, 3).is_empty());
    let (rest, held_out) = set.split(Share::Count(2), 3).unwrap();
    assert_eq!((rest.len(), held_out.len()), (3, 2));
}

#[test]
fn the_fingerprint_sees_every_change() {
    let root = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    let fingerprint = || load(root.path()).unwrap().fingerprint().unwrap();
    file("a/1.png", b"ab");
    file("b/1.png", b"c");
    let first = fingerprint();
    assert_eq!(first, fingerprint());
    file("a/1.png", b"ac");
    let second = fingerprint();
    file("a/1.png", b"a");
    file("b/1.png", b"bc");
    let third = fingerprint();
    assert!(first != second && first != third && second != third);
}
