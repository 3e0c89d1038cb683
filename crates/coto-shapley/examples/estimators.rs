//! The errors of every estimator on the games of `goldens/games.json` and `goldens/adapter_game.f64`, as JSON lines.
//!
//!     cargo run --release -p coto-shapley --example estimators [-- SEEDS [METHOD | FAMILY | PLAYERS ...]] > ours.jsonl

use coto_coalition::Coalition;
use coto_shapley::{FnGame, Method, Shapley};

#[path = "../tests/games/mod.rs"]
mod games;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let seeds: u64 = arguments
        .next()
        .map_or(30, |seeds| seeds.parse().expect("a number of seeds"));
    let (named, others): (Vec<String>, Vec<String>) =
        arguments.partition(|word| word.parse::<Method>().is_ok());
    let (sizes, families): (Vec<String>, Vec<String>) = others
        .into_iter()
        .partition(|word| word.parse::<usize>().is_ok());
    let wanted = |of: &[String], name: &str| of.is_empty() || of.iter().any(|word| word == name);
    let methods = Method::ALL
        .into_iter()
        .filter(|&method| method != Method::Exact && wanted(&named, method.name()));
    let mut games = games::read();
    games.retain(|game| {
        wanted(&families, &game.family) && wanted(&sizes, &game.players.to_string())
    });
    for method in methods {
        for first in games.iter().filter(|game| game.instance == 0) {
            let alike: Vec<_> = games
                .iter()
                .filter(|game| (&game.family, game.players) == (&first.family, first.players))
                .collect();
            for times in [5, 10, 20, 50, 100] {
                let (n, budget) = (first.players, times * first.players);
                let mut error = |seed: u64| {
                    let game = alike[seed as usize % alike.len()];
                    let mut free = FnGame::new(n, |set: &Coalition| game.value(set));
                    let found = Shapley::new(method)
                        .budget(budget)
                        .seed(seed)
                        .run(&mut free)
                        .ok()?;
                    let squares: f64 = found
                        .values
                        .iter()
                        .zip(&game.truth)
                        .map(|(a, b)| (a - b).powi(2))
                        .sum();
                    Some((squares / game.truth.iter().map(|b| b * b).sum::<f64>()).sqrt())
                };
                let start = std::time::Instant::now();
                let errors: Vec<Option<f64>> = (0..seeds).map(&mut error).collect();
                let seconds = start.elapsed().as_secs_f64();
                let row = serde_json::json!({
                    "estimator": method, "family": first.family, "players": n, "budget": budget,
                    "errors": errors.iter().map(|error| error.map(|error| (error * 1e7).round() / 1e7)).collect::<Vec<_>>(),
                    "seconds": (seconds * 1e4).round() / 1e4,
                });
                println!("{row}");
            }
        }
    }
}
