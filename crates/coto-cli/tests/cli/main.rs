//! The command as a user meets it: what it answers, what it refuses, what survives a kill.

mod analysis;
mod broken;
mod edit;
#[path = "../../../coto-train/tests/runs/fixture.rs"]
mod fixture;
mod language;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

use tempfile::TempDir;

fn scene() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fixture::write(dir.path());
    dir
}

fn coto(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coto"));
    command
        .current_dir(dir)
        .args(args)
        .env("HF_HUB_OFFLINE", "1");
    command
}

fn run(dir: &Path, args: &[&str]) -> Output {
    coto(dir, args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn succeed(dir: &Path, args: &[&str]) -> String {
    let output = run(dir, args);
    assert!(
        output.status.success(),
        "coto {args:?}: {}",
        text(&output.stderr)
    );
    text(&output.stdout)
}

fn json(dir: &Path, args: &[&str]) -> serde_json::Value {
    serde_json::from_str(&succeed(dir, args)).unwrap()
}

#[test]
fn a_run_goes_from_its_file_to_scores_and_its_folder_answers_questions() {
    let scene = scene();
    let dir = scene.path();
    let plan = json(dir, &["validate", "run.toml", "--json"]);
    assert_eq!(plan["players"], serde_json::json!(["layer.0", "layer.1"]));
    // Six linears in each of two layers, r = 2: 4 × (32+32) + (32+48) + (48+32) = 416 inputs and outputs; the head 32 × 2 + 2.
    assert_eq!(plan["trainable_parameters"], 2 * 2 * 416 + 66);

    let scores = json(dir, &["train", "run.toml", "--json"]);
    assert_eq!(json(dir, &["eval", "out", "--json"]), scores);
    let off = json(dir, &["eval", "out", "--json", "--coalition", "00"]);
    assert_ne!(off["loss"], scores["loss"]);

    let adapter = json(dir, &["inspect", "out/adapter", "--json"]);
    assert_eq!(adapter["modules"].as_array().unwrap().len(), 12);
    assert_eq!(adapter["coto"]["schedule"]["preset"], "coto");
    let config = fs::read_to_string(dir.join("out/adapter/adapter_config.json")).unwrap();
    assert!(config.contains("encoder.layer.1.output.dense") && !config.contains("all-linear"));
    let targets = json(dir, &["targets", "model", "query", "--json"]);
    assert_eq!(targets[1]["path"], "encoder.layer.1.attention.self.query");

    let page = succeed(dir, &["report", "out"]);
    assert!(
        fs::read_to_string(dir.join(page.trim()))
            .unwrap()
            .contains("layer.1")
    );
    let again = run(dir, &["train", "run.toml"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("--resume"));
}

#[test]
fn a_written_run_file_is_not_written_over() {
    let scene = tempfile::tempdir().unwrap();
    succeed(scene.path(), &["init"]);
    assert_eq!(run(scene.path(), &["init"]).status.code(), Some(1));
    assert!(succeed(scene.path(), &["completions", "bash"]).contains("coto"));
}

#[test]
fn wrong_usage_exits_with_two() {
    let scene = tempfile::tempdir().unwrap();
    for args in [
        &["train"][..],
        &["fly"],
        &["eval", "x", "--split", "nowhere"],
        &["train", "a", "--resume", "--overwrite"],
    ] {
        assert_eq!(run(scene.path(), args).status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn ten_kills_leave_the_bits_of_an_uninterrupted_run() {
    let (whole, killed) = (scene(), scene());
    let long = [
        "--set",
        "optim.steps=1500",
        "--set",
        "eval.checkpoint_every=3",
    ];
    let mut args = vec!["train", "run.toml"];
    args.extend(long);
    succeed(whole.path(), &args);
    args.push("--resume");
    let mut kills = 0;
    // Places spread over start-up, training and the writing of checkpoints, some again and again at the same point.
    for wait in [15u64, 220, 90, 310, 150, 260, 405, 70, 233, 210] {
        let mut child = coto(killed.path(), &args)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        sleep(Duration::from_millis(wait));
        child.kill().unwrap();
        kills += usize::from(!child.wait().unwrap().success());
        let left: Vec<_> = walk(killed.path());
        assert!(
            !left.iter().any(
                |name| name.ends_with(".safetensors") && fs::metadata(name).unwrap().len() == 0
            )
        );
    }
    assert!(kills == 10, "the run was long enough to be killed: {kills}");
    succeed(killed.path(), &args);
    for file in [
        "out/adapter/adapter_model.safetensors",
        "out/adapter/adapter_config.json",
        "out/head.safetensors",
    ] {
        let bytes = |scene: &TempDir| fs::read(scene.path().join(file)).unwrap();
        let (a, b) = (bytes(&whole), bytes(&killed));
        let path = |scene: &TempDir| scene.path().display().to_string();
        let same = if file.ends_with("json") {
            text(&a).replace(&path(&whole), "") == text(&b).replace(&path(&killed), "")
        } else {
            a == b
        };
        assert!(same, "{file}");
    }
}

fn walk(dir: &Path) -> Vec<String> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(walk(&path))
        } else {
            files.push(path.display().to_string())
        }
    }
    files
}

#[cfg(unix)]
#[test]
fn an_interrupt_saves_and_says_how_to_go_on() {
    let scene = scene();
    let args = ["train", "run.toml", "--set", "optim.steps=100000"];
    let child = coto(scene.path(), &args)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = scene.path().join("out/metrics.jsonl");
    while fs::metadata(&log).map_or(0, |m| m.len()) == 0 {
        sleep(Duration::from_millis(10));
    }
    assert!(
        Command::new("kill")
            .args(["-INT", &child.id().to_string()])
            .status()
            .unwrap()
            .success()
    );
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(
        said.contains("coto train run.toml --resume --set 'optim.steps=100000'"),
        "{said}"
    );
    assert!(scene.path().join("out/checkpoint.safetensors").exists());
}

#[test]
fn a_model_of_shards_is_found_in_the_hubs_cache() {
    let dir = tempfile::tempdir().unwrap();
    let repo = dir.path().join("hub/models--tiny--llama");
    let snapshot = repo.join("snapshots/abc");
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(repo.join("refs")).unwrap();
    fs::write(repo.join("refs/main"), "abc").unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens/models/llama_sharded");
    for entry in golden.read_dir().unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, snapshot.join(path.file_name().unwrap())).unwrap();
    }
    let ask = || {
        let mut command = coto(dir.path(), &["targets", "tiny/llama", "q_proj", "--json"]);
        command.env("HF_HOME", dir.path()).output().unwrap()
    };
    let without = ask();
    assert_eq!(without.status.code(), Some(1));
    assert!(
        text(&without.stderr).contains("not in the hub's cache"),
        "{}",
        text(&without.stderr)
    );
    fs::write(snapshot.join("tokenizer.json"), "{}").unwrap();
    let with = ask();
    assert!(with.status.success(), "{}", text(&with.stderr));
    assert!(text(&with.stdout).contains("model.layers.1.self_attn.q_proj"));
}

#[test]
fn a_gguf_file_answers_under_the_names_of_its_checkpoint() {
    let gguf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens/gguf/smollm2.gguf");
    let listed = succeed(
        Path::new("."),
        &["targets", gguf.to_str().unwrap(), "down_proj"],
    );
    assert!(listed.contains("model.layers.1.mlp.down_proj"), "{listed}");
}
