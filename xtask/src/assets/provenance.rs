//! `PROVENANCE.md` and the licence texts.

use std::collections::BTreeMap;
use std::fmt::{Display, Formatter};
use std::path::Path;

use anyhow::{Context, Result};

use super::fetch::{MINILM, SPAM, WORDNET};
use super::minilm::GROUP;
use super::quantise::Error;
use super::rows::Counts;

/// What was measured while the folder was made.
pub struct Report {
    /// Quantisation error per kind of matrix.
    pub errors: BTreeMap<String, Error>,
    /// Rows per class in train, validation and test of the nouns.
    pub nouns: [Counts; 3],
    /// Rows per class in train, validation and test of the verbs.
    pub verbs: [Counts; 3],
    /// Rows per class in train, validation and test of the mails.
    pub spam: [Counts; 3],
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "{}\n{}\n{}\n{}",
            errors(&self.errors),
            counts(&self.nouns),
            counts(&self.verbs),
            counts(&self.spam)
        )
    }
}

/// Writes the provenance and the three licences, which are cut out of the packages.
pub fn write(report: &Report, deb: &Path, npm: &Path, out: &Path) -> Result<()> {
    let text = [
        ("{minilm}", source(&MINILM)),
        ("{group}", GROUP.to_string()),
        ("{errors}", errors(&report.errors)),
        ("{wordnet}", source(&WORDNET)),
        ("{nouns}", counts(&report.nouns)),
        ("{verbs}", counts(&report.verbs)),
        ("{spam}", source(&SPAM)),
        ("{mails}", counts(&report.spam)),
    ]
    .iter()
    .fold(
        include_str!("provenance.md").to_string(),
        |text, (mark, value)| text.replace(mark, value),
    );
    super::write(&out.join("PROVENANCE.md"), text.as_bytes())?;

    let (nouns, mails) = (
        deb.join("usr/share/doc/wordnet-base/copyright"),
        npm.join("package/LICENSE"),
    );
    let wordnet = cut(
        &nouns,
        " This software and database is being",
        "Files: debian/*",
    )?;
    let apache = cut(
        &mails,
        "                                 Apache License",
        "Creative Commons Zero v1.0 Universal\n\n",
    )?;
    let public_domain = cut(
        &mails,
        "Creative Commons Zero v1.0 Universal\n\nStatement of Purpose",
        "",
    )?;
    super::write(&out.join("LICENSE-WORDNET"), unindent(&wordnet).as_bytes())?;
    super::write(
        &out.join("LICENSE-APACHE-2.0-MiniLM"),
        format!("{MINILM_NOTE}\n{apache}").as_bytes(),
    )?;
    super::write(
        &out.join("LICENSE-SPAM-ASSASSIN"),
        format!("{SPAM_NOTE}\n{public_domain}").as_bytes(),
    )
}

const MINILM_NOTE: &str = "\
The files in all-MiniLM-L6-v2/ are those of the model sentence-transformers/all-MiniLM-L6-v2, which its
authors license under the Apache License 2.0. Changed here: the weights were rounded to eight bits, and
the pooler and the position ids were left out; see PROVENANCE.md.
";

const SPAM_NOTE: &str = "\
The collection of mails in spam-assassin/ is under the Open Data Commons Public Domain Dedication & License
1.0 (PDDL 1.0), its contents are under Creative Commons Zero v1.0 Universal (CC0 1.0). Both texts follow.
";

fn source(package: &super::fetch::Package) -> String {
    format!(
        "{}, file `{}`, SHA-256 `{}`",
        package.source, package.file, package.sha256
    )
}

fn errors(errors: &BTreeMap<String, Error>) -> String {
    let line = |(kind, e): (&String, &Error)| {
        format!(
            "| `{kind}` | {:.3} % | {:.3} % |\n",
            100.0 * e.mean(),
            100.0 * e.worst()
        )
    };
    let lines: String = errors.iter().map(line).collect();
    format!(
        "| matrix | ‖W − Ŵ‖ / ‖W‖ | largest error over largest weight of its group |\n|---|---|---|\n{}",
        lines.trim_end()
    )
}

fn counts(splits: &[Counts; 3]) -> String {
    let of = |split: &Counts, class: &str| split.get(class).copied().unwrap_or(0);
    let cells = |name: &str, row: [usize; 3]| {
        format!("| {name} | {} | {} | {} |\n", row[0], row[1], row[2])
    };
    let classes: std::collections::BTreeSet<_> = splits.iter().flat_map(Counts::keys).collect();
    let lines: String = classes
        .iter()
        .map(|class| cells(class, splits.each_ref().map(|split| of(split, class))))
        .collect();
    let all = cells("all", splits.each_ref().map(|split| split.values().sum()));
    format!(
        "| class | train | validation | test |\n|---|---|---|---|\n{lines}{}",
        all.trim_end()
    )
}

/// The part of a text file from `start` up to `end`, or to the end of the file where `end` is empty.
fn cut(path: &Path, start: &str, end: &str) -> Result<String> {
    let text = String::from_utf8(super::read(path)?).with_context(|| path.display().to_string())?;
    let missing = |mark: &str| format!("{}: no `{}`", path.display(), mark.trim());
    let from = text.find(start).with_context(|| missing(start))?;
    let to = if end.is_empty() {
        text.len()
    } else {
        from + text[from..].find(end).with_context(|| missing(end))?
    };
    Ok(format!("{}\n", text[from..to].trim_end()))
}

/// Debian indents licences by one blank and writes a dot on empty lines.
fn unindent(text: &str) -> String {
    text.lines()
        .map(|line| {
            format!(
                "{}\n",
                line.strip_prefix(' ')
                    .filter(|line| *line != ".")
                    .unwrap_or_default()
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_licence_is_cut_out_and_its_debian_dress_taken_off() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(
            file.path(),
            "Files: *\n First line.\n .\n Second: line.\n\nFiles: rest\n",
        )
        .unwrap();
        let text = cut(file.path(), " First", "Files: rest").unwrap();
        assert_eq!(unindent(&text), "First line.\n\nSecond: line.\n");
        assert!(
            cut(file.path(), "Third", "")
                .unwrap_err()
                .to_string()
                .contains("no `Third`")
        );
    }

    #[test]
    fn a_class_that_a_split_lacks_counts_as_nought() {
        let one = |class: &str| Counts::from([(class.to_string(), 2)]);
        let table = counts(&[one("ham"), one("spam"), one("ham")]);
        assert!(
            table.ends_with("| ham | 2 | 0 | 2 |\n| spam | 0 | 2 | 0 |\n| all | 2 | 2 | 2 |"),
            "{table}"
        );
    }
}
