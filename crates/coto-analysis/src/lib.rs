//! Instruments for trained adapters: what each is worth, how they stand being switched off, whether two can be joined.
//!
//! An [`Evaluation`] holds a run's model and the rows on which it is judged. Every instrument asks it for many coalitions at once,
//! which it answers through the [`CoalitionTree`]: coalitions that agree on the lower layers share their states.
//!
//! ```no_run
//! use coto_analysis::{AdapterGame, Evaluation, Value};
//! use coto_train::{Run, Split};
//!
//! let run = Run::finished("runs/a".as_ref(), None)?;
//! let evaluation = Evaluation::new(&run, Split::Test)?.sampled(500, 7);
//! let mut game = AdapterGame::new(&evaluation, run.adapters(), Value::Margin);
//! let shapley = coto_shapley::Shapley::auto().budget(500).run(&mut game)?;
//! println!("{:?}, {:?}", shapley.values, game.runs());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bound;
mod calibrate;
mod connect;
mod ensemble;
mod error;
mod evaluation;
mod game;
mod join;
mod pruning;
mod shapley;
mod similarity;
mod stability;
mod subsets;
mod tree;
mod trial;

pub use bound::{Measured, Sides, SizedLosses};
pub use calibrate::{Calibration, calibrate};
pub use connect::{Blend, Curve, End, Join, blend, connect, weights};
pub use ensemble::ensemble;
pub use error::Error;
pub use evaluation::{Evaluation, Margins, Means, Told};
pub use game::{AdapterGame, Value};
pub use join::{align, fuse, mix};
pub use pruning::{Judged, Kept, Pruning, folder_curve};
pub use shapley::{Evenness, LayerShare, Share, evenness, layer_shares, shares};
pub use similarity::{Similarity, Subspaces, similarity};
pub use stability::{SizeScores, Spread, stability};
pub use subsets::{OfSize, subsets};
pub use tree::{CoalitionTree, LayerRuns};
pub use trial::{Trial, judge, trial};
