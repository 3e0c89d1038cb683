//! What transformers' Pillow-based processors make of small images (see `goldens/make.py`).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use coto_image::{Picture, Processor};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("goldens")
        .join(name)
}

fn picture(name: &str) -> Picture {
    Picture::decode(&fs::read(golden("images").join(name)).unwrap()).unwrap()
}

fn processors() -> BTreeMap<String, Processor> {
    let file = fs::read_to_string(golden("processors.json")).unwrap();
    let settings: BTreeMap<String, Value> = serde_json::from_str(&file).unwrap();
    settings
        .into_iter()
        .map(|(name, json)| {
            let processor = Processor::from_json(&name, &json.to_string()).unwrap();
            (name, processor)
        })
        .collect()
}

fn numbers(tensor: &TensorView) -> Vec<f32> {
    match tensor.dtype() {
        Dtype::U8 => tensor.data().iter().map(|&value| value.into()).collect(),
        Dtype::F32 => {
            let (words, _) = tensor.data().as_chunks();
            words.iter().map(|&word| f32::from_le_bytes(word)).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn pixels_are_those_of_transformers_to_the_bit() {
    let file = fs::read(golden("expected.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&file).unwrap();
    let processors = processors();
    let mut compared = 0;
    for (name, tensor) in expected.iter() {
        let (processor, image) = name.split_once('/').unwrap();
        if image.ends_with(".jpg") {
            continue;
        }
        let processor = &processors[processor];
        let pixels = processor.pixels(&picture(image)).unwrap();
        assert_eq!(processor.shape(), tensor.shape(), "{name}");
        let wanted = numbers(&tensor);
        let pairs = pixels.iter().zip(&wanted);
        let different = pairs.filter(|(a, b)| a.to_bits() != b.to_bits());
        assert_eq!(different.count(), 0, "{name}: of {}", pixels.len());
        compared += 1;
    }
    assert_eq!(compared, 104);
}

/// JPEG leaves a decoder its rounding (a level or two of 256 in a value of 50) and how it spreads halved colours (up to three
/// levels, in a quarter of the values of a noisy image).
#[test]
fn jpegs_are_decoded_nearly_as_pillow_does() {
    let file = fs::read(golden("expected.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&file).unwrap();
    let table = [
        ("grey.jpg", 1, 0.02),
        ("whole.jpg", 2, 0.02),
        ("half.jpg", 3, 0.3),
        ("progressive.jpg", 3, 0.3),
    ];
    for (image, most, share) in table {
        let tensor = expected.tensor(&format!("decoded/{image}")).unwrap();
        let picture = picture(image);
        assert_eq!(picture.pixels().len(), tensor.data().len());
        let pairs = picture.pixels().iter().zip(tensor.data());
        let differences: Vec<u8> = pairs.map(|(&a, &b)| a.abs_diff(b)).collect();
        let changed = differences.iter().filter(|&&difference| difference > 0);
        let changed = changed.count() as f64 / differences.len() as f64;
        assert!(
            differences.iter().all(|&difference| difference <= most),
            "{image}"
        );
        assert!(changed < share, "{image}: {changed}");
    }
}

/// Where an image is made smaller, what decoders disagree in averages out: two levels of 256 remain.
#[test]
fn pixels_of_jpegs_are_nearly_those_of_transformers() {
    let file = fs::read(golden("expected.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&file).unwrap();
    let processors = processors();
    // A level of 256 after rescaling and dividing by the smallest deviation.
    for (processor, level) in [
        ("clip", 1.0 / 255.0 / 0.2613),
        ("grey", 1.0 / 255.0 / 0.353),
    ] {
        for image in ["grey.jpg", "whole.jpg", "half.jpg", "progressive.jpg"] {
            let tensor = expected.tensor(&format!("{processor}/{image}")).unwrap();
            let pixels = processors[processor].pixels(&picture(image)).unwrap();
            let pairs = pixels.iter().zip(numbers(&tensor));
            let most = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(
                most < 2.1 * level,
                "{processor}/{image}: {} levels",
                most / level
            );
        }
    }
}
