use coto_lowrank::Matrix;

use super::linear::sum;
use super::{combination, gram, refused, weights};
use crate::{Error, Rule, Weighted};

/// Spherical interpolation (Shoemake, 1985) between two updates: (sin((1 − t)θ) τ₁ + sin(tθ) τ₂) / sin θ with θ the angle
/// between them and t = w₂ / (w₁ + w₂). Where |cos θ| > 0.9995, and from or to zero, it is (1 − t) τ₁ + t τ₂.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Slerp;

/// Model stock (Jang et al., arXiv 2403.19522): the mean of K updates, shortened by t = K cos θ / (1 + (K − 1) cos θ), where cos θ
/// is the mean cosine of the pairs. Of the weights only the ratios count; below cos θ = 0, t is 0.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ModelStock;

impl Slerp {
    fn of(gram: &[Vec<f64>], weights: &[f64]) -> Result<Vec<f64>, Error> {
        if weights.len() == 1 {
            return Ok(vec![1.0]);
        }
        let &[first, second] = weights else {
            return Err(refused(format!(
                "slerp merges two adapters, not {}; model-stock merges any number by their angles",
                weights.len()
            )));
        };
        let t = second / sum(&[first, second])?;
        let cosine = cosine(gram, 0, 1);
        if cosine == 0.0 && gram[0][0] * gram[1][1] == 0.0 || cosine.abs() > 0.9995 {
            return Ok(vec![1.0 - t, t]);
        }
        let theta = cosine.acos();
        let at = |t: f64| (t * theta).sin() / theta.sin();
        Ok(vec![at(1.0 - t), at(t)])
    }
}

impl ModelStock {
    fn of(gram: &[Vec<f64>], weights: &[f64]) -> Result<Vec<f64>, Error> {
        let (n, sum) = (weights.len(), sum(weights)?);
        let pairs = (0..n).flat_map(|j| (0..j).map(move |k| (j, k)));
        let cosines: Vec<f64> = pairs.map(|(j, k)| cosine(gram, j, k)).collect();
        let mean = cosines.iter().sum::<f64>() / cosines.len().max(1) as f64;
        let mean = if n == 1 { 1.0 } else { mean.max(0.0) };
        let t = n as f64 * mean / (1.0 + (n as f64 - 1.0) * mean);
        Ok(weights.iter().map(|w| t * (w / sum)).collect())
    }
}

/// The cosine of the angle between two updates; 0 where one is zero.
fn cosine(gram: &[Vec<f64>], j: usize, k: usize) -> f64 {
    let norms = gram[j][j].sqrt() * gram[k][k].sqrt();
    if norms > 0.0 {
        (gram[j][k] / norms).clamp(-1.0, 1.0)
    } else {
        0.0
    }
}

macro_rules! by_angles {
    ($rule:ty) => {
        impl Rule for $rule {
            fn merge(&self, parts: &[Weighted], _seed: u64) -> Result<Matrix, Error> {
                let weights = weights(parts)?;
                Ok(combination(parts, &Self::of(&gram(parts), &weights)?))
            }

            fn coefficients(
                &self,
                gram: &[Vec<f64>],
                weights: &[f64],
            ) -> Option<Result<Vec<f64>, Error>> {
                Some(Self::of(gram, weights))
            }
        }
    };
}

by_angles!(Slerp);
by_angles!(ModelStock);
