//! A whole run on a real task, and all that PyTorch needs to make the same one.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;
use coto_data::{Columns, Dataset};
use coto_models::{Model, find_asset};
use coto_schedule::{Preset, ScheduleConfig};
use coto_train::{
    DataConfig, Decay, EvalConfig, Head, LabelledText, ModelConfig, OptimConfig, Rate, Run,
    RunConfig, Split, Task,
};
use serde_json::json;

use crate::step::adapter_config;
use crate::time;

const STEPS: usize = 32;
const LEARNING_RATE: f64 = 2e-3;
/// Tokens of the test rows, had all of them the full width.
const TEST_TOKENS: usize = 32768;

/// Trains on batches of `rows` texts, cut to `width` tokens and padded to the longest of each batch. Milliseconds of the training
/// alone, the test accuracy, and of how many rows that is.
///
/// The folder gets what the other side needs to do the same: `train.jsonl` and `test.jsonl`; the adapters at the start, in
/// PEFT's form; and in `plan.json` the rows and the learning rate of every step, and the classifier.
pub fn run(
    model: &Path,
    variant: &str,
    [rows, width]: [usize; 2],
    folder: &Path,
) -> Result<[f64; 3], Box<dyn Error>> {
    write_rows(width, folder)?;
    let device = Device::flex();
    let config = config(model, variant, [rows, width], folder);
    let model = Model::load(model, &device)?;
    let tokenizer = Path::new(&config.model.name).join("tokenizer.json");
    let task = Arc::new(LabelledText::load(&config.data, &tokenizer, width)?);
    let mut run = Run::new(&config, device, model, task.clone(), None)?;
    run.adapters().to_folder()?.save(folder.join("adapter"))?;
    write_plan(&run, &task, folder)?;
    let mut outcome = Ok(());
    let ms = time(|| outcome = run.train(&mut |_| {}, &|| false).map(drop));
    outcome?;
    let scores = run.evaluate_test()?;
    let tested = task.samples(Split::Test).unwrap_or(0);
    Ok([ms, scores.accuracy, tested as f64])
}

/// Long texts where the batch is wide, short ones else: about 512 training rows, 64 of long ones.
fn write_rows(width: usize, folder: &Path) -> Result<(), Box<dyn Error>> {
    let (task, rows_a_class) = match width > 64 {
        true => ("spam-assassin", 32),
        false => ("wordnet-nouns", 20),
    };
    let load = |split: &str, labels: Option<&[String]>| {
        let name = format!("{task}/{split}.jsonl.gz");
        let path = find_asset(name.as_ref()).ok_or(format!("no {name} among the assets"))?;
        Ok::<_, Box<dyn Error>>(Dataset::load(path, &Columns::default(), labels)?)
    };
    let train = load("train", None)?.few_shot(rows_a_class, 0);
    let mut test = load("test", Some(&train.labels))?;
    test.examples.truncate(TEST_TOKENS / width);
    for (name, data) in [("train", &train), ("test", &test)] {
        let line = |example: &coto_data::Example| {
            let label = &data.labels[example.label];
            format!("{}\n", json!({"text": example.text, "label": label}))
        };
        let text: String = data.examples.iter().map(line).collect();
        std::fs::write(folder.join(format!("{name}.jsonl")), text)?;
    }
    Ok(())
}

fn config(model: &Path, variant: &str, [rows, width]: [usize; 2], folder: &Path) -> RunConfig {
    let file = |split: &str| folder.join(format!("{split}.jsonl"));
    RunConfig {
        out: folder.join("run"),
        seed: 1,
        device: "cpu".to_owned(),
        model: ModelConfig {
            name: model.display().to_string(),
            quant: Default::default(),
            pooling: None,
        },
        data: DataConfig {
            train: file("train"),
            validation: None,
            test: Some(file("test")),
            max_tokens: width,
            few_shot: None,
            ..DataConfig::few_shot("", 0)
        },
        language: None,
        images: None,
        head: Default::default(),
        adapter: adapter_config(variant),
        players: Default::default(),
        schedule: ScheduleConfig {
            preset: Preset::None,
            ..Default::default()
        },
        optim: OptimConfig {
            steps: STEPS,
            batch_size: rows,
            lr: LEARNING_RATE,
            warmup: 2,
            decay: Decay::Linear,
            ..Default::default()
        },
        eval: EvalConfig {
            checkpoint_every: 0,
            ..Default::default()
        },
    }
}

fn write_plan(run: &Run, task: &LabelledText, folder: &Path) -> Result<(), Box<dyn Error>> {
    let config = run.config();
    let optim = &config.optim;
    let rate = Rate {
        peak: optim.lr,
        warmup: optim.warmup,
        steps: optim.steps,
        decay: optim.decay,
    };
    let epochs = (0..).flat_map(|epoch| task.epoch(optim.batch_size, config.seed, epoch));
    let batches: Vec<Vec<usize>> = epochs.take(STEPS).map(|rows| rows.concat()).collect();
    let Head { weight, bias } = run.readout().head().ok_or("a classifier")?.clone();
    let [weight, bias] = [weight, bias].map(|tensor| tensor.into_data().try_to_vec::<f32>());
    let plan = json!({
        "batches": batches,
        "rates": (0..STEPS).map(|step| rate.at(step)).collect::<Vec<_>>(),
        "labels": task.labels(),
        "weight": weight.map_err(|error| format!("{error:?}"))?,
        "bias": bias.map_err(|error| format!("{error:?}"))?,
        "max_tokens": config.data.max_tokens,
        "eval_rows": config.eval.batch_size,
    });
    std::fs::write(folder.join("plan.json"), plan.to_string())?;
    Ok(())
}
