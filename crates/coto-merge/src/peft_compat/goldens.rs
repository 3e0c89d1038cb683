//! What PEFT made of the same adapters (see `goldens/add_weighted_adapter.py`).

use std::collections::BTreeMap;
use std::path::Path;

use coto_lowrank::{Matrix, updates};
use coto_peft::{Config, Folder, HostTensor};
use safetensors::SafeTensors;
use serde_json::Value;

use super::{CombinationType, PeftOptions, add_weighted_adapter, merged};
use crate::{Error, Rule, Sparsify};

/// By module.
type Deltas = BTreeMap<String, Matrix>;

struct Goldens {
    facts: Value,
    tensors: BTreeMap<String, HostTensor>,
}

struct Case {
    folders: Vec<Folder>,
    weights: Vec<f64>,
    options: PeftOptions,
}

impl Goldens {
    fn load() -> Self {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("goldens");
        let bytes = std::fs::read(dir.join("add_weighted_adapter.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let host = |(key, view): (&str, safetensors::tensor::TensorView)| {
            let tensor = HostTensor::new(view.dtype(), view.shape(), view.data().to_vec());
            (key.to_owned(), tensor.unwrap())
        };
        let facts = std::fs::read_to_string(dir.join("add_weighted_adapter.json")).unwrap();
        Self {
            facts: serde_json::from_str(&facts).unwrap(),
            tensors: tensors.iter().map(host).collect(),
        }
    }

    fn under<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a HostTensor)> {
        let tensors = self.tensors.iter();
        tensors.filter_map(move |(key, tensor)| Some((key.strip_prefix(prefix)?, tensor)))
    }

    fn folder(&self, name: &str) -> Folder {
        let mut folder =
            Folder::new(Config::from_json(self.facts["adapters"][name].clone()).unwrap());
        for (key, tensor) in self.under(&format!("adapters/{name}/")) {
            folder.tensors.insert(key.to_owned(), tensor.clone());
        }
        assert!(!folder.tensors.is_empty(), "{name}");
        folder
    }

    fn case(&self, name: &str) -> Case {
        let case = &self.facts["cases"][name];
        let list = |key: &str| case[key].as_array().unwrap().iter();
        let option = |key: &str| Some(&case["options"][key]).filter(|value| !value.is_null());
        let text = |key: &str| option(key).map(|value| value.as_str().unwrap());
        Case {
            folders: list("adapters")
                .map(|name| self.folder(name.as_str().unwrap()))
                .collect(),
            weights: list("weights")
                .map(|weight| weight.as_f64().unwrap())
                .collect(),
            options: PeftOptions {
                combination_type: text("combination_type").unwrap().parse().unwrap(),
                svd_rank: option("svd_rank").map(|rank| rank.as_u64().unwrap() as usize),
                svd_clamp: option("svd_clamp").map(|clamp| clamp.as_f64().unwrap()),
                density: option("density").map(|density| density.as_f64().unwrap()),
                majority_sign_method: text("majority_sign_method")
                    .unwrap_or("total")
                    .parse()
                    .unwrap(),
                seed: 0,
            },
        }
    }

    /// `expected` or `peft`.
    fn deltas(&self, kind: &str, case: &str) -> Deltas {
        let matrix = |(path, tensor): (&str, &HostTensor)| {
            let [rows, cols] = tensor.shape[..] else {
                panic!("{path}");
            };
            let matrix = Matrix::new(rows, cols, tensor.to_f32().unwrap());
            (path.to_owned(), matrix.unwrap())
        };
        self.under(&format!("{kind}/{case}/")).map(matrix).collect()
    }

    /// Our merge, under the masks that PEFT drew.
    fn merge(&self, name: &str) -> Result<Folder, Error> {
        let case = self.case(name);
        merged(
            &case.refs(),
            &case.weights,
            &case.options,
            &mut |place, adapters, mut parts| {
                let mut rule = case.options.rule()?;
                if let Sparsify::Random { density, .. } = rule.sparsify {
                    rule.sparsify = Sparsify::All;
                    for (part, adapter) in parts.iter_mut().zip(adapters) {
                        let (module, matrix) = (place.module, place.matrix);
                        let mask =
                            &self.tensors[&format!("masks/{name}/{module}/{matrix}/{adapter}")];
                        let values = part.matrix.values_mut().iter_mut();
                        for (value, &keep) in values.zip(&mask.data) {
                            *value *= f32::from(keep) / density as f32;
                        }
                    }
                }
                rule.merge(&parts, 0)
            },
        )
    }

    fn fault(&self, name: &str) -> &Value {
        &self.facts["faults"][name]
    }
}

impl Case {
    fn refs(&self) -> Vec<&Folder> {
        self.folders.iter().collect()
    }

    fn merge(&self) -> Result<Folder, Error> {
        add_weighted_adapter(&self.refs(), &self.weights, &self.options)
    }
}

fn dense(folder: &Folder) -> Deltas {
    let updates = updates(folder).unwrap().into_iter();
    updates
        .map(|(path, update)| (path, update.dense()))
        .collect()
}

/// The largest difference of two entries; infinite for other modules.
fn gap(left: &Deltas, right: &Deltas) -> f32 {
    if !left.keys().eq(right.keys()) || left.is_empty() {
        return f32::INFINITY;
    }
    let entries = |deltas: &Deltas| -> Vec<f32> {
        deltas.values().flat_map(|m| m.values().to_vec()).collect()
    };
    let (left, right) = (entries(left), entries(right));
    assert_eq!(left.len(), right.len());
    let gaps = left.iter().zip(&right).map(|(l, r)| (l - r).abs());
    gaps.max_by(f32::total_cmp).unwrap()
}

/// Ours is right, and PEFT's, where it gave a number, is not.
fn is_right(goldens: &Goldens, name: &str) -> Deltas {
    let ours = goldens
        .merge(name)
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    let ours = dense(&ours);
    let expected = goldens.deltas("expected", name);
    let gap = gap(&ours, &expected);
    assert!(gap < 1e-5, "{name}: {gap}");
    ours
}

fn peft_is_not(goldens: &Goldens, name: &str) {
    let ours = is_right(goldens, name);
    let gap = gap(&ours, &goldens.deltas("peft", name));
    assert!(gap > 1e-2, "{name}: PEFT's is right too");
}

#[test]
fn what_peft_does_right_is_the_same_here() {
    let goldens = Goldens::load();
    let cases = goldens.facts["cases"].as_object().unwrap();
    let mut kinds = Vec::new();
    for name in cases.keys() {
        let wrong = goldens.deltas("peft", name);
        if wrong.is_empty() && goldens.fault(name).is_null() {
            is_right(&goldens, name);
            kinds.push(goldens.case(name).options.combination_type);
        }
    }
    assert_eq!(kinds.len(), 24);
    assert!(CombinationType::ALL.iter().all(|kind| kinds.contains(kind)));
}

#[test]
fn one_adapter_is_merged_as_it_is_asked() {
    let goldens = Goldens::load();
    for kind in [
        "svd",
        "ties",
        "ties_svd",
        "magnitude_prune_svd",
        "dare_linear",
    ] {
        peft_is_not(&goldens, &format!("{kind} of one"));
    }
}

#[test]
fn rslora_of_the_first_does_not_scale_the_merged() {
    let goldens = Goldens::load();
    for (name, rank) in [("rslora", 6.0_f32), ("rslora svd", 4.0)] {
        peft_is_not(&goldens, name);
        let scaled = |(path, delta): (String, Matrix)| {
            let values = delta.values().iter().map(|x| x / rank.sqrt()).collect();
            let delta = Matrix::new(delta.rows(), delta.cols(), values).unwrap();
            (path, delta)
        };
        let peft = goldens.deltas("peft", name).into_iter().map(scaled);
        assert!(gap(&peft.collect(), &goldens.deltas("expected", name)) < 1e-5);
    }
}

#[test]
fn variants_that_peft_merges_wrongly_are_refused() {
    let goldens = Goldens::load();
    for (name, says) in [
        ("dora", "the ΔW of DoRA depends on the base weight"),
        ("bias", "lora_bias"),
        ("pissa", "changed base model"),
    ] {
        let error = goldens.merge(name).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    // One adapter of weight 1 is not itself in PEFT.
    for name in ["dora", "bias"] {
        let (peft, itself) = (
            goldens.deltas("peft", name),
            goldens.deltas("expected", name),
        );
        assert!(gap(&peft, &itself) > 0.1, "{name}");
    }
    // The base weights have moved.
    let moved = goldens.fault("pissa").as_object().unwrap();
    assert!(moved.values().all(|by| by.as_f64().unwrap() > 0.1));
}

#[test]
fn no_module_of_any_adapter_is_lost() {
    let goldens = Goldens::load();
    for (name, left) in [("lower first", 2), ("excluding first", 3)] {
        let (ours, peft) = (is_right(&goldens, name), goldens.deltas("peft", name));
        assert_eq!((ours.len(), peft.len()), (4, left));
    }
    is_right(&goldens, "list and regex");
    let mixed = goldens.fault("list and regex").as_str().unwrap();
    assert!(mixed.contains("mix of list/set and string"), "{mixed}");
    // PEFT has an error, for a module that no adapter has.
    let ours = is_right(&goldens, "lower last");
    assert!(!ours.contains_key("model.layers.1.value"));
    assert!(goldens.fault("lower last").is_string());
}

#[test]
fn ranks_of_single_modules_are_written_down() {
    let goldens = Goldens::load();
    is_right(&goldens, "linear of ranks");
    let load_error = goldens.fault("linear of ranks").as_str().unwrap();
    assert!(load_error.contains("load"), "{load_error}");
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("merged");
    let ours = goldens.merge("linear of ranks").unwrap();
    ours.save(&dir).unwrap();
    assert_eq!(dense(&Folder::load(&dir).unwrap()), dense(&ours));
    assert_eq!(ours.config.rank("model.layers.0.query").unwrap(), 4);
    assert_eq!(ours.config.rank("model.layers.0.value").unwrap(), 2);
}

#[test]
fn a_rank_above_the_modules_size_is_its_size() {
    let goldens = Goldens::load();
    is_right(&goldens, "svd of too high a rank");
    assert!(goldens.fault("svd of too high a rank").is_string());
}

#[test]
fn clamping_does_not_depend_on_the_signs_of_singular_vectors() {
    let goldens = Goldens::load();
    is_right(&goldens, "clamp");
    let (peft, turned) = (
        goldens.deltas("peft", "clamp"),
        goldens.deltas("peft", "clamp, turned"),
    );
    assert!(gap(&peft, &turned) > 1e-2);
}

#[test]
fn what_peft_lets_pass_in_silence_is_refused() {
    let goldens = Goldens::load();
    let refused = |change: &dyn Fn(&mut Case), says: &str| {
        let mut case = goldens.case("ties_svd, total");
        change(&mut case);
        let error = case.merge().unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    };
    refused(
        &|case| case.weights.truncate(2),
        "weights is [0.7, -0.4], but must be one finite number for each of 3",
    );
    refused(&|case| case.weights[1] = f64::NAN, "NaN");
    refused(&|case| case.options.svd_rank = Some(0), "svd_rank is 0");
    refused(
        &|case| case.options.svd_clamp = Some(0.4),
        "svd_clamp is 0.4",
    );
    refused(
        &|case| case.options.density = None,
        "density is none, but must be above 0 and at most 1 for `ties_svd`",
    );
    refused(&|case| case.options.density = Some(0.0), "density is 0");
    refused(&|case| case.folders.clear(), "no adapter");
    // PEFT: numbers that are none, one adapter without the other, and zeros.
    assert_eq!(goldens.fault("density 0"), true);
    let one = goldens.deltas("expected", "weights");
    assert!(gap(&goldens.deltas("peft", "weights"), &one) < 1e-5);
    assert!(goldens.fault("unknown").as_f64().unwrap() < 1e-6);
    let error = "linear_svd".parse::<CombinationType>().unwrap_err();
    assert!(
        error.to_string().contains("(nearest: dare_linear_svd"),
        "{error}"
    );
}

#[test]
fn factors_of_different_ranks_are_refused_where_they_are_added() {
    let goldens = Goldens::load();
    let mut case = goldens.case("cat of ranks");
    case.options.combination_type = CombinationType::Linear;
    let error = case.merge().unwrap_err().to_string();
    assert!(
        error.contains("module `model.layers.0.query`") && error.contains("ranks are 4 and 2"),
        "{error}"
    );
}

#[test]
fn dares_own_masks_follow_the_seed_and_are_right_on_average() {
    let goldens = Goldens::load();
    let mut case = goldens.case("dare_linear_svd");
    case.options.svd_rank = Some(6);
    let mut merge = |seed| {
        case.options.seed = seed;
        dense(&case.merge().unwrap())
    };
    assert_eq!(merge(1), merge(1));
    assert!(gap(&merge(1), &merge(2)) > 1e-2);
    const SEEDS: u64 = 1000;
    let mut mean: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for seed in 0..SEEDS {
        for (path, delta) in merge(seed) {
            let sum = mean
                .entry(path)
                .or_insert_with(|| vec![0.0; delta.values().len()]);
            for (sum, x) in sum.iter_mut().zip(delta.values()) {
                *sum += f64::from(*x) / SEEDS as f64;
            }
        }
    }
    let mut exact = goldens.case("dare_linear_svd");
    exact.options = PeftOptions {
        combination_type: CombinationType::Cat,
        ..PeftOptions::default()
    };
    let parts: Vec<Deltas> = exact.folders.iter().map(dense).collect();
    for (path, delta) in dense(&exact.merge().unwrap()) {
        for (place, (mean, x)) in mean[&path].iter().zip(delta.values()).enumerate() {
            // The variance of τ m / p is τ² (1 - p) / p.
            let terms = parts.iter().zip(&exact.weights);
            let variance: f64 = terms
                .map(|(part, w)| (w * f64::from(part[&path].values()[place])).powi(2) * 0.4 / 0.6)
                .sum();
            let error = (variance / SEEDS as f64).sqrt();
            assert!((mean - f64::from(*x)).abs() < 5.0 * error + 1e-5, "{path}");
        }
    }
}
