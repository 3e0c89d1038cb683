//! Tables for language modelling, whole and broken; the targets of conversations against `transformers`.

use std::fs;

use coto_data::{
    ChatTemplate, Error, LanguageDataset, LanguageFormat, LanguageOptions, LanguageTokenizer,
    Message, Sequence,
};
use serde::Deserialize;
use serde_json::json;

use crate::tables::{Folder, gzip, plain_parquet};
use crate::tokens::{golden, tokenizer};

#[derive(Deserialize)]
struct Chats {
    chatml: String,
    learnt: Vec<Learnt>,
}

#[derive(Deserialize)]
struct Learnt {
    messages: Vec<Message>,
    ids: Vec<u32>,
    learn: Vec<u8>,
}

fn chatml() -> LanguageTokenizer {
    let chats: Chats = serde_json::from_slice(&fs::read(golden("chats.json")).unwrap()).unwrap();
    let template = ChatTemplate::new("chatml", chats.chatml, Default::default()).unwrap();
    tokenizer("smollm").with_template(template)
}

fn load(content: &str, options: &LanguageOptions) -> Result<LanguageDataset, Error> {
    let folder = Folder::new();
    let path = folder.file("a.jsonl", content.as_bytes());
    LanguageDataset::load(path, options, &chatml())
}

/// The text that is learnt, and the whole.
fn texts(tokenizer: &LanguageTokenizer, sequence: &Sequence) -> (String, String) {
    let learnt: Vec<u32> = (sequence.ids.iter().zip(&sequence.learn))
        .filter(|(_, learn)| **learn)
        .map(|(&id, _)| id)
        .collect();
    let text = |ids: &[u32]| tokenizer.decode(ids, false).unwrap();
    (text(&learnt), text(&sequence.ids))
}

#[test]
fn the_assistants_turns_are_learnt_as_transformers_masks_them() {
    let chats: Chats = serde_json::from_slice(&fs::read(golden("chats.json")).unwrap()).unwrap();
    let line = |learnt: &Learnt| json!({"messages": learnt.messages, "id": 7}).to_string() + "\n";
    let content: String = chats.learnt.iter().map(line).collect();
    let data = load(&content, &LanguageOptions::default()).unwrap();
    assert_eq!(
        (data.sequences.len(), data.truncated, data.skipped),
        (3, 0, 0)
    );
    for (sequence, expected) in data.sequences.iter().zip(&chats.learnt) {
        let learn: Vec<bool> = expected.learn.iter().map(|&learn| learn == 1).collect();
        assert_eq!(sequence.ids, expected.ids);
        assert_eq!(sequence.learn, learn, "{:?}", expected.messages);
    }

    let options = LanguageOptions {
        completions_only: false,
        ..Default::default()
    };
    let all = load(&content, &options).unwrap();
    for (sequence, expected) in all.sequences.iter().zip(&chats.learnt) {
        assert_eq!(sequence.ids, expected.ids);
        assert_eq!(
            sequence.targets(),
            expected.ids.len() - 1,
            "all but the first"
        );
    }
    assert_ne!(all.fingerprint(), data.fingerprint());
}

#[test]
fn completions_are_learnt_with_their_end_and_texts_whole() {
    let smollm = tokenizer("smollm");
    let content = "{\"prompt\":\"The sum is\",\"completion\":\" four.\"}\n{\"prompt\":\"\",\"completion\":\"and\"}\n\
                   {\"prompt\":\"done<|im_end|>\",\"completion\":\"\"}\n{\"prompt\":\" t\",\"completion\":\"he\"}";
    let data = load(content, &LanguageOptions::default()).unwrap();
    let texts: Vec<_> = data.sequences.iter().map(|s| texts(&smollm, s)).collect();
    let text = |(learnt, whole): &(String, String)| format!("{learnt}|{whole}");
    let texts: Vec<String> = texts.iter().map(text).collect();
    assert_eq!(
        texts,
        [
            " four.<|im_end|>|The sum is four.<|im_end|>",
            // Nothing comes before the first token, so it is not learnt.
            "<|im_end|>|and<|im_end|>",
            "<|im_end|>|done<|im_end|>",
            // " the" is one token, the first.
            "<|im_end|>| the<|im_end|>",
        ]
    );

    // BOS where the model begins with it, and the token over the border.
    let llama = tokenizer("llama");
    let folder = Folder::new();
    let path = folder.file("a.csv", b"prompt,completion\nYou may repro,duce\n");
    let data = LanguageDataset::load(path, &LanguageOptions::default(), &llama).unwrap();
    let (learnt, whole) = self::texts(&llama, &data.sequences[0]);
    assert_eq!(whole, "<s> You may reproduce</s>");
    assert!(
        learnt.ends_with("duce</s>") && learnt.len() < "reproduce</s>".len() + 2,
        "{learnt}"
    );

    let path = folder.file("a.jsonl", b"{\"text\":\"You may\"}");
    let data = LanguageDataset::load(path, &LanguageOptions::default(), &llama).unwrap();
    let (learnt, whole) = self::texts(&llama, &data.sequences[0]);
    assert_eq!((&*learnt, &*whole), ("You may", "<s> You may"));
    assert_eq!(data.lengths(), [data.sequences[0].ids.len()]);
}

#[test]
fn every_format_of_table_gives_the_same_sequences() {
    let folder = Folder::new();
    let messages =
        r#"[{"role":"user","content":"Hi, you"},{"role":"assistant","content":"Hello"}]"#;
    let jsonl = format!("{{\"messages\":{messages}}}\n");
    let quoted = messages.replace('"', "\"\"");
    let csv = format!("id,messages\n1,\"{quoted}\"\n");
    let columns = |name: &str| {
        let mut options = LanguageOptions::default();
        options.columns.messages = name.to_owned();
        options.format = Some(LanguageFormat::Messages);
        options
    };
    let parquet = plain_parquet(&[(Some(messages.as_bytes()), 1)]);
    let paths = [
        (folder.file("a.jsonl", jsonl.as_bytes()), "messages"),
        (
            folder.file("a.jsonl.gz", &gzip(jsonl.as_bytes())),
            "messages",
        ),
        (folder.file("a.csv", csv.as_bytes()), "messages"),
        (folder.file("a.parquet", &parquet), "text"),
    ];
    let tokenizer = chatml();
    let load = |(path, column): &(_, &str)| {
        LanguageDataset::load(path, &columns(column), &tokenizer).unwrap_or_else(|e| panic!("{e}"))
    };
    let first = load(&paths[0]);
    assert_eq!(texts(&tokenizer, &first.sequences[0]).0, "Hello<|im_end|>");
    for path in &paths {
        assert_eq!(load(path), first);
    }
    assert_eq!(first.fingerprint(), 15_324_572_745_621_662_782);
}

#[test]
fn long_rows_are_cut_on_the_right_and_rows_without_targets_counted() {
    let row = |prompt: usize, completion: usize| {
        let text = |count| " the".repeat(count);
        let row = json!({"prompt": text(prompt), "completion": text(completion)});
        row.to_string() + "\n"
    };
    let content = row(3, 2) + &row(3, 9) + &row(8, 1) + &row(5, 1);
    let options = |max_tokens| LanguageOptions {
        max_tokens,
        ..Default::default()
    };
    let data = load(&content, &options(7)).unwrap();
    assert_eq!(data.lengths(), [6, 7, 7]);
    assert_eq!((data.truncated, data.skipped), (2, 1));
    let targets: Vec<usize> = data.sequences.iter().map(Sequence::targets).collect();
    assert_eq!(targets, [3, 4, 2]);
    for max_tokens in [0, 1, 3] {
        let message = load(&content, &options(max_tokens))
            .unwrap_err()
            .to_string();
        let expected =
            format!("none of 4 rows has a token to learn within max_tokens {max_tokens}");
        assert!(message.ends_with(&expected), "{message}");
    }
}

#[test]
fn what_is_broken_is_named() {
    let table = [
        ("", "the file has no rows"),
        (
            "{}",
            "row 1: of the columns `messages`, `prompt and completion` or `text` none is there, only nothing",
        ),
        ("{\"txt\":\"x\"}", "`text` none is there, only `txt`"),
        (
            "{\"text\":\"x\",\"messages\":[]}",
            "row 1: there are `messages` and `text`, of which one is wanted: say which with `format`",
        ),
        (
            "{\"text\":\"x\"}\n{\"prompt\":\"x\",\"completion\":\"y\"}",
            "row 2: the row has `prompt and completion`, but the first has `text`",
        ),
        (
            "{\"text\":\"x\"}\n\n{\"txt\":\"x\"}",
            "row 3: there is no column `text`; the nearest is `txt`",
        ),
        (
            "{\"text\":\"x\"}\n{\"text\":5}",
            "row 2: column `text` holds a number or truth value, but text is wanted",
        ),
        ("{\"text\":null}", "row 1: column `text` is empty"),
        (
            "{\"prompt\":\"x\",\"completion\":[\"y\"]}",
            "column `completion` holds an array",
        ),
        (
            "{\"messages\":{}}",
            "column `messages` holds an object, but a list of messages is wanted",
        ),
        ("{\"messages\":[]}", "column `messages` is empty"),
        ("{\"messages\":\"Hi\"}", "column `messages` is not JSON"),
        (
            "{\"messages\":[\"Hi\"]}",
            "column `messages[0]` holds text, but an object with `role` and `content` is wanted",
        ),
        (
            "{\"messages\":[{\"role\":\"user\"}]}",
            "there is no column `messages[0].content`",
        ),
        (
            "{\"messages\":[{\"rôle\":\"user\",\"content\":\"x\"}]}",
            "no column `messages[0].role`; the nearest is `rôle`",
        ),
        (
            "{\"messages\":[{\"role\":\"user\",\"content\":[1]}]}",
            "column `messages[0].content` holds an array, but text is wanted",
        ),
        (
            "{\"messages\":[{\"role\":\"user\",\"content\":\"x\",\"weight\":0}]}",
            "`messages[0].weight` is unknown",
        ),
        (
            "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}",
            "row 1: the assistant says nothing in this conversation",
        ),
    ];
    for (content, expected) in table {
        let message = load(content, &LanguageOptions::default())
            .unwrap_err()
            .to_string();
        assert!(message.contains("a.jsonl"), "{message}");
        assert!(message.contains(expected), "{content}: {message}");
    }
    // Null is no content of an unknown field, and a role is free.
    let content = "{\"messages\":[{\"role\":\"x\",\"content\":\"\"},{\"role\":\"assistant\",\"content\":\"y\",\"name\":null}]}";
    assert!(load(content, &LanguageOptions::default()).is_ok());
}

#[test]
fn a_template_that_does_not_write_turn_by_turn_is_refused() {
    let folder = Folder::new();
    let turns = r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":"c"}]}"#;
    let path = folder.file("a.jsonl", turns.as_bytes());
    let load = |source: &str, completions_only| {
        let template = ChatTemplate::new("t", source, Default::default()).unwrap();
        let options = LanguageOptions {
            completions_only,
            ..Default::default()
        };
        LanguageDataset::load(
            &path,
            &options,
            &tokenizer("smollm").with_template(template),
        )
    };
    let counting = "{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}";
    let message = load(counting, true).unwrap_err().to_string();
    assert!(
        message
            .contains("row 1: the chat template writes the conversation up to turn 2 differently"),
        "{message}"
    );
    assert!(load(counting, false).is_ok());

    let message = load("\n{{ raise_exception('Not so.') }}", true)
        .unwrap_err()
        .to_string();
    assert!(
        message.ends_with("a.jsonl, row 1: t: chat template, line 2: Not so."),
        "{message}"
    );
    let data = LanguageDataset::load(&path, &LanguageOptions::default(), &tokenizer("llama"));
    let message = data.unwrap_err().to_string();
    assert!(
        message.ends_with("llama.gguf: the model has no chat template"),
        "{message}"
    );
}

#[test]
fn options_are_written_short_and_checked() {
    let read = |json| serde_json::from_str::<LanguageOptions>(json);
    let options =
        read(r#"{"format":"completion","columns":{"prompt":"q"},"max_tokens":9}"#).unwrap();
    assert_eq!(options.format, Some(LanguageFormat::Completion));
    assert_eq!(
        (&*options.columns.prompt, &*options.columns.completion),
        ("q", "completion")
    );
    assert!(options.completions_only);
    assert!(
        read(r#"{"max_token":9}"#)
            .unwrap_err()
            .to_string()
            .contains("max_token")
    );
}
