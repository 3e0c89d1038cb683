//! The instruments: what they answer, what they leave in the folders, what they refuse.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use tempfile::TempDir;

use crate::{coto, json, run, scene, succeed, text};

/// Two runs of one task, `out` and `other`, of another seed.
pub fn trained() -> TempDir {
    let scene = scene();
    let other = scene.path().join("other");
    let set = format!("out={:?}", other.display().to_string());
    succeed(scene.path(), &["train", "run.toml"]);
    succeed(
        scene.path(),
        &["train", "run.toml", "--set", &set, "--set", "seed=4"],
    );
    scene
}

pub fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("{value} is no number"))
}

fn page(dir: &Path, name: &str) -> String {
    fs::read_to_string(dir.join(name)).unwrap()
}

/// The last line of standard error of a command that fails.
pub fn refusal(dir: &Path, args: &[&str]) -> String {
    let output = run(dir, args);
    assert_eq!(output.status.code(), Some(1), "coto {args:?}");
    text(&output.stderr)
}

#[test]
fn shapley_values_share_out_what_evaluation_finds() {
    let scene = trained();
    let dir = scene.path();
    let loss = |on: &str| number(&json(dir, &["eval", "out", "--json", "--coalition", on])["loss"]);
    let found = json(dir, &["shapley", "out", "--json", "--values"]);
    assert_eq!(found["exact"], true);
    assert_eq!(found["layer_runs"]["used"], 6);
    let values: Vec<f64> = found["values"]
        .as_array()
        .unwrap()
        .iter()
        .map(number)
        .collect();
    assert_eq!(
        values,
        [loss("00"), loss("10"), loss("01"), loss("11")].map(|loss| -loss)
    );
    let lower = 0.5 * (values[1] - values[0] + values[3] - values[2]);
    assert!((number(&found["players"][0]["value"]) - lower).abs() < 1e-12);
    assert_eq!(found["players"][1]["player"], "layer.1");
    assert_eq!(
        fs::read_to_string(dir.join("out/shapley.json"))
            .unwrap()
            .trim(),
        serde_json::to_string_pretty(&found).unwrap()
    );
    assert!(page(dir, "out/shapley.html").contains("layer.1"));

    let margin = json(
        dir,
        &[
            "shapley",
            "out/adapter",
            "--json",
            "--value",
            "margin",
            "--per",
            "kind",
            "-o",
            "kinds.json",
        ],
    );
    assert_eq!(margin["players"].as_array().unwrap().len(), 6);
    assert_eq!(margin["layers"], serde_json::json!([]));
    assert!(dir.join("kinds.html").exists());
}

#[test]
fn an_estimate_has_intervals_and_ends_within_its_budget() {
    let scene = trained();
    let dir = scene.path();
    let args = [
        "shapley",
        "out",
        "--json",
        "--per",
        "module",
        "--budget",
        "60",
        "--seed",
        "5",
        "--samples",
        "10",
    ];
    let found = json(dir, &args);
    assert_eq!(
        (&found["exact"], &found["samples"]),
        (&Value::Bool(false), &Value::from(10))
    );
    assert!(number(&found["evaluations"]) <= 60.0);
    let total: f64 = (0..12).map(|i| number(&found["players"][i]["value"])).sum();
    assert!((total - number(&found["grand"]) + number(&found["empty"])).abs() < 1e-9);
    let again = json(dir, &args);
    assert_eq!(again["players"], found["players"]);
    assert!(
        refusal(
            dir,
            &[
                "shapley", "out", "--per", "module", "--budget", "60", "--values"
            ]
        )
        .contains("--budget")
    );
    assert!(
        refusal(dir, &["shapley", "out", "--per", "module", "--budget", "3"])
            .contains("evaluations")
    );
}

#[test]
fn a_killed_measurement_goes_on_and_gives_the_same_values() {
    let scene = trained();
    let dir = scene.path();
    let args = [
        "shapley",
        "out",
        "--json",
        "--per",
        "module",
        "--values",
        "--resume",
        "-o",
        "whole.json",
    ];
    let mut child = coto(dir, &args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let record = || {
        let entries = fs::read_dir(dir)
            .unwrap()
            .flatten()
            .map(|entry| entry.path());
        entries
            .into_iter()
            .find(|path| path.display().to_string().ends_with(".values.jsonl"))
    };
    while record().is_none_or(|path| fs::metadata(path).map_or(0, |file| file.len()) == 0) {
        assert!(
            child.try_wait().unwrap().is_none(),
            "over before it could be killed"
        );
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let path = record().unwrap();
    // As a kill in the middle of a line would leave it.
    let mut lines = fs::read_to_string(&path).unwrap();
    let known = lines.lines().count();
    assert!(known < 4096);
    lines.truncate(lines.len() - 5);
    fs::write(&path, lines).unwrap();
    let resumed = json(dir, &args);
    // What is known stays for a larger budget or a finer precision.
    let all = fs::read_to_string(record().unwrap()).unwrap();
    assert_eq!(all.lines().count(), 4096);
    let again = json(dir, &args);
    assert_eq!(number(&again["layer_runs"]["used"]), 0.0);
    assert_eq!(again["players"], resumed["players"]);
    let whole = json(
        dir,
        &[
            "shapley",
            "out",
            "--json",
            "--per",
            "module",
            "--values",
            "-o",
            "again.json",
        ],
    );
    assert_eq!(resumed["values"], whole["values"]);
    assert_eq!(resumed["players"], whole["players"]);
    assert!(number(&whole["layer_runs"]["used"]) < number(&whole["layer_runs"]["naive"]));
}

#[test]
fn stability_and_the_bound_agree_at_their_ends() {
    let scene = trained();
    let dir = scene.path();
    let sizes = &json(
        dir,
        &[
            "stability",
            "out",
            "--json",
            "--per",
            "module",
            "--most",
            "5",
        ],
    )["sizes"];
    let counts: Vec<f64> = (0..=12).map(|i| number(&sizes[i]["coalitions"])).collect();
    assert_eq!(
        (counts[0], counts[1], counts[6], counts[12]),
        (1.0, 5.0, 5.0, 1.0)
    );
    let sides = &json(
        dir,
        &[
            "bound", "out", "--json", "--per", "module", "--most", "5", "--steps", "4",
        ],
    )["sides"];
    for (end, size) in [(0, 0), (4, 12)] {
        let (a, b) = (
            number(&sides[end]["expected_loss"]["mean"]),
            number(&sizes[size]["loss"]["mean"]),
        );
        assert!((a - b).abs() < 1e-9, "{a} {b}");
        assert!(number(&sides[end]["gap"]["mean"]).abs() < 1e-12);
    }
    let gap = &sides[2]["gap"];
    assert!(number(&gap["mean"]) > 0.0 && number(&gap["standard_error"]) > 0.0);
    assert!(page(dir, "out/bound.html").contains("Theorem 3.1"));
    assert!(page(dir, "out/stability.html").contains("whisker"));
}

#[test]
fn paths_begin_and_end_at_the_runs_own_scores() {
    let scene = trained();
    let dir = scene.path();
    let found = json(
        dir,
        &[
            "connect", "out", "other", "--json", "--align", "--steps", "4",
        ],
    );
    let curves = found["curves"].as_array().unwrap();
    assert_eq!(curves.len(), 3);
    let own =
        ["out", "other"].map(|folder| number(&json(dir, &["eval", folder, "--json"])["loss"]));
    for curve in curves {
        let ends = [0, 4].map(|i| number(&curve["points"][i]["loss"]));
        // Their own heads are read too; those were trained.
        assert!(
            ends.iter().zip(own).all(|(a, b)| (a - b).abs() < 1e-4),
            "{ends:?} {own:?}"
        );
        assert!(number(&curve["loss_barrier"]) >= 0.0);
    }
    let middle = |i: usize| number(&curves[i]["points"][2]["loss"]);
    assert_ne!(middle(0), middle(1));
    let same = json(dir, &["connect", "out", "out", "--json", "-o", "same.json"]);
    assert!(number(&same["curves"][0]["loss_barrier"]) < 1e-6);
    let three = json(
        dir,
        &[
            "connect",
            "out",
            "other",
            "out",
            "--json",
            "--steps",
            "3",
            "-o",
            "three.json",
        ],
    );
    assert_eq!(three["triangle"].as_array().unwrap().len(), 10);
    assert!(page(dir, "three.html").contains("three adapters"));
}

#[test]
fn an_adapter_is_like_itself_and_less_like_another() {
    let scene = trained();
    let dir = scene.path();
    let found = json(
        dir,
        &["similarity", "out", "other/adapter", "out", "--json"],
    );
    let at = |key: &str, i: usize, j: usize| number(&found[key][i][j]);
    assert!((at("cosine", 0, 2) - 1.0).abs() < 1e-5 && at("cosine", 0, 1) < 0.99);
    assert!(at("distance", 0, 2) < 1e-2 * at("distance", 0, 1));
    assert!(
        number(&found["inputs"]["angle"][0][2]) < 1.0
            && number(&found["inputs"]["angle"][0][1]) > 10.0
    );
    assert!((number(&found["explained"]) - 1.0).abs() < 1e-3);
    let report = succeed(dir, &["report", "out/similarity.json"]);
    assert!(report.trim().ends_with("similarity.html"));
}

#[test]
fn a_folder_of_results_is_reported_on_one_page() {
    let scene = trained();
    let dir = scene.path();
    succeed(dir, &["shapley", "out", "-o", "results/a.json"]);
    succeed(dir, &["stability", "other", "-o", "results/b.json"]);
    succeed(dir, &["report", "results"]);
    let page = page(dir, "results/report.html");
    assert!(page.contains("Shapley values of out") && page.contains("Dropout stability of other"));
}

#[test]
fn what_cannot_be_measured_is_named() {
    let scene = trained();
    let dir = scene.path();
    assert!(refusal(dir, &["shapley", "nowhere"]).contains("run.toml"));
    fs::create_dir_all(dir.join("alone")).unwrap();
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        fs::copy(
            dir.join("out/adapter").join(file),
            dir.join("alone").join(file),
        )
        .unwrap();
    }
    assert!(refusal(dir, &["stability", "alone"]).contains("--run"));
    let with = json(dir, &["stability", "alone", "--run", "out", "--json"]);
    let own = json(dir, &["stability", "out", "--json"]);
    assert_eq!(with["sizes"], own["sizes"]);
    assert!(refusal(dir, &["shapley", "out", "--samples", "0"]).contains("--samples"));
    assert!(refusal(dir, &["shapley", "out", "--precision", "0"]).contains("precision"));
    assert!(refusal(dir, &["connect", "out", "other", "--steps", "0"]).contains("steps"));
    fs::write(dir.join("out/head.safetensors"), "no").unwrap();
    assert!(refusal(dir, &["shapley", "out"]).contains("head.safetensors"));
    for args in [
        &["shapley", "out", "--per", "floor"][..],
        &["shapley", "out", "--value", "beauty"],
        &["shapley", "out", "--method", "guess"],
        &["connect", "out"],
        &["similarity", "out"],
    ] {
        assert_eq!(run(dir, args).status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn variants_whose_changes_are_not_of_low_rank_are_fused_and_compared_all_the_same() {
    let scene = scene();
    let dir = scene.path();
    for seed in ["3", "4"] {
        let out = format!("out={:?}", dir.join(seed).display().to_string());
        let seed = format!("seed={seed}");
        let set = [
            "--set",
            &out,
            "--set",
            &seed,
            "--set",
            "adapter.variant=dora",
        ];
        succeed(dir, &[&["train", "run.toml"][..], &set].concat());
    }
    let found = json(
        dir,
        &["connect", "3", "4", "--json", "--align", "--steps", "2"],
    );
    let joins: Vec<&Value> = (0..2).map(|i| &found["curves"][i]["join"]).collect();
    assert_eq!(joins, ["fusion", "fusion"]);
    assert!(found["remarks"][0].as_str().unwrap().contains("DoRA"));
    let alike = json(dir, &["similarity", "3", "4", "--json"]);
    assert!(number(&alike["cosine"][0][1]).abs() < 1.0);
}
