use std::fmt;
use std::str::FromStr;

use coto_peft::nearest;

use super::PeftOptions;
use crate::{Consensus, Error, Majority, Sparse, Sparsify, TiesFlavour};

/// PEFT's ways to merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CombinationType {
    /// The nearest of the given rank to Σ wₖ ΔWₖ.
    #[default]
    Svd,
    /// A = Σ ±√|wₖsₖ| Aₖ and B = Σ √|wₖsₖ| Bₖ.
    Linear,
    /// Σ wₖ ΔWₖ, exactly: the factors side by side.
    Cat,
    /// TIES (arXiv 2306.01708) on A and on B.
    Ties,
    /// TIES on ΔW, then the nearest of the given rank.
    TiesSvd,
    /// DARE (arXiv 2311.03099) in place of TIES' trimming, on A and on B.
    DareTies,
    /// DARE, then as [`Linear`](Self::Linear).
    DareLinear,
    /// DARE in place of TIES' trimming on ΔW, then the nearest of the given rank.
    DareTiesSvd,
    /// DARE on ΔW, then as [`Svd`](Self::Svd).
    DareLinearSvd,
    /// The largest entries of A and of B, then as [`Linear`](Self::Linear).
    MagnitudePrune,
    /// The largest entries of ΔW, then as [`Svd`](Self::Svd).
    MagnitudePruneSvd,
}

impl CombinationType {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Svd,
        Self::Linear,
        Self::Cat,
        Self::Ties,
        Self::TiesSvd,
        Self::DareTies,
        Self::DareLinear,
        Self::DareTiesSvd,
        Self::DareLinearSvd,
        Self::MagnitudePrune,
        Self::MagnitudePruneSvd,
    ];

    /// PEFT's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Svd => "svd",
            Self::Linear => "linear",
            Self::Cat => "cat",
            Self::Ties => "ties",
            Self::TiesSvd => "ties_svd",
            Self::DareTies => "dare_ties",
            Self::DareLinear => "dare_linear",
            Self::DareTiesSvd => "dare_ties_svd",
            Self::DareLinearSvd => "dare_linear_svd",
            Self::MagnitudePrune => "magnitude_prune",
            Self::MagnitudePruneSvd => "magnitude_prune_svd",
        }
    }

    /// Whether ΔW is merged, and not A and B apart.
    pub(super) fn on_delta(self) -> bool {
        self.name().ends_with("svd")
    }
}

impl PeftOptions {
    /// The rule by which matrices become one.
    ///
    /// # Errors
    /// [`Error::Argument`] without a density in (0, 1] for a method that prunes.
    pub(super) fn rule(&self) -> Result<Sparse, Error> {
        use CombinationType::{
            Cat, DareLinear, DareLinearSvd, DareTies, DareTiesSvd, Linear, MagnitudePrune,
            MagnitudePruneSvd, Svd, Ties, TiesSvd,
        };
        let kind = self.combination_type;
        let density = || {
            let density = self.density;
            let value = density.map_or("none".to_owned(), |density| density.to_string());
            let right = density.filter(|density| *density > 0.0 && *density <= 1.0);
            right.ok_or_else(|| Error::Argument {
                name: "density",
                value,
                expected: format!("above 0 and at most 1 for `{kind}`"),
            })
        };
        let majority = self.majority_sign_method;
        let flavour = TiesFlavour::Peft;
        let elect = Consensus::Elect { flavour, majority };
        let rule = match kind {
            Svd | Linear | Cat => Sparse {
                sparsify: Sparsify::All,
                ..Sparse::magnitude(1.0)
            },
            MagnitudePrune | MagnitudePruneSvd => Sparse::magnitude(density()?),
            DareLinear | DareLinearSvd => Sparse::dare(density()?),
            Ties | TiesSvd => Sparse {
                consensus: elect,
                ..Sparse::magnitude(density()?)
            },
            DareTies | DareTiesSvd => Sparse {
                consensus: elect,
                ..Sparse::dare(density()?)
            },
        };
        Ok(rule)
    }
}

impl fmt::Display for CombinationType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for CombinationType {
    type Err = Error;

    /// # Errors
    /// [`Error::Argument`] with the nearest names.
    fn from_str(text: &str) -> Result<Self, Error> {
        named("combination_type", text, Self::ALL, Self::name)
    }
}

impl FromStr for Majority {
    type Err = Error;

    /// PEFT's names, `total` and `frequency`.
    ///
    /// # Errors
    /// [`Error::Argument`] with the nearest names.
    fn from_str(text: &str) -> Result<Self, Error> {
        let name = |majority| match majority {
            Self::Total => "total",
            Self::Frequency => "frequency",
        };
        named(
            "majority_sign_method",
            text,
            [Self::Total, Self::Frequency],
            name,
        )
    }
}

fn named<T: Copy, const N: usize>(
    argument: &'static str,
    text: &str,
    all: [T; N],
    name: fn(T) -> &'static str,
) -> Result<T, Error> {
    let found = all.into_iter().find(|&one| name(one) == text);
    found.ok_or_else(|| {
        let names = all.map(name);
        let mut expected = format!("one of {}", names.join(", "));
        let near = nearest(text, names);
        if !near.is_empty() {
            expected += &format!(" (nearest: {})", near.join(", "));
        }
        Error::Argument {
            name: argument,
            value: format!("`{text}`"),
            expected,
        }
    })
}
