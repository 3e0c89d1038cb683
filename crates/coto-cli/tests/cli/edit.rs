//! Merging, pruning and exporting: what comes out, that it is what the instruments say it is, what is refused.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::analysis::{number, refusal, trained};
use crate::{json, succeed};

fn adapter(dir: &Path, name: &str) -> Value {
    json(dir, &["inspect", name, "--json"])
}

fn close(a: f64, b: f64) {
    assert!((a - b).abs() < 1e-5 * (1.0 + b.abs()), "{a} against {b}");
}

#[test]
fn merged_adapters_are_judged_on_the_tasks_of_both() {
    let scene = trained();
    let dir = scene.path();
    let told = succeed(dir, &["merge", "out", "other", "-o", "merged"]);
    assert!(told.contains("12 modules by concat, rank 4 to 4"), "{told}");
    assert_eq!(
        adapter(dir, "merged")["modules"].as_array().unwrap().len(),
        12
    );

    let tried = json(
        dir,
        &[
            "merge",
            "out",
            "other",
            "--weights",
            "1,0.000001",
            "--try",
            "concat,svd,core+ties,regmean,ensemble",
            "--split",
            "test",
            "--json",
        ],
    );
    let trials = tried["trials"].as_array().unwrap();
    let own = json(dir, &["eval", "out", "--json"]);
    close(
        number(&trials[0]["scores"][0]["loss"]),
        number(&own["loss"]),
    );
    close(
        number(&trials[4]["scores"][0]["loss"]),
        number(&own["loss"]),
    );
    assert!(trials[1]["refused"].as_str().unwrap().contains("rank"));
    for trial in &trials[2..] {
        assert_eq!(trial["scores"].as_array().unwrap().len(), 2, "{trial}");
    }
    let own = json(dir, &["eval", "other", "--json"]);
    assert_eq!(tried["tasks"][1]["own"]["loss"], own["loss"]);
    let page = fs::read_to_string(dir.join("merge.html")).unwrap();
    assert!(page.contains("Merging out, other") && page.contains("core+ties"));
}

#[test]
fn a_recipe_says_what_flags_say_and_more() {
    let scene = trained();
    let dir = scene.path();
    let recipe = "out = \"by-recipe\"\nmethod = \"core+ties\"\n[options]\nrank = 2\ndensity = 0.5\n\
                  [[adapter]]\npath = \"out\"\nweight = 0.25\n[[adapter]]\npath = \"other/adapter\"\nweight = 0.75\n";
    fs::write(dir.join("recipe.toml"), recipe).unwrap();
    let flags = [
        "merge",
        "out",
        "other",
        "--weights",
        "0.25,0.75",
        "--method",
        "core+ties",
        "--rank",
        "2",
        "--set",
        "options.density=0.5",
        "-o",
        "by-flags",
    ];
    succeed(dir, &["merge", "recipe.toml"]);
    succeed(dir, &flags);
    let weights = |name: &str| fs::read(dir.join(name).join("adapter_model.safetensors")).unwrap();
    assert_eq!(weights("by-recipe"), weights("by-flags"));
    let peft = |name: &str| {
        let method = format!("peft:{name}");
        vec![
            "merge".to_owned(),
            "out".into(),
            "other".into(),
            "--method".into(),
            method,
            "-o".into(),
            name.into(),
        ]
    };
    let args = peft("cat");
    succeed(dir, &args.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(adapter(dir, "cat")["modules"].as_array().unwrap().len(), 12);
    let args = peft("cot");
    assert!(refusal(dir, &args.iter().map(String::as_str).collect::<Vec<_>>()).contains("cat"));

    fs::write(
        dir.join("recipe.toml"),
        format!("{recipe}[[module]]\npattern = \"query\"\nmethod = \"svd\"\n"),
    )
    .unwrap();
    succeed(dir, &["merge", "recipe.toml", "-o", "mixed"]);
    assert_ne!(weights("mixed"), weights("by-flags"));
    fs::write(
        dir.join("recipe.toml"),
        format!("{recipe}[[module]]\npattern = \"qeury\"\nmethod = \"svd\"\n"),
    )
    .unwrap();
    assert!(refusal(dir, &["merge", "recipe.toml"]).contains("qeury"));
    fs::write(dir.join("recipe.toml"), recipe.replace("density", "densty")).unwrap();
    assert!(refusal(dir, &["merge", "recipe.toml"]).contains("densty"));
    fs::write(dir.join("recipe.toml"), recipe.replace("density", "gamma")).unwrap();
    let told = refusal(dir, &["merge", "recipe.toml"]);
    assert!(
        told.contains("options.gamma") && told.contains("density"),
        "{told}"
    );
    let scaled = refusal(
        dir,
        &[
            "merge",
            "out",
            "other",
            "--method",
            "peft:cat",
            "--set",
            "scale=2.0",
            "-o",
            "scaled",
        ],
    );
    assert!(scaled.contains("scale"), "{scaled}");
}

#[test]
fn the_best_of_what_is_tried_is_kept_and_weights_can_be_searched() {
    let scene = trained();
    let dir = scene.path();
    let tried = json(
        dir,
        &[
            "merge",
            "out",
            "other",
            "--try",
            "fuse",
            "--search",
            "6",
            "--samples",
            "20",
            "--split",
            "train",
            "--json",
            "-o",
            "best",
        ],
    );
    let trials = tried["trials"].as_array().unwrap();
    assert!(
        trials[1]["method"]
            .as_str()
            .unwrap()
            .starts_with("fuse, weights")
    );
    assert_eq!(tried["tasks"][0]["samples"], 20);
    assert_eq!(
        adapter(dir, "best")["modules"].as_array().unwrap().len(),
        12
    );
    assert!(dir.join("best.html").exists());
}

#[test]
fn methods_are_explained_and_unknown_ones_are_told_the_nearest() {
    let dir = tempfile::tempdir().unwrap();
    let all = succeed(dir.path(), &["merge", "--explain"]);
    for name in ["concat", "knots", "ties", "lego", "regmean"] {
        assert!(all.contains(name), "{name}");
    }
    let one = succeed(dir.path(), &["merge", "--explain", "core+ties"]);
    assert!(one.contains("options: density, majority"));
    assert!(one.contains("2509.17786") && one.contains("2306.01708") && !one.contains("lego"));
    assert!(refusal(dir.path(), &["merge", "--explain", "tise"]).contains("ties"));
    assert!(refusal(dir.path(), &["merge", "nowhere", "-o", "x"]).contains("nowhere"));
}

#[test]
fn kept_players_do_as_their_coalition_does() {
    let scene = trained();
    let dir = scene.path();
    let kept = json(
        dir,
        &["prune", "out", "--keep", "odd", "-o", "upper", "--json"],
    );
    assert_eq!(
        (&kept["modules"], &kept["modules_before"]),
        (&6.into(), &12.into())
    );
    for (by, extra) in [
        ("norms", None),
        ("shapley", None),
        ("greedy", None),
        ("random", Some("7")),
    ] {
        let mut args = vec![
            "prune", "out", "--keep", "1", "--by", by, "-o", "small", "--split", "train",
        ];
        args.extend(extra.iter().flat_map(|seed| ["--seed", seed]));
        succeed(dir, &args);
        let modules = adapter(dir, "small")["modules"].as_array().unwrap().len();
        assert_eq!(modules, 6, "{by}");
    }
    json(dir, &["shapley", "out", "--json", "--per", "module"]);
    succeed(
        dir,
        &[
            "prune",
            "out",
            "--keep",
            "5",
            "--by",
            "shapley",
            "--scores",
            "out/shapley.json",
            "--per",
            "module",
            "-o",
            "five",
        ],
    );
    assert_eq!(adapter(dir, "five")["modules"].as_array().unwrap().len(), 5);

    let curves = json(
        dir,
        &[
            "prune", "out", "--curve", "players", "--split", "test", "--json",
        ],
    );
    let lowest = curves["curves"]
        .as_array()
        .unwrap()
        .iter()
        .find(|curve| curve["by"] == "lowest first")
        .unwrap();
    let half = json(dir, &["eval", "out", "--json", "--coalition", "10"]);
    close(number(&lowest["points"][1]["loss"]), number(&half["loss"]));
    assert!(
        fs::read_to_string(dir.join("out/prune.html"))
            .unwrap()
            .contains("players kept, %")
    );
}

#[test]
fn entries_and_ranks_are_pruned_and_their_curves_end_at_the_whole_adapter() {
    let scene = trained();
    let dir = scene.path();
    let whole = number(&json(dir, &["eval", "out", "--json"])["loss"]);
    for rule in ["magnitude:global", "wanda", "sparsegpt"] {
        let pruned = json(
            dir,
            &[
                "prune",
                "out",
                "--sparsity",
                "0.5",
                "--rule",
                rule,
                "-o",
                "sparse",
                "--json",
            ],
        );
        let (zeros, all) = (number(&pruned["zeros"]), number(&pruned["parameters"]));
        assert!((zeros / all - 0.5).abs() < 0.02, "{rule}: {zeros} of {all}");
    }
    for ranks in ["rank:1", "energy:0.5", "sensitivity:8"] {
        let pruned = json(
            dir,
            &["prune", "out", "--ranks", ranks, "-o", "thin", "--json"],
        );
        assert!(
            number(&pruned["parameters"]) < number(&pruned["parameters_before"]),
            "{ranks}"
        );
    }
    for axis in ["entries", "ranks"] {
        let found = json(
            dir,
            &[
                "prune",
                "out",
                "--curve",
                axis,
                "--split",
                "test",
                "--json",
                "-o",
                "curve.json",
            ],
        );
        for curve in found["curves"].as_array().unwrap() {
            let last = curve["points"].as_array().unwrap().last().unwrap();
            assert_eq!(last["kept"], 1.0);
            close(number(&last["loss"]), whole);
        }
    }
    assert!(refusal(dir, &["prune", "out", "--keep", "9", "-o", "x"]).contains('9'));
    assert!(refusal(dir, &["prune", "out", "--keep", "kinds:qeury", "-o", "x"]).contains("query"));
}

#[test]
fn an_adapter_is_folded_into_its_base_and_taken_out_again() {
    let scene = trained();
    let dir = scene.path();
    let report = json(
        dir,
        &["export", "out", "--into", "model", "-o", "folded", "--json"],
    );
    assert_eq!(report["folded"].as_array().unwrap().len(), 12);
    let checked = succeed(
        dir,
        &[
            "export", "out", "--into", "model", "-o", "folded", "--check",
        ],
    );
    assert!(checked.starts_with("12 of "), "{checked}");
    assert!(
        refusal(
            dir,
            &[
                "export", "other", "--into", "model", "-o", "folded", "--check"
            ]
        )
        .contains("is due")
    );
    succeed(
        dir,
        &[
            "export", "out", "--into", "folded", "-o", "back", "--unfold",
        ],
    );
    succeed(dir, &["export", "out", "--target", "peft", "-o", "alone"]);
    assert_eq!(
        adapter(dir, "alone")["modules"],
        adapter(dir, "out/adapter")["modules"]
    );
    assert!(refusal(dir, &["export", "out", "-o", "x"]).contains("--into"));
    assert!(!dir.join("x").exists());
}

/// A limit on the size of files stands for a full disk: both let a part of a write through and refuse the rest.
#[cfg(unix)]
#[test]
fn a_full_disk_is_told_and_leaves_nothing_half_written() {
    let scene = trained();
    let dir = scene.path();
    let listed = || {
        let entries = fs::read_dir(dir).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = listed();
    for args in [
        &["export", "out", "--into", "model", "-o", "new"][..],
        &["export", "out", "--target", "peft", "-o", "new"],
        &["merge", "out", "other", "-o", "new"],
        &["prune", "out", "--keep", "odd", "-o", "new"],
    ] {
        let limited = "trap '' XFSZ; ulimit -f 1; exec \"$0\" \"$@\"";
        let mut shell = std::process::Command::new("sh");
        shell.current_dir(dir).args(["-c", limited]);
        let output = shell.arg(env!("CARGO_BIN_EXE_coto")).args(args).output();
        let output = output.unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {told}");
        assert!(told.contains("write") && told.contains("new"), "{told}");
        assert_eq!(listed(), before, "{args:?}");
    }
    succeed(dir, &["merge", "out", "other", "-o", "new"]);
}
