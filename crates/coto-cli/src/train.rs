use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use coto_train::{Event, Outcome, PrefixUse, Run, RunConfig, Split};
use indicatif::{ProgressBar, ProgressStyle};

use crate::args::{RunArgs, TrainArgs};

/// The run file with what the command line sets in it.
pub fn config(args: &RunArgs) -> Result<RunConfig> {
    let mut config = RunConfig::load(&args.config, &args.set)?;
    if let Some(device) = &args.device {
        config.device.clone_from(device);
    }
    config.model.quant = args.base_quant.unwrap_or(config.model.quant);
    Ok(config)
}

pub fn run(args: &TrainArgs) -> Result<()> {
    let config = config(&args.run)?;
    if config.out.join("metrics.jsonl").exists() && !args.resume && !args.overwrite {
        return Err(coto_train::Error::Exists { path: config.out }.into());
    }
    let mut run = Run::prepare(&config)?;
    if args.resume && run.resume()? {
        eprintln!("resumed at step {}", run.step());
    }
    let plan = run.plan();
    eprintln!(
        "{} adapters of {} players, {} of {} parameters trained, {} rows, {}",
        plan.modules.len(),
        plan.players.len(),
        plan.trainable_parameters,
        plan.trainable_parameters + plan.frozen_parameters,
        plan.rows[0],
        config.device,
    );
    for remark in run.task().remarks() {
        eprintln!("note: {remark}");
    }
    let stop = Stop::on_interrupt()?;
    let mut bar = Bar::new("train", config.optim.steps, run.step());
    let outcome = run.train(&mut |event| bar.tell(event), &|| stop.asked())?;
    bar.finish();
    if outcome == Outcome::Stopped {
        bail!(
            "stopped at step {}; go on with: coto train {} --resume{}",
            run.step(),
            args.run.config.display(),
            args.run
                .set
                .iter()
                .map(|set| format!(" --set '{set}'"))
                .collect::<String>(),
        );
    }
    if config.optim.prefix_cache_mib > 0 {
        eprintln!("{}", told(run.prefix()));
    }
    eprintln!("adapter written to {}", run.path("adapter").display());
    if run.task().samples(Split::Test).is_some() {
        let scores = run.evaluate_test()?;
        save(&run.path("result.json"), &scores)?;
        print_scores(&scores, args.json)?;
    }
    Ok(())
}

/// What the cache of the frozen prefix was good for.
fn told(prefix: Option<PrefixUse>) -> String {
    match prefix {
        None => "prefix cache not used: too few steps begin above the first layer for a row to be met twice in them".to_owned(),
        Some(used) => format!(
            "prefix cache: {:.0} % of the layers below the lowest active one not run, {:.1} MiB at most",
            100.0 * used.saved as f64 / used.layers.max(1) as f64,
            used.most_bytes as f64 / f64::from(1 << 20),
        ),
    }
}

/// Ctrl-C as a wish to stop between two steps; a second one ends the program at once.
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    pub fn on_interrupt() -> Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        let set = flag.clone();
        ctrlc::set_handler(move || {
            if set.swap(true, Ordering::Relaxed) {
                std::process::exit(130);
            }
        })
        .context("cannot listen for Ctrl-C")?;
        Ok(Self(flag))
    }

    pub fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A progress bar with loss, speed and the time to come; on a terminal only.
pub struct Bar {
    bar: ProgressBar,
    loss: Option<f64>,
}

impl Bar {
    pub fn new(name: &str, steps: usize, done: usize) -> Self {
        let bar = if std::io::stderr().is_terminal() {
            ProgressBar::new(steps as u64)
        } else {
            ProgressBar::hidden()
        };
        let style = "{prefix:14} {bar:30} {pos}/{len} {msg} · {per_sec} · {eta} to go";
        bar.set_style(ProgressStyle::with_template(style).expect("a fixed template"));
        bar.set_prefix(name.to_owned());
        bar.set_position(done as u64);
        bar.reset_eta();
        Self { bar, loss: None }
    }

    pub fn tell(&mut self, event: &Event) {
        match event {
            Event::Step(step) => {
                let loss = f64::from(step.loss);
                let smooth = self.loss.map_or(loss, |old| 0.95 * old + 0.05 * loss);
                self.loss = Some(smooth);
                self.bar.set_message(format!("loss {smooth:.3}"));
                self.bar.inc(1);
            }
            Event::Eval(eval) => {
                let scores = &eval.scores;
                let line = format!(
                    "step {}: validation loss {:.4}, accuracy {:.4}",
                    eval.step, scores.loss, scores.accuracy
                );
                self.bar.suspend(|| eprintln!("{line}"));
            }
        }
    }

    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

pub fn print_scores(scores: &coto_train::Scores, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(scores)?);
    } else {
        let more = [
            ("perplexity", scores.perplexity),
            ("macro-F1", scores.macro_f1),
            ("Matthews", scores.matthews),
        ];
        let more = more
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        let more: String = more
            .map(|(name, value)| format!("  {name} {value:.4}"))
            .collect();
        println!(
            "loss {:.4}  accuracy {:.4}{more}",
            scores.loss, scores.accuracy
        );
    }
    Ok(())
}

/// Writes JSON beside its place and renames it into it.
pub fn save(path: &Path, value: &impl serde::Serialize) -> Result<()> {
    coto_train::write_atomic(path, &serde_json::to_vec_pretty(value)?)?;
    Ok(())
}
