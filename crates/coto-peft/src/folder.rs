use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use safetensors::{SafeTensorError, SafeTensors};
use serde_json::Value;

use crate::{Config, Error, HostTensor, Param, ParamKey, card, json, write};

pub(crate) const CONFIG: &str = "adapter_config.json";
pub(crate) const TENSORS: &str = "adapter_model.safetensors";
pub(crate) const CARD: &str = "README.md";
pub(crate) const SIDE: &str = "coto.json";
const PICKLE: &str = "adapter_model.bin";

/// An adapter folder in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Folder {
    /// `adapter_config.json`.
    pub config: Config,
    /// `adapter_model.safetensors`, by the keys in the file.
    pub tensors: BTreeMap<String, HostTensor>,
    /// `coto.json`: what this project knows of the adapter and PEFT has no field for. A text under `"summary"`
    /// becomes the first paragraph of the model card.
    pub side: Option<Value>,
}

impl Folder {
    /// A folder without tensors.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            tensors: BTreeMap::new(),
            side: None,
        }
    }

    /// Puts a module's parameter in, under PEFT's key; the tensor that was there before comes back.
    pub fn insert(&mut self, module: &str, param: Param, tensor: HostTensor) -> Option<HostTensor> {
        self.tensors.insert(
            ParamKey {
                module: module.to_owned(),
                param,
            }
            .to_string(),
            tensor,
        )
    }

    /// Reads a folder. Its tensors are not yet held against its configuration: [`modules`](Self::modules) does that.
    ///
    /// # Errors
    /// [`Error::MissingFile`], [`Error::Pickle`], [`Error::Truncated`], [`Error::Header`], and those of [`Config::load`].
    pub fn load(dir: impl AsRef<Path>) -> Result<Self, Error> {
        let dir = dir.as_ref();
        std::fs::read_dir(dir).map_err(Error::io("read", dir))?;
        let missing = |file| Error::MissingFile {
            folder: dir.to_owned(),
            file,
        };
        if !dir.join(CONFIG).exists() {
            return Err(missing(CONFIG));
        }
        let config = Config::load(dir.join(CONFIG))?;
        let file = dir.join(TENSORS);
        if !file.exists() {
            let pickle = dir.join(PICKLE);
            return Err(if pickle.exists() {
                Error::Pickle { path: pickle }
            } else {
                missing(TENSORS)
            });
        }
        let side = dir.join(SIDE);
        let side = if side.exists() {
            Some(json::read(&side)?)
        } else {
            None
        };
        Ok(Self {
            config,
            tensors: read_tensors(&file)?,
            side,
        })
    }

    /// Writes the folder, in one piece or not at all, in the place of an adapter folder that may be there.
    ///
    /// The files are written beside `dir` and flushed to the disk before anything is moved, so an error or a full
    /// disk leaves `dir` as it was. A process killed between the two renames at the end leaves the old folder whole, as `old`
    /// in a hidden folder beside `dir`.
    ///
    /// # Errors
    /// What [`modules`](Self::modules) says: a folder that could not be read back is not written. [`Error::Occupied`]
    /// when `dir` holds anything but an adapter's own four files, [`Error::Io`].
    pub fn save(&self, dir: impl AsRef<Path>) -> Result<(), Error> {
        let dir = dir.as_ref();
        self.modules()?;
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        let tensors =
            safetensors::serialize(self.tensors.iter(), Some(metadata)).map_err(|cause| {
                Error::Header {
                    path: dir.join(TENSORS),
                    cause,
                }
            })?;
        let mut files = vec![
            (CONFIG, pretty(&self.config.to_json()).into_bytes()),
            (TENSORS, tensors),
            (CARD, card::text(self).into_bytes()),
        ];
        if let Some(side) = &self.side {
            files.push((SIDE, pretty(side).into_bytes()));
        }
        write::replace(dir, &files)
    }
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

fn read_tensors(file: &Path) -> Result<BTreeMap<String, HostTensor>, Error> {
    use SafeTensorError::{HeaderTooSmall, InvalidHeaderLength, MetadataIncompleteBuffer};
    let bytes = std::fs::read(file).map_err(Error::io("read", file))?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|cause| match cause {
        HeaderTooSmall | InvalidHeaderLength | MetadataIncompleteBuffer => Error::Truncated {
            path: file.to_owned(),
            cause,
        },
        cause => Error::Header {
            path: file.to_owned(),
            cause,
        },
    })?;
    let host = |(key, view): (&str, safetensors::tensor::TensorView)| {
        let tensor = HostTensor {
            dtype: view.dtype(),
            shape: view.shape().to_vec(),
            data: view.data().to_vec(),
        };
        (key.to_owned(), tensor)
    };
    Ok(tensors.iter().map(host).collect())
}
