use coto_lowrank::Matrix;
use serde::{Deserialize, Serialize};

use super::linear::sum;
use super::{dot, entrywise, total};
use crate::Error;

/// How several sparse updates become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consensus {
    /// Σ wₖ τₖ.
    Sum {
        /// Whether the weights are divided by their sum.
        normalize: bool,
    },
    /// At each place a sign is elected, and only the entries of that sign count (TIES, arXiv 2306.01708).
    Elect {
        /// Whose formulas.
        flavour: TiesFlavour,
        /// What a vote is.
        majority: Majority,
    },
}

/// Three formulas that are all called TIES.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TiesFlavour {
    /// The paper's, and MergeLM's: the sign of the votes' sum; where that is 0, the sign that won at most places; the mean of the
    /// τₖ that agree. The paper has no weights; here only their ratios count, wₖ K / Σ w, so that equal ones make no difference.
    #[default]
    Paper,
    /// PEFT's: votes before weighting, a sum of 0 elects +; the sum of the wₖ τₖ that agree over their count.
    Peft,
    /// mergekit's: votes after weighting, a sum of 0 elects +; the sum of the wₖ τₖ that agree.
    Mergekit {
        /// Whether it is divided by the sum of the weights that agree. mergekit's default is so for `ties` and `della`, and not
        /// so for `dare_ties` and `breadcrumbs_ties`.
        normalize: bool,
    },
}

/// What elects a sign.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Majority {
    /// The sum of the entries.
    #[default]
    Total,
    /// The sum of the entries' signs.
    Frequency,
}

impl Consensus {
    pub(super) fn merge(&self, matrices: &[&Matrix], weights: &[f64]) -> Result<Matrix, Error> {
        match *self {
            Self::Sum { normalize } => {
                let by = if normalize { sum(weights)? } else { 1.0 };
                Ok(entrywise(matrices, |values| dot(values, weights) / by))
            }
            Self::Elect { flavour, majority } => {
                let mean = match flavour {
                    TiesFlavour::Paper => sum(weights)? / weights.len() as f64,
                    _ => 1.0,
                };
                let weights = &weights.iter().map(|w| w / mean).collect::<Vec<_>>();
                let weighted_vote = flavour != TiesFlavour::Peft;
                let divisor = match flavour {
                    TiesFlavour::Paper | TiesFlavour::Peft => Divisor::Count,
                    TiesFlavour::Mergekit { normalize: true } => Divisor::Weights,
                    TiesFlavour::Mergekit { normalize: false } => Divisor::One,
                };
                let mut election = Election {
                    weights,
                    weighted_vote,
                    majority,
                    divisor,
                    draw: 1.0,
                };
                if flavour == TiesFlavour::Paper {
                    let won = total(matrices, |values| sign(election.vote(values)) as i64);
                    election.draw = won.signum() as f64;
                }
                Ok(election.merge(matrices))
            }
        }
    }
}

/// A sign election, in its parts.
pub(super) struct Election<'a> {
    pub weights: &'a [f64],
    /// Whether the weights count in the vote.
    pub weighted_vote: bool,
    pub majority: Majority,
    pub divisor: Divisor,
    /// The sign elected by a sum of 0.
    pub draw: f64,
}

/// What the sum of those that agree is divided by; 0 counts as 1.
pub(super) enum Divisor {
    Count,
    Weights,
    One,
}

impl Election<'_> {
    pub(super) fn merge(&self, matrices: &[&Matrix]) -> Matrix {
        entrywise(matrices, |values| {
            let vote = self.vote(values);
            let elected = if vote == 0.0 { self.draw } else { sign(vote) };
            let (mut sum, mut count, mut weight) = (0.0, 0.0, 0.0);
            for (value, w) in values.iter().zip(self.weights) {
                if *value != 0.0 && sign(self.voice(*value, *w)) == elected {
                    sum += w * value;
                    count += 1.0;
                    weight += w;
                }
            }
            let by = match self.divisor {
                Divisor::Count => count,
                Divisor::Weights => weight,
                Divisor::One => 1.0,
            };
            if by == 0.0 { sum } else { sum / by }
        })
    }

    fn vote(&self, values: &[f64]) -> f64 {
        let voices = values.iter().zip(self.weights);
        voices
            .map(|(value, weight)| {
                let voice = self.voice(*value, *weight);
                match self.majority {
                    Majority::Total => voice,
                    Majority::Frequency => sign(voice),
                }
            })
            .sum()
    }

    fn voice(&self, value: f64, weight: f64) -> f64 {
        if self.weighted_vote {
            weight * value
        } else {
            value
        }
    }
}

/// The sign, 0 for 0.
fn sign(x: f64) -> f64 {
    if x == 0.0 { 0.0 } else { x.signum() }
}
