//! Whole pages from small result folders: what they say, that they stand alone, and what broken folders are told.

mod results;

use std::fs;
use std::path::Path;

use coto_report::Error;
use serde_json::{Value, json};

const STEPS: u64 = 130;

/// A run's log: the loss falls from 3 to 1, layers 0 and 1 take turns when `coto`, else both are on.
fn write_run(dir: &Path, coto: bool) {
    fs::create_dir_all(dir).unwrap();
    let mut log = String::new();
    for step in 0..STEPS {
        let active = match (coto, step % 2) {
            (false, _) => "11",
            (true, 0) => "10",
            (true, _) => "01",
        };
        let loss = 3.0 - 2.0 * step as f64 / (STEPS - 1) as f64;
        let line = json!({"kind": "step", "step": step, "loss": loss, "lr": 0.004, "p": 0.5, "active": active, "seconds": 0.05, "tokens": 800});
        log += &format!("{line}\n");
    }
    for step in [65, 130] {
        log += &format!(
            "{}\n",
            json!({"kind": "eval", "step": step, "loss": 1.25, "accuracy": 0.5, "macro_f1": 0.4, "matthews": 0.3})
        );
    }
    fs::write(dir.join("metrics.jsonl"), log).unwrap();
    let side = json!({"players": ["layer.0", "layer.1"], "schedule": {"preset": "coto", "p0": 0.1}, "seed": 1});
    fs::create_dir_all(dir.join("adapter")).unwrap();
    fs::write(dir.join("adapter/coto.json"), side.to_string()).unwrap();
}

fn outcome(method: &str, seed: u64, accuracy: f64) -> Value {
    json!({"name": format!("{method}-seed-{seed}"), "method": method, "seed": seed, "folder": format!("{method}-{seed}"),
        "accuracy": accuracy, "macro_f1": 0.6, "train_accuracy": 1.0, "every_other_accuracy": accuracy - 0.1,
        "seconds_per_step": 0.05, "seconds": 51.2})
}

/// CoTo loses to LoRA by 1.5 points alone and wins by 20 when fused.
fn summary() -> Value {
    json!({"task": "wordnet-nouns", "model": "all-MiniLM-L6-v2", "classes": 26, "train_rows": 520, "validation_rows": 2000,
        "test_rows": 2000, "steps": STEPS, "rank": 8, "alpha": 16.0, "learning_rate": 0.004, "batch_size": 16,
        "targets": "all-linear", "device": "cpu", "probe_accuracy": 0.617,
        "runs": [outcome("lora", 1, 0.66), outcome("lora", 2, 0.67), outcome("coto", 1, 0.64), outcome("coto", 2, 0.66)],
        "joined": [{"method": "lora", "fusion_accuracy": 0.41, "mixture_accuracy": 0.64},
                   {"method": "coto", "fusion_accuracy": 0.61, "mixture_accuracy": 0.64}]})
}

fn folder(summary: &Value) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, coto) in [
        ("lora-1", false),
        ("lora-2", false),
        ("coto-1", true),
        ("coto-2", true),
    ] {
        write_run(&dir.path().join(name), coto);
    }
    fs::write(dir.path().join("summary.json"), summary.to_string()).unwrap();
    dir
}

fn demo(summary: &Value) -> String {
    let dir = folder(summary);
    let path = coto_report::demo(dir.path()).unwrap();
    assert_eq!(path, dir.path().join("report.html"));
    fs::read_to_string(path).unwrap()
}

/// Every tag closed by its own name, in order; panics with the place where not.
fn assert_balanced(page: &str) {
    let mut open: Vec<&str> = Vec::new();
    for (at, _) in page.match_indices('<') {
        let tag = &page[at + 1
            ..at + page[at..]
                .find('>')
                .unwrap_or_else(|| panic!("no end: {}", &page[at..]))];
        assert!(!tag.contains('<'), "a tag within a tag: {tag}");
        let name = tag
            .trim_start_matches('/')
            .split_whitespace()
            .next()
            .unwrap();
        match (
            tag.starts_with('/'),
            tag.ends_with('/') || ["!DOCTYPE", "meta"].contains(&name),
        ) {
            (true, _) => assert_eq!(open.pop(), Some(name), "closed at byte {at}"),
            (false, true) => {}
            (false, false) => open.push(name),
        }
    }
    assert!(open.is_empty(), "never closed: {open:?}");
}

fn assert_stands_alone(page: &str) {
    for outside in [
        "http:",
        "https:",
        "<script",
        "<link",
        "<img",
        "@import",
        "url(",
        "javascript:",
        "src=",
        " href=",
    ] {
        assert!(!page.contains(outside), "the page has {outside}");
    }
    assert_balanced(page);
}

fn assert_says(page: &str, texts: &[&str]) {
    for text in texts {
        assert!(page.contains(text), "the page does not say {text:?}");
    }
}

#[test]
fn the_demo_says_plainly_that_coto_lost_and_where_it_won() {
    let page = demo(&summary());
    assert_stands_alone(&page);
    assert_says(
        &page,
        &[
            "The mean test accuracy of CoTo is 1.5 points below LoRA (65.0 % against 66.5 %), over 2 seeds each.",
            "CoTo is 20.0 points above LoRA (61.0 % against 41.0 %) by fusion of A and B, and is level with LoRA",
            "a standard error of about 1.1 points, and the seeds of one method lie up to 2.0 points apart.",
            "without any adapter, reaches 61.7 %",
            "<th scope=\"row\">Test accuracy, seed 2</th><td>67.0 %</td><td>66.0 %</td><td>−1.0</td>",
            "<th scope=\"row\">Joined A, B (fusion), λ = 0.5</th><td>41.0 %</td><td>61.0 %</td><td>+20.0</td>",
            "<th scope=\"row\">Every other layer off, mean</th><td>56.5 %</td><td>55.0 %</td><td>−1.5</td>",
            "<th scope=\"row\">ms per step, mean</th><td>50.0</td><td>50.0</td><td>0.0</td>",
            "λ = 0.5 means equal parts",
        ],
    );
}

#[test]
fn the_heat_maps_show_each_method_once() {
    let page = demo(&summary());
    assert_eq!(page.matches("<title id=\"active-").count(), 2);
    // Layers that take turns are on half of the time; plain LoRA's always. Each map's legend has both numbers once.
    assert_eq!(page.matches(">50 %</text>").count(), 2 + 2);
    assert_eq!(page.matches(">100 %</text>").count(), 2 + 2);
}

#[test]
fn ids_are_unique_and_every_picture_is_described() {
    let page = demo(&summary());
    let mut ids: Vec<&str> = page
        .match_indices(" id=\"")
        .map(|(at, found)| page[at + found.len()..].split('"').next().unwrap())
        .collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count);
    assert_eq!(page.matches("role=\"img\"").count() * 2, count);
}

#[test]
fn a_comparison_without_coto_joined_or_probe_still_makes_a_page() {
    let mut summary = summary();
    summary["runs"] = json!([outcome("lora", 1, 0.66)]);
    let fields = summary.as_object_mut().unwrap();
    fields.remove("joined");
    fields.remove("probe_accuracy");
    let page = demo(&summary);
    assert_stands_alone(&page);
    assert_says(&page, &["Mean test accuracy: LoRA 66.0 %."]);
    assert!(!page.contains("CoTo −") && !page.contains("Joined A, B (fusion), λ"));
}

#[test]
fn hostile_texts_come_out_as_texts() {
    let mut summary = summary();
    for field in ["task", "model", "targets", "device"] {
        summary[field] = json!("<img onerror=\"x\">&'");
    }
    summary["runs"][0]["method"] = json!("</svg></title><b>");
    summary["runs"][0]["name"] = json!("</td><i>");
    let dir = folder(&summary);
    let side = json!({"players": ["</text><u>", "\"><a"], "seed": "<s>"});
    fs::create_dir_all(dir.path().join("lora-1/adapter")).unwrap();
    fs::write(
        dir.path().join("lora-1/adapter/coto.json"),
        side.to_string(),
    )
    .unwrap();

    let page = fs::read_to_string(coto_report::demo(dir.path()).unwrap()).unwrap();
    assert_stands_alone(&page);
    assert_says(
        &page,
        &[
            "&lt;img onerror=&quot;x&quot;&gt;&amp;&#39;",
            "&lt;/text&gt;&lt;u&gt;",
        ],
    );
    let page = fs::read_to_string(coto_report::run(&dir.path().join("lora-1")).unwrap()).unwrap();
    assert_stands_alone(&page);
    assert_says(&page, &["<th scope=\"row\">seed</th><td>&lt;s&gt;</td>"]);
}

#[test]
fn the_page_of_one_run_tells_its_losses_speed_and_settings() {
    let dir = tempfile::tempdir().unwrap();
    write_run(&dir.path().join("coto-1"), true);
    let page = fs::read_to_string(coto_report::run(&dir.path().join("coto-1")).unwrap()).unwrap();
    assert_stands_alone(&page);
    assert_says(
        &page,
        &[
            "<h1>Training run coto-1</h1>",
            "130 steps: the training loss went from 2.984 to 1.016 (means over the first and last 3 steps).",
            "Last evaluation, after 130 steps: loss 1.250, accuracy 50.0 %, macro F1 40.0 %.",
            "Median step 50.0 ms; 6.5 s of steps in all; 16000 tokens a second.",
            "<th scope=\"row\">schedule.p0</th><td>0.1</td>",
            "Learning rate at every step.",
            "layer.1",
        ],
    );
}

#[test]
fn a_missing_log_is_named() {
    let dir = folder(&summary());
    let log = dir.path().join("coto-2/metrics.jsonl");
    fs::remove_file(&log).unwrap();
    let error = coto_report::demo(dir.path()).unwrap_err();
    assert!(
        matches!(&error, Error::MissingFile { path } if *path == log),
        "{error}"
    );
    assert!(!dir.path().join("report.html").exists());
}

#[test]
fn a_line_cut_short_is_named_with_its_number() {
    let dir = folder(&summary());
    let log = dir.path().join("coto-2/metrics.jsonl");
    let text = fs::read_to_string(&log).unwrap();
    fs::write(&log, &text[..text.len() - 9]).unwrap();
    let error = coto_report::demo(dir.path()).unwrap_err();
    assert!(
        matches!(&error, Error::Malformed { path, line: 132, .. } if *path == log),
        "{error}"
    );
}

#[test]
fn a_missing_field_is_named() {
    let mut summary = summary();
    summary["runs"][1]
        .as_object_mut()
        .unwrap()
        .remove("macro_f1");
    let dir = folder(&summary);
    let error = coto_report::demo(dir.path()).unwrap_err();
    assert!(
        matches!(&error, Error::Field { cause, .. } if cause == "missing field `macro_f1`"),
        "{error}"
    );
}

#[test]
fn an_unknown_kind_of_line_and_a_summary_without_runs_are_named() {
    let mut summary = summary();
    let dir = folder(&summary);
    fs::write(
        dir.path().join("coto-1/metrics.jsonl"),
        "{\"kind\":\"stop\"}",
    )
    .unwrap();
    let error = coto_report::demo(dir.path()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("line 1: unknown variant `stop`, expected `step` or `eval`"),
        "{error}"
    );
    summary["runs"] = json!([]);
    let error = coto_report::demo(folder(&summary).path()).unwrap_err();
    assert!(
        matches!(error, Error::Empty { what: "runs", .. }),
        "{error}"
    );
}
