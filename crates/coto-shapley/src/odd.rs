//! A surrogate for the odd part of a game, (v(S) − v(N∖S))/2, which alone decides its Shapley values: a Gaussian process whose
//! covariance depends on how many players two coalitions differ in, mixing interactions of 1, 3 and 5 players.

use coto_coalition::Coalition;

use crate::dense::Cholesky;

/// A process observed at given coalitions.
pub(crate) struct Odd<'a> {
    n: usize,
    sets: Vec<&'a Coalition>,
    covariance: Vec<f64>,
    noise: f64,
    factor: Cholesky,
    inverse_diagonal: Vec<f64>,
}

/// What a process makes of values at its coalitions.
pub(crate) struct Fitted {
    coefficients: Vec<f64>,
    /// What the fit leaves of each value.
    pub(crate) left: Vec<f64>,
    /// What it would leave had the value been left out.
    pub(crate) left_out: Vec<f64>,
}

/// The Krawtchouk polynomial of `order` by the number of differing players 0..=n, scaled to be 1 at 0: the mean of the products
/// of all `order` players' signs.
fn krawtchouk(n: usize, order: usize) -> Vec<f64> {
    let (mut before, mut now) = (vec![0.0; n + 1], vec![1.0; n + 1]);
    for k in 0..order {
        let next = |d: usize| {
            ((n as f64 - 2.0 * d as f64) * now[d] - k as f64 * before[d]) / (n - k) as f64
        };
        let next = (0..=n).map(next).collect();
        (before, now) = (now, next);
    }
    now
}

impl<'a> Odd<'a> {
    /// With a share of `triples` of what is not additive in interactions of 3 players; the rest is split between those of 5 and
    /// independent noise. Additive games and one cubic in |S| are almost free.
    pub(crate) fn new(n: usize, sets: Vec<&'a Coalition>, triples: f64) -> Self {
        let noise = 0.4 * (1.0 - triples);
        let mut covariance = vec![0.0; n + 1];
        for (order, share) in [(1, 1e3), (3, triples), (5, 0.6 * (1.0 - triples))] {
            if order <= n {
                covariance
                    .iter_mut()
                    .zip(krawtchouk(n, order))
                    .for_each(|(sum, k)| *sum += share * k);
            }
        }
        // Nobody's Shapley value depends on the cubic: it vanishes at both ends.
        let cubic = |set: &&Coalition| {
            let t = set.len() as f64 / n as f64;
            100.0 * t * (1.0 - t) * (t - 0.5)
        };
        let cubics: Vec<f64> = sets.iter().map(cubic).collect();
        let members: Vec<Vec<bool>> = sets
            .iter()
            .map(|set| (0..n).map(|i| set.contains(i)).collect())
            .collect();
        let differ = |a: &[bool], b: &[bool]| a.iter().zip(b).filter(|(x, y)| x != y).count();
        let count = sets.len();
        let mut matrix = vec![0.0; count * count];
        for (i, row) in matrix.chunks_mut(count).enumerate() {
            (0..=i).for_each(|j| {
                row[j] = covariance[differ(&members[i], &members[j])] + cubics[i] * cubics[j]
            });
            row[i] += noise;
        }
        let factor = Cholesky::new(count, matrix);
        Self {
            n,
            sets,
            covariance,
            noise,
            inverse_diagonal: factor.inverse_diagonal(),
            factor,
        }
    }

    /// Fits values at the coalitions.
    pub(crate) fn fit(&self, values: &[f64]) -> Fitted {
        let coefficients = self.factor.solve(values);
        Fitted {
            left: coefficients.iter().map(|a| self.noise * a).collect(),
            left_out: coefficients
                .iter()
                .zip(&self.inverse_diagonal)
                .map(|(a, d)| a / d)
                .collect(),
            coefficients,
        }
    }

    /// The Shapley values of a fitted function.
    pub(crate) fn shapley(&self, fitted: &Fitted) -> Vec<f64> {
        let by_size: Vec<(f64, f64)> = (0..=self.n).map(|size| self.shares(size)).collect();
        let mut phi = vec![0.0; self.n];
        for (set, coefficient) in self.sets.iter().zip(&fitted.coefficients) {
            let (inside, outside) = by_size[set.len()];
            for (i, sum) in phi.iter_mut().enumerate() {
                *sum += coefficient * if set.contains(i) { inside } else { outside };
            }
        }
        phi
    }

    /// The Shapley values of S ↦ covariance(|S Δ T|), |T| = `size`, for a player in T and for one outside.
    fn shares(&self, size: usize) -> (f64, f64) {
        let n = self.n;
        let gain = |members: usize, inside: bool| {
            let mut sum = 0.0;
            for s in 0..n {
                // |S ∩ T| of a random S of s others, `members` of which are in T.
                for (met, chance) in hypergeometric(n - 1, members, s) {
                    let apart = s - met + size - met;
                    let then = if inside { apart - 1 } else { apart + 1 };
                    sum += chance * (self.covariance[then] - self.covariance[apart]);
                }
            }
            sum / n as f64
        };
        let inside = if size > 0 { gain(size - 1, true) } else { 0.0 };
        let outside = if size < n { gain(size, false) } else { 0.0 };
        (inside, outside)
    }
}

/// The chances of each number of hits in `draws` draws without replacement from `all`, `marked` of which count.
fn hypergeometric(all: usize, marked: usize, draws: usize) -> impl Iterator<Item = (usize, f64)> {
    let (least, most) = ((marked + draws).saturating_sub(all), marked.min(draws));
    let ratio = move |k: usize| {
        ((marked - k) * (draws - k)) as f64 / ((k + 1) * (all + k + 1 - marked - draws)) as f64
    };
    let mut weights = vec![1.0];
    (least..most).for_each(|k| weights.push(weights[k - least] * ratio(k)));
    let sum: f64 = weights.iter().sum();
    weights
        .into_iter()
        .enumerate()
        .map(move |(k, weight)| (least + k, weight / sum))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processs_shapley_values_are_those_of_its_table() {
        let n = 6;
        let sets: Vec<Coalition> = [7, 56, 21, 63]
            .map(|bits| Coalition::from_bits(n, bits))
            .into();
        let sets: Vec<&Coalition> = sets.iter().collect();
        let process = Odd::new(n, sets.clone(), 0.7);
        let fitted = process.fit(&[0.3, -0.2, 0.5, 1.0]);
        let value = |bits: u64| {
            let apart = |set: &&Coalition| {
                let other = Coalition::from_bits(n, bits);
                (0..n)
                    .filter(|&i| other.contains(i) != set.contains(i))
                    .count()
            };
            sets.iter()
                .zip(&fitted.coefficients)
                .map(|(set, a)| a * process.covariance[apart(set)])
                .sum()
        };
        let table: Vec<f64> = (0..64).map(value).collect();
        for (found, exact) in process
            .shapley(&fitted)
            .iter()
            .zip(crate::exact::shapley(&table))
        {
            assert!((found - exact).abs() < 1e-9);
        }
        for (place, set) in sets.iter().enumerate() {
            let bits = (0..n)
                .filter(|&i| set.contains(i))
                .map(|i| 1 << i)
                .sum::<u64>();
            assert!(
                (table[bits as usize] + fitted.left[place] - [0.3, -0.2, 0.5, 1.0][place]).abs()
                    < 1e-9
            );
        }
    }
}
