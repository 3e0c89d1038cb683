//! Exact GELU (Hendrycks and Gimpel, arXiv 1606.08415): x·Φ(x), Φ the normal distribution function.

use burn::tensor::Tensor;

/// Exact GELU of every element, differentiable.
///
/// On the CPU backend Φ comes from Abramowitz and Stegun's formula 7.1.26, whose absolute error is below 1.5e-7.
///
/// # Shapes
/// `[..]` → the same.
pub fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    Tensor::from_dispatch(crate::ops::gelu_dispatch(x.into_dispatch()))
}

#[cfg(feature = "flex")]
mod fast {
    use crate::elementwise::{map, zip};
    use burn::backend::Flex;
    use burn::backend::ops::ActivationOps;
    use burn::backend::tensor::FloatTensor;
    use std::f32::consts::{FRAC_1_SQRT_2, LOG2_E};

    pub(crate) fn flex(x: FloatTensor<Flex>) -> FloatTensor<Flex> {
        map(&x, |x| x * normal(x).0).unwrap_or_else(|| Flex::gelu(x))
    }

    pub(crate) fn flex_backward(
        x: FloatTensor<Flex>,
        grad: FloatTensor<Flex>,
    ) -> FloatTensor<Flex> {
        let derivative = |x, grad| {
            let (cdf, density) = normal(x);
            grad * (cdf + x * density)
        };
        zip(&x, &grad, derivative).unwrap_or_else(|| Flex::gelu_backward(x, grad))
    }

    /// Φ(x) and φ(x): the error function's formula 7.1.26 needs the very exponential that the density is made of.
    #[inline(always)]
    fn normal(x: f32) -> (f32, f32) {
        const INV_SQRT_2PI: f32 = 0.398_942_3;
        let bell = exp(-0.5 * x * x);
        let t = 1.0 / (1.0 + 0.327_591_1 * FRAC_1_SQRT_2 * x.abs());
        let poly = 1.061_405_4 * t - 1.453_152;
        let poly = ((poly * t + 1.421_413_7) * t - 0.284_496_74) * t + 0.254_829_6;
        let tail = 0.5 * poly * t * bell;
        (
            if x >= 0.0 { 1.0 - tail } else { tail },
            INV_SQRT_2PI * bell,
        )
    }

    /// e^x for x ≤ 0, to one unit in the last place or so; zero below the smallest normal number.
    #[inline(always)]
    fn exp(x: f32) -> f32 {
        // Adding 1.5·2²³ leaves the nearest integer in the low bits of the sum.
        const SHIFT: f32 = 12_582_912.0;
        let shifted = x.max(-87.0) * LOG2_E + SHIFT;
        let n = shifted - SHIFT;
        let r = x.max(-87.0) - n * 0.693_359_4 + n * 2.121_944_4e-4;
        let p = 1.0 / 720.0;
        let p = ((((p * r + 1.0 / 120.0) * r + 1.0 / 24.0) * r + 1.0 / 6.0) * r + 0.5) * r;
        let p = (p + 1.0) * r + 1.0;
        let power = f32::from_bits(
            shifted
                .to_bits()
                .wrapping_sub(SHIFT.to_bits())
                .wrapping_add(127)
                << 23,
        );
        if x < -87.0 { 0.0 } else { p * power }
    }
}
#[cfg(feature = "flex")]
pub(crate) use fast::{flex, flex_backward};

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::{Device, Distribution, Tolerance, activation};

    fn agree(x: Tensor<2>) {
        let reference = activation::gelu(x.clone()).into_data();
        let close = Tolerance::<f32>::absolute(2e-6);
        gelu(x.clone())
            .into_data()
            .assert_approx_eq(&reference, close);

        let grad = |f: fn(Tensor<2>) -> Tensor<2>| {
            let leaf = x.clone().autodiff().require_grad();
            let weights = x.clone().mul_scalar(0.3).add_scalar(1.0);
            let grads = (f(leaf.clone()) * weights).sum().backward();
            leaf.grad(&grads).expect("x has a gradient").into_data()
        };
        grad(gelu).assert_approx_eq(&grad(activation::gelu), close);
    }

    proptest::proptest! {
        #[test]
        fn gelu_and_its_gradient_are_the_primitive_ones(rows in 1usize..70, cols in 1usize..900) {
            let x = Tensor::random([rows, cols], Distribution::Normal(0.0, 3.0), &Device::flex());
            agree(x.clone());
            agree(x.clone().transpose());
            agree(x.slice([rows / 2..rows, cols / 3..cols]));
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
