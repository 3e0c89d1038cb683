use coto_lowrank::Matrix;

use super::{combination, finite, refused, weights};
use crate::{Error, Rule, Weighted};

/// λ Σ wₖ τₖ: the weighted sum, and task arithmetic (Ilharco et al., arXiv 2212.04089), whose wₖ are 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    /// Whether the weights are divided by their sum: the weighted mean. No by default.
    pub normalize: bool,
    /// The factor λ, 1 by default; 0.3 to 0.4 is usual for task arithmetic.
    pub lambda: f64,
}

impl Default for Linear {
    fn default() -> Self {
        Self {
            normalize: false,
            lambda: 1.0,
        }
    }
}

impl Linear {
    fn of(&self, weights: &[f64]) -> Result<Vec<f64>, Error> {
        finite("lambda", self.lambda)?;
        let by = if self.normalize { sum(weights)? } else { 1.0 };
        Ok(weights.iter().map(|w| self.lambda * (w / by)).collect())
    }
}

impl Rule for Linear {
    fn merge(&self, parts: &[Weighted], _seed: u64) -> Result<Matrix, Error> {
        let coefficients = self.of(&weights(parts)?)?;
        Ok(combination(parts, &coefficients))
    }

    fn coefficients(&self, _: &[Vec<f64>], weights: &[f64]) -> Option<Result<Vec<f64>, Error>> {
        Some(self.of(weights))
    }
}

/// The sum of weights of which only the ratios count.
pub(super) fn sum(weights: &[f64]) -> Result<f64, Error> {
    let sum: f64 = weights.iter().sum();
    if sum.is_finite() && sum.abs() > 1e-8 {
        return Ok(sum);
    }
    Err(refused(format!(
        "the weights sum to {sum}, and a mean divides by that"
    )))
}
