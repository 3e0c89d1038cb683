use std::path::Path;

use serde_json::Value;

use crate::error::{Error, Nearest, Place, shorten};
use crate::language::found;

/// One value of a table, as its format has it.
#[derive(Debug, Clone)]
pub(crate) enum Cell {
    Null,
    Text(String),
    Bytes(Vec<u8>),
    /// A whole number or a truth value, as text: a label, but no text to read.
    Scalar(String),
    /// A fraction, a list or an object of a JSONL file.
    Json(Value),
}

/// Takes a table row by row, so that no format has to hold them all.
pub(crate) trait Rows {
    /// The columns to read where there are columns of these names: of a CSV, TSV or Parquet file once, of a JSONL file at
    /// each row. Names that are not there are the reader's error.
    fn columns(&mut self, at: Place, names: &[&str]) -> Result<Vec<String>, Error>;

    /// Takes a row: the cells of the columns, in their order.
    fn row(&mut self, at: Place, cells: Vec<Cell>) -> Result<(), Error>;
}

/// What the readers of all formats know: the file.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) path: &'a Path,
}

impl Source<'_> {
    pub(crate) fn at(&self, row: usize) -> Place {
        Place::row(self.path, row)
    }

    pub(crate) fn missing<'n>(
        &self,
        at: Place,
        column: &str,
        names: impl IntoIterator<Item = &'n str>,
    ) -> Error {
        Error::MissingColumn {
            at,
            column: column.to_owned(),
            nearest: Nearest::of(column, names),
        }
    }
}

impl Cell {
    /// The text, or the error that names row and column.
    pub(crate) fn text(self, at: &Place, column: &str) -> Result<String, Error> {
        match self {
            Cell::Scalar(_) => Err(wrong_type(at, column, "a number or truth value", "text")),
            other => other.value(at, column, "text"),
        }
    }

    /// The text, whole number or truth value as text, or the error that names row and column.
    pub(crate) fn scalar(self, at: &Place, column: &str) -> Result<String, Error> {
        self.value(at, column, "a text, whole number or truth value")
    }

    /// The JSON value, which a file without lists has as text.
    pub(crate) fn json(self, at: &Place, column: &str) -> Result<Value, Error> {
        match self {
            Cell::Json(value) => Ok(value),
            other => {
                let text = other.text(at, column)?;
                serde_json::from_str(&text).map_err(|fault| Error::JsonCell {
                    at: at.clone(),
                    column: column.to_owned(),
                    reason: fault.to_string(),
                })
            }
        }
    }

    fn value(self, at: &Place, column: &str, wanted: &'static str) -> Result<String, Error> {
        match self {
            Cell::Text(text) | Cell::Scalar(text) => Ok(text),
            Cell::Bytes(bytes) => String::from_utf8(bytes).map_err(|_| Error::NotUtf8 {
                at: at.clone(),
                what: format!("column `{}`", shorten(column)),
            }),
            Cell::Null => Err(Error::Null {
                at: at.clone(),
                column: column.to_owned(),
            }),
            Cell::Json(value) => Err(wrong_type(at, column, found(&value), wanted)),
        }
    }
}

pub(crate) fn wrong_type(at: &Place, column: &str, found: &str, wanted: &'static str) -> Error {
    Error::WrongType {
        at: at.clone(),
        column: column.to_owned(),
        found: found.to_owned(),
        wanted,
    }
}
