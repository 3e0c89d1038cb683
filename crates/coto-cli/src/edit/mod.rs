//! The verbs that make other adapters and models of trained adapters.

mod curves;
mod data;
mod export;
mod merge;
mod prune;
mod recipe;

pub use export::{ExportArgs, run as export};
pub use merge::{MergeArgs, run as merge};
pub use prune::{PruneArgs, run as prune};

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use coto_peft::Folder;
use serde_json::Value;

use crate::analysis::Place;

/// The adapter of a run folder, or an adapter folder.
fn read(path: &Path) -> Result<(Place, Folder)> {
    let place = Place::of(path)?;
    let folder = Folder::load(&place.adapter);
    let folder = folder.with_context(|| place.adapter.display().to_string())?;
    Ok((place, folder))
}

/// Writes a result and the page that shows it.
fn publish(path: &Path, result: &Value) -> Result<PathBuf> {
    crate::train::save(path, result)?;
    Ok(coto_report::result(path)?)
}
