use std::time::Instant;

use coto_adapters::AdapterSet;
use coto_coalition::Grouping;
use coto_merge::{Plan, Source, merge};
use coto_peft::Folder;
use serde::Serialize;

use crate::Error;
use crate::evaluation::{Evaluation, Margins, Means};

/// How well one way to merge adapters did.
#[derive(Debug, Clone, Serialize)]
pub struct Trial {
    /// Its name.
    pub method: String,
    /// Of each evaluation, in order; none where the method refused.
    pub scores: Vec<Means>,
    /// The greatest rank of the merged modules.
    pub rank: Option<usize>,
    /// What compression to that rank left out of ΔW, over ΔW, at most.
    pub error: Option<f64>,
    /// What merging took, without judging.
    pub seconds: f64,
    /// Why the method cannot merge these adapters.
    pub refused: Option<String>,
}

impl Trial {
    /// Of a method that was not judged yet.
    pub fn new(method: &str) -> Self {
        Self {
            method: method.to_owned(),
            scores: Vec::new(),
            rank: None,
            error: None,
            seconds: 0.0,
            refused: None,
        }
    }

    /// Of a method that cannot merge the adapters.
    pub fn refused(method: &str, reason: String) -> Self {
        Self {
            refused: Some(reason),
            ..Self::new(method)
        }
    }
}

/// Merges adapters and judges the result in each evaluation; the merged folder comes too, unless the method refused.
///
/// # Errors
/// As [`judge`].
pub fn trial(
    method: &str,
    sources: &[Source],
    plan: &Plan,
    evaluations: &[Evaluation],
) -> Result<(Trial, Option<Folder>), Error> {
    let start = Instant::now();
    let merged = merge(sources, plan);
    let merged = match merged {
        Ok(merged) => merged,
        Err(refused) => return Ok((Trial::refused(method, refused.to_string()), None)),
    };
    let mut trial = Trial {
        seconds: start.elapsed().as_secs_f64(),
        ..Trial::new(method)
    };
    trial.rank = merged.modules.iter().map(|module| module.rank).max();
    trial.error = merged
        .modules
        .iter()
        .map(|module| module.error)
        .reduce(f64::max);
    let scores = evaluations
        .iter()
        .map(|evaluation| judge(evaluation, &merged.folder));
    trial.scores = scores.collect::<Result<_, _>>()?;
    Ok((trial, Some(merged.folder)))
}

/// How well an adapter in memory does with all of its modules on.
///
/// # Errors
/// For an adapter of another model; as [`Evaluation::judge`].
pub fn judge(evaluation: &Evaluation, folder: &Folder) -> Result<Means, Error> {
    let adapters = AdapterSet::from_folder(evaluation.model(), folder, &Grouping::Layer)?;
    evaluation.whole(&adapters, Margins::Unwanted)
}
