//! `bench`: training steps and runs, ours beside PyTorch + PEFT and burn's own LoRA, timed in turns in one session.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::parity::{DECODER, ENCODER, Python, Script};
use found::Found;

mod found;
mod merging;
mod rounds;
mod side;

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
/// The last two are of ours alone.
const MEASURES: [&str; 9] = [
    "forward",
    "step_all",
    "step_quarter",
    "coto_run",
    "finetune_run",
    "peak_memory",
    "startup",
    "breakdown",
    "limit",
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
    /// Turns: in each, every process is started anew.
    #[arg(long, default_value_t = 1)]
    turns: usize,
    /// Rounds in a turn, the sides alternating.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// Rows and width of the encoder's batch, one or more.
    #[arg(long, value_delimiter = ',', default_value = "32x64,8x32,8x256")]
    shapes: Vec<String>,
    /// Rows and width of the decoder's batch, one or more.
    #[arg(long, value_delimiter = ',', default_value = "4x128")]
    decoder_shapes: Vec<String>,
    /// Whose steps are timed, one or more; else all.
    #[arg(long, value_delimiter = ',', value_parser = ENCODERS.into_iter().chain(DECODERS).collect::<Vec<_>>())]
    variants: Vec<String>,
    /// What is timed, one or more; else all.
    #[arg(long, value_delimiter = ',', value_parser = MEASURES.to_vec())]
    measures: Vec<String>,
    /// Time merges of adapters instead.
    #[arg(long, conflicts_with_all = ["turns", "rounds", "shapes", "decoder_shapes", "variants", "measures"])]
    merging: bool,
    /// Rows and columns of the module that is merged densely too, in minutes for 4096 of them.
    #[arg(long, default_value_t = 4096, requires = "merging", value_parser = clap::value_parser!(u64).range(16..=16384))]
    merging_size: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What is timed together: one shape, PyTorch's variant, and those of ours that stand beside it.
struct Group {
    model: PathBuf,
    shape: String,
    peer: &'static str,
    variants: Vec<&'static str>,
    /// Steps of a CoTo run in a turn.
    coto_steps: usize,
}

/// The programs of both sides.
struct Sources {
    ours: PathBuf,
    python: PathBuf,
}

impl Sources {
    fn peer(&self) -> Command {
        let mut command = Command::new(&self.python);
        command.args(["-W", "ignore", PEER]);
        command.envs([("HF_HUB_OFFLINE", "1"), ("TQDM_DISABLE", "1")]);
        command
    }
}

/// Times both sides in turns and prints medians, spread and ratios; those of a group as soon as it is done on standard error.
pub fn run(args: &Args) -> Result<()> {
    let scratch = tempfile::tempdir().context("no temporary folder")?;
    let venv = args
        .venv
        .clone()
        .unwrap_or_else(|| scratch.path().join("venv"));
    let python = Python::ready(&venv)?;
    if args.merging {
        return merging::run(
            &python,
            scratch.path(),
            args.merging_size as usize,
            args.json,
        );
    }
    let groups = groups(args, &python, scratch.path())?;
    let sources = Sources {
        ours: build("coto-benches")?,
        python: python.program().to_owned(),
    };
    let wants =
        |measure: &str| args.measures.is_empty() || args.measures.iter().any(|m| m == measure);
    let (mut found, mut faults) = (Found::new(), Vec::new());
    for turn in 0..args.turns {
        for group in &groups {
            let plan = (turn, args.rounds as usize);
            let part = rounds::turn(group, &sources, plan, &wants, &mut faults)?;
            eprintln!("{}", found::table(&part));
            found::add(&mut found, part);
        }
    }
    if args.json {
        println!("{:#}", found::object(&found));
    } else {
        print!("{}", found::table(&found));
    }
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}

fn groups(args: &Args, python: &Python, scratch: &Path) -> Result<Vec<Group>> {
    let asked = |name: &&str| args.variants.is_empty() || args.variants.iter().any(|v| v == name);
    let mut groups = Vec::new();
    for (script, file, given, shapes, variants, coto_steps) in [
        (ENCODER, "model", &args.model, &args.shapes, ENCODERS, 16),
        (
            DECODER,
            "model.gguf",
            &args.gguf,
            &args.decoder_shapes,
            DECODERS,
            8,
        ),
    ] {
        if !variants.iter().any(&asked) {
            continue;
        }
        let model = model(given, &python.script(script), scratch, file)?;
        for shape in shapes {
            for peer in variants.into_iter().filter(|name| reference(name) == *name) {
                let beside = |name: &&'static str| reference(name) == peer && asked(name);
                let variants: Vec<&'static str> = variants.into_iter().filter(beside).collect();
                if !variants.is_empty() {
                    groups.push(Group {
                        model: model.clone(),
                        shape: shape.clone(),
                        peer,
                        variants,
                        coto_steps,
                    });
                }
            }
        }
    }
    Ok(groups)
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

/// Builds a program as a part of the whole workspace, so that burn is not compiled once more for it.
pub fn build(program: &str) -> Result<PathBuf> {
    Ok(release(&["--workspace", "--bins"], program)?.join(program))
}

/// Builds an example of a crate that does not know burn.
fn build_example(package: &str, example: &str) -> Result<PathBuf> {
    // With the command's package the features, and so the builds, are those of the rest.
    let packages = ["--package", "coto-cli", "--package", package];
    let what = [packages.as_slice(), &["--example", example]].concat();
    Ok(release(&what, example)?.join("examples").join(example))
}

/// Builds; returns the folder of release builds.
fn release(what: &[&str], program: &str) -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--release"])
        .args(what)
        .current_dir(&root)
        .status()?;
    ensure!(status.success(), "`{program}` does not compile");
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(target.join("release"))
}
