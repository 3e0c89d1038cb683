//! Methods, spaces and whole folders, against matrices written out.

mod folders;
mod lego;
mod names;
#[path = "../../../examples/own_method.rs"]
#[allow(dead_code)]
mod own_method;
mod spaces;

use coto_coalition::stream;
use coto_lowrank::LowRank;
use coto_lowrank::faer::Mat;
use coto_merge::{Linear, Part, Parts};
use rand::RngExt;

fn noise(rows: usize, cols: usize, seed: u64) -> Mat<f64> {
    let mut stream = stream(seed, "noise");
    // Single precision, as a folder has it.
    Mat::from_fn(rows, cols, |_, _| f64::from(stream.random::<f32>() - 0.5))
}

fn update(out: usize, input: usize, rank: usize, seed: u64) -> LowRank {
    LowRank::new(noise(rank, input, seed), noise(out, rank, !seed)).unwrap()
}

/// Parts of all adapters, one after another.
fn parts<'a>(updates: &[LowRank], weights: &'a [f64]) -> Parts<'a> {
    let parts = updates.iter().zip(weights).enumerate();
    Parts {
        path: "layers.0.query",
        weights,
        parts: parts
            .map(|(adapter, (update, &weight))| Part {
                adapter,
                weight,
                update: update.clone(),
                scale: 1.0,
                statistics: None,
            })
            .collect(),
        seed: 5,
    }
}

fn mean() -> Linear {
    Linear {
        normalize: true,
        ..Linear::default()
    }
}

fn full(update: &LowRank) -> Mat<f64> {
    update.b() * update.a()
}

fn gap(a: &Mat<f64>, b: &Mat<f64>) -> f64 {
    let size = b.norm_l2();
    (a - b).norm_l2() / if size > 0.0 { size } else { 1.0 }
}

#[test]
fn the_example_of_a_method_of_ones_own_runs() {
    own_method::main().unwrap();
}
