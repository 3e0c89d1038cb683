use std::hash::{DefaultHasher, Hasher};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use coto_analysis::{AdapterGame, Evaluation, Share};
use coto_analysis::{evenness, layer_shares, shares};
use coto_coalition::Coalition;
use coto_shapley::{MOST_PLAYERS, Memo, Shapley};
use serde_json::{Value, json};

use super::{ShapleyArgs, Subject, bar, merged, print_cost, publish, show, target};

/// The most coalitions whose values are lost with a kill.
const STRIDE: usize = 64;

pub fn run(args: &ShapleyArgs) -> Result<()> {
    let judging = &args.judging;
    let subject = Subject::open(&[&args.folder], &judging.setting)?;
    let adapters = subject.grouped(args.per.as_ref())?;
    let bar = bar("shapley");
    let shown = show(&bar);
    let evaluation = subject.evaluation(judging)?.watched(&shown);
    let mut game = AdapterGame::new(&evaluation, &adapters, args.value);
    let n = adapters.players().len();
    let record = record(args, &subject, &evaluation, adapters.players().names())?;
    let start = Instant::now();
    let (estimate, ends, values) = {
        let mut memo = match &record {
            Some(path) => Memo::open(&mut game, path)?.batch(STRIDE),
            None => Memo::new(&mut game)?.batch(args.budget.max(1)),
        };
        let mut how = Shapley::new(args.method)
            .budget(args.budget)
            .seed(judging.seed);
        if let Some(precision) = args.precision {
            how = how.precision(precision);
        }
        let estimate = how.run_over(&mut memo)?;
        let ends = memo.values(&[Coalition::empty(n), Coalition::grand(n)])?;
        let values = match args.values {
            true => Some(all_values(&mut memo)?),
            false => None,
        };
        (estimate, ends, values)
    };
    bar.finish_and_clear();

    let shares = shares(&adapters, &estimate);
    let layers = layer_shares(&shares);
    let mut result = merged(
        subject.judged("shapley", &evaluation, judging),
        json!({
            "value": args.value,
            "empty": ends[0],
            "grand": ends[1],
            "method": estimate.method,
            "exact": estimate.exact,
            "evaluations": estimate.evaluations,
            "efficiency_residual": estimate.efficiency_residual,
            "players": shares,
            "layers": layers,
            "evenness": evenness(&layers),
            "layer_runs": game.runs(),
            "seconds": start.elapsed().as_secs_f64(),
        }),
    );
    if let Some(values) = values {
        result["values"] = json!(values);
    }
    let print = || print(&result, &shares);
    publish(&args.folder, "shapley", &judging.setting, &result, print)
}

/// The file of values to go on from, named after all that the values depend on.
fn record(
    args: &ShapleyArgs,
    subject: &Subject,
    evaluation: &Evaluation,
    players: &[String],
) -> Result<Option<PathBuf>> {
    if !args.resume {
        return Ok(None);
    }
    let weights = subject.places[0].adapter.join("adapter_model.safetensors");
    let weights = std::fs::read(&weights).with_context(|| weights.display().to_string())?;
    let identity = json!([
        subject.run.config(),
        players,
        args.value,
        evaluation.split(),
        evaluation.samples(),
        args.judging.seed,
    ]);
    let mut hasher = DefaultHasher::new();
    hasher.write(&weights);
    hasher.write(identity.to_string().as_bytes());
    let result = target(&args.folder, "shapley", &args.judging.setting);
    let name = format!("{:016x}.values.jsonl", hasher.finish());
    Ok(Some(result.with_extension(name)))
}

/// v of every coalition, at the place whose bits are its players.
fn all_values(memo: &mut Memo<&mut AdapterGame>) -> Result<Vec<f64>> {
    let n = memo.players();
    if n > MOST_PLAYERS || memo.known() < 1 << n {
        bail!(
            "--values: {} coalitions of {n} players were evaluated, not all; raise --budget",
            memo.known()
        );
    }
    let all: Vec<Coalition> = (0..1 << n)
        .map(|bits| Coalition::from_bits(n, bits))
        .collect();
    Ok(memo.values(&all)?)
}

fn print(result: &Value, shares: &[Share]) {
    println!(
        "{} of {} coalitions, {}; without adapters {:.4}, with all {:.4}",
        result["value"].as_str().unwrap_or(""),
        result["evaluations"],
        result["method"].as_str().unwrap_or(""),
        result["empty"].as_f64().unwrap_or(f64::NAN),
        result["grand"].as_f64().unwrap_or(f64::NAN),
    );
    for share in shares {
        let (low, high) = share.interval;
        let interval = match share.standard_error > 0.0 {
            true => format!("  [{low:.5}, {high:.5}]"),
            false => String::new(),
        };
        println!("{:48} {:>10.5}{interval}", share.player, share.value);
    }
    if let Some(evenness) = result["evenness"].as_object() {
        let [variation, entropy, upper] = ["variation", "entropy", "upper_third"]
            .map(|key| evenness[key].as_f64().unwrap_or(f64::NAN));
        println!(
            "across layers: coefficient of variation {variation:.3}, entropy {entropy:.3} of 1, upper third {:.1} % of all",
            100.0 * upper
        );
    }
    print_cost(result);
}
