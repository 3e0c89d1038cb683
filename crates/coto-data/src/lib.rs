//! Labelled text on its way into a model: tables from disk, few-shot samples and splits, tokens, and length-bucketed batches.
//!
//! The crate knows no tensor library: a [`Batch`] is plain vectors with a shape beside them.
//!
//! ```
//! use coto_data::{Columns, Dataset, Share};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("reviews.csv");
//! std::fs::write(&path, "text,label\na delight,good\nso dull,bad\nwarm and funny,good\na mess,bad\n")?;
//! let data = Dataset::load(&path, &Columns::default(), None)?;
//! assert_eq!(data.labels, ["bad", "good"]);
//!
//! let (train, held_out) = data.split(Share::Fraction(0.5), 7)?;
//! assert_eq!((train.class_counts(), held_out.class_counts()), (vec![1, 1], vec![1, 1]));
//!
//! let lengths: Vec<usize> = train.examples.iter().map(|example| example.text.len()).collect();
//! for batch in coto_data::batches(&lengths, 2, 7, 0) {
//!     assert_eq!(batch.len(), 2);
//! }
//! # Ok(())
//! # }
//! ```

mod batch;
mod cell;
mod dataset;
mod delimited;
mod encode;
mod error;
mod jsonl;
mod labels;
mod order;
mod parquet_file;
mod sample;

pub use batch::{Batch, collate};
pub use dataset::{Columns, Dataset, Example};
pub use encode::{Encoder, Tokens};
pub use error::{Error, Nearest, Place};
pub use order::{batches, in_order};
pub use sample::Share;
