use std::ops::Range;

use coto_lowrank::{LowRank, Matrix};

/// What is done to a weight W, row by row. D is the low-rank product, its scale and the adapter's weight in it.
#[derive(Debug)]
pub(crate) enum Change {
    /// W + D (LoRA, arXiv 2106.09685; rsLoRA).
    Add(LowRank),
    /// diag(m / ‖W + D‖)(W + D), the norm of each row (DoRA, arXiv 2402.09353, equation 5).
    Norm(LowRank, Vec<f32>),
    /// W ⊙ (1 + D) (HiRA, Huang et al., ICLR 2025).
    Scale(LowRank),
    /// W ⊘ (1 + D).
    Unscale(LowRank),
}

/// 1 + D below this is known to fewer digits than a bf16 has, D being in f32.
const SMALLEST_FACTOR: f64 = 1.0 / 1024.0;

impl Change {
    fn update(&self) -> &LowRank {
        match self {
            Self::Add(update) | Self::Norm(update, _) => update,
            Self::Scale(update) | Self::Unscale(update) => update,
        }
    }

    pub fn dims(&self) -> [usize; 2] {
        self.update().dims()
    }

    /// Some rows of D.
    pub fn product(&self, rows: Range<usize>) -> Matrix {
        self.update().dense_rows(rows)
    }

    /// Changes row `i` of W with that row of D.
    pub fn apply(&self, i: usize, product: &[f32], row: &mut [f64]) -> Result<(), String> {
        let pairs = || product.iter().map(|&d| f64::from(d));
        match self {
            Self::Add(_) => row.iter_mut().zip(pairs()).for_each(|(w, d)| *w += d),
            Self::Scale(_) => row.iter_mut().zip(pairs()).for_each(|(w, d)| *w *= 1.0 + d),
            Self::Norm(_, magnitude) => {
                row.iter_mut().zip(pairs()).for_each(|(w, d)| *w += d);
                let norm = row.iter().map(|v| v * v).sum::<f64>().sqrt();
                if norm == 0.0 {
                    return Err("its norm is 0, which DoRA's magnitude cannot be divided by".into());
                }
                let ratio = f64::from(magnitude[i]) / norm;
                row.iter_mut().for_each(|v| *v *= ratio);
            }
            Self::Unscale(_) => {
                if let Some(j) = pairs().position(|d| (1.0 + d).abs() < SMALLEST_FACTOR) {
                    return Err(format!(
                        "column {j} was multiplied by {}, too near to 0 to be divided by",
                        1.0 + f64::from(product[j])
                    ));
                }
                row.iter_mut().zip(pairs()).for_each(|(w, d)| *w /= 1.0 + d);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update() -> LowRank {
        let a = Matrix::new(1, 2, vec![1.0, -0.5]).unwrap();
        let b = Matrix::new(2, 1, vec![-1.0, 2.0]).unwrap();
        LowRank::of(&a, &b, 1.0).unwrap()
    }

    fn apply(change: &Change, i: usize, row: [f64; 2]) -> Result<[f64; 2], String> {
        let mut row = row;
        change.apply(i, change.product(0..2).row(i), &mut row)?;
        Ok(row)
    }

    #[test]
    fn each_change_is_its_formula_and_division_undoes_multiplication() {
        let magnitude = vec![10.0, 2.0];
        let one = apply(&Change::Add(update()), 1, [1.0, 5.0]);
        assert_eq!(one, Ok([3.0, 4.0]));
        let one = apply(&Change::Norm(update(), magnitude), 1, [1.0, 5.0]);
        assert_eq!(one, Ok([2.0 / 5.0 * 3.0, 2.0 / 5.0 * 4.0]));
        let one = apply(&Change::Scale(update()), 0, [7.0, 2.0]);
        assert_eq!(one, Ok([0.0, 3.0]));
        let one = apply(&Change::Scale(update()), 1, [1.0, 7.0]).unwrap();
        assert_eq!(one, [3.0, 0.0]);
    }

    #[test]
    fn what_cannot_be_divided_by_is_named() {
        let error = apply(&Change::Unscale(update()), 0, [0.0, 3.0]).unwrap_err();
        assert!(error.contains("column 0 was multiplied by 0"), "{error}");
        let error = apply(&Change::Unscale(update()), 1, [3.0, 0.0]).unwrap_err();
        assert!(error.contains("column 1"), "{error}");
        let zero = Change::Norm(update(), vec![1.0, 1.0]);
        assert!(
            apply(&zero, 0, [1.0, -0.5])
                .unwrap_err()
                .contains("norm is 0")
        );
    }
}
