use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use coto_kernels::{Quantised, Scheme, Weight};
use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::TensorInfo;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::llama::GgufBase;
use crate::shard::{Shard, shards};

/// How a base model's matrices lie in memory: those of its linears, and of its table of tokens where it is a decoder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BaseQuant {
    /// Quantised where a GGUF file has them so, else dense, f32.
    #[default]
    Stored,
    /// Dense, f32, whatever the file has.
    None,
    /// 8 bits, [`Scheme::Q8`].
    Q8,
    /// 4 bits, [`Scheme::Q4`]; a table of tokens 8.
    Q4,
    /// 4 bits, [`Scheme::Nf4`]; a table of tokens 8.
    Nf4,
}

impl std::str::FromStr for BaseQuant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "stored" => Self::Stored,
            "none" => Self::None,
            "q8" => Self::Q8,
            "q4" => Self::Q4,
            "nf4" => Self::Nf4,
            _ => return Err("there are `stored`, `none`, `q8`, `q4`, `nf4`".to_owned()),
        })
    }
}

impl BaseQuant {
    fn scheme(self) -> Option<Scheme> {
        match self {
            Self::Stored | Self::None => None,
            Self::Q8 => Some(Scheme::Q8),
            Self::Q4 => Some(Scheme::Q4),
            Self::Nf4 => Some(Scheme::Nf4),
        }
    }
}

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
    quant: BaseQuant,
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
            quant: BaseQuant::Stored,
        }
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
            quant: BaseQuant::Stored,
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

    /// Looks for every tensor under a prefix, if the file has any there (`bert.` of a model with a head); under none with an empty one.
    pub fn under(mut self, prefix: &str) -> Self {
        if self.names().iter().any(|name| name.starts_with(prefix)) {
            self.prefix = prefix.to_owned();
        }
        self
    }

    /// Whether the file has a tensor.
    pub fn contains(&self, key: &str) -> bool {
        self.names().contains(&format!("{}{key}", self.prefix))
    }

    /// A single number.
    ///
    /// # Errors
    /// As [`vector`](Self::vector).
    pub fn scalar(&mut self, key: &str) -> Result<f32, Error> {
        Ok(self.take(key, &[])?[0])
    }

    /// A tensor as it is stored.
    ///
    /// # Errors
    /// As [`vector`](Self::vector).
    pub fn tensor<const D: usize>(
        &mut self,
        key: &str,
        shape: [usize; D],
        device: &Device,
    ) -> Result<Tensor<D>, Error> {
        let values = self.take(key, &shape)?;
        Ok(Tensor::from_data(TensorData::new(values, shape), device))
    }

    /// A vector of `len` numbers.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::Shape`], [`Error::Dtype`], [`Error::NotFinite`].
    pub fn vector(&mut self, key: &str, len: usize, device: &Device) -> Result<Tensor<1>, Error> {
        self.tensor(key, [len], device)
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
        self.tensor(key, shape, device)
    }

    /// With matrices that lie in memory as is said.
    pub fn quantised(self, quant: BaseQuant) -> Self {
        Self { quant, ..self }
    }

    /// A linear's weight of dimensions [in, out], stored [out, in] as PyTorch does.
    ///
    /// # Errors
    /// As [`vector`](Self::vector).
    pub fn linear(
        &mut self,
        key: &str,
        [inputs, outputs]: [usize; 2],
        device: &Device,
    ) -> Result<Weight, Error> {
        if let Some(weight) = self.stored_groups(key, [outputs, inputs], device)? {
            return Ok(weight);
        }
        let stored = self.take(key, &[outputs, inputs])?;
        let dims = [inputs, outputs];
        if let Some(scheme) = self.quant.scheme() {
            let groups = scheme.quantise(&stored, dims);
            return Ok(Weight::Quantised(Quantised::new(groups, device)));
        }
        let mut values = vec![0.0; stored.len()];
        for (o, row) in stored.chunks_exact(inputs.max(1)).enumerate() {
            for (i, &value) in row.iter().enumerate() {
                values[i * outputs + o] = value;
            }
        }
        Ok(Weight::Dense(Tensor::from_data(
            TensorData::new(values, dims),
            device,
        )))
    }

    /// A table of vectors, stored [rows, d], as the weight of the head that it is or may be, [d, rows].
    ///
    /// # Errors
    /// As [`vector`](Self::vector).
    pub fn table(
        &mut self,
        key: &str,
        [rows, d]: [usize; 2],
        device: &Device,
    ) -> Result<Weight, Error> {
        if let Some(weight) = self.stored_groups(key, [rows, d], device)? {
            return Ok(weight);
        }
        if self.quant.scheme().is_some() {
            let groups = Scheme::Q8.quantise(&self.take(key, &[rows, d])?, [d, rows]);
            return Ok(Weight::Quantised(Quantised::new(groups, device)));
        }
        Ok(Weight::Dense(
            self.matrix(key, [rows, d], device)?.transpose(),
        ))
    }

    /// A matrix that the file has in groups and that is to stay so.
    fn stored_groups(
        &mut self,
        key: &str,
        shape: [usize; 2],
        device: &Device,
    ) -> Result<Option<Weight>, Error> {
        let key = format!("{}{key}", self.prefix);
        let Source::Gguf(base) = &self.source else {
            return Ok(None);
        };
        let groups = match self.quant {
            BaseQuant::Stored => base.groups(&key, shape)?,
            _ => None,
        };
        let Some(groups) = groups else {
            return Ok(None);
        };
        let mut numbers = groups.scales.iter().chain(&groups.offsets);
        if let Some(index) = numbers.position(|number| !number.is_finite()) {
            return Err(Error::NotFinite {
                path: base.path().into(),
                key,
                index: index % groups.scales.len() * groups.group,
            });
        }
        self.taken.insert(key);
        Ok(Some(Weight::Quantised(Quantised::new(groups, device))))
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
        let (rows, cols) = match shape {
            [] => (1, 1),
            [rows, each @ ..] => (*rows, each.iter().product::<usize>()),
        };
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

fn numbers<const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes
        .as_chunks::<N>()
        .0
        .iter()
        .map(|&chunk| read(chunk))
        .collect()
}
