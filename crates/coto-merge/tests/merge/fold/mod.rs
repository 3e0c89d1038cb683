//! Folding made-up checkpoints: naive formulas, bytes that stay, and what is refused.

mod base;
mod broken;
mod goldens;

use std::fs;
use std::path::Path;

use base::{IN, OUT, RANK, adapter, base, dora, lora, name, noise, product, read, replace, tensor};
use coto_merge::fold::{FoldError, check, fold};
use coto_peft::{Config, Dtype};

const DTYPES: [(Dtype, f64); 4] = [
    (Dtype::F32, 3e-7),
    (Dtype::BF16, 1.0 / 256.0),
    (Dtype::F16, 1.0 / 2048.0),
    (Dtype::F64, 3e-7),
];

#[test]
fn folded_rows_are_those_of_the_formulas_and_all_else_stays_as_it_is() {
    let hira = adapter(Config::hira(RANK), &[0, 2]);
    for (dtype, u) in DTYPES {
        for (shards, folder) in [(1, lora()), (3, lora()), (3, dora()), (1, hira.clone())] {
            let (place, base) = base(dtype, shards);
            let out = place.path().join("deep/out");
            let report = fold(&base, &[(&folder, 1.0)], &out).unwrap();
            for layer in 0..3 {
                let (before, after) = (read(&base, &name(layer)), read(&out, &name(layer)));
                let path = format!("model.layers.{layer}.q");
                if !folder.modules().unwrap().contains_key(&path) {
                    assert_eq!(before, after);
                    continue;
                }
                let (before, after) = (before.to_f32().unwrap(), after.to_f32().unwrap());
                for i in 0..OUT {
                    let d = |j| product(&folder, layer, i, j);
                    let w = |j: usize| f64::from(before[i * IN + j]);
                    let sum = |j| w(j) + 2.0 / 3.0 * d(j);
                    let norm = (0..IN).map(|j| sum(j) * sum(j)).sum::<f64>().sqrt();
                    for j in 0..IN {
                        let due = match (folder.config.peft_type.name(), folder.config.use_dora) {
                            ("HIRA", _) => w(j) * (1.0 + d(j)),
                            (_, true) => {
                                f64::from(noise(OUT, 10 * layer as u32 + 3)[i]) / norm * sum(j)
                            }
                            _ => sum(j),
                        };
                        let found = f64::from(after[i * IN + j]);
                        assert!(
                            (found - due).abs() <= u * due.abs().max(0.5),
                            "{dtype} {due} {found}"
                        );
                    }
                }
            }
            for other in [
                "model.embed.weight",
                "model.steps",
                "model.empty",
                "model.layers.1.norm.weight",
            ] {
                assert_eq!(read(&base, other), read(&out, other));
            }
            assert_eq!(report.folded.len(), folder.modules().unwrap().len());
            assert!(report.drift <= u && report.lost < 3.0 * u, "{report:?}");
            check_files(&base, &out, shards);
        }
    }
}

/// The heads of the shards, the index and the other files are the base's; pickles and hidden files are not there.
fn check_files(base: &Path, out: &Path, shards: usize) {
    let file = |folder: &Path, name: &str| fs::read(folder.join(name)).unwrap();
    let mut same = vec!["config.json", "tokenizer.json", "1_Pooling/config.json"];
    same.extend((shards > 1).then_some("model.safetensors.index.json"));
    same.iter()
        .for_each(|name| assert_eq!(file(base, name), file(out, name)));
    for entry in fs::read_dir(base).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".safetensors") {
            let (before, after) = (file(base, &name), file(out, &name));
            let head = 8 + u64::from_le_bytes(before[..8].try_into().unwrap()) as usize;
            assert_eq!(before[..head], after[..head]);
            assert_eq!(before.len(), after.len());
        }
    }
    for gone in ["pytorch_model.bin", "old.pt", ".gitattributes"] {
        assert!(!out.join(gone).exists());
    }
    let beside = fs::read_dir(out.parent().unwrap()).unwrap();
    assert_eq!(beside.count(), 1);
}

#[test]
fn several_loras_are_summed_with_their_weights() {
    let (place, base) = base(Dtype::F32, 3);
    let (one, two) = (lora(), adapter(Config::lora(RANK, 1.0), &[1]));
    let out = place.path().join("out");
    fold(&base, &[(&one, 0.5), (&two, -2.0)], &out).unwrap();
    let (before, after) = (read(&base, &name(1)), read(&out, &name(1)));
    let (before, after) = (before.to_f32().unwrap(), after.to_f32().unwrap());
    for (at, (w, found)) in before.iter().zip(after).enumerate() {
        let d = product(&one, 1, at / IN, at % IN);
        let due = f64::from(*w) + (0.5 * 2.0 / 3.0 - 2.0 / 3.0) * d;
        assert!((f64::from(found) - due).abs() < 1e-6);
    }
    let error = fold(
        &base,
        &[(&one, 1.0), (&dora(), 1.0)],
        place.path().join("other"),
    );
    assert!(error.unwrap_err().to_string().contains("one after another"));
    assert!(matches!(fold(&base, &[], &out), Err(FoldError::NoAdapter)));
    let error = fold(&base, &[(&one, f64::NAN)], &out).unwrap_err();
    assert!(error.to_string().contains("adapter 0 is NaN"), "{error}");
    let error = fold(&base, &[(&dora(), 0.5)], &out).unwrap_err();
    assert!(error.to_string().contains("use weight 1"), "{error}");
}

#[test]
fn an_adapter_made_inside_or_around_the_model_finds_its_tensors() {
    for (from, to) in [
        ("model.layers", "layers"),
        ("model.layers", "wrapped.model.layers"),
    ] {
        let (place, base) = base(Dtype::F32, 1);
        let mut moved = lora();
        moved.tensors = moved
            .tensors
            .into_iter()
            .map(|(key, tensor)| (key.replace(from, to), tensor))
            .collect();
        let (out, straight) = (place.path().join("out"), place.path().join("straight"));
        fold(&base, &[(&moved, 1.0)], &out).unwrap();
        fold(&base, &[(&lora(), 1.0)], &straight).unwrap();
        assert_eq!(read(&out, &name(2)), read(&straight, &name(2)));
    }
}

#[test]
fn the_same_adapter_is_not_folded_in_twice() {
    let (place, base) = base(Dtype::BF16, 1);
    let (once, twice) = (place.path().join("once"), place.path().join("twice"));
    fold(&base, &[(&lora(), 1.0)], &once).unwrap();
    let error = fold(&once, &[(&lora(), 1.0)], &twice).unwrap_err();
    assert!(matches!(error, FoldError::Already { .. }), "{error}");
    fold(&once, &[(&dora(), 1.0)], &twice).unwrap();
    let record = fs::read_to_string(twice.join("coto_fold.json")).unwrap();
    assert!(
        record.contains("\"LoRA\"") && record.contains("\"DoRA\""),
        "{record}"
    );
}

#[test]
fn a_folder_with_something_in_it_is_not_written_over() {
    let (place, base) = base(Dtype::F32, 1);
    let out = place.path().join("out");
    fs::create_dir(&out).unwrap();
    fold(&base, &[(&lora(), 1.0)], &out).unwrap(); // an empty one is filled
    let error = fold(&base, &[(&dora(), 1.0)], &out).unwrap_err();
    assert!(matches!(error, FoldError::Occupied { .. }), "{error}");
    assert!(check(&base, &out, &[(&lora(), 1.0)]).is_ok());
    let error = fold(&base, &[(&lora(), 1.0)], &base).unwrap_err();
    assert!(matches!(error, FoldError::Occupied { .. }), "{error}");
}

#[test]
fn the_check_names_the_first_tensor_that_is_something_else() {
    let (place, base) = base(Dtype::BF16, 1);
    let out = place.path().join("out");
    let adapters = [(&lora(), 1.0)];
    fold(&base, &adapters, &out).unwrap();
    assert_eq!(check(&base, &out, &adapters).unwrap().other_bits, 0);
    let mut values = read(&out, &name(1)).to_f32().unwrap();
    let wrong = |values: &[f32]| tensor(Dtype::BF16, &[OUT, IN], values);
    values[3 * IN + 4] += 0.25;
    replace(&out, &name(1), Some((&name(1), wrong(&values))));
    let error = check(&base, &out, &adapters).unwrap_err().to_string();
    assert!(
        error.starts_with("tensor `model.layers.1.q.weight`, row 3, column 4: "),
        "{error}"
    );
    values[3 * IN + 4] = f32::NAN;
    replace(&out, &name(1), Some((&name(1), wrong(&values))));
    assert!(matches!(
        check(&base, &out, &adapters),
        Err(FoldError::Differs {
            row: 3,
            column: 4,
            ..
        })
    ));

    let out = place.path().join("again");
    fold(&base, &adapters, &out).unwrap();
    replace(
        &out,
        "model.steps",
        Some(("model.steps", tensor(Dtype::I8, &[3], &[1.0, 2.0, 4.0]))),
    );
    let error = check(&base, &out, &adapters).unwrap_err().to_string();
    assert!(
        error.contains("`model.steps` is not adapted, but byte 2"),
        "{error}"
    );
    replace(&out, "model.steps", None);
    let error = check(&base, &out, &adapters).unwrap_err().to_string();
    assert!(
        error.contains("`model.steps` is not in the folded"),
        "{error}"
    );
}
