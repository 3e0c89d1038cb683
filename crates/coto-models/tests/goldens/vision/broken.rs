//! Files and inputs that a model of images refuses, and an old form that it takes.

use std::path::Path;

use coto_adapters::Pass;
use coto_models::{Clip, Error, Layered, TokenBatch, Vit};
use tempfile::TempDir;

use super::{assert_close, batch, clip, expected, vit};
use crate::{device, folder};

/// A copy of a model's folder.
fn copy(name: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(
            folder("models").join(name).join(file),
            dir.path().join(file),
        )
        .unwrap();
    }
    dir
}

/// Replaces what stands in a file of a folder, everywhere. In the tensor file only by something as long.
fn replace(dir: &Path, file: &str, from: &str, to: &str) {
    let path = dir.join(file);
    let bytes = std::fs::read(&path).unwrap();
    let mut found = Vec::with_capacity(bytes.len());
    let (mut rest, mut times) = (bytes.as_slice(), 0);
    while let Some(first) = rest.first() {
        if let Some(after) = rest.strip_prefix(from.as_bytes()) {
            found.extend_from_slice(to.as_bytes());
            (rest, times) = (after, times + 1);
        } else {
            found.push(*first);
            rest = &rest[1..];
        }
    }
    assert!(times > 0, "{file} has no {from}");
    std::fs::write(&path, found).unwrap();
}

#[test]
fn a_broken_checkpoint_of_an_image_model_names_what_is_wrong() {
    let (config, tensors) = ("config.json", "model.safetensors");
    let table = [
        (
            "vit",
            config,
            r#""model_type": "vit""#,
            r#""model_type": "deit""#,
            "`deit` is not supported; there are `vit`",
        ),
        (
            "vit",
            config,
            r#"heads": 2"#,
            r#"heads": 3"#,
            "hidden_size 16 is not a multiple of num_attention_heads 3",
        ),
        (
            "vit",
            config,
            r#"heads": 2"#,
            r#"heads": 0"#,
            "is not a multiple of num_attention_heads 0",
        ),
        (
            "vit",
            config,
            r#"patch_size": 4"#,
            r#"patch_size": 3"#,
            "image_size 8 is not a multiple of patch_size 3",
        ),
        (
            "vit",
            config,
            r#"image_size": 8"#,
            r#"image_size": 12"#,
            "`vit.embeddings.position_embeddings` has shape [1, 5, 16], expected [1, 10, 16]",
        ),
        (
            "vit",
            config,
            r#"image_size": 8"#,
            r#"image_size": 17179869184"#,
            "has shape [1, 5, 16], expected",
        ),
        (
            "vit",
            config,
            r#"num_channels": 3"#,
            r#"num_channels": 1"#,
            "has shape [16, 3, 4, 4], expected [16, 1, 4, 4]",
        ),
        (
            "vit",
            config,
            r#""gelu""#,
            r#""relu""#,
            "unknown variant `relu`, expected `gelu` or `quick_gelu` at line",
        ),
        (
            "vit",
            config,
            r#""2": "bag""#,
            r#""3": "bag""#,
            "id2label has no class 2, but a class 3",
        ),
        (
            "vit",
            config,
            ",\n    \"2\": \"bag\"",
            "",
            "`classifier.weight` has shape [3, 16], expected [2, 16]",
        ),
        (
            "vit",
            config,
            r#"qkv_bias": true"#,
            r#"qkv_bias": false"#,
            "key.bias` has no place in this model",
        ),
        (
            "vit_bare",
            config,
            r#"qkv_bias": false"#,
            r#"qkv_bias": true"#,
            "query.bias` is missing",
        ),
        (
            "vit",
            config,
            r#"layers": 2"#,
            r#"layers": 3"#,
            "`vit.encoder.layer.2.attention.attention.query.weight` is missing",
        ),
        (
            "vit",
            tensors,
            "cls_token",
            "cls_taken",
            "`vit.embeddings.cls_token` is missing; the nearest is `vit.embeddings.cls_taken`",
        ),
        (
            "vit",
            tensors,
            "classifier.bias",
            "classifier.bios",
            "`classifier.bias` is missing",
        ),
        (
            "vit_bare",
            tensors,
            "pooler.dense.bias",
            "sooler.dense.bias",
            "`sooler.dense.bias` has no place",
        ),
        (
            "clip",
            config,
            r#""model_type": "clip""#,
            r#""model_type": "siglip""#,
            "`siglip` is not supported; there are `clip`",
        ),
        (
            "clip",
            config,
            r#"heads": 2"#,
            r#"heads": 5"#,
            "text_config.hidden_size 16 is not a multiple of num_attention_heads 5",
        ),
        (
            "clip",
            config,
            r#"heads": 3"#,
            r#"heads": 7"#,
            "vision_config.hidden_size 24 is not a multiple of num_attention_heads 7",
        ),
        (
            "clip",
            config,
            r#"patch_size": 4"#,
            r#"patch_size": 0"#,
            "vision_config.image_size 8 is not a multiple of patch_size 0",
        ),
        (
            "clip",
            config,
            r#""quick_gelu""#,
            r#""gelu_new""#,
            "unknown variant `gelu_new`, expected `gelu` or `quick_gelu`",
        ),
        (
            "clip",
            config,
            r#""projection_dim": 12"#,
            r#""projection_dim": 13"#,
            "`text_projection.weight` has shape [12, 16], expected [13, 16]",
        ),
        (
            "clip",
            config,
            r#"vocab_size": 50"#,
            r#"vocab_size": 60"#,
            "has shape [50, 16], expected [60, 16]",
        ),
        (
            "clip",
            config,
            r#""hidden_size": 24"#,
            r#""hidden_size": "many""#,
            "invalid type: string",
        ),
        (
            "clip",
            tensors,
            "logit_scale",
            "logit_scold",
            "`logit_scale` is missing; the nearest is `logit_scold`",
        ),
        (
            "clip",
            tensors,
            "pre_layrnorm.bias",
            "pre_layernrm.bias",
            "`vision_model.pre_layrnorm.bias` is missing",
        ),
    ];
    for (name, file, from, to, message) in table {
        let dir = copy(name);
        replace(dir.path(), file, from, to);
        let error: Error = match name {
            "clip" => Clip::load(dir.path(), &device()).unwrap_err(),
            _ => Vit::load(dir.path(), &device()).unwrap_err(),
        };
        let error = error.to_string();
        assert!(error.contains(message), "{name}, {to}: {error}");
    }
}

#[test]
fn towers_that_an_old_configuration_has_twice_are_the_second_ones() {
    let dir = copy("clip");
    let hidden = r#""hidden_size": 16, "max_position_embeddings": 9"#;
    let text = format!(r#""text_config": {{ {hidden} }}, "text_config_dict": {{"#);
    replace(dir.path(), "config.json", r#""text_config": {"#, &text);
    replace(
        dir.path(),
        "config.json",
        r#""vision_config""#,
        r#""vision_config_dict""#,
    );
    let (model, file) = (Clip::load(dir.path(), &device()).unwrap(), expected("clip"));
    assert_close(
        "logits",
        &file["logits"],
        model.forward(&batch(&file), &Pass::base()),
    );
}

#[test]
#[should_panic(expected = "images of 3 × 8 × 8; the model takes 1 × 6 × 6")]
fn images_of_another_size_are_refused() {
    vit("vit_bare").embed(&batch(&expected("vit")));
}

#[test]
#[should_panic(expected = "images of 1 × 8 × 8; the model takes 3 × 8 × 8")]
fn images_of_other_channels_are_refused() {
    clip("clip").embed(&batch(&expected("clip_gelu")));
}

#[test]
#[should_panic(expected = "prompts of 11 tokens; the model has 10 positions")]
fn prompts_beyond_the_positions_are_refused() {
    let long = TokenBatch::new(&[3; 11], &[0; 11], &[true; 11], 1, &device());
    clip("clip").text_features(&long, &Pass::base());
}
