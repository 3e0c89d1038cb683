use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};

use parquet::basic::{ConvertedType, Type};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::DataType;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use parquet::schema::types::SchemaDescriptor;

use crate::cell::{Cell, Rows, Source};
use crate::error::{Error, Place, shorten};

/// Reads the wanted columns of a Parquet file, one row group at a time.
pub(crate) fn rows(source: Source, file: File, sink: &mut dyn Rows) -> Result<(), Error> {
    let at = Place::file(source.path);
    let reader = guarded(|| SerializedFileReader::new(file)).map_err(|reason| Error::Parquet {
        at: at.clone(),
        reason,
    })?;
    let schema = reader.metadata().file_metadata().schema_descr();
    let fields = schema.root_schema().get_fields();
    let names: Vec<&str> = fields.iter().map(|field| field.name()).collect();
    let columns = sink
        .columns(at, &names)?
        .into_iter()
        .map(|column| {
            let leaf = leaf(source, schema, &column)?;
            Ok((column, leaf))
        })
        .collect::<Result<Vec<_>, Error>>()?;

    let mut number = 1;
    for index in 0..reader.num_row_groups() {
        let broken = |reason| Error::Parquet {
            at: source.at(number),
            reason,
        };
        let group = guarded(|| reader.get_row_group(index)).map_err(broken)?;
        let mut table = Vec::with_capacity(columns.len());
        for (name, leaf) in &columns {
            let cells = guarded(|| cells(&*group, *leaf))
                .map_err(|reason| broken(format!("column `{name}`: {reason}")))?;
            table.push((name, cells));
        }
        let length = table.first().map_or(0, |(_, cells)| cells.len());
        if let Some((name, cells)) = table.iter().find(|(_, cells)| cells.len() != length) {
            let found = cells.len();
            return Err(broken(format!(
                "column `{name}` has {found} values, but `{}` has {length}",
                table[0].0
            )));
        }
        let mut table: Vec<_> = (table.into_iter())
            .map(|(_, cells)| cells.into_iter())
            .collect();
        for _ in 0..length {
            let cells = table.iter_mut().filter_map(Iterator::next).collect();
            sink.row(source.at(number), cells)?;
            number += 1;
        }
    }
    Ok(())
}

/// The index of a column of plain texts, whole numbers or truth values.
fn leaf(source: Source, schema: &SchemaDescriptor, column: &str) -> Result<usize, Error> {
    let names = || {
        schema
            .root_schema()
            .get_fields()
            .iter()
            .map(|field| field.name())
    };
    if !names().any(|name| name == column) {
        return Err(source.missing(Place::file(source.path), column, names()));
    }
    let found =
        (0..schema.num_columns()).find(|&leaf| schema.column(leaf).path().parts() == [column]);
    let found = found.filter(|&leaf| schema.column(leaf).max_rep_level() == 0);
    let Some(leaf) = found else {
        return Err(unusable(source, column, "lists or structures".to_owned()));
    };
    let (physical, converted) = (
        schema.column(leaf).physical_type(),
        schema.column(leaf).converted_type(),
    );
    use ConvertedType::{
        ENUM, INT_8, INT_16, INT_32, INT_64, JSON, NONE, UINT_8, UINT_16, UINT_32, UTF8,
    };
    match (physical, converted) {
        (Type::BOOLEAN, _)
        | (Type::BYTE_ARRAY, NONE | UTF8 | ENUM | JSON)
        | (Type::INT32, NONE | INT_8 | INT_16 | INT_32 | UINT_8 | UINT_16)
        | (Type::INT64, NONE | INT_64 | UINT_32) => Ok(leaf),
        (physical, NONE) => Err(unusable(source, column, format!("{physical} values"))),
        (physical, converted) => Err(unusable(
            source,
            column,
            format!("{physical} values of type {converted}"),
        )),
    }
}

fn unusable(source: Source, column: &str, found: String) -> Error {
    Error::WrongType {
        at: Place::file(source.path),
        column: column.to_owned(),
        found,
        wanted: "texts, whole numbers or truth values",
    }
}

fn cells(group: &dyn RowGroupReader, leaf: usize) -> Result<Vec<Cell>, ParquetError> {
    let nullable = group.metadata().column(leaf).column_descr().max_def_level() > 0;
    match group.get_column_reader(leaf)? {
        ColumnReader::BoolColumnReader(reader) => {
            values(reader, nullable, |truth| Cell::Scalar(truth.to_string()))
        }
        ColumnReader::Int32ColumnReader(reader) => {
            values(reader, nullable, |number| Cell::Scalar(number.to_string()))
        }
        ColumnReader::Int64ColumnReader(reader) => {
            values(reader, nullable, |number| Cell::Scalar(number.to_string()))
        }
        ColumnReader::ByteArrayColumnReader(reader) => {
            values(reader, nullable, |bytes| Cell::Bytes(bytes.data().to_vec()))
        }
        _ => Err(ParquetError::General(
            "the row group has another type than the schema".to_owned(),
        )),
    }
}

fn values<T: DataType>(
    mut reader: ColumnReaderImpl<T>,
    nullable: bool,
    cell: impl Fn(T::T) -> Cell,
) -> Result<Vec<Cell>, ParquetError> {
    const AT_ONCE: usize = 4096;
    let mut cells = Vec::new();
    let (mut levels, mut values) = (Vec::new(), Vec::new());
    while reader
        .read_records(AT_ONCE, Some(&mut levels), None, &mut values)?
        .0
        > 0
    {
        let mut present = values.drain(..).map(&cell);
        match nullable {
            // A level of 0 stands for a null, which has no value.
            true => cells.extend(levels.drain(..).map(|level| match level {
                0 => Cell::Null,
                _ => present.next().unwrap_or(Cell::Null),
            })),
            false => cells.extend(present),
        }
    }
    Ok(cells)
}

/// The parquet crate panics at some damaged files; to a caller a damaged file is an error like any other.
fn guarded<T>(read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(fault)) => Err(shorten(&fault.to_string())),
        Err(_) => Err("the file is damaged".to_owned()),
    }
}
