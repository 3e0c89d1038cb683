use std::path::PathBuf;

use coto_data::{LanguageColumns, LanguageFormat};
use serde::{Deserialize, Serialize};

/// The rows and their columns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// Training rows: `.jsonl`, `.csv`, `.tsv` (each also `.gz`) or `.parquet`.
    pub train: PathBuf,
    /// Rows to choose by.
    #[serde(default)]
    pub validation: Option<PathBuf>,
    /// Rows to report on.
    #[serde(default)]
    pub test: Option<PathBuf>,
    /// The text column.
    #[serde(default = "text")]
    pub text: String,
    /// The second text's column, for pairs.
    #[serde(default)]
    pub pair: Option<String>,
    /// The label column.
    #[serde(default = "label")]
    pub label: String,
    /// Longer texts are cut to so many tokens.
    #[serde(default = "max_tokens")]
    pub max_tokens: usize,
    /// Train on so many rows a class only, drawn by `few_shot_seed`.
    #[serde(default)]
    pub few_shot: Option<usize>,
    /// The seed of that draw: runs with other seeds see the same rows.
    #[serde(default)]
    pub few_shot_seed: u64,
}

impl DataConfig {
    /// An embedded task, with `rows` training rows a class.
    pub fn few_shot(task: &str, rows: usize) -> Self {
        let file = |split: &str| format!("{task}/{split}.jsonl.gz").into();
        Self {
            train: file("train"),
            validation: Some(file("validation")),
            test: Some(file("test")),
            text: text(),
            pair: None,
            label: label(),
            max_tokens: 64,
            few_shot: Some(rows),
            few_shot_seed: 0,
        }
    }
}

fn text() -> String {
    "text".to_owned()
}

fn label() -> String {
    "label".to_owned()
}

fn max_tokens() -> usize {
    128
}

/// Texts to continue, and their columns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LanguageConfig {
    /// What the rows are: `messages`, `completion` or `text`; unset, as the columns of the first row tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<LanguageFormat>,
    /// The names of the columns.
    pub columns: LanguageColumns,
    /// Whether only completions and what the assistant says are learnt, or prompts too.
    pub completions_only: bool,
    /// Whether samples share rows of `data.max_tokens` tokens, each blind to the others.
    pub packing: bool,
}

impl Default for LanguageConfig {
    fn default() -> Self {
        Self {
            format: None,
            columns: LanguageColumns::default(),
            completions_only: true,
            packing: true,
        }
    }
}

/// Images and their column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImagesConfig {
    /// The image's column, where the rows are a table.
    pub image: String,
    /// The prompt of a class, for a model of images and texts: its name stands in the place of `{}`.
    pub template: String,
}

impl Default for ImagesConfig {
    fn default() -> Self {
        Self {
            image: "image".to_owned(),
            template: coto_image::PHOTO.to_owned(),
        }
    }
}
