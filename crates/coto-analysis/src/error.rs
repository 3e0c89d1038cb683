/// What can keep an instrument from its answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Model, data or readout.
    #[error(transparent)]
    Train(#[from] coto_train::Error),
    /// The adapters.
    #[error(transparent)]
    Adapters(#[from] coto_adapters::Error),
    /// Pruning.
    #[error(transparent)]
    Prune(#[from] coto_prune::Error),
    /// Adapters that cannot be joined.
    #[error(transparent)]
    Merge(#[from] coto_merge::Error),
    /// Adapters of different modules, which cannot be compared.
    #[error("adapter {index} adapts other modules than the first: {what}")]
    Modules {
        /// Which, from 0.
        index: usize,
        /// The first difference.
        what: String,
    },
    /// Statistics that cannot be kept.
    #[error(transparent)]
    Statistics(#[from] coto_lowrank::Error),
    /// Factors that are not those of their folder.
    #[error(
        "module `{module}`: a folder of its adapter has twice the rank, for PiSSA and OLoRA subtract what they begin with; take the gradients of the adapters that are read from the folder"
    )]
    Doubled {
        /// The module's path.
        module: String,
    },
    /// A loss that is not finite.
    #[error("the loss of samples {rows:?} is {loss}")]
    NonFinite {
        /// The loss.
        loss: f32,
        /// The samples of the batch.
        rows: Vec<usize>,
    },
    /// Adapters whose outputs say different things.
    #[error("adapter {index} tells {found}, and the rows ask for {expected}")]
    Outputs {
        /// Which, from 0.
        index: usize,
        /// What it tells.
        found: String,
        /// What is to be told.
        expected: String,
    },
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
