//! Labelled rows: without repeats, split by class, written as gzipped JSON lines.

use std::collections::{BTreeMap, HashSet};
use std::io::Write;
use std::path::Path;

use anyhow::Result;
use flate2::{Compression, GzBuilder};
use rand::seq::SliceRandom;
use serde_json::json;

/// Seed of all draws; the streams are named after the data sets.
const SEED: u64 = 0;

/// One example.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What the model reads.
    pub text: String,
    /// What the text is about, where the source names it.
    pub term: Option<String>,
    /// Name of the class.
    pub label: String,
}

/// How many rows to take, and how they are shared out.
pub struct Plan {
    /// Rows in all; `usize::MAX` takes every row.
    pub rows: usize,
    /// The least a class gets, if it has as many.
    pub least: usize,
    /// Rows for testing.
    pub test: usize,
    /// Rows for validation.
    pub validation: usize,
}

/// Rows in each class of a split.
pub type Counts = BTreeMap<String, usize>;

/// The three splits.
#[derive(Default)]
pub struct Splits {
    /// What is left after the other two.
    pub train: Vec<Row>,
    /// For choices made while developing.
    pub validation: Vec<Row>,
    /// For the numbers reported.
    pub test: Vec<Row>,
}

/// Keeps the first of all rows whose texts have the same letters and digits, and none whose text has neither.
pub fn distinct(rows: Vec<Row>) -> Vec<Row> {
    let mut seen = HashSet::new();
    let key = |row: &Row| -> String {
        row.text
            .chars()
            .filter(|c| c.is_alphanumeric())
            .flat_map(char::to_lowercase)
            .collect()
    };
    rows.into_iter()
        .filter(|row| {
            Some(key(row))
                .filter(|key| !key.is_empty())
                .is_some_and(|key| seen.insert(key))
        })
        .collect()
}

impl Splits {
    /// Draws the splits class by class, from the stream called `name`.
    pub fn draw(rows: Vec<Row>, plan: &Plan, name: &str) -> Self {
        let mut classes: BTreeMap<String, Vec<Row>> = BTreeMap::new();
        for row in rows {
            classes.entry(row.label.clone()).or_default().push(row);
        }
        let sizes: Vec<_> = classes.values().map(Vec::len).collect();
        let taken = apportion(&sizes, plan.rows, plan.least);
        let test = apportion(&taken, plan.test, 0);
        let rest: Vec<_> = taken
            .iter()
            .zip(&test)
            .map(|(taken, test)| taken - test)
            .collect();
        let validation = apportion(&rest, plan.validation, 0);

        let mut splits = Self::default();
        for (class, mut rows) in classes.into_values().enumerate() {
            rows.shuffle(&mut coto_coalition::stream_at(SEED, name, class as u64));
            rows.truncate(taken[class]);
            splits.test.extend(rows.drain(..test[class]));
            splits.validation.extend(rows.drain(..validation[class]));
            splits.train.extend(rows);
        }
        let after_classes = sizes.len() as u64;
        for (i, (_, split)) in splits.named_mut().into_iter().enumerate() {
            split.shuffle(&mut coto_coalition::stream_at(
                SEED,
                name,
                after_classes + i as u64,
            ));
        }
        splits
    }

    /// Writes `train.jsonl.gz`, `validation.jsonl.gz` and `test.jsonl.gz`; returns the counts in this order.
    pub fn write(&mut self, folder: &Path) -> Result<[Counts; 3]> {
        let mut counts = <[Counts; 3]>::default();
        for ((name, rows), counts) in self.named_mut().into_iter().zip(&mut counts) {
            super::write(&folder.join(format!("{name}.jsonl.gz")), &gzip(rows)?)?;
            rows.iter()
                .for_each(|row| *counts.entry(row.label.clone()).or_default() += 1);
        }
        Ok(counts)
    }

    fn named_mut(&mut self) -> [(&'static str, &mut Vec<Row>); 3] {
        [
            ("train", &mut self.train),
            ("validation", &mut self.validation),
            ("test", &mut self.test),
        ]
    }
}

/// Shares `total` out in proportion to `sizes`, by largest remainders; no share exceeds its size,
/// and none falls below `least` where the size allows it.
fn apportion(sizes: &[usize], total: usize, least: usize) -> Vec<usize> {
    let all: usize = sizes.iter().sum();
    if total >= all {
        return sizes.to_vec();
    }
    let small = |size: usize| size * total < least * all;
    let mut shares: Vec<_> = sizes
        .iter()
        .map(|&size| if small(size) { size.min(least) } else { 0 })
        .collect();
    let left = total - shares.iter().sum::<usize>();
    let large: Vec<_> = (0..sizes.len()).filter(|&i| !small(sizes[i])).collect();
    let weight: usize = large.iter().map(|&i| sizes[i]).sum();

    large
        .iter()
        .for_each(|&i| shares[i] = sizes[i] * left / weight);
    let missing = total - shares.iter().sum::<usize>();
    let mut by_remainder = large;
    by_remainder.sort_by_key(|&i| std::cmp::Reverse(sizes[i] * left % weight));
    by_remainder
        .iter()
        .take(missing)
        .for_each(|&i| shares[i] += 1);
    shares
}

/// JSON lines, compressed without a time stamp, so that the bytes depend on the rows alone.
fn gzip(rows: &[Row]) -> Result<Vec<u8>> {
    let mut out = GzBuilder::new()
        .mtime(0)
        .write(Vec::new(), Compression::best());
    for row in rows {
        let line = match &row.term {
            Some(term) => json!({"text": row.text, "term": term, "label": row.label}),
            None => json!({"text": row.text, "label": row.label}),
        };
        writeln!(out, "{line}")?;
    }
    Ok(out.finish()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn rows(classes: &[(&str, usize)]) -> Vec<Row> {
        let row = |label: &str, i| Row {
            text: format!("{label} {i}"),
            term: None,
            label: label.into(),
        };
        classes
            .iter()
            .flat_map(|&(label, count)| (0..count).map(move |i| row(label, i)))
            .collect()
    }

    #[test]
    fn shares_follow_the_sizes_but_small_classes_keep_their_least() {
        assert_eq!(apportion(&[50, 30, 20], 10, 0), [5, 3, 2]);
        assert_eq!(apportion(&[1, 1, 1], 2, 0), [1, 1, 0]);
        assert_eq!(apportion(&[960, 30, 10], 100, 20), [70, 20, 10]);
        assert_eq!(apportion(&[3, 4], 100, 0), [3, 4]);
    }

    #[test]
    fn splits_share_no_row_and_every_class_is_in_each() {
        let plan = Plan {
            rows: 300,
            least: 40,
            test: 60,
            validation: 60,
        };
        let splits = Splits::draw(rows(&[("a", 900), ("b", 50), ("c", 400)]), &plan, "test");
        assert_eq!(
            (
                splits.train.len(),
                splits.validation.len(),
                splits.test.len()
            ),
            (180, 60, 60)
        );
        let all = [&splits.train, &splits.validation, &splits.test];
        let texts: HashSet<_> = all
            .iter()
            .flat_map(|split| split.iter().map(|row| &row.text))
            .collect();
        assert_eq!(texts.len(), 300);
        for split in all {
            assert!(split.iter().filter(|row| row.label == "b").count() >= 8);
        }
    }

    #[test]
    fn repeats_are_found_whatever_their_case_and_punctuation() {
        let texts = ["A cat.", "a  CAT", "two cats", "--", ""];
        let rows = texts
            .map(|text| Row {
                text: text.into(),
                term: None,
                label: "x".into(),
            })
            .to_vec();
        let kept: Vec<_> = distinct(rows).into_iter().map(|row| row.text).collect();
        assert_eq!(kept, ["A cat.", "two cats"]);
    }

    #[test]
    fn the_file_holds_one_object_a_line_and_no_time() {
        let row = Row {
            text: "a \"cat\"".into(),
            term: Some("cat".into()),
            label: "noun.animal".into(),
        };
        let bytes = gzip(&[row.clone(), Row { term: None, ..row }]).unwrap();
        assert_eq!(bytes[4..8], [0; 4]);
        let mut text = String::new();
        flate2::read::GzDecoder::new(bytes.as_slice())
            .read_to_string(&mut text)
            .unwrap();
        let rest = r#""label":"noun.animal"}"#;
        assert_eq!(
            text,
            format!(
                "{{\"text\":\"a \\\"cat\\\"\",\"term\":\"cat\",{rest}\n{{\"text\":\"a \\\"cat\\\"\",{rest}\n"
            )
        );
    }
}
