//! The cache of the frozen prefix: the same run in less work, in the memory it is given.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use burn::tensor::{Device, Tensor};
use coto_adapters::Pass;
use coto_models::{Hidden, Input, Layered};
use coto_train::{Event, Outcome, PrefixCache, PrefixUse, Run, Split};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::Value;
use tempfile::TempDir;

use super::{checkpoint, config, fixture, go, losses, scene, vision};

const LAYERS: usize = 6;

/// Gives the scene's model of two layers so many by repeating them.
fn deepen(dir: &Path) {
    let (config, weights) = (
        dir.join("model/config.json"),
        dir.join("model/model.safetensors"),
    );
    let mut json: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    json["num_hidden_layers"] = LAYERS.into();
    fs::write(config, json.to_string()).unwrap();
    let bytes = fs::read(&weights).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: BTreeMap<String, TensorView> = BTreeMap::new();
    for (name, view) in file.iter() {
        tensors.insert(name.to_owned(), view.clone());
        for (layer, new) in (2..LAYERS).map(|new| (new % 2, new)) {
            let new = name.replace(&format!(".{layer}."), &format!(".{new}."));
            tensors.insert(new, view.clone());
        }
    }
    fs::write(weights, safetensors::serialize(tensors, None).unwrap()).unwrap();
}

fn uses(events: &[Event]) -> Vec<Option<PrefixUse>> {
    let step = |event: &Event| match event {
        Event::Step(step) => Some(step.prefix),
        Event::Eval(_) => None,
    };
    events.iter().filter_map(step).collect()
}

/// Two runs are one, to rounding.
fn assert_same(a: (&[Event], &TempDir), b: (&[Event], &TempDir), what: &str) {
    let (x, y) = (losses(a.0), losses(b.0));
    assert_eq!(x.len(), y.len());
    for (x, y) in x.iter().zip(&y) {
        assert_eq!(x.2, y.2);
        let worst = (f32::from_bits(x.1) - f32::from_bits(y.1)).abs();
        assert!(worst < 1e-5, "{what}, step {}: {worst:e}", x.0);
    }
    let [a, b] = [a.1, b.1].map(|dir| checkpoint(&dir.path().join("out")).tensors);
    for (name, a) in a {
        let worst: f32 = (a - b[&name].clone()).abs().max().into_scalar();
        assert!(worst < 1e-4, "{what}, {name}: {worst:e}");
    }
}

const SMALL: &[&str] = &[
    "optim.lr=1e-3",
    "optim.steps=80",
    "optim.prefix_cache_mib=0",
];
const CACHED: &str = "optim.prefix_cache_mib=1";

fn scenes() -> [(&'static str, TempDir, &'static [&'static str]); 6] {
    let told = || {
        let dir = scene();
        fixture::tell(dir.path());
        dir
    };
    [
        ("texts", scene(), &[]),
        (
            "players that may all be off",
            scene(),
            &["schedule.never_all_off=false", "schedule.p1=0.7"],
        ),
        ("by layers", scene(), &["optim.gradient_checkpointing=true"]),
        ("packed rows", told(), &["optim.batch_size=2"]),
        ("padded rows", told(), &["language.packing=false"]),
        (
            "images",
            vision::scene("vit"),
            &["head.kind=trained", "optim.batch_size=4"],
        ),
    ]
}

#[test]
fn a_run_with_the_cache_is_the_run_without() {
    for ((what, a, set), (_, b, _)) in scenes().into_iter().zip(scenes()) {
        let run = |dir: &TempDir, more: &[&str]| {
            deepen(dir.path());
            let mut run = Run::prepare(&config(dir, &[SMALL, set, more].concat())).unwrap();
            let (outcome, events) = go(&mut run, usize::MAX);
            assert_eq!(outcome, Outcome::Finished);
            (events, run.prefix())
        };
        let ((plain, none), (cached, total)) = (run(&a, &[]), run(&b, &[CACHED]));
        assert!(none.is_none() && uses(&plain).iter().all(Option::is_none));
        assert_same((&plain, &a), (&cached, &b), what);

        let (steps, total) = (uses(&cached), total.unwrap());
        let sum = |part: fn(PrefixUse) -> usize| -> usize {
            steps.iter().flatten().map(|&u| part(u)).sum()
        };
        assert_eq!(total.hits, sum(|u| u.hits));
        assert_eq!(total.saved, sum(|u| u.saved));
        assert_eq!(total.layers, sum(|u| u.layers));
        assert!(
            total.hits > 0 && 2 * total.saved > total.layers,
            "{what}: {total:?}"
        );
        assert!(steps.iter().flatten().all(|u| u.bytes <= 1 << 20));
        assert_eq!(total.bytes, 0, "{what}: no step to come has a use for it");
        let lines = |dir: &TempDir| fs::read_to_string(dir.path().join("out/metrics.jsonl"));
        assert!(lines(&b).unwrap().contains(r#""prefix":{"hits":"#));
        assert!(!lines(&a).unwrap().contains("prefix"));
    }
}

/// The states of the batch's tokens, padding left out.
fn tokens(hidden: &Hidden, input: &Input) -> Tensor<2> {
    let Input::Tokens(batch) = input else {
        panic!("tokens")
    };
    let lengths = batch.lengths().into_iter().enumerate();
    let rows = lengths.map(|(row, lengths)| {
        let start = row * hidden.width;
        let end = start + lengths.iter().sum::<usize>();
        hidden.states.clone().slice([start..end])
    });
    Tensor::cat(rows.collect(), 0)
}

#[test]
fn it_stays_within_its_cap_gives_the_base_models_states_and_saves_more_in_more_memory() {
    let dir = scene();
    deepen(dir.path());
    let run = Run::prepare(&config(&dir, &[])).unwrap();
    let (model, task) = (run.model(), run.task());
    let batches: Vec<_> = (0..6).flat_map(|epoch| task.epoch(4, 3, epoch)).collect();
    let lowest: Vec<usize> = (0..batches.len())
        .map(|step| (5 * step + step / 7) % (LAYERS + 1))
        .collect();
    // All states of one depth: 32 numbers a token.
    let depth: usize = (0..48).map(|row| 128 * (3 + (row * 7 + 1) % 7 + 2)).sum();
    let mut last = 0;
    for cap in [0, 2000, depth / 2, depth, 5 * depth / 2, usize::MAX] {
        let mut cache = PrefixCache::new(cap, &lowest);
        for (rows, &layer) in batches.iter().zip(&lowest) {
            let batch = task.batch(Split::Train, rows, &Device::flex()).unwrap();
            let entered = cache.enter(model, &batch.input, rows, layer);
            let expected = (0..layer).fold(model.embed(&batch.input), |hidden, layer| {
                model.layer(layer, hidden, &Pass::base())
            });
            assert_eq!(entered.states.dims(), expected.states.dims());
            assert_eq!(entered.blocked.is_some(), expected.blocked.is_some());
            let [a, b] = [entered, expected].map(|hidden| tokens(&hidden, &batch.input));
            let worst: f32 = (a - b).abs().max().into_scalar();
            assert!(worst < 1e-5, "cap {cap}, layer {layer}: {worst:e}");
            assert!(cache.used().bytes <= cap && cache.used().most_bytes <= cap);
            cache.done(layer);
        }
        let used = cache.used();
        assert!(used.saved >= last, "cap {cap}: {used:?}, before {last}");
        assert!((used.saved > 0) == (cap > 0), "cap {cap}: {used:?}");
        let most = 5 * depth / 2 + 1..=LAYERS * depth;
        assert!(cap < usize::MAX || most.contains(&used.most_bytes));
        last = used.saved;
    }
}

#[test]
fn a_run_for_which_it_does_not_pay_has_none() {
    let dir = scene();
    for set in [
        ["schedule.preset=none", "optim.steps=30"],
        // Six batches are an epoch of 48 rows.
        ["schedule.preset=coto", "optim.steps=3"],
    ] {
        let set = [&set[..], &[CACHED]].concat();
        let mut run = Run::prepare(&config(&dir, &set)).unwrap();
        let (_, events) = go(&mut run, usize::MAX);
        assert_eq!(run.prefix(), None, "{set:?}");
        assert!(uses(&events).iter().all(Option::is_none));
        fs::remove_dir_all(dir.path().join("out")).unwrap();
    }
}

#[test]
fn a_resumed_run_fills_it_anew() {
    let (a, b) = (scene(), scene());
    deepen(a.path());
    deepen(b.path());
    let mut whole = Run::prepare(&config(&a, SMALL)).unwrap();
    let (_, expected) = go(&mut whole, usize::MAX);
    let mut events = Vec::new();
    for (stop, cap) in [
        (9, CACHED),
        (17, "optim.prefix_cache_mib=2"),
        (usize::MAX, CACHED),
    ] {
        let mut part = Run::prepare(&config(&b, &[SMALL, &[cap]].concat())).unwrap();
        assert_eq!(part.resume().unwrap(), stop != 9);
        events.extend(go(&mut part, stop).1);
        assert!(part.prefix().unwrap().hits > 0);
    }
    assert_same((&expected, &a), (&events, &b), "resumed");
}

#[test]
fn models_of_two_towers_are_refused() {
    let dir = vision::scene("clip");
    let error = Run::prepare(&config(&dir, &[CACHED])).err().unwrap();
    let message = error.to_string();
    assert!(
        message.contains("optim.prefix_cache_mib") && message.contains("two towers"),
        "{message}"
    );
}
