use std::path::Path;

use burn::tensor::Device;
use coto_data::{
    LanguageDataset, LanguageOptions, LanguageTokenizer, batches, in_order, packed_batches,
};
use coto_models::{Input, Llama, TokenBatch};

use super::{Batch, Rows, Split, Splits, Task, alone};
use crate::{DataConfig, Error, LanguageConfig};

/// Texts to continue: each token that counts is told from those before it in its sample.
#[derive(Debug, Clone)]
pub struct LanguageTask {
    splits: Splits<LanguageDataset>,
    /// Tokens of a row that holds several samples; `None` where each has a row of its own.
    capacity: Option<usize>,
}

impl LanguageTask {
    /// Reads a run file's data for a decoder, whose tokenizer is in its folder or GGUF file.
    ///
    /// # Errors
    /// [`Error::Data`], which names file, row and column; [`Error::Vocabulary`] for a tokenizer of another model.
    pub fn load(
        config: &DataConfig,
        language: &LanguageConfig,
        folder: &Path,
        model: &Llama,
    ) -> Result<Self, Error> {
        if let Some(shots) = config.few_shot {
            return Err(Error::Value {
                field: "data.few_shot",
                value: shots.to_string(),
                reason: "texts to continue have no classes to draw from",
            });
        }
        let tokenizer = LanguageTokenizer::load(folder)?;
        let max_tokens = model.config().max_position_embeddings;
        let options = LanguageOptions {
            format: language.format,
            columns: language.columns.clone(),
            completions_only: language.completions_only,
            max_tokens: config.max_tokens.min(max_tokens),
        };
        let vocabulary = model.config().vocab_size;
        let load = |path: &Path| {
            let data = LanguageDataset::load(path, &options, &tokenizer)?;
            let ids = data.sequences.iter().flat_map(|sequence| &sequence.ids);
            match ids.max() {
                Some(&token) if token as usize >= vocabulary => {
                    Err(Error::Vocabulary { token, vocabulary })
                }
                _ => Ok(data),
            }
        };
        Ok(Self {
            splits: Splits::load(config, load, |path, _| load(path))?,
            capacity: language.packing.then_some(options.max_tokens),
        })
    }
}

impl Task for LanguageTask {
    fn samples(&self, split: Split) -> Option<usize> {
        self.splits.get(split).map(|data| data.sequences.len())
    }

    fn labels(&self) -> &[String] {
        &[]
    }

    fn remarks(&self) -> Vec<String> {
        let data = &self.splits.train;
        let told = [
            (data.truncated, "cut short"),
            (data.skipped, "left out: nothing to learn was left of them"),
        ];
        let told = told.into_iter().filter(|(rows, _)| *rows > 0);
        told.map(|(rows, what)| format!("{rows} training rows {what} (data.max_tokens)"))
            .collect()
    }

    fn fingerprint(&self) -> u64 {
        self.splits.train.fingerprint()
    }

    fn epoch(&self, size: usize, seed: u64, epoch: u64) -> Vec<Rows> {
        let lengths = self.splits.train.lengths();
        match self.capacity {
            Some(capacity) => packed_batches(&lengths, capacity, size, seed, epoch),
            None => alone(batches(&lengths, size, seed, epoch)),
        }
    }

    fn in_order(&self, split: Split, size: usize) -> Vec<Rows> {
        alone(in_order(&self.splits.there(split).lengths(), size))
    }

    fn batch(&self, split: Split, rows: &Rows, device: &Device) -> Result<Batch, Error> {
        let data = &self.splits.there(split).sequences;
        let samples = |row: &Vec<usize>| row.iter().map(|&i| &data[i].ids[..]).collect();
        let ids: Vec<Vec<&[u32]>> = rows.iter().map(samples).collect();
        let input = TokenBatch::packed(&ids, device);
        let [_, width] = input.ids.dims();
        let (mut targets, mut places, mut tokens) = (Vec::new(), Vec::new(), 0);
        for (row, samples) in rows.iter().enumerate() {
            let mut start = row * width;
            for &sample in samples {
                let sequence = &data[sample];
                let learnt = (1..sequence.ids.len()).filter(|&at| sequence.learn[at]);
                for at in learnt {
                    targets.push(sequence.ids[at]);
                    places.push((start + at - 1) as i32);
                }
                start += sequence.ids.len();
                tokens += sequence.ids.len();
            }
        }
        Ok(Batch {
            input: Input::Tokens(input.into()),
            targets,
            places: Some(places),
            tokens,
        })
    }
}
