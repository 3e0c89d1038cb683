//! The models and their adapters against transformers and PEFT, whose numbers the scripts in `goldens/` recorded.

mod adapters;
mod decode;
mod llama;
mod models;
mod steps;
mod vision;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use coto_adapters::{AdapterSet, Base};
use coto_coalition::Grouping;
use coto_models::{Bert, TokenBatch, parse_device};
use coto_peft::Folder;
use safetensors::{Dtype, SafeTensors};

/// The adapters of `goldens/adapters/`.
const VARIANTS: [&str; 4] = ["lora", "rslora", "dora", "hira"];

/// The device under test: that of `COTO_TEST_DEVICE`, else the CPU.
fn device() -> Device {
    let name = std::env::var("COTO_TEST_DEVICE");
    parse_device(name.as_deref().unwrap_or("cpu")).unwrap()
}

/// A recorded tensor.
struct Golden {
    shape: Vec<usize>,
    values: Vec<f32>,
}

impl Golden {
    fn matrix(&self) -> Tensor<2> {
        let shape: [usize; 2] = self.shape.as_slice().try_into().expect("a matrix");
        Tensor::from_data(TensorData::new(self.values.clone(), shape), &device())
    }

    /// The numbers of a tensor of integers.
    fn numbers(&self) -> Vec<u32> {
        self.values.iter().map(|&value| value as u32).collect()
    }

    /// The largest difference to a tensor of the same shape.
    fn distance<const D: usize>(&self, tensor: Tensor<D>) -> f32 {
        assert_eq!(tensor.dims().as_slice(), self.shape);
        let values = tensor.into_data().convert::<f32>();
        let values = values.as_slice::<f32>().unwrap();
        largest(values.iter().zip(&self.values).map(|(a, b)| a - b))
    }

    /// The largest number in it, whatever its sign.
    fn size(&self) -> f32 {
        largest(self.values.iter().copied())
    }
}

/// The largest magnitude; not a number if any is not.
fn largest(values: impl Iterator<Item = f32>) -> f32 {
    let sizes = values.map(f32::abs);
    sizes.max_by(f32::total_cmp).unwrap_or(0.0)
}

fn folder(path: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../goldens")).join(path)
}

/// The tensors of a file, by name.
fn read(file: &str) -> BTreeMap<String, Golden> {
    let bytes = std::fs::read(folder(file)).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let golden = |(name, view): (&str, safetensors::tensor::TensorView)| {
        let words = view.data().as_chunks::<4>().0.iter();
        let values = match view.dtype() {
            Dtype::F32 => words.map(|&word| f32::from_le_bytes(word)).collect(),
            Dtype::I32 => words.map(|&word| i32::from_le_bytes(word) as f32).collect(),
            dtype => panic!("{file}: {name} is {dtype:?}"),
        };
        let shape = view.shape().to_vec();
        (name.to_owned(), Golden { shape, values })
    };
    tensors.iter().map(golden).collect()
}

fn bert(name: &str) -> Bert {
    Bert::load(folder("models").join(name), &device()).unwrap()
}

fn peft(name: &str) -> Folder {
    Folder::load(folder("adapters").join(name)).unwrap()
}

fn set(model: &impl Base, name: &str) -> AdapterSet {
    AdapterSet::from_folder(model, &peft(name), &Grouping::Module).unwrap()
}

fn batch() -> TokenBatch {
    let inputs = read("inputs.safetensors");
    let mask: Vec<bool> = inputs["mask"].values.iter().map(|&v| v != 0.0).collect();
    let [ids, types] = ["ids", "types"].map(|name| inputs[name].numbers());
    TokenBatch::new(&ids, &types, &mask, inputs["ids"].shape[0], &device())
}
