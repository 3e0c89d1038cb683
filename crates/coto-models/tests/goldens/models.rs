use coto_adapters::Pass;
use coto_models::{Hidden, Layered, Pooling, TokenBatch};

use crate::{Golden, batch, bert, device, largest, read};

const MODELS: [&str; 5] = [
    "bert",
    "bert_classifier",
    "bert_f16",
    "roberta",
    "distilbert",
];

fn expected(name: &str) -> (Golden, Golden) {
    let mut file = read(&format!("models/{name}/expected.safetensors"));
    (
        file.remove("hidden").unwrap(),
        file.remove("features").unwrap(),
    )
}

fn run(model: &impl Layered<Batch = TokenBatch>, batch: &TokenBatch) -> Hidden {
    let layers = |hidden, layer| model.layer(layer, hidden, &Pass::base());
    (0..model.depth()).fold(model.embed(batch), layers)
}

#[test]
fn every_tokens_state_is_that_of_transformers() {
    let inputs = read("inputs.safetensors");
    let tokens = &inputs["mask"].values;
    for name in MODELS {
        let hidden = run(&bert(name), &batch());
        assert_eq!((hidden.rows, hidden.width), (3, 7));
        let (golden, _) = expected(name);
        let states = hidden.states.into_data().convert::<f32>();
        let states = states.as_slice::<f32>().unwrap();
        assert_eq!(states.len(), golden.values.len());
        // What stands at padding is nobody's business: RoBERTa's positions differ there.
        let differences = states
            .iter()
            .zip(&golden.values)
            .enumerate()
            .filter(|(i, _)| tokens[i / 32] != 0.0)
            .map(|(_, (a, b))| a - b);
        let worst = largest(differences);
        assert!(worst < 1e-5, "{name}: {worst:e}");
    }
}

#[test]
fn the_mean_over_the_tokens_is_that_of_transformers() {
    for name in MODELS {
        let worst = expected(name)
            .1
            .distance(bert(name).forward(&batch(), &Pass::base()));
        assert!(worst < 1e-5, "{name}: {worst:e}");
    }
}

#[test]
fn the_first_tokens_state_can_be_the_feature() {
    let model = bert("bert").with_pooling(Pooling::Cls);
    let features = model.forward(&batch(), &Pass::base());
    let (hidden, features_shape) = (expected("bert").0, vec![3, 32]);
    let first = hidden
        .values
        .chunks_exact(7 * 32)
        .flat_map(|row| &row[..32]);
    let first = Golden {
        values: first.copied().collect(),
        shape: features_shape,
    };
    let worst = first.distance(features);
    assert!(worst < 1e-5, "{worst:e}");
}

#[test]
fn a_sequence_alone_has_the_features_it_has_among_padded_others() {
    let inputs = read("inputs.safetensors");
    let [ids, types] = ["ids", "types"].map(|name| inputs[name].numbers());
    for name in MODELS {
        let golden = expected(name).1;
        for (row, length) in [7, 4, 5].into_iter().enumerate() {
            let here = row * 7..row * 7 + length;
            let (ids, types, mask) = (&ids[here.clone()], &types[here], vec![true; length]);
            let alone = TokenBatch::new(ids, types, &mask, 1, &device());
            assert!(alone.mask.is_none());
            let golden = Golden {
                shape: vec![1, 32],
                values: golden.values[row * 32..][..32].to_vec(),
            };
            let worst = golden.distance(bert(name).forward(&alone, &Pass::base()));
            assert!(worst < 1e-5, "{name}, row {row}: {worst:e}");
        }
    }
}
