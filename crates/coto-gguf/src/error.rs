use std::ops::Range;

use crate::{GgmlType, ValueType};

/// Everything that can be wrong with a GGUF file or with what is asked of it, one variant per cause.
///
/// Every message is complete in itself: a cause is part of the text, not a [`source`](std::error::Error::source).
/// Offsets and sizes are in bytes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another error, and the file, key or tensor it was met in.
    #[error("{place}: {cause}")]
    In {
        /// The file's path, the metadata key or the tensor's name.
        place: String,
        /// What is wrong there.
        cause: Box<Error>,
    },
    /// The operating system refused.
    #[error("cannot {action}: {cause}")]
    Io {
        /// What was tried: "open", "read", …
        action: &'static str,
        /// The system's answer.
        cause: std::io::Error,
    },
    /// The file does not begin as a GGUF file does.
    #[error("not a GGUF file: it begins with \"{found}\", not with \"GGUF\"")]
    Magic {
        /// The first four bytes, escaped.
        found: String,
    },
    /// The file is of a version with another layout.
    #[error("GGUF version {found} is not supported: 2 and 3 are")]
    Version {
        /// The version.
        found: u32,
    },
    /// The file was written for a big-endian machine.
    #[error(
        "a big-endian GGUF file (version {version}) is not supported: write it again as little-endian"
    )]
    BigEndian {
        /// The version.
        version: u32,
    },
    /// The file ends before something it announces.
    #[error(
        "cut short: {what} at byte {offset} needs {needed} bytes, but the file has {left} more"
    )]
    Truncated {
        /// What was to be read.
        what: &'static str,
        /// Where it begins.
        offset: u64,
        /// Its size.
        needed: u64,
        /// What the file has from there on.
        left: u64,
    },
    /// The file announces more things than it can hold.
    #[error(
        "{count} {what} cannot be: at {least} bytes or more each they do not fit in the {left} bytes that are left"
    )]
    TooMany {
        /// What is counted.
        what: &'static str,
        /// How many there should be.
        count: u64,
        /// The least size of one.
        least: u64,
        /// What the file has left.
        left: u64,
    },
    /// A key or a tensor name is longer than any real one.
    #[error("{what} at byte {offset} is {length} bytes long, but at most {limit} are allowed")]
    NameTooLong {
        /// "a metadata key" or "a tensor name".
        what: &'static str,
        /// Where it begins.
        offset: u64,
        /// Its length.
        length: u64,
        /// The longest allowed.
        limit: u64,
    },
    /// A string is not UTF-8.
    #[error("{what} is not UTF-8: byte {offset} of the file is the first wrong one")]
    NotUtf8 {
        /// What the string is.
        what: &'static str,
        /// The first byte that does not belong.
        offset: u64,
    },
    /// A key or a tensor name is there twice.
    #[error("{what} `{name}` is there twice")]
    Duplicate {
        /// "metadata key" or "tensor".
        what: &'static str,
        /// The name.
        name: String,
    },
    /// The type of a metadata value is not one of the thirteen.
    #[error("value type {id} is unknown: 0 to 12 are known")]
    UnknownValueType {
        /// Its number in the file.
        id: u32,
    },
    /// A boolean is neither 0 nor 1.
    #[error("a bool is {byte}, but must be 0 or 1")]
    Bool {
        /// The byte.
        byte: u8,
    },
    /// Arrays lie too deep in arrays.
    #[error("arrays are nested more than {limit} deep")]
    Nesting {
        /// The deepest allowed.
        limit: usize,
    },
    /// `general.alignment` cannot be an alignment.
    #[error("general.alignment is {found}, but must be a u32 power of two of at least 8")]
    Alignment {
        /// Its type and value.
        found: String,
    },
    /// A tensor has too many axes.
    #[error("{count} dims, but at most 4 are allowed")]
    Dims {
        /// How many axes.
        count: u32,
    },
    /// A tensor has more elements than can be counted.
    #[error("dims {dims:?} (innermost first) multiply to more than 2^63 bytes")]
    Overflow {
        /// The sizes as in the file, innermost first.
        dims: Vec<u64>,
    },
    /// A tensor is of a type that is not implemented.
    #[error("tensor type {id} ({}) is not supported: {} are", name.unwrap_or("unknown"), GgmlType::listed())]
    UnsupportedType {
        /// Its number in the file.
        id: u32,
        /// Its name in ggml.
        name: Option<&'static str>,
    },
    /// A row of a quantised tensor is not a whole number of blocks.
    #[error("rows of {columns} elements cannot be {dtype}, whose blocks have {}", dtype.block_elements())]
    Block {
        /// The type.
        dtype: GgmlType,
        /// The length of a row, in elements.
        columns: u64,
    },
    /// A tensor does not begin at a multiple of the alignment.
    #[error("offset {offset} is not a multiple of the alignment {alignment}")]
    Unaligned {
        /// From the start of the tensor data.
        offset: u64,
        /// `general.alignment`, or 32.
        alignment: u64,
    },
    /// A tensor ends, or even begins, beyond the end of the file.
    #[error(
        "cut short: offset {offset} and size {bytes} reach beyond the {available} bytes of tensor data"
    )]
    OutOfFile {
        /// From the start of the tensor data.
        offset: u64,
        /// The tensor's size.
        bytes: u64,
        /// The size of all tensor data.
        available: u64,
    },
    /// Two tensors share bytes.
    #[error("tensors `{first}` and `{second}` overlap")]
    Overlap {
        /// The one that begins first.
        first: String,
        /// The one that begins within it.
        second: String,
    },
    /// The file has no such metadata key.
    #[error("metadata key `{key}` is missing{}", hint(nearest))]
    MissingKey {
        /// The key.
        key: String,
        /// The nearest keys there are.
        nearest: Vec<String>,
    },
    /// A metadata value is of another type than was asked for.
    #[error("metadata key `{key}` is {found}, not {expected}")]
    WrongType {
        /// The key.
        key: String,
        /// Its type.
        found: ValueType,
        /// What was asked for.
        expected: &'static str,
    },
    /// A metadata value is an array of another type than was asked for.
    #[error("metadata key `{key}` is an array of {found}, not {expected}")]
    WrongElements {
        /// The key.
        key: String,
        /// The type of its elements.
        found: ValueType,
        /// What was asked for.
        expected: &'static str,
    },
    /// A whole number in the metadata does not fit.
    #[error("metadata key `{key}` holds {value}, which is not {expected}")]
    Range {
        /// The key.
        key: String,
        /// The number.
        value: i128,
        /// What was asked for.
        expected: &'static str,
    },
    /// The file has no such tensor.
    #[error("tensor `{name}` is missing{}", hint(nearest))]
    MissingTensor {
        /// The name.
        name: String,
        /// The nearest names there are.
        nearest: Vec<String>,
    },
    /// The bytes are not as many as type and element count say.
    #[error("{elements} elements of {dtype} cannot have {bytes} bytes")]
    Length {
        /// The type.
        dtype: GgmlType,
        /// How many elements there should be.
        elements: usize,
        /// How many bytes there are.
        bytes: usize,
    },
    /// Rows are asked for that the tensor does not have.
    #[error("rows {rows:?} are asked for, but there are {available}")]
    Rows {
        /// The rows asked for.
        rows: Range<usize>,
        /// How many there are.
        available: usize,
    },
}

impl Error {
    pub(crate) fn at(self, place: impl std::fmt::Display) -> Self {
        Self::In {
            place: place.to_string(),
            cause: Box::new(self),
        }
    }

    pub(crate) fn io(action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |cause| Self::Io { action, cause }
    }
}

fn hint(nearest: &[String]) -> String {
    match nearest {
        [] => String::new(),
        names => format!(
            " (nearest: {})",
            names
                .iter()
                .map(|n| format!("`{n}`"))
                .collect::<Vec<_>>()
                .join(", ")
        ),
    }
}
