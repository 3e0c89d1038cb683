//! Rules for entries, and what they share.

mod angular;
mod consensus;
mod linear;
mod sce;
mod sparse;
mod sparsify;
#[cfg(test)]
mod tests;

pub use angular::{ModelStock, Slerp};
pub use consensus::{Consensus, Majority, TiesFlavour};
pub use linear::Linear;
pub use sce::Sce;
pub use sparse::Sparse;
pub use sparsify::{Rescale, Sparsify};

use coto_lowrank::Matrix;
use rayon::prelude::*;

use crate::{Error, Weighted};

/// Entries that one thread takes at a time.
const CHUNK: usize = 1 << 14;

fn refused(reason: String) -> Error {
    let module = String::new();
    Error::Refused { module, reason }
}

/// A share of a whole: in (0, 1].
fn share(name: &str, value: f64) -> Result<(), Error> {
    if value > 0.0 && value <= 1.0 {
        return Ok(());
    }
    Err(refused(format!(
        "{name} {value}: it is a share, above 0 and at most 1"
    )))
}

fn finite(name: &str, value: f64) -> Result<(), Error> {
    if value.is_finite() {
        return Ok(());
    }
    Err(refused(format!("{name} {value}: it must be finite")))
}

/// The weights of parts that can be merged: at least one, of one shape, all numbers finite.
fn weights(parts: &[Weighted]) -> Result<Vec<f64>, Error> {
    let first = &parts.first().ok_or(Error::Empty)?.matrix;
    for (k, part) in parts.iter().enumerate() {
        finite(&format!("weight of matrix {k}:"), part.weight)?;
        let matrix = &part.matrix;
        if (matrix.rows(), matrix.cols()) != (first.rows(), first.cols()) {
            return Err(Error::LowRank(coto_lowrank::Error::Shape {
                what: "update",
                found: [matrix.rows(), matrix.cols()],
                expected: [first.rows(), first.cols()],
            }));
        }
        let values = matrix.values();
        if let Some(at) = values.par_iter().position_first(|x| !x.is_finite()) {
            let (row, col) = (at / matrix.cols(), at % matrix.cols());
            return Err(refused(format!(
                "matrix {k} is {} at [{row}, {col}]",
                values[at]
            )));
        }
    }
    Ok(parts.iter().map(|part| part.weight).collect())
}

/// The matrix whose entries a function makes of the matrices' entries at the same place.
fn entrywise(matrices: &[&Matrix], entry: impl Fn(&[f64]) -> f64 + Sync) -> Matrix {
    let first = matrices[0];
    let mut merged = Matrix::zeros(first.rows(), first.cols());
    let chunks = merged.values_mut().par_chunks_mut(CHUNK).enumerate();
    chunks.for_each(|(chunk, merged)| {
        let mut values = vec![0.0; matrices.len()];
        for (i, merged) in merged.iter_mut().enumerate() {
            gather(matrices, chunk * CHUNK + i, &mut values);
            *merged = entry(&values) as f32;
        }
    });
    merged
}

/// The sum over all places of what a function makes of the matrices' entries there.
fn total(matrices: &[&Matrix], entry: impl Fn(&[f64]) -> i64 + Sync) -> i64 {
    let count = matrices[0].values().len();
    let places = (0..count).into_par_iter().with_min_len(CHUNK);
    let sum = places.map_init(
        || vec![0.0; matrices.len()],
        |values, at| {
            gather(matrices, at, values);
            entry(values)
        },
    );
    sum.sum()
}

fn gather(matrices: &[&Matrix], at: usize, values: &mut [f64]) {
    for (value, matrix) in values.iter_mut().zip(matrices) {
        *value = f64::from(matrix.values()[at]);
    }
}

/// Σ cₖ τₖ.
fn combination(parts: &[Weighted], coefficients: &[f64]) -> Matrix {
    let matrices: Vec<&Matrix> = parts.iter().map(|part| &part.matrix).collect();
    entrywise(&matrices, |values| dot(values, coefficients))
}

fn dot(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}

/// ⟨τⱼ, τₖ⟩ of all pairs.
fn gram(parts: &[Weighted]) -> Vec<Vec<f64>> {
    let inner = |j: usize, k: usize| -> f64 {
        let pair = [j, k].map(|k| parts[k].matrix.values().par_chunks(CHUNK));
        let [x, y] = pair;
        // Chunk by chunk in order: the sum is the same for any number of threads.
        let chunks: Vec<f64> = x
            .zip(y)
            .map(|(x, y)| {
                let products = x.iter().zip(y).map(|(&x, &y)| f64::from(x) * f64::from(y));
                products.sum::<f64>()
            })
            .collect();
        chunks.iter().sum()
    };
    let n = parts.len();
    let half: Vec<Vec<f64>> = (0..n)
        .map(|j| (0..=j).map(|k| inner(j, k)).collect())
        .collect();
    let row = |j: usize| (0..n).map(|k| half[j.max(k)][j.min(k)]).collect();
    (0..n).map(row).collect()
}
