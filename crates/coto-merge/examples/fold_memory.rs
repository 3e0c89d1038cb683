//! Folds a rank-16 adapter into a made-up bf16 checkpoint of 2 GB, in three shards, and prints the peak memory and the time.
//!
//! `cargo run --release -p coto-merge --example fold_memory [FOLDER FOR TEMPORARY FILES]`; the peak is Linux's `VmHWM`. Fails where
//! the peak is above three times the largest tensor and 300 MB.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use coto_merge::fold::{check, fold};
use coto_peft::{Config, Folder, HostTensor, Param};
use serde_json::{Map, Value, json};

const HIDDEN: usize = 4096;
const INNER: usize = 14336;
const LAYERS: usize = 5;
const SHARDS: usize = 3;
const RANK: usize = 16;
const LARGEST: f64 = (HIDDEN * INNER * 2) as f64 / 1e6;

/// The modules of a layer, with their [out, in].
const MODULES: [(&str, [usize; 2]); 6] = [
    ("self_attn.q_proj", [HIDDEN, HIDDEN]),
    ("self_attn.k_proj", [HIDDEN / 4, HIDDEN]),
    ("self_attn.o_proj", [HIDDEN, HIDDEN]),
    ("mlp.gate_proj", [INNER, HIDDEN]),
    ("mlp.up_proj", [INNER, HIDDEN]),
    ("mlp.down_proj", [HIDDEN, INNER]),
];

type Anything = Box<dyn std::error::Error>;

fn main() -> Result<(), Anything> {
    let folder = match std::env::args().nth(1) {
        Some(place) => tempfile::tempdir_in(place)?,
        None => tempfile::tempdir()?,
    };
    let (base, out) = (folder.path().join("base"), folder.path().join("out"));
    let size = write_base(&base)?;
    let adapter = adapter()?;
    println!(
        "{:.2} GB of bf16, largest tensor {LARGEST:.0} MB; peak so far {:.0} MB",
        size / 1e9,
        peak()?
    );
    let report = fold(&base, &[(&adapter, 1.0)], &out)?;
    let folded = peak()?;
    println!(
        "folded {} of {} tensors in {:.1} s ({:.0} MB/s); peak {folded:.0} MB; rounding takes up to {:.1e} of an update",
        report.folded.len(),
        report.tensors,
        report.seconds,
        size / 1e6 / report.seconds,
        report.lost
    );
    let start = Instant::now();
    let checked = check(&base, &out, &[(&adapter, 1.0)])?;
    println!(
        "checked in {:.1} s; {} numbers differ; peak {:.0} MB",
        start.elapsed().as_secs_f64(),
        checked.other_bits,
        peak()?
    );
    match folded <= 3.0 * LARGEST + 300.0 {
        true => Ok(()),
        false => Err(format!("{folded:.0} MB is above {:.0} MB", 3.0 * LARGEST + 300.0).into()),
    }
}

/// The peak of resident memory, in MB.
fn peak() -> Result<f64, Anything> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    let kilobytes: f64 = number.ok_or("no VmHWM")?.parse()?;
    Ok(kilobytes * 1024.0 / 1e6)
}

fn write_base(folder: &Path) -> Result<f64, Anything> {
    std::fs::create_dir(folder)?;
    let (mut map, mut size) = (Map::new(), 0);
    for shard in 0..SHARDS {
        let name = format!("model-{:05}-of-{SHARDS:05}.safetensors", shard + 1);
        let (mut header, mut end) = (Map::new(), 0);
        for layer in (0..LAYERS).filter(|layer| layer % SHARDS == shard) {
            for (module, shape) in MODULES {
                let key = format!("model.layers.{layer}.{module}.weight");
                let start = end;
                end += shape[0] * shape[1] * 2;
                header.insert(
                    key.clone(),
                    json!({ "dtype": "BF16", "shape": shape, "data_offsets": [start, end] }),
                );
                map.insert(key, Value::from(name.as_str()));
            }
        }
        let header = Value::Object(header).to_string();
        let mut file = BufWriter::new(File::create(folder.join(&name))?);
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(header.as_bytes())?;
        // Numbers between 2^-7 and 2^-5, of both signs.
        let mut state = shard as u32 + 1;
        for _ in 0..end / 2 {
            state = state.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
            let sign = (state >> 23 & 1) as u16;
            let bits = 0x3c00 | (state >> 24) as u16 | (sign << 15);
            file.write_all(&bits.to_le_bytes())?;
        }
        file.flush()?;
        size += end;
    }
    let index = json!({ "metadata": { "total_size": size }, "weight_map": map });
    std::fs::write(
        folder.join("model.safetensors.index.json"),
        index.to_string(),
    )?;
    std::fs::write(folder.join("config.json"), "{}")?;
    Ok(size as f64)
}

fn adapter() -> Result<Folder, Anything> {
    let names = MODULES.map(|(module, _)| module.rsplit('.').next().unwrap_or(module));
    let mut folder = Folder::new(Config::lora(RANK, 2.0 * RANK as f64).targets(names));
    for layer in 0..LAYERS {
        for (module, [out, inputs]) in MODULES {
            let factor = |rows: usize, cols: usize, size: f32| {
                let values: Vec<f32> = (0..rows * cols)
                    .map(|i| size * ((i * 7919 % 2003) as f32 / 1001.5 - 1.0))
                    .collect();
                HostTensor::from_f32([rows, cols], &values)
            };
            let path = format!("model.layers.{layer}.{module}");
            folder.insert(&path, Param::LoraA, factor(RANK, inputs, 0.02)?);
            folder.insert(&path, Param::LoraB, factor(out, RANK, 0.01)?);
        }
    }
    Ok(folder)
}
