//! A small vision transformer, pretrained here on Fashion-MNIST, learns the digits of MNIST from 1, 4 and 16 examples of each, with plain
//! LoRA and with CoTo.
//!
//! `cargo xtask stories` makes the images. The pretrained model stays in the folder `vit`, for this story's next time and for `coto`.

mod adapt;
mod folder;
mod network;
mod pretrain;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use coto_lora::models::parse_device;

use adapt::Plan;
use network::Sizes;

/// Arguments of the story.
#[derive(clap::Args)]
pub struct Args {
    /// The folder of the images, the model and the runs.
    #[arg(long, value_name = "DIR", default_value = "runs/vision")]
    folder: PathBuf,
    /// `cpu`, `wgpu[:n]`, `cuda[:n]`.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Steps of the pretraining, where there is no model yet.
    #[arg(long, default_value_t = 2500)]
    pretraining_steps: usize,
    /// Steps of each run; unset, those of examples/run-files/vit-digits.toml.
    #[arg(long)]
    steps: Option<usize>,
    /// Training images of each digit.
    #[arg(long, value_delimiter = ',', default_value = "1,4,16")]
    shots: Vec<usize>,
}

/// The pretrained network.
const SIZES: Sizes = Sizes {
    image: 28,
    patch: 7,
    d: 64,
    layers: 6,
    heads: 4,
    ff: 128,
    classes: 10,
};

/// Tells the story.
pub fn run(args: &Args) -> Result<()> {
    story(args, &SIZES)
}

fn story(args: &Args, sizes: &Sizes) -> Result<()> {
    let (clothes, digits) = (
        args.folder.join("fashion-mnist"),
        args.folder.join("digits"),
    );
    for folder in [&clothes, &digits] {
        let there = folder.is_dir();
        ensure!(
            there,
            "{}: not there; `cargo xtask stories` makes it",
            folder.display()
        );
    }
    let device = parse_device(&args.device)?;
    let model = args.folder.join("vit");
    if model.join("config.json").exists() {
        println!("{}: pretrained already", model.display());
    } else {
        let steps = args.pretraining_steps;
        let found = pretrain::pretrain(&clothes, &model, sizes, steps, &device)?;
        println!(
            "{}: accuracy {:.4} on the test images; no logit more than {:.1e} away from the network that was trained",
            model.display(),
            found.accuracy,
            found.difference
        );
    }
    let plan = Plan {
        model: &model,
        digits: &digits,
        out: &args.folder,
        shots: &args.shots,
        steps: args.steps,
        device: &args.device,
    };
    adapt::compare(&plan, &device)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    /// Grey images of 8 × 8 pixels, dark but for one bright quarter which tells the class, as IDX files.
    fn images(folder: &Path, name: &str, count: usize) {
        let classes: Vec<u8> = (0..count).map(|image| (image % 4) as u8).collect();
        let pixel = |image: usize, y: usize, x: usize| {
            let bright = usize::from(classes[image]) == 2 * (y / 4) + x / 4;
            (image * 7 + y * 3 + x * 5) as u8 % 60 + 180 * u8::from(bright)
        };
        let pixels = (0..count * 64).map(|i| pixel(i / 64, i / 8 % 8, i % 8));
        let head = |sizes: &[usize]| {
            let mut bytes = vec![0, 0, 8, sizes.len() as u8];
            let sizes = sizes.iter().flat_map(|&size| (size as u32).to_be_bytes());
            bytes.extend(sizes);
            bytes
        };
        let files = [
            (
                "images-idx3",
                head(&[count, 8, 8]),
                pixels.collect::<Vec<u8>>(),
            ),
            ("labels-idx1", head(&[count]), classes.clone()),
        ];
        fs::create_dir_all(folder).unwrap();
        for (kind, mut bytes, values) in files {
            bytes.extend(values);
            let file = fs::File::create(folder.join(format!("{name}-{kind}-ubyte.gz"))).unwrap();
            let mut file = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
            std::io::Write::write_all(&mut file, &bytes).unwrap();
            file.finish().unwrap();
        }
    }

    #[test]
    fn the_story_pretrains_adapts_and_joins() {
        let dir = tempfile::tempdir().unwrap();
        let (clothes, digits) = (dir.path().join("fashion-mnist"), dir.path().join("digits"));
        images(&clothes, "train", 64);
        images(&clothes, "t10k", 16);
        for split in ["train", "validation", "test"] {
            images(&digits, split, 16);
        }
        let sizes = Sizes {
            image: 8,
            patch: 4,
            d: 16,
            layers: 2,
            heads: 2,
            ff: 24,
            classes: 4,
        };
        let model = dir.path().join("vit");
        let device = parse_device("cpu").unwrap();
        let found = pretrain::pretrain(&clothes, &model, &sizes, 120, &device).unwrap();
        assert!(found.accuracy > 0.9, "{found:?}");
        assert!(found.difference < 1e-5, "{found:?}");

        let args = Args {
            folder: dir.path().to_owned(),
            device: "cpu".to_owned(),
            pretraining_steps: 0,
            steps: Some(4),
            shots: vec![2],
        };
        story(&args, &sizes).unwrap();
        for run in ["lora-2-1-1", "coto-2-3-2"] {
            assert!(
                dir.path()
                    .join(run)
                    .join("adapter/adapter_model.safetensors")
                    .exists()
            );
        }
    }

    #[test]
    fn without_images_the_story_names_the_verb_that_makes_them() {
        let dir = tempfile::tempdir().unwrap();
        let args = Args {
            folder: dir.path().to_owned(),
            device: "cpu".to_owned(),
            pretraining_steps: 1,
            steps: None,
            shots: vec![1],
        };
        let error = run(&args).unwrap_err().to_string();
        assert!(error.contains("cargo xtask stories"), "{error}");
    }
}
