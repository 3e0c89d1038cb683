use std::borrow::Cow;

use coto_coalition::stream_at;
use coto_lowrank::Matrix;
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::{finite, refused, share};
use crate::Error;

/// Which entries of an update stay; the others become zero.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Sparsify {
    /// All.
    #[default]
    All,
    /// The ⌊density · entries⌋ of the largest magnitude, at least one; of equal ones the first (TIES, arXiv 2306.01708).
    Magnitude {
        /// The share that stays, in (0, 1]; the paper's is 0.2.
        density: f64,
    },
    /// Each with the same probability, by the draws of stream `dare` (DARE, Yu et al., arXiv 2311.03099).
    Random {
        /// The probability of staying, in (0, 1]; the paper's is 0.1 and up.
        density: f64,
        /// How what stays makes up for the rest.
        rescale: Rescale,
    },
    /// All but the largest ⌊gamma · entries⌋, and of these the ⌊density · entries⌋ largest (model breadcrumbs, Davari and
    /// Belilovsky, arXiv 2312.06795). Where fewer are left, fewer of the largest go. At density 1 all stay.
    Breadcrumbs {
        /// The share that stays, in (0, 1]; the paper's is 0.15 and less.
        density: f64,
        /// The share of outliers, in [0, 1); 0.01 in mergekit and about that in the paper.
        gamma: f64,
    },
    /// Each with a probability that grows evenly with the rank of its magnitude in its row, from density − epsilon to
    /// density + epsilon, by the draws of stream `della` (DELLA, Deep, Bhardwaj and Poria, arXiv 2406.11617). Epsilon is
    /// mergekit's; the paper's window is as wide as epsilon, not twice that. At density 1 all stay.
    Della {
        /// The mean probability of staying, in (0, 1].
        density: f64,
        /// Half the width of the window of probabilities, which must be in (0, 1]; 0.15 in mergekit.
        epsilon: f64,
        /// How what stays makes up for the rest.
        rescale: Rescale,
    },
}

/// How entries that stay make up for those that were dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rescale {
    /// Each is divided by its probability of staying, which keeps the expectation: the papers' and PEFT's way.
    #[default]
    Probability,
    /// All are multiplied so that Σ |entries| is what it was: mergekit's way.
    L1Norm,
}

impl Sparsify {
    pub(super) fn check(&self) -> Result<(), Error> {
        match *self {
            Self::All => Ok(()),
            Self::Magnitude { density } | Self::Random { density, .. } => share("density", density),
            Self::Breadcrumbs { density, gamma } => {
                share("density", density)?;
                if (0.0..1.0).contains(&gamma) {
                    return Ok(());
                }
                Err(refused(format!(
                    "gamma {gamma}: it is a share, at least 0 and below 1"
                )))
            }
            Self::Della {
                density, epsilon, ..
            } => {
                share("density", density)?;
                finite("epsilon", epsilon)?;
                let window = [density - epsilon, density + epsilon];
                if density == 1.0 || epsilon >= 0.0 && window[0] > 0.0 && window[1] <= 1.0 {
                    return Ok(());
                }
                Err(refused(format!(
                    "epsilon {epsilon}: it is at least 0, and density ± epsilon are probabilities, but {density} ± {epsilon} \
                     are not"
                )))
            }
        }
    }

    /// The matrix of the entries that stay, rescaled. The draws are those of the seed for the k-th matrix.
    pub(super) fn apply<'a>(&self, matrix: &'a Matrix, seed: u64, k: usize) -> Cow<'a, Matrix> {
        let count = matrix.values().len();
        let of = |density: f64| (density * count as f64) as usize;
        match *self {
            Self::Magnitude { density } if density < 1.0 => {
                let keep = largest(matrix.values(), of(density).max(1));
                kept(matrix, |at| if keep[at] { 1.0 } else { 0.0 })
            }
            Self::Breadcrumbs { density, gamma } if density < 1.0 => {
                let stay = of(density).max(1);
                let outliers = of(gamma).min(count.saturating_sub(stay));
                let without = largest(matrix.values(), outliers);
                let keep = largest(matrix.values(), outliers + stay);
                let stays = |at: usize| keep[at] && !without[at];
                kept(matrix, |at| if stays(at) { 1.0 } else { 0.0 })
            }
            Self::Random { density, rescale } if density < 1.0 => {
                drawn(matrix, rescale, seed, "dare", k, |_| density)
            }
            Self::Della {
                density,
                epsilon,
                rescale,
            } if density < 1.0 => {
                let by_rank = probabilities(matrix, density, epsilon);
                drawn(matrix, rescale, seed, "della", k, |at| by_rank[at])
            }
            _ => Cow::Borrowed(matrix),
        }
    }
}

/// Each entry times its factor.
fn kept<'a>(matrix: &Matrix, mut factor: impl FnMut(usize) -> f32) -> Cow<'a, Matrix> {
    let mut sparse = matrix.clone();
    let places = sparse.values_mut().iter_mut().enumerate();
    places.for_each(|(at, value)| *value *= factor(at));
    Cow::Owned(sparse)
}

/// Whether each entry is among the `count` of the largest magnitude; of equal ones the first are. O(entries).
pub(super) fn largest(values: &[f32], count: usize) -> Vec<bool> {
    let count = count.min(values.len());
    if count == 0 {
        return vec![false; values.len()];
    }
    // The bits of floats that are not negative are ordered as the floats are.
    let magnitude = |value: &f32| value.abs().to_bits();
    let mut order: Vec<u32> = values.iter().map(magnitude).collect();
    let at = order.len() - count;
    let (_, &mut least, above) = order.select_nth_unstable(at);
    let larger = above.iter().filter(|&&other| other > least).count();
    let mut equals = count - larger;
    let mut is_kept = |value: &f32| match magnitude(value).cmp(&least) {
        std::cmp::Ordering::Greater => true,
        std::cmp::Ordering::Equal if equals > 0 => {
            equals -= 1;
            true
        }
        _ => false,
    };
    values.iter().map(&mut is_kept).collect()
}

/// Entries by draws, each with its probability.
fn drawn<'a>(
    matrix: &Matrix,
    rescale: Rescale,
    seed: u64,
    stream: &str,
    k: usize,
    probability: impl Fn(usize) -> f64,
) -> Cow<'a, Matrix> {
    let mut draws = stream_at(seed, stream, k as u64);
    let mut sparse = kept(matrix, |at| {
        let p = probability(at);
        let stays = f64::from(draws.next_u32()) < p * 2f64.powi(32);
        match (stays, rescale) {
            (false, _) => 0.0,
            (true, Rescale::Probability) => (1.0 / p) as f32,
            (true, Rescale::L1Norm) => 1.0,
        }
    });
    if rescale == Rescale::L1Norm {
        let size = |matrix: &Matrix| -> f64 {
            let values = matrix.values().iter();
            values.map(|&x| f64::from(x.abs())).sum()
        };
        let (before, after) = (size(matrix), size(&sparse));
        if after > 0.0 {
            let factor = before / after;
            let values = sparse.to_mut().values_mut().iter_mut();
            values.for_each(|x| *x = (f64::from(*x) * factor) as f32);
        }
    }
    sparse
}

/// DELLA's probabilities of staying: by the rank of the magnitude in the row, of equal ones by place.
fn probabilities(matrix: &Matrix, density: f64, epsilon: f64) -> Vec<f64> {
    let cols = matrix.cols();
    let mut probabilities = vec![density; matrix.values().len()];
    if cols < 2 {
        return probabilities;
    }
    let step = 2.0 * epsilon / (cols - 1) as f64;
    let mut order: Vec<u64> = Vec::with_capacity(cols);
    for (row, place) in probabilities.chunks_mut(cols).enumerate() {
        let keys = matrix.row(row).iter().zip(0u64..);
        order.clear();
        order.extend(keys.map(|(value, j)| u64::from(value.abs().to_bits()) << 32 | j));
        order.sort_unstable();
        for (rank, key) in order.iter().enumerate() {
            place[*key as u32 as usize] = density - epsilon + rank as f64 * step;
        }
    }
    probabilities
}
