/// What can keep an instrument from its answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Model, data or readout.
    #[error(transparent)]
    Train(#[from] coto_train::Error),
    /// The adapters.
    #[error(transparent)]
    Adapters(#[from] coto_adapters::Error),
    /// Adapters that cannot be joined.
    #[error(transparent)]
    Merge(#[from] coto_merge::Error),
    /// A split without rows.
    #[error("the {split} split has no rows to evaluate on")]
    NoRows {
        /// The split's name.
        split: &'static str,
    },
    /// A value out of its range.
    #[error("`{field}` = {value}: {reason}")]
    Value {
        /// What it is.
        field: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        reason: &'static str,
    },
}
