use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use half::{bf16, f16};
use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, SafeTensorError};
use serde::Deserialize;

use crate::Error;
use crate::config::json;
use crate::llama::GgufBase;

/// The weights of a checkpoint, each to be taken once, and read only then: from one `model.safetensors` or from the shards
/// that `model.safetensors.index.json` names.
///
/// F32, F16 and BF16 are read as they are, and this project's 8-bit form: an I8 tensor `w` [rows, cols] beside an F16
/// tensor `w.scales` [rows, cols / group], w = q · scale, the groups along each row.
#[derive(Debug)]
pub struct Weights {
    source: Source,
    taken: BTreeSet<String>,
    prefix: String,
}

#[derive(Debug)]
enum Source {
    /// One at least.
    SafeTensors(Vec<Shard>),
    Gguf(Box<GgufBase>),
}

impl From<GgufBase> for Weights {
    fn from(base: GgufBase) -> Self {
        Self {
            source: Source::Gguf(Box::new(base)),
            taken: BTreeSet::new(),
            prefix: String::new(),
        }
    }
}

#[derive(Debug)]
struct Shard {
    path: PathBuf,
    file: File,
    header: Metadata,
    /// Where the data begin.
    start: u64,
}

/// `model.safetensors.index.json`.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Shard {
    fn open(path: PathBuf) -> Result<Self, Error> {
        let broken = |source| Error::SafeTensors {
            path: path.clone(),
            source,
        };
        let mut file = File::open(&path).map_err(Error::io(&path))?;
        let size = file.metadata().map_err(Error::io(&path))?.len();
        let mut length = [0; 8];
        if size < 8 {
            return Err(broken(SafeTensorError::HeaderTooSmall));
        }
        file.read_exact(&mut length).map_err(Error::io(&path))?;
        let start = u64::from_le_bytes(length).checked_add(8);
        let start = start
            .filter(|&start| start <= size)
            .ok_or_else(|| broken(SafeTensorError::InvalidHeaderLength))?;
        let mut header = vec![0; (start - 8) as usize];
        file.read_exact(&mut header).map_err(Error::io(&path))?;
        let header: Metadata = serde_json::from_slice(&header)
            .map_err(|source| broken(SafeTensorError::InvalidHeaderDeserialization(source)))?;
        if start.checked_add(header.data_len() as u64) != Some(size) {
            return Err(broken(SafeTensorError::MetadataIncompleteBuffer));
        }
        Ok(Self {
            path,
            file,
            header,
            start,
        })
    }

    fn read(&self, info: &TensorInfo) -> Result<Vec<u8>, Error> {
        let (from, to) = info.data_offsets;
        let mut bytes = vec![0; to - from];
        let mut file = &self.file;
        file.seek(SeekFrom::Start(self.start + from as u64))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(Error::io(&self.path))?;
        Ok(bytes)
    }
}

impl Weights {
    /// Opens one file, or the checkpoint of a folder.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::SafeTensors`] for a file that is cut short or whose header lies; [`Error::Config`] and
    /// [`Error::Inconsistent`] for a broken index.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let single = path.join("model.safetensors");
        let index = path.join("model.safetensors.index.json");
        let paths = if path.is_file() {
            vec![path.to_owned()]
        } else if !single.exists() && index.exists() {
            shards(&index)?
        } else {
            vec![single]
        };
        let shards = paths.into_iter().map(Shard::open);
        Ok(Self {
            source: Source::SafeTensors(shards.collect::<Result<_, _>>()?),
            taken: BTreeSet::new(),
            prefix: String::new(),
        })
    }

    fn shards(&self) -> &[Shard] {
        match &self.source {
            Source::SafeTensors(shards) => shards,
            Source::Gguf(_) => &[],
        }
    }

    /// The first file, which errors name where no other is meant.
    fn path(&self) -> PathBuf {
        match &self.source {
            Source::SafeTensors(shards) => shards[0].path.clone(),
            Source::Gguf(base) => base.path().into(),
        }
    }

    fn names(&self) -> Vec<String> {
        match &self.source {
            Source::SafeTensors(shards) => shards
                .iter()
                .flat_map(|shard| shard.header.offset_keys())
                .collect(),
            Source::Gguf(base) => base.names(),
        }
    }

    /// Looks for every tensor under a prefix, if the file has any there (`bert.` of a model with a head).
    pub fn under(mut self, prefix: &str) -> Self {
        if self.names().iter().any(|name| name.starts_with(prefix)) {
            self.prefix = prefix.to_owned();
        }
        self
    }

    /// A vector of `len` numbers.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::Shape`], [`Error::Dtype`], [`Error::NotFinite`].
    pub fn vector(&mut self, key: &str, len: usize, device: &Device) -> Result<Tensor<1>, Error> {
        let values = self.take(key, &[len])?;
        Ok(Tensor::from_data(TensorData::new(values, [len]), device))
    }

    /// A matrix as it is stored, [rows, cols].
    ///
    /// # Errors
    /// As [`vector`](Self::vector).
    pub fn matrix(
        &mut self,
        key: &str,
        shape: [usize; 2],
        device: &Device,
    ) -> Result<Tensor<2>, Error> {
        let values = self.take(key, &shape)?;
        Ok(Tensor::from_data(TensorData::new(values, shape), device))
    }

    /// A linear's weight, stored [out, in] as PyTorch does, as [in, out].
    ///
    /// # Errors
    /// As [`vector`](Self::vector).
    pub fn linear(
        &mut self,
        key: &str,
        dims: [usize; 2],
        device: &Device,
    ) -> Result<Tensor<2>, Error> {
        let [inputs, outputs] = dims;
        let stored = self.take(key, &[outputs, inputs])?;
        let mut values = vec![0.0; stored.len()];
        for (o, row) in stored.chunks_exact(inputs.max(1)).enumerate() {
            for (i, &value) in row.iter().enumerate() {
                values[i * outputs + o] = value;
            }
        }
        Ok(Tensor::from_data(TensorData::new(values, dims), device))
    }

    /// Says whether anything is left that is neither taken nor under one of the prefixes.
    ///
    /// # Errors
    /// [`Error::ExtraTensor`], which names it.
    pub fn finish(&self, ignored: &[&str]) -> Result<(), Error> {
        let known = |name: &String| {
            let bare = name.strip_prefix(&self.prefix).unwrap_or(name);
            self.taken.contains(name) || ignored.iter().any(|prefix| bare.starts_with(prefix))
        };
        match self.names().into_iter().find(|name| !known(name)) {
            None => Ok(()),
            Some(key) => Err(Error::ExtraTensor {
                path: self.path(),
                key,
            }),
        }
    }

    fn take(&mut self, key: &str, expected: &[usize]) -> Result<Vec<f32>, Error> {
        let key = format!("{}{key}", self.prefix);
        let (values, path) = match &self.source {
            Source::SafeTensors(_) => self.stored(&key, expected)?,
            Source::Gguf(base) => (base.take(&key, expected)?, base.path().into()),
        };
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            return Err(Error::NotFinite { path, key, index });
        }
        self.taken.insert(key);
        Ok(values)
    }

    /// The values and the file that they come from.
    fn stored(&mut self, key: &str, expected: &[usize]) -> Result<(Vec<f32>, PathBuf), Error> {
        let key = key.to_owned();
        let (shard, info) = self.find(&key)?;
        if info.shape != expected {
            return Err(Error::Shape {
                path: shard.path.clone(),
                key,
                found: info.shape.clone(),
                expected: expected.to_vec(),
            });
        }
        let path = shard.path.clone();
        let bytes = shard.read(info)?;
        let values = match info.dtype {
            Dtype::F32 => numbers(&bytes, f32::from_le_bytes),
            Dtype::F16 => numbers(&bytes, |b| f16::from_le_bytes(b).to_f32()),
            Dtype::BF16 => numbers(&bytes, |b| bf16::from_le_bytes(b).to_f32()),
            Dtype::I8 => {
                let values = self.scaled(&key, &bytes, expected)?;
                self.taken.insert(format!("{key}.scales"));
                values
            }
            dtype => {
                let dtype = format!("{dtype:?}");
                return Err(Error::Dtype { path, key, dtype });
            }
        };
        Ok((values, path))
    }

    fn scaled(&self, key: &str, bytes: &[u8], shape: &[usize]) -> Result<Vec<f32>, Error> {
        let key = format!("{key}.scales");
        let (shard, scales) = self.find(&key)?;
        let per_row = scales.shape.last().copied().unwrap_or(0);
        let (rows, cols) = (shape[0], shape.iter().skip(1).product::<usize>());
        let fits = per_row > 0 && cols.is_multiple_of(per_row) && scales.shape == [rows, per_row];
        if !fits || scales.dtype != Dtype::F16 {
            return Err(Error::Shape {
                path: shard.path.clone(),
                key,
                found: scales.shape.clone(),
                expected: vec![rows, cols],
            });
        }
        let scales = numbers(&shard.read(scales)?, |b| f16::from_le_bytes(b).to_f32());
        let group = cols / per_row;
        let values = bytes.chunks_exact(group).zip(scales);
        Ok(values
            .flat_map(|(q, s)| q.iter().map(move |&q| f32::from(q as i8) * s))
            .collect())
    }

    fn find(&self, key: &str) -> Result<(&Shard, &TensorInfo), Error> {
        let found = |shard: &'_ Shard| shard.header.info(key).is_some();
        match self.shards().iter().find(|shard| found(shard)) {
            Some(shard) => Ok((shard, shard.header.info(key).expect("just found"))),
            None => Err(Error::MissingTensor {
                path: self.path(),
                key: key.to_owned(),
                nearest: self
                    .names()
                    .into_iter()
                    .min_by_key(|name| strsim::damerau_levenshtein(name, key)),
            }),
        }
    }
}

/// The files of an index, each once.
pub(crate) fn shards(index: &Path) -> Result<Vec<PathBuf>, Error> {
    let names: BTreeSet<String> = json::<Index>(index)?.weight_map.into_values().collect();
    let plain = |name: &String| {
        Path::new(name)
            .file_name()
            .is_some_and(|file| file == name.as_str())
    };
    if let Some(name) = names.iter().find(|name| !plain(name)) {
        return Err(Error::Inconsistent {
            path: index.into(),
            reason: format!("`{name}` is not the name of a file beside it"),
        });
    }
    if names.is_empty() {
        return Err(Error::Inconsistent {
            path: index.into(),
            reason: "it names no file".to_owned(),
        });
    }
    Ok(names
        .iter()
        .map(|name| index.with_file_name(name))
        .collect())
}

fn numbers<const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes
        .as_chunks::<N>()
        .0
        .iter()
        .map(|&chunk| read(chunk))
        .collect()
}
