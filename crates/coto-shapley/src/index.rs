//! A surrogate with one index: v(S) ≈ g(Σ_{i∈S} wᵢ), the shape of every game whose players add up to something that saturates.

use std::f64::consts::PI;

use coto_coalition::Coalition;

use crate::dense::{Cholesky, dot, gauss_legendre};

/// g(u) = c₀ + c₁u + Σₖ (aₖ cos kπu + bₖ sin kπu), u = Σ_{i∈S} wᵢ. Each wave is a product over the players, whose Shapley values
/// are an integral that the Gauss-Legendre rule takes exactly.
#[derive(Clone)]
pub(crate) struct Index {
    weights: Vec<f64>,
    /// c₀, c₁, then a₁, b₁, a₂, b₂, …
    curve: Vec<f64>,
}

/// Rows of a least-squares problem: a coalition's players, its value, its weight.
pub(crate) struct Row {
    players: Vec<usize>,
    value: f64,
    weight: f64,
}

impl Row {
    pub(crate) fn new(set: &Coalition, value: f64, weight: f64) -> Self {
        Self {
            players: set.iter().collect(),
            value,
            weight,
        }
    }
}

impl Index {
    /// A straight line whose weights are proportional to `values`, with room for so many waves; none if all values vanish.
    pub(crate) fn line(values: &[f64], waves: usize) -> Option<Self> {
        let range: f64 = values.iter().map(|value| value.abs()).sum();
        let weights = values.iter().map(|value| value / range).collect();
        (range > 0.0 && range.is_finite()).then(|| Self {
            weights,
            curve: vec![0.0; 2 + 2 * waves],
        })
    }

    fn at(&self, players: &[usize]) -> f64 {
        players.iter().map(|&i| self.weights[i]).sum()
    }

    /// The functions that the curve is made of at u, and the curve's slope.
    fn basis(&self, u: f64, basis: &mut [f64]) -> f64 {
        (basis[0], basis[1]) = (1.0, u);
        let mut slope = self.curve[1];
        let (sin, cos) = (PI * u).sin_cos();
        let (mut c, mut s) = (1.0, 0.0);
        for k in 1..self.curve.len() / 2 {
            (c, s) = (c * cos - s * sin, s * cos + c * sin);
            (basis[2 * k], basis[2 * k + 1]) = (c, s);
            slope += PI * k as f64 * (self.curve[2 * k + 1] * c - self.curve[2 * k] * s);
        }
        slope
    }

    /// The model's value of a row's coalition.
    pub(crate) fn value(&self, row: &Row) -> f64 {
        let mut basis = vec![0.0; self.curve.len()];
        self.basis(self.at(&row.players), &mut basis);
        dot(&basis, &self.curve)
    }

    fn loss(&self, rows: &[&Row], scale: f64) -> f64 {
        let misfit: f64 = rows
            .iter()
            .map(|row| row.weight * (row.value - self.value(row)).powi(2))
            .sum();
        misfit
            + scale
                * self
                    .roughness()
                    .iter()
                    .zip(&self.curve)
                    .map(|(r, c)| r * c * c)
                    .sum::<f64>()
    }

    /// The penalty of each of the curve's coefficients: small, and growing with the frequency.
    fn roughness(&self) -> Vec<f64> {
        (0..self.curve.len())
            .map(|b| {
                if b < 2 {
                    0.0
                } else {
                    1e-9 * (b / 2).pow(4) as f64
                }
            })
            .collect()
    }

    /// Fits weights and curve to rows by at most `steps` steps of Levenberg and Marquardt.
    pub(crate) fn fit(&mut self, rows: &[&Row], steps: usize) {
        let (n, width) = (self.weights.len(), self.weights.len() + self.curve.len());
        let scale: f64 = rows.iter().map(|row| row.weight).sum();
        let (mut damping, mut loss) = (1e-3, self.loss(rows, scale));
        let mut basis = vec![0.0; self.curve.len()];
        for _ in 0..steps {
            let (mut normal, mut right) = (vec![0.0; width * width], vec![0.0; width]);
            for row in rows {
                let slope = self.basis(self.at(&row.players), &mut basis);
                let misfit = row.value - dot(&basis, &self.curve);
                let (w, along) = (row.weight, row.weight * slope);
                for (k, &i) in row.players.iter().enumerate() {
                    row.players[..=k]
                        .iter()
                        .for_each(|&j| normal[i * width + j] += along * slope);
                    right[i] += along * misfit;
                }
                for (b, &x) in basis.iter().enumerate() {
                    let line = &mut normal[(n + b) * width..][..n + b + 1];
                    row.players.iter().for_each(|&j| line[j] += along * x);
                    line[n..]
                        .iter_mut()
                        .zip(&basis)
                        .for_each(|(sum, y)| *sum += w * x * y);
                    right[n + b] += w * x * misfit;
                }
            }
            for (b, rough) in self.roughness().into_iter().enumerate() {
                normal[(n + b) * (width + 1)] += scale * rough;
                right[n + b] -= scale * rough * self.curve[b];
            }
            let before = loss;
            for _ in 0..8 {
                let mut damped = normal.clone();
                for i in 0..width {
                    damped[i * (width + 1)] =
                        damped[i * (width + 1)] * (1.0 + damping) + 1e-12 * scale;
                }
                let step = Cholesky::new(width, damped).solve(&right);
                let mut next = self.clone();
                next.weights
                    .iter_mut()
                    .zip(&step)
                    .for_each(|(w, s)| *w += s);
                next.curve
                    .iter_mut()
                    .zip(&step[n..])
                    .for_each(|(c, s)| *c += s);
                let reached = next.loss(rows, scale);
                if reached < loss {
                    (*self, loss, damping) = (next, reached, damping / 5.0);
                    break;
                }
                damping *= 4.0;
            }
            if loss >= before * (1.0 - 1e-5) {
                break;
            }
        }
    }

    /// The Shapley values of the model: for a wave, φᵢ = ∫₀¹ (zᵢ − 1) Πⱼ≠ᵢ (1 − q + q zⱼ) dq with zⱼ = exp(ikπwⱼ).
    pub(crate) fn shapley(&self) -> Vec<f64> {
        let n = self.weights.len();
        let mut phi: Vec<f64> = self.weights.iter().map(|w| self.curve[1] * w).collect();
        let rule = gauss_legendre(n / 2 + 1);
        for k in 1..self.curve.len() / 2 {
            // Re[(a − ib)·exp(ikπu)] = a cos kπu + b sin kπu.
            let amplitude = (self.curve[2 * k], -self.curve[2 * k + 1]);
            let turns: Vec<(f64, f64)> = self
                .weights
                .iter()
                .map(|w| (PI * k as f64 * w).sin_cos())
                .collect();
            for &(q, weight) in &rule {
                let factors: Vec<_> = turns
                    .iter()
                    .map(|(sin, cos)| (1.0 - q + q * cos, q * sin))
                    .collect();
                let mut after = vec![(1.0, 0.0); n + 1];
                for i in (0..n).rev() {
                    after[i] = times(after[i + 1], factors[i]);
                }
                let mut before = amplitude;
                for i in 0..n {
                    let (sin, cos) = turns[i];
                    phi[i] += weight * times(times(before, after[i + 1]), (cos - 1.0, sin)).0;
                    before = times(before, factors[i]);
                }
            }
        }
        phi
    }
}

fn times(a: (f64, f64), b: (f64, f64)) -> (f64, f64) {
    (a.0 * b.0 - a.1 * b.1, a.0 * b.1 + a.1 * b.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_models_shapley_values_are_those_of_its_table() {
        let model = Index {
            weights: vec![0.3, -0.1, 0.25, 0.4, 0.05],
            curve: vec![0.2, 0.7, -0.4, 0.3, 0.2, 0.6],
        };
        let value = |bits| model.value(&Row::new(&Coalition::from_bits(5, bits), 0.0, 1.0));
        let table: Vec<f64> = (0..32).map(value).collect();
        for (found, exact) in model.shapley().iter().zip(crate::exact::shapley(&table)) {
            assert!((found - exact).abs() < 1e-13);
        }
    }
}
