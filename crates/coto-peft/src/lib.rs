//! PEFT adapter folders: configuration, targeting and tensors, read strictly and written exactly.
//!
//! The crate knows no tensor library: a tensor is bytes, a shape and a dtype.
//!
//! ```
//! use coto_peft::{Config, Folder, HostTensor, Param};
//!
//! let modules = ["layers.0.query", "layers.0.value", "head"];
//! let config = Config::lora(2, 4.0).targets(["query", "value"]);
//! assert_eq!(config.resolve_targets(&modules)?, [0, 1]);
//!
//! let mut folder = Folder::new(config);
//! for path in &modules[..2] {
//!     folder.insert(path, Param::LoraA, HostTensor::from_f32([2, 6], &[0.1; 12])?); // [r, in]
//!     folder.insert(path, Param::LoraB, HostTensor::from_f32([4, 2], &[0.0; 8])?); // [out, r]
//! }
//! let parent = tempfile::tempdir()?;
//! folder.save(parent.path().join("adapter"))?; // Python's PEFT loads this folder
//!
//! let again = Folder::load(parent.path().join("adapter"))?;
//! assert_eq!(again.modules()?["layers.0.query"][&Param::LoraA].shape, [2, 6]);
//! assert_eq!(again.config.scaling("layers.0.query")?, 2.0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod card;
mod config;
mod error;
mod folder;
mod json;
mod key;
mod modules;
mod nearest;
mod pattern;
mod support;
mod targets;
mod tensor;
mod write;

pub use config::{Config, OneOrMany, PeftType, Targets};
pub use error::Error;
pub use folder::Folder;
pub use key::{Param, ParamKey};
pub use nearest::{hint, nearest};
pub use pattern::first_match;
pub use safetensors::Dtype;
pub use tensor::HostTensor;
