//! Eight-bit weights: symmetric, one f16 scale for each group of columns.

use half::f16;

/// A matrix in eight bits: `weight[r, c] ≈ codes[r, c] · scales[r, c / group]`.
pub struct Quantised {
    /// Codes from −127 to 127, `[rows, cols]` in row-major order.
    pub codes: Vec<i8>,
    /// Scales, `[rows, cols / group]` in row-major order.
    pub scales: Vec<f16>,
}

impl Quantised {
    /// Quantises `weights` in groups of `group` neighbours; the length must be a multiple of `group`.
    ///
    /// The scale of a group is `max |w| / 127`, rounded to f16 before the codes are taken, so that
    /// the codes make up for the rounding of the scale.
    pub fn new(weights: &[f32], group: usize) -> Self {
        assert!(
            weights.len().is_multiple_of(group),
            "{} weights do not fill groups of {group}",
            weights.len()
        );
        let mut codes = Vec::with_capacity(weights.len());
        let mut scales = Vec::with_capacity(weights.len() / group);
        for part in weights.chunks(group) {
            let scale = f16::from_f32(largest(part) / 127.0);
            let step = scale.to_f32();
            let code = |w: &f32| {
                if step > 0.0 {
                    (w / step).round().clamp(-127.0, 127.0) as i8
                } else {
                    0
                }
            };
            codes.extend(part.iter().map(code));
            scales.push(scale);
        }
        Self { codes, scales }
    }

    /// The weights as a reader of the file will see them.
    pub fn weights(&self) -> Vec<f32> {
        let group = self.codes.len() / self.scales.len().max(1);
        self.codes
            .iter()
            .enumerate()
            .map(|(i, &code)| f32::from(code) * self.scales[i / group].to_f32())
            .collect()
    }
}

/// How far quantised weights are from the true ones; errors of several matrices add up.
#[derive(Clone, Copy, Debug, Default)]
pub struct Error {
    squares: f64,
    square_weights: f64,
    worst: f64,
}

impl Error {
    /// Compares a matrix with its eight-bit form.
    pub fn of(weights: &[f32], quantised: &Quantised) -> Self {
        let seen = quantised.weights();
        let group = weights.len() / quantised.scales.len().max(1);
        let mut error = Self::default();
        for (i, part) in weights.chunks(group).enumerate() {
            let top = f64::from(largest(part));
            for (&w, &s) in part.iter().zip(&seen[i * group..]) {
                let gap = f64::from(w - s).abs();
                error.squares += gap * gap;
                error.square_weights += f64::from(w) * f64::from(w);
                error.worst = error.worst.max(if top > 0.0 { gap / top } else { 0.0 });
            }
        }
        error
    }

    /// The error of this matrix and `other` taken together.
    pub fn and(self, other: Self) -> Self {
        Self {
            squares: self.squares + other.squares,
            square_weights: self.square_weights + other.square_weights,
            worst: self.worst.max(other.worst),
        }
    }

    /// `‖W − Ŵ‖ / ‖W‖` in the Frobenius norm.
    pub fn mean(&self) -> f64 {
        (self.squares / self.square_weights).sqrt()
    }

    /// The largest `|w − ŵ|` over the largest `|w|` of its group.
    pub fn worst(&self) -> f64 {
        self.worst
    }
}

fn largest(weights: &[f32]) -> f32 {
    weights.iter().fold(0.0, |top, w| w.abs().max(top))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;

    fn weights(count: usize) -> Vec<f32> {
        let mut rng = coto_coalition::stream_at(3, "weights", 0);
        (0..count)
            .map(|i| rng.random_range(-1.0f32..1.0) * 10f32.powi(i as i32 / 32 % 4 - 1))
            .collect()
    }

    #[test]
    fn every_weight_comes_back_within_half_a_step() {
        let weights = weights(64 * 32);
        let quantised = Quantised::new(&weights, 32);
        assert_eq!(
            (quantised.codes.len(), quantised.scales.len()),
            (64 * 32, 64)
        );
        for (i, (w, seen)) in weights.iter().zip(quantised.weights()).enumerate() {
            let step = quantised.scales[i / 32].to_f32();
            assert!(
                (w - seen).abs() <= step * 0.5001,
                "{w} came back as {seen}, step {step}"
            );
        }
    }

    #[test]
    fn the_error_reported_is_below_half_a_step_of_127() {
        let weights = weights(128 * 32);
        let error = Error::of(&weights, &Quantised::new(&weights, 32));
        assert!(
            error.worst() > 0.002 && error.worst() < 0.5 / 127.0 * 1.001,
            "{error:?}"
        );
        assert!(
            error.mean() > 0.001 && error.mean() < error.worst(),
            "{error:?}"
        );
    }

    #[test]
    fn zeros_and_exact_multiples_of_the_scale_lose_nothing() {
        let mut weights = vec![0.0; 32];
        weights.extend((0..32).map(|i| (4 * i - 127) as f32 * 0.25));
        let quantised = Quantised::new(&weights, 32);
        assert_eq!(quantised.weights(), weights);
        assert_eq!(quantised.codes[32], -127);
    }
}
