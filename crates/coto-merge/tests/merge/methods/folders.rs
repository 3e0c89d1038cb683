use std::sync::Arc;

use coto_lowrank::faer::{Mat, Scale};
use coto_merge::{Error, InSpace, Linear, Plan, Source, Space, aligned, fuse, merge};
use coto_peft::{Config, Folder, HostTensor, Param};

use super::own_method::Median;
use super::{full, gap, noise};

fn tensor(matrix: &Mat<f64>) -> HostTensor {
    let matrix = coto_lowrank::Matrix::rounded(matrix.as_ref());
    HostTensor::from_f32([matrix.rows(), matrix.cols()], matrix.values()).unwrap()
}

/// An adapter of these modules, 8 × 6 each.
fn adapter(rank: usize, alpha: f64, paths: &[&str], seed: u64) -> Folder {
    let targets: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
    let mut folder = Folder::new(Config::lora(rank, alpha).targets(targets));
    for (i, path) in paths.iter().enumerate() {
        let seed = seed + i as u64;
        folder.insert(path, Param::LoraA, tensor(&noise(rank, 6, seed)));
        folder.insert(path, Param::LoraB, tensor(&noise(8, rank, seed + 100)));
    }
    folder
}

fn source<'a>(name: &str, folder: &'a Folder, weight: f64) -> Source<'a> {
    Source {
        name: name.to_owned(),
        folder,
        weight,
        statistics: None,
    }
}

fn concat() -> Plan {
    Plan::new(Arc::new(InSpace {
        space: Space::Core,
        rule: Arc::new(Linear::default()),
    }))
}

fn delta(folder: &Folder, path: &str) -> Mat<f64> {
    full(&coto_lowrank::updates(folder).unwrap()[path])
}

fn refused(sources: &[Source], plan: &Plan) -> String {
    merge(sources, plan).unwrap_err().to_string()
}

#[test]
fn ranks_scales_and_modules_may_differ() {
    let mut one = adapter(2, 4.0, &["layers.0.q", "layers.1.q"], 1);
    one.config.use_rslora = true;
    let two = adapter(3, 3.0, &["layers.1.q", "layers.1.v"], 7);
    let sources = [source("one", &one, 0.5), source("two", &two, 2.0)];
    let mut plan = concat();
    plan.scale = 3.0;
    let merged = merge(&sources, &plan).unwrap();
    let paths: Vec<&str> = merged.modules.iter().map(|m| m.path.as_str()).collect();
    assert_eq!(paths, ["layers.0.q", "layers.1.q", "layers.1.v"]);
    let ranks: Vec<_> = merged
        .modules
        .iter()
        .map(|m| (m.adapters, m.rank))
        .collect();
    assert_eq!(ranks, [(1, 2), (2, 5), (1, 3)]);
    let expected = delta(&one, "layers.1.q") * Scale(1.5) + delta(&two, "layers.1.q") * Scale(6.0);
    assert!(gap(&delta(&merged.folder, "layers.1.q"), &expected) < 1e-6);
    let expected = delta(&two, "layers.1.v") * Scale(6.0);
    assert!(gap(&delta(&merged.folder, "layers.1.v"), &expected) < 1e-6);

    plan.rank = Some(2);
    let small = merge(&sources, &plan).unwrap();
    let outcome = &small.modules[1];
    assert_eq!((outcome.rank_before, outcome.rank), (5, 2));
    let whole = delta(&merged.folder, "layers.1.q");
    let lost = gap(&delta(&small.folder, "layers.1.q"), &whole);
    assert!(outcome.error > 0.01 && (lost - outcome.error).abs() < 1e-6);
    assert_eq!(small.modules[0].error, 0.0);
}

#[test]
fn the_result_targets_what_the_adapter_that_has_all_modules_does() {
    let paths = ["layers.0.q", "layers.1.q"];
    let few = adapter(2, 4.0, &paths[..1], 1);
    let mut all = adapter(2, 4.0, &paths, 5);
    all.config = all.config.clone().targets(["q"]);
    let merged = merge(
        &[source("few", &few, 1.0), source("all", &all, 1.0)],
        &concat(),
    )
    .unwrap();
    assert_eq!(merged.folder.config.target_modules, Some(["q"].into()));
}

#[test]
fn patterns_give_modules_a_method_of_their_own() {
    let paths = ["layers.0.q", "layers.0.v"];
    let folders = [1, 2, 3].map(|seed| adapter(2, 2.0, &paths, 10 * seed));
    let sources: Vec<Source> = (0..3)
        .map(|k| source(["a", "b", "c"][k], &folders[k], 1.0))
        .collect();
    let median = Arc::new(InSpace {
        space: Space::Core,
        rule: Arc::new(Median),
    });
    let mut plan = concat();
    plan.overrides = vec![("v".to_owned(), median.clone())];
    let mixed = merge(&sources, &plan).unwrap().folder;
    let [sum, medians] =
        [concat(), Plan::new(median.clone())].map(|plan| merge(&sources, &plan).unwrap().folder);
    assert_eq!(delta(&mixed, paths[0]), delta(&sum, paths[0]));
    assert_eq!(delta(&mixed, paths[1]), delta(&medians, paths[1]));
    plan.overrides = vec![("w".to_owned(), median.clone())];
    assert!(refused(&sources, &plan).contains("`w`"));
    plan.overrides = vec![("(".to_owned(), median)];
    assert!(refused(&sources, &plan).contains("overrides"));
}

#[test]
fn a_result_of_full_rank_needs_a_rank() {
    let folders = [1, 2].map(|seed| adapter(1, 1.0, &["layers.0.q"], 10 * seed));
    let sources = [source("a", &folders[0], 1.0), source("b", &folders[1], 1.0)];
    let mut plan = Plan::new(Arc::new(InSpace {
        space: Space::Delta,
        rule: Arc::new(Median),
    }));
    let error = refused(&sources, &plan);
    assert!(
        error.contains("layers.0.q") && error.contains("of rank 6") && error.contains("of 2"),
        "{error}"
    );
    plan.rank = Some(6);
    assert_eq!(merge(&sources, &plan).unwrap().modules[0].rank, 6);
    plan.rank = Some(0);
    assert!(refused(&sources, &plan).contains("rank 0"));
}

#[test]
fn what_cannot_be_merged_says_why() {
    let own = adapter(2, 2.0, &["layers.0.q"], 1);
    assert!(matches!(merge(&[], &concat()), Err(Error::Empty)));
    let error = refused(&[source("a", &own, 1.0), source("a", &own, 1.0)], &concat());
    assert!(error.contains("two adapters are called `a`"), "{error}");
    let error = refused(&[source("a", &own, f64::NAN)], &concat());
    assert!(error.contains("`a` is NaN"), "{error}");
    let mut plan = concat();
    plan.scale = f64::INFINITY;
    assert!(refused(&[source("a", &own, 1.0)], &plan).contains("inf"));

    let mut broken = own.clone();
    broken.insert(
        "layers.0.q",
        Param::LoraA,
        tensor(&Mat::from_fn(2, 6, |_, _| f64::NAN)),
    );
    let error = refused(
        &[source("a", &own, 1.0), source("b", &broken, 1.0)],
        &concat(),
    );
    assert!(
        error.contains("`b`") && error.contains("NaN") && error.contains("lora_A"),
        "{error}"
    );

    let mut wide = own.clone();
    wide.insert("layers.0.q", Param::LoraA, tensor(&noise(2, 7, 1)));
    let error = refused(
        &[source("a", &own, 1.0), source("b", &wide, 1.0)],
        &concat(),
    );
    assert!(
        error.contains("`b` is [8, 7]") && error.contains("`a` is [8, 6]"),
        "{error}"
    );

    let mut hira = Folder::new(Config::hira(2).targets(["q"]));
    hira.insert("layers.0.q", Param::HiraA, tensor(&noise(2, 6, 1)));
    hira.insert("layers.0.q", Param::HiraB, tensor(&noise(8, 2, 1)));
    for (folder, variant) in [(hira.clone(), "HiRA"), (dora(&own, 1.0), "DoRA")] {
        let error = refused(
            &[source("a", &own, 1.0), source("b", &folder, 1.0)],
            &concat(),
        );
        assert!(
            error.contains("`b`") && error.contains(variant) && error.contains("fuse"),
            "{error}"
        );
    }
}

#[test]
fn other_base_models_are_remarked() {
    let mut folders = [1, 2, 3].map(|seed| adapter(2, 2.0, &["layers.0.q"], seed));
    folders[0].config.base_model_name_or_path = Some("llama".to_owned());
    folders[2].config.base_model_name_or_path = Some("mistral".to_owned());
    let sources: Vec<Source> = (0..3)
        .map(|k| source(["a", "b", "c"][k], &folders[k], 1.0))
        .collect();
    let remarks = merge(&sources, &concat()).unwrap().remarks;
    assert!(
        remarks.len() == 1 && remarks[0].contains("llama") && remarks[0].contains("`c` on mistral")
    );
}

#[test]
fn alignment_undoes_a_turn_before_fusion() {
    let own = adapter(3, 3.0, &["layers.0.q"], 1);
    let mut turned = own.clone();
    let turn = noise(3, 3, 9).qr().compute_Q();
    let matrix = |rows, cols, param| {
        let values = own.modules().unwrap()["layers.0.q"][&param]
            .to_f32()
            .unwrap();
        Mat::from_fn(rows, cols, |i, j| f64::from(values[i * cols + j]))
    };
    turned.insert(
        "layers.0.q",
        Param::LoraA,
        tensor(&(turn.transpose() * matrix(3, 6, Param::LoraA))),
    );
    turned.insert(
        "layers.0.q",
        Param::LoraB,
        tensor(&(matrix(8, 3, Param::LoraB) * &turn)),
    );
    let sources = [source("a", &own, 0.5), source("b", &turned, 0.5)];
    let mut plan = Plan::new(Arc::new(InSpace {
        space: Space::Factors,
        rule: Arc::new(Linear::default()),
    }));
    let expected = delta(&own, "layers.0.q");
    assert!(
        gap(
            &delta(&merge(&sources, &plan).unwrap().folder, "layers.0.q"),
            &expected
        ) > 0.05
    );
    plan.align = true;
    assert!(
        gap(
            &delta(&merge(&sources, &plan).unwrap().folder, "layers.0.q"),
            &expected
        ) < 1e-6
    );
    // On folders each tensor comes back, whatever else the variant has beside A and B.
    let (one, two) = (dora(&own, 1.0), dora(&turned, 2.0));
    let folders = aligned(&[source("a", &one, 0.0), source("b", &two, 0.0)]).unwrap();
    assert_eq!((&folders[0], &folders[1].config), (&one, &two.config));
    for (key, tensor) in &folders[1].tensors {
        let expected = if tensor.shape.len() == 1 { &two } else { &one };
        let expected = expected.tensors[key].to_f32().unwrap();
        for (x, y) in tensor.to_f32().unwrap().iter().zip(expected) {
            assert!((x - y).abs() < 1e-5, "{key}");
        }
    }
    let three = adapter(2, 2.0, &["layers.0.q"], 1);
    let error = aligned(&[source("a", &own, 1.0), source("b", &three, 1.0)]).unwrap_err();
    assert!(matches!(error, Error::Unlike { .. }), "{error}");
}

fn dora(lora: &Folder, magnitude: f32) -> Folder {
    let mut folder = lora.clone();
    folder.config.use_dora = true;
    let magnitude = HostTensor::from_f32([8], &[magnitude; 8]).unwrap();
    folder.insert("layers.0.q", Param::Magnitude, magnitude);
    folder
}

#[test]
fn tensors_of_one_variant_are_averaged() {
    let [one, two] = [1, 2].map(|seed| adapter(2, 2.0, &["layers.0.q"], seed));
    let (one, two) = (dora(&one, 1.0), dora(&two, 2.0));
    let fused = fuse(&[source("a", &one, 1.0), source("b", &two, 3.0)]).unwrap();
    assert_eq!(fused.config, one.config);
    for (key, tensor) in &fused.tensors {
        let [a, b] = [&one, &two].map(|folder| folder.tensors[key].to_f32().unwrap());
        for (i, value) in tensor.to_f32().unwrap().into_iter().enumerate() {
            assert!((value - (a[i] + 3.0 * b[i]) / 4.0).abs() < 1e-6);
        }
    }
    fused.modules().unwrap();
}

#[test]
fn only_tensors_of_one_kind_are_averaged() {
    let own = adapter(2, 2.0, &["layers.0.q"], 1);
    let unlike = |other: &Folder| {
        let error = fuse(&[source("a", &own, 1.0), source("b", other, 1.0)]).unwrap_err();
        assert!(matches!(error, Error::Unlike { .. }));
        error.to_string()
    };
    assert!(unlike(&dora(&own, 1.0)).contains("DoRA"));
    assert!(unlike(&adapter(2, 3.0, &["layers.0.q"], 1)).contains("1.5 and 1"));
    assert!(unlike(&adapter(3, 3.0, &["layers.0.q"], 1)).contains("[3, 6] and [2, 6]"));
    assert!(
        unlike(&adapter(2, 2.0, &["layers.0.q", "layers.0.v"], 1))
            .contains("`a` does not adapt module `layers.0.v`")
    );
    assert!(unlike(&adapter(2, 2.0, &["layers.0.v"], 1)).contains("does not adapt"));
    let error = fuse(&[source("a", &own, 1.0), source("b", &own, -1.0)]).unwrap_err();
    assert!(error.to_string().contains("together is 0"), "{error}");
}
