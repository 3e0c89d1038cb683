//! Fused tensor operations of the layered models: plain burn tensors by default, fast paths on the CPU.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//!
//! let x = Tensor::<1>::from_floats([-1.0, 0.0, 1.0], &Device::flex());
//! let y = coto_kernels::gelu(x).into_data();
//! assert!((y.as_slice::<f32>().unwrap()[2] - 0.841_345).abs() < 1e-5);
//! ```
//!
//! Every operation is a function on tensors, differentiable in what a frozen model needs derivatives of. Its module holds
//! three forms of it: `plain`, made of burn's tensors, for every backend and as the reference in the tests; and a forward and
//! a hand-written backward for burn's CPU backend (`flex`), which by itself runs element-wise work on one thread and one
//! number at a time. Here it is vectorised by run-time dispatch and spread over the cores, and what a product reads or
//! writes anyway is not gone through twice.
//!
//! A frozen matrix is a [`Weight`], dense or quantised. The CPU forms dequantise one a tile at a time, forwards and
//! backwards; other backends dequantise it whole for every product, and their autodiff keeps that for the way back.

#[cfg(feature = "allocator")]
pub mod allocator;
mod attention;
mod gated;
mod gelu;
mod groups;
mod hadamard;
mod linear;
mod loss;
mod norm;
mod quantised;
mod rotary;
mod weight;

pub use attention::attention;
pub use gated::gated_silu;
pub use gelu::{gelu, gelu_tanh, quick_gelu};
pub use groups::{Groups, Scheme};
pub use hadamard::hadamard_linear;
pub use linear::{linear, low_rank_linear};
pub use loss::{cross_entropy, token_losses};
pub use norm::{layer_norm, residual_norm, rms_norm};
pub use quantised::Quantised;
pub use rotary::rotate;
pub use weight::Weight;

#[cfg(feature = "flex")]
mod matrix;
#[cfg(feature = "flex")]
mod memory;
#[cfg(feature = "flex")]
mod ops;
#[cfg(feature = "flex")]
mod simd;
#[cfg(all(test, feature = "flex"))]
mod testing;

/// Whether the fast path takes a tensor: f32 on the CPU.
fn fast<const D: usize>(x: &burn::tensor::Tensor<D>) -> bool {
    #[cfg(feature = "flex")]
    return x.dtype() == burn::tensor::DType::F32 && x.device() == burn::tensor::Device::flex();
    #[cfg(not(feature = "flex"))]
    return false;
}
