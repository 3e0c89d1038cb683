use std::path::PathBuf;

/// What can stop a run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A run file that does not say what a run needs.
    #[error("{path}: {source}")]
    Toml {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A `--set` that is not `key=value`.
    #[error("`{text}` is not an assignment: {reason}")]
    Assignment {
        /// The text.
        text: String,
        /// What is wrong.
        reason: String,
    },
    /// A value out of its range.
    #[error("`{field}` = {value}: {reason}")]
    Value {
        /// The field of the run file.
        field: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        reason: &'static str,
    },
    /// The model.
    #[error(transparent)]
    Model(#[from] coto_models::Error),
    /// The data.
    #[error(transparent)]
    Data(Box<coto_data::Error>),
    /// The images.
    #[error(transparent)]
    Image(Box<coto_image::Error>),
    /// A processor that makes other images than the model takes.
    #[error(
        "{path} makes images of {made:?} (channels, height, width); the model takes {}",
        taken.map_or("none".to_owned(), |taken| format!("{taken:?}"))
    )]
    Pixels {
        /// The processor's file.
        path: PathBuf,
        /// What it makes.
        made: [usize; 3],
        /// What the model takes, if it takes images.
        taken: Option<[usize; 3]>,
    },
    /// Data of a kind that the model cannot learn from.
    #[error("the run file's data are {data}, and the model is {family}")]
    Kind {
        /// What the run file names.
        data: &'static str,
        /// The model.
        family: &'static str,
    },
    /// A token that the model does not know.
    #[error(
        "token {token} is beyond the model's vocabulary of {vocabulary}: the tokenizer is another model's"
    )]
    Vocabulary {
        /// The token.
        token: u32,
        /// The number of tokens known.
        vocabulary: usize,
    },
    /// A text that is longer than the model's positions suffice for.
    #[error("a text of {tokens} tokens, and the model has {positions} positions")]
    TooLong {
        /// Its tokens.
        tokens: usize,
        /// The model's positions.
        positions: usize,
    },
    /// A head that is not there.
    #[error("`head.kind` is `checkpoint`, and the checkpoint has no classifier")]
    NoClassifier,
    /// A class that the checkpoint's classifier does not have.
    #[error("the checkpoint's classifier has no class `{label}`; the nearest is `{nearest}`")]
    NoClass {
        /// The data's label.
        label: String,
        /// The most alike of the classifier's.
        nearest: String,
    },
    /// The adapters.
    #[error(transparent)]
    Adapters(#[from] coto_adapters::Error),
    /// The adapter folder.
    #[error(transparent)]
    Peft(#[from] coto_peft::Error),
    /// The schedule.
    #[error(transparent)]
    Schedule(#[from] coto_schedule::Error),
    /// The loss is no longer a number.
    #[error("the loss is {loss} at step {step}; batch of rows {rows:?}, coalition {coalition}")]
    NonFinite {
        /// The loss.
        loss: f32,
        /// The optimiser step, from 0.
        step: usize,
        /// The training rows in the batch.
        rows: Vec<usize>,
        /// Which players were on, the lowest first.
        coalition: String,
    },
    /// A checkpoint that is broken.
    #[error("{path}: broken checkpoint: {reason}")]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A checkpoint of another run.
    #[error(
        "{path} is of another run: {what} differs (checkpoint {found}, run file {expected}); start afresh in another folder, or with `--overwrite`"
    )]
    OtherRun {
        /// The file.
        path: PathBuf,
        /// What differs.
        what: &'static str,
        /// What the checkpoint has.
        found: String,
        /// What the run has.
        expected: String,
    },
    /// The output folder has a run already.
    #[error("{path} has a run already; go on with `--resume`, or start afresh with `--overwrite`")]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// There is nothing to evaluate on.
    #[error("the run file names no `data.{split}`")]
    NoSplit {
        /// Which split.
        split: &'static str,
    },
}

impl From<coto_data::Error> for Error {
    fn from(error: coto_data::Error) -> Self {
        Self::Data(Box::new(error))
    }
}

impl From<coto_image::Error> for Error {
    fn from(error: coto_image::Error) -> Self {
        Self::Image(Box::new(error))
    }
}

impl Error {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        |source| Self::Io { path, source }
    }
}
