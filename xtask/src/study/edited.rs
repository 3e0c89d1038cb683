//! What merging and pruning do to the runs of a study.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use coto_analysis::{Calibration, Evaluation, Judged, Margins, Means, calibrate, judge, trial};
use coto_coalition::{Coalition, Grouping};
use coto_lowrank::Statistics;
use coto_merge::{Options, Plan, Source};
use coto_peft::Folder;
use coto_prune::{Candidates, Choice, Ranks, Rule, Sparsity, greedy, ranking, reduce, sparsify};
use coto_shapley::{FnGame, exact};
use coto_train::{Run, Split};
use serde::Deserialize;

use super::found::Group;
use super::{measure, named};

/// How the adapters of all tasks are merged.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Merging {
    /// The methods, as `coto merge --explain` lists them.
    pub methods: Vec<String>,
    /// Their settings.
    #[serde(default)]
    pub options: Options,
}

impl Merging {
    /// A name for each method with the rank that is asked for.
    pub fn labels(&self) -> Vec<String> {
        let label = |method: &String| match self.options.rank {
            Some(rank) => format!("{method}, rank {rank}"),
            None => method.clone(),
        };
        self.methods.iter().map(label).collect()
    }
}

/// The adapter of a run.
fn adapter(folder: &Path) -> Result<Folder> {
    let path = folder.join("adapter");
    Folder::load(&path).with_context(|| named(&path))
}

/// What a run's training rows say of its adapter's modules.
fn statistics(run: &Run, gradients: bool) -> Result<BTreeMap<String, Statistics>> {
    let rows = Evaluation::new(run, Split::Train)?;
    let options = Calibration {
        gradients,
        ..Calibration::default()
    };
    Ok(calibrate(&rows, run.adapters(), &options)?)
}

/// The adapters of several tasks as one, by each method, judged on each task with its own classifier: a group for each method.
pub fn merged(
    merges: &[Merging],
    tasks: &[(String, &Path)],
    rows: usize,
) -> Result<Vec<(String, Group)>> {
    let runs = tasks.iter().map(|(_, folder)| measure::open(folder));
    let runs = runs.collect::<Result<Vec<_>>>()?;
    let evaluations = runs
        .iter()
        .map(|run| Ok(Evaluation::new(run, Split::Test)?.sampled(rows, 0)));
    let evaluations = evaluations.collect::<Result<Vec<_>>>()?;
    let folders = tasks.iter().map(|(_, folder)| adapter(folder));
    let folders = folders.collect::<Result<Vec<_>>>()?;
    let known = runs
        .iter()
        .map(|run| statistics(run, true))
        .collect::<Result<Vec<_>>>()?;
    let each = tasks.iter().zip(&folders).zip(&known);
    let sources: Vec<Source> = each
        .map(|(((name, _), folder), statistics)| Source {
            name: name.clone(),
            folder,
            weight: 1.0 / tasks.len() as f64,
            statistics: Some(statistics),
        })
        .collect();
    let (mut none, mut own) = (Vec::new(), Vec::new());
    for (run, evaluation) in runs.iter().zip(&evaluations) {
        let adapters = run.adapters();
        let ends = [Coalition::empty(adapters.players().len()), adapters.grand()];
        let (means, _) = evaluation.means(adapters, &ends, Margins::Unwanted)?;
        none.push(means[0]);
        own.push(means[1]);
    }
    let group = |scores: &[Means]| -> Group {
        let n = scores.len() as f64;
        let over = scores
            .iter()
            .zip(&own)
            .map(|(score, own)| score.accuracy / own.accuracy);
        let mut group = vec![
            ("accuracy over own".to_owned(), over.sum::<f64>() / n),
            (
                "loss".to_owned(),
                scores.iter().map(|score| score.loss).sum::<f64>() / n,
            ),
        ];
        let each = tasks.iter().zip(scores);
        group.extend(each.map(|((name, _), score)| (name.clone(), score.accuracy)));
        group
    };
    let mut groups = vec![
        ("own adapters".to_owned(), group(&own)),
        ("no adapter".to_owned(), group(&none)),
    ];
    for merging in merges {
        for (method, label) in merging.methods.iter().zip(merging.labels()) {
            let plan = Plan::named(method, &merging.options)?;
            let (trial, _) = trial(method, &sources, &plan, &evaluations)?;
            if let Some(reason) = trial.refused {
                bail!("{method}: {reason}");
            }
            groups.push((label, group(&trial.scores)));
        }
    }
    Ok(groups)
}

/// The accuracy of what pruning leaves of a run's adapter.
pub fn pruned(folder: &Path, rows: usize) -> Result<Vec<(&'static str, Group)>> {
    let (run, own) = (measure::open(folder)?, adapter(folder)?);
    let evaluation = Evaluation::new(&run, Split::Test)?.sampled(rows, 0);
    let adapters = run.adapters();
    let n = adapters.players().len();
    let candidates = Candidates::of_model(
        &own,
        coto_adapters::Base::modules(run.model()),
        &Grouping::Layer,
    )?;
    let mut judged = Judged::new(&evaluation, adapters, Margins::Unwanted);

    let fixed = [
        ("every other", "even"),
        ("low third", "low"),
        ("middle third", "middle"),
        ("high third", "high"),
    ];
    let mut structured = Group::new();
    for (name, choice) in fixed {
        let kept = candidates.choose(&choice.parse::<Choice>()?, None)?;
        structured.push((name.to_owned(), judged.means(&[kept])?[0].accuracy));
    }
    // What ranks layers is measured on the validation rows, how well that does on the test rows.
    let validation = Evaluation::new(&run, Split::Validation)?.sampled(rows / 2, 0);
    let mut seen = Judged::new(&validation, adapters, Margins::Unwanted);
    let all: Vec<Coalition> = (0..1 << n)
        .map(|bits| Coalition::from_bits(n, bits))
        .collect();
    let losses: Vec<f64> = seen.means(&all)?.iter().map(|means| -means.loss).collect();
    let place = |s: &Coalition| s.iter().map(|player| 1_usize << player).sum::<usize>();
    let values = exact(&mut FnGame::new(n, |s| losses[place(s)]))?.values;
    let eliminated = greedy(n, |sets| {
        Ok::<_, coto_prune::Error>(sets.iter().map(|s| losses[place(s)]).collect())
    })?;
    let orders = [
        ("norm", ranking(&candidates.norms()?)),
        ("Shapley values", ranking(&values)),
        ("elimination", eliminated.order),
    ];
    for (name, order) in &orders {
        let curve = judged.curve(name, order)?;
        structured.push((
            format!("best half by {name}"),
            curve.points[n / 2].means.accuracy,
        ));
        structured.push((format!("area by {name}"), curve.area));
    }

    let known = statistics(&run, true)?;
    let mut entries = Group::new();
    for rule in ["magnitude:global", "wanda", "sparsegpt"] {
        for sparsity in [0.5, 0.9] {
            let left = sparsify(
                &own,
                rule.parse::<Rule>()?,
                Sparsity::Share(sparsity),
                &known,
            )?;
            let name = format!("{rule}, {:.0} % zero", 100.0 * sparsity);
            entries.push((name, judge(&evaluation, &left)?.accuracy));
        }
    }
    let mut ranks = Group::new();
    let all: usize = own
        .modules()?
        .keys()
        .map(|path| own.config.rank(path))
        .sum::<Result<_, _>>()?;
    for share in [2, 8] {
        for (name, how) in [
            ("each module", Ranks::Rank((own.config.r / share).max(1))),
            (
                "all modules",
                Ranks::Total {
                    ranks: all / share,
                    relative: false,
                },
            ),
            ("sensitivity", Ranks::Sensitivity(all / share)),
        ] {
            let (left, _) = reduce(&own, &how, &known)?;
            ranks.push((
                format!("{name}, 1/{share}"),
                judge(&evaluation, &left)?.accuracy,
            ));
        }
    }
    Ok(vec![
        ("accuracy by layers kept", structured),
        ("accuracy by entries kept", entries),
        ("accuracy by ranks kept", ranks),
    ])
}
