//! Folding against PEFT's own merging, through the files that `goldens/fold.py` writes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use coto_merge::fold::{FoldError, check, fold, unfold};
use coto_peft::{Dtype, Folder, HostTensor};
use safetensors::SafeTensors;

type Tensors = BTreeMap<String, HostTensor>;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("goldens/fold")
        .join(name)
}

fn file(path: &Path) -> Tensors {
    let bytes = std::fs::read(path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let host = |(name, view): (&str, safetensors::tensor::TensorView)| {
        let (shape, data) = (view.shape().to_vec(), view.data().to_vec());
        (
            name.to_owned(),
            HostTensor::new(view.dtype(), shape, data).unwrap(),
        )
    };
    tensors.iter().map(host).collect()
}

/// All tensors of a folder.
fn checkpoint(folder: &Path) -> Tensors {
    let files = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|end| end == "safetensors"));
    files.flat_map(|path| file(&path)).collect()
}

/// The largest difference over the largest number.
fn gap(one: &HostTensor, other: &HostTensor) -> f32 {
    assert_eq!((one.dtype, &one.shape), (other.dtype, &other.shape));
    let (one, other) = (one.to_f32().unwrap(), other.to_f32().unwrap());
    let largest =
        |values: &mut dyn Iterator<Item = f32>| values.fold(0.0, |a: f32, b| a.max(b.abs()));
    largest(&mut one.iter().zip(&other).map(|(a, b)| a - b)) / largest(&mut other.iter().copied())
}

#[test]
fn folding_gives_the_tensors_of_peft() {
    let merged = file(&golden("merged.safetensors"));
    for base in ["base_f32", "base_bf16"] {
        for variant in ["lora", "rslora", "dora", "hira"] {
            let prefix = format!("{base}/{variant}/");
            let due = merged
                .iter()
                .filter_map(|(key, tensor)| Some((key.strip_prefix(&prefix)?, tensor)));
            let due: BTreeMap<&str, &HostTensor> = due.collect();
            assert_eq!(due.len(), 3, "{prefix}");
            let (place, before) = (tempfile::tempdir().unwrap(), checkpoint(&golden(base)));
            let (out, theirs) = (place.path().join("out"), place.path().join("theirs"));
            let adapter = Folder::load(golden(variant)).unwrap();
            let adapters = [(&adapter, 1.0)];
            let report = fold(golden(base), &adapters, &out).unwrap();
            assert_eq!((report.folded.len(), report.tensors), (3, before.len()));

            let after = checkpoint(&out);
            assert!(after.keys().eq(before.keys()));
            let tolerance = if base == "base_f32" {
                1e-6
            } else {
                1.0 / 128.0
            };
            for (name, tensor) in &after {
                match due.get(name.as_str()) {
                    Some(due) => assert!(
                        gap(tensor, due) < tolerance,
                        "{prefix}{name} {}",
                        gap(tensor, due)
                    ),
                    None => assert_eq!(tensor, &before[name]),
                }
            }

            // PEFT's checkpoint passes the check, the base does not.
            let mut tensors = before.clone();
            tensors.extend(
                due.into_iter()
                    .map(|(name, tensor)| (name.to_owned(), tensor.clone())),
            );
            std::fs::create_dir(&theirs).unwrap();
            let bytes = safetensors::serialize(tensors.iter(), None).unwrap();
            std::fs::write(theirs.join("model.safetensors"), bytes).unwrap();
            let checked = check(golden(base), &theirs, &adapters).unwrap();
            assert_eq!(checked.folded, 3);
            assert_eq!(check(golden(base), &out, &adapters).unwrap().other_bits, 0);
            let error = check(golden(base), golden(base), &adapters).unwrap_err();
            assert!(
                matches!(error, FoldError::Differs { .. } | FoldError::Drifts { .. }),
                "{error}"
            );
        }
    }
}

#[test]
fn unfolding_gives_the_base_back_within_rounding() {
    for (base, tolerance) in [("base_f32", 1e-6), ("base_bf16", 1.5 / 128.0)] {
        for variant in ["lora", "rslora", "hira"] {
            let place = tempfile::tempdir().unwrap();
            let (out, back) = (place.path().join("out"), place.path().join("back"));
            let adapter = Folder::load(golden(variant)).unwrap();
            fold(golden(base), &[(&adapter, 0.5)], &out).unwrap();
            let other = unfold(&out, &[(&adapter, 1.0)], &back).unwrap_err();
            assert!(
                matches!(other, FoldError::NotFolded { weight: 1.0, .. }),
                "{other}"
            );
            unfold(&out, &[(&adapter, 0.5)], &back).unwrap();
            assert!(!back.join("coto_fold.json").exists());
            let (before, after) = (checkpoint(&golden(base)), checkpoint(&back));
            for (name, tensor) in &before {
                assert!(
                    gap(&after[name], tensor) < tolerance,
                    "{base} {variant} {name}"
                );
                assert_eq!(tensor.dtype == Dtype::BF16, base == "base_bf16");
            }
        }
    }
    let adapter = Folder::load(golden("dora")).unwrap();
    let error = unfold(golden("base_f32"), &[(&adapter, 1.0)], golden("never")).unwrap_err();
    assert!(
        error.to_string().contains("DoRA cannot be unfolded"),
        "{error}"
    );
}
