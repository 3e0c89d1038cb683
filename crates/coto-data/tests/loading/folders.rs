//! Tokenizers of Hugging Face folders and GGUF files, whole and broken.

use std::fs;

use coto_data::{LanguageTokenizer, Message};
use serde_json::{Value, json};

use crate::tables::Folder;

/// Byte-level BPE of a few tokens, which begins with `<s>`, and wants to pad and to cut.
fn tokenizer_json() -> Value {
    let token = |id: u32, content: &str| {
        json!({
            "id": id, "content": content, "special": true, "normalized": false, "single_word": false,
            "lstrip": false, "rstrip": false,
        })
    };
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    json!({
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
        "padding": {"strategy": {"Fixed": 12}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
            "pad_type_id": 0, "pad_token": "a"},
        "added_tokens": [token(4, "<s>"), token(5, "</s>"), token(6, "<end>")],
        "normalizer": null,
        "pre_tokenizer": bytes,
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [4], "tokens": ["<s>"]}}},
        "decoder": bytes,
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "Ġ": 3}, "merges": [["a", "b"]]},
    })
}

fn files(files: &[(&str, &str)]) -> Folder {
    let folder = Folder::new();
    folder.file("tokenizer.json", tokenizer_json().to_string().as_bytes());
    for (name, content) in files {
        folder.file(name, content.as_bytes());
    }
    folder
}

#[test]
fn a_folder_has_its_tokens_and_its_chat_template() {
    let config = r#"{"bos_token":{"content":"<s>","lstrip":false},"eos_token":"</s>","model_max_length":1e30,
        "chat_template":[{"name":"tool_use","template":"no"},{"name":"default","template":"{{ bos_token }}{{ messages[0].content }}"}]}"#;
    let map = r#"{"eos_token":"<end>","pad_token":"<end>"}"#;
    let generation = r#"{"eos_token_id":[6,5],"pad_token_id":0}"#;
    let folder = files(&[
        ("tokenizer_config.json", config),
        ("special_tokens_map.json", map),
        ("generation_config.json", generation),
    ]);
    let tokenizer = LanguageTokenizer::load(folder.0.path()).unwrap();
    assert_eq!(tokenizer.bos_id(), Some(4));
    assert_eq!(
        tokenizer.eos_ids(),
        [5, 6],
        "the proper one first, none twice"
    );
    assert_eq!(tokenizer.pad_id(), 6);
    assert_eq!(
        tokenizer.encode("ab a<end>", true).unwrap(),
        [4, 2, 3, 0, 6]
    );
    assert_eq!(tokenizer.encode("ab a<end>", false).unwrap(), [2, 3, 0, 6]);
    assert_eq!(tokenizer.decode(&[4, 2, 3, 0, 6], true).unwrap(), "ab a");
    assert_eq!(tokenizer.vocabulary_size(), 7);
    let chat = [Message::new("user", "ab")];
    assert_eq!(tokenizer.chat(&chat, false).unwrap(), "<s>ab");

    // A template in a file of its own counts more.
    folder.file(
        "chat_template.jinja",
        b"{{ eos_token }}\n{% if add_generation_prompt %}b{% endif %}\n",
    );
    let tokenizer = LanguageTokenizer::load(folder.0.path()).unwrap();
    assert_eq!(tokenizer.chat(&chat, true).unwrap(), "</s>\nb");

    let bare = LanguageTokenizer::load(files(&[]).0.path()).unwrap();
    assert_eq!(
        (bare.bos_id(), bare.eos_ids(), bare.pad_id()),
        (None, &[][..], 0)
    );
    assert!(bare.template().is_none());
}

#[test]
fn what_is_broken_in_a_folder_is_named() {
    let table = [
        ("tokenizer.json", "{}", "unreadable tokenizer"),
        (
            "tokenizer_config.json",
            "{",
            "tokenizer_config.json: unreadable tokenizer: EOF",
        ),
        ("tokenizer_config.json", "[]", "tokenizer_config.json"),
        (
            "tokenizer_config.json",
            r#"{"eos_token":5}"#,
            "`eos_token` is no token",
        ),
        (
            "tokenizer_config.json",
            r#"{"eos_token":{}}"#,
            "`eos_token` is no token",
        ),
        (
            "tokenizer_config.json",
            r#"{"bos_token":"<S>"}"#,
            "its bos_token `<S>` is not in the vocabulary",
        ),
        (
            "tokenizer_config.json",
            r#"{"chat_template":5}"#,
            "`chat_template` is neither a text nor a list",
        ),
        (
            "tokenizer_config.json",
            r#"{"chat_template":[{"name":"rag","template":""}]}"#,
            "without a template of the name `default`",
        ),
        (
            "tokenizer_config.json",
            r#"{"chat_template":"\n{% if"}"#,
            "chat template, line 2: ",
        ),
        ("special_tokens_map.json", "x", "special_tokens_map.json"),
        (
            "generation_config.json",
            r#"{"eos_token_id":"x"}"#,
            "neither an id nor a list of ids",
        ),
        (
            "generation_config.json",
            r#"{"eos_token_id":[-1]}"#,
            "neither an id nor a list of ids",
        ),
        (
            "generation_config.json",
            r#"{"eos_token_id":7}"#,
            "there is no token with the id 7",
        ),
    ];
    for (name, content, expected) in table {
        let folder = files(&[(name, content)]);
        let message = LanguageTokenizer::load(folder.0.path())
            .unwrap_err()
            .to_string();
        let path = folder.0.path().to_string_lossy();
        assert!(message.starts_with(&*path), "{message}");
        assert!(message.contains(expected), "{name} {content}: {message}");
    }
    let folder = Folder::new();
    let message = LanguageTokenizer::load(folder.0.path())
        .unwrap_err()
        .to_string();
    assert!(message.contains("tokenizer.json"), "{message}");
}

/// A GGUF file of metadata alone.
fn gguf(entries: &[(&str, Entry)]) -> Vec<u8> {
    let mut file = b"GGUF\x03\0\0\0".to_vec();
    let text = |file: &mut Vec<u8>, text: &str| {
        file.extend((text.len() as u64).to_le_bytes());
        file.extend(text.as_bytes());
    };
    file.extend(0_u64.to_le_bytes());
    file.extend((entries.len() as u64).to_le_bytes());
    for (key, value) in entries {
        text(&mut file, key);
        match value {
            Entry::Id(id) => file.extend([4_u32, *id].iter().flat_map(|v| v.to_le_bytes())),
            Entry::Text(value) => {
                file.extend(8_u32.to_le_bytes());
                text(&mut file, value);
            }
            Entry::Texts(values) => {
                file.extend([9_u32, 8].iter().flat_map(|v| v.to_le_bytes()));
                file.extend((values.len() as u64).to_le_bytes());
                values.iter().for_each(|value| text(&mut file, value));
            }
            Entry::Ids(values) => {
                file.extend([9_u32, 5].iter().flat_map(|v| v.to_le_bytes()));
                file.extend((values.len() as u64).to_le_bytes());
                file.extend(values.iter().flat_map(|v| v.to_le_bytes()));
            }
            Entry::Scores(values) => {
                file.extend([9_u32, 6].iter().flat_map(|v| v.to_le_bytes()));
                file.extend((values.len() as u64).to_le_bytes());
                file.extend(values.iter().flat_map(|v| v.to_le_bytes()));
            }
            Entry::Flag(flag) => {
                file.extend(7_u32.to_le_bytes());
                file.push(u8::from(*flag));
            }
        }
    }
    file
}

#[derive(Clone)]
enum Entry {
    Id(u32),
    Ids(Vec<i32>),
    Scores(Vec<f32>),
    Text(&'static str),
    Texts(Vec<&'static str>),
    Flag(bool),
}
use Entry::{Flag, Id, Ids, Scores, Text, Texts};

const KEY: &str = "tokenizer.ggml.";

/// A sound file, but for the entries given, of which one without a value is left out.
fn load(
    model: &'static str,
    changes: &[(&str, Option<Entry>)],
) -> Result<LanguageTokenizer, String> {
    let mut entries = vec![
        ("model", Text(model)),
        ("tokens", Texts(vec!["<unk>", "a", "b", "ab", "<s>", "▁"])),
        ("token_type", Ids(vec![2, 1, 1, 1, 3, 1])),
    ];
    match model {
        "llama" => entries.push(("scores", Scores(vec![0.0, -1.0, -2.0, -0.5, 0.0, -3.0]))),
        _ => entries.push(("merges", Texts(vec!["a b"]))),
    }
    entries.push(("bos_token_id", Id(4)));
    for (key, value) in changes {
        entries.retain(|(known, _)| known != key);
        entries.extend(value.clone().map(|value| (*key, value)));
    }
    let keys: Vec<String> = entries
        .iter()
        .map(|(key, _)| format!("{KEY}{key}"))
        .collect();
    let values = entries.iter().map(|(_, value)| value.clone());
    let entries: Vec<(&str, Entry)> = keys.iter().map(String::as_str).zip(values).collect();
    let folder = Folder::new();
    let path = folder.file("t.gguf", &gguf(&entries));
    LanguageTokenizer::load(&path).map_err(|error| {
        let path = path.to_string_lossy().into_owned();
        error
            .to_string()
            .replace(&format!("`{path}`"), "FILE")
            .replace(&path, "FILE")
            .replace(KEY, "KEY.")
    })
}

#[test]
fn a_gguf_file_need_not_say_everything() {
    let llama = load("llama", &[]).unwrap();
    assert_eq!(
        llama.encode("ab", true).unwrap(),
        [4, 5, 3],
        "BOS and the space come by default"
    );
    assert_eq!(
        llama.encode("axb", false).unwrap(),
        [5, 1, 0, 2],
        "without byte tokens x is unknown"
    );
    let off = [
        ("add_bos_token", Some(Flag(false))),
        ("add_space_prefix", Some(Flag(false))),
    ];
    let bare = load("llama", &off).unwrap();
    assert_eq!(bare.encode("ab", true).unwrap(), [3]);
    assert_eq!(
        bare.decode(&[5, 3], false).unwrap(),
        " ab",
        "no space was put before it"
    );

    let bpe = load("gpt2", &[("token_type", None)]).unwrap();
    assert_eq!(
        bpe.encode("ab<s>", true).unwrap(),
        [3],
        "without types no token is special"
    );
    let both = [
        ("pre", Some(Text("llama-bpe"))),
        ("eos_token_id", Some(Id(4))),
        ("add_eos_token", Some(Flag(true))),
    ];
    let llama3 = load("gpt2", &both).unwrap();
    assert_eq!(llama3.encode("ab", true).unwrap(), [4, 3, 4]);
}

#[test]
fn what_is_broken_in_a_gguf_file_is_named() {
    let table: Vec<(&str, &str, Option<Entry>, &str)> = vec![
        (
            "gpt2",
            "model",
            None,
            "FILE: metadata key `KEY.model` is missing",
        ),
        (
            "gpt2",
            "model",
            Some(Text("gpt-2")),
            "FILE: KEY.model `gpt-2` is not supported; the nearest is `gpt2`",
        ),
        (
            "gpt2",
            "pre",
            Some(Text("smolm")),
            "FILE: KEY.pre `smolm` is not supported; the nearest is `smollm`",
        ),
        (
            "gpt2",
            "tokens",
            None,
            "FILE: metadata key `KEY.tokens` is missing",
        ),
        (
            "gpt2",
            "tokens",
            Some(Ids(vec![1])),
            "FILE: metadata key `KEY.tokens` is an array of i32",
        ),
        (
            "gpt2",
            "tokens",
            Some(Texts(vec!["a"])),
            "FILE: unreadable tokenizer: KEY.token_type has 6 entries for 1 tokens",
        ),
        (
            "gpt2",
            "merges",
            None,
            "FILE: metadata key `KEY.merges` is missing",
        ),
        (
            "gpt2",
            "merges",
            Some(Texts(vec!["ab"])),
            "the merge `ab` is no pair of tokens",
        ),
        (
            "gpt2",
            "merges",
            Some(Texts(vec![""])),
            "the merge `` is no pair of tokens",
        ),
        (
            "gpt2",
            "merges",
            Some(Texts(vec!["a c"])),
            "out of vocabulary",
        ),
        (
            "gpt2",
            "merges",
            Some(Texts(vec!["b a"])),
            "out of vocabulary",
        ),
        (
            "gpt2",
            "bos_token_id",
            Some(Id(6)),
            "KEY.bos_token_id is 6, but there are 6 tokens",
        ),
        (
            "gpt2",
            "bos_token_id",
            Some(Text("4")),
            "metadata key `KEY.bos_token_id` is string, not a u32",
        ),
        (
            "gpt2",
            "eot_token_id",
            Some(Id(99)),
            "KEY.eot_token_id is 99",
        ),
        (
            "gpt2",
            "add_eos_token",
            Some(Flag(true)),
            "KEY.eos_token_id is missing, but the token is to be added",
        ),
        (
            "gpt2",
            "add_bos_token",
            Some(Id(1)),
            "metadata key `KEY.add_bos_token` is u32, not a bool",
        ),
        (
            "llama",
            "scores",
            None,
            "FILE: metadata key `KEY.scores` is missing",
        ),
        (
            "llama",
            "scores",
            Some(Scores(vec![0.0])),
            "KEY.scores has 1 entries for 6 tokens",
        ),
        (
            "llama",
            "bos_token_id",
            None,
            "KEY.bos_token_id is missing, but the token is to be added",
        ),
    ];
    for (model, key, value, expected) in table {
        let message = load(model, &[(key, value)]).unwrap_err();
        assert!(
            message.contains("FILE") && message.contains(expected),
            "{model} {key}: {message}"
        );
    }
    let nan = Some(Scores(vec![f32::NAN; 6]));
    assert!(load("llama", &[("scores", nan)]).is_ok());
    // The same token twice: the last counts.
    let twice = Some(Texts(vec!["<unk>", "a", "b", "ab", "<s>", "ab"]));
    let twice = load("gpt2", &[("tokens", twice)]).unwrap();
    assert_eq!(twice.token_to_id("ab"), Some(5));
}

#[test]
fn damaged_gguf_files_never_panic() {
    let whole = fs::read(crate::tokens::golden("llama.gguf")).unwrap();
    let folder = Folder::new();
    for position in (0..whole.len()).step_by(97) {
        let mut damaged = whole.clone();
        damaged[position] ^= 0x91;
        if let Ok(tokenizer) = LanguageTokenizer::load(folder.file("t.gguf", &damaged)) {
            let ids = tokenizer.encode("Hello <s> 🦙", true).unwrap_or_default();
            let _ = tokenizer.decode(&ids, false);
        }
    }
}
