//! `bench`: training steps, ours beside PyTorch + PEFT and burn's own LoRA, timed in turns in one session.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};

use crate::parity::{DECODER, ENCODER, Python, Script};

const PEER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../benches/peer.py");
/// The variants of an encoder's adapters; burn's own LoRA stands beside PyTorch's.
const ENCODERS: [&str; 4] = ["lora", "dora", "hira", "burn"];
/// LoRA on a decoder; all stand beside PyTorch's on the dense one.
const DECODERS: [&str; 4] = [
    "smollm2-dense",
    "smollm2-dense-checkpointed",
    "smollm2-stored",
    "smollm2-stored-checkpointed",
];

/// Arguments of the verb.
#[derive(clap::Args)]
pub struct Args {
    /// A Python environment with torch, transformers and peft, made here if there is none; else one is made and thrown away.
    #[arg(long, value_name = "DIR")]
    venv: Option<PathBuf>,
    /// The encoder's folder; else it is downloaded.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// The decoder's GGUF file; else it is downloaded.
    #[arg(long, value_name = "FILE")]
    gguf: Option<PathBuf>,
    /// Turns of both sides.
    #[arg(long, default_value_t = 3)]
    turns: usize,
    /// Rounds in a turn.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Rows and width of the encoder's batch, one or more.
    #[arg(long, value_delimiter = ',', default_value = "32x64,8x32,8x256")]
    shapes: Vec<String>,
    /// Rows and width of the decoder's batch, one or more.
    #[arg(long, value_delimiter = ',', default_value = "4x128")]
    decoder_shapes: Vec<String>,
    /// What is timed, one or more; else all.
    #[arg(long, value_delimiter = ',', value_parser = ENCODERS.into_iter().chain(DECODERS).collect::<Vec<_>>())]
    variants: Vec<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// By measure, what each process found: milliseconds, or MiB.
type Times = BTreeMap<String, Vec<f64>>;

/// What one shape and variant came to, ours and the peer's.
#[derive(Default)]
struct Sides {
    ours: Times,
    peer: Times,
}

/// By shape, then by variant.
type Found = BTreeMap<String, BTreeMap<String, Sides>>;

/// Times both sides in turns and prints medians, spread and ratios.
pub fn run(args: &Args) -> Result<()> {
    let scratch = tempfile::tempdir().context("no temporary folder")?;
    let venv = args
        .venv
        .clone()
        .unwrap_or_else(|| scratch.path().join("venv"));
    let python = Python::ready(&venv)?;
    let wanted = |all: &[&'static str]| {
        let asked =
            |name: &str| args.variants.is_empty() || args.variants.iter().any(|v| v == name);
        all.iter()
            .copied()
            .filter(|name| asked(name))
            .collect::<Vec<_>>()
    };
    let mut jobs: Vec<(PathBuf, &str, &str)> = Vec::new();
    for (script, file, given, shapes, variants) in [
        (
            ENCODER,
            "model",
            &args.model,
            &args.shapes,
            wanted(&ENCODERS),
        ),
        (
            DECODER,
            "model.gguf",
            &args.gguf,
            &args.decoder_shapes,
            wanted(&DECODERS),
        ),
    ] {
        if variants.is_empty() {
            continue;
        }
        let model = model(given, &python.script(script), scratch.path(), file)?;
        for shape in shapes {
            jobs.extend(
                variants
                    .iter()
                    .map(|&variant| (model.clone(), shape.as_str(), variant)),
            );
        }
    }
    let ours = build()?;
    let mut found = Found::new();
    for _ in 0..args.turns {
        for (model, shape, variant) in &jobs {
            let run = |rounds: usize, into: &mut Times, mut command: Command| {
                command.arg(model).args([variant, shape]);
                take(into, command.arg(rounds.to_string()), rounds == 0)
            };
            let variants = found.entry((*shape).to_owned()).or_default();
            let sides = variants.entry((*variant).to_owned()).or_default();
            for rounds in [args.rounds, 0] {
                run(rounds, &mut sides.ours, Command::new(&ours))?;
                if reference(variant) == *variant {
                    let mut peer = Command::new(python.program());
                    peer.args(["-W", "ignore", PEER]).env("HF_HUB_OFFLINE", "1");
                    run(rounds, &mut sides.peer, peer)?;
                }
            }
        }
    }
    if args.json {
        println!("{:#}", object(&found));
    } else {
        print!("{}", table(&found));
    }
    Ok(())
}

/// The model that is given, or else fetched into the scratch folder.
fn model(given: &Option<PathBuf>, script: &Script, scratch: &Path, file: &str) -> Result<PathBuf> {
    if let Some(given) = given {
        return Ok(given.clone());
    }
    script.run("fetch", &[scratch])?;
    Ok(scratch.join(file))
}

/// The variant whose peer another is compared with: PEFT has no twin of every one.
fn reference(variant: &str) -> &str {
    match variant {
        "burn" => "lora",
        _ if DECODERS.contains(&variant) => DECODERS[0],
        own => own,
    }
}

/// Builds our side as a part of the whole workspace, so that burn is not compiled once more for it.
fn build() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--release", "--workspace", "--bins"])
        .current_dir(&root)
        .status()?;
    ensure!(status.success(), "the benchmark does not compile");
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(target.join("release/coto-benches"))
}

/// Runs one process and notes what it prints; of one that only starts, how long it took and no more.
fn take(times: &mut Times, command: &mut Command, startup: bool) -> Result<()> {
    let start = Instant::now();
    let output = command
        .output()
        .context("cannot start a side of the benchmark")?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let new: Times = if startup {
        let ms = 1e3 * start.elapsed().as_secs_f64();
        Times::from([("startup".to_owned(), vec![ms])])
    } else {
        serde_json::from_slice(&output.stdout)?
    };
    new.into_iter()
        .for_each(|(name, values)| times.entry(name).or_default().extend(values));
    Ok(())
}

/// The median and half the range between the quartiles.
fn middle(values: &[f64]) -> (f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |share: f64| sorted[((sorted.len() - 1) as f64 * share).round() as usize];
    (at(0.5), (at(0.75) - at(0.25)) / 2.0)
}

/// Shape, variant, measure, ours and the peer's.
fn rows(found: &Found) -> impl Iterator<Item = (&str, &str, &str, &[f64], &[f64])> {
    found.iter().flat_map(|(shape, variants)| {
        variants.iter().flat_map(move |(variant, sides)| {
            let peer = variants.get(reference(variant)).map(|sides| &sides.peer);
            sides.ours.iter().filter_map(move |(measure, ours)| {
                let theirs = peer?.get(measure)?;
                Some((
                    shape.as_str(),
                    variant.as_str(),
                    measure.as_str(),
                    ours.as_slice(),
                    theirs.as_slice(),
                ))
            })
        })
    })
}

fn object(found: &Found) -> Value {
    let mut object = Map::new();
    for (shape, variant, measure, ours, peer) in rows(found) {
        let (ours, peer) = (middle(ours).0, middle(peer).0);
        let shape = object.entry(shape).or_insert_with(|| json!({}));
        if shape.get(variant).is_none() {
            shape[variant] = json!({});
        }
        shape[variant][measure] = json!({"ours": ours, "peer": peer, "ratio": ours / peer});
    }
    Value::Object(object)
}

fn table(found: &Found) -> String {
    let mut text = String::from(
        "| rows x width | adapter | measure | Rust | PyTorch + PEFT | ratio |\n|---|---|---|---|---|---|\n",
    );
    for (shape, variant, measure, ours, peer) in rows(found) {
        let ((a, da), (b, db)) = (middle(ours), middle(peer));
        let unit = if measure == "peak_memory" {
            "MiB"
        } else {
            "ms"
        };
        text += &format!(
            "| {shape} | {variant} | {measure} | {a:.0} ± {da:.0} {unit} | {b:.0} ± {db:.0} {unit} | {:.2} |\n",
            a / b
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_ratios_are_those_of_the_lists() {
        let times = |step: &[f64]| Times::from([("step_all".to_owned(), step.to_vec())]);
        let lora = Sides {
            ours: times(&[3.0, 9.0, 1.0, 4.0, 2.0]),
            peer: times(&[2.0, 1.0, 2.0]),
        };
        let burn = Sides {
            ours: times(&[8.0]),
            peer: Times::new(),
        };
        assert_eq!(middle(&lora.ours["step_all"]), (3.0, 1.0));
        let variants = BTreeMap::from([("lora".to_owned(), lora), ("burn".to_owned(), burn)]);
        let found = Found::from([("32x64".to_owned(), variants)]);
        let object = object(&found);
        assert_eq!(object["32x64"]["lora"]["step_all"]["ratio"], 1.5);
        assert_eq!(object["32x64"]["burn"]["step_all"]["ratio"], 4.0);
        assert!(table(&found).contains("| 32x64 | lora | step_all | 3 ± 1 ms | 2 ± 0 ms | 1.50 |"));
    }
}
