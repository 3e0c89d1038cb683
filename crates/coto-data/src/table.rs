use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use crate::cell::{Rows, Source};
use crate::error::Error;
use crate::{delimited, jsonl, parquet_file};

/// Reads a table of any format, which its name tells.
pub(crate) fn read(path: &Path, sink: &mut dyn Rows) -> Result<(), Error> {
    let source = Source { path };
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
