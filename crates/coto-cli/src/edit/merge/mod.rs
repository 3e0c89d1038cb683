use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::Args as ClapArgs;
use coto_adapters::AdapterSet;
use coto_analysis::{End, Evaluation, Margins, Means, Trial, ensemble, judge, trial};
use coto_coalition::{Coalition, Grouping};
use coto_lowrank::Statistics;
use coto_merge::peft_compat::{PeftOptions, add_weighted_adapter};
use coto_merge::{
    Entry, Kind, Merged, Needs, SearchOptions, Source, catalogue, merge, search, suite,
};
use coto_peft::Folder;
use coto_train::Run;
use serde_json::{Value, json};

use super::recipe::Recipe;
use super::{data, publish, read};
use crate::analysis::Place;
use crate::args::SplitName;

#[derive(Debug, ClapArgs)]
pub struct MergeArgs {
    /// The folders of finished runs, or adapter folders; or a recipe, a .toml file
    #[arg(required_unless_present = "explain")]
    pub sources: Vec<PathBuf>,
    /// How to merge, as --explain lists it; concat by default. Or peft:NAME, as PEFT's combination_type of that name
    #[arg(long)]
    pub method: Option<String>,
    /// The adapters' weights; one over their number by default
    #[arg(long, value_delimiter = ',', allow_negative_numbers = true)]
    pub weights: Vec<f64>,
    /// Compress every module to this rank
    #[arg(long)]
    pub rank: Option<usize>,
    /// Align the factors to the first adapter's before (LoRA Align)
    #[arg(long)]
    pub align: bool,
    /// Set a value of the recipe, as in `options.density=0.3`; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Where the merged adapter goes
    #[arg(short, long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// Tell what a method does, what it costs and when to choose it; without a name, of all
    #[arg(long, value_name = "METHOD", num_args = 0..=1, default_missing_value = "")]
    pub explain: Option<String>,
    /// Judge these methods on the adapters' own tasks, `all` for every one, `ensemble` for the mean of the outputs; the best goes to
    /// --out
    #[arg(long = "try", value_name = "METHODS", value_delimiter = ',')]
    pub tried: Vec<String>,
    /// Search the weights too, with so many evaluations (LoraHub)
    #[arg(long, value_name = "EVALUATIONS")]
    pub search: Option<usize>,
    /// Which rows to judge on
    #[arg(long, value_enum, default_value_t = SplitName::Validation)]
    pub split: SplitName,
    /// Judge on so many rows of each task only, drawn by the seed
    #[arg(long, value_name = "N")]
    pub samples: Option<usize>,
    /// The seed of everything that is drawn
    #[arg(long)]
    pub seed: Option<u64>,
    /// Where to run: cpu, wgpu, wgpu:n, cuda, cuda:n; as the runs by default
    #[arg(long)]
    pub device: Option<String>,
    /// The result file of --try; by default merge.json beside the merged folder
    #[arg(long, value_name = "FILE")]
    pub result: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// The yardstick among the methods that are tried.
const ENSEMBLE: &str = "ensemble";

pub fn run(args: &MergeArgs) -> Result<()> {
    if let Some(name) = &args.explain {
        return explain(name);
    }
    let recipe = Recipe::of(args)?;
    let opened = recipe.adapters.iter().map(|entry| read(&entry.path));
    let opened = opened.collect::<Result<Vec<_>>>()?;
    let names = recipe.names();
    let mut bench = Bench {
        args,
        recipe: &recipe,
        opened: &opened,
        names: &names,
        weights: recipe.weights(),
        statistics: Vec::new(),
    };
    if args.tried.is_empty() && args.search.is_none() {
        return bench.single();
    }
    bench.trials()
}

fn explain(name: &str) -> Result<()> {
    let parts: Vec<&str> = name.split('+').collect();
    let named =
        |entry: &&Entry| name.is_empty() || entry.names.iter().any(|name| parts.contains(name));
    let wanted: Vec<&Entry> = catalogue().iter().filter(named).collect();
    if wanted.is_empty() {
        let all = catalogue()
            .iter()
            .flat_map(|entry| entry.names.iter().copied());
        bail!(
            "no method `{name}`; nearest: {}",
            coto_peft::nearest(name, all).join(", ")
        );
    }
    for entry in wanted {
        let kind = match entry.kind() {
            Kind::Space => " (a space, as in SPACE+RULE)",
            Kind::Rule => " (a rule, in any space)",
            Kind::Method => "",
        };
        println!(
            "{}{kind}\n    {}\n    {}\n",
            entry.names.join(", "),
            entry.about,
            entry.source
        );
    }
    Ok(())
}

/// What is merged, and what is known of it.
struct Bench<'a> {
    args: &'a MergeArgs,
    recipe: &'a Recipe,
    opened: &'a [(Place, Folder)],
    names: &'a [String],
    weights: Vec<f64>,
    /// By adapter; empty unless a method asks.
    statistics: Vec<BTreeMap<String, Statistics>>,
}

impl<'a> Bench<'a> {
    fn sources(&self, weights: &[f64]) -> Vec<Source<'_>> {
        let each = self.opened.iter().zip(self.names).zip(weights).enumerate();
        each.map(|(i, (((_, folder), name), &weight))| Source {
            name: name.clone(),
            folder,
            weight,
            statistics: self.statistics.get(i),
        })
        .collect()
    }

    /// Asks the adapters' own rows, if a method needs to.
    fn prepare(&mut self, methods: &[String]) -> Result<()> {
        let plans = methods
            .iter()
            .filter_map(|name| self.recipe.plan(name).ok());
        let needs = plans.map(|plan| plan.needs()).max();
        let gradients = match needs {
            None | Some(Needs::Nothing) => return Ok(()),
            Some(Needs::Inputs) => false,
            Some(Needs::Gradients) => true,
        };
        for (place, folder) in self.opened {
            let run = data::open(place.run.as_deref(), self.args.device.as_deref())?;
            let found = data::statistics(&run, folder, gradients, self.recipe.seed)?;
            self.statistics.push(found);
        }
        Ok(())
    }

    /// One method, not judged.
    fn single(&mut self) -> Result<()> {
        let Some(out) = &self.recipe.out else {
            bail!("where does the merged adapter go? name a folder with --out")
        };
        let method = &self.recipe.method;
        self.prepare(std::slice::from_ref(method))?;
        let sources = self.sources(&self.weights);
        if let Some(name) = method.strip_prefix("peft:") {
            let mut made = self.as_peft(name)?;
            made.side = self.side();
            made.save(out)?;
            println!("{}", out.display());
            return Ok(());
        }
        // The mean of the factors needs no ΔW, so it is there for every variant.
        if method == "fuse" && self.recipe.options.rank.is_none() && self.recipe.modules.is_empty()
        {
            let turned = match self.recipe.align {
                true => coto_merge::aligned(&sources)?,
                false => sources.iter().map(|source| source.folder.clone()).collect(),
            };
            let parts = sources.iter().zip(&turned);
            let parts: Vec<Source> = parts
                .map(|(source, folder)| Source {
                    folder,
                    ..source.clone()
                })
                .collect();
            let mut fused = coto_merge::fuse(&parts)?;
            fused.side = self.side();
            fused.save(out)?;
            println!("{}", out.display());
            return Ok(());
        }
        let mut merged = merge(&sources, &self.recipe.plan(method)?)?;
        merged.folder.side = self.side();
        merged.folder.save(out)?;
        if self.args.json {
            println!(
                "{}",
                serde_json::to_string_pretty(&self.described(&merged))?
            );
            return Ok(());
        }
        let ranks = || merged.modules.iter().map(|module| module.rank);
        let seconds: f64 = merged.modules.iter().map(|module| module.seconds).sum();
        println!(
            "{} adapters, {} modules by {method}, rank {} to {}, {seconds:.2} s",
            sources.len(),
            merged.modules.len(),
            ranks().min().unwrap_or(0),
            ranks().max().unwrap_or(0)
        );
        let by_error = merged
            .modules
            .iter()
            .max_by(|a, b| a.error.total_cmp(&b.error));
        if let Some(worst) = by_error.filter(|worst| worst.error > 0.0) {
            println!(
                "compression left out at most {:.1} % of ΔW (`{}`)",
                100.0 * worst.error,
                worst.path
            );
        }
        merged
            .remarks
            .iter()
            .for_each(|remark| println!("note: {remark}"));
        println!("{}", out.display());
        Ok(())
    }

    /// What PEFT's `add_weighted_adapter` makes, by a `combination_type`.
    fn as_peft(&self, name: &str) -> Result<Folder> {
        let options = &self.recipe.options;
        let options = PeftOptions {
            combination_type: name.parse()?,
            svd_rank: options.rank,
            density: options.density,
            majority_sign_method: options.majority,
            seed: self.recipe.seed,
            ..PeftOptions::default()
        };
        let folders: Vec<&Folder> = self.opened.iter().map(|(_, folder)| folder).collect();
        Ok(add_weighted_adapter(&folders, &self.weights, &options)?)
    }

    /// What the folder tells of itself.
    fn side(&self) -> Option<Value> {
        let summary = format!(
            "Merged from {} by {}.",
            self.names.join(", "),
            self.recipe.method
        );
        Some(
            json!({"summary": summary, "merged": {"adapters": self.names, "weights": self.weights, "method": self.recipe.method}}),
        )
    }

    fn described(&self, merged: &Merged) -> Value {
        json!({
            "out": self.recipe.out,
            "method": self.recipe.method,
            "adapters": self.names,
            "weights": self.weights,
            "modules": merged.modules,
            "remarks": merged.remarks,
        })
    }

    /// Several methods, judged on tasks.
    fn trials(&mut self) -> Result<()> {
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
