//! Shapley values of any cooperative game: exact values, estimators with standard errors, interactions and Banzhaf values.
//!
//! ```
//! use coto_shapley::{FnGame, Shapley};
//!
//! // Two of three make a majority.
//! let mut game = FnGame::new(3, |s| if s.len() >= 2 { 1.0 } else { 0.0 });
//! let shapley = Shapley::auto().run(&mut game)?;
//! assert!(shapley.exact);
//! assert!(shapley.values.iter().all(|value| (value - 1.0 / 3.0).abs() < 1e-12));
//! # Ok::<(), coto_shapley::Error<std::convert::Infallible>>(())
//! ```

mod adjusted;
mod banzhaf;
mod dense;
mod error;
mod estimate;
mod exact;
mod game;
mod index;
mod interactions;
mod kernel;
mod marginal;
mod memo;
mod method;
mod odd;
mod pairs;
mod plan;
mod regression;
mod shapley;
mod spread;
mod strata;

pub use banzhaf::{banzhaf, banzhaf_exact};
pub use error::{Error, UnknownMethod};
pub use estimate::Estimate;
pub use exact::{MOST_PLAYERS, exact};
pub use game::{FnGame, Game};
pub use interactions::Interactions;
pub use memo::Memo;
pub use method::Method;
pub use shapley::{BUDGET, Shapley};
