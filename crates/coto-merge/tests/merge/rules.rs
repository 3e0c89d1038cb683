//! Rules against the merges of PEFT 0.21.2 and mergekit 0.1.5 (`goldens/rules.py`).

use std::collections::BTreeMap;
use std::path::Path;

use coto_lowrank::Matrix;
use coto_merge::{
    Consensus, Linear, Majority, ModelStock, Rule, Sce, Slerp, Sparse, Sparsify, TiesFlavour,
    Weighted,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    rows: usize,
    cols: usize,
    weights: Vec<f64>,
    matrices: Vec<Vec<f32>>,
    results: BTreeMap<String, Vec<f32>>,
}

fn elected(density: f64, flavour: TiesFlavour, majority: Majority) -> Sparse {
    Sparse {
        consensus: Consensus::Elect { flavour, majority },
        ..Sparse::ties(density)
    }
}

fn breadcrumbs(consensus: Consensus) -> Sparse {
    Sparse {
        sparsify: Sparsify::Breadcrumbs {
            density: 0.3,
            gamma: 0.1,
        },
        consensus,
        lambda: 1.0,
    }
}

/// A golden's name, its rule, and the weights where they are others.
type Case = (String, Box<dyn Rule>, Option<Vec<f64>>);

fn rules() -> Vec<Case> {
    let mut rules: Vec<Case> = Vec::new();
    let mut put = |name: String, rule: Box<dyn Rule>| rules.push((name, rule, None));
    for density in [0.3, 1.0] {
        let name = |what| format!("peft {what} {density:?}");
        put(name("magnitude"), Box::new(Sparse::magnitude(density)));
        let ties = |majority| Box::new(elected(density, TiesFlavour::Peft, majority));
        put(name("ties total"), ties(Majority::Total));
        put(name("ties frequency"), ties(Majority::Frequency));
    }
    for normalize in [false, true] {
        let name = |what| format!("mergekit {what} {normalize}");
        let lambda = 1.0;
        put(
            name("task_arithmetic"),
            Box::new(Linear { normalize, lambda }),
        );
        let flavour = TiesFlavour::Mergekit { normalize };
        let majority = Majority::Total;
        put(name("ties"), Box::new(elected(0.3, flavour, majority)));
        let sum = breadcrumbs(Consensus::Sum { normalize });
        put(name("breadcrumbs"), Box::new(sum));
        let election = breadcrumbs(Consensus::Elect { flavour, majority });
        put(name("breadcrumbs_ties"), Box::new(election));
    }
    let ones = || Some(vec![1.0; 3]);
    for select_topk in [0.3, 1.0] {
        let name = format!("mergekit sce {select_topk:?}");
        rules.push((name, Box::new(Sce { select_topk }), ones()));
    }
    rules.push(("mergekit model_stock".into(), Box::new(ModelStock), ones()));
    let two = Some(vec![0.7, 0.3]);
    rules.push(("mergekit slerp".into(), Box::new(Slerp), two));
    rules
}

#[test]
fn rules_are_those_of_peft_and_mergekit() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("goldens/rules.json");
    let golden: Golden = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let rules = rules();
    assert_eq!(rules.len(), golden.results.len());
    for (name, rule, weights) in rules {
        let weights = weights.unwrap_or(golden.weights.clone());
        let parts: Vec<Weighted> = weights
            .iter()
            .zip(&golden.matrices)
            .map(|(&weight, values)| Weighted {
                matrix: Matrix::new(golden.rows, golden.cols, values.clone()).unwrap(),
                weight,
            })
            .collect();
        let merged = rule.merge(&parts, 0).unwrap();
        for (at, (x, y)) in merged
            .values()
            .iter()
            .zip(&golden.results[&name])
            .enumerate()
        {
            assert!((x - y).abs() < 2e-6, "{name} at {at}: {x} is not {y}");
        }
    }
}
