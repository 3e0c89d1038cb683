//! A table of broken inputs: each gets an error that names the thing, none panics, none leaves a half-written file.

use std::fs;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::{coto, run, scene, text, walk};

struct Case {
    name: &'static str,
    spoil: fn(&Path),
    set: &'static [&'static str],
    says: &'static [&'static str],
}

const fn case(name: &'static str, spoil: fn(&Path), says: &'static [&'static str]) -> Case {
    Case {
        name,
        spoil,
        set: &[],
        says,
    }
}

const fn set(
    name: &'static str,
    set: &'static [&'static str],
    says: &'static [&'static str],
) -> Case {
    Case {
        name,
        spoil: |_| {},
        set,
        says,
    }
}

const CASES: &[Case] = &[
    case(
        "weights cut short",
        |d| cut(&d.join("model/model.safetensors")),
        &["model.safetensors", "not a whole"],
    ),
    case(
        "weights not there",
        |d| fs::remove_file(d.join("model/model.safetensors")).unwrap(),
        &["model.safetensors"],
    ),
    case(
        "weights of garbage",
        |d| fs::write(d.join("model/model.safetensors"), [7; 64]).unwrap(),
        &["model.safetensors"],
    ),
    case(
        "a tensor missing",
        |d| edit(d, |n, v| (n != QUERY).then_some(v)),
        &[QUERY, "missing"],
    ),
    case(
        "a tensor too many",
        |d| edit_add(d, "encoder.layer.9.extra"),
        &["encoder.layer.9.extra", "no place"],
    ),
    case(
        "a weight that is no number",
        |d| edit(d, |n, v| Some(if n == QUERY { nan(v) } else { v })),
        &[QUERY, "not finite"],
    ),
    case(
        "a tensor of another shape",
        |d| config(d, "\"intermediate_size\": 48", "\"intermediate_size\": 47"),
        &["intermediate.dense", "[48, 32]", "[47, 32]"],
    ),
    case(
        "a model of another type",
        |d| config(d, "\"bert\"", "\"gpt9\""),
        &["model_type", "gpt9", "distilbert"],
    ),
    case(
        "an activation not known",
        |d| config(d, "\"gelu\"", "\"swish\""),
        &["hidden_act", "swish"],
    ),
    case(
        "heads that do not divide",
        |d| {
            config(
                d,
                "\"num_attention_heads\": 4",
                "\"num_attention_heads\": 5",
            )
        },
        &["32", "5"],
    ),
    case(
        "a configuration that is no JSON",
        |d| fs::write(d.join("model/config.json"), "{").unwrap(),
        &["config.json", "line 1"],
    ),
    case(
        "a tokenizer of garbage",
        |d| fs::write(d.join("model/tokenizer.json"), "{}").unwrap(),
        &["tokenizer.json"],
    ),
    case(
        "no rows",
        |d| fs::write(d.join("train.jsonl"), "").unwrap(),
        &["train.jsonl", "no rows"],
    ),
    case(
        "a label not in the set",
        |d| {
            row(
                &d.join("test.jsonl"),
                "\"label\":\"high\"",
                "\"label\":\"hihg\"",
            )
        },
        &["test.jsonl", "hihg", "high"],
    ),
    case(
        "text that is not UTF-8",
        |d| {
            fs::write(
                d.join("train.jsonl"),
                b"{\"text\":\"\xff\",\"label\":\"low\"}\n",
            )
            .unwrap()
        },
        &["train.jsonl", "UTF-8"],
    ),
    case(
        "a line that is no JSON",
        |d| row(&d.join("train.jsonl"), "{\"text\"", "{text"),
        &["train.jsonl", "1"],
    ),
    case(
        "a label of null",
        |d| {
            row(
                &d.join("train.jsonl"),
                "\"label\":\"low\"",
                "\"label\":null",
            )
        },
        &["train.jsonl", "label"],
    ),
    set(
        "a column that is not there",
        &["data.text=txet"],
        &["txet", "text"],
    ),
    set(
        "a file of unknown kind",
        &["data.train=run.toml"],
        &["run.toml"],
    ),
    set(
        "a file that is not there",
        &["data.train=nowhere.jsonl"],
        &["nowhere.jsonl"],
    ),
    set(
        "an unknown key",
        &["optim.learning_rate=1"],
        &["learning_rate", "lr"],
    ),
    set(
        "a value of the wrong type",
        &["optim.steps=many"],
        &["steps"],
    ),
    set(
        "an assignment without a value",
        &["optim.steps"],
        &["optim.steps", "key=value"],
    ),
    set("no steps", &["optim.steps=0"], &["optim.steps", "0"]),
    set("a negative rate", &["optim.lr=-1.0"], &["optim.lr", "-1"]),
    set(
        "a probability above one",
        &["schedule.p1=1.5"],
        &["p1", "1.5"],
    ),
    set(
        "an unknown preset",
        &["schedule.preset=cotoo"],
        &["cotoo", "coto"],
    ),
    set("rank zero", &["adapter.rank=0"], &["r", "0"]),
    set(
        "an odd rank for an orthogonal start",
        &["adapter.rank=3", "adapter.init=orthogonal"],
        &["3", "even", "encoder.layer.0"],
    ),
    set(
        "an initialisation that HiRA has not",
        &["adapter.variant=hira", "adapter.init=pissa"],
        &["hira", "pissa", "kaiming"],
    ),
    set(
        "an unknown variant",
        &["adapter.variant=lorra"],
        &["lorra", "`lora`"],
    ),
    set(
        "targets that match nothing",
        &["adapter.targets=[\"qeury\"]"],
        &["qeury", "query"],
    ),
    set(
        "dropout of one",
        &["adapter.dropout=1.0"],
        &["dropout", "1"],
    ),
    set(
        "a group that names nothing",
        &["players.groups.a=[\"nothing\"]"],
        &["nothing"],
    ),
    set("an unknown device", &["device=tpu"], &["tpu", "cpu"]),
    set(
        "a device that this build lacks",
        &["device=cuda"],
        &["cuda"],
    ),
    set(
        "a model that is not there",
        &["model.name=./nowhere"],
        &["./nowhere", "no such folder"],
    ),
    set("too few tokens", &["data.max_tokens=1"], &["max_tokens"]),
];

const QUERY: &str = "encoder.layer.1.attention.self.query.weight";

#[test]
fn every_broken_input_is_named_and_nothing_is_left_behind() {
    for case in CASES {
        let scene = scene();
        let dir = scene.path();
        (case.spoil)(dir);
        let before = walk(dir);
        let mut args = vec!["train", "run.toml"];
        case.set
            .iter()
            .for_each(|assignment| args.extend(["--set", assignment]));
        let output = run(dir, &args);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{}: {said}", case.name);
        assert!(!said.contains("panicked"), "{}: {said}", case.name);
        for word in case.says {
            assert!(
                said.contains(word),
                "{}: `{word}` is not in: {said}",
                case.name
            );
        }
        assert_eq!(before, walk(dir), "{}", case.name);
    }
}

#[test]
fn broken_checkpoints_and_adapter_folders_are_named() {
    type Spoil = fn(&Path);
    let cases: [(&str, Spoil, &[&str], &str); 5] = [
        (
            "a checkpoint cut short",
            |d| cut(&d.join("out/checkpoint.safetensors")),
            &["train", "run.toml", "--resume"],
            "checkpoint.safetensors",
        ),
        (
            "a checkpoint of garbage",
            |d| fs::write(d.join("out/checkpoint.safetensors"), "no").unwrap(),
            &["train", "run.toml", "--resume"],
            "checkpoint.safetensors",
        ),
        (
            "an adapter cut short",
            |d| cut(&d.join("out/adapter/adapter_model.safetensors")),
            &["eval", "out"],
            "adapter_model.safetensors",
        ),
        (
            "an adapter without a configuration",
            |d| fs::remove_file(d.join("out/adapter/adapter_config.json")).unwrap(),
            &["inspect", "out/adapter"],
            "adapter_config.json",
        ),
        (
            "a coalition of other players",
            |_| {},
            &["eval", "out", "--coalition", "101"],
            "101",
        ),
    ];
    for (name, spoil, args, says) in cases {
        let scene = scene();
        assert!(run(scene.path(), &["train", "run.toml"]).status.success());
        spoil(scene.path());
        let output = run(scene.path(), args);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{name}: {said}");
        assert!(
            said.contains(says) && !said.contains("panicked"),
            "{name}: {said}"
        );
    }
}

/// A limit on the size of files stands for a disk that is full: writing fails, and the last good checkpoint stays.
#[cfg(unix)]
#[test]
fn a_checkpoint_that_cannot_be_written_leaves_the_last_good_one() {
    let scene = scene();
    let dir = scene.path();
    let stop_early = ["train", "run.toml", "--set", "eval.checkpoint_every=1"];
    let binary = coto(dir, &[]).get_program().to_string_lossy().into_owned();
    let limited = |blocks: u32, args: &[&str]| {
        let script = format!("ulimit -f {blocks}; trap '' XFSZ; exec \"$0\" \"$@\"");
        let mut command = std::process::Command::new("bash");
        command
            .current_dir(dir)
            .args(["-c", &script, &binary])
            .args(args)
            .output()
            .unwrap()
    };
    // Without moments the first checkpoints would be smaller; let one whole run show the size.
    assert!(run(dir, &stop_early).status.success());
    let checkpoint = dir.join("out/checkpoint.safetensors");
    let (good, size) = (
        fs::read(&checkpoint).unwrap(),
        fs::metadata(&checkpoint).unwrap().len(),
    );
    let mut again = stop_early.to_vec();
    again.push("--overwrite");
    let output = limited((size / 1024 / 2) as u32, &again);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("checkpoint.safetensors") && !said.contains("panicked"),
        "{said}"
    );
    assert!(
        good == fs::read(&checkpoint).unwrap(),
        "the old checkpoint is as it was"
    );
    let stray: Vec<_> = fs::read_dir(dir.join("out"))
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name())
        .filter(|name| name.to_string_lossy().starts_with('.'))
        .collect();
    assert!(stray.is_empty(), "{stray:?}");
}

fn cut(path: &Path) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
}

fn row(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from));
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

fn config(dir: &Path, from: &str, to: &str) {
    row(&dir.join("model/config.json"), from, to);
}

type Tensor = (Vec<usize>, Vec<u8>);

fn edit(dir: &Path, change: fn(&str, Tensor) -> Option<Tensor>) {
    rewrite(dir, |tensors| {
        tensors
            .into_iter()
            .filter_map(|(name, tensor)| Some((name.clone(), change(&name, tensor)?)))
            .collect()
    });
}

fn edit_add(dir: &Path, name: &str) {
    rewrite(dir, |mut tensors| {
        tensors.push((name.to_owned(), (vec![1], vec![0; 4])));
        tensors
    });
}

fn rewrite(dir: &Path, change: impl Fn(Vec<(String, Tensor)>) -> Vec<(String, Tensor)>) {
    let path = dir.join("model/model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let all = file
        .iter()
        .map(|(name, v)| (name.to_owned(), (v.shape().to_vec(), v.data().to_vec())));
    let tensors = change(all.collect());
    let views = tensors.iter().map(|(name, (shape, data))| {
        (
            name,
            TensorView::new(Dtype::F32, shape.clone(), data).unwrap(),
        )
    });
    fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
}

fn nan((shape, mut data): Tensor) -> Tensor {
    data[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    (shape, data)
}
