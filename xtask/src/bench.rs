//! `bench`: one training step, ours beside PyTorch + PEFT and burn's own LoRA, timed in turns in one session.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::parity::Python;

const PEER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../benches/peer.py");
const SHAPE: &str = "32x64";

/// Arguments of the verb.
#[derive(clap::Args)]
pub struct Args {
    /// A Python environment with torch, transformers and peft, made here if there is none; else one is made and thrown away.
    #[arg(long, value_name = "DIR")]
    venv: Option<PathBuf>,
    /// The checkpoint's folder; else it is downloaded.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Turns of both sides.
    #[arg(long, default_value_t = 3)]
    turns: usize,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

type Times = BTreeMap<String, Vec<f64>>;

/// Times both sides in turns and prints medians, spread and ratios.
pub fn run(args: &Args) -> Result<()> {
    let scratch = tempfile::tempdir().context("no temporary folder")?;
    let venv = args
        .venv
        .clone()
        .unwrap_or_else(|| scratch.path().join("venv"));
    let python = Python::ready(&venv)?;
    let model = match &args.model {
        Some(model) => model.clone(),
        None => {
            python.script("fetch", &[scratch.path()])?;
            scratch.path().join("model")
        }
    };
    let (mut ours, mut peer) = (Times::new(), Times::new());
    for _ in 0..args.turns {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.args([
            "run",
            "--release",
            "--quiet",
            "--package",
            "coto-benches",
            "--",
        ]);
        take(&mut ours, command.arg(&model))?;
        let mut command = Command::new(python.program());
        take(
            &mut peer,
            command
                .args(["-W", "ignore", PEER])
                .arg(Path::new(&model))
                .env("HF_HUB_OFFLINE", "1"),
        )?;
    }
    if args.json {
        println!("{:#}", object(&ours, &peer));
    } else {
        print!("{}", table(&ours, &peer));
    }
    Ok(())
}

fn take(times: &mut Times, command: &mut Command) -> Result<()> {
    let output = command
        .arg("5")
        .output()
        .context("cannot start a side of the benchmark")?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let new: Times = serde_json::from_slice(&output.stdout)?;
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

/// What burn's own LoRA is compared with: the same step in PyTorch.
fn peer_of<'a>(peer: &'a Times, name: &str) -> Option<&'a Vec<f64>> {
    peer.get(if name == "burn_lora_step_all" {
        "step_all"
    } else {
        name
    })
}

fn object(ours: &Times, peer: &Times) -> Value {
    let measure = |(name, values): (&String, &Vec<f64>)| {
        let (mine, theirs) = (middle(values).0, middle(peer_of(peer, name)?).0);
        Some((
            name.clone(),
            json!({"ours": mine, "peer": theirs, "ratio": mine / theirs}),
        ))
    };
    let measures: serde_json::Map<_, _> = ours.iter().filter_map(measure).collect();
    json!({SHAPE: {"lora": measures}})
}

fn table(ours: &Times, peer: &Times) -> String {
    let mut text = format!(
        "| MiniLM, {SHAPE}, r = 8 on q and v | Rust, ms | PyTorch + PEFT, ms | ratio |\n|---|---|---|---|\n"
    );
    for (name, values) in ours {
        let Some(theirs) = peer_of(peer, name) else {
            continue;
        };
        let ((a, da), (b, db)) = (middle(values), middle(theirs));
        text += &format!(
            "| {name} | {a:.0} ± {da:.0} | {b:.0} ± {db:.0} | {:.2} |\n",
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
        let (mut ours, peer) = (times(&[3.0, 9.0, 1.0, 4.0, 2.0]), times(&[2.0, 1.0, 2.0]));
        ours.insert("burn_lora_step_all".to_owned(), vec![8.0]);
        assert_eq!(middle(&ours["step_all"]), (3.0, 1.0));
        let object = object(&ours, &peer);
        assert_eq!(object["32x64"]["lora"]["step_all"]["ratio"], 1.5);
        assert_eq!(object["32x64"]["lora"]["burn_lora_step_all"]["ratio"], 4.0);
    }
}
