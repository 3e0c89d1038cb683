use std::path::PathBuf;

use coto_coalition::Coalition;

/// What can keep a game from being solved; `E` is the game's own error.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error<E> {
    /// The game failed.
    #[error("{0}")]
    Game(E),
    /// The game has nobody whose share could be asked for.
    #[error("the game has no players")]
    NoPlayers,
    /// The game is too large for its table of 2ⁿ values.
    #[error(
        "exact values of {players} players need a table of 2^{players} values; at most {most} players are allowed"
    )]
    TooManyPlayers {
        /// The game's players.
        players: usize,
        /// The most that a table may have.
        most: usize,
    },
    /// The game gave another number of values than it was asked for.
    #[error("the game gave {found} values for {asked} coalitions")]
    WrongCount {
        /// Coalitions in the batch.
        asked: usize,
        /// Values that came back.
        found: usize,
    },
    /// A value is infinite or no number.
    #[error("coalition {coalition} is worth {value}; every value must be finite")]
    NotFinite {
        /// The coalition in question.
        coalition: Coalition,
        /// What the game said of it.
        value: f64,
    },
    /// The budget does not cover what the method needs at least.
    #[error("{method} on {players} players needs at least {least} evaluations, not {budget}")]
    BudgetTooSmall {
        /// The method's name.
        method: String,
        /// The game's players.
        players: usize,
        /// The least number of evaluations.
        least: usize,
        /// The number that was allowed.
        budget: usize,
    },
    /// The wanted precision is no positive number.
    #[error("precision {precision}: the largest standard error to stop at must be above 0")]
    Precision {
        /// The number in question.
        precision: f64,
    },
    /// The file that a game's values are kept in cannot be used.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the line where it is one.
        reason: String,
    },
}

/// A method that does not exist was named.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no method `{name}`{}; the methods are {methods}", nearest.map(|name| format!(", did you mean `{name}`?")).unwrap_or_default())]
pub struct UnknownMethod {
    /// The name in question.
    pub name: String,
    /// The name that looks most like it.
    pub nearest: Option<&'static str>,
    /// All names.
    pub methods: String,
}
