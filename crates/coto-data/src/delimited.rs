use std::io::Read;

use csv::{ByteRecord, ErrorKind, ReaderBuilder};

use crate::cell::{Cell, Rows, Source};
use crate::error::{Error, Place};

/// Reads a table with a header: CSV by RFC 4180, or TSV, in which a quotation mark is a character like any other
/// (the IANA type `text/tab-separated-values`, and the GLUE files).
pub(crate) fn rows(
    source: Source,
    file: impl Read,
    delimiter: u8,
    sink: &mut dyn Rows,
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
    let names: Vec<_> = header.iter().map(String::from_utf8_lossy).collect();
    let names: Vec<&str> = names.iter().map(|name| &**name).collect();
    // An unknown column is an error of the header, even above no rows.
    let positions = sink
        .columns(source.at(1), &names)?
        .iter()
        .map(|column| {
            let found = names.iter().position(|name| name == column);
            found.ok_or_else(|| source.missing(source.at(1), column, names.iter().copied()))
        })
        .collect::<Result<Vec<_>, _>>()?;

    let mut record = ByteRecord::new();
    for number in 2.. {
        let at = || source.at(number);
        if !table
            .read_byte_record(&mut record)
            .map_err(|fault| broken(at(), fault))?
        {
            break;
        }
        let cells = positions.iter().map(|&position| cell(&record[position]));
        sink.row(at(), cells.collect())?;
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
