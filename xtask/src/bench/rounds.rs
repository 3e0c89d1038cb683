//! One turn: the processes of a group live side by side, and are timed in alternating rounds.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, Result};
use coto_coalition::{Coalition, Module, Players};
use coto_schedule::{CoalitionSampler, Schedule, ScheduleConfig};

use super::found::{Found, Sides, Times};
use super::side::Side;
use super::{Group, Sources};

/// Of ours alone, for the breakdown: a plain step; one of a CoTo run; the same with a full cache of the frozen prefix; the same
/// with layer 0 on besides, so that everything goes back; the adapters that are off, and those above layer 0; the forward pass of what lies below the lowest.
pub const PLAIN: &str = "plain";
pub const COTO: &str = "coto";
pub const CACHED: &str = "cached";
pub const TO_THE_END: &str = "to_the_end";
pub const OFF: &str = "off";
pub const OFF_ABOVE: &str = "off_above";
pub const PREFIX: &str = "prefix";
/// Of ours alone, for the limit: GFLOP of a step, and GFLOP/s of a large product.
pub const FLOPS: &str = "flops";
pub const PEAK: &str = "peak";

/// The steps of the CoTo run that others are drawn from.
const COTO_STEPS: usize = 1000;

/// A side, and where its numbers go.
struct Timed {
    /// None: PyTorch.
    variant: Option<&'static str>,
    side: Side,
    times: Times,
}

impl Timed {
    /// Notes what was answered, if anything was.
    fn note(&mut self, measure: &'static str, value: Option<f64>) {
        if let Some(value) = value {
            self.times.entry(measure).or_default().push(value);
        }
    }
}

/// Times a group once, with fresh processes. Runs that should have come to the same are named among the faults.
pub fn turn(
    group: &Group,
    sources: &Sources,
    (turn, rounds): (usize, usize),
    wants: &dyn Fn(&str) -> bool,
    faults: &mut Vec<String>,
) -> Result<Found> {
    let variants = group.variants.iter().copied().map(Some);
    let mut sides = Vec::new();
    for variant in [None].into_iter().chain(variants) {
        sides.push(start(group, variant, sources, wants)?);
    }
    let layers = sides[0].side.number("layers")?.context("no layers")? as usize;
    let coalitions = draw(layers, group.coto_steps, turn);
    for round in 0..rounds {
        let part: Vec<&Coalition> = coalitions.iter().skip(round).step_by(rounds).collect();
        for timed in &mut sides {
            self::round(timed, round, &part, wants)?;
        }
    }
    for timed in &mut sides {
        // A mean over the run, for its steps are unlike each other; of none where only some could be made.
        let steps = timed.times.remove(COTO).unwrap_or_default();
        let mean = steps.iter().sum::<f64>() / steps.len() as f64;
        timed.note(
            "coto_run",
            Some(mean).filter(|_| steps.len() == coalitions.len()),
        );
        let memory = timed.side.number("memory")?;
        timed.note("peak_memory", memory.filter(|_| wants("peak_memory")));
    }
    let mut found = BTreeMap::<_, Sides>::new();
    let (peer, ours) = sides.split_first_mut().expect("the peer");
    for timed in ours.iter_mut() {
        let variant = timed.variant.expect("ours");
        let mut alone = Times::new();
        if wants("limit") {
            for name in [FLOPS, PEAK] {
                let answer = timed.side.number(name)?;
                answer.map(|answer| alone.insert(name, vec![answer]));
            }
        }
        if wants("breakdown") && variant == "lora" {
            breakdown(&mut timed.side, &coalitions, &mut alone)?;
        }
        if wants("finetune_run") && variant == group.peer {
            faults.extend(finetune(timed, peer)?);
        }
        let sides = found.entry(variant).or_default();
        (sides.ours, sides.alone) = (std::mem::take(&mut timed.times), alone);
    }
    found.entry(group.peer).or_default().peer = std::mem::take(&mut peer.times);
    Ok(Found::from([(group.shape.clone(), found)]))
}

/// Starts a side and lets it make its first step, a plain one.
fn start(
    group: &Group,
    variant: Option<&'static str>,
    sources: &Sources,
    wants: &dyn Fn(&str) -> bool,
) -> Result<Timed> {
    let mut command = match variant {
        Some(_) => Command::new(&sources.ours),
        None => sources.peer(),
    };
    command.arg(&group.model);
    command.args([variant.unwrap_or(group.peer), &group.shape]);
    let mut side = Side::start(&mut command)?;
    let layers = side.number("layers")?.context("no layers")?;
    side.ask(&step(&Coalition::grand(layers as usize)))?;
    let startup = Some(side.age());
    let times = Times::new();
    let mut timed = Timed {
        variant,
        side,
        times,
    };
    timed.note("startup", startup.filter(|_| wants("startup")));
    Ok(timed)
}

/// The coalitions of a CoTo run, `count` of them spread evenly over its schedule, the paper's.
fn draw(layers: usize, count: usize, seed: usize) -> Vec<Coalition> {
    let modules = (0..layers).map(|layer| Module::new(format!("layer.{layer}"), Some(layer), ""));
    let players = Players::per_layer(&modules.collect::<Vec<_>>());
    let schedule = Schedule::new(&ScheduleConfig::default(), COTO_STEPS).expect("steps");
    let sampler = CoalitionSampler::new(schedule, &players, seed as u64);
    let at = |k| (2 * k + 1) * COTO_STEPS / (2 * count);
    (0..count).map(|k| sampler.draw(at(k))).collect()
}

fn step(on: &Coalition) -> String {
    format!("step {}", layers(on))
}

fn layers(on: &Coalition) -> String {
    let layers: Vec<String> = on.iter().map(|layer| layer.to_string()).collect();
    layers.join(" ")
}

/// Every measure once, and some steps of the CoTo run.
fn round(
    timed: &mut Timed,
    round: usize,
    coalitions: &[&Coalition],
    wants: &dyn Fn(&str) -> bool,
) -> Result<()> {
    let n = timed.side.number("layers")?.context("no layers")? as usize;
    let some = n.div_ceil(4);
    let quarter = Coalition::from_players(n, (0..some).map(|k| (round + k * n / some) % n));
    let all = step(&Coalition::grand(n));
    // Not noted: the caches are the other side's.
    timed.side.ask("forward")?;
    for (measure, question) in [
        ("forward", "forward"),
        ("step_all", &all),
        ("step_quarter", &step(&quarter)),
    ] {
        if wants(measure) {
            let ms = timed.side.number(question)?;
            timed.note(measure, ms);
        }
    }
    for on in coalitions.iter().filter(|_| wants("coto_run")) {
        let ms = timed.side.number(&step(on))?;
        timed.note(COTO, ms);
    }
    Ok(())
}

/// Each step of the CoTo run beside a plain one, and with what the plain one does not leave out.
fn breakdown(side: &mut Side, coalitions: &[Coalition], times: &mut Times) -> Result<()> {
    for (k, on) in coalitions.iter().enumerate() {
        let n = on.players();
        let lowest = on.iter().next().unwrap_or(n);
        let off = (n - on.len()) as f64;
        let mut note = |name, value| times.entry(name).or_default().extend(value);
        let cached = format!("cached {}", layers(on));
        // Not noted: it fills the cache.
        side.ask(&cached)?;
        let mut steps = [
            (PLAIN, step(&Coalition::grand(n))),
            (COTO, step(on)),
            (CACHED, cached),
            (TO_THE_END, step(&on.with(0))),
        ];
        // None is always the first.
        steps.rotate_left(k % 4);
        for (name, question) in steps {
            note(name, side.number(&question)?);
        }
        let prefix = match lowest {
            0 => Some(0.0),
            layers => side.number(&format!("prefix {layers}"))?,
        };
        note(PREFIX, prefix);
        note(OFF, Some(off));
        note(OFF_ABOVE, Some(if lowest > 0 { off - 1.0 } else { off }));
    }
    Ok(())
}

/// The same run on both sides, ours first: it writes what the other needs. Says so where the accuracies differ by more than the
/// standard error that one of them has on that many rows.
fn finetune(ours: &mut Timed, peer: &mut Timed) -> Result<Option<String>> {
    let folder = tempfile::tempdir().context("no temporary folder")?;
    let question = format!("finetune {}", folder.path().display());
    let (mut accuracies, mut rows) = (Vec::new(), 0.0);
    for timed in [ours, peer] {
        let [ms, accuracy, tested] = timed.side.ask(&question)?[..] else {
            return Ok(None);
        };
        timed.note("finetune_run", Some(ms));
        timed.note("finetune_accuracy", Some(accuracy));
        accuracies.push(accuracy);
        rows = tested;
    }
    let (a, b) = (accuracies[0], accuracies[1]);
    let mean = (a + b) / 2.0;
    let noise = (mean * (1.0 - mean) / rows).sqrt().max(2.0 / rows);
    let fault =
        || format!("the same run has an accuracy of {a} here and {b} there, on {rows} rows");
    Ok(((a - b).abs() > noise).then(fault))
}
