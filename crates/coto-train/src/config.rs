use std::path::{Path, PathBuf};

use coto_adapters::AdapterConfig;
use coto_coalition::Grouping;
use coto_models::{BaseQuant, Pooling};
use coto_schedule::ScheduleConfig;
use serde::{Deserialize, Serialize};

use crate::{Decay, Error};

mod data;

pub use data::{DataConfig, ImagesConfig, LanguageConfig};

/// A run file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// Where the run's files go.
    pub out: PathBuf,
    /// The seed of everything random.
    #[serde(default)]
    pub seed: u64,
    /// `cpu`, `wgpu[:n]`, `cuda[:n]`.
    #[serde(default = "cpu")]
    pub device: String,
    /// The base model.
    pub model: ModelConfig,
    /// The rows.
    pub data: DataConfig,
    /// Set where the rows are texts to continue, not to classify.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<LanguageConfig>,
    /// Set where the rows are images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<ImagesConfig>,
    /// The classification head.
    #[serde(default)]
    pub head: HeadConfig,
    /// The adapters.
    #[serde(default)]
    pub adapter: AdapterConfig,
    /// What the players of the coalition are.
    #[serde(default)]
    pub players: Grouping,
    /// When which players are on.
    #[serde(default)]
    pub schedule: ScheduleConfig,
    /// The optimiser.
    #[serde(default)]
    pub optim: OptimConfig,
    /// Evaluation, checkpoints and early stopping.
    #[serde(default)]
    pub eval: EvalConfig,
}

fn cpu() -> String {
    "cpu".to_owned()
}

/// The base model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// A Hugging Face folder, a GGUF file, the name of an embedded model, or a hub id.
    pub name: String,
    /// How the frozen matrices lie in memory.
    #[serde(default)]
    pub quant: BaseQuant,
    /// How token states become features; unset, as the family does.
    #[serde(default)]
    pub pooling: Option<Pooling>,
}

/// What stands between features and classes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HeadKind {
    /// Fitted on the frozen model's features, then frozen: runs with other seeds share it.
    #[default]
    Probe,
    /// Trained with the adapters, from the probe's place of zero.
    Trained,
    /// The checkpoint's own, frozen.
    Checkpoint,
}

/// The classification head.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HeadConfig {
    /// Fitted and frozen, or trained.
    pub kind: HeadKind,
    /// L2 penalty of the probe, on the mean loss.
    pub l2: f64,
}

impl Default for HeadConfig {
    fn default() -> Self {
        Self {
            kind: HeadKind::Probe,
            l2: 0.03,
        }
    }
}

/// AdamW and what steers it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimConfig {
    /// Optimiser steps.
    pub steps: usize,
    /// Rows of a micro-batch.
    pub batch_size: usize,
    /// Micro-batches of a step.
    pub accumulation: usize,
    /// Keep only the states between layers for the way back, and compute the rest again: slower, in less memory.
    pub gradient_checkpointing: bool,
    /// Memory for the training samples' states below the lowest active layer, in MiB, so that they need not be made anew at
    /// each step; 0: none. See [`PrefixCache`](crate::PrefixCache).
    pub prefix_cache_mib: usize,
    /// The learning rate at its peak.
    pub lr: f64,
    /// LoRA+ (arXiv 2402.12354): B learns so many times faster.
    pub lora_plus_ratio: f64,
    /// The trained head's learning rate, as a multiple of `lr`.
    pub head_lr_ratio: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// β₁.
    pub beta1: f64,
    /// β₂.
    pub beta2: f64,
    /// ε.
    pub epsilon: f64,
    /// Steps of linear warm-up.
    pub warmup: usize,
    /// What follows the warm-up.
    pub decay: Decay,
    /// The largest norm of all gradients together; 0: no limit.
    pub clip: f64,
}

impl Default for OptimConfig {
    fn default() -> Self {
        Self {
            steps: 1000,
            batch_size: 32,
            accumulation: 1,
            gradient_checkpointing: false,
            prefix_cache_mib: 0,
            lr: 1e-3,
            lora_plus_ratio: 1.0,
            head_lr_ratio: 1.0,
            weight_decay: 0.0,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            warmup: 0,
            decay: Decay::Linear,
            clip: 1.0,
        }
    }
}

/// Evaluation, checkpoints and early stopping.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvalConfig {
    /// Evaluate on the validation rows every so many steps; 0: only at the end.
    pub every: usize,
    /// Rows of a batch in evaluation.
    pub batch_size: usize,
    /// Stop when the validation loss has not improved in so many evaluations, and keep the best; 0: never.
    pub patience: usize,
    /// Write a checkpoint every so many steps; 0: only when stopped and at the end.
    pub checkpoint_every: usize,
}

impl Default for EvalConfig {
    fn default() -> Self {
        Self {
            every: 0,
            batch_size: 64,
            patience: 0,
            checkpoint_every: 200,
        }
    }
}

impl RunConfig {
    /// Reads a run file and sets single values in it, each `a.b=value` with a TOML value; a bare word is a string.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Toml`], [`Error::Assignment`], [`Error::Value`].
    pub fn load(path: &Path, set: &[String]) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        Self::parse(&text, path, set)
    }

    /// [`load`](Self::load) from a text; `path` is for messages.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn parse(text: &str, path: &Path, set: &[String]) -> Result<Self, Error> {
        let broken = |source| Error::Toml {
            path: path.into(),
            source: Box::new(source),
        };
        let config: Self = if set.is_empty() {
            toml::from_str(text).map_err(broken)?
        } else {
            let mut table: toml::Table = toml::from_str(text).map_err(broken)?;
            for assignment in set {
                assign(&mut table, assignment)?;
            }
            table.try_into().map_err(broken)?
        };
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), Error> {
        let o = &self.optim;
        let share = |v: f64| (0.0..1.0).contains(&v);
        let positive = |v: f64| v.is_finite() && v > 0.0;
        let not_negative = |v: f64| v.is_finite() && v >= 0.0;
        let rules: [(&'static str, f64, bool, &'static str); 14] = [
            ("optim.steps", o.steps as f64, o.steps > 0, "at least 1"),
            (
                "optim.batch_size",
                o.batch_size as f64,
                o.batch_size > 0,
                "at least 1",
            ),
            (
                "optim.accumulation",
                o.accumulation as f64,
                o.accumulation > 0,
                "at least 1",
            ),
            ("optim.lr", o.lr, positive(o.lr), "above 0"),
            (
                "optim.lora_plus_ratio",
                o.lora_plus_ratio,
                positive(o.lora_plus_ratio),
                "above 0",
            ),
            (
                "optim.head_lr_ratio",
                o.head_lr_ratio,
                positive(o.head_lr_ratio),
                "above 0",
            ),
            (
                "optim.weight_decay",
                o.weight_decay,
                not_negative(o.weight_decay),
                "0 or above",
            ),
            ("optim.beta1", o.beta1, share(o.beta1), "in [0, 1)"),
            ("optim.beta2", o.beta2, share(o.beta2), "in [0, 1)"),
            ("optim.epsilon", o.epsilon, positive(o.epsilon), "above 0"),
            ("optim.clip", o.clip, not_negative(o.clip), "0 or above"),
            (
                "head.l2",
                self.head.l2,
                not_negative(self.head.l2),
                "0 or above",
            ),
            (
                "eval.batch_size",
                self.eval.batch_size as f64,
                self.eval.batch_size > 0,
                "at least 1",
            ),
            (
                "data.max_tokens",
                self.data.max_tokens as f64,
                self.data.max_tokens > 2,
                "at least 3",
            ),
        ];
        for (field, value, holds, reason) in rules {
            if !holds {
                return Err(Error::Value {
                    field,
                    value: value.to_string(),
                    reason,
                });
            }
        }
        let patience = self.eval.patience;
        if patience > 0 && (self.data.validation.is_none() || self.eval.every == 0) {
            let reason = "early stopping needs `data.validation` and `eval.every`";
            return Err(Error::Value {
                field: "eval.patience",
                value: patience.to_string(),
                reason,
            });
        }
        Ok(())
    }
}

/// Sets a value of a table as `--set` does: `a.b=value` with a TOML value; a bare word is a string.
///
/// # Errors
/// [`Error::Assignment`].
pub fn assign(table: &mut toml::Table, assignment: &str) -> Result<(), Error> {
    let wrong = |reason: String| Error::Assignment {
        text: assignment.to_owned(),
        reason,
    };
    let (key, value) = assignment
        .split_once('=')
        .ok_or_else(|| wrong("write `key=value`".to_owned()))?;
    let value: toml::Value = toml::from_str::<toml::Table>(&format!("v = {value}"))
        .ok()
        .and_then(|mut table| table.remove("v"))
        .unwrap_or_else(|| toml::Value::String(value.to_owned()));
    let mut path: Vec<&str> = key.split('.').map(str::trim).collect();
    let last = path.pop().filter(|last| !last.is_empty());
    let last = last.ok_or_else(|| wrong("the key is empty".to_owned()))?;
    let mut table = table;
    for part in path {
        let entry = table
            .entry(part)
            .or_insert_with(|| toml::Table::new().into());
        table = entry
            .as_table_mut()
            .ok_or_else(|| wrong(format!("`{part}` is not a table")))?;
    }
    table.insert(last.to_owned(), value);
    Ok(())
}
