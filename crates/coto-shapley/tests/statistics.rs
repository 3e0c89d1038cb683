//! What estimators claim about their errors, over many seeds.

use coto_coalition::Coalition;
use coto_shapley::{FnGame, Interactions, Memo, Method, Shapley, banzhaf, banzhaf_exact, exact};

const N: usize = 10;
const SEEDS: u64 = 200;

/// Curved in the players' weights, with pairs, triples and a quintuple that interact: nothing fits it exactly.
fn value(set: &Coalition) -> f64 {
    let weight: f64 = set.iter().map(|i| 0.2 + 0.1 * ((i * 7) % N) as f64).sum();
    let whole = |players: &[usize]| f64::from(u8::from(players.iter().all(|&i| set.contains(i))));
    let joint = 0.3 * whole(&[0, 3, 5]) - 0.4 * whole(&[1, 2])
        + 0.5 * whole(&[4, 6, 8])
        + 0.4 * whole(&[1, 3, 5, 7, 9]);
    (weight / 3.0).tanh() + joint
}

fn game() -> FnGame<fn(&Coalition) -> f64> {
    FnGame::new(N, value)
}

fn truth() -> Vec<f64> {
    exact(&mut game()).unwrap().values
}

fn sampling() -> impl Iterator<Item = Method> {
    Method::ALL
        .into_iter()
        .filter(|method| !matches!(method, Method::Auto | Method::Exact))
}

#[test]
fn estimators_that_claim_it_are_unbiased() {
    let truth = truth();
    for method in [
        Method::Permutation,
        Method::Antithetic,
        Method::Stratified,
        Method::Owen,
        Method::OwenHalved,
        Method::KernelUnbiased,
    ] {
        let runs: Vec<Vec<f64>> = (0..SEEDS)
            .map(|seed| {
                Shapley::new(method)
                    .budget(100)
                    .seed(seed)
                    .run(&mut game())
                    .unwrap()
                    .values
            })
            .collect();
        for i in 0..N {
            let mean = runs.iter().map(|run| run[i]).sum::<f64>() / SEEDS as f64;
            let variance =
                runs.iter().map(|run| (run[i] - mean).powi(2)).sum::<f64>() / (SEEDS - 1) as f64;
            let z = (mean - truth[i]) / (variance / SEEDS as f64).sqrt();
            assert!(
                z.abs() < 4.0,
                "{method}: player {i} is off by {z} standard errors"
            );
        }
    }
}

#[test]
fn intervals_cover_the_truth() {
    let truth = truth();
    let mut wrong = Vec::new();
    // Truncation is biased by design: its intervals are those of what it estimates.
    for method in sampling().filter(|&method| method != Method::Truncated) {
        let covered = |seed| {
            let found = Shapley::new(method)
                .budget(250)
                .seed(seed)
                .run(&mut game())
                .unwrap();
            found
                .intervals
                .iter()
                .zip(&truth)
                .filter(|((low, high), value)| (low..=high).contains(value))
                .count()
        };
        let share = (0..SEEDS).map(covered).sum::<usize>() as f64 / (SEEDS as usize * N) as f64;
        println!("{method} covers {share}");
        if !(0.90..=0.99).contains(&share) {
            wrong.push((method, share));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn errors_fall_as_the_root_of_the_budget() {
    // So many players that the draws do not run out of coalitions.
    let n = 20;
    let value = |set: &Coalition| value(&Coalition::from_players(N, set.iter().map(|i| i % N)));
    let mut game = FnGame::new(n, value);
    let truth = exact(&mut game).unwrap().values;
    for method in sampling().filter(|&method| method != Method::Truncated) {
        let mut error = |budget: usize| {
            let mut square = |seed| {
                let found = Shapley::new(method)
                    .budget(budget)
                    .seed(seed)
                    .run(&mut game)
                    .unwrap();
                found
                    .values
                    .iter()
                    .zip(&truth)
                    .map(|(a, b)| (a - b).powi(2))
                    .sum::<f64>()
            };
            ((0..20).map(&mut square).sum::<f64>() / 20.0).sqrt()
        };
        let slope = (error(1600) / error(200)).ln() / 8.0_f64.ln();
        println!("{method}: slope {slope}");
        assert!(
            slope < -0.45,
            "{method}: the error falls as the budget to the power {slope}"
        );
    }
}

#[test]
fn banzhaf_values_and_interactions_are_covered_by_their_errors() {
    let mut memo = Memo::new(game()).unwrap();
    let (values, pairs) = (
        banzhaf_exact(&mut memo).unwrap(),
        Interactions::exact(&mut memo).unwrap(),
    );
    let (mut single, mut double) = (0, 0);
    for seed in 0..SEEDS {
        let found = banzhaf(&mut memo, 250, seed).unwrap();
        single += found
            .intervals
            .iter()
            .zip(&values.values)
            .filter(|((low, high), value)| (low..=high).contains(value))
            .count();
        let found = Interactions::sample(&mut memo, 400, seed).unwrap();
        let near = |((a, b), error): (&(&f64, &f64), &f64)| (*a - *b).abs() <= 1.96 * error;
        double += found
            .values
            .iter()
            .zip(&pairs.values)
            .zip(&found.standard_errors)
            .filter(|(two, error)| near((two, error)))
            .count();
    }
    let share = |count: usize, of: usize| count as f64 / (of * SEEDS as usize) as f64;
    let (single, double) = (share(single, N), share(double, N * (N - 1) / 2));
    assert!((0.90..=0.99).contains(&single), "Banzhaf values: {single}");
    assert!((0.90..=0.99).contains(&double), "interactions: {double}");
}
