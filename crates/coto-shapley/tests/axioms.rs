//! Axioms, exactness and reproducibility of every estimator.

use std::collections::HashSet;
use std::convert::Infallible;

use coto_coalition::{Coalition, stream};
use coto_shapley::{
    Error, FnGame, Game, Interactions, Memo, Method, Shapley, banzhaf, banzhaf_exact, exact,
};
use proptest::prelude::*;
use rand::RngExt;

/// A game given by the values of its coalitions.
fn tabled(table: &[f64]) -> FnGame<impl FnMut(&Coalition) -> f64 + '_> {
    let n = table.len().trailing_zeros() as usize;
    FnGame::new(n, |set| table[set.iter().map(|i| 1 << i).sum::<usize>()])
}

fn random_table(n: usize, seed: u64) -> Vec<f64> {
    let mut draws = stream(seed, "table");
    (0..1 << n).map(|_| draws.random_range(-1.0..1.0)).collect()
}

/// A game of `n` players with interactions of up to `order` players and values of its own for ∅.
fn polynomial(n: usize, order: usize, seed: u64) -> impl Fn(&Coalition) -> f64 {
    let mut draws = stream(seed, "polynomial");
    let single: Vec<f64> = (0..n).map(|_| draws.random_range(-1.0..1.0)).collect();
    let pairs: Vec<f64> = (0..n * n).map(|_| draws.random_range(-1.0..1.0)).collect();
    move |set: &Coalition| {
        let pair = |i: usize| {
            set.iter()
                .filter(|&j| j < i)
                .map(|j| pairs[i * n + j])
                .sum::<f64>()
        };
        let together = |i| if order > 1 { pair(i) } else { 0.0 };
        0.5 + set.iter().map(|i| single[i] + together(i)).sum::<f64>()
    }
}

/// All methods that sample.
fn sampling() -> impl Iterator<Item = Method> {
    Method::ALL
        .into_iter()
        .filter(|method| !matches!(method, Method::Auto | Method::Exact))
}

fn estimate(
    method: Method,
    n: usize,
    budget: usize,
    seed: u64,
    value: impl FnMut(&Coalition) -> f64,
) -> Vec<f64> {
    Shapley::new(method)
        .budget(budget)
        .seed(seed)
        .run(&mut FnGame::new(n, value))
        .unwrap()
        .values
}

fn assert_close(found: &[f64], wanted: &[f64], tolerance: f64, what: &str) {
    for (player, (a, b)) in found.iter().zip(wanted).enumerate() {
        assert!(
            (a - b).abs() <= tolerance,
            "{what}: player {player}: {a} is not {b}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn exact_values_are_efficient_symmetric_linear_and_give_a_null_player_nothing(seed in any::<u64>(), n in 2usize..8) {
        let (a, b) = (random_table(n, seed), random_table(n, seed ^ 1));
        let phi = |table: &[f64]| exact(&mut tabled(table)).unwrap().values;
        let sum: f64 = phi(&a).iter().sum();
        prop_assert!((sum - (a[a.len() - 1] - a[0])).abs() < 1e-12);
        let mixed: Vec<f64> = a.iter().zip(&b).map(|(a, b)| 2.0 * a - 3.0 * b).collect();
        let linear: Vec<f64> = phi(&a).iter().zip(phi(&b)).map(|(a, b)| 2.0 * a - 3.0 * b).collect();
        assert_close(&phi(&mixed), &linear, 1e-11, "linearity");
        // Player 0 and player 1 made alike, the last player made null.
        let last = 1 << (n - 1);
        let alike = |bits: usize| if bits & 3 == 2 { bits ^ 3 } else { bits };
        let null: Vec<f64> = (0..a.len()).map(|bits| a[bits & !last]).collect();
        prop_assert!(phi(&null)[n - 1].abs() < 1e-15);
        let symmetric: Vec<f64> = (0..a.len()).map(|bits| a[alike(bits)]).collect();
        let values = phi(&symmetric);
        prop_assert!((values[0] - values[1]).abs() < 1e-12);
        // Banzhaf values and interactions know null players too.
        let mut memo = Memo::new(tabled(&null)).unwrap();
        prop_assert!(banzhaf_exact(&mut memo).unwrap().values[n - 1].abs() < 1e-15);
        prop_assert!(Interactions::exact(&mut memo).unwrap().value(0, n - 1).abs() < 1e-13);
    }

    #[test]
    fn every_estimate_is_efficient_and_reproducible_within_its_budget(seed in any::<u64>(), n in 5usize..12, extra in 0usize..150) {
        let table = random_table(n, seed);
        for method in sampling() {
            let budget = method.least(n) + extra;
            let run = || Shapley::new(method).budget(budget).seed(seed).run(&mut tabled(&table)).unwrap();
            let found = run();
            let total = table[table.len() - 1] - table[0];
            prop_assert!((found.values.iter().sum::<f64>() - total).abs() < 1e-9, "{} is not efficient", method);
            prop_assert!(found.evaluations <= budget.min(1 << n), "{} spent {} of {}", method, found.evaluations, budget);
            prop_assert!(found.standard_errors.iter().all(|error| error.is_finite() && *error >= 0.0), "{}", method);
            prop_assert_eq!(run(), found);
        }
    }

    #[test]
    fn a_null_player_gets_nothing_from_marginals(seed in any::<u64>()) {
        let n = 9;
        let table = random_table(n, seed);
        for method in [Method::Permutation, Method::Antithetic] {
            let value = |set: &Coalition| table[set.without(4).iter().map(|i| 1 << i).sum::<usize>()];
            let phi = estimate(method, n, 100, seed, value);
            prop_assert!(phi[4].abs() < 1e-12, "{}", method);
        }
    }

    #[test]
    fn estimates_are_linear_in_the_game(seed in any::<u64>()) {
        let n = 10;
        let (a, b) = (random_table(n, seed), random_table(n, seed ^ 1));
        let mixed: Vec<f64> = a.iter().zip(&b).map(|(a, b)| 2.0 * a - 3.0 * b).collect();
        // Truncation and the choice of a surrogate look at the values.
        for method in sampling().filter(|method| !matches!(method, Method::Truncated | Method::Adjusted)) {
            let phi = |table| Shapley::new(method).budget(120).seed(seed).run(&mut tabled(table)).unwrap().values;
            let linear: Vec<f64> = phi(&a).iter().zip(phi(&b)).map(|(a, b)| 2.0 * a - 3.0 * b).collect();
            assert_close(&phi(&mixed), &linear, 1e-7, method.name());
        }
    }
}

#[test]
fn additive_games_are_exact_where_theory_says_so() {
    let n = 14;
    let value = polynomial(n, 1, 3);
    let truth: Vec<f64> = (0..n)
        .map(|i| value(&Coalition::from_players(n, [i])) - 0.5)
        .collect();
    for method in sampling().filter(|method| {
        !matches!(
            method,
            Method::KernelUnbiased | Method::Svarm | Method::Truncated
        )
    }) {
        let found = estimate(method, n, 150, 1, &value);
        assert_close(&found, &truth, 1e-8, method.name());
    }
}

#[test]
fn pairs_of_interacting_players_are_exact_for_paired_estimators() {
    let n = 10;
    let value = polynomial(n, 2, 4);
    let truth = exact(&mut FnGame::new(n, &value)).unwrap().values;
    let paired = [
        Method::Antithetic,
        Method::KernelPaired,
        Method::Leverage,
        Method::LeverageCentred,
        Method::Adjusted,
    ];
    for method in paired {
        let found = estimate(method, n, 100, 2, &value);
        assert_close(&found, &truth, 1e-8, method.name());
    }
}

#[test]
fn all_coalitions_make_regression_and_strata_exact() {
    let n = 7;
    let table = random_table(n, 5);
    let truth = exact(&mut tabled(&table)).unwrap().values;
    for method in [
        Method::Leverage,
        Method::LeverageCentred,
        Method::Adjusted,
        Method::Auto,
    ] {
        let found = Shapley::new(method)
            .budget(1 << n)
            .run(&mut tabled(&table))
            .unwrap();
        assert_close(&found.values, &truth, 1e-8, method.name());
        assert!(found.standard_errors.iter().all(|&error| error < 1e-8));
    }
}

#[test]
fn few_players_are_no_special_case() {
    for n in 1..5 {
        let table = random_table(n, 6);
        let truth = exact(&mut tabled(&table)).unwrap().values;
        for method in Method::ALL {
            let found = Shapley::new(method)
                .budget(1000)
                .run(&mut tabled(&table))
                .unwrap();
            assert!(
                found.values.iter().all(|value| value.is_finite()),
                "{method}, {n} players"
            );
            assert!(found.evaluations <= 1 << n);
            if n < 3 && method != Method::Truncated {
                let wide = found
                    .standard_errors
                    .iter()
                    .fold(1e-9, |a: f64, &b| a.max(b));
                assert_close(&found.values, &truth, 6.0 * wide, method.name());
            }
        }
    }
}

/// Counts what it is asked, and refuses to be asked twice.
struct Strict<'a> {
    table: &'a [f64],
    seen: HashSet<Coalition>,
    left: usize,
}

impl Game for Strict<'_> {
    type Error = &'static str;

    fn players(&self) -> usize {
        self.table.len().trailing_zeros() as usize
    }

    fn values(&mut self, coalitions: &[Coalition]) -> Result<Vec<f64>, &'static str> {
        if coalitions.len() > self.left {
            return Err("killed");
        }
        self.left -= coalitions.len();
        let fresh = coalitions.iter().all(|set| self.seen.insert(set.clone()));
        assert!(fresh, "a coalition was asked for twice");
        Ok(coalitions
            .iter()
            .map(|set| self.table[set.iter().map(|i| 1 << i).sum::<usize>()])
            .collect())
    }
}

#[test]
fn no_coalition_is_evaluated_twice_and_a_killed_run_resumes_to_the_same_numbers() {
    let (n, budget) = (11, 300);
    let table = random_table(n, 7);
    let folder = tempfile::tempdir().unwrap();
    for method in Method::ALL
        .into_iter()
        .filter(|&method| method != Method::Exact)
    {
        let run = Shapley::new(method).budget(budget).seed(9);
        let whole = run.run(&mut tabled(&table)).unwrap();
        let path = folder.path().join(method.name());
        let strict = |left| Strict {
            table: &table,
            seen: HashSet::new(),
            left,
        };
        let mut killed = Memo::open(strict(130), &path).unwrap().batch(16);
        assert_eq!(
            run.run_over(&mut killed),
            Err(Error::Game("killed")),
            "{method}"
        );
        assert!(killed.known() > 0 && killed.known() < whole.evaluations);
        drop(killed);
        // A kill in the middle of a line.
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str("[\"0101");
        std::fs::write(&path, text).unwrap();
        let mut resumed = Memo::open(strict(whole.evaluations), &path)
            .unwrap()
            .batch(16);
        assert_eq!(run.run_over(&mut resumed).unwrap(), whole, "{method}");
        assert_eq!(resumed.known(), whole.evaluations);
        // More budget goes on from there: what was known is not asked for again.
        let before = resumed.known();
        let mut more = Memo::open(strict(100), &path).unwrap();
        let larger = Shapley::new(method).budget(before + 90).seed(9);
        let further = larger.run_over(&mut more).unwrap();
        assert_eq!(further, larger.run(&mut tabled(&table)).unwrap());
    }
}

#[test]
fn a_run_stops_at_the_wanted_precision() {
    let value = |set: &Coalition| (set.iter().map(|i| 1.0 + i as f64).sum::<f64>() / 20.0).sin();
    let n = 16;
    for method in [
        Method::Permutation,
        Method::Owen,
        Method::LeverageCentred,
        Method::Auto,
    ] {
        let run = |precision| {
            Shapley::new(method)
                .budget(60_000)
                .precision(precision)
                .run(&mut FnGame::new(n, value))
                .unwrap()
        };
        let (rough, fine) = (run(0.1), run(0.02));
        for (found, precision) in [(&rough, 0.1), (&fine, 0.02)] {
            assert!(
                found
                    .standard_errors
                    .iter()
                    .all(|&error| error <= precision),
                "{method}"
            );
        }
        assert!(
            rough.evaluations <= fine.evaluations && fine.evaluations < 60_000,
            "{method}"
        );
    }
}

#[test]
fn faults_are_named() {
    let game = || FnGame::new(6, |set: &Coalition| set.len() as f64);
    let message = |error: Error<Infallible>| error.to_string();
    let run = |method, budget| {
        message(
            Shapley::new(method)
                .budget(budget)
                .run(&mut game())
                .unwrap_err(),
        )
    };
    assert_eq!(
        run(Method::Antithetic, 20),
        "antithetic on 6 players needs at least 24 evaluations, not 20"
    );
    assert_eq!(
        run(Method::Exact, 20),
        "exact on 6 players needs at least 64 evaluations, not 20"
    );
    let nobody = exact(&mut FnGame::new(0, |_: &Coalition| 0.0)).unwrap_err();
    assert_eq!(message(nobody), "the game has no players");
    let crowd = exact(&mut FnGame::new(40, |_: &Coalition| 0.0)).unwrap_err();
    assert_eq!(
        message(crowd),
        "exact values of 40 players need a table of 2^40 values; at most 24 players are allowed"
    );
    let hole = |set: &Coalition| {
        if set.len() == 3 && set.contains(0) {
            f64::NAN
        } else {
            0.0
        }
    };
    let error = message(exact(&mut FnGame::new(3, hole)).unwrap_err());
    assert_eq!(
        error,
        "coalition 111 is worth NaN; every value must be finite"
    );
    let error = message(
        Shapley::auto()
            .precision(-1.0)
            .run(&mut game())
            .unwrap_err(),
    );
    assert_eq!(
        error,
        "precision -1: the largest standard error to stop at must be above 0"
    );
    let mut memo = Memo::new(game()).unwrap();
    assert!(matches!(
        banzhaf(&mut memo, 10, 0),
        Err(Error::BudgetTooSmall { least: 26, .. })
    ));
    assert!(matches!(
        Interactions::sample(&mut memo, 10, 0),
        Err(Error::BudgetTooSmall { .. })
    ));
    let unknown = "antithtic".parse::<Method>().unwrap_err().to_string();
    assert!(
        unknown.starts_with("there is no method `antithtic`, did you mean `antithetic`?"),
        "{unknown}"
    );
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "[\"010\",0.5]\n").unwrap();
    let error = message(Memo::open(game(), file.path()).unwrap_err());
    assert!(
        error.ends_with("line 1: 3 players, but the game has 6"),
        "{error}"
    );
}
