//! The scaled linear on the CPU: no more than a tile of W, or of what scales it, is in memory.

use std::ops::Range;

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Flex};
use rayon::prelude::*;

use crate::linear::filled;
use crate::matrix::{Onto, View, product};
use crate::memory::{CHUNK, tensor};
use crate::simd::vectorised;
use crate::weight::Matrix;

type Primitive = FloatTensor<Flex>;

/// What both directions read.
#[derive(Debug, Clone)]
struct Saved {
    x: Primitive,
    weight: Matrix<Flex>,
    a: Primitive,
    b: Primitive,
    shift: f32,
}

/// s becomes (s + `shift`) ⊙ w.
fn scale(s: &mut [f32], shift: f32, w: &[f32]) {
    let tasks = s.par_chunks_mut(CHUNK).zip(w.par_chunks(CHUNK));
    tasks.for_each(|(s, w)| {
        vectorised(
            #[inline(always)]
            || s.iter_mut().zip(w).for_each(|(s, w)| *s = (*s + shift) * w),
        );
    });
}

impl Saved {
    /// Calls `work` with some columns at a time: which, the rows of Wᵀ, and those of (W ⊙ (c + A B))ᵀ, to be overwritten.
    fn tiles(&self, mut work: impl FnMut(Range<usize>, &[f32], &mut [f32])) {
        let (a, b) = (View::of(&self.a), View::of(&self.b));
        let inputs = a.dims()[0];
        let mut scaled = Vec::new();
        self.weight.transposed(|columns, weight| {
            scaled.resize(weight.len(), 0.0);
            let factor = b.columns(columns.clone()).t();
            product((&mut scaled, inputs), Onto::Nothing, 1.0, factor, a.t());
            scale(&mut scaled, self.shift, weight);
            work(columns, weight, &mut scaled);
        });
    }

    fn forward(&self, bias: &Primitive) -> Primitive {
        let x = View::of(&self.x);
        let ([rows, inputs], cols) = (x.dims(), self.weight.dims()[1]);
        let (mut out, onto) = filled([rows, cols], bias);
        self.tiles(|columns, _, scaled| {
            let scaled = View::rows(scaled, inputs).t();
            product((&mut out[columns.start..], cols), onto, 1.0, x, scaled);
        });
        tensor(out, [rows, cols])
    }

    /// With M = W ⊙ (c + A B) and D = (xᵀ g) ⊙ W: g Mᵀ, D Bᵀ, Aᵀ D.
    fn backward(&self, grad: &Primitive) -> [Primitive; 3] {
        let [x, a, b, grad] = [&self.x, &self.a, &self.b, grad].map(View::of);
        let shapes = [x, a, b].map(|view| view.dims());
        let [mut dx, mut da, mut db] = shapes.map(|[rows, cols]| vec![0.0; rows * cols]);
        let ([_, inputs], [rank, outputs]) = (shapes[0], shapes[2]);
        self.tiles(|columns, weight, scaled| {
            let (g, b) = (grad.columns(columns.clone()), b.columns(columns.clone()));
            let tile = View::rows(scaled, inputs);
            product((&mut dx, inputs), Onto::Old, 1.0, g, tile);
            product((&mut *scaled, inputs), Onto::Nothing, 1.0, g.t(), x);
            scale(scaled, 0.0, weight);
            let tile = View::rows(scaled, inputs).t();
            product((&mut da, rank), Onto::Old, 1.0, tile, b.t());
            let place = (&mut db[columns.start..], outputs);
            product(place, Onto::Nothing, 1.0, a.t(), tile);
        });
        let mut shapes = shapes.into_iter();
        [dx, da, db].map(|values| tensor(values, shapes.next().expect("three")))
    }
}

pub(crate) fn forward(
    x: Primitive,
    weight: Matrix<Flex>,
    bias: &Primitive,
    [a, b]: [Primitive; 2],
    shift: f32,
) -> Primitive {
    let saved = Saved {
        x,
        weight,
        a,
        b,
        shift,
    };
    saved.forward(bias)
}

#[derive(Debug)]
struct Hadamard;

impl Backward<Flex, 3> for Hadamard {
    type State = Saved;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<Flex>(&ops.node);
        let new = ops.state.backward(&grad);
        for (parent, grad) in ops.parents.into_iter().zip(new) {
            if let Some(parent) = parent {
                grads.register::<Flex>(parent.id, grad);
            }
        }
    }
}

pub(crate) fn tracked<C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<Flex, C>>,
    weight: Matrix<Autodiff<Flex, C>>,
    bias: FloatTensor<Autodiff<Flex, C>>,
    [a, b]: [FloatTensor<Autodiff<Flex, C>>; 2],
    shift: f32,
) -> FloatTensor<Autodiff<Flex, C>> {
    let nodes = [x.node(), a.node(), b.node()];
    let prep = Hadamard.prepare::<C>(nodes).compute_bound().stateful();
    let [x, bias, a, b] = [x, bias, a, b].map(|tensor| tensor.into_primitive());
    let saved = Saved {
        x,
        weight: weight.into_inner(),
        a,
        b,
        shift,
    };
    let y = saved.forward(&bias);
    match prep {
        OpsKind::Tracked(prep) => prep.finish(saved, y),
        OpsKind::UnTracked(prep) => prep.finish(y),
    }
}
