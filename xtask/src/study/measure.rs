//! The instruments of `coto shapley`, `coto stability` and `coto connect`, on a finished run of a study.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use coto_analysis::{End, Evaluation, Join, Margins, Means};
use coto_analysis::{connect, evenness, layer_shares, shares};
use coto_coalition::Coalition;
use coto_shapley::{FnGame, exact};
use coto_train::{Run, Split};

use super::found::Group;
use super::named;

/// A number of a coalition.
type Of = fn(&Means) -> f64;

/// The most players all of whose coalitions are evaluated.
const MOST: usize = 12;

/// The finished run in a folder.
pub fn open(folder: &Path) -> Result<Run> {
    Run::finished(folder, None).with_context(|| named(folder))
}

/// Exact Shapley values of the layers and the curve of stability, both of all coalitions, each of which is run once.
pub fn coalitions(folder: &Path, rows: usize) -> Result<Vec<(&'static str, Group)>> {
    let run = open(folder)?;
    let evaluation = Evaluation::new(&run, Split::Test)?.sampled(rows, 0);
    let adapters = run.adapters();
    let n = adapters.players().len();
    ensure!(n <= MOST, "{n} players: at most {MOST}");
    let all: Vec<Coalition> = (0..1 << n)
        .map(|bits| Coalition::from_bits(n, bits))
        .collect();
    let (means, runs) = evaluation.means(adapters, &all, Margins::Wanted)?;
    let cost = [
        ("coalitions".to_owned(), all.len() as f64),
        ("rows".to_owned(), evaluation.samples() as f64),
        ("layer runs".to_owned(), runs.used as f64),
    ];
    let mut groups = vec![("coalitions", cost.to_vec())];
    let curves: [(_, Of); 2] = [
        ("accuracy by layers on", |means| means.accuracy),
        ("loss by layers on", |means| means.loss),
    ];
    for (name, of) in curves {
        let size = |on: usize| {
            let own = all.iter().zip(&means).filter(|(s, _)| s.len() == on);
            let own: Vec<f64> = own.map(|(_, means)| of(means)).collect();
            (on.to_string(), own.iter().sum::<f64>() / own.len() as f64)
        };
        groups.push((name, (0..=n).map(size).collect()));
    }
    let games: [(_, Of); 3] = [
        ("Shapley values of the accuracy", |means| means.accuracy),
        ("Shapley values of the loss, its sign turned", |means| {
            -means.loss
        }),
        ("Shapley values of the margin", |means| {
            means.margin.unwrap_or(f64::NAN)
        }),
    ];
    for (name, of) in games {
        let place = |s: &Coalition| s.iter().map(|player| 1_usize << player).sum::<usize>();
        let estimate = exact(&mut FnGame::new(n, |s| of(&means[place(s)])))?;
        let layers = layer_shares(&shares(adapters, &estimate));
        let mut group: Group = layers
            .iter()
            .map(|share| (format!("layer {}", share.layer), share.value))
            .collect();
        if let Some(evenness) = evenness(&layers) {
            group.push(("entropy".to_owned(), evenness.entropy));
            group.push(("upper third".to_owned(), evenness.upper_third));
        }
        groups.push((name, group));
    }
    Ok(groups)
}

/// Two runs joined half and half, and how far that lies from the mean of the two: how much the loss is above it, the accuracy below.
pub fn joined(first: &Path, second: &Path, rows: usize) -> Result<Group> {
    let run = open(second)?;
    let evaluation = Evaluation::new(&run, Split::Test)?.sampled(rows, 0);
    let end = |folder: &Path| -> Result<End> {
        Ok(End {
            adapters: run.adapters_of(&folder.join("adapter"))?,
            readout: run.readout_of(folder)?,
        })
    };
    let ends = [end(first)?, end(second)?];
    let mut group = Group::new();
    for (name, join) in [("A and B", Join::Fusion), ("ΔW", Join::Mixture)] {
        let curve = connect(&evaluation, &ends, join, false, 2)?;
        let [from, middle, to] = [0, 1, 2].map(|point| curve.points[point].means);
        let line = |of: Of| (of(&from) + of(&to)) / 2.0;
        group.extend([
            (format!("accuracy, {name}"), middle.accuracy),
            (
                format!("accuracy barrier, {name}"),
                line(|means| means.accuracy) - middle.accuracy,
            ),
            (
                format!("loss barrier, {name}"),
                middle.loss - line(|means| means.loss),
            ),
        ]);
    }
    Ok(group)
}
