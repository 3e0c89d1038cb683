//! Folders that real PEFT saved (see `goldens/make_folders.py`), read and written back.

use std::fs;
use std::path::{Path, PathBuf};

use coto_peft::{Dtype, Folder, Param};
use serde_json::Value;

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("goldens/folders")
}

fn facts() -> serde_json::Map<String, Value> {
    let facts: Value =
        serde_json::from_slice(&fs::read(goldens().join("facts.json")).unwrap()).unwrap();
    facts["modules"].as_object().unwrap().clone()
}

#[test]
fn modules_ranks_and_scales_are_those_of_peft() {
    assert!(facts().len() >= 5);
    for (name, modules) in facts() {
        let folder = Folder::load(goldens().join(&name)).unwrap();
        let found = folder.modules().unwrap();
        assert!(
            found.keys().eq(modules
                .as_object()
                .unwrap()
                .keys()
                .collect::<std::collections::BTreeSet<_>>()),
            "{name}"
        );
        for (path, tensors) in &found {
            let fact = &modules[path];
            let a = tensors
                .get(&Param::LoraA)
                .or(tensors.get(&Param::HiraA))
                .unwrap();
            assert_eq!(
                a.shape,
                [fact["r"].as_u64().unwrap() as usize, 6],
                "{name}: {path}"
            );
            assert_eq!(
                folder.config.scaling(path).unwrap(),
                fact["scaling"].as_f64().unwrap(),
                "{name}: {path}"
            );
        }
    }
}

#[test]
fn the_variants_have_their_own_tensors() {
    let load = |name| Folder::load(goldens().join(name)).unwrap();
    let (dora, hira, half) = (load("dora"), load("hira"), load("lora_bf16"));
    let params = |folder: &Folder| {
        folder.modules().unwrap()["layers.1.value"]
            .keys()
            .copied()
            .collect::<Vec<_>>()
    };
    assert_eq!(
        params(&dora),
        [Param::LoraA, Param::LoraB, Param::Magnitude]
    );
    assert_eq!(params(&hira), [Param::HiraA, Param::HiraB]);
    assert_eq!(
        half.modules().unwrap()["layers.0.query"][&Param::LoraA].dtype,
        Dtype::BF16
    );
    let full = load("lora");
    let (full, half) = (full.modules().unwrap(), half.modules().unwrap());
    let values = |t: &coto_peft::HostTensor| t.to_f32().unwrap();
    for (a, b) in values(full["layers.0.query"][&Param::LoraA])
        .iter()
        .zip(values(half["layers.0.query"][&Param::LoraA]))
    {
        assert!((a - b).abs() <= a.abs() / 256.0, "{a} {b}");
    }
}

#[test]
fn loading_and_saving_changes_no_byte_of_the_tensors_and_no_field() {
    let parent = tempfile::tempdir().unwrap();
    for name in facts().keys() {
        let (before, after) = (goldens().join(name), parent.path().join(name));
        Folder::load(&before).unwrap().save(&after).unwrap();
        let read = |dir: &Path, file| fs::read(dir.join(file)).unwrap();
        assert_eq!(
            read(&before, "adapter_model.safetensors"),
            read(&after, "adapter_model.safetensors"),
            "{name}"
        );
        let json =
            |dir| serde_json::from_slice::<Value>(&read(dir, "adapter_config.json")).unwrap();
        assert_eq!(json(&before), json(&after), "{name}");
        assert_eq!(
            Folder::load(&before).unwrap(),
            Folder::load(&after).unwrap()
        );
    }
}

#[test]
fn the_side_file_survives() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("adapter");
    let mut folder = Folder::load(goldens().join("lora")).unwrap();
    folder.side = Some(
        serde_json::json!({ "summary": "Twelve players.", "shapley": [0.1, 0.30000000000000004] }),
    );
    folder.save(&dir).unwrap();
    assert_eq!(Folder::load(&dir).unwrap(), folder);
    assert!(
        fs::read_to_string(dir.join("README.md"))
            .unwrap()
            .contains("\nTwelve players.\n")
    );
    folder.side = None;
    folder.save(&dir).unwrap();
    assert_eq!(Folder::load(&dir).unwrap().side, None);
}
