//! The frozen linear with every number of its matrix scaled by a low-rank one's, x (W ⊙ (c + A B)) + b: what HiRA
//! (Huang et al., ICLR 2025) is made of.

use burn::tensor::Tensor;

use crate::{Weight, linear::plain as linear_plain};

#[cfg(feature = "flex")]
mod flex;
#[cfg(feature = "flex")]
pub(crate) use flex::{forward, tracked};

/// x (W ⊙ (c + A B)) + b; differentiable in x, A and B, W and b are constants.
///
/// # Shapes
/// `x` [rows, in], `weight` [in, out], `bias` (out), `a` [in, r], `b` [r, out], `shift` c → [rows, out].
pub fn hadamard_linear(
    x: Tensor<2>,
    weight: &Weight,
    bias: Option<Tensor<1>>,
    [a, b]: [Tensor<2>; 2],
    shift: f64,
) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if weight.fast() && [&x, &a, &b].into_iter().all(crate::fast) {
        use crate::ops::KernelOps;
        use burn::backend::Dispatch;
        let bias = crate::linear::given(bias, &x).into_dispatch();
        let [x, a, b] = [x, a, b].map(Tensor::into_dispatch);
        let y = Dispatch::hadamard_linear(x, weight.matrix(), bias, a, b, shift as f32);
        return Tensor::from_dispatch(y);
    }
    plain(x, weight, bias, [a, b], shift)
}

fn plain(
    x: Tensor<2>,
    weight: &Weight,
    bias: Option<Tensor<1>>,
    [a, b]: [Tensor<2>; 2],
    shift: f64,
) -> Tensor<2> {
    let scaled = (a.matmul(b) + shift) * weight.dense();
    linear_plain(x, &scaled.into(), bias)
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::Scheme;
    use crate::testing::{agree, quantised, random};

    fn both(x: Tensor<2>, weight: Weight, rank: usize, shift: f64) {
        let [width, out] = weight.dims();
        for bias in [None, Some(random([1, out]).squeeze_dim::<1>(0))] {
            let [ours, theirs] = [hadamard_linear, plain].map(|form| {
                let (weight, bias) = (weight.clone(), bias.clone());
                move |[x, a, b]: [Tensor<2>; 3]| form(x, &weight, bias.clone(), [a, b], shift)
            });
            let factors = [random([width, rank]), random([rank, out])];
            let [a, b] = factors;
            agree([x.clone(), a, b], ours, theirs, 2e-5);
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(40))]
        #[test]
        fn products_and_their_gradients_are_the_primitive_ones(
            rows in 1usize..60, width in 1usize..60, out in 1usize..60, rank in 1usize..9, shift in 0usize..2,
        ) {
            let shift = shift as f64;
            both(random([rows, width]), random([width, out]).into(), rank, shift);
            both(random([width, rows]).transpose(), random([out, width]).transpose().into(), rank, shift);
            both(random([rows, width]), quantised(Scheme::Nf4, [width, out]), rank, shift);
        }
    }

    #[test]
    fn matrices_may_be_larger_than_a_tile() {
        both(random([3, 999]), random([999, 700]).into(), 2, 1.0);
        both(random([3, 999]), quantised(Scheme::Q8, [999, 700]), 2, 0.0);
    }
}
