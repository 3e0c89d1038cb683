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
    Data(#[from] coto_data::Error),
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

impl Error {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        |source| Self::Io { path, source }
    }
}
