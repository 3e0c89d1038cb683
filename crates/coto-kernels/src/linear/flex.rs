//! The frozen linear on the CPU: a quantised matrix is dequantised tile by tile.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Flex};
use rayon::prelude::*;

use crate::matrix::{Onto, View, product};
use crate::memory::{dense, rows_a_task, slice, tensor};
use crate::weight::Matrix;

type Primitive = FloatTensor<Flex>;

/// A place for a linear's output: the bias in every row, to be added to, or nothing.
pub(crate) fn filled([rows, cols]: [usize; 2], bias: &Primitive) -> (Vec<f32>, Onto) {
    let mut out = vec![0.0; rows * cols];
    let bias = dense(bias.clone());
    let bias = slice(&bias);
    if bias.is_empty() {
        return (out, Onto::Nothing);
    }
    let tasks = out.par_chunks_mut(rows_a_task(cols) * cols);
    tasks.for_each(|rows| {
        let rows = rows.chunks_mut(cols);
        rows.for_each(|row| row.copy_from_slice(bias));
    });
    (out, Onto::Old)
}

pub(crate) fn forward(x: &Primitive, weight: &Matrix<Flex>, bias: &Primitive) -> Primitive {
    let x = View::of(x);
    let dims = [x.dims()[0], weight.dims()[1]];
    let (mut out, onto) = filled(dims, bias);
    weight.product(&mut out, onto, x);
    tensor(out, dims)
}

/// g Wᵀ in new memory.
fn backward(grad: View, weight: &Matrix<Flex>) -> Primitive {
    let [rows, cols] = [grad.dims()[0], weight.dims()[0]];
    let mut out = vec![0.0; rows * cols];
    weight.product_back(&mut out, grad);
    tensor(out, [rows, cols])
}

/// a b in new memory.
fn matmul(scale: f32, a: View, b: View) -> Primitive {
    let [rows, cols] = [a.dims()[0], b.dims()[1]];
    let mut out = vec![0.0; rows * cols];
    product((&mut out, cols), Onto::Nothing, scale, a, b);
    tensor(out, [rows, cols])
}

/// The output and x A.
pub(crate) fn low_rank_forward(
    x: &Primitive,
    weight: &Matrix<Flex>,
    bias: &Primitive,
    a: &Primitive,
    b: &Primitive,
    scale: f32,
) -> (Primitive, Primitive) {
    let mut y = forward(x, weight, bias);
    let xa = matmul(1.0, View::of(x), View::of(a));
    add(&mut y, scale, View::of(&xa), View::of(b));
    (y, xa)
}

/// y + `scale`·a b, in place.
fn add(y: &mut Primitive, scale: f32, a: View, b: View) {
    let cols = b.dims()[1];
    let y = y.storage_mut::<f32>();
    product((y, cols), Onto::Old, scale, a, b);
}

#[derive(Debug)]
struct Linear;

impl Backward<Flex, 1> for Linear {
    type State = Matrix<Flex>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [parent] = ops.parents;
        let grad = grads.consume::<Flex>(&ops.node);
        if let Some(x) = parent {
            let dx = backward(View::of(&grad), &ops.state);
            grads.register::<Flex>(x.id, dx);
        }
    }
}

pub(crate) fn tracked<C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<Flex, C>>,
    weight: Matrix<Autodiff<Flex, C>>,
    bias: FloatTensor<Autodiff<Flex, C>>,
) -> FloatTensor<Autodiff<Flex, C>> {
    let prep = Linear.prepare::<C>([x.node()]).compute_bound().stateful();
    let (weight, bias) = (weight.into_inner(), bias.into_primitive());
    let y = forward(&x.into_primitive(), &weight, &bias);
    match prep {
        OpsKind::Tracked(prep) => prep.finish(weight, y),
        OpsKind::UnTracked(prep) => prep.finish(y),
    }
}

#[derive(Debug)]
struct LowRank;

#[derive(Debug, Clone)]
struct Saved {
    x: Primitive,
    xa: Primitive,
    weight: Matrix<Flex>,
    a: Primitive,
    b: Primitive,
    scale: f32,
}

impl Backward<Flex, 3> for LowRank {
    type State = Saved;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [x, a, b] = ops.parents;
        let saved = ops.state;
        let grad = grads.consume::<Flex>(&ops.node);
        let grad = View::of(&grad);
        // s·g Bᵀ, [rows, r].
        let inner = matmul(saved.scale, grad, View::of(&saved.b).t());
        if let Some(x) = x {
            let mut dx = backward(grad, &saved.weight);
            add(&mut dx, 1.0, View::of(&inner), View::of(&saved.a).t());
            grads.register::<Flex>(x.id, dx);
        }
        if let Some(a) = a {
            let da = matmul(1.0, View::of(&saved.x).t(), View::of(&inner));
            grads.register::<Flex>(a.id, da);
        }
        if let Some(b) = b {
            let db = matmul(saved.scale, View::of(&saved.xa).t(), grad);
            grads.register::<Flex>(b.id, db);
        }
    }
}

pub(crate) fn low_rank_tracked<C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<Flex, C>>,
    weight: Matrix<Autodiff<Flex, C>>,
    bias: FloatTensor<Autodiff<Flex, C>>,
    a: FloatTensor<Autodiff<Flex, C>>,
    b: FloatTensor<Autodiff<Flex, C>>,
    scale: f32,
) -> FloatTensor<Autodiff<Flex, C>> {
    let nodes = [x.node(), a.node(), b.node()];
    let prep = LowRank.prepare::<C>(nodes).compute_bound().stateful();
    let [x, bias, a, b] = [x, bias, a, b].map(|tensor| tensor.into_primitive());
    let weight = weight.into_inner();
    let (y, xa) = low_rank_forward(&x, &weight, &bias, &a, &b, scale);
    match prep {
        OpsKind::Tracked(prep) => {
            let saved = Saved {
                x,
                xa,
                weight,
                a,
                b,
                scale,
            };
            prep.finish(saved, y)
        }
        OpsKind::UnTracked(prep) => prep.finish(y),
    }
}
