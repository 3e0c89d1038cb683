//! The verbs that answer a question.

use std::path::Path;

use anyhow::{Context, Result, bail};
use coto_adapters::{Base, Pass};
use coto_coalition::Coalition;
use coto_data::{LanguageTokenizer, MultipleChoice, Question, QuestionColumns};
use coto_models::{Model, locate};
use coto_peft::{Config, Folder, HostTensor, Targets};
use coto_train::{ChoiceScores, Run, exact_match, multiple_choice};
use regex::Regex;
use serde_json::{Value, json};

use crate::args::{EvalArgs, RunArgs};
use crate::train::{config, print_scores};

pub fn validate(args: &RunArgs, as_json: bool) -> Result<()> {
    let config = config(args)?;
    let plan = Run::prepare(&config)?.plan();
    if as_json {
        println!("{}", serde_json::to_string_pretty(&plan)?);
        return Ok(());
    }
    let adapter = &config.adapter;
    println!(
        "variant      {}, rank {}, alpha {}",
        adapter.variant, adapter.rank, adapter.alpha
    );
    println!("modules      {}", plan.modules.len());
    println!(
        "players      {}: {}",
        plan.players.len(),
        plan.players.join(", ")
    );
    println!("trained      {} parameters", plan.trainable_parameters);
    println!("frozen       {} parameters", plan.frozen_parameters);
    println!(
        "base         {:?}, {:.1} MB; adapters in f32",
        config.model.quant,
        plan.base_bytes as f64 / 1e6
    );
    if !plan.labels.is_empty() {
        println!(
            "classes      {}: {}",
            plan.labels.len(),
            plan.labels.join(", ")
        );
    }
    let [train, validation, test] = plan.rows;
    println!("rows         {train} training, {validation} validation, {test} test");
    println!(
        "steps        {} of {} rows, {:.1} epochs",
        config.optim.steps,
        config.optim.batch_size * config.optim.accumulation,
        plan.epochs
    );
    println!(
        "adapter cost {:.0} % of plain training's, on average over the run",
        100.0 * plan.expected_activity
    );
    println!(
        "memory       {:.1} MB of weights, gradients and moments; activations come on top",
        plan.memory_bytes as f64 / 1e6
    );
    println!("device       {}", config.device);
    Ok(())
}

pub fn eval(args: &EvalArgs) -> Result<()> {
    let run = Run::finished(&args.folder, args.device.as_deref())?;
    let players = run.adapters().players().len();
    let coalition = match &args.coalition {
        None => run.adapters().grand(),
        Some(text) => text.parse::<Coalition>()?,
    };
    if coalition.players() != players {
        bail!(
            "coalition `{coalition}` has {} players, the adapter has {players}",
            coalition.players()
        );
    }
    let pass = Pass::new(run.adapters(), &coalition);
    if args.choices.is_some() || args.questions.is_some() {
        return answers(args, &run, &pass);
    }
    print_scores(&run.evaluate(args.split.into(), &pass)?, args.json)
}

/// Multiple choice and questions, of a decoder.
fn answers(args: &EvalArgs, run: &Run, pass: &Pass) -> Result<()> {
    let Model::Llama(decoder) = run.model() else {
        bail!(
            "the run's model is {}, and only decoders answer",
            run.model().family()
        )
    };
    let tokenizer = LanguageTokenizer::load(locate(run.config().model.name.as_ref())?)?;
    let columns = QuestionColumns::default();
    if let Some(path) = &args.choices {
        let items = MultipleChoice::load(path, &columns)?;
        let scores = multiple_choice(decoder, &tokenizer, pass, &items, &args.delimiter)?;
        if args.json {
            println!("{}", serde_json::to_string_pretty(&scores)?);
        } else {
            let ChoiceScores {
                accuracy,
                accuracy_normalised,
                questions,
                ..
            } = scores;
            println!(
                "accuracy {accuracy:.4}  by length {accuracy_normalised:.4}  questions {questions}"
            );
        }
    }
    if let Some(path) = &args.questions {
        let items = Question::load(path, &columns)?;
        let pattern = args.pattern.as_deref().map(Regex::new).transpose()?;
        let limit = args.max_tokens;
        let scores = exact_match(decoder, &tokenizer, pass, &items, pattern.as_ref(), limit)?;
        if args.json {
            println!("{}", serde_json::to_string_pretty(&scores)?);
        } else {
            println!(
                "exact match {:.4}  questions {}",
                scores.exact_match, scores.questions
            );
        }
    }
    Ok(())
}

pub fn targets(model: &str, targets: &[String], as_json: bool) -> Result<()> {
    let model = Model::load(model, &coto_models::parse_device("cpu")?)?;
    let paths: Vec<&str> = model
        .modules()
        .iter()
        .map(|module| module.path.as_str())
        .collect();
    let chosen = match targets {
        [] => (0..paths.len()).collect(),
        [one] if one == "all-linear" || one.contains(['*', '(', '\\', '|', '^', '$']) => {
            Config::lora(8, 8.0)
                .targets(Targets::from(one.as_str()))
                .resolve_targets(&paths)?
        }
        names => Config::lora(8, 8.0)
            .targets(names.to_vec())
            .resolve_targets(&paths)?,
    };
    let rows = chosen
        .iter()
        .map(|&i| (&model.modules()[i], model.linear(i).dims()));
    if as_json {
        let rows: Vec<Value> = rows
            .map(|(m, [i, o])| json!({"path": m.path, "layer": m.layer, "kind": m.kind, "in": i, "out": o}))
            .collect();
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        rows.for_each(|(m, [i, o])| println!("{:48} {i:>6} → {o:<6} {}", m.path, m.kind));
    }
    Ok(())
}

pub fn inspect(folder: &Path, as_json: bool) -> Result<()> {
    let folder = Folder::load(folder).with_context(|| format!("{}", folder.display()))?;
    let modules = folder.modules()?;
    let config = &folder.config;
    let mut rows = Vec::new();
    let mut parameters = 0;
    for (path, params) in &modules {
        parameters += params
            .values()
            .map(|t| t.shape.iter().product::<usize>())
            .sum::<usize>();
        let mut factors = params.values();
        let (a, b) = (factors.next(), factors.next());
        let (Some(a), Some(b)) = (a, b) else { continue };
        let norm = config.scaling(path)? * product_norm(a, b)?;
        rows.push(json!({"module": path, "rank": a.shape[0], "in": a.shape[1], "out": b.shape[0], "scale": config.scaling(path)?, "norm": norm}));
    }
    let variant = match (config.peft_type.name(), config.use_dora, config.use_rslora) {
        ("LORA", true, _) => "dora",
        ("LORA", _, true) => "rslora",
        ("LORA", ..) => "lora",
        (other, ..) => other,
    };
    if as_json {
        let whole = json!({"variant": variant, "base": config.base_model_name_or_path, "parameters": parameters, "modules": rows, "coto": folder.side});
        println!("{}", serde_json::to_string_pretty(&whole)?);
        return Ok(());
    }
    println!(
        "{variant} on {}, {parameters} parameters",
        config
            .base_model_name_or_path
            .as_deref()
            .unwrap_or("an unnamed base")
    );
    if let Some(summary) = folder
        .side
        .as_ref()
        .and_then(|side| side["summary"].as_str())
    {
        println!("{summary}");
    }
    println!(
        "{:48} {:>4} {:>14} {:>7} {:>10}",
        "module", "rank", "in → out", "scale", "‖s·BA‖"
    );
    for row in &rows {
        let dims = format!("{} → {}", row["in"], row["out"]);
        let [scale, norm] = [&row["scale"], &row["norm"]].map(|v| v.as_f64().unwrap_or(f64::NAN));
        println!(
            "{:48} {:>4} {dims:>14} {scale:>7.3} {norm:>10.4}",
            row["module"].as_str().unwrap_or(""),
            row["rank"]
        );
    }
    Ok(())
}

/// ‖B A‖_F = √tr((BᵀB)(AAᵀ)), at the cost of the factors; A [r, in], B [out, r].
fn product_norm(a: &HostTensor, b: &HostTensor) -> Result<f64> {
    let (r, inputs) = (a.shape[0], a.shape[1]);
    let (a, b) = (a.to_f32()?, b.to_f32()?);
    let mut sum = 0.0;
    for i in 0..r {
        for j in 0..r {
            let rows = |k: usize| &a[k * inputs..(k + 1) * inputs];
            let aa: f64 = rows(i)
                .iter()
                .zip(rows(j))
                .map(|(x, y)| f64::from(x * y))
                .sum();
            let bb: f64 = b
                .chunks_exact(r)
                .map(|row| f64::from(row[i] * row[j]))
                .sum();
            sum += aa * bb;
        }
    }
    Ok(sum.max(0.0).sqrt())
}

pub fn report(folder: &Path) -> Result<()> {
    let page = if folder.is_file() {
        coto_report::result(folder)?
    } else if folder.join("summary.json").exists() {
        coto_report::demo(folder)?
    } else if !folder.join("metrics.jsonl").exists() && coto_report::has_results(folder) {
        coto_report::gather(folder)?
    } else {
        coto_report::run(folder)?
    };
    println!("{}", page.display());
    Ok(())
}
