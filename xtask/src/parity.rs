//! `parity`: models and adapters against transformers and PEFT, on all-MiniLM-L6-v2 in full precision.

mod checks;
mod python;
mod table;
mod tensors;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use burn::tensor::Device;
use coto_models::Bert;

use checks::Checks;
pub use python::Python;

/// Arguments of the verb.
#[derive(clap::Args)]
pub struct Args {
    /// A Python environment with torch, transformers and peft, made here if there is none; else one is made and thrown away.
    #[arg(long, value_name = "DIR")]
    venv: Option<PathBuf>,
    /// The checkpoint's folder; else it is downloaded.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
}

/// Runs both sides and prints the differences; an error if any is too large.
pub fn run(args: &Args) -> Result<()> {
    let scratch = tempfile::tempdir().context("no temporary folder")?;
    let work = scratch.path();
    let venv = args.venv.clone().unwrap_or_else(|| work.join("venv"));
    let python = Python::ready(&venv)?;
    let model = match &args.model {
        Some(model) => model.clone(),
        None => {
            python.script("fetch", &[work])?;
            work.join("model")
        }
    };
    python.script("reference", &[&model, work])?;
    let table = compare(&python, &model, work)?;
    print!("{table}");
    ensure!(table.passes(), "the two sides differ");
    Ok(())
}

fn compare(python: &Python, model: &Path, work: &Path) -> Result<table::Table> {
    let bert = Bert::load(model, &Device::flex())?;
    let checks = Checks::new(&bert, work)?;
    let mut table = table::Table::default();
    checks.hidden(&mut table)?;
    let made = checks.make()?;
    python.script("ours", &[model, work])?;
    checks.ours(&made, &mut table)?;
    checks.theirs(&mut table)?;
    Ok(table)
}
