/// Why an update cannot be made, or not be combined with another.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Sizes that do not fit.
    #[error("{what}: [{}, {}] does not fit [{}, {}]", found[0], found[1], expected[0], expected[1])]
    Shape {
        /// Of what.
        what: &'static str,
        /// The sizes.
        found: [usize; 2],
        /// Those that they should fit.
        expected: [usize; 2],
    },
    /// A sum of nothing.
    #[error("there is no update to sum")]
    Empty,
    /// A rank that no matrix has.
    #[error("rank 0: an update has at least rank 1")]
    Rank,
    /// A variant whose ΔW is not the product of its factors.
    #[error(
        "module `{module}`: the ΔW of {variant} depends on the base weight and is not of low rank"
    )]
    NotLowRank {
        /// The module's path.
        module: String,
        /// The variant's name.
        variant: &'static str,
    },
    /// Numbers for which the singular values do not come out.
    #[error(
        "the singular values of a [{rows}, {cols}] matrix do not converge; are all its entries finite?"
    )]
    Diverges {
        /// Its rows.
        rows: usize,
        /// Its columns.
        cols: usize,
    },
    /// A folder's own error.
    #[error(transparent)]
    Peft(#[from] coto_peft::Error),
}
