//! SmolLM2-135M, its base quantised, learns to define nouns, with plain LoRA and with CoTo.
//!
//! `cargo xtask stories` fetches the model and the rows. Prints the loss of the definitions before and after, with all adapters on and
//! with every other layer's off, then what is said of some nouns.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use coto_lora::adapters::Pass;
use coto_lora::coalition::Coalition;
use coto_lora::data::LanguageTokenizer;
use coto_lora::models::{Model, Sampling, locate};
use coto_lora::schedule::Preset;
use coto_lora::train::{Event, Run, RunConfig, Split};

const RUN_FILE: &str = include_str!("../run-files/smollm2-glosses.toml");

/// Arguments of the story.
#[derive(clap::Args)]
pub struct Args {
    /// Steps of each run; unset, those of examples/run-files/smollm2-glosses.toml.
    #[arg(long)]
    steps: Option<usize>,
    /// `cpu`, `wgpu[:n]`, `cuda[:n]`.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Settings of the run file to change, as in `optim.lr=1e-3`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Where the runs go.
    #[arg(long, value_name = "DIR", default_value = "runs/glosses")]
    out: PathBuf,
    /// What is to be defined in the end.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "lighthouse,beekeeper,courage"
    )]
    nouns: Vec<String>,
}

/// Tells the story.
pub fn run(args: &Args) -> Result<()> {
    let mut set = args.set.clone();
    set.extend(args.steps.map(|steps| format!("optim.steps={steps}")));
    let mut config = RunConfig::parse(RUN_FILE, Path::new("smollm2-glosses.toml"), &set)?;
    config.device.clone_from(&args.device);
    for (name, preset) in [("lora", Preset::None), ("coto", Preset::Coto)] {
        config.schedule.preset = preset;
        config.out = args.out.join(name);
        let mut run = Run::prepare(&config)?;
        if name == "lora" {
            let loss = run.evaluate(Split::Validation, &Pass::base())?.loss;
            println!("{:24} {loss:.3} nats a token", "the base alone");
            say("base", &run, &Pass::base(), args)?;
        }
        tell(name, &mut run)?;
        say(
            name,
            &run,
            &Pass::new(run.adapters(), &run.adapters().grand()),
            args,
        )?;
    }
    Ok(())
}

/// Trains, and prints what came of it.
fn tell(name: &str, run: &mut Run) -> Result<()> {
    let (mut seconds, mut steps) = (0.0, 0);
    let mut on = |event: &Event| {
        if let Event::Step(step) = event {
            seconds += step.seconds;
            steps += 1;
            if step.step % 20 == 0 {
                println!(
                    "{name} step {:4}  on {}  loss {:.3}",
                    step.step, step.active, step.loss
                );
            }
        }
    };
    run.train(&mut on, &|| false)?;
    let loss = |on: &Coalition| -> Result<f64> {
        let pass = Pass::new(run.adapters(), on);
        Ok(run.evaluate(Split::Validation, &pass)?.loss)
    };
    let players = run.adapters().players().len();
    let half = Coalition::from_players(players, (0..players).step_by(2));
    let mean = seconds / f64::from(steps);
    println!(
        "{name:24} {:.3} nats a token, {mean:.2} s a step",
        loss(&run.adapters().grand())?
    );
    println!("{name}, every other layer {:.3}", loss(&half)?);
    Ok(())
}

/// What a pass makes of the nouns.
fn say(name: &str, run: &Run, pass: &Pass, args: &Args) -> Result<()> {
    let Model::Llama(decoder) = run.model() else {
        bail!("the story's model is a decoder")
    };
    let tokenizer = LanguageTokenizer::load(locate(run.config().model.name.as_ref())?)?;
    for noun in &args.nouns {
        let prompt = tokenizer.encode(&format!("{noun}:"), true)?;
        let (ends, greedy) = (tokenizer.eos_ids(), Sampling::GREEDY);
        let ids = decoder.generate(&prompt, ends, 24, &greedy, pass, &mut |_| true);
        println!(
            "  {name}: {noun}:{}",
            tokenizer.decode(&ids, true)?.replace('\n', " / ")
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tokenizer of words, each a number.
    fn tokenizer(tokens: usize) -> String {
        let words = (1..tokens).map(|i| (format!("w{i}"), serde_json::json!(i)));
        let vocabulary: serde_json::Map<_, _> = [("<end>".to_owned(), serde_json::json!(0))]
            .into_iter()
            .chain(words)
            .collect();
        serde_json::json!({
            "version": "1.0",
            "added_tokens": [],
            "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "w\\d+"}, "behavior": "Isolated", "invert": false},
            "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "w1"},
        })
        .to_string()
    }

    #[test]
    fn the_story_runs_on_a_tiny_decoder_and_leaves_adapters() {
        let dir = tempfile::tempdir().unwrap();
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../goldens/models/llama3");
        for file in ["config.json", "model.safetensors"] {
            std::fs::copy(golden.join(file), dir.path().join(file)).unwrap();
        }
        std::fs::write(dir.path().join("tokenizer.json"), tokenizer(96)).unwrap();
        let settings = r#"{"eos_token": "<end>"}"#;
        std::fs::write(dir.path().join("tokenizer_config.json"), settings).unwrap();
        let row = |i: usize| {
            let (a, b) = (2 + i * 7 % 90, 2 + i * 5 % 90);
            format!("{{\"prompt\":\"w{a}:\",\"completion\":\" w{b} w{a}\"}}\n")
        };
        let rows: String = (0..40).map(row).collect();
        let data = dir.path().join("rows.jsonl");
        std::fs::write(&data, rows).unwrap();
        let path = |key: &str, path: &Path| format!("{key}={:?}", path.display().to_string());
        let args = Args {
            steps: Some(3),
            device: "cpu".to_owned(),
            set: vec![
                path("model.name", dir.path()),
                "model.quant=nf4".to_owned(),
                path("data.train", &data),
                path("data.validation", &data),
                path("data.test", &data),
                "optim.warmup=0".to_owned(),
            ],
            out: dir.path().join("runs"),
            nouns: vec!["w5".to_owned()],
        };
        run(&args).unwrap();
        for name in ["lora", "coto"] {
            let file = dir
                .path()
                .join("runs")
                .join(name)
                .join("adapter/adapter_model.safetensors");
            assert!(file.exists(), "{name}");
        }
    }
}
