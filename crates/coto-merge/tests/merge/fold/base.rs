//! The made-up checkpoints and adapters.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use coto_peft::{Config, Dtype, Folder, HostTensor, Param};
use half::{bf16, f16};
use serde_json::{Value, json};
use tempfile::TempDir;

pub const OUT: usize = 8;
pub const IN: usize = 6;
pub const RANK: usize = 3;

/// Numbers between -1 and 1 that look like noise.
pub fn noise(count: usize, seed: u32) -> Vec<f32> {
    let one = |i: usize| {
        let mut x = (i as u32 ^ seed << 16)
            .wrapping_mul(747_796_405)
            .wrapping_add(2_891_336_453);
        x = ((x >> ((x >> 28) + 4)) ^ x).wrapping_mul(277_803_737);
        (x >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(one).collect()
}

pub fn tensor(dtype: Dtype, shape: &[usize], values: &[f32]) -> HostTensor {
    let bytes = |x: &f32| match dtype {
        Dtype::F64 => f64::from(*x).to_le_bytes().to_vec(),
        Dtype::F32 => x.to_le_bytes().to_vec(),
        Dtype::F16 => f16::from_f32(*x).to_le_bytes().to_vec(),
        Dtype::BF16 => bf16::from_f32(*x).to_le_bytes().to_vec(),
        _ => vec![*x as i8 as u8],
    };
    HostTensor::new(dtype, shape, values.iter().flat_map(bytes).collect()).unwrap()
}

pub fn name(layer: usize) -> String {
    format!("model.layers.{layer}.q.weight")
}

/// What is in every base: three weights, and tensors that nobody adapts.
pub fn tensors(dtype: Dtype) -> Vec<(String, HostTensor)> {
    let mut all = vec![
        (
            "model.embed.weight".to_owned(),
            tensor(dtype, &[5, IN], &noise(5 * IN, 90)),
        ),
        (
            "model.steps".to_owned(),
            tensor(Dtype::I8, &[3], &[1.0, 2.0, 3.0]),
        ),
        ("model.empty".to_owned(), tensor(dtype, &[0, 4], &[])),
    ];
    for layer in 0..3 {
        all.push((
            name(layer),
            tensor(dtype, &[OUT, IN], &noise(OUT * IN, layer as u32)),
        ));
        let norm = format!("model.layers.{layer}.norm.weight");
        all.push((norm, tensor(dtype, &[IN], &noise(IN, 50 + layer as u32))));
    }
    all
}

pub fn write_base(folder: &Path, tensors: &[(String, HostTensor)], shards: usize) {
    fs::create_dir_all(folder.join("1_Pooling")).unwrap();
    let metadata = || Some(HashMap::from([("format".to_owned(), "pt".to_owned())]));
    let mut map = serde_json::Map::new();
    for shard in 0..shards {
        let file = match shards {
            1 => "model.safetensors".to_owned(),
            _ => format!("model-{:05}-of-{shards:05}.safetensors", shard + 1),
        };
        let own = tensors.iter().skip(shard).step_by(shards);
        map.extend(
            own.clone()
                .map(|(name, _)| (name.clone(), Value::from(file.as_str()))),
        );
        let own = own.map(|(name, tensor)| (name, tensor));
        fs::write(
            folder.join(file),
            safetensors::serialize(own, metadata()).unwrap(),
        )
        .unwrap();
    }
    if shards > 1 {
        let index = json!({ "metadata": { "total_size": 1 }, "weight_map": map }).to_string();
        fs::write(folder.join("model.safetensors.index.json"), index).unwrap();
    }
    for file in [
        "config.json",
        "tokenizer.json",
        "1_Pooling/config.json",
        "pytorch_model.bin",
        "old.pt",
        ".gitattributes",
    ] {
        fs::write(folder.join(file), file).unwrap();
    }
}

pub fn adapter(config: Config, layers: &[usize]) -> Folder {
    let dora = config.use_dora;
    let [a, b] = match config.peft_type.name() {
        "LORA" => [Param::LoraA, Param::LoraB],
        _ => [Param::HiraA, Param::HiraB],
    };
    let mut folder = Folder::new(config.targets(["q"]));
    for &layer in layers {
        let (path, seed) = (format!("model.layers.{layer}.q"), 10 * layer as u32);
        folder.insert(
            &path,
            a,
            tensor(Dtype::F32, &[RANK, IN], &noise(RANK * IN, seed + 1)),
        );
        folder.insert(
            &path,
            b,
            tensor(Dtype::F32, &[OUT, RANK], &noise(OUT * RANK, seed + 2)),
        );
        if dora {
            let magnitude = noise(OUT, seed + 3);
            folder.insert(
                &path,
                Param::Magnitude,
                tensor(Dtype::F32, &[OUT], &magnitude),
            );
        }
    }
    folder
}

pub fn lora() -> Folder {
    adapter(Config::lora(RANK, 2.0), &[0, 1, 2])
}

pub fn dora() -> Folder {
    let config = Config {
        use_dora: true,
        ..Config::lora(RANK, 2.0)
    };
    adapter(config, &[1])
}

/// A base of so many shards, in a temporary folder with room for more.
pub fn base(dtype: Dtype, shards: usize) -> (TempDir, PathBuf) {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("base");
    write_base(&folder, &tensors(dtype), shards);
    (place, folder)
}

pub fn read(folder: &Path, wanted: &str) -> HostTensor {
    let files = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files = files.filter(|path| path.extension().is_some_and(|end| end == "safetensors"));
    let found = files.find_map(|path| {
        let bytes = fs::read(path).unwrap();
        let view = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let view = view.tensor(wanted).ok()?;
        Some(HostTensor::new(view.dtype(), view.shape(), view.data().to_vec()).unwrap())
    });
    found.unwrap_or_else(|| panic!("{wanted}"))
}

/// B A at a place.
pub fn product(folder: &Folder, layer: usize, i: usize, j: usize) -> f64 {
    let modules = folder.modules().unwrap();
    let tensors = &modules[&format!("model.layers.{layer}.q")];
    let factor = |at: usize| tensors.values().nth(at).unwrap().to_f32().unwrap();
    let (a, b) = (factor(0), factor(1));
    (0..RANK)
        .map(|k| f64::from(b[i * RANK + k]) * f64::from(a[k * IN + j]))
        .sum()
}

/// Puts another tensor in the place of one, in a checkpoint of one file.
pub fn replace(base: &Path, old: &str, new: Option<(&str, HostTensor)>) {
    let path = base.join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let view = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let names = view.names();
    let kept = names.into_iter().filter(|name| *name != old);
    let mut all: Vec<(String, HostTensor)> = kept
        .map(|name| (name.to_owned(), read(base, name)))
        .collect();
    all.extend(new.map(|(name, tensor)| (name.to_owned(), tensor)));
    let all = all.iter().map(|(name, tensor)| (name, tensor));
    fs::write(path, safetensors::serialize(all, None).unwrap()).unwrap();
}
