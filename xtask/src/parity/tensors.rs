//! Matrices from and to the files that the two sides exchange.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use burn::tensor::{Device, Tensor, TensorData};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

/// The matrices of a file, by name; integers as floats, which hold every token's number exactly.
pub fn read(path: &Path) -> Result<BTreeMap<String, Tensor<2>>> {
    let named = || path.display().to_string();
    let bytes = std::fs::read(path).with_context(named)?;
    let file = SafeTensors::deserialize(&bytes).with_context(named)?;
    let matrix = |(name, view): (&str, TensorView)| {
        let matrix = matrix(&view).with_context(|| format!("{}: {name}", named()))?;
        Ok((name.to_owned(), matrix))
    };
    file.iter().map(matrix).collect()
}

fn matrix(view: &TensorView) -> Result<Tensor<2>> {
    let words = view.data().as_chunks::<4>().0.iter();
    let values: Vec<f32> = match view.dtype() {
        Dtype::F32 => words.map(|&word| f32::from_le_bytes(word)).collect(),
        Dtype::I32 => words.map(|&word| i32::from_le_bytes(word) as f32).collect(),
        dtype => bail!("unexpected type {dtype:?}"),
    };
    let shape: [usize; 2] = view.shape().try_into().context("not a matrix")?;
    Ok(Tensor::from_data(
        TensorData::new(values, shape),
        &Device::flex(),
    ))
}

/// The elements, row by row.
pub fn values(matrix: Tensor<2>) -> Result<Vec<f32>> {
    let data = matrix.into_data().convert::<f32>();
    data.try_into_vec()
        .map_err(|error| anyhow::anyhow!("{error:?}"))
}

/// The largest difference between two elements; not a number if any is not.
pub fn distance(left: &Tensor<2>, right: &Tensor<2>) -> Result<f32> {
    ensure!(
        left.dims() == right.dims(),
        "shapes differ: {:?} and {:?}",
        left.dims(),
        right.dims()
    );
    let (left, right) = (values(left.clone())?, values(right.clone())?);
    let differences = left.iter().zip(&right).map(|(l, r)| (l - r).abs());
    Ok(differences.max_by(f32::total_cmp).unwrap_or(0.0))
}
