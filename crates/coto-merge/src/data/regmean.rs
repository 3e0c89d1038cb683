use coto_lowrank::LowRank;
use coto_lowrank::faer::prelude::Solve;
use coto_lowrank::faer::{Mat, MatRef, Side};

use super::{importance, inputs, not_negative, refused, stacked};
use crate::{Error, Method, Needs, Parts};

/// RegMean (Jin et al., arXiv 2212.09849) on the updates: the τ that minimises Σ wₖ tr((τ − τₖ) Gₖ (τ − τₖ)ᵀ), how far its outputs are
/// from each adapter's own on that adapter's inputs Xₖ, Gₖ = XₖᵀXₖ / samples.
///
/// The minimum, τᵀ = (Σ wₖGₖ)⁻¹ Σ wₖGₖτₖᵀ, is an update of rank Σ rₖ with the adapters' own B. It is found by one Cholesky decomposition
/// of [in, in], or of [samples, samples] where all adapters' samples together are fewer (Woodbury's identity). Of the weights only
/// the ratios count. An adapter without the module has no say in it.
#[derive(Debug, Clone, PartialEq)]
pub struct RegMean {
    /// Factor of G's entries off the diagonal, in [0, 1]: 0.9 by default, as in the paper.
    pub off_diagonal: f64,
    /// What is added to each diagonal, over its mean; above 0, by default 1e-6. It decides where no input says anything.
    pub ridge: f64,
}

impl Default for RegMean {
    fn default() -> Self {
        Self {
            off_diagonal: 0.9,
            ridge: 1e-6,
        }
    }
}

/// wₖGₖ = diag(d) + XᵀX of one adapter.
struct Moments {
    diagonal: Vec<f64>,
    x: Mat<f64>,
}

impl RegMean {
    fn check(&self, parts: &Parts) -> Result<(), Error> {
        not_negative(parts, "ridge", self.ridge)?;
        let (ridge, factor) = (self.ridge, self.off_diagonal);
        if ridge == 0.0 {
            let reason = "ridge 0: the inputs may not say all, and then nothing decides".to_owned();
            return Err(refused(parts, reason));
        }
        if (0.0..=1.0).contains(&factor) {
            return Ok(());
        }
        let reason = format!("off_diagonal {factor}: it is a factor in [0, 1]");
        Err(refused(parts, reason))
    }

    fn moments(&self, parts: &Parts) -> Result<Vec<Moments>, Error> {
        let weights = importance(parts, "regmean")?;
        let moments = parts.parts.iter().zip(weights).map(|(part, weight)| {
            let x = inputs(parts, part, "regmean")?;
            let scale = weight / x.nrows() as f64;
            let squares: Vec<f64> = x
                .col_iter()
                .map(|column| scale * column.squared_norm_l2())
                .collect();
            let mean = squares.iter().sum::<f64>() / squares.len() as f64;
            if mean == 0.0 {
                let reason = format!("all inputs under adapter {} are 0", part.adapter);
                return Err(refused(parts, reason));
            }
            let own = |square: &f64| (1.0 - self.off_diagonal) * square + self.ridge * mean;
            Ok(Moments {
                diagonal: squares.iter().map(own).collect(),
                x: x * coto_lowrank::faer::Scale((scale * self.off_diagonal).sqrt()),
            })
        });
        moments.collect()
    }
}

impl Method for RegMean {
    fn merge(&self, parts: &Parts) -> Result<LowRank, Error> {
        self.check(parts)?;
        let moments = self.moments(parts)?;
        let all = stacked(parts)?;
        if moments.len() == 1 {
            return Ok(all);
        }
        let mut sides = Mat::zeros(all.dims()[1], all.rank());
        let mut at = 0;
        for (part, moments) in parts.parts.iter().zip(&moments) {
            let r = part.update.rank();
            let side = moments.times(part.update.a().transpose());
            sides.as_mut().subcols_mut(at, r).copy_from(side);
            at += r;
        }
        let solved = Moments::sum(&moments).solve(sides).map_err(|()| {
            let reason =
                "the inputs' second moments have no inverse; a larger ridge gives them one";
            refused(parts, reason.to_owned())
        })?;
        Ok(LowRank::new(
            solved.transpose().to_owned(),
            all.b().to_owned(),
        )?)
    }

    fn needs(&self) -> Needs {
        Needs::Inputs
    }
}

impl Moments {
    fn sum(all: &[Self]) -> Self {
        let input = all[0].diagonal.len();
        let samples = all.iter().map(|one| one.x.nrows()).sum();
        let mut x = Mat::zeros(samples, input);
        let mut at = 0;
        for one in all {
            let n = one.x.nrows();
            x.as_mut().subrows_mut(at, n).copy_from(&one.x);
            at += n;
        }
        let column = |j: usize| all.iter().map(|one| one.diagonal[j]).sum();
        Self {
            diagonal: (0..input).map(column).collect(),
            x,
        }
    }

    /// (diag(d) + XᵀX) V.
    fn times(&self, v: MatRef<f64>) -> Mat<f64> {
        self.x.transpose() * (&self.x * v) + scaled(v, |i| self.diagonal[i])
    }

    /// (diag(d) + XᵀX)⁻¹ V.
    fn solve(&self, v: Mat<f64>) -> Result<Mat<f64>, ()> {
        let samples = self.x.nrows();
        if samples >= self.diagonal.len() {
            let mut whole = self.x.transpose() * &self.x;
            (0..self.diagonal.len()).for_each(|j| whole[(j, j)] += self.diagonal[j]);
            return Ok(whole.llt(Side::Lower).map_err(|_| ())?.solve(v));
        }
        // Woodbury: D⁻¹V − D⁻¹Xᵀ (I + X D⁻¹ Xᵀ)⁻¹ X D⁻¹V.
        let inverse = |i: usize| 1.0 / self.diagonal[i];
        let over = scaled(v.as_ref(), inverse);
        let sides = scaled(self.x.transpose(), inverse);
        let mut core = &self.x * &sides;
        (0..samples).for_each(|i| core[(i, i)] += 1.0);
        let core = core.llt(Side::Lower).map_err(|_| ())?;
        Ok(&over - sides * core.solve(&self.x * &over))
    }
}

/// Each row times its factor.
fn scaled(matrix: MatRef<f64>, factor: impl Fn(usize) -> f64) -> Mat<f64> {
    Mat::from_fn(matrix.nrows(), matrix.ncols(), |i, j| {
        factor(i) * matrix[(i, j)]
    })
}
