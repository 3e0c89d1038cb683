//! The games of `goldens/games.json`, and the recorded game of adapters.

use std::path::Path;

use coto_coalition::Coalition;
use serde::Deserialize;

/// A game with its Shapley values.
#[derive(Deserialize)]
pub struct Recorded {
    pub family: String,
    pub players: usize,
    #[allow(dead_code)] // the tests take all instances alike
    pub instance: usize,
    #[serde(default)]
    terms: Vec<(Vec<usize>, f64)>,
    #[serde(default)]
    weights: Vec<f64>,
    #[serde(default)]
    service: Vec<Vec<f64>>,
    #[serde(default)]
    table: Vec<f64>,
    pub truth: Vec<f64>,
}

impl Recorded {
    pub fn value(&self, set: &Coalition) -> f64 {
        let share =
            || set.iter().map(|i| self.weights[i]).sum::<f64>() / self.weights.iter().sum::<f64>();
        match self.family.as_str() {
            "unanimity" => {
                let whole =
                    |(members, _): &&(Vec<usize>, f64)| members.iter().all(|&i| set.contains(i));
                self.terms
                    .iter()
                    .filter(whole)
                    .map(|(_, coefficient)| coefficient)
                    .sum()
            }
            "concave" => 1.0 - (-share() / 0.25).exp(),
            "sigmoid" => 1.0 / (1.0 + (-10.0 * (share() - 0.45)).exp()),
            "coverage" => {
                let best = |place: &Vec<f64>| set.iter().map(|i| place[i]).fold(0.0, f64::max);
                self.service.iter().map(best).sum()
            }
            _ => self.table[set.iter().map(|i| 1 << i).sum::<usize>()],
        }
    }
}

/// What is read of `adapter_game.json`.
#[derive(Deserialize)]
struct Adapters {
    shapley: Vec<f64>,
}

/// All games.
pub fn read() -> Vec<Recorded> {
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("goldens");
    let text = std::fs::read_to_string(goldens.join("games.json")).expect("goldens/games.json");
    let mut games: Vec<Recorded> = serde_json::from_str(&text).expect("games");
    let bytes = std::fs::read(goldens.join("adapter_game.f64")).expect("goldens/adapter_game.f64");
    let table = bytes
        .chunks_exact(8)
        .map(|eight| f64::from_le_bytes(eight.try_into().expect("eight bytes")));
    let text = std::fs::read_to_string(goldens.join("adapter_game.json"));
    let Adapters { shapley } =
        serde_json::from_str(&text.expect("goldens/adapter_game.json")).expect("a game");
    games.push(Recorded {
        family: "adapter".into(),
        players: 12,
        instance: 0,
        terms: vec![],
        weights: vec![],
        service: vec![],
        table: table.collect(),
        truth: shapley,
    });
    games
}
