use std::fmt;
use std::path::{Path, PathBuf};

pub use crate::names::Nearest;
use crate::names::quoted;
pub(crate) use crate::names::shorten;

/// A file, and where it matters a row of it.
///
/// Rows are counted from 1: the lines of a JSONL file, the rows of a Parquet file, and the records of a CSV or TSV file as a
/// spreadsheet shows them, with the header as row 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// The row, unless the whole file is meant.
    pub row: Option<usize>,
}

impl Place {
    /// A whole file.
    pub fn file(path: &Path) -> Self {
        Self {
            path: path.into(),
            row: None,
        }
    }

    /// A row of a file, counted from 1.
    pub fn row(path: &Path, row: usize) -> Self {
        Self {
            path: path.into(),
            row: Some(row),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        match self.row {
            Some(row) => write!(f, ", row {row}"),
            None => Ok(()),
        }
    }
}

/// What can be wrong with labelled text, its tokenizer, or a share asked of it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file is missing or may not be read.
    #[error("cannot open {path}: {reason}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: std::io::Error,
    },

    /// Reading broke off: a failing disk, a folder, a damaged gzip stream.
    #[error("{at}: cannot read on: {reason}")]
    Read {
        /// The row that was being read.
        at: Place,
        /// What the system or the decompressor said.
        reason: std::io::Error,
    },

    /// The name of the file says no format this crate reads.
    #[error(
        "{path}: unknown format; known are .jsonl, .json, .csv and .tsv, each also with .gz, and .parquet"
    )]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },

    /// The file holds no example.
    #[error("{path}: the file has no rows")]
    NoRows {
        /// The file.
        path: PathBuf,
    },

    /// A column that the configuration names is not there.
    #[error("{at}: there is no column `{column}`{}", nearest.hint())]
    MissingColumn {
        /// The header, the JSONL row, or the Parquet file.
        at: Place,
        /// The column asked for.
        column: String,
        /// The nearest name that is there.
        nearest: Nearest,
    },

    /// Bytes that should be text are not UTF-8.
    #[error("{at}: {what} is not UTF-8")]
    NotUtf8 {
        /// The row.
        at: Place,
        /// The column, or the byte of the line.
        what: String,
    },

    /// A line of a JSONL file is not one JSON object.
    #[error("{at}: the line is not a JSON object: {reason}")]
    Json {
        /// The line.
        at: Place,
        /// What the parser said.
        reason: String,
    },

    /// A value is null, or an empty cell of a CSV or TSV file, or an empty label.
    #[error("{at}: column `{column}` is empty")]
    Null {
        /// The row.
        at: Place,
        /// The column.
        column: String,
    },

    /// A value has a type that cannot be used.
    #[error("{at}: column `{column}` holds {found}, but {wanted} is wanted")]
    WrongType {
        /// The row.
        at: Place,
        /// The column.
        column: String,
        /// What is there.
        found: String,
        /// What could be used.
        wanted: &'static str,
    },

    /// A record of a CSV or TSV file has more or fewer fields than the header.
    #[error("{at}: the row has {found} fields, but the header has {expected}")]
    Ragged {
        /// The row.
        at: Place,
        /// Fields of the row.
        found: u64,
        /// Fields of the header.
        expected: u64,
    },

    /// A CSV or TSV file cannot be read for another reason.
    #[error("{at}: malformed table: {reason}")]
    Table {
        /// The row.
        at: Place,
        /// What the parser said.
        reason: String,
    },

    /// A Parquet file is damaged, or uses a codec that is not built in.
    #[error("{at}: unreadable Parquet: {reason}")]
    Parquet {
        /// The file, and the first row of the group that cannot be read.
        at: Place,
        /// The column, where there is one, and what the reader said.
        reason: String,
    },

    /// A label is none of the fixed label set.
    #[error("{at}: column `{column}` holds the label `{label}`, which is not in the label set{}", nearest.hint())]
    UnknownLabel {
        /// The row.
        at: Place,
        /// The column.
        column: String,
        /// The label, shortened where very long.
        label: String,
        /// The nearest label of the set.
        nearest: Nearest,
    },

    /// A share would leave one side of a split without examples.
    #[error("a share of {share} leaves one side of {examples} examples empty")]
    Share {
        /// What was asked for.
        share: String,
        /// How many examples there are.
        examples: usize,
    },

    /// A tokenizer cannot be read.
    #[error("{name}: unreadable tokenizer: {reason}")]
    Tokenizer {
        /// The path, or `tokenizer` where it came as bytes.
        name: String,
        /// What the reader said.
        reason: String,
    },

    /// The maximal length leaves no room for text.
    #[error(
        "max_length {max_length} leaves no room for text: the tokenizer adds {special} special tokens to a pair"
    )]
    MaxLength {
        /// The length asked for, in tokens.
        max_length: usize,
        /// Special tokens the tokenizer adds to a pair of texts.
        special: usize,
    },

    /// The tokenizer refused a text.
    #[error("example {example} cannot be tokenized: {reason}")]
    Encode {
        /// The index of the example in its data set, from 0.
        example: usize,
        /// What the tokenizer said.
        reason: String,
    },

    /// A GGUF file cannot be read, or says too little of its tokenizer.
    #[error(transparent)]
    Gguf(Box<coto_gguf::Error>),

    /// A GGUF file names a tokenizer that is not known here.
    #[error("{name}: {key} `{found}` is not supported{}", nearest.hint())]
    UnknownTokenizer {
        /// The file.
        name: String,
        /// The metadata key.
        key: String,
        /// Its value.
        found: String,
        /// The nearest value that is supported.
        nearest: Nearest,
    },

    /// The tokenizer refused a text.
    #[error("{name}: a text cannot be tokenized: {reason}")]
    Tokenize {
        /// The tokenizer's folder or file.
        name: String,
        /// What it said.
        reason: String,
    },

    /// An id to decode is not in the vocabulary.
    #[error("{name}: there is no token with the id {id}")]
    UnknownId {
        /// The tokenizer's folder or file.
        name: String,
        /// The id.
        id: u32,
    },

    /// A completion has to be ended, but no token is known that ends a text.
    #[error("{name}: the tokenizer names no token that ends a text (`eos_token`)")]
    NoEnd {
        /// The tokenizer's folder or file.
        name: String,
    },

    /// A conversation needs a chat template.
    #[error("{name}: the model has no chat template")]
    NoChatTemplate {
        /// The tokenizer's folder or file.
        name: String,
    },

    /// A chat template has a wrong syntax, or refused a conversation.
    #[error("{name}: chat template{}: {reason}", line_of(*line))]
    ChatTemplate {
        /// The tokenizer's folder or file.
        name: String,
        /// The line of the template, from 1.
        line: Option<usize>,
        /// What went wrong, or what the template itself says.
        reason: String,
    },

    /// A row cannot be used for a cause outside of the file.
    #[error("{at}: {cause}")]
    Row {
        /// The row.
        at: Place,
        /// The cause.
        cause: Box<Error>,
    },

    /// A text that should be JSON is not.
    #[error("{at}: column `{column}` is not JSON: {reason}")]
    JsonCell {
        /// The row.
        at: Place,
        /// The column.
        column: String,
        /// What the parser said.
        reason: String,
    },

    /// A message has a field that no one would read.
    #[error("{at}: `{field}` is unknown: a message has `role` and `content`")]
    UnknownField {
        /// The row.
        at: Place,
        /// The field, with the message it is in.
        field: String,
    },

    /// None of the columns that would tell the format is there.
    #[error(
        "{at}: of the columns {} none is there, only {}",
        quoted(known, "or"),
        quoted(names, "and")
    )]
    UnknownColumns {
        /// The header, the JSONL row, or the Parquet file.
        at: Place,
        /// The columns that are there.
        names: Vec<String>,
        /// Those that could be.
        known: Vec<String>,
    },

    /// The columns would fit several readings.
    #[error(
        "{at}: there are {}, of which one is wanted: say which with `{option}`",
        quoted(found, "and")
    )]
    Ambiguous {
        /// The header, the JSONL row, or the Parquet file.
        at: Place,
        /// The columns.
        found: Vec<String>,
        /// The option that decides.
        option: &'static str,
    },

    /// A row is of another format than the first.
    #[error("{at}: the row has `{found}`, but the first has `{first}`: one file holds one format")]
    MixedRows {
        /// The row.
        at: Place,
        /// The columns of the first row.
        first: String,
        /// The columns of this row.
        found: String,
    },

    /// The beginning of a conversation is rendered differently alone, so that its turns cannot be told apart.
    #[error(
        "{at}: the chat template writes the conversation up to turn {turn} differently when more follows, so what the \
         assistant says cannot be found; `completions_only = false` learns all of it"
    )]
    NotAPrefix {
        /// The row.
        at: Place,
        /// The turn, from 1.
        turn: usize,
    },

    /// A conversation in which nothing is to be learnt.
    #[error("{at}: the assistant says nothing in this conversation")]
    NoAssistant {
        /// The row.
        at: Place,
    },

    /// No row has a token to learn.
    #[error("{path}: none of {rows} rows has a token to learn within max_tokens {max_tokens}")]
    NoTargets {
        /// The file.
        path: PathBuf,
        /// How many rows it has.
        rows: usize,
        /// The maximal length, in tokens.
        max_tokens: usize,
    },

    /// An answer is none of the choices.
    #[error("{at}: column `{column}` holds `{answer}`, which is neither one of the choices nor the index of one, from 0{}", nearest.hint())]
    NoSuchChoice {
        /// The row.
        at: Place,
        /// The column.
        column: String,
        /// The answer.
        answer: String,
        /// The nearest choice.
        nearest: Nearest,
    },
}

impl From<coto_gguf::Error> for Error {
    fn from(error: coto_gguf::Error) -> Self {
        Self::Gguf(Box::new(error))
    }
}

impl Error {
    /// The error with the row it was met in, unless it has one.
    pub(crate) fn at(self, at: &Place) -> Self {
        match self {
            Self::NotAPrefix { .. } | Self::NoAssistant { .. } => self,
            cause => Self::Row {
                at: at.clone(),
                cause: Box::new(cause),
            },
        }
    }
}

fn line_of(line: Option<usize>) -> String {
    line.map_or(String::new(), |line| format!(", line {line}"))
}
