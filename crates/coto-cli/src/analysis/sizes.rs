//! The verbs that look at coalitions by their size.

use std::time::Instant;

use anyhow::{Result, bail};
use coto_analysis::SizedLosses;
use serde_json::json;

use super::{BoundArgs, StabilityArgs, Subject, bar, merged, print_cost, publish, show};

pub fn stability(args: &StabilityArgs) -> Result<()> {
    let judging = &args.judging;
    let subject = Subject::open(&[&args.folder], &judging.setting)?;
    let adapters = subject.grouped(args.per.as_ref())?;
    let bar = bar("stability");
    let shown = show(&bar);
    let evaluation = subject.evaluation(judging)?.watched(&shown);
    let start = Instant::now();
    let (sizes, runs) = coto_analysis::stability(&evaluation, &adapters, args.most, judging.seed)?;
    bar.finish_and_clear();
    let result = merged(
        subject.judged("stability", &evaluation, judging),
        json!({
            "players": adapters.players().names(),
            "sizes": sizes,
            "layer_runs": runs,
            "seconds": start.elapsed().as_secs_f64(),
        }),
    );
    let print = || {
        println!(
            "{:>6} {:>10}  {:^18}  {:^18}",
            "active", "coalitions", "loss", "accuracy"
        );
        for size in &sizes {
            let (loss, accuracy) = (size.loss, size.accuracy);
            println!(
                "{:>6} {:>10}  {:>8.4} ± {:<7.4}  {:>8.4} ± {:<7.4}",
                size.active,
                size.coalitions,
                loss.mean,
                loss.deviation,
                accuracy.mean,
                accuracy.deviation
            );
        }
        print_cost(&result);
    };
    publish(&args.folder, "stability", &judging.setting, &result, print)
}

pub fn bound(args: &BoundArgs) -> Result<()> {
    if args.steps == 0 {
        bail!("--steps 0: at least 1");
    }
    let judging = &args.judging;
    let subject = Subject::open(&[&args.folder], &judging.setting)?;
    let adapters = subject.grouped(args.per.as_ref())?;
    let bar = bar("bound");
    let shown = show(&bar);
    let evaluation = subject.evaluation(judging)?.watched(&shown);
    let start = Instant::now();
    let (losses, runs) = SizedLosses::measure(&evaluation, &adapters, args.most, judging.seed)?;
    bar.finish_and_clear();
    let rate = |step| step as f64 / args.steps as f64;
    let sides: Vec<_> = (0..=args.steps)
        .map(|step| losses.sides(rate(step)))
        .collect();
    let result = merged(
        subject.judged("bound", &evaluation, judging),
        json!({
            "players": adapters.players().names(),
            "sides": sides,
            "layer_runs": runs,
            "seconds": start.elapsed().as_secs_f64(),
        }),
    );
    let print = || {
        println!(
            "{:>5}  {:^20}  {:^20}  {:^20}",
            "p", "E[loss]", "loss of means", "gap"
        );
        for side in &sides {
            let cells = [side.expected_loss, side.loss_of_means, side.gap];
            let cells = cells.map(|m| format!("{:>9.5} ± {:<8.5}", m.mean, m.standard_error));
            println!("{:>5.2}  {}", side.p, cells.join("  "));
        }
        print_cost(&result);
    };
    publish(&args.folder, "bound", &judging.setting, &result, print)
}
