use std::collections::{BTreeMap, BTreeSet};

use burn::tensor::{Tensor, activation};
use coto_adapters::{AdapterSet, Base, Pass};
use coto_coalition::{Coalition, Grouping};
use coto_models::{Layered, Llama, LlamaConfig, TokenBatch};

use crate::{Golden, device, folder, largest, peft, read, set};

pub const MODELS: [&str; 9] = [
    "llama2",
    "llama3",
    "llama_linear",
    "llama_sharded",
    "mistral",
    "qwen2",
    "qwen3",
    "smollm2",
    "smollm2_bf16",
];
/// Tokens, samples and vocabulary of the recorded batch.
const SHAPE: [usize; 3] = [3, 12, 96];

pub fn llama(name: &str) -> Llama {
    Llama::load(folder("models").join(name), &device()).unwrap()
}

pub fn batch(file: &BTreeMap<String, Golden>) -> TokenBatch {
    let ids = file["ids"].numbers();
    let mask: Vec<bool> = file["mask"].values.iter().map(|&v| v != 0.0).collect();
    TokenBatch::new(&ids, &vec![0; ids.len()], &mask, SHAPE[0], &device())
}

/// The largest difference where the mask has tokens.
pub fn distance(file: &BTreeMap<String, Golden>, logits: Tensor<2>) -> f32 {
    let vocabulary = SHAPE[2];
    let (golden, mask) = (&file["logits"].values, &file["mask"].values);
    assert_eq!(logits.dims(), [mask.len(), vocabulary]);
    let logits = logits.into_data().convert::<f32>();
    let pairs = logits
        .as_slice::<f32>()
        .unwrap()
        .iter()
        .zip(golden)
        .enumerate();
    largest(
        pairs
            .filter(|(i, _)| mask[i / vocabulary] != 0.0)
            .map(|(_, (a, b))| a - b),
    )
}

#[test]
fn logits_are_those_of_transformers() {
    for name in MODELS {
        let (model, file) = (
            llama(name),
            read(&format!("models/{name}/expected.safetensors")),
        );
        let logits = model.logits(model.states(&batch(&file), &Pass::base()));
        let worst = distance(&file, logits);
        assert!(worst < 1e-4, "{name}: {worst:e}");
    }
}

#[test]
fn gguf_files_give_the_logits_of_their_checkpoints() {
    for name in ["llama3", "smollm2"] {
        let path = folder("gguf").join(format!("{name}.gguf"));
        let model = Llama::load(&path, &device()).unwrap();
        let file = read(&format!("models/{name}/expected.safetensors"));
        let logits = model.logits(model.states(&batch(&file), &Pass::base()));
        let worst = distance(&file, logits);
        assert!(worst < 1e-4, "{name}: {worst:e}");
        // What is trained on the file fits the checkpoint: the modules have the same names.
        let paths = |model: &Llama| -> Vec<String> {
            model
                .modules()
                .iter()
                .map(|module| module.path.clone())
                .collect()
        };
        assert_eq!(paths(&model), paths(&llama(name)));
        assert_eq!(model.parameters(), llama(name).parameters());
    }
    let dir = tempfile::tempdir().unwrap();
    let (cut, whole) = (dir.path().join("cut.gguf"), folder("gguf/smollm2.gguf"));
    let bytes = std::fs::read(whole).unwrap();
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    let message = Llama::load(&cut, &device()).unwrap_err().to_string();
    assert!(message.contains("cut.gguf"), "{message}");
}

#[test]
fn the_likeliest_continuation_is_that_of_transformers() {
    for name in MODELS {
        let (model, file) = (
            llama(name),
            read(&format!("models/{name}/expected.safetensors")),
        );
        let expected = file["greedy"].numbers();
        let mut ids = expected[..4].to_vec();
        while ids.len() < expected.len() {
            let len = ids.len();
            let batch = TokenBatch::new(&ids, &vec![0; len], &vec![true; len], 1, &device());
            let logits = model.logits(model.states(&batch, &Pass::base()));
            let next = logits
                .slice([len - 1..len])
                .argmax(1)
                .into_data()
                .convert::<i64>();
            ids.push(next.as_slice::<i64>().unwrap()[0] as u32);
        }
        assert_eq!(ids, expected, "{name}");
    }
}

#[test]
fn frequencies_of_published_configurations_are_those_of_transformers() {
    for (name, size, factor) in [("Llama-3.1-8B", 128, 8.0), ("Llama-3.2-1B", 64, 32.0)] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        let config = format!(
            r#"{{"model_type":"llama","vocab_size":9,"hidden_size":2048,"intermediate_size":9,"num_hidden_layers":1,
            "num_attention_heads":32,"head_dim":{size},"max_position_embeddings":131072,"hidden_act":"silu","rope_theta":500000.0,
            "rope_scaling":{{"rope_type":"llama3","factor":{factor:?},"low_freq_factor":1.0,"high_freq_factor":4.0,
            "original_max_position_embeddings":8192}}}}"#
        );
        std::fs::write(&path, config).unwrap();
        let ours = LlamaConfig::load(&path).unwrap().inverse_frequencies();
        let golden = &read("llama_rope.safetensors")[name].values;
        assert_eq!(ours.len(), golden.len());
        for (ours, &theirs) in ours.iter().zip(golden) {
            assert!(
                (*ours as f32 / theirs - 1.0).abs() < 1e-5,
                "{name}: {ours} {theirs}"
            );
        }
    }
}

#[test]
fn a_configuration_of_transformers_4_means_the_same() {
    let [new, old] = ["config.json", "config.old.json"].map(|file| {
        let config = LlamaConfig::load(&folder("models/llama3").join(file)).unwrap();
        (
            config.inverse_frequencies(),
            config.head_size(),
            config.kv_heads(),
        )
    });
    assert_eq!(new, old);
}

#[test]
fn packed_samples_are_blind_to_each_other() {
    let (model, file) = (llama("llama3"), read("packing.safetensors"));
    let [first, second] = ["0/ids", "1/ids"].map(|name| file[name].numbers());
    let rows = [vec![first.as_slice(), &second], vec![second.as_slice()]];
    let batch = TokenBatch::packed(&rows, &device());
    let logits = model.logits(model.states(&batch, &Pass::base()));
    for (name, from, len) in [("0", 0, 5), ("1", 5, 7), ("1", 12, 7)] {
        let golden = &file[&format!("{name}/logits")];
        let worst = golden.distance(logits.clone().slice([from..from + len]));
        assert!(worst < 1e-4, "sample {name} at {from}: {worst:e}");
    }
}

#[test]
fn the_last_token_of_each_sample_is_its_feature() {
    let (model, file) = (llama("llama3"), read("models/llama3/expected.safetensors"));
    let batch = batch(&file);
    let features = model.head(model.states(&batch, &Pass::base()), &batch);
    for (row, length) in [12, 9, 6].into_iter().enumerate() {
        let ids = &file["ids"].numbers()[row * SHAPE[1]..][..length];
        let alone = TokenBatch::new(ids, &vec![0; length], &vec![true; length], 1, &device());
        let alone = model.head(model.states(&alone, &Pass::base()), &alone);
        let worst: f32 = (features.clone().slice([row..row + 1]) - alone)
            .abs()
            .max()
            .into_scalar();
        assert!(worst < 1e-4, "row {row}: {worst:e}");
    }
}

/// The mean cross-entropy of each token's successor, over the labels that are not -100.
fn loss(logits: Tensor<2>, labels: &[f32]) -> Tensor<1> {
    let rows = activation::log_softmax(logits, 1);
    let successors = (0..labels.len()).filter(|i| (i + 1) % SHAPE[1] != 0 && labels[i + 1] >= 0.0);
    let picked = successors.map(|i| {
        let label = labels[i + 1] as usize;
        rows.clone().slice([i..i + 1, label..label + 1])
    });
    Tensor::cat(picked.collect(), 0).mean().neg()
}

#[test]
fn loss_and_gradients_of_a_language_models_step_are_those_of_peft() {
    let (model, file) = (llama("llama3"), read("llama_steps.safetensors"));
    let all = set(&model, "llama_lora");
    let logits = model.logits(model.states(&batch(&file), &Pass::new(&all, &all.grand())));
    let worst = distance(&file, logits);
    assert!(worst < 1e-4, "logits differ by {worst:e}");

    let set = AdapterSet::from_folder(&model, &peft("llama_lora"), &Grouping::Layer).unwrap();
    for coalition in ["11", "10", "01"] {
        let mut tracked = set.tracked();
        let on: Coalition = coalition.parse().unwrap();
        let hidden = model.states(&batch(&file), &Pass::new(&tracked, &on));
        let loss = loss(model.logits(hidden), &file["labels"].values);
        let grads = loss.backward();
        let worst = file[&format!("{coalition}/loss")].distance(loss);
        assert!(worst < 1e-5, "{coalition}: loss differs by {worst:e}");

        let gradients = tracked.gradients(&grads);
        let factors = tracked.factors();
        let found = factors.iter().zip(gradients);
        let found = found.filter_map(|(f, grad)| Some((format!("{coalition}/{}", f.name), grad?)));
        let found: BTreeMap<_, _> = found.collect();
        let recorded = file
            .keys()
            .filter(|key| key.starts_with(&format!("{coalition}/")) && !key.ends_with("/loss"));
        assert_eq!(found.keys().collect::<BTreeSet<_>>(), recorded.collect());
        for (name, grad) in found {
            let golden = &file[&name];
            let worst = golden.distance(grad.transpose()) / golden.size();
            assert!(worst < 1e-4, "{name} differs by {worst:e}");
        }
    }
}

type Damage = Box<dyn Fn(&std::path::Path)>;

#[test]
fn a_broken_checkpoint_of_shards_names_what_is_wrong() {
    let damage = |name: &str, change: &dyn Fn(&std::path::Path)| {
        let dir = tempfile::tempdir().unwrap();
        for entry in folder("models").join(name).read_dir().unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
        }
        change(dir.path());
        Llama::load(dir.path(), &device()).unwrap_err().to_string()
    };
    let replace = |file: &'static str, from: &'static str, to: &'static str| {
        move |dir: &std::path::Path| {
            let path = dir.join(file);
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.contains(from), "{file} has no {from}");
            std::fs::write(&path, text.replace(from, to)).unwrap();
        }
    };
    let shard = "model-00002-of-00002.safetensors";
    let table: [(&str, Damage, &str); 12] = [
        (
            "llama_sharded",
            Box::new(move |dir| std::fs::remove_file(dir.join(shard)).unwrap()),
            shard,
        ),
        (
            "llama_sharded",
            Box::new(replace("model.safetensors.index.json", shard, "../../x")),
            "`../../x` is not the name of a file",
        ),
        (
            "llama_sharded",
            Box::new(|dir| std::fs::write(dir.join("model.safetensors.index.json"), "{}").unwrap()),
            "weight_map",
        ),
        (
            "llama3",
            Box::new(|dir| {
                let path = dir.join("model.safetensors");
                let bytes = std::fs::read(&path).unwrap();
                std::fs::write(&path, &bytes[..bytes.len() - 9]).unwrap();
            }),
            "not a whole safetensors file",
        ),
        (
            "llama3",
            Box::new(|dir| std::fs::write(dir.join("model.safetensors"), [255; 64]).unwrap()),
            "not a whole safetensors file",
        ),
        (
            "llama3",
            Box::new(replace("config.json", "\"llama3\"", "\"yarn\"")),
            "`yarn` is not supported; there are `default`, `linear`, `llama3`",
        ),
        (
            "llama3",
            Box::new(replace("config.json", "\"factor\": 8.0", "\"factor\": 0.0")),
            "needs a factor > 0",
        ),
        (
            "llama3",
            Box::new(|dir| {
                let header = br#"{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,4]}}"#;
                let length = (header.len() as u64).to_le_bytes();
                let bytes = [length.as_slice(), header, &[0; 4]].concat();
                std::fs::write(dir.join("model.safetensors"), bytes).unwrap();
            }),
            "not a whole safetensors file",
        ),
        (
            "llama3",
            Box::new(replace(
                "config.json",
                "\"high_freq_factor\": 4.0",
                "\"high_freq_factor\": 0.5",
            )),
            "0 < low_freq_factor < high_freq_factor",
        ),
        (
            "llama3",
            Box::new(replace(
                "config.json",
                "\"num_key_value_heads\": 2",
                "\"num_key_value_heads\": 3",
            )),
            "not a multiple of num_key_value_heads 3",
        ),
        (
            "llama3",
            Box::new(replace("config.json", "\"head_dim\": 8", "\"head_dim\": 7")),
            "head_dim 7 is not even",
        ),
        (
            "qwen3",
            Box::new(replace("config.json", "\"qwen3\"", "\"qwen2\"")),
            "q_proj.bias` is missing",
        ),
    ];
    for (name, change, expected) in table {
        let message = damage(name, &change);
        assert!(message.contains(expected), "{name}: {message}");
    }
}
