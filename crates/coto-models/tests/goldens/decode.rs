//! What decoders do beyond a forward pass: token by token, quantised, and backward layer by layer.

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use coto_adapters::{AdapterSet, Base, Dropout, Pass};
use coto_coalition::{Coalition, Grouping};
use coto_models::{
    BaseQuant, Cache, Hidden, Layered, Llama, Sampling, TokenBatch, backward_by_layers,
};
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use crate::llama::{MODELS, batch, llama};
use crate::{batch as bert_batch, bert, device, folder, peft, read, set};

fn alone(ids: &[u32]) -> TokenBatch {
    let len = ids.len();
    TokenBatch::new(ids, &vec![0; len], &vec![true; len], 1, &device())
}

fn worst(a: Tensor<2>, b: Tensor<2>) -> f32 {
    (a - b).abs().max().into_scalar()
}

#[test]
fn tokens_one_by_one_give_the_logits_and_the_continuation_of_all_at_once() {
    for name in MODELS {
        let model = llama(name);
        let expected = read(&format!("models/{name}/expected.safetensors"))["greedy"].numbers();
        let whole = model.logits(model.states(&alone(&expected), &Pass::base()));
        let mut cache = Cache::new(&model);
        // A prompt in two parts, then single tokens; the window of mistral is 5.
        for (from, to) in [(0, 3), (3, 4), (4, 9), (9, 10), (10, 11), (11, 12)] {
            let logits = model.extend(&expected[from..to], &mut cache, &Pass::base());
            let worst = worst(logits, whole.clone().slice([to - 1..to]));
            assert!(worst < 1e-4, "{name}, {from}..{to}: {worst:e}");
        }
        assert_eq!(cache.tokens(), 12);
        let greedy = Sampling::GREEDY;
        let mut heard = Vec::new();
        let mut on = |token| {
            heard.push(token);
            true
        };
        let made = model.generate(&expected[..4], &[], 8, &greedy, &Pass::base(), &mut on);
        assert_eq!(made, expected[4..], "{name}");
        assert_eq!(made, heard);
        let (end, new) = (expected[6], &expected[4..]);
        let made = model.generate(
            &expected[..4],
            &[end],
            8,
            &greedy,
            &Pass::base(),
            &mut |_| true,
        );
        let first = new.iter().position(|&token| token == end).unwrap();
        assert_eq!(made, new[..first], "{name}: the end is not among them");
    }
}

#[test]
fn a_cache_serves_an_adapted_model_too() {
    let model = llama("llama3");
    let set = set(&model, "llama_lora");
    let on = set.grand().without(1);
    let pass = Pass::new(&set, &on);
    let ids = read("models/llama3/expected.safetensors")["greedy"].numbers();
    let mut uncached = ids[..4].to_vec();
    for _ in 0..8 {
        let logits = model.logits(model.states(&alone(&uncached), &pass));
        let last = logits
            .slice([uncached.len() - 1..uncached.len()])
            .into_data();
        let place = uncached.len();
        uncached.push(Sampling::GREEDY.choose(last.as_slice().unwrap(), place));
    }
    let made = model.generate(&ids[..4], &[], 8, &Sampling::GREEDY, &pass, &mut |_| true);
    assert_eq!(made, uncached[4..]);
}

/// Writes a checkpoint whose matrices are those of a quantised model, dense.
fn dequantised(name: &str, model: &Llama, to: &std::path::Path) {
    let from = folder("models").join(name);
    std::fs::copy(from.join("config.json"), to.join("config.json")).unwrap();
    let file = read(&format!("models/{name}/model.safetensors"));
    let mut tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)> = file
        .into_iter()
        .map(|(key, golden)| (key, (golden.shape, golden.values)))
        .collect();
    let mut put = |key: String, weight: Tensor<2>| {
        let data = weight.transpose().into_data();
        let place = tensors.get_mut(&key).unwrap_or_else(|| panic!("no {key}"));
        place.1 = data.as_slice::<f32>().unwrap().to_vec();
    };
    for (i, module) in model.modules().iter().enumerate() {
        put(
            format!("{}.weight", module.path),
            model.linear(i).frozen().dense(),
        );
    }
    put(
        "model.embed_tokens.weight".into(),
        model.tables()[0].dense(),
    );
    if let Some(head) = model.tables().get(1) {
        put("lm_head.weight".into(), head.dense());
    }
    let bytes: BTreeMap<&String, Vec<u8>> = tensors
        .iter()
        .map(|(key, (_, values))| (key, values.iter().flat_map(|v| v.to_le_bytes()).collect()))
        .collect();
    let views = tensors.iter().map(|(key, (shape, _))| {
        let view = TensorView::new(Dtype::F32, shape.clone(), &bytes[key]).unwrap();
        (key, view)
    });
    let file = safetensors::serialize(views, None).unwrap();
    std::fs::write(to.join("model.safetensors"), file).unwrap();
}

#[test]
fn a_quantised_base_is_the_model_of_its_dequantised_matrices() {
    for (quant, allowed) in [
        (BaseQuant::Q8, 0.05),
        (BaseQuant::Q4, 0.5),
        (BaseQuant::Nf4, 0.5),
    ] {
        for name in ["llama3", "smollm2"] {
            let path = folder("models").join(name);
            let model = Llama::load_as(&path, quant, &device()).unwrap();
            let dense = llama(name);
            assert!(model.bytes() < dense.bytes() * 2 / 3);
            assert_eq!(model.parameters(), dense.parameters());
            let dir = tempfile::tempdir().unwrap();
            dequantised(name, &model, dir.path());
            let twin = Llama::load(dir.path(), &device()).unwrap();
            let file = read(&format!("models/{name}/expected.safetensors"));
            let logits = |model: &Llama| model.logits(model.states(&batch(&file), &Pass::base()));
            let difference = worst(logits(&model), logits(&twin));
            assert!(difference < 1e-4, "{name} {quant:?}: {difference:e}");
            // And near the model that was quantised, if not on it.
            let norm = |x: Tensor<2>| x.square().sum().sqrt().into_scalar::<f32>();
            let loss = norm(logits(&model) - logits(&dense)) / norm(logits(&dense));
            assert!(loss > 1e-4 && loss < allowed, "{name} {quant:?}: {loss}");
        }
    }
}

#[test]
fn a_quantised_gguf_file_stays_so_and_gives_the_logits_that_transformers_reads_from_it() {
    let path = folder("gguf/quantised.gguf");
    let file = read("gguf/quantised.safetensors");
    let ids = file["ids"].numbers();
    let [quantised, dense] = [BaseQuant::Stored, BaseQuant::None]
        .map(|quant| Llama::load_as(&path, quant, &device()).unwrap());
    assert!(3 * quantised.bytes() < dense.bytes());
    for model in [quantised, dense] {
        let logits = model.logits(model.states(&alone(&ids), &Pass::base()));
        let worst = file["logits"].distance(logits);
        assert!(worst < 1e-4, "{worst:e}");
    }
}

/// Loss and gradients of some adapters, kept whole or layer by layer.
fn both_ways<M: Layered>(
    model: &M,
    batch: &M::Batch,
    set: &AdapterSet,
    on: &Coalition,
    loss: impl Fn(Hidden) -> Tensor<1>,
) {
    let tracked = set.tracked();
    let pass = |set| Pass::new(set, on).with_dropout(Dropout { seed: 1, pass: 2 });
    let whole = loss(model.states(batch, &pass(&tracked)));
    let expected = tracked.gradients(&whole.backward());
    let mut found: Vec<Option<Tensor<2>>> = vec![None; expected.len()];
    let passes = [&pass(set), &pass(&tracked)];
    let by_layers = backward_by_layers(model, batch, passes, loss, &mut |grads| {
        for (found, new) in found.iter_mut().zip(tracked.gradients(grads)) {
            assert!(found.is_none() || new.is_none(), "told twice");
            *found = found.take().or(new);
        }
    });
    assert!(!by_layers.is_tracked());
    let [a, b]: [f32; 2] = [whole, by_layers].map(|loss| loss.into_scalar());
    assert!((a - b).abs() <= 1e-6 * a.abs(), "{a} {b}");
    let mut some = 0;
    for (expected, found) in expected.into_iter().zip(found) {
        assert_eq!(expected.is_some(), found.is_some());
        if let (Some(expected), Some(found)) = (expected, found) {
            let size: f32 = expected.clone().abs().max().into_scalar();
            assert!(worst(expected, found) <= 1e-5 * size.max(1e-3));
            some += 1;
        }
    }
    assert!(some > 0);
}

#[test]
fn gradients_layer_by_layer_are_those_of_the_whole() {
    let model = llama("llama3");
    let mut folder = peft("llama_lora");
    folder.config.dropout = 0.2;
    let file = read("models/llama3/expected.safetensors");
    let set = AdapterSet::from_folder(&model, &folder, &Grouping::Layer).unwrap();
    for on in ["11", "10", "01"] {
        let loss = |hidden| model.logits(hidden).square().mean();
        both_ways(&model, &batch(&file), &set, &on.parse().unwrap(), loss);
    }
    let model = bert("bert");
    let set = AdapterSet::from_folder(&model, &peft("dora"), &Grouping::Layer).unwrap();
    for on in ["11", "01"] {
        let loss = |hidden| model.head(hidden, &bert_batch()).square().mean();
        both_ways(&model, &bert_batch(), &set, &on.parse().unwrap(), loss);
    }
}

#[test]
fn adapters_learn_on_a_quantised_base_as_on_the_dequantised_one() {
    let path = folder("models/llama3");
    let model = Llama::load_as(&path, BaseQuant::Nf4, &device()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    dequantised("llama3", &model, dir.path());
    let twin = Llama::load(dir.path(), &device()).unwrap();
    let file = read("models/llama3/expected.safetensors");
    let gradients = |model: &Llama| {
        let tracked = set(model, "llama_lora").tracked();
        let hidden = model.states(&batch(&file), &Pass::new(&tracked, &tracked.grand()));
        let targets: Vec<u32> = (0..36).map(|i| i * 5 % 96).collect();
        let states = model.normed(hidden);
        let loss = coto_kernels::cross_entropy(states, model.vocabulary(), &targets);
        let grads = loss.backward();
        (loss, tracked.gradients(&grads))
    };
    let ((loss, ours), (other, theirs)) = (gradients(&model), gradients(&twin));
    let [loss, other]: [f32; 2] = [loss, other].map(|loss| loss.into_scalar());
    assert!((loss - other).abs() < 1e-5 * other, "{loss} {other}");
    for (ours, theirs) in ours.into_iter().zip(theirs) {
        let (ours, theirs) = (ours.expect("all on"), theirs.expect("all on"));
        let size: f32 = theirs.clone().abs().max().into_scalar();
        assert!(worst(ours, theirs) < 1e-4 * size);
    }
}
