use std::path::PathBuf;

/// Everything that can keep a report from being written, one variant per cause.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A result file is not there.
    #[error("`{}` does not exist", path.display())]
    MissingFile {
        /// The file that was looked for.
        path: PathBuf,
    },
    /// The operating system refused to read or write.
    #[error("cannot {action} `{}`: {cause}", path.display())]
    Io {
        /// What was tried: "read" or "write".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        cause: std::io::Error,
    },
    /// A text that is not JSON, such as a line cut short.
    #[error("`{}`, line {line}: malformed JSON: {cause}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What the parser met.
        cause: String,
    },
    /// JSON in which a field is missing or holds the wrong type.
    #[error("`{}`, line {line}: {cause}", path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// Which field, and what is wrong with it.
        cause: String,
    },
    /// A coalition that is no text of one `0` or `1` per player.
    #[error("`{}`, line {line}: `active` is `{active}`, expected {players} characters, each 0 or 1", path.display())]
    Coalition {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The text found.
        active: String,
        /// How many players the run has.
        players: usize,
    },
    /// A result file without anything to show.
    #[error("`{}` holds no {what}", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// What it should hold: "steps" or "runs".
        what: &'static str,
    },
    /// A JSON file that is no result of a known kind.
    #[error("`{}` is of kind `{kind}`, and known are `shapley`, `stability`, `connect`, `similarity` and `bound`", path.display())]
    Kind {
        /// The file.
        path: PathBuf,
        /// What it says it is.
        kind: String,
    },
}
