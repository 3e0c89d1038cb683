use coto_lowrank::faer::{Mat, MatRef};
use coto_lowrank::{Gradients, LowRank, Matrix};

use super::{importance, not_negative, refused, statistics};
use crate::{Error, Method, Needs, Parts};

/// Fisher merging (Matena and Raffel, arXiv 2111.09832) of the factors: each entry of A and of s B is the mean of the adapters' own,
/// weighted by wₖ times its Fisher information, the mean squared gradient.
///
/// It is done in the coordinates (A, s B), so it is not what the formula makes of ΔW, and it means something only for adapters whose
/// factors correspond: of one rank, and of one start or aligned. Of the weights only the ratios count.
#[derive(Debug, Clone, PartialEq)]
pub struct Fisher {
    /// What is added to the information of each entry, over the mean of its factor: 1e-6 by default. MergeLM adds 1e-6 as it is,
    /// which is more than many squared gradients.
    pub floor: f64,
    /// Whether an adapter's information is divided by its norm over both factors, so that one with large gradients does not
    /// decide alone. Yes by default, as in MergeLM, which takes the norm over the model.
    pub normalize: bool,
}

impl Default for Fisher {
    fn default() -> Self {
        Self {
            floor: 1e-6,
            normalize: true,
        }
    }
}

impl Method for Fisher {
    fn merge(&self, parts: &Parts) -> Result<LowRank, Error> {
        not_negative(parts, "floor", self.floor)?;
        let weights = importance(parts, "fisher")?;
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for (part, weight) in parts.parts.iter().zip(weights) {
            let squared = &self.gradients(parts, part)?.squared;
            let norm = squared.a.norm().hypot(squared.b.norm());
            let weight = if self.normalize && norm > 0.0 {
                weight / norm
            } else {
                weight
            };
            // A gradient by s B is one by B over s.
            let scale = part.scale.powi(2);
            a.push((part.update.a(), self.information(&squared.a, weight)));
            b.push((
                part.update.b(),
                self.information(&squared.b, weight / scale),
            ));
        }
        Ok(LowRank::new(mean(&a), mean(&b))?)
    }

    fn needs(&self) -> Needs {
        Needs::Gradients
    }
}

impl Fisher {
    fn gradients<'a>(&self, parts: &Parts, part: &crate::Part<'a>) -> Result<&'a Gradients, Error> {
        let adapter = part.adapter;
        let found = statistics(parts, part, "fisher")?.gradients.as_ref();
        let gradients = found.ok_or_else(|| {
            let reason = format!(
                "fisher needs the gradients of adapter {adapter}: give calibration data with targets"
            );
            refused(parts, reason)
        })?;
        let rank = parts.parts[0].update.rank();
        if part.update.rank() != rank {
            let reason = format!(
                "fisher merges factors of one rank, and adapter {adapter} has {}, not {rank}; regmean takes any",
                part.update.rank()
            );
            return Err(refused(parts, reason));
        }
        let [out, input] = part.update.dims();
        let squared = &gradients.squared;
        for (name, matrix, sizes) in [
            ("A", &squared.a, [rank, input]),
            ("B", &squared.b, [out, rank]),
        ] {
            if [matrix.rows(), matrix.cols()] != sizes {
                let reason = format!(
                    "the squared gradients of adapter {adapter} by {name} are [{}, {}], not {sizes:?}",
                    matrix.rows(),
                    matrix.cols()
                );
                return Err(refused(parts, reason));
            }
            if matrix
                .values()
                .iter()
                .any(|x| !(*x >= 0.0 && x.is_finite()))
            {
                let reason =
                    format!("squared gradients of adapter {adapter} are not finite or below 0");
                return Err(refused(parts, reason));
            }
        }
        if part.scale == 0.0 || !part.scale.is_finite() {
            let reason = format!("adapter {adapter} has the scale {}", part.scale);
            return Err(refused(parts, reason));
        }
        Ok(gradients)
    }

    fn information(&self, squared: &Matrix, weight: f64) -> Mat<f64> {
        let values = squared.values();
        let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / values.len().max(1) as f64;
        Mat::from_fn(squared.rows(), squared.cols(), |i, j| {
            weight * (f64::from(squared.row(i)[j]) + self.floor * mean)
        })
    }
}

/// The weighted mean, entry by entry; the plain one where all weights are 0.
fn mean(factors: &[(MatRef<f64>, Mat<f64>)]) -> Mat<f64> {
    let (first, _) = factors[0];
    Mat::from_fn(first.nrows(), first.ncols(), |i, j| {
        let at = (i, j);
        let total: f64 = factors.iter().map(|(_, weight)| weight[at]).sum();
        let share = |weight: &Mat<f64>| {
            if total > 0.0 {
                weight[at] / total
            } else {
                1.0 / factors.len() as f64
            }
        };
        let terms = factors.iter().map(|(x, weight)| share(weight) * x[at]);
        terms.sum()
    })
}
