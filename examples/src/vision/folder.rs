//! The folder in which Hugging Face's libraries, and ours, expect a vision transformer.

use std::path::Path;

use anyhow::{Context, Result};
use coto_lora::train::write_atomic;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

use super::network::{EPSILON, Network, Sizes};

/// Writes `preprocessor_config.json`: grey images of the network's size, values from −1 to 1.
pub fn write_processor(folder: &Path, sizes: &Sizes) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let settings = json!({
        "image_processor_type": "ViTImageProcessor",
        "do_resize": true,
        "size": { "height": sizes.image, "width": sizes.image },
        "resample": 2,
        "do_rescale": true,
        "rescale_factor": 1.0 / 255.0,
        "do_normalize": true,
        "image_mean": [0.5],
        "image_std": [0.5],
    });
    write(&folder.join("preprocessor_config.json"), &settings)
}

/// Writes `model.safetensors` and `config.json`.
pub fn write_model(
    folder: &Path,
    network: &Network,
    sizes: &Sizes,
    labels: &[String],
) -> Result<()> {
    let tensors = network.tensors();
    let views = tensors
        .iter()
        .map(|(name, data)| {
            let shape = data.shape().to_vec();
            Ok((name, TensorView::new(Dtype::F32, shape, data.as_bytes())?))
        })
        .collect::<Result<Vec<_>>>()?;
    // Python's libraries ask for this entry.
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    let file = safetensors::serialize(views, Some(metadata))?;
    write_atomic(&folder.join("model.safetensors"), &file)?;
    let by_number = labels.iter().enumerate();
    let id2label: Value = by_number
        .clone()
        .map(|(i, label)| (i.to_string(), json!(label)))
        .collect();
    let label2id: Value = by_number
        .map(|(i, label)| (label.clone(), json!(i)))
        .collect();
    let config = json!({
        "architectures": ["ViTForImageClassification"],
        "model_type": "vit",
        "hidden_size": sizes.d,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "intermediate_size": sizes.ff,
        "hidden_act": "gelu",
        "layer_norm_eps": EPSILON,
        "image_size": sizes.image,
        "patch_size": sizes.patch,
        "num_channels": 1,
        "qkv_bias": true,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "id2label": id2label,
        "label2id": label2id,
    });
    // Last, so that a folder with it is a whole one.
    write(&folder.join("config.json"), &config)
}

fn write(path: &Path, value: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(value)? + "\n";
    Ok(write_atomic(path, text.as_bytes())?)
}
