//! Decoders that learn to continue texts, and answer.

use std::fs;
use std::path::Path;

use burn::tensor::{Device, Tensor, activation};
use coto_adapters::Pass;
use coto_data::{LanguageTokenizer, MultipleChoice, Prompt, Question};
use coto_models::{BaseQuant, Layered, Llama, Model, TokenBatch};
use coto_train::{
    DataConfig, LanguageConfig, LanguageTask, Outcome, Readout, Run, RunConfig, Split, Task,
    exact_match, multiple_choice,
};
use regex::Regex;
use tempfile::TempDir;

use crate::{checkpoint, config, fixture, go, losses, scene};

fn told() -> TempDir {
    let dir = scene();
    fixture::tell(dir.path());
    dir
}

fn decoder(run: &Run) -> &Llama {
    match run.model() {
        Model::Llama(decoder) => decoder,
        other => panic!("{}", other.family()),
    }
}

fn tokenizer(dir: &TempDir) -> LanguageTokenizer {
    LanguageTokenizer::load(dir.path().join("model")).unwrap()
}

#[test]
fn a_decoder_learns_what_follows_and_a_resumed_run_ends_with_the_same_bits() {
    let (a, b) = (told(), told());
    let set = ["optim.lr=2e-2", "optim.steps=40"];
    let mut whole = Run::prepare(&config(&a, &set)).unwrap();
    let before = whole.evaluate_test().unwrap();
    let (outcome, expected) = go(&mut whole, usize::MAX);
    assert_eq!(outcome, Outcome::Finished);
    let after = whole.evaluate_test().unwrap();
    assert!(after.loss < before.loss - 0.3, "{before:?} {after:?}");
    assert!((after.perplexity.unwrap() - after.loss.exp()).abs() < 1e-9);

    let mut events = Vec::new();
    for stop in [7, 18, usize::MAX] {
        let mut part = Run::prepare(&config(&b, &set)).unwrap();
        assert_eq!(part.resume().unwrap(), stop != 7);
        events.extend(go(&mut part, stop).1);
    }
    assert_eq!(losses(&events), losses(&expected));
    let file = "out/adapter/adapter_model.safetensors";
    let bytes = |dir: &TempDir| fs::read(dir.path().join(file)).unwrap();
    assert!(bytes(&a) == bytes(&b));
    assert!(!a.path().join("out/head.safetensors").exists());

    let folder = coto_peft::Folder::load(a.path().join("out/adapter")).unwrap();
    assert_eq!(folder.config.task_type.as_deref(), Some("CAUSAL_LM"));
    let modules = folder.modules().unwrap();
    assert!(modules.keys().all(|path| path.starts_with("model.layers.")));
    whole.load_result().unwrap();
    let loaded = whole.evaluate_test().unwrap();
    assert!((after.loss - loaded.loss).abs() < 1e-5);
}

#[test]
fn steps_do_not_hang_on_how_the_gradient_is_come_by() {
    let run = |set: &[&str]| {
        let dir = told();
        let all = [&["optim.steps=8", "optim.lr=1e-3"], set].concat();
        let mut run = Run::prepare(&config(&dir, &all)).unwrap();
        let (_, events) = go(&mut run, usize::MAX);
        (losses(&events), checkpoint(&dir.path().join("out")).tensors)
    };
    let (whole, expected) = run(&[]);
    let (layers, found) = run(&["optim.gradient_checkpointing=true"]);
    for (a, b) in whole.iter().zip(&layers) {
        let (x, y) = (f32::from_bits(a.1), f32::from_bits(b.1));
        assert!((x - y).abs() < 1e-5 && a.2 == b.2, "step {}: {x} {y}", a.0);
    }
    assert_eq!(expected.len(), found.len());
    for (name, tensor) in expected {
        let worst: f32 = (tensor - found[&name].clone()).abs().max().into_scalar();
        assert!(worst < 1e-4, "{name}: {worst:e}");
    }
}

#[test]
fn one_token_counts_as_much_in_a_small_batch_as_in_a_large_one() {
    let finals = ["1 8", "8 1"].map(|sizes| {
        let (batch, accumulation) = sizes.split_once(' ').unwrap();
        let dir = told();
        // Eight rows in all, of unlike numbers of targets, so that every step sees the same ones however they are cut.
        let rows: String = (0..8)
            .map(|row| {
                let more: Vec<String> = (0..=row).map(|i| format!("w{}", row * 3 + i)).collect();
                format!(
                    "{{\"prompt\":\"w{row}\",\"completion\":\" {}\"}}\n",
                    more.join(" ")
                )
            })
            .collect();
        fs::write(dir.path().join("train.jsonl"), rows).unwrap();
        let set = [
            &format!("optim.batch_size={batch}"),
            &format!("optim.accumulation={accumulation}"),
            "language.packing=false",
            "adapter.dropout=0.0",
            "optim.steps=6",
            "optim.lr=1e-3",
        ];
        let mut run = Run::prepare(&config(&dir, &set)).unwrap();
        let (_, events) = go(&mut run, usize::MAX);
        (losses(&events), checkpoint(&dir.path().join("out")).tensors)
    });
    let [(one, a), (eight, b)] = finals;
    for (one, eight) in one.iter().zip(&eight) {
        let [x, y] = [one.1, eight.1].map(f32::from_bits);
        assert!((x - y).abs() < 1e-5, "step {}: {x} {y}", one.0);
    }
    for (name, a) in a {
        let worst: f32 = (a - b[&name].clone()).abs().max().into_scalar();
        assert!(worst < 1e-4, "{name}: {worst:e}");
    }
}

/// A run's task, model and adapters, with adapters that are not at their start.
fn started(dir: &TempDir) -> (Run, LanguageTask) {
    let config = config(dir, &["optim.lr=2e-2"]);
    let mut run = Run::prepare(&config).unwrap();
    go(&mut run, 4);
    let language = LanguageConfig::default();
    let data: &DataConfig = &config.data;
    let model = dir.path().join("model");
    let task = LanguageTask::load(data, &language, &model, decoder(&run)).unwrap();
    (run, task)
}

#[test]
fn packed_and_padded_rows_have_the_same_loss() {
    let dir = told();
    let (run, task) = started(&dir);
    let grand = run.adapters().grand();
    let loss = |rows: &[&[usize]]| {
        let rows = rows.iter().map(|row| row.to_vec()).collect();
        let batch = task.batch(Split::Train, &rows, &Device::flex()).unwrap();
        let pass = Pass::new(run.adapters(), &grand);
        let hidden = run.model().states(&batch.input, &pass);
        let loss = Readout::Tokens.loss(run.model(), hidden, &batch);
        (loss.into_scalar::<f32>(), batch.targets.len())
    };
    let (packed, targets) = loss(&[&[3, 0, 5], &[7, 2], &[1]]);
    let (padded, again) = loss(&[&[0], &[1], &[2], &[3], &[5], &[7]]);
    // Two words and the end of each.
    assert_eq!((targets, again), (18, 18));
    assert!((packed - padded).abs() < 1e-4, "{packed} {padded}");
}

/// The log-likelihoods of each token of a sequence after the first, one forward pass for each.
fn by_hand(decoder: &Llama, pass: &Pass, ids: &[u32]) -> Vec<f64> {
    let next = |at: usize| {
        let (seen, device) = (&ids[..at], Device::flex());
        let batch = TokenBatch::new(seen, &vec![0; at], &vec![true; at], 1, &device);
        let logits = decoder
            .logits(decoder.states(&batch, pass))
            .slice([at - 1..at]);
        let log: Tensor<2> = activation::log_softmax(logits, 1);
        let token = ids[at] as usize;
        f64::from(log.slice([0..1, token..token + 1]).into_scalar::<f32>())
    };
    (1..ids.len()).map(next).collect()
}

#[test]
fn choices_are_scored_as_a_computation_by_hand_has_it() {
    let dir = told();
    let (run, _) = started(&dir);
    let (decoder, tokenizer, grand) = (decoder(&run), tokenizer(&dir), run.adapters().grand());
    let pass = Pass::new(run.adapters(), &grand);
    let question = |context: &str, choices: &[&str], answer| MultipleChoice {
        context: context.into(),
        choices: choices.iter().map(|&choice| choice.into()).collect(),
        answer,
    };
    let questions = [
        question("w3 w4", &["w5", "w6 w7 w8", "w50"], 0),
        // Blanks at the end of a context are the choices'.
        question("w10 w11  ", &["w12 w13", "w1"], 1),
    ];
    let scores = multiple_choice(decoder, &tokenizer, &pass, &questions, " ").unwrap();
    let mut right = [0, 0];
    for (question, found) in questions.iter().zip(&scores.likelihoods) {
        let context = tokenizer.encode(question.context.trim_end(), true).unwrap();
        let context = context.len() - 1; // without [SEP]
        let mut sums = Vec::new();
        for choice in &question.choices {
            let text = format!("{} {choice}", question.context);
            let ids = tokenizer.encode(&text, true).unwrap();
            let ids = &ids[..ids.len() - 1];
            sums.push(
                by_hand(decoder, &pass, ids)[context - 1..]
                    .iter()
                    .sum::<f64>(),
            );
        }
        for (sum, found) in sums.iter().zip(found) {
            assert!((sum - found).abs() < 1e-4, "{sums:?} {found}");
        }
        let best = |values: Vec<f64>| {
            let order = (0..values.len()).max_by(|&a, &b| values[a].total_cmp(&values[b]));
            usize::from(order.unwrap() == question.answer)
        };
        let lengths = question.choices.iter().map(|choice| choice.len() as f64);
        right[0] += best(sums.clone());
        right[1] += best(
            sums.iter()
                .zip(lengths)
                .map(|(sum, length)| sum / length)
                .collect(),
        );
    }
    assert_eq!(scores.accuracy, right[0] as f64 / 2.0);
    assert_eq!(scores.accuracy_normalised, right[1] as f64 / 2.0);

    let long = question(&"w1 ".repeat(200), &["w2", "w3"], 0);
    let error = multiple_choice(decoder, &tokenizer, &pass, &[long], " ").unwrap_err();
    assert!(error.to_string().contains("128 positions"), "{error}");
}

#[test]
fn answers_count_that_say_what_was_wanted() {
    let dir = told();
    let (run, _) = started(&dir);
    let (decoder, tokenizer, grand) = (decoder(&run), tokenizer(&dir), run.adapters().grand());
    let pass = Pass::new(run.adapters(), &grand);
    let question = |answer: &str| Question {
        prompt: Prompt::Text("w3 w4".into()),
        answer: answer.into(),
    };
    let score = |answer: &str, pattern: Option<&str>| {
        let pattern = pattern.map(|pattern| Regex::new(pattern).unwrap());
        let questions = [question(answer)];
        exact_match(decoder, &tokenizer, &pass, &questions, pattern.as_ref(), 5).unwrap()
    };
    let said = score("?", None).said.remove(0);
    assert_eq!(score("?", None).exact_match, 0.0);
    assert_eq!(score(&format!(" {said}\n"), None).exact_match, 1.0);
    let first = said.split_whitespace().next().expect("it says something");
    assert_eq!(score(first, Some(r"^\s*(\S+)")).exact_match, 1.0);
    assert_eq!(score(&said, Some("no such thing")).exact_match, 0.0);
}

#[test]
fn a_quantised_base_trains_adapters_that_a_full_base_takes() {
    let dir = told();
    let set = ["model.quant=nf4", "optim.lr=2e-2", "optim.steps=40"];
    let mut run = Run::prepare(&config(&dir, &set)).unwrap();
    let before = run.evaluate_test().unwrap().loss;
    assert!(run.plan().base_bytes < 4 * run.plan().frozen_parameters * 2 / 3);
    go(&mut run, usize::MAX);
    let after = run.evaluate_test().unwrap().loss;
    assert!(after < before - 0.3, "{before} {after}");

    let full = RunConfig {
        out: dir.path().join("out"),
        ..config(&dir, &[])
    };
    assert_eq!(full.model.quant, BaseQuant::Stored);
    let mut full = Run::prepare(&full).unwrap();
    let plain = full.evaluate_test().unwrap().loss;
    full.load_result().unwrap();
    let adapted = full.evaluate_test().unwrap().loss;
    assert!(adapted < plain - 0.2, "{plain} {adapted}");
}

#[test]
fn data_and_models_that_do_not_meet_are_told_apart() {
    let refused = |change: &dyn Fn(&Path), set: &[&str]| {
        let dir = told();
        change(dir.path());
        Run::prepare(&config(&dir, set))
            .err()
            .expect("refused")
            .to_string()
    };
    let bert = |dir: &Path| fixture::put(dir, "bert");
    let message = refused(&bert, &[]);
    assert!(
        message.contains("texts to continue") && message.contains("an encoder"),
        "{message}"
    );
    let message = refused(&|_| {}, &["images.image=\"image\""]);
    assert!(
        message.contains("`images`") && message.contains("`language` too"),
        "{message}"
    );
    let message = refused(&|_| {}, &["data.few_shot=3"]);
    assert!(message.contains("data.few_shot"), "{message}");
    let more = |dir: &Path| {
        let path = dir.join("model/tokenizer.json");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("\"w59\":63", "\"w59\":630")).unwrap();
    };
    let uses = |dir: &Path| {
        more(dir);
        let rows = "{\"prompt\":\"w1\",\"completion\":\" w59\"}\n";
        fs::write(dir.join("train.jsonl"), rows).unwrap();
    };
    let message = refused(&uses, &[]);
    assert!(
        message.contains("token 630") && message.contains("vocabulary of 96"),
        "{message}"
    );
    let mixed = |dir: &Path| {
        let rows = "{\"prompt\":\"w1\",\"completion\":\" w2\"}\n{\"text\":\"w1\"}\n";
        fs::write(dir.join("train.jsonl"), rows).unwrap();
    };
    let message = refused(&mixed, &[]);
    assert!(
        message.contains("row 2") && message.contains("prompt"),
        "{message}"
    );
}
