//! Pruning adapter folders, in three ways; what comes out is a PEFT folder again.
//!
//! * **Structured**: which modules stay. A [`Candidates`] knows the players of a folder, a [`Choice`] picks a coalition of them,
//!   and [`keep`] writes the smaller folder. [`greedy`] and [`nested`] make the curve of a metric against how many are kept.
//! * **Unstructured**: which entries of A and B are zero, by a [`Rule`] and a [`Sparsity`]: [`sparsify`].
//! * **Rank**: how many rank-one terms each module has left, by [`Ranks`]: [`reduce`].
//!
//! ```
//! use coto_coalition::Grouping;
//! use coto_peft::{Config, Folder, HostTensor, Param};
//! use coto_prune::{Candidates, Choice, Ranks, reduce};
//!
//! let mut folder = Folder::new(Config::lora(2, 4.0).targets(["query"]));
//! for layer in 0..4 {
//!     let path = format!("layers.{layer}.query");
//!     folder.insert(&path, Param::LoraA, HostTensor::from_f32([2, 3], &[1.0, 0.0, 0.0, 0.0, 1.0, 0.0])?);
//!     folder.insert(&path, Param::LoraB, HostTensor::from_f32([2, 2], &[layer as f32, 0.0, 0.0, 0.1])?);
//! }
//! let candidates = Candidates::new(&folder, &Grouping::Layer)?;
//! let choice: Choice = "top:2:norms".parse()?;
//! let coalition = candidates.choose(&choice, None)?;
//! assert_eq!(coalition.to_string(), "0011");
//! let small = candidates.keep(&coalition)?;
//! assert_eq!(small.config.scaling("layers.3.query")?, 2.0);
//!
//! let (thin, report) = reduce(&small, &"energy:0.9".parse::<Ranks>()?, &Default::default())?;
//! assert_eq!((thin.config.r, report[0].before, report[0].after), (1, 2, 1));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod candidates;
mod choice;
mod curve;
mod error;
mod factors;
mod keep;
mod mask;
mod ranks;
mod sparsegpt;
mod sparsify;
mod terms;
mod text;

pub use candidates::Candidates;
pub use choice::{By, Choice};
pub use curve::{Curve, curve, greedy, nested, ranking};
pub use error::Error;
pub use keep::keep;
pub use mask::{Scope, Sparsity};
pub use ranks::{Ranks, Reduced, reduce};
pub use sparsify::{Rule, Zeros, sparsify, sparsity};
