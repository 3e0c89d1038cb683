//! CPU tensors as slices: read, written in place where nobody else looks, and shared out over the cores.

use burn::backend::Flex;
use burn::backend::TensorMetadata;
use burn::backend::tensor::FloatTensor;
use burn::tensor::{Shape, TensorData};
use rayon::prelude::*;

use crate::simd::vectorised;

/// Elements one task works on: large enough to hide the hand-over, small enough to share out.
const CHUNK: usize = 16 * 1024;

/// The tensor without gaps; itself where it has none.
pub(crate) fn dense(x: FloatTensor<Flex>) -> FloatTensor<Flex> {
    if x.as_slice::<f32>().is_some() {
        x
    } else {
        x.to_contiguous()
    }
}

/// The elements of a dense tensor.
pub(crate) fn slice(x: &FloatTensor<Flex>) -> &[f32] {
    x.as_slice::<f32>().expect("a dense f32 tensor")
}

/// The elements of a dense tensor that nobody else holds.
pub(crate) fn owned(x: &mut FloatTensor<Flex>) -> Option<&mut [f32]> {
    let (start, end) = x.layout().contiguous_offsets()?;
    Some(&mut x.try_storage_mut::<f32>()?[start..end])
}

/// A tensor of new elements.
pub(crate) fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> FloatTensor<Flex> {
    FloatTensor::<Flex>::from_data(TensorData::new(values, shape.into()))
}

/// `f(x)` in place of every x; in new memory where the old is shared.
pub(crate) fn map(
    x: FloatTensor<Flex>,
    f: impl Fn(f32) -> f32 + Copy + Send + Sync,
) -> FloatTensor<Flex> {
    let mut x = dense(x);
    if let Some(values) = owned(&mut x) {
        values.par_chunks_mut(CHUNK).for_each(|x| {
            vectorised(
                #[inline(always)]
                || x.iter_mut().for_each(|x| *x = f(*x)),
            );
        });
        return x;
    }
    let input = slice(&x);
    let mut output = vec![0.0; input.len()];
    let pairs = output.par_chunks_mut(CHUNK).zip(input.par_chunks(CHUNK));
    pairs.for_each(|(out, x)| {
        vectorised(
            #[inline(always)]
            || out.iter_mut().zip(x).for_each(|(o, &x)| *o = f(x)),
        );
    });
    tensor(output, x.shape())
}

/// `f(x, y)` in place of every y, shapes alike; in new memory where the old is shared.
pub(crate) fn zip(
    x: FloatTensor<Flex>,
    y: FloatTensor<Flex>,
    f: impl Fn(f32, f32) -> f32 + Copy + Send + Sync,
) -> FloatTensor<Flex> {
    let (x, mut y) = (dense(x), dense(y));
    if owned(&mut y).is_none() {
        y = tensor(slice(&y).to_vec(), y.shape());
    }
    let values = owned(&mut y).expect("just made");
    let pairs = values
        .par_chunks_mut(CHUNK)
        .zip(slice(&x).par_chunks(CHUNK));
    pairs.for_each(|(y, x)| {
        vectorised(
            #[inline(always)]
            || y.iter_mut().zip(x).for_each(|(y, &x)| *y = f(x, *y)),
        );
    });
    y
}

/// How many rows of a matrix make one task.
pub(crate) fn rows_a_task(cols: usize) -> usize {
    (CHUNK / cols.max(1)).max(1)
}
