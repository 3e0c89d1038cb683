//! Times the exact Shapley values of a run's players by the coalition tree, and by running the whole model for each coalition:
//!
//! `cargo run --release -p coto-analysis --example tree_time -- RUN SAMPLES [layer|module|kind]`

use std::time::Instant;

use coto_analysis::{AdapterGame, Evaluation, Margins, Value};
use coto_coalition::{Coalition, Grouping};
use coto_shapley::Shapley;
use coto_train::{Run, Split};

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn main() -> Outcome {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [folder, samples, rest @ ..] = args.as_slice() else {
        return Err("tree_time RUN SAMPLES [layer|module|kind]".into());
    };
    let grouping = match rest.first().map(String::as_str) {
        None | Some("layer") => Grouping::Layer,
        Some("module") => Grouping::Module,
        Some("kind") => Grouping::Kind,
        Some(other) => return Err(format!("`{other}` is none of layer, module, kind").into()),
    };
    let run = Run::finished(folder.as_ref(), None)?;
    let adapters = run.adapters().clone().regrouped(&grouping)?;
    let evaluation = Evaluation::new(&run, Split::Test)?.sampled(samples.parse()?, 0);
    let n = adapters.players().len();
    // The first pass through a model is slower than those after it.
    evaluation.whole(&adapters, Margins::Unwanted)?;

    let start = Instant::now();
    let mut game = AdapterGame::new(&evaluation, &adapters, Value::Loss);
    let shapley = Shapley::auto().budget(1 << n).run(&mut game)?;
    let tree = start.elapsed().as_secs_f64();
    let runs = game.runs();

    let start = Instant::now();
    let mut ends = Vec::new();
    for bits in 0..1 << n {
        let on = [Coalition::from_bits(n, bits)];
        let (means, _) = evaluation.means(&adapters, &on, Margins::Unwanted)?;
        ends.push(-means[0].loss);
    }
    let naive = start.elapsed().as_secs_f64();

    let total: f64 = shapley.values.iter().sum();
    assert!(
        (total - (ends[ends.len() - 1] - ends[0])).abs() < 1e-9,
        "one game"
    );
    println!(
        "{n} players, {} coalitions, {} samples: layer runs {} / {} = {:.3}; seconds {tree:.2} / {naive:.2} = {:.3}",
        1u64 << n,
        evaluation.samples(),
        runs.used,
        runs.naive,
        runs.used as f64 / runs.naive as f64,
        tree / naive
    );
    Ok(())
}
