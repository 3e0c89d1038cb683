//! Folding adapters into a base checkpoint, by streaming: [`fold()`], [`unfold()`], [`check()`]; and adapters for others: [`export()`].

mod change;
mod check;
mod checkpoint;
mod error;
mod export;
mod float;
mod locate;
mod others;
mod plan;
mod record;
mod report;
mod staging;
mod stream;
mod weight;

use coto_peft::Folder;

pub use check::check;
pub use error::FoldError;
pub use export::{Exported, Target, VLLM_RANKS, export, for_vllm, uniform};
pub use report::{Checked, Folded, Report};
pub use stream::{fold, unfold};

/// An adapter and its weight.
pub type Adapter<'a> = (&'a Folder, f64);
