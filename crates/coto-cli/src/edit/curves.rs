//! `coto prune --curve`: loss and accuracy against what is kept.

use std::time::Instant;

use anyhow::Result;
use clap::ValueEnum;
use coto_analysis::{Evaluation, Judged, Pruning, folder_curve};
use coto_peft::Folder;
use coto_prune::{
    By, Candidates, Choice, Ranks, Rule, Scope, Sparsity, greedy, ranking, reduce, sparsify,
};
use coto_train::Run;
use serde_json::json;

use super::prune::PruneArgs;
use super::{data, publish, read};

/// What is pruned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Axis {
    /// Players, by the norm of ΔW, Shapley values, backward elimination, at random, from below and from above
    Players,
    /// Entries of A and B, by magnitude, Wanda and SparseGPT
    Entries,
    /// Ranks, by singular values and by sensitivity
    Ranks,
}

/// The shares of entries and of ranks that are kept.
const SHARES: [f64; 10] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0];

pub fn run(args: &PruneArgs, axis: Axis) -> Result<()> {
    let (place, folder) = read(&args.folder)?;
    let run = data::open(
        args.run.as_deref().or(place.run.as_deref()),
        args.device.as_deref(),
    )?;
    let evaluation = args.evaluation(&run)?;
    let start = Instant::now();
    let (unit, curves) = match axis {
        Axis::Players => ("players", players(args, &run, &folder, &evaluation)?),
        Axis::Entries => ("entries", entries(args, &run, &folder, &evaluation)?),
        Axis::Ranks => ("ranks", ranks(args, &run, &folder, &evaluation)?),
    };
    let result = json!({
        "kind": "prune",
        "version": env!("CARGO_PKG_VERSION"),
        "adapters": [place.adapter],
        "run": run.config().out,
        "model": run.config().model.name,
        "split": evaluation.split(),
        "samples": evaluation.samples(),
        "seed": args.seed,
        "unit": unit,
        "curves": curves,
        "seconds": start.elapsed().as_secs_f64(),
    });
    let path = args
        .out
        .clone()
        .unwrap_or_else(|| args.folder.join("prune.json"));
    let page = publish(&path, &result)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&result)?);
        return Ok(());
    }
    for curve in &curves {
        println!("{}: accuracy {:.4} on average", curve.by, curve.area);
        for point in &curve.points {
            println!(
                "  {:>5.1} %  loss {:.4}  accuracy {:.4}",
                100.0 * point.kept,
                point.means.loss,
                point.means.accuracy
            );
        }
    }
    println!("{}", page.display());
    Ok(())
}

fn players(
    args: &PruneArgs,
    run: &Run,
    folder: &Folder,
    evaluation: &Evaluation,
) -> Result<Vec<Pruning>> {
    let per = args.per.clone().unwrap_or(run.config().players.clone());
    let candidates = Candidates::of_model(folder, coto_adapters::Base::modules(run.model()), &per)?;
    let adapters = data::adapters(run, folder, &per)?;
    let mut judged = Judged::new(evaluation, &adapters, args.margins());
    let n = adapters.players().len();
    let shapley = args.shapley(run, folder, &per)?;
    let shapley: Vec<f64> = adapters
        .players()
        .names()
        .iter()
        .map(|name| shapley[name])
        .collect();
    let found = greedy(n, |coalitions| judged.values(args.value, coalitions))?;
    let mut orders = vec![
        ("backward elimination", found.order),
        ("Shapley values", ranking(&shapley)),
        ("random", drawn(&candidates, n, args.seed)?),
        ("lowest first", (0..n).collect()),
        ("highest first", (0..n).rev().collect()),
    ];
    // DoRA and HiRA have no norm without the base weight.
    if let Ok(norms) = candidates.norms() {
        orders.insert(2, ("norm of ΔW", ranking(&norms)));
    }
    let curves = orders.iter().map(|(by, order)| judged.curve(by, order));
    Ok(curves.collect::<Result<_, _>>()?)
}

fn entries(
    args: &PruneArgs,
    run: &Run,
    folder: &Folder,
    evaluation: &Evaluation,
) -> Result<Vec<Pruning>> {
    let statistics = data::statistics(run, folder, false, args.seed)?;
    let rules = [
        Rule::Magnitude(Scope::Tensor),
        Rule::Magnitude(Scope::Row),
        Rule::Magnitude(Scope::Global),
        Rule::Wanda,
        Rule::SparseGpt,
    ];
    let curve = |rule: Rule| -> Result<Pruning> {
        let pruned = SHARES.map(|kept| -> Result<(f64, Folder)> {
            let sparsity = Sparsity::Share((1.0 - kept).max(0.0));
            Ok((kept, sparsify(folder, rule, sparsity, &statistics)?))
        });
        let pruned = pruned.into_iter().collect::<Result<Vec<_>>>()?;
        Ok(folder_curve(evaluation, &rule.to_string(), &pruned)?)
    };
    rules.into_iter().map(curve).collect()
}

fn ranks(
    args: &PruneArgs,
    run: &Run,
    folder: &Folder,
    evaluation: &Evaluation,
) -> Result<Vec<Pruning>> {
    let statistics = data::statistics(run, folder, true, args.seed)?;
    let modules = folder.modules()?;
    let sizes = modules.keys().map(|path| folder.config.rank(path));
    let sizes = sizes.collect::<Result<Vec<usize>, _>>()?;
    let (all, most) = (
        sizes.iter().sum::<usize>(),
        sizes.iter().copied().max().unwrap_or(1),
    );
    let share = |whole: usize, kept: f64| ((whole as f64 * kept).round() as usize).max(1);
    let kinds: [(&str, &dyn Fn(f64) -> Ranks); 4] = [
        ("singular values, each module", &|kept| {
            Ranks::Rank(share(most, kept))
        }),
        ("singular values, all modules", &|kept| Ranks::Total {
            ranks: share(all, kept),
            relative: false,
        }),
        ("singular values over norms, all modules", &|kept| {
            Ranks::Total {
                ranks: share(all, kept),
                relative: true,
            }
        }),
        ("sensitivity, all modules", &|kept| {
            Ranks::Sensitivity(share(all, kept))
        }),
    ];
    let curve = |(by, ranks): &(&str, &dyn Fn(f64) -> Ranks)| -> Result<Pruning> {
        let pruned = SHARES.map(|kept| -> Result<(f64, Folder)> {
            let (small, report) = reduce(folder, &ranks(kept), &statistics)?;
            let left: usize = report.iter().map(|module| module.after).sum();
            Ok((left as f64 / all as f64, small))
        });
        let pruned = pruned.into_iter().collect::<Result<Vec<_>>>()?;
        Ok(folder_curve(evaluation, by, &pruned)?)
    };
    kinds.iter().map(curve).collect()
}

/// All players in the order in which a random choice keeps them.
fn drawn(candidates: &Candidates, n: usize, seed: u64) -> Result<Vec<usize>> {
    let mut order: Vec<usize> = Vec::with_capacity(n);
    for k in 1..=n {
        let kept = candidates.choose(&Choice::Top(k, By::Random(seed)), None)?;
        order.extend(
            kept.iter()
                .filter(|player| !order.contains(player))
                .collect::<Vec<_>>(),
        );
    }
    Ok(order)
}
