//! The pages of the instruments' results.

use std::fs;
use std::path::Path;

use coto_report::{Error, gather, has_results, result};
use serde_json::{Value, json};

fn origin(kind: &str, adapters: &[&str]) -> Value {
    json!({"kind": kind, "version": "0.1.0", "adapters": adapters, "run": "runs/a", "model": "mini", "split": "test",
        "samples": 50, "seed": 7})
}

fn with(mut value: Value, more: Value) -> Value {
    value
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    value
}

fn runs() -> Value {
    json!({"used": 126, "naive": 384})
}

fn shapley(exact: bool) -> Value {
    let player = |layer: usize, kind: &str, value: f64| {
        json!({"player": format!("l.{layer}.{kind}"), "modules": [{"path": format!("l.{layer}.{kind}"), "layer": layer, "kind": kind}],
            "value": value, "standard_error": 0.01, "interval": [value - 0.02, value + 0.02]})
    };
    let players = [
        player(0, "query", 0.05),
        player(0, "value", -0.25),
        player(1, "query", 0.5),
        player(1, "value", 0.2),
    ];
    with(
        origin("shapley", &["runs/<a>/adapter"]),
        json!({"value": "loss", "empty": -1.5, "grand": -1.0, "method": "adjusted", "exact": exact, "evaluations": 64,
            "efficiency_residual": 0.001, "players": players,
            "layers": [{"layer": 0, "value": -0.2}, {"layer": 1, "value": 0.7}],
            "evenness": {"variation": 1.8, "entropy": 0.76, "upper_third": 0.778}, "layer_runs": runs(), "seconds": 3.25}),
    )
}

fn stability() -> Value {
    let size = |active: usize, accuracy: f64| {
        json!({"active": active, "coalitions": 2, "all": active != 1,
            "loss": {"mean": 1.5, "deviation": 0.1, "low": 1.4, "high": 1.6},
            "accuracy": {"mean": accuracy, "deviation": 0.05, "low": accuracy - 0.05, "high": accuracy + 0.05}})
    };
    with(
        origin("stability", &["runs/a/adapter"]),
        json!({"players": ["layer.0", "layer.1"], "sizes": [size(0, 0.5), size(1, 0.6), size(2, 0.7)], "layer_runs": runs(),
            "seconds": 1.0}),
    )
}

fn merge() -> Value {
    let means = |accuracy: f64| json!({"loss": 2.0 - accuracy, "accuracy": accuracy});
    let task = |name: &str, own: f64| json!({"name": name, "samples": 50, "base": means(0.4), "own": means(own)});
    let trial = |method: &str, scores: &[f64]| {
        let scores: Vec<Value> = scores.iter().map(|score| means(*score)).collect();
        json!({"method": method, "scores": scores, "rank": 16, "error": 0.05, "seconds": 0.5, "refused": null})
    };
    let mut refused = trial("<lego>", &[]);
    refused["refused"] = json!("needs one rank");
    with(
        origin("merge", &["runs/a/adapter", "runs/b/adapter"]),
        json!({"tasks": [task("verbs", 0.8), task("spam", 0.5)], "weights": [0.5, 0.5],
            "trials": [trial("concat", &[0.6, 0.4]), trial("core+ties", &[0.8, 0.4]), refused]}),
    )
}

fn prune() -> Value {
    let point = |kept: f64, accuracy: f64| json!({"kept": kept, "loss": 2.0 - accuracy, "accuracy": accuracy});
    let curve = |by: &str, middle: f64, area: f64| json!({"by": by, "area": area, "points": [point(0.0, 0.5), point(0.5, middle), point(1.0, 0.8)]});
    with(
        origin("prune", &["runs/a/adapter"]),
        json!({"unit": "players", "seconds": 2.5, "curves": [curve("norm", 0.55, 0.6), curve("shapley", 0.75, 0.7)]}),
    )
}

fn connect(three: bool) -> Value {
    let point = |weights: &[f64], accuracy: f64| json!({"weights": weights, "loss": 2.0 - accuracy, "accuracy": accuracy});
    let curve = |ends: [usize; 2], join: &str, aligned: bool| {
        json!({"ends": ends, "join": join, "aligned": aligned, "loss_barrier": 0.125, "accuracy_barrier": 0.1,
            "points": [point(&[1.0, 0.0], 0.8), point(&[0.5, 0.5], 0.7), point(&[0.0, 1.0], 0.8)]})
    };
    let mut curves = vec![
        curve([0, 1], "fusion", false),
        curve([0, 1], "mixture", false),
        curve([0, 1], "fusion", true),
    ];
    let mut adapters = vec!["runs/a/adapter", "runs/b/adapter"];
    let mut triangle = Value::Null;
    if three {
        curves.push(curve([1, 2], "fusion", false));
        adapters.push("runs/c/adapter");
        let corner = |at: usize| {
            let mut weights = [0.0; 3];
            weights[at] = 1.0;
            point(&weights, 0.5 + 0.1 * at as f64)
        };
        triangle = json!([corner(0), corner(1), corner(2)]);
    }
    with(
        origin("connect", &adapters),
        json!({"curves": curves, "triangle": triangle, "triangle_aligned": false, "remarks": ["no <mixture>"]}),
    )
}

fn similarity() -> Value {
    let pairs = json!([[1.0, 0.25], [0.25, null]]);
    let spaces = json!({"overlap": pairs, "angle": [[0.0, 80.0], [80.0, 0.0]]});
    with(
        origin("similarity", &["runs/a/adapter", "runs/b/adapter"]),
        json!({"norms": [3.0, 4.0], "cosine": pairs, "distance": [[0.0, 5.0], [5.0, 0.0]], "inputs": spaces, "outputs": spaces,
            "map": [[-2.5, 0.0], [2.5, 0.0]], "explained": 1.0}),
    )
}

fn bound() -> Value {
    let measured = |mean: f64| json!({"mean": mean, "standard_error": 0.01});
    let side = |p: f64, gap: f64| json!({"p": p, "expected_loss": measured(1.5), "loss_of_means": measured(1.5 - gap), "gap": measured(gap)});
    with(
        origin("bound", &["runs/a/adapter"]),
        json!({"players": ["layer.0"], "sides": [side(0.0, 0.0), side(0.5, 0.0625), side(1.0, 0.0)], "layer_runs": runs(),
            "seconds": 1.0}),
    )
}

fn write(dir: &Path, name: &str, value: &Value) {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, value.to_string()).unwrap();
}

fn page(value: &Value) -> String {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "result.json", value);
    let path = result(&dir.path().join("result.json")).unwrap();
    assert_eq!(path, dir.path().join("result.html"));
    fs::read_to_string(path).unwrap()
}

fn assert_stands_alone(page: &str) {
    for outside in [
        "http:", "https:", "<script", "<link", "<img", "@import", "url(", "src=", " href=", "NaN",
        "inf\"",
    ] {
        assert!(!page.contains(outside), "the page has {outside}");
    }
    let mut ids: Vec<&str> = page
        .match_indices(" id=\"")
        .map(|(at, found)| page[at + found.len()..].split('"').next().unwrap())
        .collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count, "an id occurs twice");
}

fn assert_says(page: &str, texts: &[&str]) {
    for text in texts {
        assert!(page.contains(text), "the page does not say {text:?}");
    }
}

#[test]
fn shapley_values_are_printed_with_their_intervals_in_a_grid_and_as_bars() {
    let page = page(&shapley(false));
    assert_stands_alone(&page);
    assert_says(
        &page,
        &[
            "<h1>Shapley values of &lt;a&gt;</h1>",
            "take the loss from 1.50 (all off) to 1.00 (all on)",
            "the upper third of the layers has 77.8 % of their magnitude",
            "runs/&lt;a&gt;/adapter on mini, on 50 rows of the test split, seed 7; coto 0.1.0.",
            ">+0.500</text>",
            ">−0.250</text>",
            ">±0.020</text>",
            "layer 1",
            "126 in place of 384 (3.0 times fewer)",
        ],
    );
    // One below zero among four cells.
    assert_eq!(page.matches("stroke-dasharray=\"4 3\"").count(), 1);
}

#[test]
fn exact_values_have_no_whiskers_and_players_of_no_one_layer_no_grid() {
    let mut exact = shapley(true);
    let drawn = page(&exact);
    assert!(
        !drawn.contains("±")
            && !drawn.contains("Efficiency residual")
            && !drawn.contains("confidence")
    );
    exact["players"][0]["modules"] = json!([]);
    exact["layers"] = json!([]);
    exact["evenness"] = Value::Null;
    let drawn = page(&exact);
    assert!(!drawn.contains("layers by modules") && !drawn.contains("coefficient"));
    assert_stands_alone(&drawn);
}

#[test]
fn stability_shows_means_and_spread() {
    let page = page(&stability());
    assert_stands_alone(&page);
    assert_says(
        &page,
        &[
            "Accuracy is 70.0 % with all 2 players on, 60.0 % on average with 1 of them, and 50.0 % with none.",
            "class=\"whisker s0\"",
            "<th scope=\"row\">2</th><td>2 (all)</td><td>1.50</td><td>1.40</td><td>1.60</td><td>70.0 %</td>",
        ],
    );
}

#[test]
fn ways_to_merge_are_ranked_by_what_they_keep() {
    let page = page(&merge());
    assert_stands_alone(&page);
    assert_says(
        &page,
        &[
            "core+ties keeps 90.0 % of the accuracy that 2 adapters have on their own tasks; without any adapter it is 65.0 %.",
            "<th scope=\"row\">concat</th><td>60.0 %</td><td>40.0 %</td><td>77.5 %</td><td>1.5000</td><td>16</td><td>5.0 %</td>",
            "&lt;lego&gt;: needs one rank",
        ],
    );
    assert!(page.find("core+ties</th>").unwrap() < page.find("concat</th>").unwrap());
}

#[test]
fn pruning_curves_are_compared_by_their_area() {
    let page = page(&prune());
    assert_stands_alone(&page);
    assert_says(
        &page,
        &[
            "Pruned by shapley, accuracy stays highest: 70.0 % on average over all shares.",
            "players kept, %",
            "<th scope=\"row\">norm</th><td>50.0 %</td><td>1.45</td><td>55.0 %</td>",
        ],
    );
}

#[test]
fn paths_between_two_lie_side_by_side_and_those_of_three_have_a_map() {
    let two = page(&connect(false));
    assert_stands_alone(&two);
    assert_says(
        &two,
        &[
            "<h1>The paths between a, b</h1>",
            "a → b along factors A, B (fusion): 10.0 points of accuracy, 0.1250 of loss.",
            "factors A, B after alignment (fusion)",
            "<td>80.0 %</td><td>70.0 %</td><td>80.0 %</td><td>10.0 points</td><td>0.1250</td>",
            "no &lt;mixture&gt;",
        ],
    );
    let three = page(&connect(true));
    assert_stands_alone(&three);
    assert_says(
        &three,
        &[
            "Accuracy of means of three adapters",
            "b → c",
            ">70.0</text>",
            "class=\"ring strong\"",
        ],
    );
}

#[test]
fn what_means_nothing_between_two_adapters_is_left_blank() {
    let page = page(&similarity());
    assert_stands_alone(&page);
    assert_says(
        &page,
        &[
            "a and b (cosine 0.250).",
            "it shows 100.0 % of their squares",
            ">80.0</text>",
        ],
    );
}

#[test]
fn both_sides_of_the_theorem_and_the_gap_have_error_bars() {
    let page = page(&bound());
    assert_stands_alone(&page);
    assert_says(
        &page,
        &[
            "widest at p = 0.50: 0.0625 ± 0.0100 of a loss of 1.5000",
            "class=\"whisker s1\"",
        ],
    );
}

#[test]
fn a_folder_of_results_becomes_one_page() {
    let dir = tempfile::tempdir().unwrap();
    assert!(!has_results(dir.path()));
    assert!(matches!(
        gather(dir.path()),
        Err(Error::Empty {
            what: "results",
            ..
        })
    ));
    write(dir.path(), "similarity.json", &similarity());
    write(dir.path(), "a/shapley.json", &shapley(false));
    write(dir.path(), "b/shapley.json", &shapley(true));
    write(dir.path(), "b/adapter/bound.json", &bound());
    write(dir.path(), "a/other.json", &json!({"kind": "feather"}));
    write(dir.path(), "a/broken.json", &json!([1]));
    assert!(has_results(dir.path()));
    let page = fs::read_to_string(gather(dir.path()).unwrap()).unwrap();
    assert_stands_alone(&page);
    assert_eq!(page.matches("<h2>").count(), 4);
    assert_says(
        &page,
        &[
            "a/shapley.json",
            "b/adapter/bound.json",
            "<h2>Theorem 3.1 on a</h2>",
        ],
    );
    assert!(!page.contains("feather"));
}

#[test]
fn what_is_no_result_is_named() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "x.json", &origin("feather", &[]));
    let error = result(&dir.path().join("x.json")).unwrap_err();
    assert!(
        matches!(&error, Error::Kind { kind, .. } if kind == "feather"),
        "{error}"
    );
    let mut half = bound();
    half.as_object_mut().unwrap().remove("sides");
    write(dir.path(), "x.json", &half);
    let error = result(&dir.path().join("x.json")).unwrap_err();
    assert!(
        error.to_string().contains("missing field `sides`"),
        "{error}"
    );
    let error = result(&dir.path().join("none.json")).unwrap_err();
    assert!(matches!(error, Error::MissingFile { .. }), "{error}");
}
