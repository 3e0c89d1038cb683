use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use half::{bf16, f16};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::Error;

/// A tensor file in memory.
///
/// F32, F16 and BF16 are read as they are, and this project's 8-bit form: an I8 tensor `w` [rows, cols] beside an F16
/// tensor `w.scales` [rows, cols / group], w = q · scale, the groups along each row.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Checkpoint {
    /// Reads a `.safetensors` file.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        let bytes = std::fs::read(path).map_err(|source| Error::Io {
            path: path.into(),
            source,
        })?;
        Ok(Self {
            path: path.into(),
            bytes,
        })
    }

    /// Its tensors.
    ///
    /// # Errors
    /// [`Error::SafeTensors`] for a file that is cut short or whose header lies.
    pub fn weights(&self) -> Result<Weights<'_>, Error> {
        let file = SafeTensors::deserialize(&self.bytes).map_err(|source| Error::SafeTensors {
            path: self.path.clone(),
            source,
        })?;
        Ok(Weights {
            path: &self.path,
            file,
            taken: BTreeSet::new(),
            prefix: String::new(),
        })
    }
}

/// The tensors of a checkpoint, each to be taken once.
pub struct Weights<'a> {
    path: &'a Path,
    file: SafeTensors<'a>,
    taken: BTreeSet<String>,
    prefix: String,
}

impl<'a> Weights<'a> {
    /// Looks for every tensor under a prefix, if the file has any there (`bert.` of a model with a head).
    pub fn under(mut self, prefix: &str) -> Self {
        if self
            .file
            .names()
            .iter()
            .any(|name| name.starts_with(prefix))
        {
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
        let known = |name: &str| {
            let bare = name.strip_prefix(&self.prefix).unwrap_or(name);
            self.taken.contains(name) || ignored.iter().any(|prefix| bare.starts_with(prefix))
        };
        match self.file.names().into_iter().find(|name| !known(name)) {
            None => Ok(()),
            Some(key) => Err(Error::ExtraTensor {
                path: self.path.into(),
                key: key.to_owned(),
            }),
        }
    }

    fn take(&mut self, key: &str, expected: &[usize]) -> Result<Vec<f32>, Error> {
        let key = format!("{}{key}", self.prefix);
        let view = self.view(&key)?;
        if view.shape() != expected {
            return Err(Error::Shape {
                path: self.path.into(),
                key,
                found: view.shape().to_vec(),
                expected: expected.to_vec(),
            });
        }
        let values = match view.dtype() {
            Dtype::F32 => numbers(view.data(), f32::from_le_bytes),
            Dtype::F16 => numbers(view.data(), |b| f16::from_le_bytes(b).to_f32()),
            Dtype::BF16 => numbers(view.data(), |b| bf16::from_le_bytes(b).to_f32()),
            Dtype::I8 => self.quantised(&key, &view)?,
            dtype => {
                let (path, dtype) = (self.path.into(), format!("{dtype:?}"));
                return Err(Error::Dtype { path, key, dtype });
            }
        };
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            return Err(Error::NotFinite {
                path: self.path.into(),
                key,
                index,
            });
        }
        self.taken.insert(key);
        Ok(values)
    }

    fn quantised(&mut self, key: &str, view: &TensorView) -> Result<Vec<f32>, Error> {
        let key = format!("{key}.scales");
        let scales = self.view(&key)?;
        let per_row = scales.shape().last().copied().unwrap_or(0);
        let (rows, cols) = (
            view.shape()[0],
            view.shape().iter().skip(1).product::<usize>(),
        );
        let fits = per_row > 0 && cols.is_multiple_of(per_row) && scales.shape() == [rows, per_row];
        if !fits || scales.dtype() != Dtype::F16 {
            return Err(Error::Shape {
                path: self.path.into(),
                key,
                found: scales.shape().to_vec(),
                expected: vec![rows, cols],
            });
        }
        let scales = numbers(scales.data(), |b| f16::from_le_bytes(b).to_f32());
        let group = cols / per_row;
        self.taken.insert(key);
        let values = view.data().chunks_exact(group).zip(scales);
        Ok(values
            .flat_map(|(q, s)| q.iter().map(move |&q| f32::from(q as i8) * s))
            .collect())
    }

    fn view(&self, key: &str) -> Result<TensorView<'a>, Error> {
        self.file.tensor(key).map_err(|_| Error::MissingTensor {
            path: self.path.into(),
            key: key.to_owned(),
            nearest: self
                .file
                .names()
                .into_iter()
                .min_by_key(|name| strsim::damerau_levenshtein(name, key))
                .map(str::to_owned),
        })
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
