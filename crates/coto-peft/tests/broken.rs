//! Broken folders: each must be refused with an error that names the thing.

use std::fs;
use std::path::Path;

use coto_peft::{Config, Dtype, Folder, HostTensor};
use serde_json::{Value, json};

const A: &str = "base_model.model.layers.0.query.lora_A.weight";
const B: &str = "base_model.model.layers.0.query.lora_B.weight";
const MAGNITUDE: &str = "base_model.model.layers.0.query.lora_magnitude_vector";

/// Does one kind of harm to a sound folder.
type Harm = fn(&Path);

fn copy(golden: &str, to: &Path) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("goldens/folders")
        .join(golden);
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        fs::write(to.join(file), fs::read(from.join(file)).unwrap()).unwrap();
    }
}

fn config(dir: &Path, field: &str, value: Value) {
    let file = dir.join("adapter_config.json");
    let mut json: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    json[field] = value;
    fs::write(file, json.to_string()).unwrap();
}

fn tensors(dir: &Path, change: impl FnOnce(&mut Folder)) {
    let mut folder = Folder::load(dir).unwrap();
    change(&mut folder);
    let bytes = safetensors::serialize(folder.tensors.iter(), None).unwrap();
    fs::write(dir.join("adapter_model.safetensors"), bytes).unwrap();
}

fn cut(dir: &Path, to: impl FnOnce(usize) -> usize) {
    let file = dir.join("adapter_model.safetensors");
    let bytes = fs::read(&file).unwrap();
    fs::write(file, &bytes[..to(bytes.len())]).unwrap();
}

fn f32s(shape: [usize; 2], value: f32) -> HostTensor {
    HostTensor::from_f32(shape, &vec![value; shape[0] * shape[1]]).unwrap()
}

#[rustfmt::skip]
const CASES: &[(&str, &str, Harm, &[&str])] = &[
    ("last byte missing", "lora", |d| cut(d, |n| n - 1), &["adapter_model.safetensors", "cut short"]),
    ("cut inside the header", "lora", |d| cut(d, |_| 100), &["adapter_model.safetensors", "cut short"]),
    ("an empty tensor file", "lora", |d| cut(d, |_| 0), &["adapter_model.safetensors", "cut short"]),
    ("a header that is no JSON", "lora",
        |d| fs::write(d.join("adapter_model.safetensors"), b"\x04\0\0\0\0\0\0\0{no}").unwrap(),
        &["adapter_model.safetensors", "header"]),
    ("a wrong rank of A", "lora", |d| tensors(d, |f| { f.tensors.insert(A.into(), f32s([3, 6], 0.0)); }),
        &[A, "[3, 6]", "[2, in]"]),
    ("B transposed", "lora", |d| tensors(d, |f| { f.tensors.insert(B.into(), f32s([2, 4], 0.0)); }),
        &[B, "[2, 4]", "[2, 2]", "r is 2"]),
    ("A with one axis", "lora",
        |d| tensors(d, |f| { f.tensors.insert(A.into(), HostTensor::from_f32([12], &[0.0; 12]).unwrap()); }),
        &[A, "[12]"]),
    ("a magnitude as long as the input", "dora",
        |d| tensors(d, |f| { f.tensors.insert(MAGNITUDE.into(), HostTensor::from_f32([6], &[1.0; 6]).unwrap()); }),
        &[MAGNITUDE, "[6]", "[4]"]),
    ("A missing", "lora", |d| tensors(d, |f| { f.tensors.remove(A); }), &[A, "missing"]),
    ("the magnitude missing", "dora", |d| tensors(d, |f| { f.tensors.remove(MAGNITUDE); }), &[MAGNITUDE, "missing"]),
    ("a magnitude without DoRA", "dora", |d| config(d, "use_dora", json!(false)), &[MAGNITUDE, "use_dora = false"]),
    ("HiRA's tensors in a LoRA", "hira", |d| config(d, "peft_type", json!("LORA")), &["query.hira_A", "LORA"]),
    ("an unknown parameter", "lora",
        |d| tensors(d, |f| { f.tensors.insert("base_model.model.layers.0.query.lora_C.weight".into(), f32s([2, 6], 0.0)); }),
        &["layers.0.query.lora_C.weight", "`lora_A.weight`"]),
    ("a key without the prefix", "lora", |d| tensors(d, |f| { f.tensors.insert("query.lora_A.weight".into(), f32s([2, 6], 0.0)); }),
        &["`query.lora_A.weight`", "base_model.model."]),
    ("one parameter under two names", "dora",
        |d| tensors(d, |f| { let m = f.tensors[MAGNITUDE].clone(); f.tensors.insert(format!("{MAGNITUDE}.weight"), m); }),
        &[MAGNITUDE, "one too many"]),
    ("a module that is not targeted", "lora", |d| config(d, "target_modules", json!(["query"])), &["layers.0.value", "[\"query\"]"]),
    ("no tensor at all", "lora", |d| tensors(d, |f| f.tensors.clear()), &["no tensor"]),
    ("a NaN", "lora",
        |d| tensors(d, |f| { f.tensors.get_mut(A).unwrap().data[12..16].copy_from_slice(&f32::NAN.to_le_bytes()); }),
        &[A, "NaN", "index 3"]),
    ("an infinity in bf16", "lora_bf16",
        |d| tensors(d, |f| { f.tensors.get_mut(B).unwrap().data[2..4].copy_from_slice(&0xff80u16.to_le_bytes()); }),
        &[B, "-inf", "index 1"]),
    ("whole numbers for weights", "lora",
        |d| tensors(d, |f| { f.tensors.insert(A.into(), HostTensor::new(Dtype::I32, [2, 6], vec![0; 48]).unwrap()); }),
        &[A, "I32"]),
    ("no configuration", "lora", |d| fs::remove_file(d.join("adapter_config.json")).unwrap(), &["adapter_config.json"]),
    ("no tensor file", "lora", |d| fs::remove_file(d.join("adapter_model.safetensors")).unwrap(), &["adapter_model.safetensors"]),
    ("only a pickle", "lora",
        |d| fs::rename(d.join("adapter_model.safetensors"), d.join("adapter_model.bin")).unwrap(),
        &["adapter_model.bin", "convert"]),
    ("no folder", "lora", |d| fs::remove_dir_all(d).unwrap(), &["cannot read"]),
    ("a configuration that is not UTF-8", "lora",
        |d| fs::write(d.join("adapter_config.json"), b"{\"r\": \"\xff\"}").unwrap(), &["adapter_config.json", "UTF-8", "byte 7"]),
    ("invalid JSON", "lora",
        |d| fs::write(d.join("adapter_config.json"), "{\n  \"r\": 2,,\n}").unwrap(), &["adapter_config.json", "line 2 column 10"]),
    ("a configuration that is a list", "lora", |d| fs::write(d.join("adapter_config.json"), "[1]").unwrap(), &["[1]", "an object"]),
    ("a side file that is no JSON", "lora", |d| fs::write(d.join("coto.json"), "{").unwrap(), &["coto.json", "line 1"]),
    ("an unknown type", "lora", |d| config(d, "peft_type", json!("LORRA")), &["\"LORRA\"", "nearest: `LORA`"]),
    ("no type", "lora", |d| config(d, "peft_type", json!(null)), &["adapter_config.json", "peft_type null"]),
    ("rank 0", "lora", |d| config(d, "r", json!(0)), &["`r` is 0"]),
    ("a negative rank", "lora", |d| config(d, "r", json!(-3)), &["`r` is -3"]),
    ("a rank in words", "lora", |d| config(d, "r", json!("two")), &["adapter_config.json", "`r` is \"two\""]),
    ("a dropout of 1", "lora", |d| config(d, "lora_dropout", json!(1)), &["`lora_dropout` is 1"]),
    ("an alpha that is no number", "lora", |d| config(d, "alpha_pattern", json!({ "query": "big" })), &["`alpha_pattern.query` is \"big\""]),
    ("half a rank", "lora", |d| config(d, "rank_pattern", json!({ "query": 1.5 })), &["`rank_pattern.query` is 1.5"]),
    ("trained biases", "lora", |d| config(d, "bias", json!("lora_only")), &["`bias` is \"lora_only\""]),
    ("an unsupported variant", "lora", |d| config(d, "use_qalora", json!(true)), &["`use_qalora` is true"]),
    ("whole modules", "lora", |d| config(d, "modules_to_save", json!(["head"])), &["`modules_to_save` is [\"head\"]"]),
    ("an initialisation that changes the base", "lora", |d| config(d, "init_lora_weights", json!("pissa_niter_4")),
        &["`init_lora_weights` is \"pissa_niter_4\""]),
    ("an open bracket in the targets", "lora", |d| config(d, "target_modules", json!("(query")), &["target_modules", "(query", "unclosed"]),
    ("look-ahead in a rank pattern", "lora", |d| config(d, "rank_pattern", json!({ "(?=q)uery": 2 })), &["rank_pattern", "look-around"]),
];

#[test]
fn every_broken_folder_is_refused_by_name() {
    for (case, golden, harm, says) in CASES {
        let dir = tempfile::tempdir().unwrap();
        copy(golden, dir.path());
        Folder::load(dir.path()).unwrap().modules().unwrap();
        harm(dir.path());
        let error = match Folder::load(dir.path()) {
            Ok(folder) => folder.modules().expect_err(case).to_string(),
            Err(error) => error.to_string(),
        };
        for word in *says {
            assert!(error.contains(word), "{case}: no {word} in: {error}");
        }
    }
}

#[test]
fn a_broken_folder_is_not_written_over_a_sound_one() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("adapter");
    fs::create_dir(&dir).unwrap();
    copy("lora", &dir);
    let sound = Folder::load(&dir).unwrap();
    let mut broken = sound.clone();
    broken.tensors.insert(B.into(), f32s([4, 2], f32::NAN));
    assert!(broken.save(&dir).unwrap_err().to_string().contains(B));
    assert_eq!(Folder::load(&dir).unwrap(), sound);
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
}

#[test]
fn a_target_that_names_nothing_is_told_the_nearest_module() {
    let modules = ["layers.0.query", "layers.0.value"];
    let error = Config::lora(2, 4.0)
        .targets(["q_proj", "value"])
        .resolve_targets(&modules)
        .unwrap_err()
        .to_string();
    assert!(error.contains("`q_proj`"), "{error}");
    let error = Config::lora(2, 4.0)
        .targets(["quary"])
        .resolve_targets(&modules)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("`quary`") && error.contains("`query`"),
        "{error}"
    );
}
