use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use coto_adapters::AdapterSet;
use coto_analysis::{End, Evaluation, Margins, Means, Trial, ensemble, judge, trial};
use coto_coalition::{Coalition, Grouping};
use coto_merge::{SearchOptions, merge, search, suite};
use coto_peft::Folder;
use coto_train::Run;
use serde_json::{Value, json};

use super::Bench;
use crate::analysis::Place;
use crate::edit::recipe::ENSEMBLE;
use crate::edit::{data, publish};

impl Bench<'_> {
    /// Several methods, judged on tasks.
    pub(super) fn trials(&mut self) -> Result<()> {
        let methods = self.methods();
        self.prepare(&methods)?;
        let runs = self.judges()?;
        let seed = self.recipe.seed;
        let evaluations = runs
            .iter()
            .map(|run| data::evaluation(run, self.args.split, self.args.samples, seed));
        let evaluations = evaluations.collect::<Result<Vec<_>>>()?;
        let tasks = runs.iter().zip(&evaluations).zip(self.tasks());
        let tasks = tasks.map(|((run, evaluation), name)| Task::of(run, evaluation, name));
        let tasks = tasks.collect::<Result<Vec<_>>>()?;
        let mut found: Vec<(Trial, Option<Folder>)> = Vec::new();
        for name in &methods {
            if name == ENSEMBLE {
                found.push((self.ensemble(&evaluations)?, None));
                self.say(&found[found.len() - 1].0, &tasks);
                continue;
            }
            let plan = match self.recipe.plan(name) {
                Ok(plan) => plan,
                Err(refused @ coto_merge::Error::Refused { .. }) if methods.len() > 1 => {
                    found.push((Trial::refused(name, refused.to_string()), None));
                    self.say(&found[found.len() - 1].0, &tasks);
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let sources = self.sources(&self.weights);
            found.push(trial(name, &sources, &plan, &evaluations)?);
            self.say(&found[found.len() - 1].0, &tasks);
            if let Some(budget) = self.args.search {
                let weights = self.searched(name, budget, &evaluations)?;
                let label = format!("{name}, weights {}", shown(&weights));
                found.push(trial(&label, &self.sources(&weights), &plan, &evaluations)?);
                self.say(&found[found.len() - 1].0, &tasks);
            }
        }
        let result = json!({
            "kind": "merge",
            "version": env!("CARGO_PKG_VERSION"),
            "adapters": self.opened.iter().map(|(place, _)| &place.adapter).collect::<Vec<_>>(),
            "model": runs[0].config().model.name,
            "split": evaluations[0].split(),
            "seed": seed,
            "weights": self.weights,
            "tasks": tasks.iter().map(Task::json).collect::<Vec<_>>(),
            "trials": found.iter().map(|(trial, _)| trial).collect::<Vec<_>>(),
        });
        let file = self.args.result.clone();
        let file = file.unwrap_or_else(|| match &self.recipe.out {
            Some(out) => out.with_extension("json"),
            None => PathBuf::from("merge.json"),
        });
        let page = publish(&file, &result)?;
        if self.args.json {
            println!("{}", serde_json::to_string_pretty(&result)?);
        } else {
            println!("{}", page.display());
        }
        self.keep(&found, &tasks)
    }

    /// The mean of the outputs of all adapters, each read by the task's own classifier: what no merge needs to reach, for it runs
    /// the model as often as there are adapters.
    fn ensemble(&self, judges: &[Evaluation]) -> Result<Trial> {
        let start = Instant::now();
        let sum: f64 = self.weights.iter().sum();
        let weights: Vec<f64> = self.weights.iter().map(|weight| weight / sum).collect();
        let judged = |evaluation: &Evaluation| -> Result<Means> {
            let end = |(_, folder): &(Place, Folder)| -> Result<End> {
                Ok(End {
                    adapters: AdapterSet::from_folder(
                        evaluation.model(),
                        folder,
                        &Grouping::Layer,
                    )?,
                    readout: evaluation.readout().clone(),
                })
            };
            let ends = self.opened.iter().map(end).collect::<Result<Vec<_>>>()?;
            Ok(ensemble(evaluation, &ends, &weights)?.means)
        };
        let scores = judges.iter().map(judged).collect::<Result<Vec<_>>>();
        Ok(match scores {
            Ok(scores) => Trial {
                scores,
                seconds: start.elapsed().as_secs_f64(),
                ..Trial::new(ENSEMBLE)
            },
            Err(error) => Trial::refused(ENSEMBLE, error.to_string()),
        })
    }

    /// Writes the best adapter.
    fn keep(&self, found: &[(Trial, Option<Folder>)], tasks: &[Task]) -> Result<()> {
        let Some(out) = &self.recipe.out else {
            return Ok(());
        };
        let judged = found
            .iter()
            .filter_map(|(trial, folder)| Some((trial, folder.as_ref()?)));
        let best = judged.max_by(|a, b| relative(a.0, tasks).total_cmp(&relative(b.0, tasks)));
        let (trial, folder) = best.context("every method refused these adapters")?;
        folder.save(out)?;
        if !self.args.json {
            println!("{} by {}", out.display(), trial.method);
        }
        Ok(())
    }

    fn methods(&self) -> Vec<String> {
        match self.args.tried.as_slice() {
            [] => vec![self.recipe.method.clone()],
            [all] if all == "all" => [vec![ENSEMBLE.to_owned()], suite()].concat(),
            some => some.to_vec(),
        }
    }

    /// What the judges are called: as the adapters that lie in them, else as their folders.
    fn tasks(&self) -> Vec<String> {
        if self.recipe.judges.is_empty() {
            let named = self.opened.iter().zip(self.names);
            let own = named.filter(|((place, _), _)| place.run.is_some());
            return own.map(|(_, name)| name.clone()).collect();
        }
        let named = self.recipe.judges.iter();
        named.map(|folder| folder.display().to_string()).collect()
    }

    fn judges(&self) -> Result<Vec<Run>> {
        let own = || {
            self.opened
                .iter()
                .filter_map(|(place, _)| place.run.clone())
        };
        let folders: Vec<PathBuf> = match self.recipe.judges.as_slice() {
            [] => own().collect(),
            some => some.to_vec(),
        };
        ensure!(
            !folders.is_empty(),
            "no adapter lies in a run; name runs to judge on as `judges` in a recipe"
        );
        let open = |folder: &PathBuf| data::open(Some(folder), self.args.device.as_deref());
        folders.iter().map(open).collect()
    }

    /// The weights with the least mean loss.
    fn searched(&self, name: &str, evaluations: usize, judges: &[Evaluation]) -> Result<Vec<f64>> {
        let plan = self.recipe.plan(name)?;
        let objective = |weights: &[f64]| -> Result<f64> {
            let merged = merge(&self.sources(weights), &plan)?;
            let losses = judges
                .iter()
                .map(|evaluation| Ok(judge(evaluation, &merged.folder)?.loss));
            let losses = losses.collect::<Result<Vec<f64>>>()?;
            Ok(losses.iter().sum::<f64>() / losses.len() as f64)
        };
        let options = SearchOptions {
            evaluations,
            seed: self.recipe.seed,
            start: Some(self.weights.clone()),
            ..SearchOptions::default()
        };
        Ok(search(self.weights.len(), objective, &options)?.weights)
    }

    fn say(&self, trial: &Trial, tasks: &[Task]) {
        let line = match &trial.refused {
            Some(reason) => format!("{:24} {reason}", trial.method),
            None => {
                let each = trial
                    .scores
                    .iter()
                    .map(|score| format!("{:.4}", score.accuracy));
                let each = each.collect::<Vec<_>>().join("  ");
                format!(
                    "{:24} {each}  {:.1} % of the own adapters'",
                    trial.method,
                    100.0 * relative(trial, tasks)
                )
            }
        };
        match self.args.json {
            true => eprintln!("{line}"),
            false => println!("{line}"),
        }
    }
}

/// A task that merged adapters are judged on.
struct Task {
    name: String,
    samples: usize,
    base: Means,
    own: Means,
}

impl Task {
    fn of(run: &Run, evaluation: &Evaluation, name: String) -> Result<Self> {
        let adapters = run.adapters();
        let none = Coalition::empty(adapters.players().len());
        let ends = [none, adapters.grand()];
        let (means, _) = evaluation.means(adapters, &ends, Margins::Unwanted)?;
        Ok(Self {
            name,
            samples: evaluation.samples(),
            base: means[0],
            own: means[1],
        })
    }

    fn json(&self) -> Value {
        json!({"name": self.name, "samples": self.samples, "base": self.base, "own": self.own})
    }
}

/// The mean over tasks of the accuracy over that of the task's own adapter.
fn relative(trial: &Trial, tasks: &[Task]) -> f64 {
    let shares = trial
        .scores
        .iter()
        .zip(tasks)
        .map(|(score, task)| score.accuracy / task.own.accuracy);
    shares.sum::<f64>() / tasks.len() as f64
}

fn shown(weights: &[f64]) -> String {
    let each: Vec<String> = weights
        .iter()
        .map(|weight| format!("{weight:.2}"))
        .collect();
    each.join(" ")
}
