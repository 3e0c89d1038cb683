use std::path::{Path, PathBuf};

use burn::tensor::Device;
use coto_data::{Batch, Columns, Dataset, Encoder, Tokens, collate};
use coto_models::TokenBatch;

use crate::{DataConfig, Error};

/// Rows and their tokens.
#[derive(Debug, Clone)]
pub struct Split {
    /// The rows.
    pub data: Dataset,
    /// The tokens of each.
    pub tokens: Vec<Tokens>,
}

impl Split {
    /// The number of tokens of each row.
    pub fn lengths(&self) -> Vec<usize> {
        self.tokens.iter().map(|tokens| tokens.ids.len()).collect()
    }

    /// True classes of the rows.
    pub fn truth(&self) -> Vec<usize> {
        self.data
            .examples
            .iter()
            .map(|example| example.label)
            .collect()
    }
}

/// A classification task: labels and splits.
#[derive(Debug, Clone)]
pub struct Task {
    /// The classes, by number.
    pub labels: Vec<String>,
    /// Training rows.
    pub train: Split,
    /// Rows to choose by.
    pub validation: Option<Split>,
    /// Rows to report on.
    pub test: Option<Split>,
    pad_id: u32,
}

impl Task {
    /// Reads a run file's data; files that are not there are looked for among the embedded tasks.
    ///
    /// # Errors
    /// [`Error::Data`], which names file, row and column.
    pub fn load(config: &DataConfig, tokenizer: &Path, max_tokens: usize) -> Result<Self, Error> {
        let columns = Columns {
            text: config.text.clone(),
            pair: config.pair.clone(),
            label: config.label.clone(),
        };
        let encoder = Encoder::load(tokenizer, config.max_tokens.min(max_tokens))?;
        let whole = Dataset::load(found(&config.train), &columns, None)?;
        let labels = whole.labels.clone();
        let train = match config.few_shot {
            Some(rows) => whole.few_shot(rows, config.few_shot_seed),
            None => whole,
        };
        let split = |data: Dataset| -> Result<Split, Error> {
            Ok(Split {
                tokens: encoder.encode(&data)?,
                data,
            })
        };
        let other = |path: &Option<PathBuf>| -> Result<Option<Split>, Error> {
            let load = |path: &PathBuf| Dataset::load(found(path), &columns, Some(&labels));
            path.as_ref().map(load).transpose()?.map(&split).transpose()
        };
        Ok(Self {
            train: split(train)?,
            validation: other(&config.validation)?,
            test: other(&config.test)?,
            labels,
            pad_id: encoder.pad_id(),
        })
    }

    /// Rows of a split as one batch: for the host, and for the model.
    pub fn batch(&self, split: &Split, rows: &[usize], device: &Device) -> (Batch, TokenBatch) {
        let batch = collate(&split.tokens, &split.data, rows, self.pad_id);
        let tokens = TokenBatch::new(&batch.ids, &batch.types, &batch.mask, batch.rows, device);
        (batch, tokens)
    }
}

fn found(path: &Path) -> PathBuf {
    if path.exists() {
        path.to_owned()
    } else {
        coto_models::find_asset(path).unwrap_or_else(|| path.to_owned())
    }
}
