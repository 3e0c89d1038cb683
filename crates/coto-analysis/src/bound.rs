use coto_adapters::AdapterSet;
use coto_coalition::Coalition;
use serde::Serialize;

use crate::evaluation::{Evaluation, Margins};
use crate::subsets::{OfSize, choose};
use crate::{Error, LayerRuns, subsets};

/// Both sides of Theorem 3.1 of CoTo (arXiv 2506.05713) at one activation rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Sides {
    /// The rate p at which each player is on, by itself.
    pub p: f64,
    /// E_δ\[ℓ(ŷ)\]: the mean loss over coalitions.
    pub expected_loss: Measured,
    /// Σⱼ wⱼ(p) ℓ(ỹⱼ): the losses of the mean predictions of each size.
    pub loss_of_means: Measured,
    /// The first less the second; never below 0.
    pub gap: Measured,
}

/// A mean over rows and coalitions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Measured {
    /// The mean.
    pub mean: f64,
    /// Its standard error, were other rows drawn and other coalitions: of both together.
    pub standard_error: f64,
}

/// The losses of every target under some coalitions of each size.
#[derive(Debug, Clone, PartialEq)]
pub struct SizedLosses {
    /// The number of players.
    players: usize,
    sizes: Vec<Size>,
}

/// What the coalitions of one size do to each target.
#[derive(Debug, Clone, PartialEq)]
struct Size {
    /// The mean loss of each target, and the loss of its mean prediction.
    rows: [Vec<f64>; 2],
    /// The variances of their means, and of their difference's, over the draw of coalitions; 0 where none was drawn.
    variances: [f64; 3],
}

impl SizedLosses {
    /// Judges at most `most` coalitions of each size.
    ///
    /// # Errors
    /// As [`Evaluation::judge`].
    pub fn measure(
        evaluation: &Evaluation,
        adapters: &AdapterSet,
        most: usize,
        seed: u64,
    ) -> Result<(Self, LayerRuns), Error> {
        let players = adapters.players().len();
        let sizes = subsets(players, most.max(2), seed);
        let coalitions: Vec<Coalition> = sizes
            .iter()
            .flat_map(|size| size.coalitions.clone())
            .collect();
        let mut losses = vec![Vec::new(); coalitions.len()];
        let hear = &mut |place: usize, told: &[crate::Told]| {
            losses[place].extend(told.iter().map(|told| told.loss));
        };
        let runs = evaluation.judge(adapters, &coalitions, Margins::Unwanted, hear)?;
        let mut losses = losses.into_iter();
        let of = |size: &OfSize| {
            let own: Vec<Vec<f32>> = losses.by_ref().take(size.coalitions.len()).collect();
            Size::of(&own, size.all)
        };
        let sizes = sizes.iter().map(of).collect();
        Ok((Self { players, sizes }, runs))
    }

    /// Both sides at a rate, where players are on independently: exactly j of L are with wⱼ(p) = C(L, j) pʲ (1-p)ᴸ⁻ʲ.
    ///
    /// A prediction is the distribution that is told, and ℓ = -ln p_y is convex in it, so that Jensen's inequality gives the
    /// theorem. Where the coalitions of a size are drawn, the loss of their mean prediction comes out a little high, and the gap a
    /// little low.
    pub fn sides(&self, p: f64) -> Sides {
        let weights: Vec<f64> = (0..=self.players)
            .map(|j| {
                let (on, off) = (j as i32, (self.players - j) as i32);
                choose(self.players, j) * p.powi(on) * (1.0 - p).powi(off)
            })
            .collect();
        let weighted = || self.sizes.iter().zip(&weights);
        let rows = self.sizes[0].rows[0].len();
        let side = |side: usize| -> Vec<f64> {
            let at = |row: usize| weighted().map(|(size, w)| w * size.rows[side][row]).sum();
            (0..rows).map(at).collect()
        };
        let [expected, of_means] = [side(0), side(1)];
        let gap: Vec<f64> = expected.iter().zip(&of_means).map(|(a, b)| a - b).collect();
        let drawn = |which: usize| -> f64 {
            weighted()
                .map(|(size, w)| w * w * size.variances[which])
                .sum()
        };
        Sides {
            p,
            expected_loss: Measured::of(&expected, drawn(0)),
            loss_of_means: Measured::of(&of_means, drawn(1)),
            gap: Measured::of(&gap, drawn(2)),
        }
    }
}

impl Measured {
    /// The mean over rows, and its error: of the rows, and of the coalitions' draw with a variance.
    fn of(rows: &[f64], drawn: f64) -> Self {
        let n = rows.len() as f64;
        let mean = rows.iter().sum::<f64>() / n;
        let squares: f64 = rows.iter().map(|x| (x - mean).powi(2)).sum();
        let own = squares / ((n - 1.0).max(1.0) * n);
        Self {
            mean,
            standard_error: (own + drawn).sqrt(),
        }
    }
}

impl Size {
    /// From the losses, coalition by coalition.
    fn of(losses: &[Vec<f32>], all: bool) -> Self {
        let (m, rows) = (losses.len(), losses[0].len());
        let sum = |of: fn(f64) -> f64| -> Vec<f64> {
            let at = |row: usize| losses.iter().map(|own| of(f64::from(own[row]))).sum();
            (0..rows).map(at).collect()
        };
        let (loss, likelihood) = (sum(|loss| loss), sum(|loss| (-loss).exp()));
        let count = m as f64;
        let means: Vec<f64> = loss.iter().map(|loss| loss / count).collect();
        // One coalition's mean prediction is its own.
        let of_means = match m {
            1 => means.clone(),
            _ => likelihood.iter().map(|sum| -(sum / count).ln()).collect(),
        };
        let variances = match all || m < 2 {
            true => [0.0; 3],
            false => jackknife(losses, &loss, &likelihood),
        };
        Self {
            rows: [means, of_means],
            variances,
        }
    }
}

/// The variances of both means and of their difference, each coalition left out once.
fn jackknife(losses: &[Vec<f32>], loss: &[f64], likelihood: &[f64]) -> [f64; 3] {
    let (m, rows) = (losses.len() as f64, loss.len() as f64);
    let without = |own: &Vec<f32>| {
        let mut sums = [0.0; 2];
        for ((own, loss), likelihood) in own.iter().zip(loss).zip(likelihood) {
            let own = f64::from(*own);
            let left = (likelihood - (-own).exp()).max(f64::MIN_POSITIVE);
            sums[0] += (loss - own) / (m - 1.0);
            sums[1] -= (left / (m - 1.0)).ln();
        }
        let [expected, of_means] = sums.map(|sum| sum / rows);
        [expected, of_means, expected - of_means]
    };
    let left: Vec<[f64; 3]> = losses.iter().map(without).collect();
    [0, 1, 2].map(|which| {
        let mean = left.iter().map(|values| values[which]).sum::<f64>() / m;
        let squares: f64 = left
            .iter()
            .map(|values| (values[which] - mean).powi(2))
            .sum();
        squares * (m - 1.0) / m
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn losses(players: usize, loss: impl Fn(usize, usize) -> f32) -> SizedLosses {
        let size = |j: usize| {
            let count = choose(players, j) as usize;
            let own = |i: usize| (0..5).map(|row| loss(j * 10 + i, row)).collect();
            Size::of(&(0..count).map(own).collect::<Vec<_>>(), true)
        };
        SizedLosses {
            players,
            sizes: (0..=players).map(size).collect(),
        }
    }

    #[test]
    fn where_all_coalitions_of_a_size_predict_alike_there_is_no_gap() {
        let alike = losses(4, |which, row| (which / 10) as f32 + row as f32);
        for p in [0.0, 0.3, 1.0] {
            let sides = alike.sides(p);
            // The mean of j over a binomial is 4 p, that of the rows 2.
            assert!((sides.expected_loss.mean - 4.0 * p - 2.0).abs() < 1e-9);
            assert!(sides.gap.mean.abs() < 1e-9);
        }
    }

    #[test]
    fn the_gap_is_that_of_arithmetic_and_logarithm() {
        // One player of two is on: likelihoods ½ and ⅛.
        let both = losses(
            2,
            |which, _| if which == 11 { 8f32.ln() } else { 2f32.ln() },
        );
        let sides = both.sides(0.5);
        let (expected, of_means) = (16f64.ln() / 2.0, -(0.3125f64).ln());
        let whole = |middle: f64| 0.5 * 2f64.ln() + 0.5 * middle;
        assert!((sides.expected_loss.mean - whole(expected)).abs() < 1e-6);
        assert!((sides.loss_of_means.mean - whole(of_means)).abs() < 1e-6);
        assert_eq!(sides.gap.standard_error, 0.0);
    }

    #[test]
    fn the_jackknife_of_a_mean_is_its_standard_error() {
        let losses: Vec<Vec<f32>> = [1.0, 2.0, 4.0, 5.0].map(|x| vec![x; 3]).into();
        let size = Size::of(&losses, false);
        // Variance 10/3 over 4.
        assert!((size.variances[0] - 10.0 / 12.0).abs() < 1e-9);
    }
}
