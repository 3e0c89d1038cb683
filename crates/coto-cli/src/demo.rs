//! Plain LoRA against CoTo on an embedded task, two seeds each.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail};
use coto_adapters::{AdapterConfig, AdapterSet, Pass};
use coto_coalition::Coalition;
use coto_models::{Model, locate, parse_device};
use coto_schedule::{Preset, ScheduleConfig};
use coto_train::{
    DataConfig, EvalConfig, Event, HeadConfig, LabelledText, ModelConfig, OptimConfig, Outcome,
    Run, RunConfig, Scores, Split, Task,
};
use serde::Serialize;

use crate::args::DemoArgs;
use crate::train::{Bar, Stop, save};

const MODEL: &str = "all-MiniLM-L6-v2";
const SEEDS: [u64; 2] = [1, 2];
const METHODS: [(&str, Preset); 2] = [("lora", Preset::None), ("coto", Preset::Coto)];

/// Chosen once on the validation rows for plain LoRA's good; docs/src/demo.md has the search.
const LEARNING_RATE: f64 = 2e-3;
const RANK: usize = 8;
const BATCH: usize = 16;
const ROWS_A_CLASS: usize = 20;

#[derive(Serialize)]
struct Summary {
    task: &'static str,
    model: &'static str,
    classes: usize,
    train_rows: usize,
    validation_rows: usize,
    test_rows: usize,
    steps: usize,
    rank: usize,
    alpha: f64,
    learning_rate: f64,
    batch_size: usize,
    targets: &'static str,
    device: String,
    probe_accuracy: f64,
    runs: Vec<RunSummary>,
    joined: Vec<Joined>,
}

#[derive(Serialize)]
struct RunSummary {
    name: String,
    method: &'static str,
    seed: u64,
    folder: String,
    accuracy: f64,
    macro_f1: f64,
    train_accuracy: f64,
    /// With the adapters of every other layer off: the mean of the two ways to choose them.
    every_other_accuracy: f64,
    seconds_per_step: f64,
    seconds: f64,
}

#[derive(Serialize)]
struct Joined {
    method: &'static str,
    fusion_accuracy: f64,
    mixture_accuracy: f64,
}

pub fn run(args: &DemoArgs) -> Result<()> {
    let device = parse_device(&args.device)?;
    let folder = locate(MODEL.as_ref())?;
    let model = Model::load(&folder, &device)?;
    let first = config(args, "lora-1", SEEDS[0], Preset::None);
    let tokenizer = folder.join("tokenizer.json");
    let max_tokens = model.max_tokens().unwrap_or(usize::MAX);
    let task = LabelledText::load(&first.data, &tokenizer, max_tokens)?;
    let (task, stop): (Arc<dyn Task>, _) = (Arc::new(task), Stop::on_interrupt()?);
    let prepare = |config: &RunConfig, readout| {
        Run::new(config, device.clone(), model.clone(), task.clone(), readout)
    };
    let probe = prepare(&first, None)?;
    let probe_accuracy = probe.evaluate(Split::Test, &Pass::base())?.accuracy;
    eprintln!("frozen features and the probe: accuracy {probe_accuracy:.4}");

    let (mut runs, mut joined) = (Vec::new(), Vec::new());
    for (method, preset) in METHODS {
        let mut sets = Vec::new();
        for seed in SEEDS {
            let name = format!("{method}-{seed}");
            let readout = Some(probe.readout().clone());
            let mut run = prepare(&config(args, &name, seed, preset), readout)?;
            runs.push(train(&mut run, &name, method, seed, args.steps, &stop)?);
            sets.push(run.adapters().clone());
        }
        joined.push(join(method, &sets, &probe)?);
    }
    let rows = |split| task.samples(split).unwrap_or(0);
    let summary = Summary {
        task: args.task.folder(),
        model: MODEL,
        classes: task.labels().len(),
        train_rows: rows(Split::Train),
        validation_rows: rows(Split::Validation),
        test_rows: rows(Split::Test),
        steps: args.steps,
        rank: RANK,
        alpha: first.adapter.alpha,
        learning_rate: LEARNING_RATE,
        batch_size: BATCH,
        targets: "all-linear",
        device: args.device.clone(),
        probe_accuracy,
        runs,
        joined,
    };
    finish(&summary, &args.out, args.json)
}

fn config(args: &DemoArgs, name: &str, seed: u64, preset: Preset) -> RunConfig {
    RunConfig {
        out: args.out.join(name),
        seed,
        device: args.device.clone(),
        model: ModelConfig {
            name: MODEL.to_owned(),
            quant: Default::default(),
            pooling: Default::default(),
        },
        // The validation rows chose the settings; the demo reports on the test rows alone.
        data: DataConfig {
            validation: None,
            ..DataConfig::few_shot(args.task.folder(), ROWS_A_CLASS)
        },
        language: None,
        images: None,
        head: HeadConfig::default(),
        adapter: AdapterConfig::lora(RANK, 2.0 * RANK as f64),
        players: Default::default(),
        schedule: ScheduleConfig {
            preset,
            ..Default::default()
        },
        optim: OptimConfig {
            steps: args.steps,
            batch_size: BATCH,
            lr: LEARNING_RATE,
            warmup: args.steps / 20,
            ..Default::default()
        },
        eval: EvalConfig {
            checkpoint_every: 0,
            ..Default::default()
        },
    }
}

fn train(
    run: &mut Run,
    name: &str,
    method: &'static str,
    seed: u64,
    steps: usize,
    stop: &Stop,
) -> Result<RunSummary> {
    let mut bar = Bar::new(name, steps, 0);
    let mut seconds = Vec::with_capacity(steps);
    let mut tell = |event: &Event| {
        if let Event::Step(step) = event {
            seconds.push(step.seconds);
        }
        bar.tell(event);
    };
    if run.train(&mut tell, &|| stop.asked())? == Outcome::Stopped {
        bail!("stopped; the demo starts afresh when run again");
    }
    bar.finish();
    let scores =
        |split, coalition: &Coalition| run.evaluate(split, &Pass::new(run.adapters(), coalition));
    let grand = run.adapters().grand();
    let n = grand.players();
    let every_other = |odd: usize| {
        scores(
            Split::Test,
            &Coalition::from_players(n, (0..n).filter(|p| p % 2 == odd)),
        )
        .map(|scores| scores.accuracy)
    };
    let Scores {
        accuracy, macro_f1, ..
    } = scores(Split::Test, &grand)?;
    let summary = RunSummary {
        name: format!("{method}, seed {seed}"),
        method,
        seed,
        folder: name.to_owned(),
        accuracy,
        macro_f1: macro_f1.unwrap_or_default(),
        train_accuracy: scores(Split::Train, &grand)?.accuracy,
        every_other_accuracy: (every_other(0)? + every_other(1)?) / 2.0,
        seconds_per_step: seconds.iter().sum::<f64>() / seconds.len().max(1) as f64,
        seconds: seconds.iter().sum(),
    };
    eprintln!(
        "{name}: accuracy {accuracy:.4}, every other layer off {:.4}, {:.0} ms a step",
        summary.every_other_accuracy,
        1e3 * summary.seconds_per_step
    );
    Ok(summary)
}

/// The two seeds of a method, joined half and half.
fn join(method: &'static str, sets: &[AdapterSet], probe: &Run) -> Result<Joined> {
    let sets: Vec<&AdapterSet> = sets.iter().collect();
    let weights = vec![1.0 / sets.len() as f64; sets.len()];
    let accuracy = |set: AdapterSet| {
        let scores = probe.evaluate(Split::Test, &Pass::new(&set, &set.grand()));
        scores.map(|scores| scores.accuracy)
    };
    let joined = Joined {
        method,
        fusion_accuracy: accuracy(coto_analysis::fuse(probe.model(), &sets, &weights)?)?,
        mixture_accuracy: accuracy(coto_analysis::mix(probe.model(), &sets, &weights)?)?,
    };
    eprintln!(
        "{method}, seeds joined at 0.5: {:.4} on A and B, {:.4} on ΔW",
        joined.fusion_accuracy, joined.mixture_accuracy
    );
    Ok(joined)
}

fn finish(summary: &Summary, out: &Path, json: bool) -> Result<()> {
    save(&out.join("summary.json"), summary)?;
    let page = coto_report::demo(out)?;
    if json {
        println!("{}", serde_json::to_string_pretty(summary)?);
    } else {
        table(summary);
    }
    eprintln!("report: {}", page.display());
    Ok(())
}

fn table(summary: &Summary) {
    println!("{:38} {:>10} {:>10}", "", "LoRA", "CoTo");
    let mean = |method: &str, value: &dyn Fn(&RunSummary) -> f64| {
        let runs: Vec<f64> = summary
            .runs
            .iter()
            .filter(|run| run.method == method)
            .map(value)
            .collect();
        runs.iter().sum::<f64>() / runs.len() as f64
    };
    let row = |name: &str, value: &dyn Fn(&RunSummary) -> f64| {
        println!(
            "{name:38} {:>10.4} {:>10.4}",
            mean("lora", value),
            mean("coto", value)
        );
    };
    row("accuracy", &|run| run.accuracy);
    row("accuracy, every other layer off", &|run| {
        run.every_other_accuracy
    });
    row("accuracy on the training rows", &|run| run.train_accuracy);
    let [lora, coto] = [&summary.joined[0], &summary.joined[1]];
    let joined = |name, a: f64, b: f64| println!("{name:38} {a:>10.4} {b:>10.4}");
    joined(
        "seeds joined at 0.5, on A and B",
        lora.fusion_accuracy,
        coto.fusion_accuracy,
    );
    joined(
        "seeds joined at 0.5, on ΔW",
        lora.mixture_accuracy,
        coto.mixture_accuracy,
    );
    row("seconds a step", &|run| run.seconds_per_step);
    println!("{:38} {:>10.4}", "the probe alone", summary.probe_accuracy);
}
