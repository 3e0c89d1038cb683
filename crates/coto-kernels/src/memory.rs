//! CPU tensors as slices: read, written in place where nobody else looks, and shared out over the cores.

use burn::backend::Flex;
use burn::backend::TensorMetadata;
use burn::backend::tensor::FloatTensor;
use burn::tensor::{Shape, TensorData};
use rayon::prelude::*;

use crate::simd::vectorised;

/// Elements one task works on: large enough to hide the hand-over, small enough to share out.
pub(crate) const CHUNK: usize = 16 * 1024;

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

/// The tensor in dense memory that nobody else holds; itself where it is.
pub(crate) fn own(x: FloatTensor<Flex>) -> FloatTensor<Flex> {
    let mut x = dense(x);
    if owned(&mut x).is_none() {
        x = tensor(slice(&x).to_vec(), x.shape());
    }
    x
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
    let xs = slice(&x).par_chunks(CHUNK);
    if let Some(values) = owned(&mut y) {
        values.par_chunks_mut(CHUNK).zip(xs).for_each(|(y, x)| {
            vectorised(
                #[inline(always)]
                || y.iter_mut().zip(x).for_each(|(y, &x)| *y = f(x, *y)),
            );
        });
        return y;
    }
    let mut output = vec![0.0; slice(&y).len()];
    let pairs = xs.zip(slice(&y).par_chunks(CHUNK));
    let tasks = output.par_chunks_mut(CHUNK).zip(pairs);
    tasks.for_each(|(out, (x, y))| {
        vectorised(
            #[inline(always)]
            || {
                let pairs = x.iter().zip(y);
                let all = out.iter_mut().zip(pairs);
                for (out, (&x, &y)) in all {
                    *out = f(x, y);
                }
            },
        );
    });
    tensor(output, y.shape())
}

/// `f(i, row)` in place of every row; in new memory where the old is shared.
pub(crate) fn rows(
    x: FloatTensor<Flex>,
    cols: usize,
    f: impl Fn(usize, &mut [f32]) + Send + Sync,
) -> FloatTensor<Flex> {
    let (mut x, each) = (dense(x), rows_a_task(cols));
    let task = |(i, rows): (usize, &mut [f32])| {
        vectorised(
            #[inline(always)]
            || {
                let rows = rows.chunks_exact_mut(cols.max(1)).enumerate();
                for (j, row) in rows {
                    f(i * each + j, row);
                }
            },
        );
    };
    let size = each * cols.max(1);
    if let Some(values) = owned(&mut x) {
        values.par_chunks_mut(size).enumerate().for_each(task);
        return x;
    }
    let mut output = vec![0.0; slice(&x).len()];
    let pairs = output.par_chunks_mut(size).zip(slice(&x).par_chunks(size));
    pairs.enumerate().for_each(|(i, (rows, old))| {
        rows.copy_from_slice(old);
        task((i, rows));
    });
    tensor(output, x.shape())
}

/// How many rows of a matrix make one task.
pub(crate) fn rows_a_task(cols: usize) -> usize {
    (CHUNK / cols.max(1)).max(1)
}
