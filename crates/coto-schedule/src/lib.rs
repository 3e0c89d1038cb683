//! Activation schedules of CoTo, CopRA and stochastic depth: the curves p(t), layer profiles and the sampler of coalitions.
//!
//! ```
//! use coto_coalition::{Module, Players};
//! use coto_schedule::{CoalitionSampler, Schedule, ScheduleConfig};
//!
//! let modules: Vec<Module> = (0..4).map(|layer| Module::new(format!("layer.{layer}.query"), Some(layer), "query")).collect();
//! let schedule = Schedule::new(&ScheduleConfig::default(), 100)?;
//! let sampler = CoalitionSampler::new(schedule, &Players::per_layer(&modules), 7);
//!
//! assert_eq!(sampler.draw(0).len(), 1); // p = 0: one layer alone
//! assert!(sampler.draw(75).is_grand()); // the last quarter trains them all
//! assert_eq!(sampler.draw(30), sampler.draw(30)); // nothing to save: a resumed run draws the same
//! # Ok::<(), coto_schedule::Error>(())
//! ```

mod config;
mod curve;
mod error;
mod profile;
mod sampler;
mod schedule;

pub use config::{Preset, ScheduleConfig};
pub use curve::Curve;
pub use error::Error;
pub use profile::Profile;
pub use sampler::CoalitionSampler;
pub use schedule::Schedule;
