//! The gate of a gated linear unit (Shazeer, arXiv 2002.05202): SiLU(gate) ⊙ up.

use burn::tensor::{Tensor, activation};

#[cfg(feature = "flex")]
pub(crate) use flex::{forward, tracked};

/// SiLU(gate) ⊙ up, SiLU(x) = x·σ(x); differentiable in both.
///
/// # Shapes
/// `gate`, `up` [rows, d] → [rows, d].
pub fn gated_silu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    assert_eq!(gate.dims(), up.dims(), "gate and up");
    #[cfg(feature = "flex")]
    if crate::fast(&gate) && crate::fast(&up) {
        use crate::ops::KernelOps;
        use burn::backend::Dispatch;
        let [gate, up] = [gate, up].map(Tensor::into_dispatch);
        return Tensor::from_dispatch(Dispatch::gated_silu(gate, up));
    }
    plain(gate, up)
}

fn plain(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    activation::silu(gate) * up
}

#[cfg(feature = "flex")]
mod flex {
    use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
    use burn::backend::autodiff::grads::Gradients;
    use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
    use burn::backend::tensor::FloatTensor;
    use burn::backend::{Autodiff, Flex, TensorMetadata};
    use rayon::prelude::*;

    use crate::memory::{CHUNK, dense, own, owned, slice, tensor, zip};
    use crate::simd::{sigmoid, vectorised};

    type Primitive = FloatTensor<Flex>;

    pub(crate) fn forward(gate: Primitive, up: Primitive) -> Primitive {
        zip(gate, up, |gate, up| gate * sigmoid(gate).0 * up)
    }

    /// With s = σ(gate): g ⊙ up ⊙ (s + gate ⊙ s') and g ⊙ gate ⊙ s, the second in the gradient's place.
    fn backward(gate: Primitive, up: Primitive, grad: Primitive) -> [Primitive; 2] {
        let (gate, up, mut grad) = (dense(gate), dense(up), own(grad));
        let mut grads = vec![0.0; slice(&gate).len()];
        let ups = owned(&mut grad).expect("just made").par_chunks_mut(CHUNK);
        let inputs = slice(&gate)
            .par_chunks(CHUNK)
            .zip(slice(&up).par_chunks(CHUNK));
        let tasks = grads.par_chunks_mut(CHUNK).zip(ups).zip(inputs);
        tasks.for_each(|((gates, ups), (gate, up))| {
            vectorised(
                #[inline(always)]
                || {
                    let outputs = gates.iter_mut().zip(ups);
                    let all = outputs.zip(gate.iter().zip(up));
                    for ((dgate, grad), (&gate, up)) in all {
                        let (value, slope) = sigmoid(gate);
                        *dgate = *grad * up * (value + gate * slope);
                        *grad *= gate * value;
                    }
                },
            );
        });
        [tensor(grads, gate.shape()), grad]
    }

    #[derive(Debug)]
    struct Gated;

    impl Backward<Flex, 2> for Gated {
        type State = [Primitive; 2];

        fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
            let [gate, up] = ops.state;
            let new = backward(gate, up, grads.consume::<Flex>(&ops.node));
            for (parent, grad) in ops.parents.into_iter().zip(new) {
                if let Some(parent) = parent {
                    grads.register::<Flex>(parent.id, grad);
                }
            }
        }
    }

    pub(crate) fn tracked<C: CheckpointStrategy>(
        gate: FloatTensor<Autodiff<Flex, C>>,
        up: FloatTensor<Autodiff<Flex, C>>,
    ) -> FloatTensor<Autodiff<Flex, C>> {
        let nodes = [gate.node(), up.node()];
        let prep = Gated.prepare::<C>(nodes).compute_bound().stateful();
        let [gate, up] = [gate, up].map(|tensor| tensor.into_primitive());
        match prep {
            OpsKind::Tracked(prep) => prep.finish([gate.clone(), up.clone()], forward(gate, up)),
            OpsKind::UnTracked(prep) => prep.finish(forward(gate, up)),
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::testing::{agree, random};

    proptest::proptest! {
        #[test]
        fn gates_and_their_gradients_are_the_primitive_ones(rows in 1usize..70, cols in 1usize..900) {
            let both = |gate: Tensor<2>, up: Tensor<2>| {
                agree([gate, up], |[a, b]| gated_silu(a, b), |[a, b]| plain(a, b), 2e-6);
            };
            both(random([rows, cols]).mul_scalar(3.0), random([rows, cols]));
            both(random([cols, rows]).transpose(), random([rows + 1, cols]).slice([1..rows + 1, 0..cols]));
        }
    }

    #[test]
    fn a_tensor_gated_by_itself_gets_both_gradients() {
        agree(
            [random([3, 8])],
            |[x]| gated_silu(x.clone(), x),
            |[x]| plain(x.clone(), x),
            2e-6,
        );
    }
}
