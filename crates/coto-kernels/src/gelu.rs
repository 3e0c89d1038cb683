//! Gaussian error linear units (Hendrycks and Gimpel, arXiv 1606.08415): x·Φ(x), Φ the normal distribution function, and
//! their two approximations.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

use burn::tensor::{Tensor, activation};

#[cfg(feature = "flex")]
pub(crate) use flex::{forward, tracked};

/// Which Φ.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Phi {
    Exact,
    Tanh,
    Sigmoid,
}

/// Exact GELU of every element, differentiable.
///
/// On the CPU Φ comes from Abramowitz and Stegun's formula 7.1.26, whose absolute error is below 1.5e-7.
///
/// # Shapes
/// `[..]` → the same.
pub fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    with(x, Phi::Exact)
}

/// GELU's tanh approximation of every element, differentiable: x/2·(1 + tanh(√(2/π)·(x + 0.044715 x³))).
///
/// # Shapes
/// `[..]` → the same.
pub fn gelu_tanh<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    with(x, Phi::Tanh)
}

/// GELU's sigmoid approximation of every element, differentiable: x·σ(1.702 x).
///
/// # Shapes
/// `[..]` → the same.
pub fn quick_gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    with(x, Phi::Sigmoid)
}

fn with<const D: usize>(x: Tensor<D>, phi: Phi) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if crate::fast(&x) {
        use crate::ops::KernelOps;
        use burn::backend::Dispatch;
        return Tensor::from_dispatch(Dispatch::gelu(x.into_dispatch(), phi));
    }
    plain(x, phi)
}

fn plain<const D: usize>(x: Tensor<D>, phi: Phi) -> Tensor<D> {
    match phi {
        // Not burn's own, whose derivative is that of the tanh approximation on the GPU backends: 5e-4 off.
        Phi::Exact => {
            let erf = (x.clone() * FRAC_1_SQRT_2).erf();
            x.mul_scalar(0.5) * (erf + 1.0)
        }
        Phi::Tanh => {
            let cube = x.clone().powi_scalar(3) * 0.044_715;
            let tanh = ((x.clone() + cube) * (2.0 / PI).sqrt()).tanh();
            x.mul_scalar(0.5) * (tanh + 1.0)
        }
        Phi::Sigmoid => x.clone() * activation::sigmoid(x * 1.702),
    }
}

#[cfg(feature = "flex")]
mod flex {
    use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
    use burn::backend::autodiff::grads::Gradients;
    use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
    use burn::backend::tensor::FloatTensor;
    use burn::backend::{Autodiff, Flex};

    use super::Phi;
    use crate::memory::{map, zip};
    use crate::simd::{normal, sigmoid};

    /// (1 + tanh y)/2 is σ(2y): 2y of the tanh approximation, and its derivative.
    #[inline(always)]
    fn inner(x: f32) -> (f32, f32) {
        const TWICE_SQRT_2_PI: f32 = 1.595_769;
        // Where σ is long zero or one, for large cubes are infinite. Not `clamp`, to be sure of NaN.
        let x = if x > 20.0 { 20.0 } else { x };
        let x = if x < -20.0 { -20.0 } else { x };
        let square = 0.044_715 * x * x;
        (
            TWICE_SQRT_2_PI * x * (1.0 + square),
            TWICE_SQRT_2_PI * (1.0 + 3.0 * square),
        )
    }

    pub(crate) fn forward(x: FloatTensor<Flex>, phi: Phi) -> FloatTensor<Flex> {
        match phi {
            Phi::Exact => map(x, |x| x * normal(x).0),
            Phi::Tanh => map(x, |x| x * sigmoid(inner(x).0).0),
            Phi::Sigmoid => map(x, |x| x * sigmoid(1.702 * x).0),
        }
    }

    fn backward(x: FloatTensor<Flex>, grad: FloatTensor<Flex>, phi: Phi) -> FloatTensor<Flex> {
        match phi {
            Phi::Exact => zip(x, grad, |x, grad| {
                let (cdf, density) = normal(x);
                grad * (cdf + x * density)
            }),
            Phi::Tanh => zip(x, grad, |x, grad| {
                let (inner, slope) = inner(x);
                let (value, derivative) = sigmoid(inner);
                grad * (value + x * derivative * slope)
            }),
            Phi::Sigmoid => zip(x, grad, |x, grad| {
                let (value, derivative) = sigmoid(1.702 * x);
                grad * (value + 1.702 * x * derivative)
            }),
        }
    }

    #[derive(Debug)]
    struct Gelu;

    impl Backward<Flex, 1> for Gelu {
        type State = (FloatTensor<Flex>, Phi);

        fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
            let [parent] = ops.parents;
            let grad = grads.consume::<Flex>(&ops.node);
            if let Some(parent) = parent {
                let (x, phi) = ops.state;
                grads.register::<Flex>(parent.id, backward(x, grad, phi));
            }
        }
    }

    pub(crate) fn tracked<C: CheckpointStrategy>(
        x: FloatTensor<Autodiff<Flex, C>>,
        phi: Phi,
    ) -> FloatTensor<Autodiff<Flex, C>> {
        match Gelu.prepare::<C>([x.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let x = x.into_primitive();
                prep.finish((x.clone(), phi), forward(x, phi))
            }
            OpsKind::UnTracked(prep) => prep.finish(forward(x.into_primitive(), phi)),
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
        fn gelus_and_their_gradients_are_the_primitive_ones(rows in 1usize..70, cols in 1usize..900) {
            let x = random([rows, cols]).mul_scalar(3.0);
            let both = |x: Tensor<2>| for phi in [Phi::Exact, Phi::Tanh, Phi::Sigmoid] {
                agree([x.clone()], |[x]| with(x, phi), |[x]| plain(x, phi), 2e-6);
            };
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
        for phi in [Phi::Exact, Phi::Tanh, Phi::Sigmoid] {
            let x = x.clone().autodiff().require_grad();
            let y = with(x.clone(), phi);
            let slopes = x.grad(&y.clone().sum().backward()).unwrap().into_data();
            let y = y.into_data();
            let (y, slopes) = (
                y.as_slice::<f32>().unwrap(),
                slopes.as_slice::<f32>().unwrap(),
            );
            assert_eq!(y[3..], [0.0, 0.0, 5e-31, 13.3, 200.0, 1e30], "{phi:?}");
            assert!(y[..3].iter().all(|y| y.abs() < 1e-8), "{phi:?}");
            assert_eq!((slopes[0], slopes[8]), (0.0, 1.0), "{phi:?}");
        }
        let nan = Tensor::<1>::from_floats([f32::NAN], &Device::flex());
        for y in [gelu(nan.clone()), gelu_tanh(nan.clone()), quick_gelu(nan)] {
            assert!(y.into_scalar::<f32>().is_nan());
        }
    }
}
