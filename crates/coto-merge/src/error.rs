use coto_peft::hint;

use crate::Error::Refused;

/// Why adapters cannot be merged.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing to merge.
    #[error("there is no adapter to merge")]
    Empty,
    /// What a method cannot do.
    #[error("{}{reason}", place(module))]
    Refused {
        /// The module's path; empty where a rule does not know it.
        module: String,
        /// Why, and what would do.
        reason: String,
    },
    /// An argument that cannot be.
    #[error("{name} is {value}, but must be {expected}")]
    Argument {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: String,
        /// What would be right.
        expected: String,
    },
    /// Two adapters of one name.
    #[error("two adapters are called `{name}`")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// A weight or a scale that is no number.
    #[error("the weight of {of} is {weight}, but must be a finite number")]
    Weight {
        /// Whose.
        of: String,
        /// The weight.
        weight: f64,
    },
    /// An adapter that cannot be read as updates ΔW.
    #[error("adapter `{name}`: {cause}")]
    Adapter {
        /// The adapter's name.
        name: String,
        /// What is wrong with it.
        cause: Box<coto_lowrank::Error>,
    },
    /// An adapter whose ΔW depends on the base weight.
    #[error(
        "adapter `{name}` is {variant}: its ΔW depends on the base weight, so there is nothing to merge without it. Fold it into \
         the base, or fuse adapters of this one variant tensor by tensor"
    )]
    Variant {
        /// The adapter's name.
        name: String,
        /// The variant's name.
        variant: &'static str,
    },
    /// Two adapters of different models.
    #[error(
        "module `{module}`: the ΔW of adapter `{name}` is [{}, {}], that of `{other}` is [{}, {}]: they are of different models",
        found[0], found[1], expected[0], expected[1]
    )]
    Shapes {
        /// The module's path.
        module: String,
        /// An adapter.
        name: String,
        /// Its sizes [out, in].
        found: [usize; 2],
        /// An adapter before it.
        other: String,
        /// That one's sizes.
        expected: [usize; 2],
    },
    /// Adapters whose tensors do not correspond, so that they cannot be fused or aligned.
    #[error("the tensors of adapters `{name}` and `{other}` do not correspond: {reason}")]
    Unlike {
        /// An adapter.
        name: String,
        /// The first one.
        other: String,
        /// What differs, and what would do.
        reason: String,
    },
    /// A name that nothing has.
    #[error("there is no {what} `{name}`{}", hint(nearest))]
    Unknown {
        /// What it should be a name of.
        what: &'static str,
        /// The name.
        name: String,
        /// The nearest names.
        nearest: Vec<String>,
    },
    /// A pattern that chooses no module.
    #[error("the pattern `{pattern}` chooses no module{}", hint(nearest))]
    Pattern {
        /// The pattern.
        pattern: String,
        /// The nearest module paths.
        nearest: Vec<String>,
    },
    /// A result that would be larger than its parts.
    #[error(
        "module `{module}`: the merged ΔW is of rank {rank}, the parts together of {parts}: say to what rank it is to be compressed"
    )]
    Rank {
        /// The module's path.
        module: String,
        /// The result's rank.
        rank: usize,
        /// The sum of the parts' ranks.
        parts: usize,
    },
    /// The algebra's own error.
    #[error(transparent)]
    LowRank(#[from] coto_lowrank::Error),
    /// A folder's own error.
    #[error(transparent)]
    Peft(#[from] coto_peft::Error),
}

impl Error {
    /// The same error with the module it was met in, where it has none yet.
    pub(crate) fn at(self, path: &str) -> Self {
        match self {
            Refused { module, reason } if module.is_empty() => Refused {
                module: path.to_owned(),
                reason,
            },
            other => other,
        }
    }
}

fn place(module: &str) -> String {
    match module {
        "" => String::new(),
        path => format!("module `{path}`: "),
    }
}
