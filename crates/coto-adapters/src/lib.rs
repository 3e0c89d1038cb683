//! Low-rank adapters on the activation path: LoRA, rsLoRA, DoRA and HiRA, their targeting, initialisation and PEFT form.
//!
//! An [`AdapterSet`] holds the adapters of one model, beside its frozen weights. A [`Pass`] says which of them run: the
//! coalition is an argument of the forward pass, never a state of the model. A layer asks the pass for its linears,
//! and gets the frozen one alone where the adapter is off or absent.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use coto_adapters::{AdapterConfig, AdapterSet, Base, FrozenLinear, Pass};
//! use coto_coalition::{Coalition, Grouping, Module};
//!
//! struct Mlp(Vec<Module>, Vec<FrozenLinear>);
//! impl Base for Mlp {
//!     fn modules(&self) -> &[Module] {
//!         &self.0
//!     }
//!     fn linear(&self, module: usize) -> &FrozenLinear {
//!         &self.1[module]
//!     }
//! }
//!
//! let device = Device::flex();
//! let up = FrozenLinear::new(0, Tensor::ones([4, 6], &device), None);
//! let model = Mlp(vec![Module::new("layers.0.up", Some(0), "up")], vec![up]);
//! let adapters = AdapterSet::new(&model, &AdapterConfig::lora(2, 4.0), &Grouping::Layer, 7)?;
//!
//! let x = Tensor::ones([3, 4], &device);
//! let on = Coalition::grand(adapters.players().len());
//! let y = Pass::new(&adapters, &on).linear(model.linear(0), x);
//! assert_eq!(y.dims(), [3, 6]);
//! # Ok::<(), coto_adapters::Error>(())
//! ```
//!
//! A new variant is one file: see [`Variant`].

mod adapter;
mod bridge;
mod config;
mod dora;
mod error;
mod folder;
mod hira;
mod init;
mod linear;
mod lora;
mod pass;
mod set;
mod variant;

pub use adapter::{Adapter, Factor};
pub use bridge::{Gates, LoraGate, adapt_module};
pub use config::{AdapterConfig, TargetSpec};
pub use error::Error;
pub use init::Init;
pub use linear::FrozenLinear;
pub use pass::{Dropout, Pass};
pub use set::{AdapterSet, Base};
pub use variant::{Axis, FactorSpec, Variant, Variants};
