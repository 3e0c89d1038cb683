//! `parity`: models and adapters against transformers and PEFT, on all-MiniLM-L6-v2 in full precision and on SmolLM2-135M from its
//! GGUF file.

mod checks;
mod decoder;
mod edited;
mod python;
mod table;
mod tensors;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use burn::tensor::Device;
use coto_models::Bert;

use checks::Checks;
pub use python::{Python, Script};

/// The script of the encoder's comparisons, which can fetch it too.
pub const ENCODER: &str = "parity.py";
/// The same of the decoder.
pub const DECODER: &str = "parity_decoder.py";

/// Arguments of the verb.
#[derive(clap::Args)]
pub struct Args {
    /// A Python environment with torch, transformers and peft, made here if there is none; else one is made and thrown away.
    #[arg(long, value_name = "DIR")]
    venv: Option<PathBuf>,
    /// The checkpoint's folder; else it is downloaded.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// The decoder's GGUF file; else it is downloaded.
    #[arg(long, value_name = "FILE")]
    gguf: Option<PathBuf>,
}

/// Runs both sides and prints the differences; an error if any is too large.
pub fn run(args: &Args) -> Result<()> {
    let scratch = tempfile::tempdir().context("no temporary folder")?;
    let work = scratch.path();
    let venv = args.venv.clone().unwrap_or_else(|| work.join("venv"));
    let python = Python::ready(&venv)?;
    let (encoder, decoder) = (work.join("encoder"), work.join("decoder"));
    for folder in [&encoder, &decoder] {
        std::fs::create_dir(folder)?;
    }
    let script = python.script(ENCODER);
    let model = match &args.model {
        Some(model) => model.clone(),
        None => {
            script.run("fetch", &[&encoder])?;
            encoder.join("model")
        }
    };
    script.run("reference", &[&model, &encoder])?;
    let table = compare(&script, &model, &encoder)?;
    print!("{table}");

    let script = python.script(DECODER);
    let gguf = match &args.gguf {
        Some(gguf) => gguf.clone(),
        None => {
            script.run("fetch", &[&decoder])?;
            decoder.join("model.gguf")
        }
    };
    let decoders = decoder::compare(&script, &gguf, &decoder)?;
    print!("{decoders}");
    ensure!(table.passes() && decoders.passes(), "the two sides differ");
    Ok(())
}

fn compare(script: &Script, model: &Path, work: &Path) -> Result<table::Table> {
    let bert = Bert::load(model, &Device::flex())?;
    let checks = Checks::new(&bert, work)?;
    let mut table = table::Table::default();
    checks.hidden(&mut table)?;
    let made = checks.make()?;
    script.run("ours", &[model, work])?;
    checks.ours(&made, &mut table)?;
    script.run("merged", &[model, work])?;
    checks.merged(&made, &mut table)?;
    checks.theirs(&mut table)?;
    Ok(table)
}
