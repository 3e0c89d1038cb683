//! Questions to evaluate with, whole and broken.

use coto_data::{Error, Message, MultipleChoice, Prompt, Question, QuestionColumns};

use crate::tables::Folder;
use crate::tokens::tokenizer;

fn choices(name: &str, content: &str) -> Result<Vec<MultipleChoice>, Error> {
    let folder = Folder::new();
    let path = folder.file(name, content.as_bytes());
    MultipleChoice::load(path, &QuestionColumns::default())
}

fn questions(content: &str) -> Result<Vec<Question>, Error> {
    let folder = Folder::new();
    let path = folder.file("a.jsonl", content.as_bytes());
    Question::load(path, &QuestionColumns::default())
}

#[test]
fn an_answer_is_an_index_or_one_of_the_choices() {
    let content = r#"{"question":"2+2?","choices":["3","4"],"answer":1}
{"context":"The sky is","choices":[" blue"," green"," red"],"answer":" red"}
{"context":"Pick","choices":["2","0"],"answer":"0","more":true}
{"context":"Pick","choices":["x","y"],"answer":"1"}"#;
    let read = choices("a.jsonl", content).unwrap();
    let answers: Vec<&str> = read.iter().map(|one| &*one.choices[one.answer]).collect();
    assert_eq!(answers, ["4", " red", "0", "y"]);
    assert_eq!(read[0].context, "2+2?");

    let csv = "question,choices,answer\n2+2?,\"[\"\"3\"\",\"\"4\"\"]\",1\n";
    assert_eq!(choices("a.csv", csv).unwrap()[0], read[0]);
}

#[test]
fn a_question_is_a_text_or_a_conversation() {
    let content = r#"{"prompt":"2+2?","answer":4}
{"messages":[{"role":"user","content":"2+2?"}],"answer":"four"}
{"question":"2/4?","answer":0.5}"#;
    let read = questions(content).unwrap();
    let answers: Vec<&str> = read.iter().map(|one| &*one.answer).collect();
    assert_eq!(answers, ["4", "four", "0.5"]);
    assert_eq!(read[0].prompt, Prompt::Text("2+2?".into()));
    assert_eq!(
        read[1].prompt,
        Prompt::Messages(vec![Message::new("user", "2+2?")])
    );

    let smollm = tokenizer("smollm");
    let text = |one: &Question| {
        let ids = one.prompt.encode(&smollm).unwrap();
        smollm.decode(&ids, false).unwrap()
    };
    assert_eq!(text(&read[0]), "2+2?");
    let chat = smollm.chat(&[Message::new("user", "2+2?")], true).unwrap();
    assert_eq!(text(&read[1]), chat);
    let llama = tokenizer("llama");
    let ids = read[0].prompt.encode(&llama).unwrap();
    assert_eq!(ids, llama.encode("2+2?", true).unwrap());
    assert_eq!(Some(ids[0]), llama.bos_id());
}

#[test]
fn what_is_broken_is_named() {
    let row = |choices: &str, answer: &str| {
        format!("{{\"question\":\"x\",\"choices\":{choices},\"answer\":{answer}}}")
    };
    let two = r#"["blue","green"]"#;
    let table = [
        (String::new(), "no rows"),
        (
            "{\"query\":\"x\"}".into(),
            "of the columns `context` or `question` none is there, only `query`",
        ),
        (
            "{\"context\":\"x\",\"question\":\"y\"}".into(),
            "there are `context` and `question`, of which one is wanted: say which with `prompt`",
        ),
        (
            "{\"context\":\"x\",\"choice\":[]}".into(),
            "no column `choices`; the nearest is `choice`",
        ),
        (
            row(two, "2"),
            "holds `2`, which is neither one of the choices nor the index of one",
        ),
        (row(two, "-1"), "holds `-1`"),
        (row(two, "\"grene\""), "the nearest is `green`"),
        (row(two, "true"), "holds `true`"),
        (row(two, "0.5"), "column `answer` holds a fraction"),
        (row(two, "null"), "column `answer` is empty"),
        (
            row("[]", "0"),
            "a shorter list, but a list of at least two texts is wanted",
        ),
        (row("[\"a\"]", "0"), "a shorter list"),
        (
            row("[\"a\",1]", "0"),
            "column `choices[1]` holds a number, but text is wanted",
        ),
        (
            row("[\"a\",\"b\",\"a\"]", "0"),
            "`a` twice, but a list of different texts is wanted",
        ),
        (row("{}", "0"), "column `choices` holds an object"),
        (row("\"a, b\"", "0"), "column `choices` is not JSON"),
    ];
    for (content, expected) in table {
        let message = choices("a.jsonl", &content).unwrap_err().to_string();
        assert!(
            message.contains("a.jsonl") && message.contains(expected),
            "{content}: {message}"
        );
    }
    for (content, expected) in [
        ("{\"prompt\":\"x\"}", "no column `answer`"),
        (
            "{\"prompt\":\"x\",\"messages\":[],\"answer\":\"\"}",
            "there are `prompt` and `messages`",
        ),
        (
            "{\"prompt\":1,\"answer\":\"\"}",
            "column `prompt` holds a number",
        ),
        (
            "{\"prompt\":\"x\",\"answer\":[1]}",
            "column `answer` holds an array",
        ),
        (
            "{\"messages\":[{}],\"answer\":\"x\"}",
            "no column `messages[0].role`",
        ),
    ] {
        let message = questions(content).unwrap_err().to_string();
        assert!(message.contains(expected), "{content}: {message}");
    }
}
