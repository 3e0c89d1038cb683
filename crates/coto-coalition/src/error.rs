/// What can be wrong with a coalition's text or with a grouping of modules into players.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text of a coalition holds something other than `0` and `1`.
    #[error("coalition `{text}`: `{found}` at position {position} is neither 0 nor 1")]
    NotABit {
        /// The whole text.
        text: String,
        /// The first character that is no bit.
        found: char,
        /// Its place, counted in characters from 0.
        position: usize,
    },
    /// Chunks of no modules were asked for.
    #[error("a chunk must hold at least one module, not 0")]
    ZeroChunk,
    /// Two groups have the same name.
    #[error("two groups of players are named `{group}`")]
    DuplicateGroup {
        /// The name in question.
        group: String,
    },
    /// A group lists no pattern, so it would own no module.
    #[error("group `{group}` lists no module")]
    EmptyGroup {
        /// The group's name.
        group: String,
    },
    /// A pattern names no module.
    #[error("group `{group}`: `{pattern}` matches no adapted module{}", hint(.nearest))]
    UnmatchedPattern {
        /// The group that lists the pattern.
        group: String,
        /// The pattern.
        pattern: String,
        /// The kind, path or part of a path that looks most like it.
        nearest: Option<String>,
    },
    /// A module is in no group.
    #[error("module `{module}` belongs to no group")]
    UnmatchedModule {
        /// The module's path.
        module: String,
    },
    /// A module is in two groups.
    #[error("module `{module}` belongs to both `{first}` and `{second}`")]
    SharedModule {
        /// The module's path.
        module: String,
        /// The earlier of the two groups.
        first: String,
        /// The later of the two groups.
        second: String,
    },
}

fn hint(nearest: &Option<String>) -> String {
    nearest
        .as_ref()
        .map(|name| format!("; did you mean `{name}`?"))
        .unwrap_or_default()
}
