//! Exact GELU (Hendrycks and Gimpel, arXiv 1606.08415): x·Φ(x), Φ the normal distribution function.

use burn::tensor::Tensor;

#[cfg(feature = "flex")]
pub(crate) use flex::{forward, tracked};

/// Exact GELU of every element, differentiable.
///
/// On the CPU Φ comes from Abramowitz and Stegun's formula 7.1.26, whose absolute error is below 1.5e-7.
///
/// # Shapes
/// `[..]` → the same.
pub fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if crate::fast(&x) {
        use crate::ops::KernelOps;
        use burn::backend::Dispatch;
        return Tensor::from_dispatch(Dispatch::gelu_exact(x.into_dispatch()));
    }
    plain(x)
}

/// Not burn's own, whose derivative is that of the tanh approximation on the GPU backends: 5e-4 off.
fn plain<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let erf = (x.clone() * std::f64::consts::FRAC_1_SQRT_2).erf();
    x.mul_scalar(0.5) * (erf + 1.0)
}

#[cfg(feature = "flex")]
mod flex {
    use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
    use burn::backend::autodiff::grads::Gradients;
    use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
    use burn::backend::tensor::FloatTensor;
    use burn::backend::{Autodiff, Flex};

    use crate::memory::{map, zip};
    use crate::simd::normal;

    pub(crate) fn forward(x: FloatTensor<Flex>) -> FloatTensor<Flex> {
        map(x, |x| x * normal(x).0)
    }

    fn backward(x: FloatTensor<Flex>, grad: FloatTensor<Flex>) -> FloatTensor<Flex> {
        zip(x, grad, |x, grad| {
            let (cdf, density) = normal(x);
            grad * (cdf + x * density)
        })
    }

    #[derive(Debug)]
    struct Gelu;

    impl Backward<Flex, 1> for Gelu {
        type State = FloatTensor<Flex>;

        fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
            let [parent] = ops.parents;
            let grad = grads.consume::<Flex>(&ops.node);
            if let Some(x) = parent {
                grads.register::<Flex>(x.id, backward(ops.state, grad));
            }
        }
    }

    pub(crate) fn tracked<C: CheckpointStrategy>(
        x: FloatTensor<Autodiff<Flex, C>>,
    ) -> FloatTensor<Autodiff<Flex, C>> {
        match Gelu.prepare::<C>([x.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let x = x.into_primitive();
                prep.finish(x.clone(), forward(x))
            }
            OpsKind::UnTracked(prep) => prep.finish(forward(x.into_primitive())),
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::testing::{agree, random};
    use burn::tensor::Device;

    proptest::proptest! {
        #[test]
        fn gelu_and_its_gradient_are_the_primitive_ones(rows in 1usize..70, cols in 1usize..900) {
            let x = random([rows, cols]).mul_scalar(3.0);
            let both = |x: Tensor<2>| agree([x], |[x]| gelu(x), |[x]| plain(x), 2e-6);
            both(x.clone());
            both(x.clone().transpose());
            both(x.slice([rows / 2..rows, cols / 3..cols]));
        }
    }

    #[test]
    fn extreme_values_stay_finite_and_exact() {
        let x = Tensor::<2>::from_floats(
            [[-1e30, -200.0, -13.3, -0.0, 0.0, 1e-30, 13.3, 200.0, 1e30]],
            &Device::flex(),
        );
        let y = gelu(x).into_data();
        assert_eq!(
            y.as_slice::<f32>().unwrap(),
            [0.0, 0.0, 0.0, 0.0, 0.0, 5e-31, 13.3, 200.0, 1e30]
        );
    }
}
