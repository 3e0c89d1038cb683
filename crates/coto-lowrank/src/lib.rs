//! The algebra of low-rank updates: ΔW = B A, with A \[r, in\] and B \[out, r\], and never the \[out, in\] matrix where the factors do.
//!
//! Sums, inner products, singular values and the best approximation of a lower rank cost O((out + in) r²). A [`LowRank`] is one
//! module's update with its scale in it, in f64; [`updates`] reads them from a PEFT folder, [`folder`] makes one of them, and
//! [`FolderBuilder`] does so one by one.
//!
//! ```
//! use coto_lowrank::{LowRank, Matrix};
//!
//! let a = Matrix::from_fn(2, 6, |k, j| (k + j) as f32);
//! let b = Matrix::from_fn(4, 2, |i, k| i as f32 - k as f32);
//! let one = LowRank::of(&a, &b, 0.5)?;
//! let two = LowRank::sum(&[(&one, 1.0), (&one, 1.0)])?; // exact, of rank 4
//! let (small, error) = two.compressed(2)?; // the nearest of rank 2
//! assert!(error < 1e-12 && small.rank() == 2);
//! assert!((small.inner(&one)? - 2.0 * one.norm().powi(2)).abs() < 1e-9);
//! # Ok::<(), coto_lowrank::Error>(())
//! ```

mod error;
mod folder;
mod lowrank;
mod matrix;
mod statistics;

pub use error::Error;
pub use faer;
pub use folder::{FolderBuilder, folder, update, updates};
pub use lowrank::{LowRank, Svd};
pub use matrix::Matrix;
pub use statistics::{Gradients, PerFactor, Statistics};
