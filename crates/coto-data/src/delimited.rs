use std::io::Read;

use csv::{ByteRecord, ErrorKind, ReaderBuilder};

use crate::cell::{Cell, Sink, Source};
use crate::error::{Error, Place};

/// Reads a table with a header: CSV by RFC 4180, or TSV, in which a quotation mark is a character like any other
/// (the IANA type `text/tab-separated-values`, and the GLUE files).
pub(crate) fn rows(
    source: Source,
    file: impl Read,
    delimiter: u8,
    sink: Sink,
) -> Result<(), Error> {
    let mut table = ReaderBuilder::new()
        .delimiter(delimiter)
        .quoting(delimiter != b'\t')
        .from_reader(file);
    let header = table
        .byte_headers()
        .map_err(|fault| broken(source.at(1), fault))?;
    if header.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = header
        .iter()
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect();
    let position = |column: &str| {
        let found = names.iter().position(|name| name == column);
        found.ok_or_else(|| source.missing(source.at(1), column, names.iter().map(String::as_str)))
    };
    // An unknown column is an error of the header, even above no rows.
    for column in source.columns.names() {
        position(column)?;
    }

    let mut record = ByteRecord::new();
    for number in 2.. {
        let at = || source.at(number);
        if !table
            .read_byte_record(&mut record)
            .map_err(|fault| broken(at(), fault))?
        {
            break;
        }
        sink(source.row(number, |column| Ok(cell(&record[position(column)?])))?)?;
    }
    Ok(())
}

fn cell(bytes: &[u8]) -> Cell {
    match bytes {
        [] => Cell::Null,
        bytes => Cell::Bytes(bytes.to_vec()),
    }
}

fn broken(at: Place, fault: csv::Error) -> Error {
    match fault.into_kind() {
        ErrorKind::Io(reason) => Error::Read { at, reason },
        ErrorKind::UnequalLengths {
            expected_len, len, ..
        } => Error::Ragged {
            at,
            found: len,
            expected: expected_len,
        },
        other => Error::Table {
            at,
            reason: format!("{other:?}"),
        },
    }
}
