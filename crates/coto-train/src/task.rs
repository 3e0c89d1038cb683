use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::Device;
use coto_models::{Input, Model, locate};
use serde::Serialize;

use crate::{DataConfig, Error, HeadKind, RunConfig};

mod images;
mod labelled;
mod language;

pub use images::ImageTask;
pub use labelled::LabelledText;
pub use language::LanguageTask;

/// A part of a task's samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// To learn from.
    Train,
    /// To choose by.
    Validation,
    /// To report on.
    Test,
}

impl Split {
    /// Its name in run files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }
}

/// One of something for each split that there is.
#[derive(Debug, Clone)]
pub struct Splits<T> {
    /// That of the training samples.
    pub train: T,
    /// That of the samples to choose by.
    pub validation: Option<T>,
    /// That of the samples to report on.
    pub test: Option<T>,
}

impl<T> Splits<T> {
    /// That of a split.
    pub fn get(&self, split: Split) -> Option<&T> {
        match split {
            Split::Train => Some(&self.train),
            Split::Validation => self.validation.as_ref(),
            Split::Test => self.test.as_ref(),
        }
    }

    /// That of a split which is there, as `Task`'s methods demand.
    fn there(&self, split: Split) -> &T {
        self.get(split).expect("a split that the task has")
    }

    /// Reads the files that a run file names; what is not there is looked for among the embedded tasks. The first of the two
    /// makes the training split, the other one the rest, knowing the first.
    fn load(
        config: &DataConfig,
        train: impl FnOnce(&Path) -> Result<T, Error>,
        other: impl Fn(&Path, &T) -> Result<T, Error>,
    ) -> Result<Self, Error> {
        let train = train(&found(&config.train))?;
        let other = |path: &Option<PathBuf>| {
            let path = path.as_deref().map(found);
            path.map(|path| other(&path, &train)).transpose()
        };
        Ok(Self {
            validation: other(&config.validation)?,
            test: other(&config.test)?,
            train,
        })
    }
}

fn found(path: &Path) -> PathBuf {
    if path.exists() {
        path.to_owned()
    } else {
        coto_models::find_asset(path).unwrap_or_else(|| path.to_owned())
    }
}

/// The samples of each row of a batch: mostly one, several where short ones share a row.
pub type Rows = Vec<Vec<usize>>;

/// Some samples on their way through a model.
#[derive(Debug, Clone)]
pub struct Batch {
    /// What the model is given.
    pub input: Input,
    /// What is to be told: the class of each row, or the tokens to come.
    pub targets: Vec<u32>,
    /// The rows of the last layer's states in which each target is told; none where every sample has one target.
    pub places: Option<Vec<i32>>,
    /// Tokens seen, padding not counted; of images, the images.
    pub tokens: usize,
}

/// What a run learns: samples, and how they become batches. Everything is a pure function, so that a resumed run repeats it.
///
/// Methods that name a split are called for those that [`samples`](Self::samples) has.
pub trait Task: Debug + Send + Sync {
    /// The number of samples of a split, if the task has it.
    fn samples(&self, split: Split) -> Option<usize>;

    /// The classes by number; none where tokens are told.
    fn labels(&self) -> &[String];

    /// What a user should know of how the samples were read, a sentence each.
    fn remarks(&self) -> Vec<String> {
        Vec::new()
    }

    /// A hash of the training samples, by which a resumed run tells that they have changed.
    fn fingerprint(&self) -> u64;

    /// The micro-batches of one epoch of training, of at most `size` rows each.
    fn epoch(&self, size: usize, seed: u64, epoch: u64) -> Vec<Rows>;

    /// All samples of a split, in batches of at most `size` rows.
    fn in_order(&self, split: Split, size: usize) -> Vec<Rows>;

    /// The batch of some rows of a split.
    ///
    /// # Errors
    /// For a sample that cannot be read.
    fn batch(&self, split: Split, rows: &Rows, device: &Device) -> Result<Batch, Error>;
}

/// Each sample in a row of its own.
fn alone(batches: Vec<Vec<usize>>) -> Vec<Rows> {
    let rows = |batch: Vec<usize>| batch.into_iter().map(|sample| vec![sample]).collect();
    batches.into_iter().map(rows).collect()
}

/// The task of a run file, for its model.
pub(crate) fn open(
    config: &RunConfig,
    model: &Model,
    device: &Device,
) -> Result<Arc<dyn Task>, Error> {
    let folder = locate(config.model.name.as_ref())?;
    let data = &config.data;
    let kind = |data| Error::Kind {
        data,
        family: model.family(),
    };
    Ok(match (&config.language, &config.images, model) {
        (Some(_), Some(_), _) => {
            return Err(Error::Value {
                field: "images",
                value: "set".to_owned(),
                reason: "there is `language` too, and data are one or the other",
            });
        }
        (Some(language), None, Model::Llama(decoder)) => {
            Arc::new(LanguageTask::load(data, language, &folder, decoder)?)
        }
        (Some(_), None, _) => return Err(kind("texts to continue (`language`)")),
        (None, Some(images), Model::Vit(_) | Model::Clip(_)) => {
            let labels = match (model, config.head.kind) {
                (Model::Vit(vit), HeadKind::Checkpoint) => vit.classifier(),
                _ => None,
            };
            let labels = labels.map(|classifier| classifier.labels.as_slice());
            let task = ImageTask::load(data, images, labels, &folder, model, device)?;
            Arc::new(task)
        }
        (None, Some(_), _) => return Err(kind("images (`images`)")),
        (None, None, Model::Bert(_) | Model::Llama(_)) => {
            let max_tokens = model.max_tokens().unwrap_or(usize::MAX);
            let tokenizer = match folder.is_file() {
                true => folder,
                false => folder.join("tokenizer.json"),
            };
            Arc::new(LabelledText::load(data, &tokenizer, max_tokens)?)
        }
        (None, None, _) => return Err(kind("labelled texts (neither `language` nor `images`)")),
    })
}
