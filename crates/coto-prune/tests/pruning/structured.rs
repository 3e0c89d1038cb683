use std::collections::BTreeMap;

use coto_coalition::{Grouping, Module};
use coto_lowrank::updates;
use coto_peft::{Config, Folder, HostTensor, Param};
use coto_prune::{Candidates, Choice, keep};
use proptest::prelude::*;

use crate::make;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_kept_is_exactly_what_it_was(layers in 1usize..5, rslora: bool, bits in 1u64..255, seed: u64) {
        let whole = make::folder(layers, rslora, seed);
        let paths: Vec<String> = whole.modules().unwrap().into_keys().collect();
        let on = |path: &str| paths.iter().position(|p| p == path).is_some_and(|i| bits >> i & 1 == 1);
        let stays: Vec<usize> = (0..paths.len()).filter(|&i| on(&paths[i])).collect();
        let small = keep(&whole, on);
        if stays.is_empty() {
            let error = small.unwrap_err().to_string();
            prop_assert!(error.contains("none of the"), "{}", error);
            return Ok(());
        }
        let small = small.unwrap();
        prop_assert_eq!(&small.config.resolve_targets(&paths).unwrap(), &stays);
        for (key, tensor) in &small.tensors {
            prop_assert_eq!(tensor, &whole.tensors[key]);
        }
        let (before, after) = (updates(&whole).unwrap(), updates(&small).unwrap());
        prop_assert_eq!(after.len(), stays.len());
        for (path, update) in after {
            prop_assert_eq!(small.config.scaling(&path).unwrap(), whole.config.scaling(&path).unwrap());
            prop_assert_eq!(update.dense(), before[&path].dense());
        }
    }
}

#[test]
fn a_pruned_folder_is_written_and_read_back() {
    let whole = make::folder(3, true, 5);
    let small = keep(&whole, |path| path.contains("layers.1")).unwrap();
    let parent = tempfile::tempdir().unwrap();
    small.save(parent.path().join("small")).unwrap();
    let again = Folder::load(parent.path().join("small")).unwrap();
    assert_eq!(
        (again.modules().unwrap().len(), &again.tensors),
        (2, &small.tensors)
    );
    for path in again.modules().unwrap().keys() {
        assert_eq!(
            again.config.scaling(path).unwrap(),
            whole.config.scaling(path).unwrap()
        );
    }
}

fn small_lora(config: Config, paths: &[&str]) -> Folder {
    let [a, b] = match config.peft_type {
        coto_peft::PeftType::Lora => [Param::LoraA, Param::LoraB],
        coto_peft::PeftType::Hira => [Param::HiraA, Param::HiraB],
    };
    let dora = config.use_dora;
    let mut folder = Folder::new(config);
    for (i, path) in paths.iter().enumerate() {
        folder.insert(path, a, make::tensor(&make::noise(2, 3, i as u64, "a")));
        folder.insert(path, b, make::tensor(&make::noise(4, 2, i as u64, "b")));
        if dora {
            folder.insert(
                path,
                Param::Magnitude,
                HostTensor::from_f32([4], &[i as f32; 4]).unwrap(),
            );
        }
    }
    folder
}

#[test]
fn a_kept_path_that_ends_a_pruned_one_does_not_bring_it_back() {
    let paths = ["b.q", "a.b.q", "q", "c.a.b.q"];
    let whole = small_lora(Config::lora(2, 4.0).targets(["q"]), &paths);
    let small = keep(&whole, |path| path == "q" || path == "a.b.q").unwrap();
    assert_eq!(small.config.resolve_targets(&paths).unwrap(), [1, 2]);
    assert_eq!(small.modules().unwrap().len(), 2);
}

#[test]
fn dora_and_hira_are_pruned_module_by_module() {
    let mut dora = Config::lora(2, 4.0).targets(["q"]);
    dora.use_dora = true;
    for config in [dora, Config::hira(2).targets(["q"])] {
        let whole = small_lora(config, &["layers.0.q", "layers.1.q"]);
        let candidates = Candidates::new(&whole, &Grouping::Layer).unwrap();
        let small = candidates.keep(&"01".parse().unwrap()).unwrap();
        assert_eq!(small.tensors.len(), whole.tensors.len() / 2);
        assert!(
            small
                .tensors
                .iter()
                .all(|(key, tensor)| tensor == &whole.tensors[key])
        );
        let error = candidates
            .choose(&"top:1:norms".parse().unwrap(), None)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("layers.0.q") && error.contains("base weight"),
            "{error}"
        );
    }
}

#[test]
fn layers_kinds_and_scores_choose_players() {
    let layers = (0..12)
        .flat_map(|i| ["attn.query", "attn.value"].map(|kind| format!("model.layers.{i}.{kind}")));
    let paths: Vec<String> = layers.chain(["head".to_owned()]).collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let whole = small_lora(
        Config::lora(2, 4.0).targets(["query", "value", "head"]),
        &paths,
    );
    let candidates = Candidates::new(&whole, &Grouping::Layer).unwrap();
    let names = candidates.players().names();
    assert_eq!(
        (names[2].as_str(), names[11].as_str(), names[12].as_str()),
        ("layer.2", "layer.11", "head")
    );
    assert_eq!(
        candidates.parameters(),
        [28; 12].into_iter().chain([14]).collect::<Vec<_>>()
    );
    let scores: BTreeMap<String, f64> = names
        .iter()
        .enumerate()
        .map(|(i, name)| (name.clone(), (i * 5 % 13) as f64))
        .collect();
    let chosen = |choice: &str| {
        let choice: Choice = choice.parse().unwrap();
        candidates
            .choose(&choice, Some(&scores))
            .map(|coalition| coalition.to_string())
    };
    for (choice, coalition) in [
        ("even", "1010101010101"),
        ("odd", "0101010101011"),
        ("low", "1111000000001"),
        ("middle", "0000111100001"),
        ("high", "0000000011111"),
        ("top:2:scores", "0000010000100"), // 25 mod 13 = 12, 50 mod 13 = 11
        ("top:13:norms", "1111111111111"),
        ("budget:50:scores", "0000010000001"), // the head, 8 for 14 parameters, and of the layers 12 for 28
    ] {
        assert_eq!(chosen(choice).unwrap(), coalition, "{choice}");
    }
    assert_eq!(
        chosen("top:4:random:7").unwrap(),
        chosen("top:4:random:7").unwrap()
    );
    assert_ne!(
        chosen("top:4:random:7").unwrap(),
        chosen("top:4:random:8").unwrap()
    );
    for (choice, says) in [
        (
            "kinds:query",
            "player `layer.0` has modules that stay and modules that go",
        ),
        ("kinds:qurey", "`qurey` (nearest: `query`"),
        (
            "top:0:scores",
            "`top:0:scores` keeps none of the 13 players",
        ),
        ("top:14:scores", "is 14, but must be at most 13"),
        ("budget:13:scores", "keeps none"),
    ] {
        let error = chosen(choice).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    let none = candidates
        .choose(&"top:1:scores".parse().unwrap(), None)
        .unwrap_err()
        .to_string();
    assert!(none.contains("`top:1:scores` needs"), "{none}");
    let others = BTreeMap::from([("layer.00".to_owned(), 1.0)]);
    let other = candidates
        .choose(&"top:1:scores".parse().unwrap(), Some(&others))
        .unwrap_err()
        .to_string();
    assert!(
        other.contains("`layer.0`") && other.contains("`layer.00`"),
        "{other}"
    );

    let kinds = Candidates::new(&whole, &Grouping::Kind).unwrap();
    let queries = kinds
        .choose(&"kinds:attn.query,head".parse().unwrap(), None)
        .unwrap();
    let small = kinds.keep(&queries).unwrap();
    assert_eq!(small.modules().unwrap().len(), 13);
}

#[test]
fn norms_are_those_of_the_updates_and_the_models_modules_order_the_players() {
    let whole = make::folder(2, true, 3);
    let model: Vec<Module> = [
        "layers.1.value",
        "layers.1.query",
        "layers.0.query",
        "other",
        "layers.0.value",
    ]
    .map(|path| Module::new(path, Some(usize::from(path.contains('0'))), "x"))
    .into();
    let candidates = Candidates::of_model(&whole, &model, &Grouping::Layer).unwrap();
    assert_eq!(candidates.modules()[0].path, "layers.1.value");
    let dense = updates(&whole).unwrap();
    let square = |path: &str| dense[path].dense().norm().powi(2);
    let norms = candidates.norms().unwrap();
    for (player, layer) in [(0, 1), (1, 0)] {
        let expected = (square(&format!("layers.{layer}.query"))
            + square(&format!("layers.{layer}.value")))
        .sqrt();
        assert!((norms[player] - expected).abs() < 1e-5 * expected);
    }
    let error = Candidates::of_model(&whole, &model[1..], &Grouping::Layer)
        .unwrap_err()
        .to_string();
    assert!(error.contains("layers.1.value"), "{error}");
}

#[test]
fn the_stacks_of_two_towers_are_counted_one_after_the_other() {
    let paths = ["text.layers.0.q", "text.layers.2.q", "vision.layers.0.q"];
    let whole = small_lora(Config::lora(2, 4.0).targets(["q"]), &paths);
    let candidates = Candidates::new(&whole, &Grouping::Layer).unwrap();
    assert_eq!(
        candidates.players().names(),
        ["layer.0", "layer.2", "layer.3"]
    );
}
