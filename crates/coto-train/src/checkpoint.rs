use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use crate::head::bytes;
use crate::{Error, atomic};

/// Everything a run needs to go on: one file, written whole or not at all.
///
/// Nothing random is in it, for every draw is a function of the seed and the step.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// What is not a tensor.
    pub state: State,
    /// Adapters, head, moments and the best adapters so far, by name.
    pub tensors: BTreeMap<String, Tensor<2>>,
}

/// Where a run stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Optimiser steps done.
    pub step: usize,
    /// The run file's fields that the result depends on.
    pub config: serde_json::Value,
    /// The training rows' fingerprint.
    pub data: u64,
    /// The length of `metrics.jsonl` at this step, in bytes.
    pub metrics_bytes: u64,
    /// Steps in which each parameter took part.
    pub times: BTreeMap<String, usize>,
    /// The lowest validation loss so far.
    pub best_loss: Option<f64>,
    /// Evaluations since then.
    pub stale: usize,
}

const STATE: &str = "coto.state";

impl Checkpoint {
    /// Writes the file.
    ///
    /// # Errors
    /// [`Error::Io`]; the file that was there stays.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        let data: Vec<(&String, [usize; 2], Vec<u8>)> = self
            .tensors
            .iter()
            .map(|(name, t)| (name, t.dims(), bytes(t.clone())))
            .collect();
        let views = data.iter().map(|(name, dims, bytes)| {
            let view = TensorView::new(Dtype::F32, dims.to_vec(), bytes);
            (name, view.expect("four bytes an element"))
        });
        let state = serde_json::to_string(&self.state).expect("a state is JSON");
        let metadata = [(STATE.to_owned(), state)].into();
        let file = safetensors::serialize(views, Some(metadata)).expect("valid views");
        atomic::write(path, &file)
    }

    /// Reads the file.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Checkpoint`], which says what is broken.
    pub fn load(path: &Path, device: &Device) -> Result<Self, Error> {
        let file = std::fs::read(path).map_err(Error::io(path))?;
        let broken = |reason: String| Error::Checkpoint {
            path: path.into(),
            reason,
        };
        let (_, header) = SafeTensors::read_metadata(&file).map_err(|e| broken(e.to_string()))?;
        let state = header.metadata().as_ref().and_then(|map| map.get(STATE));
        let state = state.ok_or_else(|| broken(format!("no `{STATE}` in its metadata")))?;
        let state = serde_json::from_str(state).map_err(|e| broken(format!("its state: {e}")))?;
        let views = SafeTensors::deserialize(&file).map_err(|e| broken(e.to_string()))?;
        let tensors = views
            .iter()
            .map(|(name, view)| {
                let &[rows, cols] = view.shape() else {
                    return Err(broken(format!("tensor `{name}` is no matrix")));
                };
                let values = view
                    .data()
                    .as_chunks::<4>()
                    .0
                    .iter()
                    .map(|&b| f32::from_le_bytes(b));
                let values = TensorData::new(values.collect::<Vec<f32>>(), [rows, cols]);
                Ok((name.to_owned(), Tensor::from_data(values, device)))
            })
            .collect::<Result<_, Error>>()?;
        Ok(Self { state, tensors })
    }

    /// The tensors under a prefix, without it.
    pub fn under(&self, prefix: &str) -> BTreeMap<String, Tensor<2>> {
        let strip = |(name, tensor): (&String, &Tensor<2>)| {
            Some((name.strip_prefix(prefix)?.to_owned(), tensor.clone()))
        };
        self.tensors.iter().filter_map(strip).collect()
    }
}
