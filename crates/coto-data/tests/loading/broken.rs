use std::fs;

use coto_data::{Columns, Dataset};

use crate::tables::{Folder, columns, gzip, load, plain_parquet};

#[test]
fn what_is_broken_is_named() {
    let text = |content: &str| content.as_bytes().to_vec();
    let cut = |mut content: Vec<u8>| {
        content.truncate(content.len() - 12);
        content
    };
    let rows = plain_parquet(&[(Some(b"x"), 1), (Some(b"y"), 0), (Some(b"z"), 1)]);
    let null = plain_parquet(&[(Some(b"x"), 1), (Some(b"y"), 0), (None, 1)]);
    let latin = plain_parquet(&[(Some(b"x"), 1), (Some(b"caf\xe9"), 0)]);
    let standard = || columns("text", None, "label");
    let long = format!("{{\"text\":\"x\",\"label\":\"{}\"}}", "y".repeat(100_000));

    // file, content, columns, what the message has to say
    let table: Vec<(&str, Vec<u8>, Columns, &[&str])> = vec![
        (
            "no-format.txt",
            text("x"),
            standard(),
            &["unknown format", ".jsonl"],
        ),
        (
            "zipped.parquet.gz",
            rows.clone(),
            standard(),
            &["unknown format"],
        ),
        ("empty.jsonl", text(""), standard(), &["no rows"]),
        ("blank.jsonl", text("\n \n"), standard(), &["no rows"]),
        ("empty.csv", text(""), standard(), &["no rows"]),
        (
            "header-only.csv",
            text("text,label\n"),
            standard(),
            &["no rows"],
        ),
        (
            "header-only.parquet",
            plain_parquet(&[]),
            standard(),
            &["no rows"],
        ),
        (
            "column.jsonl",
            text("{\"text\":\"x\",\"label\":1}\n{\"txt\":\"x\",\"label\":1}"),
            standard(),
            &["row 2", "`text`", "`txt`"],
        ),
        (
            "column.csv",
            text("sentence,lable\nx,1\n"),
            columns("sentence", None, "label"),
            &["row 1", "`label`", "`lable`"],
        ),
        (
            "column.tsv",
            text("text label\nx 1\n"),
            standard(),
            &["row 1", "`text`", "`text label`"],
        ),
        (
            "column.parquet",
            rows.clone(),
            columns("texts", None, "label"),
            &["`texts`", "nearest is `text`"],
        ),
        (
            "pair.parquet",
            rows.clone(),
            columns("text", Some("other"), "label"),
            &["`other`"],
        ),
        (
            "no-columns.jsonl",
            text("{}"),
            standard(),
            &["row 1", "`text`"],
        ),
        (
            "latin.jsonl",
            b"{\"text\":\"x\",\"label\":1}\n{\"text\":\"caf\xe9\",\"label\":1}".to_vec(),
            standard(),
            &["row 2", "byte 13", "UTF-8"],
        ),
        (
            "latin.csv",
            b"text,label\r\nx,1\r\ncaf\xe9,1\r\n".to_vec(),
            standard(),
            &["row 3", "`text`", "UTF-8"],
        ),
        (
            "latin.parquet",
            latin,
            standard(),
            &["row 2", "`text`", "UTF-8"],
        ),
        (
            "brace.jsonl",
            text("{\"text\":\"x\",\"label\":1}\n\n{\"text\":\"x\",\"label\":1"),
            standard(),
            &["row 3", "EOF", "byte 21"],
        ),
        (
            "two.jsonl",
            text("{\"text\":\"x\",\"label\":1} {}"),
            standard(),
            &["row 1", "trailing", "byte 24"],
        ),
        (
            "array.json",
            text("[{\"text\":\"x\",\"label\":1}]"),
            standard(),
            &["row 1", "not a JSON object"],
        ),
        (
            "deep.jsonl",
            "[".repeat(100_000).into(),
            standard(),
            &["row 1", "not a JSON object"],
        ),
        (
            "nul.jsonl",
            vec![0; 4096],
            standard(),
            &["row 1", "not a JSON object"],
        ),
        (
            "null.jsonl",
            text("{\"text\":\"x\",\"label\":null}"),
            standard(),
            &["row 1", "`label` is empty"],
        ),
        (
            "nothing.jsonl",
            text("{\"text\":\"x\",\"label\":\"\"}"),
            standard(),
            &["row 1", "`label` is empty"],
        ),
        (
            "null.csv",
            text("text,label\nx,1\n,1\n"),
            standard(),
            &["row 3", "`text` is empty"],
        ),
        (
            "null.parquet",
            null,
            standard(),
            &["row 3", "`text` is empty"],
        ),
        (
            "number.jsonl",
            text("{\"text\":5,\"label\":1}"),
            standard(),
            &["row 1", "`text`", "a number"],
        ),
        (
            "fraction.jsonl",
            text("{\"text\":\"x\",\"label\":0.5}"),
            standard(),
            &["row 1", "`label`", "a fraction"],
        ),
        (
            "list.jsonl",
            text("{\"text\":\"x\",\"label\":[1]}"),
            standard(),
            &["row 1", "`label`", "an array"],
        ),
        (
            "number.parquet",
            rows.clone(),
            columns("label", None, "label"),
            &["row 1", "`label`", "a number"],
        ),
        (
            "fraction.parquet",
            rows.clone(),
            columns("text", None, "score"),
            &["`score`", "DOUBLE"],
        ),
        (
            "list.parquet",
            rows.clone(),
            columns("tags", None, "label"),
            &["`tags`", "lists"],
        ),
        (
            "ragged.csv",
            text("text,label\nx,1\ny,2,3\n"),
            standard(),
            &["row 3", "3 fields", "has 2"],
        ),
        (
            "ragged.tsv",
            text("text\tlabel\nx\n"),
            standard(),
            &["row 2", "1 field", "has 2"],
        ),
        (
            "quote.csv",
            text("text,label\nx,1\n\"y,2\nz,1\n"),
            standard(),
            &["row 3", "1 field", "has 2"],
        ),
        (
            "no.parquet",
            text("PAR1 but not really PAR1"),
            standard(),
            &["unreadable Parquet"],
        ),
        (
            "empty.parquet",
            text(""),
            standard(),
            &["unreadable Parquet"],
        ),
        (
            "cut.parquet",
            cut(rows),
            standard(),
            &["unreadable Parquet"],
        ),
        (
            "cut.csv.gz",
            cut(gzip(b"text,label\nx,1\ny,2\n")),
            standard(),
            &["cannot read on"],
        ),
        (
            "plain.jsonl.gz",
            text("{\"text\":\"x\",\"label\":1}"),
            standard(),
            &["row 1", "cannot read on"],
        ),
        (
            "label.csv",
            text("text,label\nx,good\ny,goood\n"),
            standard(),
            &["row 3", "`label`", "`goood`", "nearest is `good`"],
        ),
        (
            "long.jsonl",
            text(&long),
            standard(),
            &["row 1", "yyy…`", "nearest"],
        ),
    ];
    let folder = Folder::new();
    let set = ["bad", "good", "0", "1"].map(String::from);
    for (name, content, columns, expected) in &table {
        let path = folder.file(name, content);
        let message = Dataset::load(&path, columns, Some(&set))
            .unwrap_err()
            .to_string();
        assert!(message.starts_with(&*path.to_string_lossy()), "{message}");
        for part in *expected {
            assert!(message.contains(part), "{name}: no {part:?} in {message:?}");
        }
        assert!(
            message.len() < path.to_string_lossy().len() + 400,
            "{name}: {} bytes",
            message.len()
        );
    }

    let missing = folder.0.path().join("missing.csv");
    let message = load(&missing).unwrap_err().to_string();
    assert!(
        message.contains("cannot open") && message.contains("missing.csv"),
        "{message}"
    );
    let directory = folder.0.path().join("directory.csv");
    fs::create_dir(&directory).unwrap();
    assert!(
        load(&directory)
            .unwrap_err()
            .to_string()
            .contains("directory.csv")
    );
}

#[test]
fn damaged_bytes_never_panic() {
    let folder = Folder::new();
    let csv = b"text,label\n\"a \"\"b\"\"\",1\nc,2\n".to_vec();
    let whole = [
        (
            "a.jsonl",
            b"{\"text\":\"a\",\"label\":1}\n{\"text\":\"b\",\"label\":true}\n".to_vec(),
        ),
        ("a.csv.gz", gzip(&csv)),
        ("a.csv", csv),
        (
            "a.parquet",
            plain_parquet(&[(Some(b"x"), 1), (None, 0), (Some(b"z"), 1)]),
        ),
    ];
    let mut refused = 0;
    for (name, content) in &whole {
        for position in 0..content.len() {
            let mut damaged = content.clone();
            damaged[position] ^= 0x91;
            refused += usize::from(load(&folder.file(name, &damaged)).is_err());
        }
        for length in (0..content.len()).step_by(5) {
            refused += usize::from(load(&folder.file(name, &content[..length])).is_err());
        }
    }
    assert!(refused > 500, "{refused}");
}
