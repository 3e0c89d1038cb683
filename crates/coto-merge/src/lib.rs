//! The algebra of adapters: fusion (A and B averaged) and mixture (the weight changes averaged).
//!
//! The two ways to join adapters of one model that CopRA (arXiv 2410.22911) and CoTo (arXiv 2506.05713) compare, and the two
//! paths along which linear mode connectivity is measured: [`fuse`] averages the factors, [`mix`] averages ΔW. [`align`] brings
//! the first near to the second.

mod align;
mod join;

pub use align::align;
pub use join::{Error, fuse, mix};
