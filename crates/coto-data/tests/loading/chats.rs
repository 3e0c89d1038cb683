//! Chat templates, against what `transformers` renders (see `goldens/make.py`).

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant, UNIX_EPOCH};

use coto_data::{ChatTemplate, Message};
use serde::Deserialize;

use crate::tokens::{golden, tokenizer};

#[derive(Deserialize)]
struct Chats {
    special: BTreeMap<String, String>,
    templates: BTreeMap<String, String>,
    now: u64,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    template: String,
    messages: Vec<Message>,
    add_generation_prompt: bool,
    text: Option<String>,
    error: Option<String>,
}

fn chats() -> Chats {
    serde_json::from_slice(&fs::read(golden("chats.json")).unwrap()).unwrap()
}

#[test]
fn every_conversation_is_rendered_as_by_transformers() {
    let chats = chats();
    let mut refused = 0;
    for case in &chats.cases {
        let name = &case.template;
        let source = chats.templates[name].as_str();
        let template = ChatTemplate::new(name, source, chats.special.clone()).unwrap();
        assert_eq!(template.source(), source);
        let template = template.at(UNIX_EPOCH + Duration::from_secs(chats.now));
        let rendered = template.render(&case.messages, case.add_generation_prompt);
        match (&case.text, &case.error) {
            (Some(text), None) => {
                let rendered = rendered.unwrap_or_else(|error| panic!("{name}: {error}"));
                assert_eq!(&rendered, text, "{name}: {:?}", case.messages);
            }
            (None, Some(reason)) => {
                refused += 1;
                let message = rendered.unwrap_err().to_string();
                assert!(
                    message.starts_with(&format!("{name}: chat template, line ")),
                    "{message}"
                );
                assert!(message.ends_with(reason), "{message} has no {reason}");
            }
            _ => panic!("{name}: neither text nor error"),
        }
    }
    assert!(refused > 1 && chats.cases.len() > 40);
}

#[test]
fn a_gguf_file_has_its_chat_template() {
    let messages = [Message::new("user", "Hi")];
    let text = tokenizer("smollm").chat(&messages, true).unwrap();
    let end = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n";
    assert!(
        text.starts_with("<|im_start|>system\n") && text.ends_with(end),
        "{text}"
    );

    let message = tokenizer("llama")
        .chat(&messages, true)
        .unwrap_err()
        .to_string();
    assert!(
        message.ends_with("llama.gguf: the model has no chat template"),
        "{message}"
    );
    let template =
        ChatTemplate::new("mine", "{{ messages[0].content }}?", BTreeMap::new()).unwrap();
    let llama = tokenizer("llama").with_template(template);
    assert_eq!(llama.chat(&messages, true).unwrap(), "Hi?");
}

#[test]
fn a_long_conversation_is_rendered() {
    let turn = |i: usize| {
        Message::new(
            ["user", "assistant"][i % 2],
            format!("Turn {i}. ").repeat(20),
        )
    };
    let messages: Vec<Message> = (0..2000).map(turn).collect();
    let text = tokenizer("smollm").chat(&messages, false).unwrap();
    assert_eq!(text.matches("<|im_start|>").count(), 2001);
    assert!(text.ends_with("Turn 1999. <|im_end|>\n"));
}

#[test]
fn a_template_that_is_wrong_or_hostile_is_refused_with_its_line() {
    let render = |source: &str| {
        let messages = [Message::new("user", "Hi")];
        ChatTemplate::new("t", source, BTreeMap::new())
            .and_then(|template| template.render(&messages, true))
            .map_err(|error| error.to_string())
    };
    let table = [
        ("a\n{% if %}", "line 2: "),
        ("{% for m in messages %}\n{{ m.content", "line 2: "),
        ("a\nb\n{{ nothing.at.all }}", "line 3: "),
        ("\n{{ messages[0].content.lowercase() }}", "line 2: "),
        (
            "{{ raise_exception('no ' ~ messages[0].role) }}",
            "line 1: no user",
        ),
        ("{{ strftime_now('%Q') }}", "unknown format `%Q`"),
        (
            "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
            "too long",
        ),
        (
            "{% set ns = namespace(t='ab') %}{% for i in range(99) %}{% set ns.t = ns.t + ns.t %}{% endfor %}",
            "too long",
        ),
        ("{{ 'x' * 9999999999 }}", "line 1: "),
        (
            "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
            "line 1: ",
        ),
        (
            "{{ messages | tojson(indent=1000000000) }}{{ 0 / 0 }}",
            "line 1: ",
        ),
        (
            "{{ messages | tojson(separators=['a']) }}",
            "separators are two texts",
        ),
        ("{{ messages | tojson(sorted=true) }}", "sorted"),
        (
            "{% set ns = namespace(t=[]) %}{% for i in range(9999) %}{% set ns.t = [ns.t] %}{% endfor %}{{ ns.t | tojson }}",
            "the JSON is too deep",
        ),
        (
            "{% set ns = namespace(t=[]) %}{% for i in range(9999) %}{% set ns.t = [ns.t] %}{% endfor %}{{ ns.t | tojson(sort_keys=true) }}",
            "the JSON is too deep",
        ),
        (
            "{{ range(9999) | list | tojson(separators=['x' * 99999, '']) }}",
            "the JSON is too long",
        ),
        (
            "{{ range(9999) | list | tojson(indent='x' * 99999) }}",
            "the JSON is too long",
        ),
        ("{% include 'other' %}", "line 1: "),
    ];
    let start = Instant::now();
    for (source, expected) in table {
        let message = render(source).unwrap_err();
        assert!(
            message.starts_with("t: chat template"),
            "{source}: {message}"
        );
        assert!(message.contains(expected), "{source}: {message}");
        assert!(message.len() < 300, "{source}: {message}");
    }
    // Values nested deeper than the stack of a thread would bear.
    let nested = |rest: &str| {
        let nest = "{% set ns.t = [[[[ns.t]]]] %}{% set ns.u = [[[[ns.u]]]] %}";
        let steps = "{% for i in range(10000) %}".to_owned() + nest + "{% endfor %}";
        "{% set ns = namespace(t=[], u=[]) %}".to_owned() + &steps + rest
    };
    assert_eq!(render(&nested("{{ ns.t == ns.u }}")).unwrap(), "True");
    assert_eq!(render(&nested("{{ ns.t }}")).unwrap().len(), 80_002);
    assert!(render(&nested("{{ ns.t | tojson }}")).is_err());
    let endless = nested("{% for i in range(99999) %}{% set ns.t = [ns.t] %}{% endfor %}");
    assert!(render(&endless).unwrap_err().contains("too long"));
    let deep = format!(
        "{}1{}",
        "{{ ".to_owned() + &"(".repeat(50_000),
        ")".repeat(50_000) + " }}"
    );
    assert!(render(&deep).is_err());
    assert!(start.elapsed() < Duration::from_secs(60));
}
