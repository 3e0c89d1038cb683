//! A merging method of one's own: the median of the adapters' entries, in any space, used on whole adapter folders.
//!
//! `cargo run --release -p coto-merge --example own_method`

use std::sync::Arc;

use coto_lowrank::Matrix;
use coto_merge::{Error, InSpace, Plan, Rule, Source, Space, Weighted, merge};
use coto_peft::{Config, Folder, HostTensor, Param};

/// Entry by entry the median of the weighted matrices wₖ τₖ: one adapter that is far off changes nothing.
#[derive(Debug)]
pub struct Median;

impl Rule for Median {
    fn merge(&self, parts: &[Weighted], _seed: u64) -> Result<Matrix, Error> {
        let first = &parts.first().ok_or(Error::Empty)?.matrix;
        let median = |i: usize, j: usize| {
            let mut values: Vec<f32> = parts
                .iter()
                .map(|part| part.weight as f32 * part.matrix.row(i)[j])
                .collect();
            values.sort_by(f32::total_cmp);
            let middle = values.len() / 2;
            match values.len() % 2 {
                1 => values[middle],
                _ => (values[middle - 1] + values[middle]) / 2.0,
            }
        };
        Ok(Matrix::from_fn(first.rows(), first.cols(), median))
    }
}

fn adapter(value: f32) -> Result<Folder, coto_peft::Error> {
    let mut folder = Folder::new(Config::lora(1, 1.0).targets(["query"]));
    let tensor = |rows, cols| HostTensor::from_f32([rows, cols], &vec![value; rows * cols]);
    folder.insert("layers.0.query", Param::LoraA, tensor(1, 6)?);
    folder.insert("layers.0.query", Param::LoraB, tensor(4, 1)?);
    Ok(folder)
}

/// Merges three adapters in three spaces.
pub fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folders = [adapter(1.0)?, adapter(2.0)?, adapter(100.0)?]; // ΔW of ones, of fours, and one far off
    let sources: Vec<Source> = folders
        .iter()
        .zip(["one", "two", "broken"])
        .map(|(folder, name)| Source {
            name: name.to_owned(),
            folder,
            weight: 1.0,
            statistics: None,
        })
        .collect();
    for space in [Space::Core, Space::Knots, Space::Delta] {
        let rule = Arc::new(Median);
        let mut plan = Plan::new(Arc::new(InSpace { space, rule }));
        plan.rank = Some(1);
        let merged = merge(&sources, &plan)?;
        let update = &coto_lowrank::updates(&merged.folder)?["layers.0.query"];
        println!(
            "{space:?}: an entry of ΔW is {:.4}",
            update.dense().row(0)[0]
        );
        assert!((update.dense().row(0)[0] - 4.0).abs() < 1e-4);
    }
    Ok(())
}
