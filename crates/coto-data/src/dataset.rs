use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::cell::{Cell, Rows};
use crate::error::{Error, Place, shorten};
use crate::fingerprint::Fingerprint;
use crate::labels::Labels;
use crate::table;

/// Which columns of a table hold the text, its partner where a task compares two texts, and the label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Columns {
    /// The text, or the first of two; `text` by default.
    pub text: String,
    /// The second text; none by default.
    pub pair: Option<String>,
    /// The class; `label` by default.
    pub label: String,
}

impl Default for Columns {
    fn default() -> Self {
        Self {
            text: "text".into(),
            pair: None,
            label: "label".into(),
        }
    }
}

impl Columns {
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        [&self.text]
            .into_iter()
            .chain(&self.pair)
            .chain([&self.label])
            .map(String::as_str)
    }
}

/// One text, or two, and the class it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// The text, or the first of two.
    pub text: String,
    /// The second text.
    pub pair: Option<String>,
    /// The class, an index into [`Dataset::labels`].
    pub label: usize,
}

/// Labelled texts, in the order of their file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// The examples.
    pub examples: Vec<Example>,
    /// The names of the classes.
    pub labels: Vec<String>,
}

impl Dataset {
    /// Reads a table whose format is told by its name: `.jsonl` or `.json` (one object a line), `.csv` or `.tsv` (with a header),
    /// each also with `.gz`, or `.parquet` (snappy, gzip or no compression).
    ///
    /// Labels may be texts, whole numbers or truth values and are kept as text. With `labels` given, such as those a model was
    /// trained with, they are the label set in that order; otherwise it is the distinct labels of the file, sorted (as numbers if
    /// all are whole numbers). A tab-separated file has no quoting. An empty cell of a CSV or TSV file is an error, like null.
    ///
    /// # Errors
    /// Whatever is wrong with the file, by path, row and column; a label outside of a given set.
    pub fn load(
        path: impl AsRef<Path>,
        columns: &Columns,
        labels: Option<&[String]>,
    ) -> Result<Self, Error> {
        let path = path.as_ref();
        let mut rows = Labelled {
            columns,
            examples: Vec::new(),
            labels: Labels::new(labels),
        };
        table::read(path, &mut rows)?;
        let Labelled {
            mut examples,
            labels,
            ..
        } = rows;
        if examples.is_empty() {
            return Err(Error::NoRows { path: path.into() });
        }
        let labels = labels.settle(examples.iter_mut().map(|example| &mut example.label));
        Ok(Self { examples, labels })
    }

    /// How many examples each class has, in the order of [`Dataset::labels`].
    pub fn class_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.labels.len()];
        for example in &self.examples {
            counts[example.label] += 1;
        }
        counts
    }

    /// A 64-bit FNV-1a hash of labels and examples in their order, by which a resumed run tells that its data have changed.
    ///
    /// It depends on nothing but the content, not on the version of this crate, the machine or the format of the file.
    pub fn fingerprint(&self) -> u64 {
        let mut hash = Fingerprint::default();
        hash.number(self.labels.len());
        for label in &self.labels {
            hash.text(label);
        }
        for example in &self.examples {
            hash.text(&example.text);
            hash.number(usize::from(example.pair.is_some()));
            hash.text(example.pair.as_deref().unwrap_or_default());
            hash.number(example.label);
        }
        hash.finish()
    }
}

struct Labelled<'a> {
    columns: &'a Columns,
    examples: Vec<Example>,
    labels: Labels,
}

impl Rows for Labelled<'_> {
    fn columns(&mut self, _: Place, _: &[&str]) -> Result<Vec<String>, Error> {
        Ok(self.columns.names().map(str::to_owned).collect())
    }

    fn row(&mut self, at: Place, cells: Vec<Cell>) -> Result<(), Error> {
        let columns = self.columns;
        let mut cells = cells.into_iter();
        let mut next = || cells.next().unwrap_or(Cell::Null);
        let text = next().text(&at, &columns.text)?;
        let pair = match &columns.pair {
            Some(column) => Some(next().text(&at, column)?),
            None => None,
        };
        let label = next().scalar(&at, &columns.label)?;
        if label.is_empty() {
            return Err(Error::Null {
                at,
                column: columns.label.clone(),
            });
        }
        let shown = shorten(&label);
        let label = self
            .labels
            .class(label)
            .map_err(|nearest| Error::UnknownLabel {
                at,
                column: columns.label.clone(),
                label: shown,
                nearest,
            })?;
        self.examples.push(Example { text, pair, label });
        Ok(())
    }
}
