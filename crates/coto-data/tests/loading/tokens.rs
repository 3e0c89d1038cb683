//! Tokenizers of small GGUF files, against what `transformers` makes of them (see `goldens/make.py`).

use std::fs;
use std::path::{Path, PathBuf};

use coto_data::{Dataset, Encoder, Example, LanguageTokenizer};
use serde_json::Value;

pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("goldens")
        .join(name)
}

pub fn tokenizer(name: &str) -> LanguageTokenizer {
    LanguageTokenizer::load(golden(&format!("{name}.gguf"))).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    let ids = value.as_array().unwrap().iter();
    ids.map(|id| id.as_u64().unwrap() as u32).collect()
}

#[test]
fn every_text_has_the_tokens_and_every_token_the_text_of_transformers() {
    let file = fs::read(golden("tokens.json")).unwrap();
    let expected: serde_json::Map<String, Value> = serde_json::from_slice(&file).unwrap();
    assert_eq!(expected.len(), 4);
    for (name, rows) in &expected {
        let tokenizer = tokenizer(name);
        for row in rows.as_array().unwrap() {
            let text = row["text"].as_str().unwrap();
            let plain = ids(&row["ids"]);
            assert_eq!(
                tokenizer.encode(text, false).unwrap(),
                plain,
                "{name}: {text:?}"
            );
            let marked = tokenizer.encode(text, true).unwrap();
            assert_eq!(marked, ids(&row["marked"]), "{name}: {text:?}");
            for (skip, key) in [(false, "decoded"), (true, "plain")] {
                let decoded = tokenizer.decode(&plain, skip).unwrap();
                assert_eq!(decoded, row[key].as_str().unwrap(), "{name}: {text:?}");
                let mut stream = tokenizer.stream(skip);
                let pieces: String = plain.iter().map(|&id| stream.push(id).unwrap()).collect();
                let pieces = pieces + &stream.finish().unwrap();
                assert_eq!(pieces, decoded, "{name}: {text:?}");
            }
        }
    }
}

#[test]
fn the_special_tokens_are_those_of_the_file() {
    let smollm = tokenizer("smollm");
    let id = |token| smollm.token_to_id(token).unwrap();
    assert_eq!(smollm.bos_id(), Some(id("<|im_start|>")));
    assert_eq!(smollm.eos_ids(), [id("<|im_end|>")]);
    assert_eq!(smollm.pad_id(), id("<|im_end|>"));
    assert!(smollm.is_special(id("<|endoftext|>")) && !smollm.is_special(id("Ġthe")));
    assert_eq!(smollm.id_to_token(id("Ġthe")).as_deref(), Some("Ġthe"));
    let size = smollm.vocabulary_size();
    assert!(smollm.id_to_token(size as u32 - 1).is_some());
    assert!(smollm.id_to_token(size as u32).is_none());
    let message = smollm.decode(&[size as u32], true).unwrap_err().to_string();
    assert!(
        message.ends_with(&format!("there is no token with the id {size}")),
        "{message}"
    );

    let llama3 = tokenizer("llama-bpe");
    let ends = ["<|end_of_text|>", "<|eot_id|>"].map(|token| llama3.token_to_id(token).unwrap());
    assert_eq!(llama3.eos_ids(), ends, "the end of a turn is an end too");
    assert_eq!(llama3.pad_id(), ends[0]);
    assert!(llama3.template().is_none());
    let qwen = tokenizer("qwen2");
    assert_eq!(Some(qwen.pad_id()), qwen.token_to_id("<|endoftext|>"));
    assert_eq!(qwen.bos_id(), None);
}

#[test]
fn a_character_of_many_tokens_comes_out_whole() {
    for name in ["smollm", "llama"] {
        let tokenizer = tokenizer(name);
        let ids = tokenizer.encode("x🦙y", false).unwrap();
        assert!(ids.len() > 5, "{name} splits it");
        let mut stream = tokenizer.stream(true);
        let pieces = ids.iter().map(|&id| stream.push(id).unwrap());
        let pieces: Vec<String> = pieces.filter(|piece| !piece.is_empty()).collect();
        assert!(pieces.contains(&"🦙".to_owned()), "{name}: {pieces:?}");

        // A text that stops within it, and one that goes on with something else, still comes out.
        let cut = &ids[..ids.len() - 2];
        for end in [&[][..], &ids[..2]] {
            let all = [cut, end].concat();
            let mut stream = tokenizer.stream(true);
            let pieces: String = all.iter().map(|&id| stream.push(id).unwrap()).collect();
            let pieces = pieces + &stream.finish().unwrap();
            assert_eq!(pieces, tokenizer.decode(&all, true).unwrap(), "{name}");
        }
    }
    let tokenizer = tokenizer("smollm");
    let mut stream = tokenizer.stream(true);
    assert!(stream.push(1 << 30).is_err());
    let hello = tokenizer.encode("so", false).unwrap();
    let text: String = hello.iter().map(|&id| stream.push(id).unwrap()).collect();
    assert_eq!(text, "so", "a wrong id leaves no trace");
}

#[test]
fn labelled_texts_are_encoded_and_cut_by_the_tokenizer_of_a_gguf_file_too() {
    let text = "It's 2026, isn't it?";
    let whole = tokenizer("smollm").encode(text, true).unwrap();
    let data = Dataset {
        examples: vec![Example {
            text: text.into(),
            pair: None,
            label: 0,
        }],
        labels: vec!["only".into()],
    };
    for (max_tokens, kept) in [(64, whole.len()), (3, 3)] {
        let encoder = Encoder::load(golden("smollm.gguf"), max_tokens).unwrap();
        let tokens = encoder.encode(&data).unwrap();
        assert_eq!(tokens[0].ids, whole[..kept]);
        assert_eq!(tokens[0].types, vec![0; kept]);
    }
}
