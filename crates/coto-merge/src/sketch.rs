use coto_coalition::stream;
use coto_lowrank::faer::{Mat, MatRef};
use coto_lowrank::{Error, LowRank};
use rand::RngExt;

/// Below this the singular values are computed whole.
const WHOLE: usize = 512;

/// Columns drawn beyond the rank, and rounds of subspace iteration: with four rounds the error is as a rule within a hundredth of
/// the least there is, even for an update whose singular values fall slowly.
const SPARE: usize = 16;
const ROUNDS: usize = 4;

/// The nearest update of at most this rank and its distance over the update's norm.
///
/// Exact where the update or the module is small; else nearly, by randomised subspace iteration (Halko, Martinsson and Tropp, SIAM
/// Review 53, 2011, algorithm 4.4), with the distance of what was found.
pub(crate) fn nearest(update: &LowRank, rank: usize, seed: u64) -> Result<(LowRank, f64), Error> {
    let [out, input] = update.dims();
    let sketch = rank + SPARE;
    if rank == 0 || update.rank().min(out).min(input) <= WHOLE.max(2 * sketch) {
        return update.compressed(rank);
    }
    let mut stream = stream(seed, "sketch");
    let mut basis = Mat::from_fn(input, sketch, |_, _| stream.random::<f64>() - 0.5);
    for _ in 0..=ROUNDS {
        let image = (update.b() * (update.a() * basis)).qr().compute_thin_Q();
        basis = (update.a().transpose() * (update.b().transpose() * &image))
            .qr()
            .compute_thin_Q();
    }
    let inside = LowRank::new(
        basis.transpose().to_owned(),
        update.b() * (update.a() * &basis),
    )?;
    let (small, _) = inside.compressed(rank)?;
    // The part inside of a subspace is orthogonal to the rest, so the squares of the norms differ by the square of the distance.
    let (all, kept) = (norm(update).powi(2), small.norm().powi(2));
    let error = if all > 0.0 {
        ((all - kept).max(0.0) / all).sqrt()
    } else {
        0.0
    };
    Ok((small, error))
}

/// The norm, also of an update written out in full, with a multiple of the identity for a factor: there the products of the factors
/// would cost more than the sketch.
fn norm(update: &LowRank) -> f64 {
    match (identity(update.a()), identity(update.b())) {
        (Some(by), _) => by.abs() * update.b().norm_l2(),
        (_, Some(by)) => by.abs() * update.a().norm_l2(),
        _ => update.norm(),
    }
}

/// What the identity is multiplied by, of a matrix that is a multiple of it.
fn identity(matrix: MatRef<f64>) -> Option<f64> {
    let by = matrix[(0, 0)];
    let is = |i: usize, j: usize| matrix[(i, j)] == if i == j { by } else { 0.0 };
    let square = matrix.nrows() == matrix.ncols();
    let all = square && (0..matrix.ncols()).all(|j| (0..matrix.nrows()).all(|i| is(i, j)));
    all.then_some(by)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sketch_is_nearly_as_near_as_the_nearest_and_says_how_near() {
        // Singular values that fall slowly: 1, 1/2, 1/3, ...
        let mut stream = stream(7, "test");
        let mut noise = |n| Mat::from_fn(n, n, |_, _| stream.random::<f64>() - 0.5);
        let n = 640;
        let (u, v) = (noise(n).qr().compute_Q(), noise(n).qr().compute_Q());
        let u = Mat::from_fn(n, n, |i, k| u[(i, k)] / (k + 1) as f64);
        let update = LowRank::new(v.transpose().to_owned(), u).unwrap();
        let square = |from: usize| {
            (from..n)
                .map(|k| 1.0 / ((k + 1) as f64).powi(2))
                .sum::<f64>()
        };
        let least = (square(20) / square(0)).sqrt();
        let (small, error) = nearest(&update, 20, 1).unwrap();
        assert_eq!(small.rank(), 20);
        let apart = LowRank::sum(&[(&update, 1.0), (&small, -1.0)]).unwrap();
        assert!((apart.norm() / update.norm() - error).abs() < 1e-9);
        assert!(least <= error && error < 1.01 * least, "{least} {error}");
        // The same written out.
        let whole = update.b() * update.a();
        for written in [
            (Mat::identity(n, n), whole.clone()),
            (whole, Mat::identity(n, n)),
        ] {
            let written = LowRank::new(written.0, written.1).unwrap().scaled(3.0);
            let (_, again) = nearest(&written, 20, 1).unwrap();
            assert!((again - error).abs() < 1e-6, "{again} {error}");
        }
    }
}
