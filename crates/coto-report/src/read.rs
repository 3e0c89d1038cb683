//! The result files as this crate reads them; fields it does not show are passed over.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::Error;

/// `summary.json`: the runs of one comparison and the settings they share.
#[derive(Deserialize)]
pub(crate) struct Summary {
    pub task: String,
    pub model: String,
    pub classes: usize,
    pub train_rows: usize,
    pub validation_rows: usize,
    pub test_rows: usize,
    pub steps: u64,
    pub rank: usize,
    pub alpha: f64,
    pub learning_rate: f64,
    pub batch_size: usize,
    pub targets: String,
    pub device: String,
    pub probe_accuracy: Option<f64>,
    pub runs: Vec<Outcome>,
    #[serde(default)]
    pub joined: Vec<Joined>,
}

/// What came out of one run. Accuracies are shares in 0..=1 of the test rows unless named otherwise.
#[derive(Deserialize)]
pub(crate) struct Outcome {
    pub name: String,
    pub method: String,
    pub seed: u64,
    pub folder: String,
    pub accuracy: f64,
    pub macro_f1: f64,
    pub train_accuracy: f64,
    pub every_other_accuracy: f64,
    pub seconds_per_step: f64,
    pub seconds: f64,
}

/// Test accuracy of the adapters of two seeds of one method, joined half and half.
#[derive(Deserialize)]
pub(crate) struct Joined {
    pub method: String,
    pub fusion_accuracy: f64,
    pub mixture_accuracy: f64,
}

/// One optimiser step of `metrics.jsonl`.
#[derive(Deserialize)]
pub(crate) struct Step {
    pub step: u64,
    pub loss: f64,
    pub lr: f64,
    pub active: String,
    pub seconds: f64,
    pub tokens: u64,
}

/// One evaluation on the validation rows, after `step` steps.
#[derive(Deserialize)]
pub(crate) struct Eval {
    pub step: u64,
    pub loss: f64,
    pub accuracy: Option<f64>,
    pub macro_f1: Option<f64>,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Line {
    Step(Step),
    Eval(Eval),
}

/// `coto.json`: the players' names, and everything else it says.
#[derive(Deserialize, Default)]
struct Side {
    players: Option<Vec<String>>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// One training run's folder, read.
pub(crate) struct Run {
    /// In order of their numbers, at least one.
    pub steps: Vec<Step>,
    pub evals: Vec<Eval>,
    /// One name per character of [`Step::active`].
    pub players: Vec<String>,
    /// What `coto.json` says besides the players.
    pub settings: Map<String, Value>,
}

impl Summary {
    pub fn read(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("summary.json");
        let summary: Self = parse(&text(&path)?, &path, 1)?;
        match summary.runs.is_empty() {
            true => Err(Error::Empty { path, what: "runs" }),
            false => Ok(summary),
        }
    }
}

impl Run {
    pub fn read(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("adapter").join("coto.json");
        let side: Side = match text(&path) {
            Ok(text) => parse(&text, &path, 1)?,
            Err(Error::MissingFile { .. }) => Side::default(),
            Err(error) => return Err(error),
        };
        let path = dir.join("metrics.jsonl");
        let mut count = side.players.as_ref().map(Vec::len);
        // A resumed run may log a step twice; the later line is the one that counted.
        let (mut steps, mut evals) = (BTreeMap::new(), BTreeMap::new());
        for (index, line) in text(&path)?.lines().enumerate() {
            if line.trim().is_empty() {
                continue;
            }
            match parse(line, &path, index + 1)? {
                Line::Eval(eval) => drop(evals.insert(eval.step, eval)),
                Line::Step(step) => {
                    let players = *count.get_or_insert(step.active.chars().count());
                    if step.active.len() != players
                        || step.active.contains(|c| c != '0' && c != '1')
                    {
                        let (path, line, active) = (path.clone(), index + 1, step.active);
                        return Err(Error::Coalition {
                            path,
                            line,
                            active,
                            players,
                        });
                    }
                    steps.insert(step.step, step);
                }
            }
        }
        if steps.is_empty() {
            return Err(Error::Empty {
                path,
                what: "steps",
            });
        }
        let nameless = || {
            (0..count.unwrap_or(0))
                .map(|player| format!("player {player}"))
                .collect()
        };
        Ok(Self {
            steps: steps.into_values().collect(),
            evals: evals.into_values().collect(),
            players: side.players.unwrap_or_else(nameless),
            settings: side.rest,
        })
    }
}

pub(crate) fn text(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|cause| match cause.kind() {
        ErrorKind::NotFound => Error::MissingFile { path: path.into() },
        _ => Error::Io {
            action: "read",
            path: path.into(),
            cause,
        },
    })
}

/// Parses a text whose first line is line `first` of the file.
pub(crate) fn parse<T: DeserializeOwned>(
    text: &str,
    path: &Path,
    first: usize,
) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|error| {
        let (path, line) = (path.into(), first + error.line().saturating_sub(1));
        let cause = error.to_string();
        // The parser counts lines from the start of `text`; ours, in the message already, is the file's.
        let cause = cause.split(" at line ").next().unwrap_or(&cause).to_owned();
        match error.is_data() {
            true => Error::Field { path, line, cause },
            false => Error::Malformed { path, line, cause },
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(number: u64, loss: f64, active: &str) -> String {
        format!(
            r#"{{"kind":"step","step":{number},"loss":{loss},"lr":0.1,"p":1.0,"active":"{active}","seconds":0.1,"tokens":5,"more":[]}}"#
        )
    }

    fn read(lines: &[String]) -> Result<Run, Error> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("metrics.jsonl"), lines.join("\n")).unwrap();
        Run::read(dir.path())
    }

    #[test]
    fn a_step_logged_twice_counts_as_logged_last() {
        let run = read(&[step(0, 3.0, "10"), step(1, 2.0, "01"), step(1, 1.5, "11")]).unwrap();
        let losses: Vec<f64> = run.steps.iter().map(|step| step.loss).collect();
        assert_eq!(losses, [3.0, 1.5]);
        assert_eq!(run.players, ["player 0", "player 1"]);
    }

    #[test]
    fn a_coalition_of_another_size_or_alphabet_is_named_with_its_line() {
        for wrong in ["1", "111", "1x", "é"] {
            let error = read(&[step(0, 3.0, "10"), String::new(), step(1, 2.0, wrong)])
                .err()
                .unwrap();
            assert!(
                matches!(&error, Error::Coalition { line: 3, players: 2, active, .. } if active == wrong),
                "{error}"
            );
        }
    }

    #[test]
    fn a_log_without_steps_is_an_error() {
        let error = read(&[r#"{"kind":"eval","step":0,"loss":1.0}"#.into()])
            .err()
            .unwrap();
        assert!(
            error.to_string().ends_with("metrics.jsonl` holds no steps"),
            "{error}"
        );
    }
}
