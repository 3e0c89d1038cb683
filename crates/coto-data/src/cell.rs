use std::path::Path;

use crate::dataset::Columns;
use crate::error::{Error, Nearest, Place, shorten};

/// One value of a table, as its format has it.
#[derive(Clone)]
pub(crate) enum Cell {
    Null,
    Text(String),
    Bytes(Vec<u8>),
    /// A whole number or a truth value, as text: a label, but no text to read.
    Scalar(String),
    /// What is there instead, in words.
    Other(&'static str),
}

/// One example with its label still a name.
pub(crate) struct Row {
    pub(crate) number: usize,
    pub(crate) text: String,
    pub(crate) pair: Option<String>,
    pub(crate) label: String,
}

/// Takes the rows of a file one by one, so that no format has to hold them all.
pub(crate) type Sink<'a> = &'a mut dyn FnMut(Row) -> Result<(), Error>;

/// What the readers of all formats know: the file and the columns wanted of it.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) path: &'a Path,
    pub(crate) columns: &'a Columns,
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

    /// Builds row `number` from the cells that `cell` finds by column name.
    pub(crate) fn row(
        &self,
        number: usize,
        mut cell: impl FnMut(&str) -> Result<Cell, Error>,
    ) -> Result<Row, Error> {
        let mut text = |column: &str| match cell(column)? {
            Cell::Scalar(_) => {
                Err(self.wrong_type(number, column, "a number or truth value", "text"))
            }
            other => self.value(number, column, other, "text"),
        };
        let (columns, wanted) = (self.columns, "a text, whole number or truth value");
        let row = Row {
            number,
            text: text(&columns.text)?,
            pair: columns.pair.as_deref().map(text).transpose()?,
            label: self.value(number, &columns.label, cell(&columns.label)?, wanted)?,
        };
        if row.label.is_empty() {
            return Err(self.null(number, &columns.label));
        }
        Ok(row)
    }

    fn value(
        &self,
        row: usize,
        column: &str,
        cell: Cell,
        wanted: &'static str,
    ) -> Result<String, Error> {
        match cell {
            Cell::Text(text) | Cell::Scalar(text) => Ok(text),
            Cell::Bytes(bytes) => String::from_utf8(bytes).map_err(|_| Error::NotUtf8 {
                at: self.at(row),
                what: format!("column `{}`", shorten(column)),
            }),
            Cell::Null => Err(self.null(row, column)),
            Cell::Other(found) => Err(self.wrong_type(row, column, found, wanted)),
        }
    }

    fn null(&self, row: usize, column: &str) -> Error {
        Error::Null {
            at: self.at(row),
            column: column.to_owned(),
        }
    }

    fn wrong_type(&self, row: usize, column: &str, found: &str, wanted: &'static str) -> Error {
        Error::WrongType {
            at: self.at(row),
            column: column.to_owned(),
            found: found.to_owned(),
            wanted,
        }
    }
}
