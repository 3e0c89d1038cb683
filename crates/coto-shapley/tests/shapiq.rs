//! Exact values against those of shapiq 1.4.1 (`goldens/games.py`).

use std::path::Path;

use coto_coalition::Coalition;
use coto_shapley::{FnGame, Interactions, Memo, banzhaf_exact, exact};
use serde::Deserialize;

mod games;

#[derive(Deserialize)]
struct Golden {
    table: Vec<f64>,
    shapley: Vec<f64>,
    banzhaf: Vec<f64>,
    pairs: Vec<Vec<f64>>,
}

fn assert_close(found: &[f64], golden: &[f64]) {
    assert_eq!(found.len(), golden.len());
    found
        .iter()
        .zip(golden)
        .for_each(|(a, b)| assert!((a - b).abs() < 1e-9, "{a} is not {b}"));
}

#[test]
fn exact_values_are_those_of_shapiq() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("goldens/exact.json");
    let goldens: Vec<Golden> =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(goldens.len(), 5);
    for golden in goldens {
        let game = FnGame::new(10, |set: &Coalition| {
            golden.table[set.iter().map(|i| 1 << i).sum::<usize>()]
        });
        let mut memo = Memo::new(game).unwrap();
        assert_close(&banzhaf_exact(&mut memo).unwrap().values, &golden.banzhaf);
        assert_close(
            &Interactions::exact(&mut memo).unwrap().values,
            &golden.pairs.concat(),
        );
        let mut game = FnGame::new(10, |set: &Coalition| {
            golden.table[set.iter().map(|i| 1 << i).sum::<usize>()]
        });
        assert_close(&exact(&mut game).unwrap().values, &golden.shapley);
    }
}

#[test]
fn the_compared_games_have_the_values_that_are_told_of_them() {
    for game in games::read().into_iter().filter(|game| game.players == 12) {
        let found = exact(&mut FnGame::new(12, |set: &Coalition| game.value(set))).unwrap();
        assert_close(&found.values, &game.truth);
    }
}
