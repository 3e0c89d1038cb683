//! The command on a decoder: trained on completions, asked, and talked with.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};

use tempfile::TempDir;

use crate::{coto, fixture, json, run, scene, succeed, text};

fn told() -> TempDir {
    let dir = scene();
    fixture::tell(dir.path());
    dir
}

/// What the command says to lines on its standard input.
fn talk(dir: &Path, args: &[&str], lines: &str) -> Output {
    let mut command = coto(dir, args);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(lines.as_bytes())
        .unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn a_decoder_on_a_quantised_base_is_trained_asked_and_talked_with() {
    let scene = told();
    let dir = scene.path();
    let sets = [
        "--set",
        "optim.lr=2e-2",
        "--set",
        "optim.steps=240",
        "--base-quant",
        "q8",
    ];
    let plan = json(
        dir,
        &[&["validate", "run.toml", "--json"], &sets[..]].concat(),
    );
    assert_eq!(plan["labels"], serde_json::json!([]));
    let bytes = |key: &str| plan[key].as_u64().unwrap();
    assert!(bytes("base_bytes") < 4 * bytes("frozen_parameters") / 2);
    let scores = json(dir, &[&["train", "run.toml", "--json"], &sets[..]].concat());
    assert!(scores["perplexity"].as_f64().unwrap() > 1.0 && scores["matthews"].is_null());
    assert_eq!(json(dir, &["eval", "out", "--json"]), scores);
    let page = succeed(dir, &["report", "out"]);
    assert!(
        fs::read_to_string(dir.join(page.trim()))
            .unwrap()
            .contains("layer.1")
    );

    // The next word is the likeliest of four choices far more often than of the untrained base.
    let mut rows = String::new();
    for first in 0..40 {
        let choices: Vec<String> = [2, 20, 33, 47]
            .map(|i| format!("w{}", (first + i) % 60))
            .into();
        let context = format!("w{first} w{}", first + 1);
        rows +=
            &serde_json::json!({"context": context, "choices": choices, "answer": 0}).to_string();
        rows.push('\n');
    }
    fs::write(dir.join("choices.jsonl"), rows).unwrap();
    let accuracy = |coalition: &str| {
        let args = [
            "eval",
            "out",
            "--choices",
            "choices.jsonl",
            "--coalition",
            coalition,
            "--json",
        ];
        json(dir, &args)["accuracy"].as_f64().unwrap()
    };
    assert!(
        accuracy("11") > accuracy("00") + 0.2,
        "{} {}",
        accuracy("11"),
        accuracy("00")
    );

    let alone = |args: &[&str]| succeed(dir, &[&["generate", "model", "--raw"], args].concat());
    let prompt = ["--prompt", "w7 w8 w9", "--max-tokens", "3"];
    let adapted = alone(
        &[
            &prompt[..],
            &["--adapter", "out/adapter", "--base-quant", "q8"],
        ]
        .concat(),
    );
    assert_ne!(adapted, alone(&prompt));
    let question = serde_json::json!({"prompt": "w7 w8 w9", "answer": adapted.trim()});
    fs::write(dir.join("questions.jsonl"), question.to_string()).unwrap();
    let args = [
        "eval",
        "out",
        "--questions",
        "questions.jsonl",
        "--max-tokens",
        "3",
        "--json",
    ];
    let found = json(dir, &args);
    assert_eq!(found["exact_match"], 1.0, "{found}");

    let args = [
        "generate",
        "model",
        "--raw",
        "--max-tokens",
        "3",
        "--adapter",
        "next=out/adapter",
    ];
    let lines = "w7 w8 w9\n/adapter base\nw7 w8 w9\n/adapter nobody\n/adapter next\nw7 w8 w9\n";
    let output = talk(dir, &args, lines);
    let (said, told) = (text(&output.stdout), text(&output.stderr));
    let said: Vec<&str> = said.lines().collect();
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(said[0] == said[2] && said[0] != said[1], "{said:?}");
    assert!(
        told.contains("no adapter `nobody`") && told.contains("next"),
        "{told}"
    );
    // The same seed draws the same tokens, another seed others.
    let draw = |seed: &str| {
        let hot = [
            "--temperature",
            "5",
            "--top-p",
            "0.95",
            "--seed",
            seed,
            "--max-tokens",
            "9",
        ];
        alone(&[&["--prompt", "w7"], &hot[..]].concat())
    };
    assert!(draw("1") == draw("1") && draw("1") != draw("2"));
    // A conversation goes through the chat template.
    assert_ne!(
        succeed(dir, &["generate", "model", "--prompt", "w7 w8 w9"]),
        alone(&prompt)
    );
}

#[test]
fn what_cannot_be_asked_of_a_decoder_is_refused_by_name() {
    let scene = told();
    let dir = scene.path();
    succeed(dir, &["train", "run.toml", "--set", "optim.steps=2"]);
    let write = |name: &str, text: &str| fs::write(dir.join(name), text).unwrap();
    write(
        "one.jsonl",
        r#"{"context": "w1", "choices": ["w2"], "answer": 0}"#,
    );
    write(
        "answer.jsonl",
        r#"{"context": "w1", "choices": ["w2", "w3"], "answer": 5}"#,
    );
    write("ask.jsonl", r#"{"prompt": "w1", "answer": "w2"}"#);
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens");
    let bytes = fs::read(golden.join("gguf/quantised.gguf")).unwrap();
    fs::write(dir.join("cut.gguf"), &bytes[..bytes.len() / 3]).unwrap();
    fs::write(dir.join("mute.gguf"), &bytes).unwrap();
    let bert = golden.join("models/bert").display().to_string();
    let cases: [(&[&str], &[&str]); 11] = [
        (
            &["eval", "out", "--choices", "one.jsonl"],
            &["one.jsonl", "row 1", "choices"],
        ),
        (
            &["eval", "out", "--choices", "answer.jsonl"],
            &["answer.jsonl", "`5`"],
        ),
        (&["eval", "out", "--choices", "none.jsonl"], &["none.jsonl"]),
        (
            &["eval", "out", "--questions", "ask.jsonl", "--pattern", "(["],
            &["regex"],
        ),
        (
            &["eval", "out", "--split", "validation", "--coalition", "111"],
            &["3 players"],
        ),
        (&["generate", "cut.gguf", "--prompt", "x"], &["cut.gguf"]),
        (&["generate", "gone.gguf", "--prompt", "x"], &["gone.gguf"]),
        (
            &["generate", "mute.gguf", "--prompt", "x"],
            &["mute.gguf", "tokenizer.ggml"],
        ),
        (
            &["generate", &bert, "--prompt", "x"],
            &["an encoder", "only decoders"],
        ),
        (
            &["generate", "model", "--adapter", "nowhere", "--prompt", "x"],
            &["nowhere"],
        ),
        (
            &[
                "generate",
                "model",
                "--adapter",
                "out/adapter",
                "--coalition",
                "1",
                "--prompt",
                "w1",
            ],
            &["1 players", "2"],
        ),
    ];
    for (args, says) in cases {
        let output = run(dir, args);
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {message}");
        assert!(!message.contains("panicked"), "{args:?}: {message}");
        let missing: Vec<_> = says
            .iter()
            .filter(|part| !message.contains(**part))
            .collect();
        assert!(missing.is_empty(), "{args:?}: no {missing:?} in {message}");
    }
    // Rows that lose something are told of.
    let set = [
        "--set",
        "data.max_tokens=6",
        "--set",
        "optim.steps=1",
        "--overwrite",
    ];
    let output = run(dir, &[&["train", "run.toml"], &set[..]].concat());
    let message = text(&output.stderr);
    assert!(message.contains("training rows cut short"), "{message}");
    let output = run(dir, &["generate", "model", "--base-quant", "q3"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("`nf4`"));
    // A template that refuses, or is none, says so.
    for (template, says) in [
        (
            "{{ raise_exception('roles must alternate') }}",
            "roles must alternate",
        ),
        ("{% for m in %}", "template"),
    ] {
        let settings = serde_json::json!({"eos_token": "[SEP]", "chat_template": template});
        write("model/tokenizer_config.json", &settings.to_string());
        let message = text(&run(dir, &["generate", "model", "--prompt", "w1"]).stderr);
        assert!(
            message.contains(says) && !message.contains("panicked"),
            "{message}"
        );
    }
}
