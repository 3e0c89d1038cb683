//! CoTo in a loop of one's own: the embedded encoder learns to tell nouns by their definitions, twenty rows a class.
//!
//! `cargo run --release -p coto-examples -- [steps] [device] [folder]` prints the loss, then the accuracy with all adapters on
//! and with each layer's adapter off, and writes a PEFT folder.

use std::path::Path;

use anyhow::Result;
use coto_lora::adapters::{AdapterConfig, AdapterSet, Pass};
use coto_lora::coalition::Grouping;
use coto_lora::models::{Bert, Layered, locate, parse_device};
use coto_lora::schedule::{CoalitionSampler, Schedule, ScheduleConfig};
use coto_lora::train::{AdamW, DataConfig, Head, OptimConfig, Predictions, Task, Update};

const SEED: u64 = 1;
const BATCH: usize = 16;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let arg = |i: usize, default: &str| args.get(i).cloned().unwrap_or_else(|| default.to_owned());
    story(
        arg(0, "200").parse()?,
        &arg(1, "cpu"),
        arg(2, "runs/example").as_ref(),
    )
}

fn story(steps: usize, device: &str, out: &Path) -> Result<()> {
    let device = parse_device(device)?;
    let folder = locate("all-MiniLM-L6-v2".as_ref())?;
    let model = Bert::load(&folder, &device)?;
    let data = DataConfig::few_shot("wordnet-nouns", 20);
    let task = Task::load(
        &data,
        &folder.join("tokenizer.json"),
        model.config().max_tokens(),
    )?;

    let config = AdapterConfig::lora(8, 16.0).targets(["query", "value"]);
    let mut adapters = AdapterSet::new(&model, &config, &Grouping::Layer, SEED)?;
    let schedule = Schedule::new(&ScheduleConfig::default(), steps)?;
    let draws = CoalitionSampler::new(schedule, adapters.players(), SEED);
    let mut head = Head::zeros(model.config().hidden_size, task.labels.len(), &device);
    let mut optimiser = AdamW::new(&OptimConfig::default());

    for step in 0..steps {
        let rows: Vec<usize> = (0..BATCH)
            .map(|k| (step * BATCH + k) * 7 % task.train.tokens.len())
            .collect();
        let (batch, input) = task.batch(&task.train, &rows, &device);
        let (on, tracked, tracked_head) = (draws.draw(step), adapters.tracked(), head.tracked());
        let features = model.forward(&input, &Pass::new(&tracked, &on));
        let (loss, _) = tracked_head.loss(features, &batch.labels);
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

    let test = task.test.as_ref().expect("the embedded task has test rows");
    let accuracy = |on: &_| {
        Predictions::of(
            &model,
            &head,
            &Pass::new(&adapters, on),
            &task,
            test,
            64,
            &device,
        )
        .scores(test)
        .accuracy
    };
    let grand = adapters.grand();
    println!("all on        accuracy {:.4}", accuracy(&grand));
    for (player, name) in adapters.players().names().iter().enumerate() {
        println!(
            "{name} off   accuracy {:.4}",
            accuracy(&grand.without(player))
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
