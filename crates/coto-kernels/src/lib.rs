//! Fused tensor operations of the layered models: plain burn primitives by default, fast paths per backend.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//!
//! let x = Tensor::<1>::from_floats([-1.0, 0.0, 1.0], &Device::flex());
//! let y = coto_kernels::gelu(x).into_data();
//! assert!((y.as_slice::<f32>().unwrap()[2] - 0.841_345).abs() < 1e-5);
//! ```
//!
//! Every operation is a method of [`KernelOps`] with a body of ordinary primitives, which each backend may replace.
//! The CPU backend (`flex`) does: burn runs element-wise work on one thread and its error function one number at a
//! time; here both are vectorised by run-time dispatch and spread over the cores.

mod elementwise;
mod gelu;
mod ops;

pub use gelu::gelu;
pub use ops::KernelOps;
