//! Text for language models: tokenizer, chat template, sequences to learn from, questions to evaluate with.

mod dataset;
mod folder;
mod gguf;
mod message;
mod options;
mod python;
mod question;
mod spans;
mod split;
mod stream;
mod template;
mod tokenizer;

pub use dataset::{LanguageDataset, Sequence};
pub use message::Message;
pub use options::{LanguageColumns, LanguageFormat, LanguageOptions};
pub use question::{MultipleChoice, Prompt, Question, QuestionColumns};
pub use stream::DecodeStream;
pub use template::ChatTemplate;
pub use tokenizer::LanguageTokenizer;

pub(crate) use message::found;
