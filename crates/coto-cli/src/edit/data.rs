//! What the verbs need of runs: their rows, and what these say of an adapter's modules.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use coto_adapters::AdapterSet;
use coto_analysis::{Calibration, Evaluation, calibrate};
use coto_coalition::Grouping;
use coto_lowrank::Statistics;
use coto_peft::Folder;
use coto_train::{Run, Split};

use crate::args::SplitName;

/// The finished run in a folder.
pub fn open(folder: Option<&Path>, device: Option<&str>) -> Result<Run> {
    let Some(folder) = folder else {
        bail!("an adapter lies in no run, whose model and data are needed here")
    };
    Run::finished(folder, device).with_context(|| format!("run `{}`", folder.display()))
}

/// The adapter on the run's model.
pub fn adapters(run: &Run, folder: &Folder, per: &Grouping) -> Result<AdapterSet> {
    Ok(AdapterSet::from_folder(run.model(), folder, per)?)
}

/// The rows of a run to judge on.
pub fn evaluation(
    run: &Run,
    split: SplitName,
    samples: Option<usize>,
    seed: u64,
) -> Result<Evaluation<'_>> {
    let evaluation = Evaluation::new(run, split.into())?;
    match samples {
        Some(0) => bail!("--samples 0: at least 1"),
        Some(samples) => Ok(evaluation.sampled(samples, seed)),
        None => Ok(evaluation),
    }
}

/// What the run's training rows say of the adapter's modules.
pub fn statistics(
    run: &Run,
    folder: &Folder,
    gradients: bool,
    seed: u64,
) -> Result<BTreeMap<String, Statistics>> {
    let rows = Evaluation::new(run, Split::Train)?;
    let options = Calibration {
        gradients,
        seed,
        ..Calibration::default()
    };
    Ok(calibrate(&rows, &run.adapters_from(folder)?, &options)?)
}
