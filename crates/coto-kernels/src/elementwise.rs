//! Element-wise loops over CPU tensors: vectorised by run-time dispatch, spread over the cores.

use burn::backend::Flex;
use burn::backend::TensorMetadata;
use burn::backend::tensor::FloatTensor;
use burn::tensor::{DType, TensorData};
use rayon::prelude::*;

/// Elements one task works on: large enough to hide the hand-over, small enough to share out.
const CHUNK: usize = 16 * 1024;

/// `f` of every element of `x`; `None` unless the tensor is f32.
pub(crate) fn map(
    x: &FloatTensor<Flex>,
    f: impl Fn(f32) -> f32 + Copy + Send + Sync,
) -> Option<FloatTensor<Flex>> {
    if x.dtype() != DType::F32 {
        return None;
    }
    let x = x.to_contiguous();
    let input = x.storage::<f32>();
    let start = x.layout().start_offset();
    let input = &input[start..start + x.layout().num_elements()];
    let mut output = vec![0.0; input.len()];
    output
        .par_chunks_mut(CHUNK)
        .zip(input.par_chunks(CHUNK))
        .for_each(|(out, x)| {
            pulp::Arch::new().dispatch(
                #[inline(always)]
                || out.iter_mut().zip(x).for_each(|(o, &x)| *o = f(x)),
            )
        });
    Some(tensor(output, &x))
}

/// `f` of every pair of elements of `x` and `y`, which have one shape; `None` unless both are f32.
pub(crate) fn zip(
    x: &FloatTensor<Flex>,
    y: &FloatTensor<Flex>,
    f: impl Fn(f32, f32) -> f32 + Copy + Send + Sync,
) -> Option<FloatTensor<Flex>> {
    if x.dtype() != DType::F32 || y.dtype() != DType::F32 {
        return None;
    }
    let (x, y) = (x.to_contiguous(), y.to_contiguous());
    let (xs, ys) = (x.layout().start_offset(), y.layout().start_offset());
    let len = x.layout().num_elements();
    let (a, b) = (
        &x.storage::<f32>()[xs..xs + len],
        &y.storage::<f32>()[ys..ys + len],
    );
    let mut output = vec![0.0; len];
    output
        .par_chunks_mut(CHUNK)
        .zip(a.par_chunks(CHUNK).zip(b.par_chunks(CHUNK)))
        .for_each(|(out, (a, b))| {
            pulp::Arch::new().dispatch(
                #[inline(always)]
                || {
                    out.iter_mut()
                        .zip(a)
                        .zip(b)
                        .for_each(|((o, &a), &b)| *o = f(a, b));
                },
            )
        });
    Some(tensor(output, &x))
}

fn tensor(values: Vec<f32>, like: &FloatTensor<Flex>) -> FloatTensor<Flex> {
    FloatTensor::<Flex>::from_data(TensorData::new(values, like.shape()))
}
