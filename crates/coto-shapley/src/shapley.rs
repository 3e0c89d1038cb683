use serde::{Deserialize, Serialize};

use crate::adjusted::{Features, pairs};
use crate::strata::Sized;
use crate::{Error, Estimate, Game, MOST_PLAYERS, Memo, Method, exact, kernel, marginal};

/// The budget of [`Shapley`] in evaluations if none is given: exact values of 12 players.
pub const BUDGET: usize = 4096;

/// A truncated order ends within this share of v(N) − v(∅).
const TOLERANCE: f64 = 0.01;

/// How Shapley values are to be estimated: the method, the seed, and when to stop.
///
/// ```
/// use coto_shapley::{FnGame, Shapley};
///
/// let mut game = FnGame::new(30, |s| (s.len() as f64).sqrt() + f64::from(s.contains(4)));
/// let estimate = Shapley::auto().budget(400).seed(7).run(&mut game)?;
/// assert_eq!(estimate.top(1), [4]);
/// assert!(estimate.evaluations <= 400);
/// # Ok::<(), coto_shapley::Error<std::convert::Infallible>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Shapley {
    method: Method,
    budget: usize,
    precision: Option<f64>,
    seed: u64,
}

impl Default for Shapley {
    fn default() -> Self {
        Self::new(Method::Auto)
    }
}

impl Shapley {
    /// [`Method::Auto`].
    pub fn auto() -> Self {
        Self::default()
    }

    /// By `method`, with at most [`BUDGET`] evaluations and seed 0.
    pub fn new(method: Method) -> Self {
        Self {
            method,
            budget: BUDGET,
            precision: None,
            seed: 0,
        }
    }

    /// At most so many distinct coalitions, the empty and the grand one among them.
    #[must_use]
    pub fn budget(mut self, evaluations: usize) -> Self {
        self.budget = evaluations;
        self
    }

    /// Stops as soon as no value's standard error is above this; looks after each doubling of what was spent.
    #[must_use]
    pub fn precision(mut self, standard_error: f64) -> Self {
        self.precision = Some(standard_error);
        self
    }

    /// The seed of all draws.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The Shapley values of `game`.
    ///
    /// # Errors
    /// A game without players, a budget below [`Method::least`], a precision that is not positive, a failing game, a value that
    /// is not finite.
    pub fn run<G: Game>(&self, game: &mut G) -> Result<Estimate, Error<G::Error>> {
        self.run_over(&mut Memo::new(game)?)
    }

    /// [`Shapley::run`] over what is already known of a game: goes on where an earlier run stopped, be it killed, of a smaller
    /// budget or a lower precision, and gives the numbers that an uninterrupted run gives.
    ///
    /// # Errors
    /// Those of [`Shapley::run`], and a memo's file that cannot be written.
    pub fn run_over<G: Game>(&self, memo: &mut Memo<G>) -> Result<Estimate, Error<G::Error>> {
        let n = memo.players();
        let least = self.method.least(n);
        if self.budget < least {
            return Err(Error::BudgetTooSmall {
                method: self.method.name().into(),
                players: n,
                least,
                budget: self.budget,
            });
        }
        let Some(precision) = self.precision else {
            return self.spend(memo, self.budget);
        };
        if precision.is_nan() || precision <= 0.0 {
            return Err(Error::Precision { precision });
        }
        let mut budget = self.budget.min(least.max(10 * n));
        loop {
            let estimate = self.spend(memo, budget)?;
            let reached = estimate
                .standard_errors
                .iter()
                .all(|&error| error <= precision);
            if reached || budget == self.budget {
                return Ok(estimate);
            }
            budget = self.budget.min(budget.saturating_mul(2));
        }
    }

    /// The estimate that so many evaluations give.
    fn spend<G: Game>(
        &self,
        memo: &mut Memo<G>,
        budget: usize,
    ) -> Result<Estimate, Error<G::Error>> {
        let (n, seed) = (memo.players(), self.seed);
        let all = n <= MOST_PLAYERS && budget >= 1 << n;
        let method = match self.method {
            Method::Auto if all => Method::Exact,
            Method::Auto => Method::Adjusted,
            method => method,
        };
        if method == Method::Exact || n == 1 {
            return exact::exact_over(memo);
        }
        let budget = if n <= MOST_PLAYERS {
            budget.min(1 << n)
        } else {
            budget
        };
        let raw = match method {
            Method::Permutation => marginal::permutations(memo, budget, seed, false),
            Method::Antithetic => marginal::permutations(memo, budget, seed, true),
            Method::Truncated => marginal::truncated(memo, budget, seed, TOLERANCE),
            Method::Stratified => marginal::stratified(memo, budget, seed),
            Method::Owen => marginal::owen(memo, budget, seed, false),
            Method::OwenHalved => marginal::owen(memo, budget, seed, true),
            Method::Kernel => kernel::kernel(memo, budget, seed, false),
            Method::KernelPaired => kernel::kernel(memo, budget, seed, true),
            Method::KernelUnbiased => kernel::unbiased(memo, budget, seed),
            Method::Leverage => pairs(memo, budget, seed, Features::Additive),
            Method::LeverageCentred => pairs(memo, budget, seed, Features::Sizes),
            Method::Svarm => Sized::draw(memo, budget, seed, 1).map(|sized| sized.shapley()),
            Method::Auto | Method::Exact | Method::Adjusted => {
                pairs(memo, budget, seed, Features::Best)
            }
        };
        Ok(raw?.finish(method.name(), seed))
    }
}
