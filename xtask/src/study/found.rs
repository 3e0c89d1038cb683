use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use coto_train::Scores;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::edited::{self, Merging};
use super::{Plan, measure, named};

/// What stands for the task of merged adapters.
pub const MERGED: &str = "all tasks merged";

/// Which run.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Key {
    pub task: String,
    pub regime: String,
    pub method: String,
    /// Optimiser steps.
    pub steps: usize,
    /// The learning rate.
    pub rate: f64,
    pub seed: u64,
}

/// What is known of a run, in groups of named numbers.
#[derive(Serialize, Deserialize)]
pub struct Cell {
    #[serde(flatten)]
    pub key: Key,
    pub groups: Map<String, Value>,
}

/// What is known of all runs, in a file that grows with each of them.
pub struct Found {
    path: PathBuf,
    pub cells: Vec<Cell>,
}

/// Named numbers.
pub type Group = Vec<(String, f64)>;

/// What the merged runs of all tasks are known by.
fn merged_key(plans: &[&Plan]) -> Key {
    Key {
        task: MERGED.to_owned(),
        rate: 0.0,
        ..plans[0].key.clone()
    }
}

impl Found {
    /// From its file, if there is one.
    pub fn open(path: &Path) -> Result<Self> {
        let cells = match path.exists() {
            true => serde_json::from_slice(&std::fs::read(path)?).with_context(|| named(path))?,
            false => Vec::new(),
        };
        Ok(Self {
            path: path.to_owned(),
            cells,
        })
    }

    fn cell(&self, key: &Key) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.key == *key)
    }

    /// Whether a group of a run is known.
    pub fn has(&self, key: &Key, group: &str) -> bool {
        let cell = self.cell(key);
        cell.is_some_and(|cell| cell.groups.contains_key(group))
    }

    /// A number of a run.
    pub fn value(&self, key: &Key, group: &str, name: &str) -> Option<f64> {
        self.cell(key)?.groups.get(group)?.get(name)?.as_f64()
    }

    fn put(&mut self, key: &Key, groups: Vec<(&str, Group)>) -> Result<()> {
        if self.cell(key).is_none() {
            self.cells.push(Cell {
                key: key.clone(),
                groups: Map::new(),
            });
        }
        let cell = self.cells.iter_mut().find(|cell| cell.key == *key);
        let cell = cell.expect("put if it was missing");
        for (name, group) in groups {
            let group: Map<String, Value> = group.into_iter().map(|(k, v)| (k, v.into())).collect();
            cell.groups.insert(name.to_owned(), group.into());
        }
        coto_train::write_atomic(&self.path, &serde_json::to_vec_pretty(&self.cells)?)?;
        Ok(())
    }

    /// Takes the scores that a finished run wrote.
    pub fn score(&mut self, plan: &Plan) -> Result<()> {
        let path = plan.folder.join("result.json");
        let test: Scores =
            serde_json::from_slice(&std::fs::read(&path).with_context(|| named(&path))?)
                .with_context(|| named(&path))?;
        let path = plan.folder.join("metrics.jsonl");
        let metrics = std::fs::read_to_string(&path).with_context(|| named(&path))?;
        let last = metrics
            .lines()
            .rfind(|line| line.contains(r#""kind":"eval""#));
        let last = last.with_context(|| format!("{}: no validation", named(&path)))?;
        let validation: Scores = serde_json::from_str(last).with_context(|| named(&path))?;
        let group = [
            ("accuracy", test.accuracy),
            ("loss", test.loss),
            ("validation accuracy", validation.accuracy),
            ("validation loss", validation.loss),
        ];
        let group = group.map(|(name, value)| (name.to_owned(), value)).to_vec();
        self.put(&plan.key, vec![("scores", group)])
    }

    /// Whether it is known what pruning does to a run.
    pub fn is_pruned(&self, plan: &Plan) -> bool {
        self.has(&plan.key, "accuracy by layers kept")
    }

    /// Measures what pruning does to a finished run.
    pub fn prune(&mut self, plan: &Plan, rows: usize) -> Result<()> {
        self.put(&plan.key, edited::pruned(&plan.folder, rows)?)
    }

    /// Whether it is known what merging does to the runs of all tasks.
    pub fn is_merged(&self, merges: &[Merging], plans: &[&Plan]) -> bool {
        let key = merged_key(plans);
        let mut labels = merges.iter().flat_map(Merging::labels);
        labels.all(|label| self.has(&key, &label))
    }

    /// Measures what merging does to the finished runs of all tasks.
    pub fn merge(&mut self, merges: &[Merging], plans: &[&Plan], rows: usize) -> Result<()> {
        let tasks: Vec<(String, &Path)> = plans
            .iter()
            .map(|plan| (plan.key.task.clone(), plan.folder.as_path()))
            .collect();
        let groups = edited::merged(merges, &tasks, rows)?;
        let groups = groups
            .iter()
            .map(|(name, group)| (name.as_str(), group.clone()));
        self.put(&merged_key(plans), groups.collect())
    }

    /// Measures what is not known of a finished run, and of it joined with another.
    pub fn measure(&mut self, plan: &Plan, other: Option<&Plan>, rows: usize) -> Result<()> {
        if !self.has(&plan.key, "scores") {
            self.score(plan)?;
        }
        if !self.has(&plan.key, "coalitions") {
            let groups = measure::coalitions(&plan.folder, rows)?;
            self.put(&plan.key, groups)?;
        }
        if let Some(other) = other
            && !self.has(&plan.key, "joined")
        {
            let group = measure::joined(&other.folder, &plan.folder, rows)?;
            self.put(&plan.key, vec![("joined", group)])?;
        }
        Ok(())
    }
}
