use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use coto_data::{Error as DataError, Nearest, Place};
use parquet::basic::{ConvertedType, Type};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::DataType;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use parquet::schema::types::SchemaDescriptor;
use serde_json::Value;

use crate::error::Error;
use crate::names::{Label, Names};
use crate::set::{ImageColumns, ImageSet, Stored};

/// A Parquet file while it is read.
struct Source<'a> {
    path: Arc<Path>,
    columns: &'a ImageColumns,
}

/// Reads encoded images and their labels, one row group at a time.
pub(crate) fn read(
    path: &Path,
    columns: &ImageColumns,
    labels: Option<&[String]>,
) -> Result<ImageSet, Error> {
    let source = Source {
        path: path.into(),
        columns,
    };
    let file = File::open(path).map_err(|reason| DataError::Open {
        path: path.into(),
        reason,
    })?;
    let reader = guarded(|| SerializedFileReader::new(file)).map_err(|reason| {
        let at = Place::file(path);
        DataError::Parquet { at, reason }
    })?;
    let schema = reader.metadata().file_metadata().schema_descr();
    let (image, label) = (source.image(schema)?, source.label(schema)?);
    let own = class_names(&reader, &columns.label);
    let mut names = Names::new(labels, own.as_deref());

    let (mut images, mut classes) = (Vec::new(), Vec::new());
    for index in 0..reader.num_row_groups() {
        let first = images.len() + 1;
        let broken = |column: &str, reason| DataError::Parquet {
            at: Place::row(path, first),
            reason: format!("column `{column}`: {reason}"),
        };
        let group = guarded(|| reader.get_row_group(index)).map_err(|r| broken("*", r))?;
        let pictures = guarded(|| encoded(&*group, image));
        let pictures = pictures.map_err(|reason| broken(&columns.image, reason))?;
        let labels = guarded(|| values_of_labels(&*group, label));
        let labels = labels.map_err(|reason| broken(&columns.label, reason))?;
        if pictures.len() != labels.len() {
            let reason = format!("{} labels for {} images", labels.len(), pictures.len());
            return Err(broken(&columns.label, reason).into());
        }
        for (picture, label) in pictures.into_iter().zip(labels) {
            let row = images.len() + 1;
            let picture = picture.ok_or_else(|| source.null(row, &columns.image))?;
            let label = match label.ok_or_else(|| source.null(row, &columns.label))? {
                Bytes::Number(number) => Label::Number(number),
                Bytes::Text(text) => Label::Text(source.text(row, text)?),
            };
            classes.push(names.class(label, || Place::row(path, row))?);
            images.push(Stored::Row(source.path.clone(), row, picture));
        }
    }
    if images.is_empty() {
        return Err(Error::Empty { path: path.into() });
    }
    let labels = names.settle(&mut classes);
    Ok(ImageSet::new(images, classes, labels))
}

impl Source<'_> {
    /// The index of the leaf with the encoded images: the column itself, or its field `bytes`.
    fn image(&self, schema: &SchemaDescriptor) -> Result<usize, Error> {
        let column = &self.columns.image;
        self.present(schema, column)?;
        let leaf = leaf(schema, &[column, "bytes"]).or_else(|| leaf(schema, &[column]));
        let fits = |&leaf: &usize| {
            let leaf = schema.column(leaf);
            leaf.physical_type() == Type::BYTE_ARRAY && leaf.converted_type() == ConvertedType::NONE
        };
        let wanted = "encoded images, binary or {bytes, path},";
        leaf.filter(fits)
            .ok_or_else(|| self.wrong_type(schema, column, wanted))
    }

    /// The index of the leaf with the labels.
    fn label(&self, schema: &SchemaDescriptor) -> Result<usize, Error> {
        use ConvertedType::{
            ENUM, INT_8, INT_16, INT_32, INT_64, NONE, UINT_8, UINT_16, UINT_32, UTF8,
        };
        let column = &self.columns.label;
        self.present(schema, column)?;
        let fits = |&leaf: &usize| {
            let leaf = schema.column(leaf);
            match (leaf.physical_type(), leaf.converted_type()) {
                (Type::BYTE_ARRAY, converted) => matches!(converted, NONE | UTF8 | ENUM),
                (Type::INT32, NONE | INT_8 | INT_16 | INT_32 | UINT_8 | UINT_16) => true,
                (Type::INT64, converted) => matches!(converted, NONE | INT_64 | UINT_32),
                _ => false,
            }
        };
        leaf(schema, &[column])
            .filter(fits)
            .ok_or_else(|| self.wrong_type(schema, column, "texts or whole numbers"))
    }

    fn present(&self, schema: &SchemaDescriptor, column: &str) -> Result<(), Error> {
        let fields = schema.root_schema().get_fields();
        let names = || fields.iter().map(|field| field.name());
        match names().any(|name| name == column) {
            true => Ok(()),
            false => Err(DataError::MissingColumn {
                at: Place::file(&self.path),
                column: column.to_owned(),
                nearest: Nearest::of(column, names()),
            }
            .into()),
        }
    }

    fn wrong_type(&self, schema: &SchemaDescriptor, column: &str, wanted: &'static str) -> Error {
        let found = match leaf(schema, &[column]).map(|leaf| schema.column(leaf)) {
            None => "lists or structures".to_owned(),
            Some(leaf) => match leaf.converted_type() {
                ConvertedType::NONE => format!("{} values", leaf.physical_type()),
                converted => format!("{} values of type {converted}", leaf.physical_type()),
            },
        };
        DataError::WrongType {
            at: Place::file(&self.path),
            column: column.to_owned(),
            found,
            wanted,
        }
        .into()
    }

    fn null(&self, row: usize, column: &str) -> DataError {
        DataError::Null {
            at: Place::row(&self.path, row),
            column: column.to_owned(),
        }
    }

    fn text(&self, row: usize, bytes: Vec<u8>) -> Result<String, DataError> {
        let column = &self.columns.label;
        match String::from_utf8(bytes) {
            Ok(text) if text.is_empty() => Err(self.null(row, column)),
            Ok(text) => Ok(text),
            Err(_) => Err(DataError::NotUtf8 {
                at: Place::row(&self.path, row),
                what: format!("column `{column}`"),
            }),
        }
    }
}

/// The index of a leaf that is in no list, by its path.
fn leaf(schema: &SchemaDescriptor, path: &[&str]) -> Option<usize> {
    (0..schema.num_columns()).find(|&leaf| {
        let column = schema.column(leaf);
        column.path().parts() == path && column.max_rep_level() == 0
    })
}

/// The names of a column's classes that Hugging Face's datasets leaves in a file.
fn class_names(reader: &SerializedFileReader<File>, column: &str) -> Option<Vec<String>> {
    let pairs = reader.metadata().file_metadata().key_value_metadata()?;
    let pair = pairs.iter().find(|pair| pair.key == "huggingface")?;
    let metadata: Value = serde_json::from_str(pair.value.as_ref()?).ok()?;
    let names = metadata["info"]["features"][column]["names"].as_array()?;
    names
        .iter()
        .map(|name| name.as_str().map(str::to_owned))
        .collect()
}

/// A label as Parquet has it.
enum Bytes {
    Text(Vec<u8>),
    Number(i64),
}

fn encoded(
    group: &dyn RowGroupReader,
    leaf: usize,
) -> Result<Vec<Option<Arc<[u8]>>>, ParquetError> {
    let present = group.metadata().column(leaf).column_descr().max_def_level();
    match group.get_column_reader(leaf)? {
        ColumnReader::ByteArrayColumnReader(reader) => {
            values(reader, present, |bytes| Arc::from(bytes.data()))
        }
        _ => Err(other_type()),
    }
}

fn values_of_labels(
    group: &dyn RowGroupReader,
    leaf: usize,
) -> Result<Vec<Option<Bytes>>, ParquetError> {
    let present = group.metadata().column(leaf).column_descr().max_def_level();
    match group.get_column_reader(leaf)? {
        ColumnReader::Int32ColumnReader(reader) => {
            values(reader, present, |number| Bytes::Number(number.into()))
        }
        ColumnReader::Int64ColumnReader(reader) => values(reader, present, Bytes::Number),
        ColumnReader::ByteArrayColumnReader(reader) => {
            values(reader, present, |bytes| Bytes::Text(bytes.data().to_vec()))
        }
        _ => Err(other_type()),
    }
}

fn other_type() -> ParquetError {
    ParquetError::General("the row group has another type than the schema".to_owned())
}

/// The values of a column, none for null: a value is there where the level is `present`.
fn values<T: DataType, V>(
    mut reader: ColumnReaderImpl<T>,
    present: i16,
    value: impl Fn(T::T) -> V,
) -> Result<Vec<Option<V>>, ParquetError> {
    const AT_ONCE: usize = 256;
    let mut out = Vec::new();
    let (mut levels, mut values) = (Vec::new(), Vec::new());
    loop {
        let (records, ..) = reader.read_records(AT_ONCE, Some(&mut levels), None, &mut values)?;
        if records == 0 {
            return Ok(out);
        }
        let mut there = values.drain(..).map(&value);
        match present {
            0 => out.extend(there.map(Some)),
            _ => out.extend(levels.drain(..).map(|level| match level == present {
                true => there.next(),
                false => None,
            })),
        }
    }
}

/// The parquet crate panics at some damaged files; to a caller a damaged file is an error like any other.
fn guarded<T>(read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(fault)) => Err(fault.to_string().chars().take(200).collect()),
        Err(_) => Err("the file is damaged".to_owned()),
    }
}
