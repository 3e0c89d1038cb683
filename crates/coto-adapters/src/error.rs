use crate::Init;

/// What can be wrong with adapters.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A configuration, a folder or targets that PEFT's rules refuse.
    #[error(transparent)]
    Peft(#[from] coto_peft::Error),
    /// A grouping of modules into players that does not fit.
    #[error(transparent)]
    Players(#[from] coto_coalition::Error),
    /// No variant has the name.
    #[error("unknown adapter variant `{name}`; there are {known}")]
    Variant {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// The variant cannot start in this way.
    #[error("{variant} adapters cannot be initialised by `{init}`; use {allowed}")]
    Init {
        /// The variant.
        variant: &'static str,
        /// The initialisation asked for.
        init: Init,
        /// What it can be.
        allowed: &'static str,
    },
    /// A rank that does not fit a module.
    #[error("rank {rank} does not fit module `{module}` of shape [{inputs}, {outputs}]: {reason}")]
    Rank {
        /// The rank.
        rank: usize,
        /// The module's path.
        module: String,
        /// Its inputs.
        inputs: usize,
        /// Its outputs.
        outputs: usize,
        /// Why not.
        reason: &'static str,
    },
    /// A folder's module that the model does not have.
    #[error("the adapter has module `{module}`, the model does not; nearest: {nearest}")]
    NoModule {
        /// The module's path.
        module: String,
        /// The nearest path of the model.
        nearest: String,
    },
    /// A tensor whose shape the model or the rank contradicts.
    #[error("`{key}` of module `{module}` has shape {found:?}, expected {expected:?}")]
    Shape {
        /// The module's path.
        module: String,
        /// The factor's name.
        key: String,
        /// The shape in the folder.
        found: Vec<usize>,
        /// The shape that fits.
        expected: Vec<usize>,
    },
    /// Input dropout where the input is not seen.
    #[error("dropout {dropout} on a foreign module: its weight does not see the input; use 0")]
    Dropout {
        /// The dropout asked for.
        dropout: f64,
    },
    /// A checkpoint without a tensor of the adapters.
    #[error("the checkpoint has no tensor `{name}`: it is of other adapters")]
    State {
        /// The tensor's name.
        name: String,
    },
}

impl Error {
    /// The module's path where an initialisation knew only its number.
    pub(crate) fn in_module(mut self, path: &str) -> Self {
        if let Self::Rank { module, .. } = &mut self {
            path.clone_into(module);
        }
        self
    }
}
