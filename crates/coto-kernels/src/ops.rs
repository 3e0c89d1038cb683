//! The operations as a backend extension, and their derivatives.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::{
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension, tensor::FloatTensor};

/// The fused operations, each made of ordinary primitives unless a backend has better.
#[backend_extension(
    Autodiff,
    Flex: cfg(feature = "flex"),
    Cube: cfg(any(feature = "wgpu", feature = "cuda"))
)]
pub trait KernelOps: Backend {
    /// Exact GELU, x·Φ(x), any shape.
    fn gelu_exact(x: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::gelu(x)
    }

    /// The gradient of [`gelu_exact`](Self::gelu_exact): `grad`·(Φ(x) + x·φ(x)), shapes alike.
    fn gelu_exact_backward(x: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::gelu_backward(x, grad)
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl KernelOps for burn::backend::Cube {}

#[cfg(feature = "flex")]
impl KernelOps for burn::backend::Flex {
    fn gelu_exact(x: FloatTensor<Self>) -> FloatTensor<Self> {
        crate::gelu::flex(x)
    }

    fn gelu_exact_backward(x: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
        crate::gelu::flex_backward(x, grad)
    }
}

impl<B: KernelOps, C: CheckpointStrategy> KernelOps for Autodiff<B, C> {
    fn gelu_exact(x: FloatTensor<Self>) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Gelu;

        impl<B: KernelOps> Backward<B, 1> for Gelu {
            type State = FloatTensor<B>;

            fn backward(
                self,
                ops: Ops<Self::State, 1>,
                grads: &mut Gradients,
                _checkpointer: &mut Checkpointer,
            ) {
                let [parent] = ops.parents;
                let grad = grads.consume::<B>(&ops.node);
                if let Some(node) = parent {
                    grads.register::<B>(node.id, B::gelu_exact_backward(ops.state, grad));
                }
            }
        }

        match Gelu.prepare::<C>([x.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let x = x.into_primitive();
                prep.finish(x.clone(), B::gelu_exact(x))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::gelu_exact(x.into_primitive())),
        }
    }
}

/// One tensor through one operation of the dispatching backend.
pub(crate) fn gelu_dispatch(x: burn::backend::DispatchTensor) -> burn::backend::DispatchTensor {
    <Dispatch as KernelOps>::gelu_exact(x)
}
