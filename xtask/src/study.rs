//! `study`: methods of training compared on tasks, in regimes, over seeds, as a study file says.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context, Result, ensure};
use coto_train::RunConfig;
use serde::Deserialize;

use edited::Merging;
use found::{Found, Key};

mod edited;
mod found;
mod measure;
mod table;

/// Arguments of the verb.
#[derive(clap::Args)]
pub struct Args {
    /// The study file. What is found goes beside it, as JSON and as Markdown; what is there already is not measured again.
    #[arg(default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/studies/lora-against-coto.toml"), hide_default_value = true)]
    file: PathBuf,
    /// Where the runs' folders go; else where the run file says.
    #[arg(long, value_name = "DIR")]
    runs: Option<PathBuf>,
    /// Only these seeds, one or more.
    #[arg(long, value_delimiter = ',')]
    seeds: Vec<u64>,
    /// Only these tasks, one or more.
    #[arg(long, value_delimiter = ',')]
    tasks: Vec<String>,
    /// Only these regimes, one or more.
    #[arg(long, value_delimiter = ',')]
    regimes: Vec<String>,
    /// Optimiser steps in place of the regimes' own.
    #[arg(long)]
    steps: Option<usize>,
    /// Trainings at a time, which share the cores.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    jobs: u64,
}

/// A study file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Study {
    /// The run file that all runs share, beside this file.
    run: PathBuf,
    /// Each is paired with the one before it, to be joined.
    seeds: Vec<u64>,
    /// Learning rates. Of each method in each task and regime that one counts whose run of the first seed has the best accuracy
    /// on the validation rows.
    rates: Vec<f64>,
    /// Test rows on which coalitions and joined runs are judged.
    rows: usize,
    /// Whether the runs' adapters are pruned too, at the end.
    #[serde(default)]
    prune: bool,
    /// How the adapters of all tasks are merged.
    #[serde(default, rename = "merge")]
    merges: Vec<Merging>,
    #[serde(rename = "task")]
    tasks: Vec<Choice>,
    #[serde(rename = "regime")]
    regimes: Vec<Choice>,
    #[serde(rename = "method")]
    methods: Vec<Choice>,
}

/// A name, and what it sets in the run file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Choice {
    name: String,
    set: Vec<String>,
}

/// One run.
struct Plan {
    key: Key,
    file: PathBuf,
    set: Vec<String>,
    folder: PathBuf,
}

/// Trains what is missing, measures it, and prints the tables.
pub fn run(args: &Args) -> Result<()> {
    let text = std::fs::read_to_string(&args.file).with_context(|| named(&args.file))?;
    let study: Study = toml::from_str(&text).with_context(|| named(&args.file))?;
    study.check(args).with_context(|| named(&args.file))?;
    let coto = crate::bench::build("coto")?;
    let mut found = Found::open(&args.file.with_extension("json"))?;
    let mut plans = Vec::new();
    let write = |found: &Found| {
        let table = table::markdown(&study, found);
        coto_train::write_atomic(&args.file.with_extension("md"), table.as_bytes())
    };
    for regime in chosen(&study.regimes, &args.regimes) {
        study.search(args, regime, &coto, &mut found)?;
        for &seed in &study.seeds {
            if args.seeds.is_empty() || args.seeds.contains(&seed) {
                plans.extend(study.seed(args, regime, seed, &coto, &mut found)?);
                write(&found)?;
            }
        }
    }
    if study.prune {
        for plan in plans
            .iter()
            .filter(|plan| !found.is_pruned(plan))
            .collect::<Vec<_>>()
        {
            train(&[plan], args.jobs, &coto)?;
            found.prune(plan, study.rows)?;
            write(&found)?;
        }
    }
    print!("{}", table::markdown(&study, &found));
    Ok(())
}

fn named(path: &Path) -> String {
    path.display().to_string()
}

/// Those that are named; all, if none is.
fn chosen<'a>(all: &'a [Choice], names: &[String]) -> Vec<&'a Choice> {
    let wanted = |choice: &&Choice| names.is_empty() || names.contains(&choice.name);
    all.iter().filter(wanted).collect()
}

impl Study {
    fn check(&self, args: &Args) -> Result<()> {
        ensure!(!self.seeds.is_empty(), "`seeds`: at least one");
        ensure!(!self.rates.is_empty(), "`rates`: at least one");
        ensure!(self.rows > 0, "`rows`: at least 1");
        let known = |what: &str, names: &[String], all: &[Choice]| {
            for name in names {
                let own = || all.iter().map(|choice| &*choice.name).collect::<Vec<_>>();
                let is_known = own().contains(&&**name);
                ensure!(is_known, "no {what} `{name}`: {}", own().join(", "));
            }
            Ok(())
        };
        known("task", &args.tasks, &self.tasks)?;
        known("regime", &args.regimes, &self.regimes)?;
        for seed in &args.seeds {
            ensure!(self.seeds.contains(seed), "no seed {seed}");
        }
        Ok(())
    }

    fn plan(&self, args: &Args, choices: [&Choice; 3], (seed, rate): (u64, f64)) -> Result<Plan> {
        let file = args.file.with_file_name(&self.run);
        let mut set: Vec<String> = choices.iter().flat_map(|c| c.set.clone()).collect();
        set.extend(args.steps.map(|steps| format!("optim.steps={steps}")));
        set.extend([format!("seed={seed}"), format!("optim.lr={rate:?}")]);
        let config = RunConfig::load(&file, &set)?;
        let [task, regime, method] = choices.map(|choice| choice.name.clone());
        let steps = config.optim.steps;
        let folder = args.runs.as_ref().unwrap_or(&config.out);
        let folder = folder.join(format!("{task}/{regime}/{method}-{steps}-{rate:?}-{seed}"));
        set.push(format!("out={}", toml::Value::String(named(&folder))));
        let key = Key {
            task,
            regime,
            method,
            steps,
            rate,
            seed,
        };
        Ok(Plan {
            key,
            file,
            set,
            folder,
        })
    }

    /// Runs every method at every rate, with the first seed.
    fn search(&self, args: &Args, regime: &Choice, coto: &Path, found: &mut Found) -> Result<()> {
        let mut plans = Vec::new();
        for task in chosen(&self.tasks, &args.tasks) {
            for method in &self.methods {
                for &rate in &self.rates {
                    let plan = self.plan(args, [task, regime, method], (self.seeds[0], rate))?;
                    if !found.has(&plan.key, "scores") {
                        plans.push(plan);
                    }
                }
            }
        }
        train(&plans.iter().collect::<Vec<_>>(), args.jobs, coto)?;
        plans.iter().try_for_each(|plan| found.score(plan))
    }

    /// Runs every method with a seed, at its best rate, and measures it.
    fn seed(
        &self,
        args: &Args,
        regime: &Choice,
        seed: u64,
        coto: &Path,
        found: &mut Found,
    ) -> Result<Vec<Plan>> {
        let place = self.seeds.iter().position(|&own| own == seed);
        let before = place.and_then(|place| place.checked_sub(1));
        let before = before.map(|place| self.seeds[place]);
        let (mut plans, mut needed) = (Vec::new(), Vec::new());
        for task in chosen(&self.tasks, &args.tasks) {
            for method in &self.methods {
                let choices = [task, regime, method];
                let first = self.plan(args, choices, (self.seeds[0], self.rates[0]))?;
                let rate = self.best(found, first.key);
                let plan = |seed| self.plan(args, choices, (seed, rate));
                let own = plan(seed)?;
                let is_single = found.has(&own.key, "coalitions");
                let is_joined = before.is_none() || found.has(&own.key, "joined");
                if !is_single || !is_joined {
                    needed.push(plan(seed)?);
                }
                if let Some(before) = before.filter(|_| !is_joined) {
                    needed.push(plan(before)?);
                }
                let other = before.map(plan).transpose()?;
                plans.push((own, other));
            }
        }
        train(&needed.iter().collect::<Vec<_>>(), args.jobs, coto)?;
        for (plan, other) in &plans {
            found.measure(plan, other.as_ref(), self.rows)?;
        }
        let plans: Vec<Plan> = plans.into_iter().map(|(plan, _)| plan).collect();
        if !self.merges.is_empty() && args.tasks.is_empty() {
            for method in &self.methods {
                let own = plans.iter().filter(|plan| plan.key.method == method.name);
                let own: Vec<&Plan> = own.collect();
                if !found.is_merged(&self.merges, &own) {
                    train(&own, args.jobs, coto)?;
                    found.merge(&self.merges, &own, self.rows)?;
                }
            }
        }
        Ok(plans)
    }

    /// The rate with which a run has the best accuracy on the validation rows.
    fn best(&self, found: &Found, mut key: Key) -> f64 {
        let mut accuracy = |rate: f64| {
            key.rate = rate;
            let scores = found.value(&key, "scores", "validation accuracy");
            scores.unwrap_or(f64::NEG_INFINITY)
        };
        let mut best = self.rates[0];
        for &rate in &self.rates[1..] {
            if accuracy(rate) > accuracy(best) {
                best = rate;
            }
        }
        best
    }
}

/// Trains those of the runs that are not finished, going on with those that have begun.
fn train(plans: &[&Plan], jobs: u64, coto: &Path) -> Result<()> {
    let left = Mutex::new(plans.iter().filter(|plan| !plan.is_finished()));
    let work = || -> Result<()> {
        loop {
            let plan = left.lock().expect("no job panics").next();
            match plan {
                Some(plan) => plan.train(jobs, coto)?,
                None => return Ok(()),
            }
        }
    };
    std::thread::scope(|scope| {
        let jobs: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        let mut ends = jobs
            .into_iter()
            .map(|job| job.join().expect("no job panics"));
        ends.try_for_each(|end| end)
    })
}

impl Plan {
    /// Its scores are what a run writes last.
    fn is_finished(&self) -> bool {
        self.folder.join("result.json").exists()
    }

    fn train(&self, jobs: u64, coto: &Path) -> Result<()> {
        eprintln!("{}", self.folder.display());
        let mut command = Command::new(coto);
        command.arg("train").arg(&self.file).arg("--resume");
        command.args(self.set.iter().flat_map(|set| ["--set", set.as_str()]));
        if jobs > 1 {
            let cores = std::thread::available_parallelism()?.get() as u64;
            command.env("RAYON_NUM_THREADS", (cores / jobs).max(1).to_string());
        }
        let output = command.output().with_context(|| named(coto))?;
        let told = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}: {told}", self.folder.display());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn open(line: &[&str]) -> Result<(Args, Study)> {
        let args = Line::parse_from([&["study"], line].concat()).args;
        let study: Study = toml::from_str(&std::fs::read_to_string(&args.file)?)?;
        study.check(&args)?;
        Ok((args, study))
    }

    #[test]
    fn the_committed_study_names_runs_that_can_be_trained() {
        let (args, study) = open(&["--runs", "r", "--steps", "7"]).unwrap();
        let mut folders = std::collections::BTreeSet::new();
        for task in &study.tasks {
            for regime in &study.regimes {
                for method in &study.methods {
                    let plan = study.plan(&args, [task, regime, method], (3, 1e-3));
                    let plan = plan.unwrap();
                    let config = RunConfig::load(&plan.file, &plan.set).unwrap();
                    assert_eq!((config.seed, config.optim.steps), (3, 7));
                    assert_eq!((config.optim.lr, &config.out), (1e-3, &plan.folder));
                    folders.insert(plan.folder);
                }
            }
        }
        assert_eq!(folders.len(), 8);
        let error = open(&["--tasks", "nouns"]).err().unwrap().to_string();
        assert!(
            error.contains("nouns") && error.contains("wordnet-nouns"),
            "{error}"
        );
    }
}
