//! Layered models with frozen weights, from Hugging Face folders: the BERT and Llama families, ViT and CLIP.
//!
//! Every model has one shape, [`Layered`]: embed, then layer by layer, then a head; its linears are known by their
//! Hugging Face paths ([`Base`](coto_adapters::Base)), and run through a [`Pass`](coto_adapters::Pass), which says which
//! adapters are on. Below the lowest active adapter no tensor is tracked, so those layers cost no backward pass.
//!
//! ```no_run
//! use burn::tensor::Device;
//! use coto_adapters::Pass;
//! use coto_models::{Bert, Layered, TokenBatch};
//!
//! let model = Bert::load("all-MiniLM-L6-v2", &Device::flex())?;
//! let batch = TokenBatch::new(&[101, 7592, 102], &[0, 0, 0], &[true, true, true], 1, &Device::flex());
//! let features = model.forward(&batch, &Pass::base());
//! assert_eq!(features.dims(), [1, 384]);
//! # Ok::<(), coto_models::Error>(())
//! ```

mod any;
mod bert;
mod checkpoint;
mod checkpointing;
mod clip;
mod config;
mod device;
mod error;
mod hub;
mod layered;
mod llama;
mod norm;
mod patches;
mod shard;
mod tower;
mod vit;

pub use any::{Input, Model};
pub use bert::{Bert, Pooling};
pub use checkpoint::{BaseQuant, Weights};
pub use checkpointing::{backward_by_layers, backward_from};
pub use clip::{Clip, ClipConfig, ClipTextConfig, ClipVisionConfig};
pub use config::{BertConfig, Family};
pub use device::parse_device;
pub use error::Error;
pub use hub::{find_asset, locate};
pub use layered::{Hidden, ImageBatch, Layered, TokenBatch};
pub use llama::{Cache, Llama, LlamaConfig, Sampling};
pub use tower::Activation;
pub use vit::{Classifier, Vit, VitConfig};
