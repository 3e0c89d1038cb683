//! Definitions of nouns and verbs with their supersense, from WordNet's data files.

use std::path::Path;

use anyhow::{Context, Result};

use super::rows::{Counts, Plan, Row, Splits, distinct};

/// A part of speech.
pub struct Part {
    /// Its name: of its data file, and in front of its classes.
    name: &'static str,
    /// The number of its first lexicographer file.
    first: usize,
    /// What its lexicographer files are called, in the order of their numbers.
    classes: &'static [&'static str],
}

/// Nouns, 26 classes.
pub const NOUNS: Part = Part {
    name: "noun",
    first: 3,
    classes: &[
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
    ],
};

/// Verbs, 15 classes.
pub const VERBS: Part = Part {
    name: "verb",
    first: 29,
    classes: &[
        "body",
        "change",
        "cognition",
        "communication",
        "competition",
        "consumption",
        "contact",
        "creation",
        "emotion",
        "motion",
        "perception",
        "possession",
        "social",
        "stative",
        "weather",
    ],
};

/// 6,000 rows to train on; a class gets at least 24 of them, for few-shot runs with 20.
const PLAN: Plan = Plan {
    rows: 10_000,
    least: 40,
    test: 2_000,
    validation: 2_000,
};

impl Part {
    /// Writes the three splits into the part's own folder of `out`; returns their counts.
    pub fn write(&self, deb: &Path, out: &Path) -> Result<[Counts; 3]> {
        let path = deb.join(format!("usr/share/wordnet/data.{}", self.name));
        let text =
            String::from_utf8(super::read(&path)?).with_context(|| path.display().to_string())?;
        // Lines of the licence at the top begin with blanks.
        let synsets = text.lines().filter(|line| !line.starts_with(' '));
        let rows = synsets
            .map(|line| {
                self.parse(line)
                    .with_context(|| format!("not a synset: {line}"))
            })
            .collect::<Result<_>>()?;
        let name = format!("wordnet-{}s", self.name);
        Splits::draw(distinct(rows), &PLAN, &name).write(&out.join(&name))
    }

    /// Reads `offset lex_file type word_count(hex) word … | gloss`.
    fn parse(&self, line: &str) -> Option<Row> {
        let (synset, gloss) = line.split_once(" | ")?;
        let mut fields = synset.split(' ').skip(1);
        let number: usize = fields.next()?.parse().ok()?;
        let word = fields.nth(2)?;
        let class = self.classes.get(number.checked_sub(self.first)?)?;
        Some(Row {
            text: definition(gloss),
            term: Some(word.replace('_', " ")),
            label: format!("{}.{class}", self.name),
        })
    }
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
        let row = NOUNS.parse(line).unwrap();
        assert_eq!(row.text, "a kept canine; bred in many forms");
        assert_eq!(
            (row.term.as_deref(), row.label.as_str()),
            (Some("domestic dog"), "noun.animal")
        );
    }

    #[test]
    fn the_first_and_the_last_class_have_their_names() {
        let label = |part: &Part, number| {
            part.parse(&format!("00000001 {number} n 01 word 0 000 | gloss"))
                .map(|row| row.label)
        };
        let of_nouns = ["02", "03", "28", "29"].map(|number| label(&NOUNS, number));
        assert_eq!(
            of_nouns.each_ref().map(Option::as_deref),
            [None, Some("noun.Tops"), Some("noun.time"), None]
        );
        let of_verbs = ["28", "29", "43", "44"].map(|number| label(&VERBS, number));
        assert_eq!(
            of_verbs.each_ref().map(Option::as_deref),
            [None, Some("verb.body"), Some("verb.weather"), None]
        );
    }

    #[test]
    fn the_frames_of_a_verb_are_no_part_of_its_definition() {
        let line = "02772202 43 v 01 haze 0 002 @ 02770717 v 0000 + 11465888 n 0101 01 + 01 00 | become hazy, dull, or cloudy  ";
        let row = VERBS.parse(line).unwrap();
        assert_eq!(
            (row.text.as_str(), row.label.as_str()),
            ("become hazy, dull, or cloudy", "verb.weather")
        );
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
        assert!(NOUNS.parse("00000001 05 n 01 word 0 000").is_none());
    }
}
