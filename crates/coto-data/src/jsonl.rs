use std::io::BufRead;

use serde_json::{Map, Value};

use crate::cell::{Cell, Rows, Source};
use crate::error::Error;

/// Reads one JSON object a line; blank lines are passed over.
pub(crate) fn rows(
    source: Source,
    mut file: impl BufRead,
    sink: &mut dyn Rows,
) -> Result<(), Error> {
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let read = file.read_until(b'\n', &mut line);
        if read.map_err(|reason| Error::Read {
            at: source.at(number),
            reason,
        })? == 0
        {
            break;
        }
        let bytes = match number {
            1 => line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&line),
            _ => &line,
        };
        if bytes.trim_ascii().is_empty() {
            continue;
        }
        let object = object(source, number, bytes)?;
        let names: Vec<&str> = object.keys().map(String::as_str).collect();
        let columns = sink.columns(source.at(number), &names)?;
        if let Some(column) = columns.iter().find(|column| !object.contains_key(*column)) {
            return Err(source.missing(source.at(number), column, names));
        }
        let cells = columns
            .iter()
            .map(|column| object.get(column).map_or(Cell::Null, cell))
            .collect();
        sink.row(source.at(number), cells)?;
    }
    Ok(())
}

fn object(source: Source, number: usize, bytes: &[u8]) -> Result<Map<String, Value>, Error> {
    let text = std::str::from_utf8(bytes).map_err(|fault| Error::NotUtf8 {
        at: source.at(number),
        what: format!("byte {} of the line", fault.valid_up_to() + 1),
    })?;
    serde_json::from_str(text).map_err(|fault| {
        let reason = fault.to_string();
        // The parser counts lines of what it was given, always one.
        let reason = reason
            .rsplit_once(" at line ")
            .map_or(&*reason, |(reason, _)| reason);
        Error::Json {
            at: source.at(number),
            reason: format!("{reason} (byte {})", fault.column()),
        }
    })
}

fn cell(value: &Value) -> Cell {
    match value {
        Value::Null => Cell::Null,
        Value::String(text) => Cell::Text(text.clone()),
        Value::Bool(truth) => Cell::Scalar(truth.to_string()),
        Value::Number(number) if !number.is_f64() => Cell::Scalar(number.to_string()),
        other => Cell::Json(other.clone()),
    }
}
