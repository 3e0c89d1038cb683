//! The head's loss on the CPU: logits of some rows at a time, which become the gradient where one is wanted.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Flex};
use rayon::prelude::*;

use super::rows_at_a_time;
use crate::matrix::{Onto, View};
use crate::memory::{dense, rows, slice, tensor};
use crate::simd::{exp, fold, vectorised};
use crate::weight::Matrix;

type Primitive = FloatTensor<Flex>;

/// Exponentials summed at a time.
const BLOCK: usize = 1024;

pub(crate) fn forward(states: &Primitive, weight: &Matrix<Flex>, targets: &[u32]) -> Primitive {
    run(states, weight, targets, None)
}

/// Losses and hits, [n, 2]; and into `grads` the derivative of each row's loss, [n, d].
fn run(
    states: &Primitive,
    weight: &Matrix<Flex>,
    targets: &[u32],
    mut grads: Option<&mut [f32]>,
) -> Primitive {
    let states = dense(states.clone());
    let [d, vocabulary] = weight.dims();
    let each = rows_at_a_time(targets.len(), vocabulary);
    let mut logits = vec![0.0; each.min(targets.len()) * vocabulary];
    let mut losses = vec![0.0; 2 * targets.len()];
    for (i, targets) in targets.chunks(each).enumerate() {
        let (start, n) = (i * each, targets.len());
        let logits = &mut logits[..n * vocabulary];
        let here = start * d..(start + n) * d;
        let x = View::new(&slice(&states)[here.clone()], [n, d], [d, 1]);
        weight.product(logits, Onto::Nothing, x);
        let pairs = losses[2 * start..].par_chunks_exact_mut(2).zip(targets);
        let tasks = logits.par_chunks_exact_mut(vocabulary).zip(pairs);
        tasks.for_each(|(row, (pair, &target))| {
            let target = target as usize;
            vectorised(
                #[inline(always)]
                || {
                    let (loss, hit) = loss(row, target, grads.is_some());
                    pair.copy_from_slice(&[loss, f32::from(u8::from(hit))]);
                },
            );
        });
        if let Some(grads) = &mut grads {
            weight.product_back(&mut grads[here], View::rows(logits, vocabulary));
        }
    }
    tensor(losses, [targets.len(), 2])
}

/// The loss of one row, and whether its target is the largest. The logits become exponentials, or else the loss's
/// `derivative`, softmax less one at the target.
#[inline(always)]
fn loss(row: &mut [f32], target: usize, derivative: bool) -> (f32, bool) {
    let found = row[target];
    let largest = fold(row, f32::MIN, |a, b| if b > a { b } else { a });
    row.iter_mut().for_each(|x| *x = exp(*x - largest));
    // In blocks, whose sums are few: a long sum in one go loses digits.
    let sum: f32 = row.chunks(BLOCK).map(|x| fold(x, 0.0, |a, b| a + b)).sum();
    if derivative {
        let scale = sum.recip();
        row.iter_mut().for_each(|x| *x *= scale);
        row[target] -= 1.0;
    }
    (largest - found + sum.ln(), found == largest)
}

#[derive(Debug)]
struct Losses;

impl Backward<Flex, 1> for Losses {
    /// The derivative of each row's loss, [n, d].
    type State = Primitive;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [parent] = ops.parents;
        let grad = dense(grads.consume::<Flex>(&ops.node));
        if let Some(parent) = parent {
            let (grad, d) = (slice(&grad), ops.state.layout().shape()[1]);
            let dx = rows(
                ops.state,
                d,
                #[inline(always)]
                |i, row| row.iter_mut().for_each(|x| *x *= grad[2 * i]),
            );
            grads.register::<Flex>(parent.id, dx);
        }
    }
}

pub(crate) fn tracked<C: CheckpointStrategy>(
    states: FloatTensor<Autodiff<Flex, C>>,
    weight: Matrix<Autodiff<Flex, C>>,
    targets: &[u32],
) -> FloatTensor<Autodiff<Flex, C>> {
    let node = [states.node()];
    let prep = Losses.prepare::<C>(node).compute_bound().stateful();
    let (states, weight) = (states.into_primitive(), weight.into_inner());
    match prep {
        OpsKind::Tracked(prep) => {
            let dims = [targets.len(), weight.dims()[0]];
            let mut grads = vec![0.0; dims[0] * dims[1]];
            let losses = run(&states, &weight, targets, Some(&mut grads));
            prep.finish(tensor(grads, dims), losses)
        }
        OpsKind::UnTracked(prep) => prep.finish(forward(&states, &weight, targets)),
    }
}
