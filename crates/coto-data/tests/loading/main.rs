//! Tables of every format, tokenizers and chat templates, whole and broken.

mod broken;
mod chats;
mod folders;
mod questions;
mod sequences;
mod tables;
mod tokens;

use coto_data::{Columns, Dataset};

use tables::{Folder, columns, gzip, load, parquet, plain_parquet};

#[test]
fn every_format_gives_the_same_data_set() {
    let folder = Folder::new();
    let jsonl = "\u{feff}{\"text\":\"one, \\\"1\\\"\",\"label\":10}\n\n{\"label\":9,\"text\":\"zwei – ü\",\"other\":null}\r\n{\"text\":\"three\",\"label\":10}";
    let csv = "\u{feff}label,text\r\n10,\"one, \"\"1\"\"\"\r\n9,zwei – ü\r\n10,three\r\n";
    let tsv = "label\ttext\n10\tone, \"1\"\n9\tzwei – ü\n10\tthree";
    let rows = [
        (Some("one, \"1\"".as_bytes()), 10),
        (Some("zwei – ü".as_bytes()), 9),
        (Some(&b"three"[..]), 10),
    ];
    let gzip_level = parquet::basic::GzipLevel::default();
    let paths = [
        folder.file("a.jsonl", jsonl.as_bytes()),
        folder.file("a.json", jsonl.as_bytes()),
        folder.file("a.JSONL.gz", &gzip(jsonl.as_bytes())),
        folder.file(
            "two-members.jsonl.gz",
            &[gzip(&jsonl.as_bytes()[..40]), gzip(&jsonl.as_bytes()[40..])].concat(),
        ),
        folder.file("a.csv", csv.as_bytes()),
        folder.file("a.csv.gz", &gzip(csv.as_bytes())),
        folder.file("a.tsv", tsv.as_bytes()),
        folder.file("a.tsv.gz", &gzip(tsv.as_bytes())),
        folder.file("a.parquet", &plain_parquet(&rows)),
        folder.file(
            "snappy.parquet",
            &parquet(&rows, 1, parquet::basic::Compression::SNAPPY),
        ),
        folder.file(
            "gzip.parquet",
            &parquet(&rows, 9, parquet::basic::Compression::GZIP(gzip_level)),
        ),
    ];
    for path in &paths {
        let data = load(path).unwrap_or_else(|error| panic!("{error}"));
        let texts: Vec<&str> = data
            .examples
            .iter()
            .map(|example| example.text.as_str())
            .collect();
        assert_eq!(
            texts,
            ["one, \"1\"", "zwei – ü", "three"],
            "{}",
            path.display()
        );
        assert_eq!(data.labels, ["9", "10"], "whole numbers sort as numbers");
        assert_eq!(data.class_counts(), [1, 2]);
        assert_eq!(data.fingerprint(), load(&paths[0]).unwrap().fingerprint());
    }
}

#[test]
fn pairs_named_columns_and_truth_values_are_read() {
    let folder = Folder::new();
    let path = folder.file(
        "a.jsonl",
        b"{\"q\":\"who\",\"a\":\"me\",\"same\":true}\n{\"q\":\"\",\"a\":\"you\",\"same\":false}\n",
    );
    let data = Dataset::load(path, &columns("q", Some("a"), "same"), None).unwrap();
    assert_eq!(data.labels, ["false", "true"]);
    assert_eq!(data.examples[0].pair.as_deref(), Some("me"));
    assert_eq!(
        (data.examples[1].text.as_str(), data.examples[1].label),
        ("", 0)
    );

    let path = folder.file(
        "a.parquet",
        &plain_parquet(&[(Some(b"x"), 3), (Some(b"y"), 0), (Some(b"z"), 3)]),
    );
    let data = Dataset::load(path, &columns("text", Some("text"), "truth"), None).unwrap();
    assert_eq!(data.labels, ["false", "true"]);
    assert_eq!(data.examples[2].pair.as_deref(), Some("z"));
}

#[test]
fn a_given_label_set_keeps_its_order() {
    let path = Folder::new();
    let path = path.file("a.csv", b"text,label\nx,good\ny,bad\n");
    let set = ["good", "neutral", "bad"].map(String::from);
    let data = Dataset::load(path, &Columns::default(), Some(&set)).unwrap();
    assert_eq!(data.labels, set);
    assert_eq!(data.class_counts(), [1, 0, 1]);
}

#[test]
fn the_fingerprint_sees_every_change_and_never_moves() {
    let folder = Folder::new();
    let fingerprint = |content: &[u8]| {
        let data = Dataset::load(
            folder.file("a.jsonl", content),
            &columns("t", Some("p"), "l"),
            None,
        );
        data.unwrap().fingerprint()
    };
    let first = fingerprint(b"{\"t\":\"ab\",\"p\":\"c\",\"l\":1}");
    assert_eq!(first, 4_518_988_126_617_605_626);
    let changed: [&[u8]; 4] = [
        b"{\"t\":\"a\",\"p\":\"bc\",\"l\":1}",
        b"{\"t\":\"abc\",\"p\":\"\",\"l\":1}",
        b"{\"t\":\"ab\",\"p\":\"c\",\"l\":2}",
        b"{\"t\":\"ab\",\"p\":\"c\",\"l\":1}\n{\"t\":\"ab\",\"p\":\"c\",\"l\":1}",
    ];
    for content in changed {
        assert_ne!(fingerprint(content), first);
    }
}

#[test]
fn columns_are_written_short_and_checked() {
    let read: Columns = serde_json::from_str("{\"pair\":\"second\"}").unwrap();
    assert_eq!(read, columns("text", Some("second"), "label"));
    let error = serde_json::from_str::<Columns>("{\"lable\":\"x\"}").unwrap_err();
    assert!(error.to_string().contains("lable"));
}
