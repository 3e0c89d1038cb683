//! The training harness: run files, the loop with coalitions, optimiser groups, checkpoints, metrics and evaluation.
//!
//! A [`RunConfig`] (TOML) becomes a [`Run`]: frozen model, data, head and adapters, all checked. [`Run::train`] takes it
//! to its end or to a stop, and can go on from its checkpoint: everything random is a function of seed and step, so that on
//! the CPU a resumed run ends with the very bits of an uninterrupted one.
//!
//! ```no_run
//! use coto_train::{Run, RunConfig};
//!
//! let config = RunConfig::load("run.toml".as_ref(), &["schedule.preset=\"coto\"".to_owned()])?;
//! let mut run = Run::prepare(&config)?;
//! let outcome = run.train(&mut |_event| {}, &|| false)?;
//! println!("{outcome:?}: {:?}", run.evaluate_test()?);
//! # Ok::<(), coto_train::Error>(())
//! ```

mod answers;
mod atomic;
mod checkpoint;
mod config;
mod error;
mod essence;
mod eval;
mod finished;
mod head;
mod metrics;
mod optim;
mod prefix;
mod rate;
mod readout;
mod run;
mod task;
mod train;

pub use answers::{ChoiceScores, MatchScores, exact_match, multiple_choice};
pub use atomic::write as write_atomic;
pub use checkpoint::{Checkpoint, State};
pub use config::{
    DataConfig, EvalConfig, HeadConfig, HeadKind, ImagesConfig, LanguageConfig, ModelConfig,
    OptimConfig, RunConfig, assign,
};
pub use error::Error;
pub use eval::evaluate;
pub use head::Head;
pub use metrics::Scores;
pub use optim::{AdamW, Update};
pub use prefix::{PrefixCache, PrefixUse};
pub use rate::{Decay, Rate};
pub use readout::Readout;
pub use run::{Plan, Run};
pub use task::{Batch, ImageTask, LabelledText, LanguageTask, Rows, Split, Splits, Task};
pub use train::{EvalRecord, Event, Outcome, StepRecord};
