//! Ham and spam, from the SpamAssassin public mail corpus.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::mail;
use super::rows::{Counts, Plan, Row, Splits, distinct};

/// Folders of the corpus and their class.
const FOLDERS: [(&str, &str); 5] = [
    ("easy-ham-1", "ham"),
    ("easy-ham-2", "ham"),
    ("hard-ham-1", "ham"),
    ("spam-1", "spam"),
    ("spam-2", "spam"),
];

const PLAN: Plan = Plan {
    rows: usize::MAX,
    least: 0,
    test: 2_000,
    validation: 500,
};

/// Letters of a text that are kept.
const LONGEST: usize = 1_000;

/// Writes the three splits; returns their counts.
pub fn write(npm: &Path, folder: &Path) -> Result<[Counts; 3]> {
    let mut rows = Vec::new();
    for (name, label) in FOLDERS {
        for path in mails(&npm.join("package/data").join(name))? {
            let text = mail::truncate(&mail::text(&super::read(&path)?), LONGEST).to_string();
            rows.push(Row {
                text,
                term: None,
                label: label.into(),
            });
        }
    }
    Splits::draw(distinct(rows), &PLAN, "spam-assassin").write(folder)
}

/// The mails of a folder, in the order of their names.
fn mails(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    paths.sort();
    Ok(paths)
}
