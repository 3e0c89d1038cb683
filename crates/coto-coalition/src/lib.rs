//! Coalitions of adapters: which players are switched on, which modules a player owns, and the seeded random streams that draw them.
//!
//! ```
//! use coto_coalition::{Coalition, Grouping, Module};
//!
//! let modules: Vec<Module> = (0..3)
//!     .flat_map(|layer| ["query", "value"].map(|kind| Module::new(format!("layer.{layer}.{kind}"), Some(layer), kind)))
//!     .collect();
//! let players = Grouping::Layer.players(&modules)?;
//! assert_eq!(players.names(), ["layer.0", "layer.1", "layer.2"]);
//! assert_eq!(players.modules(1), [2, 3]);
//!
//! let upper = Coalition::grand(players.len()).without(0);
//! assert_eq!(upper.to_string(), "011");
//! assert!(upper.contains(players.player_of(5)));
//! # Ok::<(), coto_coalition::Error>(())
//! ```

mod coalition;
mod error;
mod grouping;
mod module;
mod players;
mod streams;

pub use coalition::Coalition;
pub use error::Error;
pub use grouping::Grouping;
pub use module::Module;
pub use players::Players;
pub use streams::{Stream, stream, stream_at};
