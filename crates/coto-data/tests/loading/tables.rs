use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coto_data::{Columns, Dataset, Error};
use flate2::{Compression, write::GzEncoder};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;

pub fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// A Parquet file in row groups of `group` rows: a nullable text, a label, whether that is positive, and columns no data set can use.
pub fn parquet(
    rows: &[(Option<&[u8]>, i64)],
    group: usize,
    compression: parquet::basic::Compression,
) -> Vec<u8> {
    let schema = "message table { optional binary text (UTF8); required int64 label; required boolean truth;
        required double score; optional group tags (LIST) { repeated group list { required int64 element; } } }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = Arc::new(
        WriterProperties::builder()
            .set_compression(compression)
            .build(),
    );
    let mut file = SerializedFileWriter::new(Vec::new(), schema, properties).unwrap();
    for rows in rows.chunks(group) {
        let present: Vec<i16> = rows
            .iter()
            .map(|(text, _)| i16::from(text.is_some()))
            .collect();
        let texts: Vec<ByteArray> = rows
            .iter()
            .filter_map(|(text, _)| text.map(|text| text.to_vec().into()))
            .collect();
        let labels: Vec<i64> = rows.iter().map(|&(_, label)| label).collect();
        let truths: Vec<bool> = labels.iter().map(|&label| label > 0).collect();
        let (none, scores) = (vec![0; rows.len()], vec![0.5; rows.len()]);

        let mut writer = file.next_row_group().unwrap();
        column::<ByteArrayType>(&mut writer, &texts, Some(&present), None);
        column::<Int64Type>(&mut writer, &labels, None, None);
        column::<BoolType>(&mut writer, &truths, None, None);
        column::<DoubleType>(&mut writer, &scores, None, None);
        column::<Int64Type>(&mut writer, &[], Some(&none), Some(&none));
        writer.close().unwrap();
    }
    file.into_inner().unwrap()
}

fn column<T: DataType>(
    writer: &mut SerializedRowGroupWriter<Vec<u8>>,
    values: &[T::T],
    definitions: Option<&[i16]>,
    repetitions: Option<&[i16]>,
) {
    let mut column = writer.next_column().unwrap().unwrap();
    column
        .typed::<T>()
        .write_batch(values, definitions, repetitions)
        .unwrap();
    column.close().unwrap();
}

pub fn plain_parquet(rows: &[(Option<&[u8]>, i64)]) -> Vec<u8> {
    parquet(rows, 2, parquet::basic::Compression::UNCOMPRESSED)
}

pub struct Folder(pub tempfile::TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }
}

pub fn columns(text: &str, pair: Option<&str>, label: &str) -> Columns {
    Columns {
        text: text.into(),
        pair: pair.map(String::from),
        label: label.into(),
    }
}

pub fn load(path: &Path) -> Result<Dataset, Error> {
    Dataset::load(path, &Columns::default(), None)
}
