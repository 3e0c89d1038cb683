use coto_lowrank::Matrix;
use rayon::prelude::*;

use super::{Consensus, Majority, Rescale, Sparsify, TiesFlavour, finite, weights};
use crate::{Error, Linear, Rule, Weighted};

/// λ times the consensus of updates that were made sparse: TIES, DARE, magnitude pruning, breadcrumbs, DELLA and what else the
/// two halves make.
///
/// Updates are made sparse each by itself, as one whole: over a module's ΔW, not over all the model's.
#[derive(Debug, Clone, PartialEq)]
pub struct Sparse {
    /// Which entries stay.
    pub sparsify: Sparsify,
    /// How the updates become one.
    pub consensus: Consensus,
    /// The factor λ, 1 by default.
    pub lambda: f64,
}

/// The paper's sign election.
const TIES: Consensus = Consensus::Elect {
    flavour: TiesFlavour::Paper,
    majority: Majority::Total,
};

/// The weighted sum.
const SUM: Consensus = Consensus::Sum { normalize: false };

impl Sparse {
    /// TIES as in the paper (Yadav et al., arXiv 2306.01708), whose density is 0.2. Its λ is chosen by validation.
    pub fn ties(density: f64) -> Self {
        Self::new(Sparsify::Magnitude { density }, TIES)
    }

    /// TIES with another tool's formulas.
    pub fn ties_of(flavour: TiesFlavour, density: f64) -> Self {
        Self::ties(density).elect(flavour)
    }

    /// Trimming, then the weighted sum: PEFT's `magnitude_prune`.
    pub fn magnitude(density: f64) -> Self {
        Self::new(Sparsify::Magnitude { density }, SUM)
    }

    /// DARE (Yu et al., arXiv 2311.03099) and the weighted sum. Density 0.1 is the paper's drop rate of 0.9.
    pub fn dare(density: f64) -> Self {
        let rescale = Rescale::Probability;
        Self::new(Sparsify::Random { density, rescale }, SUM)
    }

    /// Model breadcrumbs (Davari and Belilovsky, arXiv 2312.06795) with mergekit's gamma, 0.01, and the weighted sum.
    pub fn breadcrumbs(density: f64) -> Self {
        let gamma = 0.01;
        Self::new(Sparsify::Breadcrumbs { density, gamma }, SUM)
    }

    /// DELLA (Deep, Bhardwaj and Poria, arXiv 2406.11617) with the paper's sign election. Epsilon is mergekit's 0.15, and less
    /// where density ± 0.15 would not be probabilities.
    pub fn della(density: f64) -> Self {
        let epsilon = 0.15f64.min(density / 2.0).min(1.0 - density);
        let rescale = Rescale::Probability;
        let sparsify = Sparsify::Della {
            density,
            epsilon,
            rescale,
        };
        Self::new(sparsify, TIES)
    }

    /// The same with a sign election: `dare(0.5).elect(TiesFlavour::Peft)` is DARE-TIES as PEFT has it.
    pub fn elect(mut self, flavour: TiesFlavour) -> Self {
        let majority = Majority::Total;
        self.consensus = Consensus::Elect { flavour, majority };
        self
    }

    /// The same with the weighted sum instead of a sign election.
    pub fn summed(mut self) -> Self {
        self.consensus = SUM;
        self
    }

    fn new(sparsify: Sparsify, consensus: Consensus) -> Self {
        Self {
            sparsify,
            consensus,
            lambda: 1.0,
        }
    }
}

impl Rule for Sparse {
    fn merge(&self, parts: &[Weighted], seed: u64) -> Result<Matrix, Error> {
        self.sparsify.check()?;
        finite("lambda", self.lambda)?;
        let weights = weights(parts)?;
        let sparse: Vec<_> = parts
            .par_iter()
            .enumerate()
            .map(|(k, part)| self.sparsify.apply(&part.matrix, seed, k))
            .collect();
        let matrices: Vec<&Matrix> = sparse.iter().map(AsRef::as_ref).collect();
        let mut merged = self.consensus.merge(&matrices, &weights)?;
        if self.lambda != 1.0 {
            let values = merged.values_mut().par_iter_mut();
            values.for_each(|x| *x = (f64::from(*x) * self.lambda) as f32);
        }
        Ok(merged)
    }

    /// Of [`Sparsify::All`] and a [sum](Consensus::Sum).
    fn coefficients(&self, gram: &[Vec<f64>], weights: &[f64]) -> Option<Result<Vec<f64>, Error>> {
        match (&self.sparsify, self.consensus) {
            (Sparsify::All, Consensus::Sum { normalize }) => {
                let lambda = self.lambda;
                Linear { normalize, lambda }.coefficients(gram, weights)
            }
            _ => None,
        }
    }
}
