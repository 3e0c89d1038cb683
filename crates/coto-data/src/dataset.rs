use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use serde::{Deserialize, Serialize};

use crate::cell::{Sink, Source};
use crate::error::{Error, shorten};
use crate::labels::Labels;
use crate::{delimited, jsonl, parquet_file};

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
        let source = Source { path, columns };
        let mut examples = Vec::new();
        let mut labels = Labels::new(labels);
        read(source, &mut |row| {
            let shown = shorten(&row.label);
            let label = labels
                .class(row.label)
                .map_err(|nearest| Error::UnknownLabel {
                    at: source.at(row.number),
                    column: columns.label.clone(),
                    label: shown,
                    nearest,
                })?;
            examples.push(Example {
                text: row.text,
                pair: row.pair,
                label,
            });
            Ok(())
        })?;
        if examples.is_empty() {
            return Err(Error::NoRows { path: path.into() });
        }
        let labels = labels.settle(&mut examples);
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
        let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
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
        hash.0
    }
}

struct Fnv(u64);

impl Fnv {
    fn bytes(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn number(&mut self, number: usize) {
        self.bytes(&(number as u64).to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len());
        self.bytes(text.as_bytes());
    }
}

fn read(source: Source, sink: Sink) -> Result<(), Error> {
    let name = source
        .path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .to_lowercase();
    let (plain, zipped) = match name.strip_suffix(".gz") {
        Some(plain) => (plain, true),
        None => (name.as_str(), false),
    };
    let extension = plain
        .rsplit_once('.')
        .map_or("", |(_, extension)| extension);
    let open = || {
        File::open(source.path).map_err(|reason| Error::Open {
            path: source.path.into(),
            reason,
        })
    };
    let text = || -> Result<Box<dyn BufRead>, Error> {
        let file = open()?;
        Ok(match zipped {
            true => Box::new(BufReader::new(MultiGzDecoder::new(BufReader::new(file)))),
            false => Box::new(BufReader::new(file)),
        })
    };
    match extension {
        "jsonl" | "json" => jsonl::rows(source, text()?, sink),
        "csv" => delimited::rows(source, text()?, b',', sink),
        "tsv" => delimited::rows(source, text()?, b'\t', sink),
        "parquet" if !zipped => parquet_file::rows(source, open()?, sink),
        _ => Err(Error::UnknownFormat {
            path: source.path.into(),
        }),
    }
}
