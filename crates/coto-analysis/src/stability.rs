use coto_adapters::AdapterSet;
use coto_coalition::Coalition;
use serde::Serialize;

use crate::evaluation::{Evaluation, Margins, Means};
use crate::{Error, LayerRuns, subsets};

/// How loss and accuracy stand so many adapters being on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SizeScores {
    /// Players that are on.
    pub active: usize,
    /// Coalitions of that size that were evaluated.
    pub coalitions: usize,
    /// Whether these are all that there are.
    pub all: bool,
    /// Cross-entropy over them.
    pub loss: Spread,
    /// Accuracy over them.
    pub accuracy: Spread,
}

/// How some numbers are spread.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation; 0 for one number.
    pub deviation: f64,
    /// The least.
    pub low: f64,
    /// The greatest.
    pub high: f64,
}

impl Spread {
    /// Of at least one number; the deviation with n - 1 in its denominator.
    fn of(numbers: &[f64]) -> Self {
        let n = numbers.len() as f64;
        let mean = numbers.iter().sum::<f64>() / n;
        let squares: f64 = numbers.iter().map(|x| (x - mean).powi(2)).sum();
        Self {
            mean,
            deviation: (squares / (n - 1.0).max(1.0)).sqrt(),
            low: numbers.iter().copied().fold(f64::INFINITY, f64::min),
            high: numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        }
    }
}

/// Dropout stability: loss and accuracy against the number of players that are on (CoTo, arXiv 2506.05713), over at most `most`
/// coalitions of each size.
///
/// # Errors
/// As [`Evaluation::judge`].
pub fn stability(
    evaluation: &Evaluation,
    adapters: &AdapterSet,
    most: usize,
    seed: u64,
) -> Result<(Vec<SizeScores>, LayerRuns), Error> {
    let sizes = subsets(adapters.players().len(), most.max(1), seed);
    let coalitions: Vec<Coalition> = sizes
        .iter()
        .flat_map(|size| size.coalitions.clone())
        .collect();
    let (means, runs) = evaluation.means(adapters, &coalitions, Margins::Unwanted)?;
    let mut means = means.as_slice();
    let mut scores = Vec::with_capacity(sizes.len());
    for size in sizes {
        let (own, rest) = means.split_at(size.coalitions.len());
        means = rest;
        let spread = |of: fn(&Means) -> f64| Spread::of(&own.iter().map(of).collect::<Vec<_>>());
        scores.push(SizeScores {
            active: size.active,
            coalitions: own.len(),
            all: size.all,
            loss: spread(|means| means.loss),
            accuracy: spread(|means| means.accuracy),
        });
    }
    Ok((scores, runs))
}
