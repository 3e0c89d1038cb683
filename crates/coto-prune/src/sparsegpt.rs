use coto_lowrank::faer::linalg::triangular_inverse::invert_lower_triangular;
use coto_lowrank::faer::{Mat, MatRef, Par, Side};

use crate::Sparsity;
use crate::mask::{lowest, lowest_of_each};

/// Columns whose entries are compared with each other.
const BLOCK: usize = 128;
/// λ over the mean of H's diagonal.
const DAMPING: f64 = 0.01;

/// The sparse matrix that stands in for `weights` [rows, cols] on `inputs` [samples, cols]; `None` if H has no factor.
///
/// A column's error goes to all later columns at once: the published algorithm defers that to the end of a block for the memory
/// traffic of large matrices only.
pub(crate) fn solve(
    mut weights: Mat<f64>,
    inputs: MatRef<f64>,
    sparsity: Sparsity,
) -> Option<Mat<f64>> {
    let upper = inverse_factor(hessian(inputs).as_ref())?;
    let (rows, cols) = (weights.nrows(), weights.ncols());
    // A pattern's groups are chosen one by one, where the errors of all columns before are in the weights.
    let width = match sparsity {
        Sparsity::Share(_) => BLOCK,
        Sparsity::Pattern { of, .. } => of,
    };
    for start in (0..cols).step_by(width) {
        let end = cols.min(start + width);
        let score = |i: usize, j: usize| (weights[(i, j)] / upper[(j, j)]).powi(2);
        let scores: Vec<f64> = (0..rows)
            .flat_map(|i| (start..end).map(move |j| (i, j)))
            .map(|(i, j)| score(i, j))
            .collect();
        let mask = match sparsity {
            Sparsity::Share(_) => lowest(&scores, sparsity.zeros(scores.len())),
            Sparsity::Pattern { .. } => lowest_of_each(&scores, end - start, sparsity),
        };
        for j in start..end {
            for i in (0..rows).filter(|i| mask[i * (end - start) + j - start]) {
                let error = weights[(i, j)] / upper[(j, j)];
                weights[(i, j)] = 0.0;
                for k in j + 1..cols {
                    weights[(i, k)] -= error * upper[(j, k)];
                }
            }
        }
    }
    Some(weights)
}

/// H = 2 XᵀX + λI. Of inputs that are all zero it is I.
fn hessian(inputs: MatRef<f64>) -> Mat<f64> {
    let mut h = inputs.transpose() * inputs * coto_lowrank::faer::Scale(2.0);
    let n = h.nrows();
    let mean = (0..n).map(|j| h[(j, j)]).sum::<f64>() / n as f64;
    let damping = if mean > 0.0 { DAMPING * mean } else { 1.0 };
    (0..n).for_each(|j| h[(j, j)] += damping);
    h
}

/// The upper triangular U with H⁻¹ = UᵀU. With the order of rows and columns reversed, H = M Mᵀ has M⁻¹ for it.
fn inverse_factor(h: MatRef<f64>) -> Option<Mat<f64>> {
    let n = h.nrows();
    let reversed = Mat::from_fn(n, n, |i, j| h[(n - 1 - i, n - 1 - j)]);
    let factor = reversed.llt(Side::Lower).ok()?;
    let mut inverse = Mat::zeros(n, n);
    invert_lower_triangular(inverse.as_mut(), factor.L(), Par::rayon(0));
    let upper = Mat::from_fn(n, n, |i, j| inverse[(n - 1 - i, n - 1 - j)]);
    upper.is_all_finite().then_some(upper)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(rows: usize, cols: usize) -> Mat<f64> {
        Mat::from_fn(rows, cols, |i, j| {
            ((i * 37 + j * 101 + 13) % 53) as f64 / 26.0 - 1.0 + ((i * j) as f64).sin()
        })
    }

    #[test]
    fn the_factor_is_that_of_the_inverse() {
        let h = hessian(noise(9, 6).as_ref());
        let upper = inverse_factor(h.as_ref()).unwrap();
        let one = &h * upper.transpose() * &upper;
        let gap = (one - Mat::<f64>::identity(6, 6)).norm_l2();
        assert!(gap < 1e-10, "{gap}");
        assert!((0..6).all(|i| (0..i).all(|j| upper[(i, j)] == 0.0) && upper[(i, i)] > 0.0));
    }

    #[test]
    fn where_the_first_column_goes_the_rest_is_the_least_squares_optimum() {
        // Inputs (1, 2) and (0, 1): 2 XᵀX = [[2, 4], [4, 10]], λ = 0.06. Only column 0 is small enough to go.
        let inputs = Mat::from_fn(2, 2, |i, j| [[1.0, 2.0], [0.0, 1.0]][i][j]);
        let weights = Mat::from_fn(1, 2, |_, j| [0.5, 3.0][j]);
        let solved = solve(weights, inputs.as_ref(), Sparsity::Share(0.5)).unwrap();
        // The minimum over w of (0.5, 3 − w) H (0.5, 3 − w)ᵀ is where 4 · 0.5 + 10.06 (3 − w) = 0.
        assert_eq!(solved[(0, 0)], 0.0);
        assert!(
            (solved[(0, 1)] - (3.0 + 2.0 / 10.06)).abs() < 1e-12,
            "{}",
            solved[(0, 1)]
        );
    }

    #[test]
    fn several_first_columns_leave_the_optimum_of_the_others() {
        let (inputs, weights) = (
            noise(40, 5),
            Mat::from_fn(1, 5, |_, j| [1e-3, 2e-3, 2.0, -3.0, 1.0][j]),
        );
        let solved = solve(weights.clone(), inputs.as_ref(), Sparsity::Share(0.4)).unwrap();
        assert_eq!((solved[(0, 0)], solved[(0, 1)]), (0.0, 0.0));
        // At the optimum the gradient H (w' − w) is zero for every column that stays.
        let gradient = hessian(inputs.as_ref()) * (solved - weights).transpose();
        assert!((2..5).all(|j| gradient[(j, 0)].abs() < 1e-10));
    }

    #[test]
    fn inputs_of_zeros_leave_magnitude() {
        let weights = Mat::from_fn(1, 4, |_, j| [4.0, 1.0, 3.0, 2.0][j]);
        let solved = solve(
            weights,
            Mat::zeros(3, 4).as_ref(),
            Sparsity::Pattern { kept: 1, of: 2 },
        )
        .unwrap();
        assert_eq!(
            (0..4).map(|j| solved[(0, j)]).collect::<Vec<_>>(),
            [4.0, 0.0, 3.0, 0.0]
        );
    }
}
