use std::path::Path;

use burn::tensor::Device;
use coto_data::{Columns, Dataset, Encoder, Tokens, batches, collate, in_order};
use coto_models::{Input, TokenBatch};

use super::{Batch, Rows, Split, Splits, Task, alone};
use crate::{DataConfig, Error};

/// Texts and their classes.
#[derive(Debug, Clone)]
pub struct LabelledText {
    labels: Vec<String>,
    splits: Splits<Encoded>,
    pad_id: u32,
}

/// Texts and the tokens of each.
#[derive(Debug, Clone)]
struct Encoded {
    data: Dataset,
    tokens: Vec<Tokens>,
}

impl Encoded {
    fn lengths(&self) -> Vec<usize> {
        self.tokens.iter().map(|tokens| tokens.ids.len()).collect()
    }
}

impl LabelledText {
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
        let encoded = |data: Dataset| -> Result<Encoded, Error> {
            Ok(Encoded {
                tokens: encoder.encode(&data)?,
                data,
            })
        };
        let train = |path: &Path| {
            let whole = Dataset::load(path, &columns, None)?;
            encoded(match config.few_shot {
                Some(rows) => whole.few_shot(rows, config.few_shot_seed),
                None => whole,
            })
        };
        let other = |path: &Path, train: &Encoded| {
            encoded(Dataset::load(path, &columns, Some(&train.data.labels))?)
        };
        let splits = Splits::load(config, train, other)?;
        Ok(Self {
            labels: splits.train.data.labels.clone(),
            splits,
            pad_id: encoder.pad_id(),
        })
    }
}

impl Task for LabelledText {
    fn samples(&self, split: Split) -> Option<usize> {
        self.splits.get(split).map(|split| split.tokens.len())
    }

    fn labels(&self) -> &[String] {
        &self.labels
    }

    fn fingerprint(&self) -> u64 {
        self.splits.train.data.fingerprint()
    }

    fn epoch(&self, size: usize, seed: u64, epoch: u64) -> Vec<Rows> {
        alone(batches(&self.splits.train.lengths(), size, seed, epoch))
    }

    fn in_order(&self, split: Split, size: usize) -> Vec<Rows> {
        alone(in_order(&self.splits.there(split).lengths(), size))
    }

    fn batch(&self, split: Split, rows: &Rows, device: &Device) -> Result<Batch, Error> {
        let split = self.splits.there(split);
        let batch = collate(&split.tokens, &split.data, &rows.concat(), self.pad_id);
        let tokens = TokenBatch::new(&batch.ids, &batch.types, &batch.mask, batch.rows, device);
        Ok(Batch {
            input: Input::Tokens(tokens.into()),
            targets: batch.labels.iter().map(|&label| label as u32).collect(),
            places: None,
            tokens: batch.mask.iter().filter(|&&token| token).count(),
        })
    }
}
