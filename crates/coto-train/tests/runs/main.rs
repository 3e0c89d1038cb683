//! The harness on a tiny model: what is trained, what is left alone, what a resumed run repeats.

mod fixture;
mod language;
mod prefix;
mod vision;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use burn::tensor::{Device, Tensor};
use coto_train::{Checkpoint, Error, Event, Outcome, Run, RunConfig};
use tempfile::TempDir;

fn scene() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fixture::write(dir.path());
    dir
}

fn config(dir: &TempDir, set: &[&str]) -> RunConfig {
    let set: Vec<String> = set.iter().map(|&s| s.to_owned()).collect();
    RunConfig::load(&dir.path().join("run.toml"), &set).unwrap()
}

/// Trains on until `steps` steps are done in all, and collects the events.
fn go(run: &mut Run, steps: usize) -> (Outcome, Vec<Event>) {
    let (done, mut events) = (Cell::new(run.step()), Vec::new());
    let mut on = |event: &Event| {
        if let Event::Step(step) = event {
            done.set(step.step + 1);
        }
        events.push(event.clone());
    };
    let outcome = run.train(&mut on, &|| done.get() >= steps).unwrap();
    (outcome, events)
}

fn checkpoint(dir: &Path) -> Checkpoint {
    Checkpoint::load(&dir.join("checkpoint.safetensors"), &Device::flex()).unwrap()
}

fn values(tensor: &Tensor<2>) -> Vec<u32> {
    let data = tensor.clone().into_data();
    data.as_slice::<f32>()
        .unwrap()
        .iter()
        .map(|v| v.to_bits())
        .collect()
}

fn losses(events: &[Event]) -> Vec<(usize, u32, String)> {
    let step = |event: &Event| match event {
        Event::Step(s) => Some((s.step, s.loss.to_bits(), s.active.clone())),
        Event::Eval(_) => None,
    };
    events.iter().filter_map(step).collect()
}

#[test]
fn a_resumed_run_ends_with_the_bits_of_an_uninterrupted_one() {
    let (a, b) = (scene(), scene());
    let set = ["eval.patience=50"];
    let mut whole = Run::prepare(&config(&a, &set)).unwrap();
    let (outcome, expected) = go(&mut whole, usize::MAX);
    assert_eq!(outcome, Outcome::Finished);

    let mut events = Vec::new();
    for stop in [5, 13, 14, usize::MAX] {
        let mut part = Run::prepare(&config(&b, &set)).unwrap();
        assert_eq!(part.resume().unwrap(), stop != 5);
        events.extend(go(&mut part, stop).1);
    }
    assert_eq!(losses(&events), losses(&expected));
    for file in [
        "out/adapter/adapter_model.safetensors",
        "out/head.safetensors",
    ] {
        let bytes = |dir: &TempDir| fs::read(dir.path().join(file)).unwrap();
        assert!(bytes(&a) == bytes(&b), "{file}");
    }
    let lines = |dir: &TempDir| {
        fs::read_to_string(dir.path().join("out/metrics.jsonl"))
            .unwrap()
            .lines()
            .count()
    };
    assert_eq!(lines(&a), lines(&b));
}

#[test]
fn an_adapter_that_is_off_keeps_its_weights_and_moments() {
    let dir = scene();
    let mut run = Run::prepare(&config(
        &dir,
        &["schedule.preset=stochastic-depth", "schedule.p1=0.5"],
    ))
    .unwrap();
    let state = |run: &mut Run, step: usize| {
        let (_, events) = go(run, step);
        (checkpoint(&dir.path().join("out")), losses(&events))
    };
    let (mut before, _) = state(&mut run, 6);
    let (mut seen_off, mut seen_on) = (0, 0);
    for step in 7..16 {
        let (after, events) = state(&mut run, step);
        let active: Vec<bool> = events[0].2.chars().map(|bit| bit == '1').collect();
        for (name, tensor) in &after.tensors {
            if name.starts_with("head")
                || name.starts_with("m1/head")
                || name.starts_with("m2/head")
            {
                continue;
            }
            let layer = usize::from(name.contains("layer.1."));
            let same = before.tensors.get(name).map(values) == Some(values(tensor));
            assert_eq!(
                same, !active[layer],
                "{name} at step {step}, players {active:?}"
            );
            *if active[layer] {
                &mut seen_on
            } else {
                &mut seen_off
            } += 1;
        }
        before = after;
    }
    assert!(seen_off > 0 && seen_on > 0, "both cases came up");
}

#[test]
fn moments_count_the_steps_in_which_their_player_was_on() {
    let dir = scene();
    let mut run = Run::prepare(&config(&dir, &[])).unwrap();
    let (_, events) = go(&mut run, usize::MAX);
    let mut on = [0, 0];
    for (_, _, active) in losses(&events) {
        active
            .bytes()
            .enumerate()
            .for_each(|(i, bit)| on[i] += usize::from(bit == b'1'));
    }
    assert!(
        on[0] < 30 || on[1] < 30,
        "the schedule switched something off"
    );
    let times: BTreeMap<String, usize> = checkpoint(&dir.path().join("out")).state.times;
    assert_eq!(times.len(), 2 * 6 * 2 + 2);
    for (name, time) in times {
        let expected = if name.starts_with("head") {
            30
        } else {
            on[usize::from(name.contains("layer.1."))]
        };
        assert_eq!(time, expected, "{name}");
    }
}

#[test]
fn eight_small_batches_accumulated_are_one_large_batch() {
    let finals = ["1 8", "8 1"].map(|sizes| {
        let (batch, accumulation) = sizes.split_once(' ').unwrap();
        let (batch, accumulation) = (
            format!("optim.batch_size={batch}"),
            format!("optim.accumulation={accumulation}"),
        );
        let set = [
            batch.as_str(),
            &accumulation,
            "adapter.dropout=0.0",
            "optim.steps=6",
            // A small rate: AdamW's quotient makes much of the last bits of a gradient near zero.
            "optim.lr=1e-3",
        ];
        let dir = scene();
        // Eight rows in all, so that every step sees the same ones however they are cut.
        let train = dir.path().join("train.jsonl");
        let rows = fs::read_to_string(&train).unwrap();
        let rows: Vec<&str> = rows.lines().step_by(6).collect();
        assert_eq!(rows.len(), 8);
        fs::write(&train, rows.join("\n")).unwrap();
        let mut run = Run::prepare(&config(&dir, &set)).unwrap();
        let (_, events) = go(&mut run, usize::MAX);
        (losses(&events), checkpoint(&dir.path().join("out")).tensors)
    });
    let [(one, a), (eight, b)] = finals;
    for (one, eight) in one.iter().zip(&eight) {
        let [x, y] = [one.1, eight.1].map(f32::from_bits);
        assert!((x - y).abs() < 1e-5, "step {}: {x} {y}", one.0);
    }
    assert_eq!(a.len(), b.len());
    for (name, a) in a {
        let worst: f32 = (a - b[&name].clone()).abs().max().into_scalar();
        assert!(worst < 1e-4, "{name}: {worst:e}");
    }
}

#[test]
fn dropout_changes_training_and_not_evaluation() {
    let run = |set: &[&str]| {
        let dir = scene();
        let mut run = Run::prepare(&config(&dir, set)).unwrap();
        let before = run.evaluate_test().unwrap();
        let (_, events) = go(&mut run, 4);
        (before, losses(&events))
    };
    let (with, without) = (run(&["adapter.dropout=0.5"]), run(&["adapter.dropout=0.0"]));
    assert_eq!(with.0, without.0);
    assert_ne!(with.1[3].1, without.1[3].1);
    assert_eq!(
        with,
        run(&["adapter.dropout=0.5"]),
        "the same seed draws the same masks"
    );
}

#[test]
fn training_lowers_the_loss_and_a_probe_stays_as_it_was_fitted() {
    let dir = scene();
    let set = [
        "head.kind=probe",
        "schedule.preset=none",
        "optim.steps=60",
        "adapter.dropout=0.0",
    ];
    let mut run = Run::prepare(&config(&dir, &set)).unwrap();
    let head = values(&run.readout().head().unwrap().weight);
    let (_, events) = go(&mut run, usize::MAX);
    let mean = |losses: &[(usize, u32, String)]| {
        losses.iter().map(|l| f32::from_bits(l.1)).sum::<f32>() / losses.len() as f32
    };
    let losses = losses(&events);
    assert!(
        mean(&losses[50..]) < 0.5 * mean(&losses[..10]),
        "{losses:?}"
    );
    assert_eq!(head, values(&run.readout().head().unwrap().weight));
}

#[test]
fn every_variant_trains_and_its_folder_evaluates_as_the_run_did() {
    for (variant, init) in [
        ("rslora", "kaiming"),
        ("dora", "gaussian"),
        ("hira", "kaiming"),
        ("lora", "pissa"),
        ("lora", "olora"),
        ("lora", "orthogonal"),
    ] {
        let dir = scene();
        let set = [
            &*format!("adapter.variant={variant}"),
            &*format!("adapter.init={init}"),
            "optim.lr=2e-3",
        ];
        let mut run = Run::prepare(&config(&dir, &set)).unwrap();
        go(&mut run, usize::MAX);
        let trained = run.evaluate_test().unwrap();
        run.load_result().unwrap();
        let loaded = run.evaluate_test().unwrap();
        assert!(
            (trained.loss - loaded.loss).abs() < 1e-5,
            "{variant} {init}: {trained:?} {loaded:?}"
        );
    }
}

#[test]
fn a_decoder_trains_as_an_encoder_does() {
    let dir = scene();
    fixture::put(dir.path(), "llama3");
    let set = ["head.kind=probe", "optim.lr=2e-2"];
    let mut run = Run::prepare(&config(&dir, &set)).unwrap();
    let (outcome, events) = go(&mut run, usize::MAX);
    assert_eq!(outcome, Outcome::Finished);
    let losses: Vec<f32> = losses(&events)
        .iter()
        .map(|(_, loss, _)| f32::from_bits(*loss))
        .collect();
    let mean = |losses: &[f32]| losses.iter().sum::<f32>() / losses.len() as f32;
    assert!(
        mean(&losses[20..]) < 0.9 * mean(&losses[..10]),
        "{losses:?}"
    );
    let folder = coto_peft::Folder::load(dir.path().join("out/adapter")).unwrap();
    let modules = folder.modules().unwrap();
    assert_eq!(modules.len(), 2 * 7);
    assert!(modules.keys().all(|path| path.starts_with("model.layers.")));

    let refused = Run::prepare(&config(&dir, &["model.pooling=mean", "out=other"]));
    let message = refused.err().unwrap().to_string();
    assert!(message.contains("a decoder has `last`"), "{message}");
}

#[test]
fn early_stopping_keeps_the_best_adapters() {
    let dir = scene();
    let set = [
        "eval.every=1",
        "eval.patience=3",
        "optim.lr=0.3",
        "optim.steps=200",
        "optim.decay=constant",
    ];
    let mut run = Run::prepare(&config(&dir, &set)).unwrap();
    let (outcome, events) = go(&mut run, usize::MAX);
    assert_eq!(outcome, Outcome::Finished);
    let losses: Vec<f64> = events
        .iter()
        .filter_map(|event| match event {
            Event::Eval(eval) => Some(eval.scores.loss),
            Event::Step(_) => None,
        })
        .collect();
    assert!(losses.len() < 200, "it stopped early");
    let best = losses.iter().copied().fold(f64::INFINITY, f64::min);
    assert_eq!(losses[losses.len() - 4], best);
}

#[test]
fn a_loss_that_is_no_number_stops_the_run_and_names_the_place() {
    let dir = scene();
    let set = ["optim.lr=1e30", "optim.warmup=0", "optim.clip=0.0"];
    let mut run = Run::prepare(&config(&dir, &set)).unwrap();
    let error = run.train(&mut |_| {}, &|| false).unwrap_err();
    assert!(matches!(error, Error::NonFinite { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("step") && text.contains("rows [") && text.contains("coalition"),
        "{text}"
    );
    assert!(!dir.path().join("out/adapter").exists());
}

#[test]
fn a_checkpoint_of_another_run_is_refused() {
    let dir = scene();
    go(&mut Run::prepare(&config(&dir, &[])).unwrap(), 5);
    let mut other = Run::prepare(&config(&dir, &["optim.lr=0.5"])).unwrap();
    let error = other.resume().unwrap_err().to_string();
    assert!(error.contains("optim.lr"), "{error}");
    let rows = fs::read_to_string(dir.path().join("train.jsonl")).unwrap();
    fs::write(
        dir.path().join("train.jsonl"),
        rows.replacen("w1 ", "w2 ", 1),
    )
    .unwrap();
    let error = Run::prepare(&config(&dir, &[]))
        .unwrap()
        .resume()
        .unwrap_err()
        .to_string();
    assert!(error.contains("training data"), "{error}");
}

/// Only where there is a second device; `cargo xtask wgpu` sees to that.
#[cfg(feature = "wgpu")]
#[test]
fn a_scheduled_run_goes_on_wgpu_as_it_does_on_the_cpu() {
    let runs = ["cpu", "wgpu"].map(|device| {
        let dir = scene();
        let set = format!("device=\"{device}\"");
        let mut run = Run::prepare(&config(&dir, &[&set, "optim.steps=12"])).unwrap();
        let (outcome, events) = go(&mut run, 12);
        assert_eq!(outcome, Outcome::Finished);
        events
    });
    let mut coalitions = std::collections::BTreeSet::new();
    let mut steps = 0;
    for (cpu, wgpu) in runs[0].iter().zip(&runs[1]) {
        let (Event::Step(cpu), Event::Step(wgpu)) = (cpu, wgpu) else {
            continue;
        };
        assert_eq!(cpu.active, wgpu.active);
        let worst = (cpu.loss - wgpu.loss).abs();
        assert!(worst < 1e-4, "step {}: {worst:e}", cpu.step);
        coalitions.insert(cpu.active.clone());
        steps += 1;
    }
    assert_eq!(steps, 12);
    assert!(coalitions.len() > 1, "the schedule drew one coalition only");
}
