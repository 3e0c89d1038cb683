//! Noun definitions with their supersense, from WordNet's `data.noun`.

use std::path::Path;

use anyhow::{Context, Result};

use super::rows::{Counts, Plan, Row, Splits, distinct};

/// Names of the noun classes; their lexicographer files are numbered from [`FIRST`] in this order.
const CLASSES: [&str; 26] = [
    "Tops",
    "act",
    "animal",
    "artifact",
    "attribute",
    "body",
    "cognition",
    "communication",
    "event",
    "feeling",
    "food",
    "group",
    "location",
    "motive",
    "object",
    "person",
    "phenomenon",
    "plant",
    "possession",
    "process",
    "quantity",
    "relation",
    "shape",
    "state",
    "substance",
    "time",
];
const FIRST: usize = 3;

/// 6,000 rows to train on; a class gets at least 24 of them, for few-shot runs with 20.
const PLAN: Plan = Plan {
    rows: 10_000,
    least: 40,
    test: 2_000,
    validation: 2_000,
};

/// Writes the three splits; returns their counts.
pub fn write(deb: &Path, folder: &Path) -> Result<[Counts; 3]> {
    let path = deb.join("usr/share/wordnet/data.noun");
    let text =
        String::from_utf8(super::read(&path)?).with_context(|| path.display().to_string())?;
    // Lines of the licence at the top begin with blanks.
    let synsets = text.lines().filter(|line| !line.starts_with(' '));
    let rows = synsets
        .map(|line| parse(line).with_context(|| format!("not a synset: {line}")))
        .collect::<Result<_>>()?;
    Splits::draw(distinct(rows), &PLAN, "wordnet-nouns").write(folder)
}

/// Reads `offset lex_file type word_count(hex) word … | gloss`.
fn parse(line: &str) -> Option<Row> {
    let (synset, gloss) = line.split_once(" | ")?;
    let mut fields = synset.split(' ').skip(1);
    let class: usize = fields.next()?.parse().ok()?;
    let word = fields.nth(2)?;
    Some(Row {
        text: definition(gloss),
        term: Some(word.replace('_', " ")),
        label: format!("noun.{}", CLASSES.get(class.checked_sub(FIRST)?)?),
    })
}

/// The gloss without its quoted examples; semicolons within quotes separate nothing.
fn definition(gloss: &str) -> String {
    let mut quoted = false;
    let parts = gloss.split(|c| {
        quoted ^= c == '"';
        c == ';' && !quoted
    });
    let kept: Vec<_> = parts
        .map(str::trim)
        .filter(|part| !part.is_empty() && !part.starts_with('"'))
        .collect();
    kept.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_synset_line_gives_its_first_word_its_class_and_its_definition() {
        let line = "02084071 05 n 03 domestic_dog 0 dog 0 Canis_familiaris 0 002 @ 02083346 n 0000 ~ 01322604 n 0000 | \
                    a kept canine; bred in many forms; \"the dog barked; all night\"  ";
        let row = parse(line).unwrap();
        assert_eq!(row.text, "a kept canine; bred in many forms");
        assert_eq!(
            (row.term.as_deref(), row.label.as_str()),
            (Some("domestic dog"), "noun.animal")
        );
    }

    #[test]
    fn the_first_and_the_last_class_have_their_names() {
        let label = |number| {
            parse(&format!("00000001 {number} n 01 word 0 000 | gloss")).map(|row| row.label)
        };
        assert_eq!(
            (label("03").as_deref(), label("28").as_deref()),
            (Some("noun.Tops"), Some("noun.time"))
        );
        assert_eq!((label("02"), label("29")), (None, None));
    }

    #[test]
    fn quotes_inside_a_definition_stay() {
        assert_eq!(
            definition("the word \"a; b\" said aloud; \"say it\"- Anon"),
            "the word \"a; b\" said aloud"
        );
    }

    #[test]
    fn a_line_without_a_gloss_is_no_synset() {
        assert!(parse("00000001 05 n 01 word 0 000").is_none());
    }
}
