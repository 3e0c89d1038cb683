//! The frozen linear, x W + b, alone and with a low-rank branch, s·(x A) B.

use burn::tensor::Tensor;

use crate::Weight;

#[cfg(feature = "flex")]
mod flex;
#[cfg(feature = "flex")]
pub(crate) use flex::{filled, forward, low_rank_forward, low_rank_tracked, tracked};

/// x W + b; differentiable in x alone, W and b are constants.
///
/// # Shapes
/// `x` [rows, in], `weight` [in, out], `bias` (out) → [rows, out].
pub fn linear(x: Tensor<2>, weight: &Weight, bias: Option<Tensor<1>>) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if crate::fast(&x) && weight.fast() {
        use crate::ops::KernelOps;
        use burn::backend::Dispatch;
        let bias = given(bias, &x).into_dispatch();
        let y = Dispatch::frozen_linear(x.into_dispatch(), weight.matrix(), bias);
        return Tensor::from_dispatch(y);
    }
    plain(x, weight, bias)
}

/// The bias; one without elements where there is none.
#[cfg(feature = "flex")]
pub(crate) fn given(bias: Option<Tensor<1>>, x: &Tensor<2>) -> Tensor<1> {
    bias.unwrap_or_else(|| Tensor::empty([0], &x.device().without_autodiff()))
}

pub(crate) fn plain(x: Tensor<2>, weight: &Weight, bias: Option<Tensor<1>>) -> Tensor<2> {
    let y = x.matmul(weight.dense());
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
    weight: &Weight,
    bias: Option<Tensor<1>>,
    [a, b]: [Tensor<2>; 2],
    scale: f64,
) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if weight.fast() && [&x, &a, &b].into_iter().all(crate::fast) {
        use crate::ops::KernelOps;
        use burn::backend::Dispatch;
        let bias = given(bias, &x).into_dispatch();
        let [x, a, b] = [x, a, b].map(Tensor::into_dispatch);
        let y = Dispatch::low_rank_linear(x, weight.matrix(), bias, a, b, scale as f32);
        return Tensor::from_dispatch(y);
    }
    low_rank_plain(x, weight, bias, [a, b], scale)
}

fn low_rank_plain(
    x: Tensor<2>,
    weight: &Weight,
    bias: Option<Tensor<1>>,
    [a, b]: [Tensor<2>; 2],
    scale: f64,
) -> Tensor<2> {
    let update = x.clone().matmul(a).mul_scalar(scale).matmul(b);
    plain(x, weight, bias) + update
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::Scheme;
    use crate::testing::{agree, quantised, random};

    fn both(x: Tensor<2>, out: usize, rank: usize, biased: bool) {
        let dims = [x.dims()[1], out];
        let dense = random([out, dims[0]]).transpose().into();
        let schemes = [Scheme::Q8, Scheme::Q4, Scheme::Nf4];
        let weights = schemes.map(|scheme| quantised(scheme, dims));
        for weight in weights.into_iter().chain([dense]) {
            both_with(x.clone(), weight, rank, biased);
        }
    }

    fn both_with(x: Tensor<2>, weight: Weight, rank: usize, biased: bool) {
        let [width, out] = weight.dims();
        let bias = biased.then(|| random([1, out]).squeeze_dim::<1>(0));
        let [ours, theirs] = [linear, plain].map(|form| {
            let (weight, bias) = (weight.clone(), bias.clone());
            move |[x]: [Tensor<2>; 1]| form(x, &weight, bias.clone())
        });
        agree([x.clone()], ours, theirs, 2e-5);
        let [ours, theirs] = [low_rank_linear, low_rank_plain].map(|form| {
            let (weight, bias) = (weight.clone(), bias.clone());
            move |[x, a, b]: [Tensor<2>; 3]| form(x, &weight, bias.clone(), [a, b], 0.7)
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
    fn matrices_that_lie_badly_are_copied() {
        // As they are stored forwards, and their transposes backwards; in one tile, and in two.
        for [rows, width, out] in [[20, 256, 300], [16, 1024, 1100]] {
            both(random([rows, width]), out, 2, true);
            both_with(random([rows, out]), random([out, width]).into(), 2, false);
        }
    }

    #[test]
    fn single_rows_are_rows_too() {
        for biased in [false, true] {
            both(random([1, 96]), 70, 2, biased);
            both(
                random([96, 3]).transpose().slice([1..2, 0..96]),
                70,
                2,
                biased,
            );
        }
    }

    #[test]
    fn a_quantised_matrix_may_be_larger_than_a_tile() {
        both(random([3, 999]), 1100, 2, true);
        both(random([3, 300_000]), 4, 2, false);
    }

    #[test]
    fn a_constant_input_gets_no_gradient_and_the_factors_do() {
        let (x, weight) = (random([5, 4]), random([4, 3]).into());
        let [a, b] = [random([4, 2]), random([2, 3])].map(|t| t.autodiff().require_grad());
        let y = low_rank_linear(x, &weight, None, [a.clone(), b.clone()], 1.0);
        let grads = y.sum().backward();
        assert!(a.grad(&grads).is_some() && b.grad(&grads).is_some());
    }
}
