//! From clothes to digits with few examples: plain LoRA against CoTo.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use burn::tensor::Device;
use coto_lora::adapters::{AdapterSet, Pass};
use coto_lora::analysis::{fuse, mix};
use coto_lora::coalition::Coalition;
use coto_lora::models::Model;
use coto_lora::train::{Event, ImageTask, ImagesConfig, Run, RunConfig, Split, Task};

/// The settings of every run; the story sets what differs between them.
const RUN_FILE: &str = include_str!("../../run-files/vit-digits.toml");

/// Names of the methods and their schedules.
const METHODS: [(&str, &str); 2] = [("LoRA", "none"), ("CoTo", "coto")];
/// Samples of the training images, by the seed they are drawn with.
const DRAWS: [u64; 3] = [1, 2, 3];
/// The runs on each sample, which are joined.
const SEEDS: [u64; 2] = [1, 2];

/// What is asked.
pub struct Plan<'a> {
    /// The pretrained model's folder.
    pub model: &'a Path,
    /// The folder of the digits.
    pub digits: &'a Path,
    /// Where the runs go.
    pub out: &'a Path,
    /// Training images of each class.
    pub shots: &'a [usize],
    /// Optimiser steps; unset, those of the run file.
    pub steps: Option<usize>,
    /// The device's name.
    pub device: &'a str,
}

/// What the runs of a method came to, a number for each run, or for each pair of them.
#[derive(Debug, Default)]
pub struct Found {
    /// Accuracy with all adapters on.
    pub all_on: Vec<f64>,
    /// Accuracy with the adapters of every other layer off, the mean of the two ways.
    pub every_other: Vec<f64>,
    /// Accuracy of two runs joined half and half, factor by factor.
    pub fused: Vec<f64>,
    /// The same for their weight changes.
    pub mixed: Vec<f64>,
    /// Seconds a step.
    pub seconds: Vec<f64>,
}

impl Plan<'_> {
    fn config(
        &self,
        shots: usize,
        draw: u64,
        seed: u64,
        method: &str,
        preset: &str,
    ) -> Result<RunConfig> {
        let text = |path: &Path| toml(&path.display().to_string());
        let images = |split: &str| text(&self.digits.join(format!("{split}-images-idx3-ubyte.gz")));
        let name = format!("{}-{shots}-{draw}-{seed}", method.to_lowercase());
        let mut set = vec![
            format!("out={}", text(&self.out.join(name))),
            format!("seed={seed}"),
            format!("device={}", toml(self.device)),
            format!("model.name={}", text(self.model)),
            format!("data.train={}", images("train")),
            format!("data.validation={}", images("validation")),
            format!("data.test={}", images("test")),
            format!("data.few_shot={shots}"),
            format!("data.few_shot_seed={draw}"),
            format!("schedule.preset={preset}"),
        ];
        set.extend(self.steps.map(|steps| format!("optim.steps={steps}")));
        Ok(RunConfig::parse(
            RUN_FILE,
            "vit-digits.toml".as_ref(),
            &set,
        )?)
    }
}

/// Trains, measures and prints; returns what the methods found for each number of shots.
pub fn compare(plan: &Plan, device: &Device) -> Result<Vec<[Found; 2]>> {
    let model = Model::load(plan.model, device)?;
    println!(
        "shots  method      all on         every other off  joined on A, B  joined on ΔW   ms a step"
    );
    let mut rows = Vec::new();
    for &shots in plan.shots {
        let (mut found, mut probes) = (<[Found; 2]>::default(), Vec::new());
        for draw in DRAWS {
            let first = plan.config(shots, draw, SEEDS[0], "LoRA", "none")?;
            let images = ImagesConfig::default();
            let task = ImageTask::load(&first.data, &images, None, plan.model, &model, device)?;
            let task: Arc<dyn Task> = Arc::new(task);
            let prepare = |config: &RunConfig, readout| {
                Run::new(config, device.clone(), model.clone(), task.clone(), readout)
            };
            // One probe for all runs on the same images: what differs between them is in the adapters, so that they can be joined.
            let probe = prepare(&first, None)?;
            probes.push(probe.evaluate(Split::Test, &Pass::base())?.accuracy);
            for ((method, preset), found) in METHODS.into_iter().zip(&mut found) {
                let mut sets = Vec::new();
                for seed in SEEDS {
                    let config = plan.config(shots, draw, seed, method, preset)?;
                    let mut run = prepare(&config, Some(probe.readout().clone()))?;
                    train(&mut run, found)?;
                    sets.push(run.adapters().clone());
                }
                let sets: Vec<&AdapterSet> = sets.iter().collect();
                let halves = vec![1.0 / sets.len() as f64; sets.len()];
                let fused = fuse(&model, &sets, &halves)?;
                let mixed = mix(&model, &sets, &halves)?;
                found.fused.push(accuracy(&probe, &fused)?);
                found.mixed.push(accuracy(&probe, &mixed)?);
            }
        }
        print(shots, &probes, &found);
        rows.push(found);
    }
    Ok(rows)
}

/// Trains a run to its end and adds what it came to.
fn train(run: &mut Run, found: &mut Found) -> Result<()> {
    let mut seconds = Vec::new();
    let mut tell = |event: &Event| {
        if let Event::Step(step) = event {
            seconds.push(step.seconds);
        }
    };
    run.train(&mut tell, &|| false)?;
    let players = run.adapters().grand().players();
    let every_other = |odd: usize| {
        let on = Coalition::from_players(players, (0..players).filter(|player| player % 2 == odd));
        run.evaluate(Split::Test, &Pass::new(run.adapters(), &on))
    };
    found.all_on.push(run.evaluate_test()?.accuracy);
    let halves = [every_other(0)?.accuracy, every_other(1)?.accuracy];
    found.every_other.push(mean(&halves));
    found.seconds.push(mean(&seconds));
    Ok(())
}

/// The accuracy of adapters under a run's head.
fn accuracy(run: &Run, adapters: &AdapterSet) -> Result<f64> {
    let grand = adapters.grand();
    let scores = run.evaluate(Split::Test, &Pass::new(adapters, &grand))?;
    Ok(scores.accuracy)
}

fn print(shots: usize, probes: &[f64], found: &[Found; 2]) {
    println!("{shots:5}  no adapter  {}", spread(probes));
    for ((method, _), found) in METHODS.iter().zip(found) {
        println!(
            "{shots:5}  {method:10}  {}  {}    {}   {}  {:6.1}",
            spread(&found.all_on),
            spread(&found.every_other),
            spread(&found.fused),
            spread(&found.mixed),
            1e3 * mean(&found.seconds),
        );
    }
    let [lora, coto] = found;
    let gaps = |of: fn(&Found) -> &Vec<f64>| {
        let pairs = of(coto).iter().zip(of(lora));
        spread(&pairs.map(|(coto, lora)| coto - lora).collect::<Vec<_>>())
    };
    println!(
        "{shots:5}  {:10}  {}  {}    {}   {}",
        "difference",
        gaps(|found| &found.all_on),
        gaps(|found| &found.every_other),
        gaps(|found| &found.fused),
        gaps(|found| &found.mixed),
    );
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Mean and standard deviation.
fn spread(values: &[f64]) -> String {
    let middle = mean(values);
    let squares: f64 = values.iter().map(|value| (value - middle).powi(2)).sum();
    let deviation = (squares / (values.len().max(2) - 1) as f64).sqrt();
    format!("{middle:6.3} ± {deviation:5.3}")
}

/// A text as TOML writes it.
fn toml(text: &str) -> String {
    format!("{text:?}")
}
