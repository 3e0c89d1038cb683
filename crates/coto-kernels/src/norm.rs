//! Norms of rows: γ ⊙ (x - mean x)/√(var x + ε) + β (Ba et al., arXiv 1607.06450), of a sum too, and γ ⊙ x/√(mean x² + ε)
//! (Zhang and Sennrich, arXiv 1910.07467).

use burn::tensor::{Tensor, module};

#[cfg(feature = "flex")]
pub(crate) use flex::{forward, residual_forward, residual_tracked, tracked};

/// The layer norm of x + y, row by row; differentiable in x and y, γ and β are constants.
///
/// # Shapes
/// `x`, `y` [rows, d]; `gamma`, `beta` (d) → [rows, d].
pub fn residual_norm(
    x: Tensor<2>,
    y: Tensor<2>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f64,
) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if crate::fast(&x) && crate::fast(&y) && crate::fast(&gamma) {
        use crate::ops::KernelOps;
        use burn::backend::Dispatch;
        let [x, y] = [x, y].map(Tensor::into_dispatch);
        let [gamma, beta] = [gamma, beta].map(Tensor::into_dispatch);
        return Tensor::from_dispatch(Dispatch::residual_norm(x, y, gamma, beta, epsilon as f32));
    }
    layer_plain(x + y, gamma, beta, epsilon)
}

/// The layer norm of x, row by row; differentiable in x, γ and β are constants.
///
/// # Shapes
/// `x` [rows, d]; `gamma`, `beta` (d) → [rows, d].
pub fn layer_norm(x: Tensor<2>, gamma: Tensor<1>, beta: Tensor<1>, epsilon: f64) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if crate::fast(&x) && crate::fast(&gamma) {
        use crate::ops::KernelOps;
        use burn::backend::Dispatch;
        let [gamma, beta] = [gamma, beta].map(Tensor::into_dispatch);
        let y = Dispatch::norm(x.into_dispatch(), gamma, beta, epsilon as f32, true);
        return Tensor::from_dispatch(y);
    }
    layer_plain(x, gamma, beta, epsilon)
}

fn layer_plain(x: Tensor<2>, gamma: Tensor<1>, beta: Tensor<1>, epsilon: f64) -> Tensor<2> {
    module::layer_norm(x, gamma, Some(beta), epsilon)
}

/// The root-mean-square norm of x, row by row; differentiable in x, γ is a constant.
///
/// # Shapes
/// `x` [rows, d]; `gamma` (d) → [rows, d].
pub fn rms_norm(x: Tensor<2>, gamma: Tensor<1>, epsilon: f64) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if crate::fast(&x) && crate::fast(&gamma) {
        use crate::ops::KernelOps;
        use burn::backend::Dispatch;
        let none = Tensor::<1>::empty([0], &gamma.device()).into_dispatch();
        let gamma = gamma.into_dispatch();
        let y = Dispatch::norm(x.into_dispatch(), gamma, none, epsilon as f32, false);
        return Tensor::from_dispatch(y);
    }
    rms_plain(x, gamma, epsilon)
}

fn rms_plain(x: Tensor<2>, gamma: Tensor<1>, epsilon: f64) -> Tensor<2> {
    let square = x.clone().square().mean_dim(1);
    x / square.add_scalar(epsilon).sqrt() * gamma.unsqueeze()
}

#[cfg(feature = "flex")]
mod flex {
    use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
    use burn::backend::autodiff::grads::Gradients;
    use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
    use burn::backend::tensor::FloatTensor;
    use burn::backend::{Autodiff, Flex};

    use crate::memory::{dense, rows, slice, zip};
    use crate::simd::{fold, sum2};

    type Primitive = FloatTensor<Flex>;

    /// The norm of x, in its place where nobody else holds it; of x itself where it is not `centred`, and without β where
    /// that has no elements.
    pub(crate) fn forward(
        x: Primitive,
        gamma: Primitive,
        beta: Primitive,
        epsilon: f32,
        centred: bool,
    ) -> Primitive {
        let (gamma, beta) = (dense(gamma), dense(beta));
        let (gamma, beta) = (slice(&gamma), slice(&beta));
        rows(
            x,
            gamma.len(),
            #[inline(always)]
            |_, row| {
                let (mean, scale) = moments(row, epsilon, centred);
                let pairs = row.iter_mut().zip(gamma);
                pairs.for_each(|(x, g)| *x = (*x - mean) * scale * g);
                row.iter_mut().zip(beta).for_each(|(x, b)| *x += b);
            },
        )
    }

    pub(crate) fn residual_forward(
        x: Primitive,
        y: Primitive,
        gamma: Primitive,
        beta: Primitive,
        epsilon: f32,
    ) -> Primitive {
        // The sum takes the second's memory where it may: x mostly lives on.
        forward(zip(x, y, |x, y| x + y), gamma, beta, epsilon, true)
    }

    /// The mean, or zero, and 1/√(mean square of what differs from it + ε).
    #[inline(always)]
    fn moments(row: &[f32], epsilon: f32, centred: bool) -> (f32, f32) {
        let n = row.len() as f32;
        let mean = match centred {
            true => fold(row, 0.0, |a, b| a + b) / n,
            false => 0.0,
        };
        let variance = sum2(row, row, |x, _| (x - mean) * (x - mean)) / n;
        (mean, (variance + epsilon).sqrt().recip())
    }

    /// What is kept of a norm.
    #[derive(Debug, Clone)]
    struct Saved {
        x: Primitive,
        gamma: Primitive,
        epsilon: f32,
        centred: bool,
    }

    /// With x̂ = (x - mean)·σ⁻¹ and h = g ⊙ γ: σ⁻¹·(h - mean(h) - x̂·mean(h ⊙ x̂)), without mean(h) where x was not centred.
    fn backward(saved: &Saved, grad: Primitive) -> Primitive {
        let (x, gamma) = (slice(&saved.x), slice(&saved.gamma));
        let d = gamma.len();
        rows(
            grad,
            d,
            #[inline(always)]
            |i, g| {
                let x = &x[i * d..(i + 1) * d];
                let (mean, scale) = moments(x, saved.epsilon, saved.centred);
                g.iter_mut().zip(gamma).for_each(|(g, gamma)| *g *= gamma);
                let first = match saved.centred {
                    true => fold(g, 0.0, |a, b| a + b) / d as f32,
                    false => 0.0,
                };
                let second = sum2(g, x, |g, x| g * (x - mean) * scale) / d as f32;
                let pairs = g.iter_mut().zip(x);
                pairs.for_each(|(g, x)| *g = scale * (*g - first - (x - mean) * scale * second));
            },
        )
    }

    #[derive(Debug)]
    struct Norm;

    /// Of the sum of N tensors.
    impl<const N: usize> Backward<Flex, N> for Norm {
        type State = Saved;

        fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
            let grad = backward(&ops.state, grads.consume::<Flex>(&ops.node));
            for parent in ops.parents.into_iter().flatten() {
                grads.register::<Flex>(parent.id, grad.clone());
            }
        }
    }

    pub(crate) fn tracked<C: CheckpointStrategy>(
        x: FloatTensor<Autodiff<Flex, C>>,
        gamma: FloatTensor<Autodiff<Flex, C>>,
        beta: FloatTensor<Autodiff<Flex, C>>,
        epsilon: f32,
        centred: bool,
    ) -> FloatTensor<Autodiff<Flex, C>> {
        let prep = Norm.prepare::<C>([x.node()]).compute_bound().stateful();
        let [x, gamma, beta] = [x, gamma, beta].map(|tensor| dense(tensor.into_primitive()));
        match prep {
            OpsKind::Tracked(prep) => {
                let saved = Saved {
                    x: x.clone(),
                    gamma: gamma.clone(),
                    epsilon,
                    centred,
                };
                prep.finish(saved, forward(x, gamma, beta, epsilon, centred))
            }
            OpsKind::UnTracked(prep) => prep.finish(forward(x, gamma, beta, epsilon, centred)),
        }
    }

    pub(crate) fn residual_tracked<C: CheckpointStrategy>(
        x: FloatTensor<Autodiff<Flex, C>>,
        y: FloatTensor<Autodiff<Flex, C>>,
        gamma: FloatTensor<Autodiff<Flex, C>>,
        beta: FloatTensor<Autodiff<Flex, C>>,
        epsilon: f32,
    ) -> FloatTensor<Autodiff<Flex, C>> {
        let nodes = [x.node(), y.node()];
        let prep = Norm.prepare::<C>(nodes).compute_bound().stateful();
        let [x, y, gamma, beta] = [x, y, gamma, beta].map(|tensor| tensor.into_primitive());
        let (z, gamma) = (zip(x, y, |x, y| x + y), dense(gamma));
        match prep {
            OpsKind::Tracked(prep) => {
                let saved = Saved {
                    x: z.clone(),
                    gamma: gamma.clone(),
                    epsilon,
                    centred: true,
                };
                prep.finish(saved, forward(z, gamma, beta, epsilon, true))
            }
            OpsKind::UnTracked(prep) => prep.finish(forward(z, gamma, beta, epsilon, true)),
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::testing::{agree, random};

    fn vector(d: usize) -> Tensor<1> {
        random([1, d]).squeeze_dim::<1>(0)
    }

    fn both(x: Tensor<2>, y: Tensor<2>) {
        let (gamma, beta) = (vector(x.dims()[1]), vector(x.dims()[1]));
        let given = || (gamma.clone(), beta.clone());
        let theirs = |z: Tensor<2>| layer_plain(z, gamma.clone(), beta.clone(), 1e-5);
        let ours = |[x, y]: [Tensor<2>; 2]| residual_norm(x, y, given().0, given().1, 1e-5);
        agree([x.clone(), y], ours, |[x, y]| theirs(x + y), 2e-5);
        let ours = |[x]: [Tensor<2>; 1]| layer_norm(x, given().0, given().1, 1e-5);
        agree([x.clone()], ours, |[x]| theirs(x), 2e-5);
        let [ours, theirs] = [rms_norm, rms_plain].map(|form| {
            let gamma = gamma.clone();
            move |[x]: [Tensor<2>; 1]| form(x, gamma.clone(), 1e-5)
        });
        agree([x], ours, theirs, 2e-5);
    }

    proptest::proptest! {
        #[test]
        fn norms_and_their_gradients_are_the_primitive_ones(rows in 1usize..60, d in 8usize..500) {
            both(random([rows, d]), random([rows, d]));
            both(random([d, rows]).transpose(), random([rows, d + 1]).slice([0..rows, 1..d + 1]));
        }
    }

    #[test]
    fn a_tensor_added_to_itself_gets_both_gradients() {
        let (gamma, beta) = (vector(8), vector(8));
        let given = || (gamma.clone(), beta.clone());
        let ours = |[x]: [Tensor<2>; 1]| residual_norm(x.clone(), x, given().0, given().1, 1e-5);
        let theirs = |[x]: [Tensor<2>; 1]| layer_plain(x.clone() + x, given().0, given().1, 1e-5);
        agree([random([3, 8])], ours, theirs, 2e-5);
    }
}
