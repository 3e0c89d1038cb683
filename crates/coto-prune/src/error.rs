use coto_peft::hint;

/// Why an adapter cannot be pruned as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A text that is none of a grammar.
    #[error("`{text}` is no {what}: there are {known}")]
    Text {
        /// What the text should be.
        what: &'static str,
        /// The text.
        text: String,
        /// The forms that there are.
        known: &'static str,
    },
    /// A number out of its range.
    #[error("{what} is {value}, but must be {expected}")]
    Number {
        /// Of what.
        what: &'static str,
        /// Its value.
        value: f64,
        /// What would be right.
        expected: String,
    },
    /// Nothing would be left.
    #[error("`{by}` keeps none of the {of}: an adapter has at least one module")]
    Nothing {
        /// What chose.
        by: String,
        /// What it chose from.
        of: String,
    },
    /// A kind that no module has.
    #[error("no module's path ends in `{kind}`{}", hint(nearest))]
    Kind {
        /// The ending.
        kind: String,
        /// The nearest that there are.
        nearest: Vec<String>,
    },
    /// A player of which a choice would keep only some modules.
    #[error("player `{player}` has modules that stay and modules that go: group them otherwise")]
    Split {
        /// The player's name.
        player: String,
    },
    /// A player without a score.
    #[error("player `{player}` has no score{}", hint(nearest))]
    NoScore {
        /// The player's name.
        player: String,
        /// The nearest names that have one.
        nearest: Vec<String>,
    },
    /// A choice by scores, and no scores.
    #[error("`{choice}` needs the players' scores, such as Shapley values by player name")]
    NoScores {
        /// The choice.
        choice: String,
    },
    /// A score or metric that is infinite or no number.
    #[error("{what} is {value}; it must be finite")]
    NotFinite {
        /// Of which player or coalition.
        what: String,
        /// The value.
        value: f64,
    },
    /// An evaluation that gave another number of values than it was asked for.
    #[error("the evaluation gave {found} values for {asked} coalitions")]
    WrongCount {
        /// Coalitions in the batch.
        asked: usize,
        /// Values that came back.
        found: usize,
    },
    /// A module of the folder that the model does not have.
    #[error(
        "module `{module}` is none of the model's adapted modules{}",
        hint(nearest)
    )]
    UnknownModule {
        /// The module's path.
        module: String,
        /// The nearest paths that there are.
        nearest: Vec<String>,
    },
    /// What pruning by data needs and has not.
    #[error(
        "module `{module}`: {method} needs {needs}: collect statistics over calibration data first"
    )]
    NoStatistics {
        /// The module's path.
        module: String,
        /// The method.
        method: &'static str,
        /// What it needs.
        needs: &'static str,
    },
    /// Statistics of another adapter.
    #[error("module `{module}`: the statistics have {what} of [{}, {}], but must have [{}, {}]", found[0], found[1], expected[0], expected[1])]
    Statistics {
        /// The module's path.
        module: String,
        /// What does not fit.
        what: &'static str,
        /// Its sizes.
        found: [usize; 2],
        /// Those that fit.
        expected: [usize; 2],
    },
    /// What a variant cannot have.
    #[error("{method} cannot prune {variant}: {reason}")]
    Refused {
        /// The method.
        method: &'static str,
        /// The variant.
        variant: &'static str,
        /// Why.
        reason: &'static str,
    },
    /// An N:M pattern in a row that its groups do not fill.
    #[error(
        "module `{module}`: a pattern of groups of {of} does not fit the {cols} columns of {factor}"
    )]
    Pattern {
        /// The module's path.
        module: String,
        /// A or B.
        factor: char,
        /// Its columns.
        cols: usize,
        /// Entries of a group.
        of: usize,
    },
    /// Inputs for which the Hessian cannot be factorised.
    #[error(
        "module `{module}`: the Hessian of {factor}'s inputs is not positive definite; are they all finite?"
    )]
    Hessian {
        /// The module's path.
        module: String,
        /// A or B.
        factor: char,
    },
    /// A grouping's own error.
    #[error(transparent)]
    Coalition(#[from] coto_coalition::Error),
    /// The algebra's own error.
    #[error(transparent)]
    LowRank(#[from] coto_lowrank::Error),
    /// A folder's own error.
    #[error(transparent)]
    Peft(#[from] coto_peft::Error),
}
