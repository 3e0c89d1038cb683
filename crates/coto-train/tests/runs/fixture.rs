//! A model, a tokenizer and a task so small that a run takes no time.

use std::fmt::Write;
use std::fs;
use std::path::Path;

/// Fills `dir` with `model/`, `train.jsonl`, `test.jsonl` and `run.toml`.
pub fn write(dir: &Path) {
    let model = dir.join("model");
    fs::create_dir_all(&model).unwrap();
    put(dir, "bert");
    fs::write(model.join("tokenizer.json"), tokenizer(60)).unwrap();
    fs::write(dir.join("train.jsonl"), rows(48, 1)).unwrap();
    fs::write(dir.join("test.jsonl"), rows(24, 5)).unwrap();
    fs::write(dir.join("run.toml"), run_file(dir)).unwrap();
}

/// Makes one of the recorded models the run's.
pub fn put(dir: &Path, name: &str) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens/models");
    for file in ["config.json", "model.safetensors"] {
        fs::copy(golden.join(name).join(file), dir.join("model").join(file)).unwrap();
    }
}

const TEMPLATE: &str = "{% for m in messages %}{{ m.role }} {{ m.content }} [SEP] {% endfor %}";

/// Makes a scene one of a tiny decoder and of prompts and completions: what follows a word is the next word.
pub fn tell(dir: &Path) {
    put(dir, "llama3");
    // A word for each token of the model, since it may say any.
    fs::write(dir.join("model/tokenizer.json"), tokenizer(92)).unwrap();
    let settings =
        serde_json::json!({"eos_token": "[SEP]", "bos_token": "[CLS]", "chat_template": TEMPLATE});
    fs::write(
        dir.join("model/tokenizer_config.json"),
        settings.to_string(),
    )
    .unwrap();
    for (file, count, seed) in [("train.jsonl", 40, 3), ("test.jsonl", 12, 4)] {
        let mut text = String::new();
        for row in 0..count {
            let (first, length) = ((row * 17 + seed) % 50, 2 + row % 4);
            let word = |i: usize| format!("w{}", (first + i) % 60);
            let prompt: Vec<String> = (0..length).map(word).collect();
            let completion = [word(length), word(length + 1)].join(" ");
            let row = serde_json::json!({"prompt": prompt.join(" "), "completion": format!(" {completion}")});
            writeln!(text, "{row}").unwrap();
        }
        fs::write(dir.join(file), text).unwrap();
    }
    let run = dir.join("run.toml");
    let text = fs::read_to_string(&run).unwrap();
    let [head, adapter] = ["[head]", "[adapter]"].map(|table| text.find(table).unwrap());
    let text = format!(
        "{}[language]\npacking = true\n{}",
        &text[..head],
        &text[adapter..]
    );
    fs::write(run, text).unwrap();
}

fn tokenizer(words: usize) -> String {
    let mut vocab = String::from(r#""[PAD]":0,"[UNK]":1,"[CLS]":2,"[SEP]":3"#);
    (0..words).for_each(|i| write!(vocab, r#","w{i}":{}"#, i + 4).unwrap());
    let special = |name: &str, types: u8| {
        format!(r#"{{"SpecialToken":{{"id":"{name}","type_id":{types}}}}}"#)
    };
    let text =
        |name: &str, types: u8| format!(r#"{{"Sequence":{{"id":"{name}","type_id":{types}}}}}"#);
    let single = [special("[CLS]", 0), text("A", 0), special("[SEP]", 0)].join(",");
    let pair = [single.clone(), text("B", 1), special("[SEP]", 1)].join(",");
    let token = |name: &str, id: u8| {
        format!(r#""{name}":{{"id":"{name}","ids":[{id}],"tokens":["{name}"]}}"#)
    };
    let tokens = [token("[CLS]", 2), token("[SEP]", 3)].join(",");
    format!(
        r###"{{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,
        "pre_tokenizer":{{"type":"Whitespace"}},"decoder":null,
        "post_processor":{{"type":"TemplateProcessing","single":[{single}],"pair":[{pair}],"special_tokens":{{{tokens}}}}},
        "model":{{"type":"WordPiece","unk_token":"[UNK]","continuing_subword_prefix":"##","max_input_chars_per_word":100,
        "vocab":{{{vocab}}}}}}}"###
    )
}

/// Rows of three to nine words; the class is that of the first word.
fn rows(count: usize, seed: usize) -> String {
    let mut text = String::new();
    for row in 0..count {
        let words: Vec<String> = (0..3 + (row * 7 + seed) % 7)
            .map(|i| format!("w{}", (row * 31 + i * 17 + seed * 13) % 60))
            .collect();
        let label = ["low", "high"][usize::from((row * 31 + seed * 13) % 60 >= 30)];
        writeln!(
            text,
            r#"{{"text":"{}","label":"{label}"}}"#,
            words.join(" ")
        )
        .unwrap();
    }
    text
}

fn run_file(dir: &Path) -> String {
    let path = |name: &str| dir.join(name).display().to_string();
    format!(
        r#"
out = {:?}
seed = 3
[model]
name = {:?}
[data]
train = {:?}
validation = {:?}
test = {:?}
max_tokens = 12
[head]
kind = "trained"
[adapter]
rank = 2
alpha = 4.0
dropout = 0.1
[schedule]
preset = "coto"
[optim]
steps = 30
batch_size = 4
accumulation = 2
lr = 1e-2
lora_plus_ratio = 4.0
weight_decay = 0.01
warmup = 3
[eval]
every = 10
checkpoint_every = 4
"#,
        path("out"),
        path("model"),
        path("train.jsonl"),
        path("test.jsonl"),
        path("test.jsonl"),
    )
}
