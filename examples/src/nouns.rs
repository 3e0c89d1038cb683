//! CoTo in a loop of one's own: the embedded encoder learns to tell nouns by their definitions, twenty rows a class.
//!
//! Prints the loss, then the accuracy with all adapters on and with each layer's adapter off, and writes a PEFT folder.

use std::path::{Path, PathBuf};

use anyhow::Result;
use coto_lora::adapters::{AdapterConfig, AdapterSet, Pass};
use coto_lora::coalition::Grouping;
use coto_lora::models::{Layered, Model, locate, parse_device};
use coto_lora::schedule::{CoalitionSampler, Schedule, ScheduleConfig};
use coto_lora::train::{
    AdamW, DataConfig, Head, LabelledText, OptimConfig, Readout, Split, Task, Update, evaluate,
};

const SEED: u64 = 1;
const BATCH: usize = 16;

/// Arguments of the story.
#[derive(clap::Args)]
pub struct Args {
    /// Steps to train.
    #[arg(long, default_value_t = 200)]
    steps: usize,
    /// `cpu`, `wgpu[:n]`, `cuda[:n]`.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Where the adapter goes.
    #[arg(long, value_name = "DIR", default_value = "runs/example")]
    out: PathBuf,
}

/// Tells the story.
pub fn run(args: &Args) -> Result<()> {
    story(args.steps, &args.device, &args.out)
}

fn story(steps: usize, device: &str, out: &Path) -> Result<()> {
    let device = parse_device(device)?;
    let folder = locate("all-MiniLM-L6-v2".as_ref())?;
    let model = Model::load(&folder, &device)?;
    let data = DataConfig::few_shot("wordnet-nouns", 20);
    let task = LabelledText::load(&data, &folder.join("tokenizer.json"), 512)?;
    let samples = task.samples(Split::Train).unwrap_or(0);

    let config = AdapterConfig::lora(8, 16.0).targets(["query", "value"]);
    let mut adapters = AdapterSet::new(&model, &config, &Grouping::Layer, SEED)?;
    let schedule = Schedule::new(&ScheduleConfig::default(), steps)?;
    let draws = CoalitionSampler::new(schedule, adapters.players(), SEED);
    let mut head = Head::zeros(384, task.labels().len(), &device);
    let mut optimiser = AdamW::new(&OptimConfig::default());

    for step in 0..steps {
        let rows = (0..BATCH)
            .map(|k| vec![(step * BATCH + k) * 7 % samples])
            .collect();
        let batch = task.batch(Split::Train, &rows, &device)?;
        let (on, tracked, tracked_head) = (draws.draw(step), adapters.tracked(), head.tracked());
        let features = model.forward(&batch.input, &Pass::new(&tracked, &on));
        let loss = tracked_head.loss(features, &batch.targets);
        let loss = loss.div_scalar(BATCH as f64);
        let grads = loss.backward();
        let gradients = tracked.gradients(&grads);
        let update = |name: String, tensor, gradient, lr| Update {
            name,
            tensor,
            gradient,
            lr,
        };
        let mut updates: Vec<Update> = adapters
            .factors()
            .into_iter()
            .zip(gradients)
            .map(|(factor, gradient)| update(factor.name, factor.tensor, gradient, 2e-3))
            .collect();
        updates.push(update(
            "head.weight".into(),
            &mut head.weight,
            tracked_head.weight.grad(&grads),
            1e-2,
        ));
        updates.push(update(
            "head.bias".into(),
            &mut head.bias,
            tracked_head.bias.grad(&grads),
            1e-2,
        ));
        optimiser.step(updates);
        if step % 20 == 0 {
            println!(
                "step {step:4}  on {on}  loss {:.3}",
                loss.into_scalar::<f32>()
            );
        }
    }

    let readout = Readout::Classes(head.into());
    let accuracy = |on: &_| {
        let pass = Pass::new(&adapters, on);
        evaluate(&model, &readout, &pass, &task, Split::Test, 64, &device).map(|s| s.accuracy)
    };
    let grand = adapters.grand();
    println!("all on        accuracy {:.4}", accuracy(&grand)?);
    for (player, name) in adapters.players().names().iter().enumerate() {
        println!(
            "{name} off   accuracy {:.4}",
            accuracy(&grand.without(player))?
        );
    }
    adapters.to_folder()?.save(out)?;
    println!("adapter written to {}", out.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_story_runs_and_leaves_an_adapter() {
        let dir = tempfile::tempdir().unwrap();
        super::story(2, "cpu", &dir.path().join("adapter")).unwrap();
        assert!(
            dir.path()
                .join("adapter/adapter_model.safetensors")
                .exists()
        );
    }
}
