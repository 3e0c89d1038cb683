use std::fmt;
use std::path::{Path, PathBuf};

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
    pub(crate) fn file(path: &Path) -> Self {
        Self {
            path: path.into(),
            row: None,
        }
    }

    pub(crate) fn row(path: &Path, row: usize) -> Self {
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
}

/// The right name that is nearest to a wrong one, if there is any name at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nearest(pub Option<String>);

impl Nearest {
    pub(crate) fn of<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> Self {
        let likeness = |name: &str| strsim::jaro_winkler(wrong, name);
        let nearest = names
            .into_iter()
            .max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
        Self(nearest.map(shorten))
    }

    fn hint(&self) -> String {
        match &self.0 {
            Some(name) => format!("; the nearest is `{name}`"),
            None => String::new(),
        }
    }
}

/// The beginning of a value that may be as long as a file.
pub(crate) fn shorten(text: &str) -> String {
    const SHOWN: usize = 120;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
