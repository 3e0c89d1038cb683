//! Shapley values as a weighted least-squares fit of additive games (Lundberg and Lee, 2017).

use coto_coalition::Coalition;

use crate::dense::{Cholesky, dot};

/// The weighted least-squares fit of v(S) − v(∅) by an additive game that is efficient, over given coalitions; and, beside the
/// additive game, by further features that do not change the Shapley values of a game they are fitted to.
///
/// The fit is linear in the values: it is kept as what each value adds to each coefficient.
pub(crate) struct Fit {
    n: usize,
    /// The number of coefficients.
    width: usize,
    /// Features row by row: 1[i ∈ S] − |S|/n per player, then the further ones.
    rows: Vec<f64>,
    /// What a unit of each row's target adds to each coefficient, row by row.
    gains: Vec<f64>,
    /// |S|/n of each row.
    sizes: Vec<f64>,
}

impl Fit {
    /// Over rows of (coalition, weight, further features).
    pub(crate) fn new(n: usize, sets: &[(&Coalition, f64, Vec<f64>)]) -> Self {
        let width = n + sets.first().map_or(0, |(_, _, further)| further.len());
        let mut rows = Vec::with_capacity(sets.len() * width);
        let mut sizes = Vec::with_capacity(sets.len());
        let mut normal = vec![0.0; width * width];
        for (set, weight, further) in sets {
            let (share, start) = (set.len() as f64 / n as f64, rows.len());
            rows.resize(start + n, -share);
            set.iter().for_each(|i| rows[start + i] += 1.0);
            rows.extend(further);
            sizes.push(share);
            // Only the lower half is needed.
            let row = &rows[start..];
            for (i, place) in normal.chunks_mut(width).enumerate() {
                let scaled = weight * row[i];
                place[..=i]
                    .iter_mut()
                    .zip(row)
                    .for_each(|(sum, j)| *sum += scaled * j);
            }
        }
        // The players' features of a row sum to 0: along (1, …, 1) the matrix is filled up. The ridge decides where the rows
        // leave a coefficient open.
        let trace: f64 = (0..n).map(|i| normal[i * width + i]).sum();
        for i in 0..n {
            normal[i * width..][..n]
                .iter_mut()
                .for_each(|sum| *sum += trace / (n * n) as f64);
        }
        for i in 0..width {
            normal[i * width + i] *= 1.0 + 1e-12;
            normal[i * width + i] += 1e-11 * trace / n as f64;
        }
        let mut gains = Cholesky::new(width, normal).solve_each(&rows);
        for (gain, (_, weight, _)) in gains.chunks_mut(width).zip(sets) {
            gain.iter_mut().for_each(|gain| *gain *= weight);
        }
        Self {
            n,
            width,
            rows,
            gains,
            sizes,
        }
    }

    /// The values that a fit to `values` (v(S) − v(∅) of each row; v(N) − v(∅) = `total`) gives each player, and what the fit leaves of each row.
    pub(crate) fn solve(&self, values: &[f64], total: f64) -> (Vec<f64>, Vec<f64>) {
        let targets: Vec<f64> = values
            .iter()
            .zip(&self.sizes)
            .map(|(value, share)| value - share * total)
            .collect();
        let mut coefficients = vec![0.0; self.width];
        for (gain, target) in self.gains.chunks(self.width).zip(&targets) {
            coefficients
                .iter_mut()
                .zip(gain)
                .for_each(|(sum, g)| *sum += g * target);
        }
        let left = self
            .rows
            .chunks(self.width)
            .zip(&targets)
            .map(|(row, target)| target - dot(row, &coefficients));
        let left = left.collect();
        coefficients.truncate(self.n);
        coefficients
            .iter_mut()
            .for_each(|value| *value += total / self.n as f64);
        (coefficients, left)
    }

    /// The number of coefficients.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// What a row adds to the error of each player's value, if `left` is what the fit leaves of each row. Divided by
    /// 1 − leverage, as if the row had been left out (HC3: MacKinnon and White, 1985).
    pub(crate) fn influence(&self, row: usize, left: &[f64]) -> Vec<f64> {
        let at = row * self.width..(row + 1) * self.width;
        let gain = &self.gains[at.clone()];
        // How much of a row's own target its fitted one holds.
        let leverage = dot(&self.rows[at], gain);
        let error = left[row] / (1.0 - leverage).max(0.05);
        gain[..self.n].iter().map(|gain| gain * error).collect()
    }
}

/// The variance of each player's value: that of the sum of the influences of units drawn at random within strata.
///
/// A stratum is (its units' influences, how many units it could have had); drawn without replacement, a stratum that is complete
/// adds nothing.
pub(crate) fn variance(n: usize, strata: &[(Vec<Vec<f64>>, f64)]) -> Vec<f64> {
    let mut sum = vec![0.0; n];
    for (units, population) in strata {
        let count = units.len() as f64;
        let unseen = (1.0 - count / population).max(0.0);
        for (i, sum) in sum.iter_mut().enumerate() {
            // Few units tell their mean too badly to take it off.
            let mean = if units.len() < 4 {
                0.0
            } else {
                units.iter().map(|unit| unit[i]).sum::<f64>() / count
            };
            let scale = if units.len() < 4 {
                1.0
            } else {
                count / (count - 1.0)
            };
            *sum += unseen
                * scale
                * units
                    .iter()
                    .map(|unit| (unit[i] - mean).powi(2))
                    .sum::<f64>();
        }
    }
    sum
}
