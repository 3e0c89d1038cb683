use std::collections::BTreeMap;

use coto_lowrank::{Matrix, Statistics};
use coto_peft::{Config, Folder, Param};
use coto_prune::sparsify;
use serde_json::Value;

use crate::make;

fn matrix(values: &Value, rows: usize, cols: usize) -> Matrix {
    let values = values
        .as_array()
        .unwrap()
        .iter()
        .map(|value| value.as_f64().unwrap() as f32);
    Matrix::new(rows, cols, values.collect()).unwrap()
}

#[test]
fn wanda_and_sparsegpt_are_those_of_pytorch() {
    let facts: Value = serde_json::from_str(include_str!("../../goldens/prune.json")).unwrap();
    let size = |name: &str| facts["sizes"][name].as_u64().unwrap() as usize;
    let (input, rank, out) = (size("in"), size("rank"), size("out"));
    let mut folder = Folder::new(Config::lora(rank, 8.0).targets(["q"]));
    folder.insert(
        "layers.0.q",
        Param::LoraA,
        make::tensor(&matrix(&facts["a"], rank, input)),
    );
    folder.insert(
        "layers.0.q",
        Param::LoraB,
        make::tensor(&matrix(&facts["b"], out, rank)),
    );
    let inputs = matrix(&facts["x"], size("samples"), input);
    let statistics = BTreeMap::from([(
        "layers.0.q".to_owned(),
        Statistics {
            inputs,
            gradients: None,
        },
    )]);
    let cases = facts["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 6);
    for case in cases {
        let [rule, sparsity] = ["rule", "sparsity"].map(|field| case[field].as_str().unwrap());
        let pruned = sparsify(
            &folder,
            rule.parse().unwrap(),
            sparsity.parse().unwrap(),
            &statistics,
        )
        .unwrap();
        let [a, b] = make::factors(&pruned, "layers.0.q");
        let expected = [
            matrix(&case["a"], rank, input),
            matrix(&case["b"], out, rank),
        ];
        for (found, expected) in [a, b].iter().zip(&expected) {
            for (found, expected) in found.values().iter().zip(expected.values()) {
                assert_eq!(*found == 0.0, *expected == 0.0, "{rule} {sparsity}");
                assert!(
                    (found - expected).abs() < 1e-5,
                    "{rule} {sparsity}: {found} for {expected}"
                );
            }
        }
    }
}
