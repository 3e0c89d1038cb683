use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::UnknownMethod;
use crate::strata::border_cost;

/// How Shapley values are found. Serde, [`Display`](fmt::Display) and [`FromStr`] use the same kebab-case names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Method {
    /// [`Method::Exact`] where the budget allows all 2ⁿ coalitions, otherwise [`Method::Adjusted`].
    #[default]
    Auto,
    /// All 2ⁿ coalitions.
    Exact,
    /// Marginals along random orders (Castro, Gómez and Tejada, 2009).
    Permutation,
    /// Orders together with their reverses (Mitchell et al., 2022); exact where no more than two players interact.
    Antithetic,
    /// Permutation sampling that stops an order within 1 % of v(N) (Ghorbani and Zou, 2019). Biased; for games that saturate early.
    Truncated,
    /// Each player's marginals at evenly spread sizes (Maleki et al., 2013).
    Stratified,
    /// The multilinear extension, one coalition serving all players (Okhrati and Lipani, 2020).
    Owen,
    /// [`Method::Owen`] with each coalition's complement.
    OwenHalved,
    /// KernelSHAP (Lundberg and Lee, 2017).
    Kernel,
    /// KernelSHAP with each coalition's complement (Covert and Lee, 2021).
    KernelPaired,
    /// Unbiased KernelSHAP (Covert and Lee, 2021).
    KernelUnbiased,
    /// LeverageSHAP: pairs without replacement, all sizes alike (Musco and Witter, 2025).
    Leverage,
    /// LeverageSHAP on what is left of a curve in the coalitions' size.
    LeverageCentred,
    /// Stratified SVARM (Kolpaczki et al., 2024): each evaluation serves all players.
    Svarm,
    /// LeverageSHAP's pairs, read with the help of the surrogate whose misfit on unseen pairs promises the smallest standard
    /// errors: further features, a curve over one index, or a process of odd interactions. In the manner of Witter et al. (2025).
    Adjusted,
}

impl Method {
    /// All methods.
    pub const ALL: [Method; 15] = [
        Method::Auto,
        Method::Exact,
        Method::Permutation,
        Method::Antithetic,
        Method::Truncated,
        Method::Stratified,
        Method::Owen,
        Method::OwenHalved,
        Method::Kernel,
        Method::KernelPaired,
        Method::KernelUnbiased,
        Method::Leverage,
        Method::LeverageCentred,
        Method::Svarm,
        Method::Adjusted,
    ];

    /// The method's name.
    pub fn name(self) -> &'static str {
        match self {
            Method::Auto => "auto",
            Method::Exact => "exact",
            Method::Permutation => "permutation",
            Method::Antithetic => "antithetic",
            Method::Truncated => "truncated",
            Method::Stratified => "stratified",
            Method::Owen => "owen",
            Method::OwenHalved => "owen-halved",
            Method::Kernel => "kernel",
            Method::KernelPaired => "kernel-paired",
            Method::KernelUnbiased => "kernel-unbiased",
            Method::Leverage => "leverage",
            Method::LeverageCentred => "leverage-centred",
            Method::Svarm => "svarm",
            Method::Adjusted => "adjusted",
        }
    }

    /// The fewest evaluations with which the method gives values and standard errors for `n` players.
    pub fn least(self, n: usize) -> usize {
        let all = u32::try_from(n)
            .ok()
            .and_then(|n| 1_usize.checked_shl(n))
            .unwrap_or(usize::MAX);
        let least = match self {
            Method::Exact => all,
            Method::Permutation => 2 * n,
            Method::Antithetic => 4 * n,
            Method::Truncated => 8 * n + 2,
            Method::Stratified => 4 * n + 2,
            Method::Owen => 2 * n + 4,
            Method::OwenHalved => 4 * n + 6,
            Method::Svarm => border_cost(n, 1) + n,
            Method::KernelUnbiased => n + 4,
            Method::Auto
            | Method::Kernel
            | Method::KernelPaired
            | Method::Leverage
            | Method::LeverageCentred
            | Method::Adjusted => 2 * n + 6,
        };
        least.min(all)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Method {
    type Err = UnknownMethod;

    fn from_str(name: &str) -> Result<Self, UnknownMethod> {
        let names = || Self::ALL.map(Method::name);
        let close = |other: &&str| strsim::jaro_winkler(name, other);
        Self::ALL
            .into_iter()
            .find(|method| method.name() == name)
            .ok_or_else(|| UnknownMethod {
                name: name.into(),
                nearest: names()
                    .into_iter()
                    .max_by(|a, b| close(a).total_cmp(&close(b)))
                    .filter(|other| close(other) > 0.7),
                methods: names().join(", "),
            })
    }
}
