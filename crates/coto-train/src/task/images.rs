use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use coto_data::{Dataset, Encoder, Example, batches, collate};
use coto_image::{ImageColumns, ImageSet, Processor, prompts};
use coto_models::{ImageBatch, Input, Model, TokenBatch};

use super::{Batch, Rows, Split, Splits, Task, alone};
use crate::{DataConfig, Error, ImagesConfig};

/// Images and their classes; for a model of images and texts, a prompt for each class.
#[derive(Debug, Clone)]
pub struct ImageTask {
    labels: Vec<String>,
    splits: Splits<ImageSet>,
    processor: Processor,
    prompts: Option<TokenBatch>,
    fingerprint: u64,
}

impl ImageTask {
    /// Reads a run file's data for a model whose folder has a `preprocessor_config.json`. With `labels` given they are the classes,
    /// in that order; otherwise it is those of the training images.
    ///
    /// # Errors
    /// [`Error::Image`], which names file and row; [`Error::Pixels`] where the processor makes other images than the model takes.
    pub fn load(
        config: &DataConfig,
        images: &ImagesConfig,
        labels: Option<&[String]>,
        folder: &Path,
        model: &Model,
        device: &Device,
    ) -> Result<Self, Error> {
        let path = folder.join("preprocessor_config.json");
        let processor = Processor::read(&path)?;
        let (made, taken) = (processor.shape(), model.image_shape());
        if taken != Some(made) {
            return Err(Error::Pixels { path, made, taken });
        }
        let columns = ImageColumns {
            image: images.image.clone(),
            label: config.label.clone(),
        };
        let train = |path: &Path| {
            let whole = ImageSet::load(path, &columns, labels)?;
            Ok(match config.few_shot {
                Some(shots) => whole.few_shot(shots, config.few_shot_seed),
                None => whole,
            })
        };
        let other = |path: &Path, train: &ImageSet| {
            Ok(ImageSet::load(path, &columns, Some(train.labels()))?)
        };
        let splits = Splits::load(config, train, other)?;
        let labels = splits.train.labels().to_vec();
        let prompts = match model {
            Model::Clip(clip) => {
                let room = clip.config().text.max_position_embeddings;
                Some(tokens(&labels, &images.template, folder, room, device)?)
            }
            _ => None,
        };
        Ok(Self {
            fingerprint: splits.train.fingerprint()?,
            labels,
            splits,
            processor,
            prompts,
        })
    }
}

/// The prompt of each class.
fn tokens(
    labels: &[String],
    template: &str,
    folder: &Path,
    room: usize,
    device: &Device,
) -> Result<TokenBatch, Error> {
    let encoder = Encoder::load(folder.join("tokenizer.json"), room)?;
    let texts = prompts(&[template], labels)?.concat().into_iter();
    let example = |(label, text)| Example {
        text,
        pair: None,
        label,
    };
    let data = Dataset {
        examples: texts.enumerate().map(example).collect(),
        labels: labels.to_vec(),
    };
    let all: Vec<usize> = (0..labels.len()).collect();
    let batch = collate(&encoder.encode(&data)?, &data, &all, encoder.pad_id());
    let (ids, types, mask) = (&batch.ids, &batch.types, &batch.mask);
    Ok(TokenBatch::new(ids, types, mask, batch.rows, device))
}

impl Task for ImageTask {
    fn samples(&self, split: Split) -> Option<usize> {
        self.splits.get(split).map(ImageSet::len)
    }

    fn labels(&self) -> &[String] {
        &self.labels
    }

    fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    fn epoch(&self, size: usize, seed: u64, epoch: u64) -> Vec<Rows> {
        alone(batches(
            &vec![1; self.splits.train.len()],
            size,
            seed,
            epoch,
        ))
    }

    fn in_order(&self, split: Split, size: usize) -> Vec<Rows> {
        let all: Vec<usize> = (0..self.splits.there(split).len()).collect();
        alone(all.chunks(size).map(<[usize]>::to_vec).collect())
    }

    fn batch(&self, split: Split, rows: &Rows, device: &Device) -> Result<Batch, Error> {
        let set = self.splits.there(split);
        let (mut pixels, mut targets) = (Vec::new(), Vec::new());
        for image in rows.concat() {
            pixels.extend(set.pixels(image, &self.processor)?);
            targets.push(set.label(image) as u32);
        }
        let [channels, height, width] = self.processor.shape();
        let pixels = TensorData::new(pixels, [targets.len(), channels, height, width]);
        Ok(Batch {
            input: Input::Images(Box::new(ImageBatch {
                pixels: Tensor::from_data(pixels, device),
                prompts: self.prompts.clone(),
                text: None,
            })),
            tokens: targets.len(),
            targets,
            places: None,
        })
    }
}
