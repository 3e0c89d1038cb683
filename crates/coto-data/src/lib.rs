//! Text on its way into a model: tables from disk, few-shot samples and splits, tokens, and length-bucketed batches; for
//! language models tokenizers, chat templates, sequences with the tokens to learn, and samples packed into rows.
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
//!
//! ```
//! use coto_data::{LanguageDataset, LanguageOptions, LanguageTokenizer};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("talks.jsonl");
//! let tokenizer = LanguageTokenizer::load("goldens/smollm.gguf")?; // or a folder with a tokenizer.json
//! std::fs::write(&path, r#"{"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"Ho"}]}"#)?;
//! let data = LanguageDataset::load(&path, &LanguageOptions::default(), &tokenizer)?;
//! let learnt = data.sequences[0].ids.iter().zip(&data.sequences[0].learn);
//! let learnt: Vec<u32> = learnt.filter(|(_, learn)| **learn).map(|(&id, _)| id).collect();
//! assert_eq!(tokenizer.decode(&learnt, false)?, "Ho<|im_end|>");
//!
//! for batch in coto_data::packed_batches(&data.lengths(), 1024, 4, 7, 0) {
//!     assert_eq!(batch, [[0]]); // one row, of one sample
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
mod fingerprint;
mod jsonl;
mod labels;
mod language;
mod names;
mod order;
mod pack;
mod parquet_file;
mod sample;
mod table;

pub use batch::{Batch, collate};
pub use dataset::{Columns, Dataset, Example};
pub use encode::{Encoder, Tokens};
pub use error::{Error, Nearest, Place};
pub use fingerprint::Fingerprint;
pub use labels::Labels;
pub use language::{
    ChatTemplate, DecodeStream, LanguageColumns, LanguageDataset, LanguageFormat, LanguageOptions,
    LanguageTokenizer, Message, MultipleChoice, Prompt, Question, QuestionColumns, Sequence,
};
pub use order::{batches, in_order};
pub use pack::{pack, packed_batches};
pub use sample::{Share, few_shot, split};
