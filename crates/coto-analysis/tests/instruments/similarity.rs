use std::path::Path;

use burn::tensor::Device;
use coto_adapters::{AdapterConfig, AdapterSet, Base};
use coto_analysis::{Error, similarity};
use coto_coalition::Grouping;
use coto_models::Bert;

use crate::stirred;

fn bert() -> Bert {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens/models/bert");
    Bert::load(golden, &Device::flex()).unwrap()
}

/// Three sets of their own draws, the last the first one's negative.
fn sets(model: &Bert, variant: &str) -> Vec<AdapterSet> {
    let config = AdapterConfig::lora(2, 4.0).variant(variant);
    let new = |seed| stirred(AdapterSet::new(model, &config, &Grouping::Layer, seed).unwrap());
    let (first, second) = (new(1), new(2));
    let mut turned = first.clone();
    for factor in turned.factors() {
        if factor.name.contains("lora_B") || factor.name.contains("hira_B") {
            *factor.tensor = factor.tensor.clone().neg();
        }
    }
    vec![first, second, turned]
}

/// All ΔW as one vector.
fn flat(model: &Bert, set: &AdapterSet) -> Vec<f64> {
    let delta = |adapter: &coto_adapters::Adapter| {
        let delta = adapter.delta(model.linear(adapter.module()));
        delta
            .into_data()
            .iter::<f32>()
            .map(f64::from)
            .collect::<Vec<_>>()
    };
    set.adapters().iter().flat_map(delta).collect()
}

#[test]
fn cosines_and_distances_are_those_of_the_flattened_weight_changes() {
    let model = bert();
    for variant in ["lora", "hira"] {
        let sets = sets(&model, variant);
        let found = similarity(&model, &sets.iter().collect::<Vec<_>>()).unwrap();
        let flat: Vec<Vec<f64>> = sets.iter().map(|set| flat(&model, set)).collect();
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
        for (i, a) in flat.iter().enumerate() {
            for (j, b) in flat.iter().enumerate() {
                let cosine = dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
                assert!(
                    (found.cosine[i][j] - cosine).abs() < 1e-5,
                    "{variant} {i} {j}"
                );
                let difference: Vec<f64> = a.iter().zip(b).map(|(x, y)| x - y).collect();
                let distance = dot(&difference, &difference).sqrt();
                assert!(
                    (found.distance[i][j] - distance).abs() < 1e-3 * found.norms[0],
                    "{variant} {i} {j}"
                );
            }
        }
        assert!((found.cosine[0][2] + 1.0).abs() < 1e-5);
        assert!(found.inputs.angle[0][2] < 0.1 && found.inputs.overlap[0][1] < 0.9);
    }
}

#[test]
fn adapters_of_other_modules_are_refused_by_name() {
    let model = bert();
    let of = |target: &str| {
        let config = AdapterConfig::lora(2, 4.0).targets([target]);
        AdapterSet::new(&model, &config, &Grouping::Layer, 1).unwrap()
    };
    let error = similarity(&model, &[&of("query"), &of("key")]).unwrap_err();
    assert!(matches!(error, Error::Modules { index: 1, .. }), "{error}");
    assert!(error.to_string().contains("attention.self.key"), "{error}");
}
