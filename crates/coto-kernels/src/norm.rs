//! Residual and layer norm (Ba et al., arXiv 1607.06450) in one: γ ⊙ (z - mean z)/√(var z + ε) + β of z = x + y.

use burn::tensor::{Tensor, module};

#[cfg(feature = "flex")]
pub(crate) use flex::{forward, tracked};

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
    plain(x, y, gamma, beta, epsilon)
}

fn plain(x: Tensor<2>, y: Tensor<2>, gamma: Tensor<1>, beta: Tensor<1>, epsilon: f64) -> Tensor<2> {
    module::layer_norm(x + y, gamma, Some(beta), epsilon)
}

#[cfg(feature = "flex")]
mod flex {
    use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
    use burn::backend::autodiff::grads::Gradients;
    use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
    use burn::backend::tensor::FloatTensor;
    use burn::backend::{Autodiff, Flex, TensorMetadata};
    use rayon::prelude::*;

    use crate::memory::{dense, owned, rows_a_task, slice, tensor, zip};
    use crate::simd::{fold, sum2, vectorised};

    type Primitive = FloatTensor<Flex>;

    pub(crate) fn forward(
        x: Primitive,
        y: Primitive,
        gamma: Primitive,
        beta: Primitive,
        epsilon: f32,
    ) -> Primitive {
        // The sum takes the second's memory where it may: x mostly lives on.
        normed(zip(x, y, |x, y| x + y), gamma, beta, epsilon)
    }

    /// The layer norm of z, in its place where nobody else holds it.
    fn normed(z: Primitive, gamma: Primitive, beta: Primitive, epsilon: f32) -> Primitive {
        let (mut z, gamma, beta) = (own(z), dense(gamma), dense(beta));
        let (gamma, beta) = (slice(&gamma), slice(&beta));
        let d = gamma.len();
        let values = owned(&mut z).expect("just made");
        values.par_chunks_mut(rows_a_task(d) * d).for_each(|rows| {
            vectorised(
                #[inline(always)]
                || {
                    for row in rows.chunks_exact_mut(d) {
                        let (mean, scale) = moments(row, epsilon);
                        let affine = gamma.iter().zip(beta);
                        row.iter_mut()
                            .zip(affine)
                            .for_each(|(z, (g, b))| *z = (*z - mean) * scale * g + b);
                    }
                },
            );
        });
        z
    }

    fn own(x: Primitive) -> Primitive {
        let mut x = dense(x);
        if owned(&mut x).is_none() {
            x = tensor(slice(&x).to_vec(), x.shape());
        }
        x
    }

    /// The mean and 1/√(variance + ε).
    #[inline(always)]
    fn moments(row: &[f32], epsilon: f32) -> (f32, f32) {
        let n = row.len() as f32;
        let mean = fold(row, 0.0, |a, b| a + b) / n;
        let variance = sum2(row, row, |x, _| (x - mean) * (x - mean)) / n;
        (mean, (variance + epsilon).sqrt().recip())
    }

    /// With x̂ = (z - mean)·σ⁻¹ and h = g ⊙ γ: σ⁻¹·(h - mean(h) - x̂·mean(h ⊙ x̂)).
    fn backward(z: &Primitive, gamma: &Primitive, epsilon: f32, grad: Primitive) -> Primitive {
        let mut grad = own(grad);
        let (z, gamma) = (slice(z), slice(gamma));
        let d = gamma.len();
        let task = rows_a_task(d) * d;
        let values = owned(&mut grad).expect("just made");
        let tasks = values.par_chunks_mut(task).zip(z.par_chunks(task));
        tasks.for_each(|(grads, zs)| {
            vectorised(
                #[inline(always)]
                || {
                    for (g, z) in grads.chunks_exact_mut(d).zip(zs.chunks_exact(d)) {
                        let (mean, scale) = moments(z, epsilon);
                        g.iter_mut().zip(gamma).for_each(|(g, gamma)| *g *= gamma);
                        let first = fold(g, 0.0, |a, b| a + b) / d as f32;
                        let second = sum2(g, z, |g, z| g * (z - mean) * scale) / d as f32;
                        g.iter_mut().zip(z).for_each(|(g, z)| {
                            *g = scale * (*g - first - (z - mean) * scale * second)
                        });
                    }
                },
            );
        });
        grad
    }

    #[derive(Debug)]
    struct Norm;

    impl Backward<Flex, 2> for Norm {
        /// z, γ, ε.
        type State = (Primitive, Primitive, f32);

        fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
            let (z, gamma, epsilon) = ops.state;
            let grad = grads.consume::<Flex>(&ops.node);
            let grad = backward(&z, &gamma, epsilon, grad);
            for parent in ops.parents.into_iter().flatten() {
                grads.register::<Flex>(parent.id, grad.clone());
            }
        }
    }

    pub(crate) fn tracked<C: CheckpointStrategy>(
        x: FloatTensor<Autodiff<Flex, C>>,
        y: FloatTensor<Autodiff<Flex, C>>,
        gamma: FloatTensor<Autodiff<Flex, C>>,
        beta: FloatTensor<Autodiff<Flex, C>>,
        epsilon: f32,
    ) -> FloatTensor<Autodiff<Flex, C>> {
        let nodes = [x.node(), y.node()];
        let prep = Norm.prepare::<C>(nodes).compute_bound().stateful();
        let [x, y, gamma, beta] = [x, y, gamma, beta].map(|tensor| tensor.into_primitive());
        match prep {
            OpsKind::Tracked(prep) => {
                let z = zip(x, y, |x, y| x + y);
                let state = (z.clone(), dense(gamma.clone()), epsilon);
                prep.finish(state, normed(z, gamma, beta, epsilon))
            }
            OpsKind::UnTracked(prep) => prep.finish(forward(x, y, gamma, beta, epsilon)),
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::testing::{agree, random};

    fn both(x: Tensor<2>, y: Tensor<2>) {
        let d = x.dims()[1];
        let [gamma, beta] = [(); 2].map(|()| random([1, d]).squeeze_dim::<1>(0));
        let [ours, theirs] = [residual_norm, plain].map(|form| {
            let (gamma, beta) = (gamma.clone(), beta.clone());
            move |[x, y]: [Tensor<2>; 2]| form(x, y, gamma.clone(), beta.clone(), 1e-5)
        });
        agree([x, y], ours, theirs, 2e-5);
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
        let x = random([3, 8]);
        let (gamma, beta) = (
            random([1, 8]).squeeze_dim::<1>(0),
            random([1, 8]).squeeze_dim::<1>(0),
        );
        let [ours, theirs] = [residual_norm, plain].map(|form| {
            let (gamma, beta) = (gamma.clone(), beta.clone());
            move |[x]: [Tensor<2>; 1]| form(x.clone(), x, gamma.clone(), beta.clone(), 1e-5)
        });
        agree([x], ours, theirs, 2e-5);
    }
}
