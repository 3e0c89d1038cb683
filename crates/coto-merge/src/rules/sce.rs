use coto_lowrank::Matrix;
use rayon::prelude::*;

use super::consensus::{Divisor, Election};
use super::sparsify::largest;
use super::{Majority, entrywise, share, weights};
use crate::{Error, Rule, Weighted};

/// SCE (Wan et al., FuseChat, arXiv 2408.07990): select the places where the updates vary most, weigh each update by its mean
/// square there, erase the entries against the elected sign, and take the weighted mean of the rest. The adapters' own weights
/// multiply the updates first.
#[derive(Debug, Clone, PartialEq)]
pub struct Sce {
    /// The share of the places with any variance that are selected, in (0, 1]; 1 by default, as in mergekit, and then every place.
    /// One update alone has no variance and stays whole.
    pub select_topk: f64,
}

impl Default for Sce {
    fn default() -> Self {
        Self { select_topk: 1.0 }
    }
}

impl Rule for Sce {
    fn merge(&self, parts: &[Weighted], _seed: u64) -> Result<Matrix, Error> {
        share("select_topk", self.select_topk)?;
        let weights = weights(parts)?;
        let mut updates: Vec<Matrix> = parts.iter().map(|part| part.matrix.clone()).collect();
        for (update, weight) in updates.iter_mut().zip(&weights) {
            let values = update.values_mut().par_iter_mut();
            values.for_each(|x| *x = (f64::from(*x) * weight) as f32);
        }
        if self.select_topk < 1.0 && updates.len() > 1 {
            self.select(&mut updates);
        }
        let squares: Vec<f64> = updates.iter().map(|update| update.norm().powi(2)).collect();
        let election = Election {
            weights: &squares,
            weighted_vote: false,
            majority: Majority::Total,
            divisor: Divisor::Weights,
            draw: 1.0,
        };
        Ok(election.merge(&updates.iter().collect::<Vec<_>>()))
    }
}

impl Sce {
    fn select(&self, updates: &mut [Matrix]) {
        let n = updates.len() as f64;
        let deviation = entrywise(&updates.iter().collect::<Vec<_>>(), |values| {
            let mean = values.iter().sum::<f64>() / n;
            let squares = values.iter().map(|x| (x - mean).powi(2));
            (squares.sum::<f64>() / n).sqrt()
        });
        let deviation = deviation.values();
        let vary = deviation.iter().filter(|&&x| x > 0.0).count();
        let keep = largest(deviation, (self.select_topk * vary as f64) as usize);
        updates.par_iter_mut().for_each(|update| {
            let values = update.values_mut().iter_mut().zip(&keep);
            values.for_each(|(x, keep)| *x = if *keep { *x } else { 0.0 });
        });
    }
}
