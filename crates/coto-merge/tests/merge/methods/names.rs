use coto_merge::{Error, Kind, Options, Plan, catalogue, options, parse, suite};

use super::{full, gap, noise, parts, update};

fn named(kind: Kind) -> impl Iterator<Item = &'static str> {
    let entries = catalogue().iter().filter(move |entry| entry.kind() == kind);
    entries.flat_map(|entry| entry.names.iter().copied())
}

/// Nothing is dropped.
fn whole() -> Options {
    Options {
        density: Some(1.0),
        rank: Some(4),
        ..Options::default()
    }
}

#[test]
fn one_adapter_is_reproduced_by_every_rule_in_every_space_where_nothing_is_dropped() {
    for (out, input) in [(24, 17), (17, 24)] {
        let own = update(out, input, 4, 3);
        let parts = parts(std::slice::from_ref(&own), &[1.0]);
        for rule in named(Kind::Rule).filter(|rule| *rule != "slerp") {
            let texts = named(Kind::Space).map(|space| format!("{space}+{rule}"));
            for text in texts.chain([rule.to_owned()]) {
                let merged = parse(&text, &whole()).unwrap().merge(&parts).unwrap();
                let apart = gap(&full(&merged), &full(&own));
                assert!(apart < 1e-6, "{text}: {apart}");
            }
        }
    }
}

#[test]
fn one_adapter_is_reproduced_by_every_method() {
    use coto_lowrank::{Gradients, Matrix, PerFactor, Statistics};
    let own = update(24, 17, 4, 3);
    let ones = PerFactor {
        a: Matrix::from_fn(4, 17, |i, j| 1.0 + (i + j) as f32),
        b: Matrix::from_fn(24, 4, |i, j| 2.0 + (i * j) as f32),
    };
    let statistics = Statistics {
        inputs: Matrix::rounded(noise(40, 17, 9).as_ref()),
        gradients: Some(Gradients {
            squared: ones.clone(),
            sensitivity: ones,
        }),
    };
    let mut parts = parts(std::slice::from_ref(&own), &[1.0]);
    for text in named(Kind::Method) {
        let method = parse(text, &whole()).unwrap();
        parts.parts[0].statistics = None;
        let needs_data = ["regmean", "fisher", "zip"].contains(&text);
        assert_eq!(method.merge(&parts).is_err(), needs_data, "{text}");
        parts.parts[0].statistics = Some(&statistics);
        let apart = gap(&full(&method.merge(&parts).unwrap()), &full(&own));
        assert!(apart < 1e-6, "{text}: {apart}");
    }
}

#[test]
fn a_rule_alone_is_done_in_core_space_and_small_densities_drop() {
    let updates = [update(24, 17, 4, 1), update(24, 17, 3, 2)];
    let parts = parts(&updates, &[1.0, 0.5]);
    let merge =
        |text: &str, options: &Options| full(&parse(text, options).unwrap().merge(&parts).unwrap());
    for rule in ["ties", "dare-ties", "della", "breadcrumbs", "magnitude"] {
        let options = Options::default();
        let alone = merge(rule, &options);
        assert_eq!(alone, merge(&format!(" core + {rule} "), &options));
        assert!(gap(&alone, &merge(rule, &whole())) > 0.05, "{rule}");
    }
    assert_eq!(merge("concat", &whole()), merge("knots+linear", &whole()));
}

#[test]
fn names_are_unique_and_every_entry_says_what_it_is() {
    for kinds in [vec![Kind::Space], vec![Kind::Rule, Kind::Method]] {
        let mut names: Vec<_> = kinds.into_iter().flat_map(named).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
    for entry in catalogue() {
        assert!(
            entry.about.ends_with('.') && !entry.about.contains("  ") && !entry.source.is_empty()
        );
    }
}

#[test]
fn an_entry_lists_the_options_that_change_its_method_and_no_others() {
    let usual = Options {
        rank: Some(4),
        ..Options::default()
    };
    let all = serde_json::to_value(&usual).unwrap();
    let other = |key: &str| -> Options {
        let mut changed = all.clone();
        changed[key] = match key {
            "rescale" => "l1-norm".into(),
            "majority" => "frequency".into(),
            "rank" | "steps" => 7.into(),
            _ => 0.0625.into(),
        };
        serde_json::from_value(changed).unwrap()
    };
    for text in suite() {
        let made = |options: &Options| format!("{:?}", parse(&text, options).unwrap());
        let listed = options(&text).unwrap();
        for key in all.as_object().unwrap().keys().filter(|key| *key != "rank") {
            let changes = made(&other(key)) != made(&usual);
            assert_eq!(changes, listed.contains(&key.as_str()), "{text}: {key}");
        }
        let rank = match parse(&text, &Options::default()) {
            Ok(_) => made(&other("rank")) != made(&usual),
            Err(_) => true,
        };
        assert_eq!(rank, listed.contains(&"rank"), "{text}: rank");
    }
}

#[test]
fn unknown_names_are_told_the_nearest() {
    let unknown = |text: &str| {
        let error = parse(text, &Options::default()).unwrap_err();
        assert!(matches!(error, Error::Unknown { .. }), "{error}");
        error.to_string()
    };
    assert!(unknown("knot+ties").contains("space `knot` (nearest: `knots`"));
    assert!(unknown("core+dare_ties").contains("rule `dare_ties` (nearest: `dare-ties`"));
    assert!(unknown("conact").contains("`concat`"));
    assert!(unknown("core").contains("method of merging `core`"));
    assert!(unknown("core+lego").contains("rule `lego`"));
    assert!(unknown("").contains("``"));
}

#[test]
fn what_needs_a_rank_says_so() {
    for text in ["svd", "shared+ties"] {
        let error = parse(text, &Options::default()).unwrap_err().to_string();
        assert!(
            error.contains("rank") && !error.contains("module"),
            "{error}"
        );
        assert_eq!(Plan::named(text, &whole()).unwrap().rank, Some(4));
    }
}
