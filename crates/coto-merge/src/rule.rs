use std::fmt::Debug;

use coto_lowrank::Matrix;

use crate::Error;

/// How the entries of several matrices of one shape become those of one.
///
/// The matrices are the updates ΔW, or stand for them in another space.
pub trait Rule: Debug + Send + Sync {
    /// The merged matrix.
    ///
    /// # Errors
    /// What the rule cannot do with these matrices, as [`Error::Refused`].
    fn merge(&self, parts: &[Weighted], seed: u64) -> Result<Matrix, Error>;

    /// The coefficients cₖ of a rule whose result is Σ cₖ τₖ, from the inner products ⟨τⱼ, τₖ⟩ and the weights alone: such a
    /// rule is the same in every space and never forms a matrix. `None` for any other rule.
    fn coefficients(
        &self,
        _gram: &[Vec<f64>],
        _weights: &[f64],
    ) -> Option<Result<Vec<f64>, Error>> {
        None
    }
}

/// A matrix and its adapter's weight.
#[derive(Debug, Clone)]
pub struct Weighted {
    /// The matrix.
    pub matrix: Matrix,
    /// The weight.
    pub weight: f64,
}
