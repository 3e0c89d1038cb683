//! The frozen linear, x W + b, alone and with a low-rank branch, s·(x A) B.

use burn::tensor::Tensor;

#[cfg(feature = "flex")]
pub(crate) use flex::{forward, low_rank_forward, low_rank_tracked, tracked};

/// x W + b; differentiable in x alone, W and b are constants.
///
/// # Shapes
/// `x` [rows, in], `weight` [in, out], `bias` (out) → [rows, out].
pub fn linear(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if crate::fast(&x) && crate::fast(&weight) {
        use crate::ops::KernelOps;
        use burn::backend::Dispatch;
        let bias = given(bias, &x).into_dispatch();
        let y = Dispatch::frozen_linear(x.into_dispatch(), weight.into_dispatch(), bias);
        return Tensor::from_dispatch(y);
    }
    plain(x, weight, bias)
}

/// The bias; one without elements where there is none.
#[cfg(feature = "flex")]
fn given(bias: Option<Tensor<1>>, x: &Tensor<2>) -> Tensor<1> {
    bias.unwrap_or_else(|| Tensor::empty([0], &x.device().without_autodiff()))
}

fn plain(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
    let y = x.matmul(weight);
    match bias {
        Some(bias) => y + bias.unsqueeze(),
        None => y,
    }
}

/// x W + b + s·(x A) B; differentiable in x, A and B, W and b are constants. No product of W's size is formed.
///
/// # Shapes
/// `x` [rows, in], `weight` [in, out], `bias` (out), `a` [in, r], `b` [r, out] → [rows, out].
pub fn low_rank_linear(
    x: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    [a, b]: [Tensor<2>; 2],
    scale: f64,
) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if [&x, &weight, &a, &b].into_iter().all(crate::fast) {
        use crate::ops::KernelOps;
        use burn::backend::Dispatch;
        let bias = given(bias, &x).into_dispatch();
        let [x, weight, a, b] = [x, weight, a, b].map(Tensor::into_dispatch);
        let y = Dispatch::low_rank_linear(x, weight, bias, a, b, scale as f32);
        return Tensor::from_dispatch(y);
    }
    low_rank_plain(x, weight, bias, [a, b], scale)
}

fn low_rank_plain(
    x: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    [a, b]: [Tensor<2>; 2],
    scale: f64,
) -> Tensor<2> {
    let update = x.clone().matmul(a).mul_scalar(scale).matmul(b);
    plain(x, weight, bias) + update
}

#[cfg(feature = "flex")]
mod flex {
    use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
    use burn::backend::autodiff::grads::Gradients;
    use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
    use burn::backend::tensor::FloatTensor;
    use burn::backend::{Autodiff, Flex};
    use rayon::prelude::*;

    use crate::matrix::{Onto, View, product};
    use crate::memory::{dense, rows_a_task, slice, tensor};

    type Primitive = FloatTensor<Flex>;

    pub(crate) fn forward(x: &Primitive, weight: &Primitive, bias: &Primitive) -> Primitive {
        let (x, weight) = (View::of(x), View::of(weight));
        let [rows, cols] = [x.dims()[0], weight.dims()[1]];
        let mut out = vec![0.0; rows * cols];
        let bias = dense(bias.clone());
        let bias = slice(&bias);
        let onto = if bias.is_empty() {
            Onto::Nothing
        } else {
            out.par_chunks_mut(rows_a_task(cols) * cols)
                .for_each(|rows| {
                    rows.chunks_mut(cols)
                        .for_each(|row| row.copy_from_slice(bias))
                });
            Onto::Old
        };
        product((&mut out, cols), onto, 1.0, x, weight);
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
        weight: &Primitive,
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
        /// W.
        type State = Primitive;

        fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
            let [parent] = ops.parents;
            let grad = grads.consume::<Flex>(&ops.node);
            if let Some(x) = parent {
                let dx = matmul(1.0, View::of(&grad), View::of(&ops.state).t());
                grads.register::<Flex>(x.id, dx);
            }
        }
    }

    pub(crate) fn tracked<C: CheckpointStrategy>(
        x: FloatTensor<Autodiff<Flex, C>>,
        weight: FloatTensor<Autodiff<Flex, C>>,
        bias: FloatTensor<Autodiff<Flex, C>>,
    ) -> FloatTensor<Autodiff<Flex, C>> {
        let prep = Linear.prepare::<C>([x.node()]).compute_bound().stateful();
        let (weight, bias) = (weight.into_primitive(), bias.into_primitive());
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
        weight: Primitive,
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
                let mut dx = matmul(1.0, grad, View::of(&saved.weight).t());
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
        weight: FloatTensor<Autodiff<Flex, C>>,
        bias: FloatTensor<Autodiff<Flex, C>>,
        a: FloatTensor<Autodiff<Flex, C>>,
        b: FloatTensor<Autodiff<Flex, C>>,
        scale: f32,
    ) -> FloatTensor<Autodiff<Flex, C>> {
        let nodes = [x.node(), a.node(), b.node()];
        let prep = LowRank.prepare::<C>(nodes).compute_bound().stateful();
        let [x, weight, a, b] = [x, weight, a, b].map(|tensor| tensor.into_primitive());
        let bias = bias.into_primitive();
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
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::testing::{agree, random};

    fn both(x: Tensor<2>, out: usize, rank: usize, biased: bool) {
        let width = x.dims()[1];
        let weight = random([out, width]).transpose();
        let bias = biased.then(|| random([1, out]).squeeze_dim::<1>(0));
        let [ours, theirs] = [linear, plain].map(|form| {
            let (weight, bias) = (weight.clone(), bias.clone());
            move |[x]: [Tensor<2>; 1]| form(x, weight.clone(), bias.clone())
        });
        agree([x.clone()], ours, theirs, 2e-5);
        let [ours, theirs] = [low_rank_linear, low_rank_plain].map(|form| {
            let (weight, bias) = (weight.clone(), bias.clone());
            move |[x, a, b]: [Tensor<2>; 3]| form(x, weight.clone(), bias.clone(), [a, b], 0.7)
        });
        agree(
            [x, random([width, rank]), random([rank, out])],
            ours,
            theirs,
            2e-5,
        );
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(40))]
        #[test]
        fn linears_and_their_gradients_are_the_primitive_ones(
            rows in 1usize..60, width in 1usize..60, out in 1usize..60, rank in 1usize..9, biased: bool,
        ) {
            both(random([rows, width]), out, rank, biased);
            both(random([width, rows]).transpose(), out, rank, biased);
            both(random([rows + 3, width + 2]).slice([3..rows + 3, 1..width + 1]), out, rank, biased);
        }
    }

    #[test]
    fn large_products_are_shared_out() {
        both(random([300, 200]), 250, 8, true);
    }

    #[test]
    fn a_constant_input_gets_no_gradient_and_the_factors_do() {
        let (x, weight) = (random([5, 4]), random([4, 3]));
        let [a, b] = [random([4, 2]), random([2, 3])].map(|t| t.autodiff().require_grad());
        let y = low_rank_linear(x, weight, None, [a.clone(), b.clone()], 1.0);
        let grads = y.sum().backward();
        assert!(a.grad(&grads).is_some() && b.grad(&grads).is_some());
    }
}
