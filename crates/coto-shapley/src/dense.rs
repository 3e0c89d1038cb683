//! The little dense algebra that the estimators need: symmetric positive definite systems.

/// Σ aᵢbᵢ, in eight interleaved sums that the compiler turns into vector instructions.
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (heads_a, heads_b) = (a.chunks_exact(8), b.chunks_exact(8));
    let tail: f64 = heads_a
        .remainder()
        .iter()
        .zip(heads_b.remainder())
        .map(|(x, y)| x * y)
        .sum();
    for (x, y) in heads_a.zip(heads_b) {
        for lane in 0..8 {
            sums[lane] += x[lane] * y[lane];
        }
    }
    sums.iter().sum::<f64>() + tail
}

/// A symmetric positive definite matrix as LLᵀ.
pub(crate) struct Cholesky {
    size: usize,
    /// L, row by row; what lies above the diagonal is not used.
    lower: Vec<f64>,
}

impl Cholesky {
    /// Of a matrix given row by row, of which only the lower half is read. A matrix that is singular to rounding is treated as
    /// if its vanishing pivots were tiny.
    pub(crate) fn new(size: usize, mut matrix: Vec<f64>) -> Self {
        let greatest = (0..size).map(|i| matrix[i * size + i]).fold(0.0, f64::max);
        let least = (greatest * 1e-14).max(f64::MIN_POSITIVE);
        for i in 0..size {
            let (above, row) = matrix.split_at_mut(i * size);
            for j in 0..i {
                let other = &above[j * size..];
                row[j] = (row[j] - dot(&row[..j], &other[..j])) / other[j];
            }
            row[i] = (row[i] - dot(&row[..i], &row[..i])).max(least).sqrt();
        }
        Self {
            size,
            lower: matrix,
        }
    }

    fn row(&self, i: usize) -> &[f64] {
        &self.lower[i * self.size..][..=i]
    }

    /// The solution of LLᵀx = b.
    pub(crate) fn solve(&self, b: &[f64]) -> Vec<f64> {
        let mut x = b.to_vec();
        for i in 0..self.size {
            let row = self.row(i);
            x[i] = (x[i] - dot(&row[..i], &x[..i])) / row[i];
        }
        for i in (0..self.size).rev() {
            let row = self.row(i);
            x[i] /= row[i];
            let known = x[i];
            x[..i]
                .iter_mut()
                .zip(row)
                .for_each(|(x, l)| *x -= l * known);
        }
        x
    }

    /// The solutions x of LLᵀx = b for many b, one after the other in `rights`: eight at a time, so that no step waits for the one
    /// before it.
    pub(crate) fn solve_each(&self, rights: &[f64]) -> Vec<f64> {
        const LANES: usize = 8;
        let mut solutions = rights.to_vec();
        let mut x = vec![[0.0; LANES]; self.size];
        for block in solutions.chunks_mut(LANES * self.size) {
            for (lane, right) in block.chunks(self.size).enumerate() {
                x.iter_mut().zip(right).for_each(|(x, b)| x[lane] = *b);
            }
            self.solve_lanes(&mut x);
            for (lane, solution) in block.chunks_mut(self.size).enumerate() {
                x.iter().zip(solution).for_each(|(x, s)| *s = x[lane]);
            }
        }
        solutions
    }

    /// [`Self::solve`] for each lane of `x`, which holds b before and x after.
    fn solve_lanes<const LANES: usize>(&self, x: &mut [[f64; LANES]]) {
        for i in 0..self.size {
            let (row, (known, rest)) = (self.row(i), x.split_at_mut(i));
            let mut sum = rest[0];
            for (l, known) in row.iter().zip(known) {
                (0..LANES).for_each(|lane| sum[lane] -= l * known[lane]);
            }
            rest[0] = sum.map(|sum| sum / row[i]);
        }
        for i in (0..self.size).rev() {
            let (row, (before, rest)) = (self.row(i), x.split_at_mut(i));
            let known = rest[0].map(|sum| sum / row[i]);
            rest[0] = known;
            for (l, before) in row.iter().zip(before) {
                (0..LANES).for_each(|lane| before[lane] -= l * known[lane]);
            }
        }
    }

    /// The diagonal of the inverse.
    pub(crate) fn inverse_diagonal(&self) -> Vec<f64> {
        // Row j of `columns` is column j of L⁻¹ from place j on; (L⁻ᵀL⁻¹)ⱼⱼ is the square of its length.
        let unit = |j: usize| {
            let mut column = vec![0.0; self.size - j];
            column[0] = 1.0 / self.lower[j * self.size + j];
            for i in j + 1..self.size {
                let row = self.row(i);
                column[i - j] = -dot(&row[j..i], &column[..i - j]) / row[i];
            }
            dot(&column, &column)
        };
        (0..self.size).map(unit).collect()
    }
}

/// Nodes and weights of the Gauss-Legendre rule on [0, 1], exact for polynomials of degree 2·`count` − 1.
pub(crate) fn gauss_legendre(count: usize) -> Vec<(f64, f64)> {
    let node = |k: usize| {
        let mut x = (std::f64::consts::PI * (k as f64 + 0.75) / (count as f64 + 0.5)).cos();
        let mut slope = 1.0;
        for _ in 0..100 {
            let (mut before, mut now) = (1.0, x);
            for degree in 2..=count {
                let degree = degree as f64;
                (before, now) = (
                    now,
                    ((2.0 * degree - 1.0) * x * now - (degree - 1.0) * before) / degree,
                );
            }
            slope = count as f64 * (x * now - before) / (x * x - 1.0);
            let step = now / slope;
            x -= step;
            if step.abs() < 1e-15 {
                break;
            }
        }
        ((1.0 + x) / 2.0, 1.0 / ((1.0 - x * x) * slope * slope))
    };
    (0..count).map(node).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_is_solved_and_its_inverse_is_right_on_the_diagonal() {
        let matrix = vec![4.0, 0.0, 0.0, 2.0, 5.0, 0.0, 1.0, 3.0, 6.0];
        let factor = Cholesky::new(3, matrix);
        let x = factor.solve(&[9.0, 21.0, 25.0]);
        let full = [[4.0, 2.0, 1.0], [2.0, 5.0, 3.0], [1.0, 3.0, 6.0]];
        for (row, right) in full.iter().zip([9.0, 21.0, 25.0]) {
            assert!((dot(row, &x) - right).abs() < 1e-12);
        }
        let rights: Vec<f64> = (0..30).map(|i| f64::from(i * i % 7)).collect();
        for (right, found) in rights.chunks(3).zip(factor.solve_each(&rights).chunks(3)) {
            let alone = factor.solve(right);
            assert!(found.iter().zip(alone).all(|(a, b)| (a - b).abs() < 1e-14));
        }
        for (i, found) in factor.inverse_diagonal().into_iter().enumerate() {
            let mut unit = [0.0; 3];
            unit[i] = 1.0;
            assert!((factor.solve(&unit)[i] - found).abs() < 1e-14);
        }
    }

    #[test]
    fn the_quadrature_is_exact_for_polynomials() {
        for count in 1..30 {
            for degree in 0..2 * count {
                let sum: f64 = gauss_legendre(count)
                    .iter()
                    .map(|(x, w)| w * x.powi(degree as i32))
                    .sum();
                assert!((sum - 1.0 / (degree as f64 + 1.0)).abs() < 1e-13);
            }
        }
    }
}
