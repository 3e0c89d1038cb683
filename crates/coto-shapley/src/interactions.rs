use serde::{Deserialize, Serialize};

use crate::strata::{Sized, border_cost};
use crate::{Error, Game, Memo, exact};

/// The Shapley interaction index of each pair of players (Grabisch and Roubens, 1999): how much more two players are worth
/// together than one by one, on average over the coalitions that they may join.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interactions {
    /// The number of players n.
    pub players: usize,
    /// The seed of the draws; 0 for exact values.
    pub seed: u64,
    /// Whether the values are exact up to rounding.
    pub exact: bool,
    /// Distinct coalitions evaluated.
    pub evaluations: usize,
    /// Iᵢⱼ of the pairs (0, 1), (0, 2), …, (0, n − 1), (1, 2), ….
    pub values: Vec<f64>,
    /// The standard error of each value; 0 if exact.
    pub standard_errors: Vec<f64>,
}

/// The pairs of `n` players in the order of [`Interactions::values`].
fn pairs(n: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..n).flat_map(move |i| (i + 1..n).map(move |j| (i, j)))
}

impl Interactions {
    /// The index of two different players.
    ///
    /// # Panics
    /// If the players are the same or out of range.
    pub fn value(&self, i: usize, j: usize) -> f64 {
        let place = pairs(self.players).position(|pair| pair == (i.min(j), i.max(j)));
        self.values
            [place.unwrap_or_else(|| panic!("({i}, {j}) is no pair of {} players", self.players))]
    }

    /// All pairs' indices from all 2ⁿ coalitions.
    ///
    /// # Errors
    /// Those of [`exact`](fn@crate::exact).
    pub fn exact<G: Game>(memo: &mut Memo<G>) -> Result<Self, Error<G::Error>> {
        let (n, table) = (memo.players(), exact::table(memo)?);
        // 1 / ((n−1)·C(n−2, s)).
        let mut weights = vec![1.0 / (n.max(2) - 1) as f64; n.max(2) - 1];
        for s in 1..weights.len() {
            weights[s] = weights[s - 1] * s as f64 / (n - 1 - s) as f64;
        }
        let value = |(i, j): (usize, usize)| {
            let (a, b) = (1 << i, 1 << j);
            let without = (0..table.len()).filter(|bits| bits & (a | b) == 0);
            let both = |s: usize| table[s | a | b] - table[s | a] - table[s | b] + table[s];
            without
                .map(|s| weights[s.count_ones() as usize] * both(s))
                .sum()
        };
        let values: Vec<f64> = pairs(n).map(value).collect();
        Ok(Self {
            players: n,
            seed: 0,
            exact: true,
            evaluations: table.len(),
            standard_errors: vec![0.0; values.len()],
            values,
        })
    }

    /// All pairs' indices from at most `budget` coalitions, stratified by size and by which of the pair are in (SVARM-IQ:
    /// Kolpaczki et al., 2024). Exact if the budget allows all 2ⁿ.
    ///
    /// # Errors
    /// A budget that does not cover the coalitions of at most two, and of all but at most two, players; a failing game.
    pub fn sample<G: Game>(
        memo: &mut Memo<G>,
        budget: usize,
        seed: u64,
    ) -> Result<Self, Error<G::Error>> {
        let n = memo.players();
        if n <= exact::MOST_PLAYERS && budget >= 1 << n {
            return Self::exact(memo);
        }
        let least = border_cost(n, 2) + n;
        if budget < least {
            return Err(Error::BudgetTooSmall {
                method: "interactions".into(),
                players: n,
                least,
                budget,
            });
        }
        let sized = Sized::draw(memo, budget, seed, 2)?;
        let (values, standard_errors) = pairs(n).map(|(i, j)| sized.interaction(i, j)).unzip();
        Ok(Self {
            players: n,
            seed,
            exact: false,
            evaluations: sized.evaluations,
            values,
            standard_errors,
        })
    }
}
