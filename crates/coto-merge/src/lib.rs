//! Merging low-rank adapters on their factors.
//!
//! A [`Method`] makes one update ΔW of those that several adapters have for a module, and [`merge()`] makes one adapter folder of
//! several. Most methods are a [`Rule`] for matrices' entries in a [`Space`]; [`parse`] knows them by name and [`catalogue()`] tells
//! what they are. `examples/own_method.rs` has a rule of one's own. [`fold`] puts an adapter, merged or not, into its base
//! checkpoint for good.

mod align;
mod catalogue;
mod data;
mod error;
pub mod fold;
mod fuse;
mod lego;
mod merge;
mod method;
mod names;
pub mod peft_compat;
mod rule;
mod rules;
mod sketch;
mod space;

pub use align::{align, aligned};
pub use catalogue::{Entry, Kind};
pub use data::{Fisher, Found, RegMean, SearchOptions, Zip, search};
pub use error::Error;
pub use fuse::fuse;
pub use lego::Lego;
pub use merge::{Merged, Outcome, Plan, Source, merge};
pub use method::{Method, Needs, Part, Parts};
pub use names::{Options, catalogue, options, parse, suite};
pub use rule::{Rule, Weighted};
pub use rules::{
    Consensus, Linear, Majority, ModelStock, Rescale, Sce, Slerp, Sparse, Sparsify, TiesFlavour,
};
pub use space::{InSpace, Space};
