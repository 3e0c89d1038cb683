//! Our side of `cargo xtask bench --merging`: merges of LoRA folders, timed as they are asked for.
//!
//! `merging_bench make DIR OUTxIN` makes eight folders of random adapters of rank 16 for one module of that shape, `merging_bench make
//! DIR llama` for the attention of Llama 3 8B. `merging_bench DIR` then answers as `benches/merging.py` does, where the same
//! questions are described: `cat`, `svd RANK`, `knots`, `core`.

use std::error::Error;
use std::io::{Write, stdin, stdout};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use coto_coalition::stream;
use coto_merge::peft_compat::{CombinationType, PeftOptions, add_weighted_adapter};
use coto_merge::{InSpace, Plan, Source, Space, Sparse, TiesFlavour, merge};
use coto_peft::{Config, Folder, HostTensor, Param};
use rand::RngExt;

const ADAPTERS: usize = 8;
const RANK: usize = 16;
const WEIGHT: f64 = 0.3;
const DENSITY: f64 = 0.2;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["make", dir, shape] => make(dir.as_ref(), shape),
        [dir] => answer_all(dir.as_ref()),
        _ => Err("arguments: make DIR OUTxIN, make DIR llama, or DIR".into()),
    }
}

fn make(dir: &Path, shape: &str) -> Result<(), Box<dyn Error>> {
    let module = |layer, name, out, input| {
        (
            format!("model.layers.{layer}.self_attn.{name}"),
            [out, input],
        )
    };
    let modules: Vec<(String, [usize; 2])> = match shape.split_once('x') {
        Some((out, input)) => vec![module(0, "q_proj", out.parse()?, input.parse()?)],
        None if shape == "llama" => (0..32)
            .flat_map(|layer| {
                [
                    ("q_proj", 4096),
                    ("k_proj", 1024),
                    ("v_proj", 1024),
                    ("o_proj", 4096),
                ]
                .map(|(name, out)| module(layer, name, out, 4096))
            })
            .collect(),
        None => return Err(format!("no shape: {shape}").into()),
    };
    for adapter in 0..ADAPTERS {
        let config = Config::lora(RANK, 2.0 * RANK as f64);
        let mut folder = Folder::new(config.targets(["q_proj", "k_proj", "v_proj", "o_proj"]));
        for (path, [out, input]) in &modules {
            let mut draws = stream(adapter as u64, path);
            let mut put = |param, shape: [usize; 2]| -> Result<(), Box<dyn Error>> {
                let count = shape[0] * shape[1];
                let values: Vec<f32> = (0..count).map(|_| draws.random_range(-0.1..0.1)).collect();
                folder.insert(path, param, HostTensor::from_f32(shape, &values)?);
                Ok(())
            };
            put(Param::LoraA, [RANK, *input])?;
            put(Param::LoraB, [*out, RANK])?;
        }
        folder.save(dir.join(adapter.to_string()))?;
    }
    Ok(())
}

fn answer_all(dir: &Path) -> Result<(), Box<dyn Error>> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(dir)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    paths.retain(|path| path.is_dir());
    paths.sort();
    let folders: Vec<Folder> = paths.iter().map(Folder::load).collect::<Result<_, _>>()?;
    for question in stdin().lines() {
        let answer = answer(&folders, &question?)?;
        println!("{} {} {}", answer[0], answer[1], answer[2]);
        stdout().flush()?;
    }
    Ok(())
}

/// Milliseconds, MiB and the norm.
fn answer(folders: &[Folder], question: &str) -> Result<[f64; 3], Box<dyn Error>> {
    // The most memory that was held is the present one from here on.
    std::fs::write("/proc/self/clear_refs", "5")?;
    let (before, start) = (memory("VmRSS"), Instant::now());
    let merged = match question.split_once(' ') {
        Some(("svd", rank)) => as_peft(folders, CombinationType::Svd, Some(rank.parse()?))?,
        None if question == "cat" => as_peft(folders, CombinationType::Cat, None)?,
        None if question == "knots" => in_space(folders, Space::Knots)?,
        None if question == "core" => in_space(folders, Space::Core)?,
        _ => return Err(format!("no question: {question}").into()),
    };
    let (ms, mib) = (
        1e3 * start.elapsed().as_secs_f64(),
        memory("VmHWM") - before,
    );
    let updates = coto_lowrank::updates(&merged)?;
    let square: f64 = updates.values().map(|update| update.norm().powi(2)).sum();
    Ok([ms, mib, square.sqrt()])
}

fn as_peft(
    folders: &[Folder],
    combination_type: CombinationType,
    svd_rank: Option<usize>,
) -> Result<Folder, coto_merge::Error> {
    let folders: Vec<&Folder> = folders.iter().collect();
    let options = PeftOptions {
        combination_type,
        svd_rank,
        ..PeftOptions::default()
    };
    add_weighted_adapter(&folders, &vec![WEIGHT; folders.len()], &options)
}

/// TIES with the signs of unweighted sums.
fn in_space(folders: &[Folder], space: Space) -> Result<Folder, coto_merge::Error> {
    let sources: Vec<Source> = folders
        .iter()
        .enumerate()
        .map(|(k, folder)| Source {
            name: k.to_string(),
            folder,
            weight: WEIGHT,
            statistics: None,
        })
        .collect();
    let rule = Arc::new(Sparse::ties_of(TiesFlavour::Peft, DENSITY));
    let plan = Plan::new(Arc::new(InSpace { space, rule }));
    Ok(merge(&sources, &plan)?.folder)
}

/// A field of the process's status, in MiB.
fn memory(field: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|line| line.trim_matches([':', ' ', '\t']).strip_suffix(" kB"));
    kib.and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}
