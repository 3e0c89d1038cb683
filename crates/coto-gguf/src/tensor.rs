use std::io::Read;
use std::ops::Range;

use crate::dequant::{check_rows, row_bytes};
use crate::reader::Reader;
use crate::{Error, GgmlType, Gguf, Groups, dequantise, groups, types};

/// What a file says of a tensor.
#[derive(Debug, Clone)]
pub(crate) struct Info {
    pub(crate) name: String,
    pub(crate) dtype: GgmlType,
    pub(crate) shape: Vec<usize>,
    /// From the start of the tensor data.
    pub(crate) offset: u64,
    pub(crate) bytes: usize,
}

impl Info {
    /// The least size of an entry in a file, in bytes: no name, no dims.
    pub(crate) const LEAST_BYTES: u64 = 8 + 4 + 4 + 8;

    pub(crate) fn read(reader: &mut Reader<impl Read>) -> Result<Self, Error> {
        let name = reader.name("a tensor name")?;
        let read = |reader: &mut Reader<_>| {
            let count = reader.u32("the number of dims")?;
            if count > 4 {
                return Err(Error::Dims { count });
            }
            let dims = (0..count)
                .map(|_| reader.u64("a dim"))
                .collect::<Result<Vec<_>, _>>()?;
            let id = reader.u32("the type")?;
            let dtype = GgmlType::from_id(id).ok_or(Error::UnsupportedType {
                id,
                name: types::name(id),
            })?;
            let columns = dims.first().copied().unwrap_or(1);
            if !columns.is_multiple_of(dtype.block_elements() as u64) {
                return Err(Error::Block { dtype, columns });
            }
            let (shape, bytes) = sizes(dtype, &dims).ok_or(Error::Overflow { dims })?;
            let offset = reader.u64("the offset")?;
            Ok((dtype, shape, offset, bytes))
        };
        match read(reader) {
            Ok((dtype, shape, offset, bytes)) => Ok(Self {
                name,
                dtype,
                shape,
                offset,
                bytes,
            }),
            Err(error) => Err(error.at(format_args!("tensor `{name}`"))),
        }
    }
}

/// Shape, outermost first, and size in bytes; nothing when a vector of as many f32 values could not be. A dim of 0
/// makes the tensor empty, but hides no overflow of the others.
fn sizes(dtype: GgmlType, dims: &[u64]) -> Option<(Vec<usize>, usize)> {
    let mut shape = Vec::new();
    let mut product = 1_usize;
    for &dim in dims.iter().rev() {
        let dim = usize::try_from(dim).ok()?;
        product = product.checked_mul(dim.max(1))?;
        shape.push(dim);
    }
    product
        .checked_mul(size_of::<f32>())
        .filter(|&bytes| bytes <= isize::MAX as usize)?;
    let elements = shape.iter().product();
    Some((shape, dtype.bytes(elements)?))
}

/// A tensor of an open file: what the file says of it, and the way to its elements, which are not in memory.
#[derive(Debug, Clone, Copy)]
pub struct Tensor<'a> {
    pub(crate) gguf: &'a Gguf,
    pub(crate) info: &'a Info,
}

impl<'a> Tensor<'a> {
    /// Its name, such as `blk.0.attn_q.weight`.
    pub fn name(&self) -> &'a str {
        &self.info.name
    }

    /// How its elements are stored.
    pub fn dtype(&self) -> GgmlType {
        self.info.dtype
    }

    /// Sizes, outermost first as in PyTorch: `[out, in]` for the weight of a linear layer. The file has them reversed.
    pub fn shape(&self) -> &'a [usize] {
        &self.info.shape
    }

    /// How many elements it has.
    pub fn elements(&self) -> usize {
        self.info.shape.iter().product()
    }

    /// Its size in the file, in bytes.
    pub fn bytes(&self) -> usize {
        self.info.bytes
    }

    /// Its bytes as they are in the file: row-major, each row a whole number of blocks.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn read_bytes(&self) -> Result<Vec<u8>, Error> {
        self.read(0..self.info.bytes)
    }

    /// Its values, row-major: see [`dequantise`](crate::dequantise()).
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn dequantise(&self) -> Result<Vec<f32>, Error> {
        self.values(0..self.info.bytes, self.elements())
    }

    /// Its codes with their scales and offsets; nothing when it is not quantised: see [`groups`](crate::groups()).
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn groups(&self) -> Result<Option<Groups>, Error> {
        groups(self.info.dtype, &self.read_bytes()?, self.elements())
            .map_err(|error| self.here(error))
    }

    /// The values of some rows, row-major, and only these are read. A row runs along the innermost axis (`in`); the
    /// axes before it count as one.
    ///
    /// # Errors
    /// [`Error::Rows`] when the tensor does not have them, [`Error::Io`].
    pub fn dequantise_row_range(&self, rows: Range<usize>) -> Result<Vec<f32>, Error> {
        let (columns, outer) = match self.shape().split_last() {
            Some((&columns, outer)) => (columns, outer.iter().product()),
            None => (1, 1),
        };
        let size = check_rows(&rows, outer)
            .and_then(|()| row_bytes(self.info.dtype, columns))
            .map_err(|error| self.here(error))?;
        self.values(rows.start * size..rows.end * size, rows.len() * columns)
    }

    fn values(&self, range: Range<usize>, elements: usize) -> Result<Vec<f32>, Error> {
        dequantise(self.info.dtype, &self.read(range)?, elements).map_err(|error| self.here(error))
    }

    fn read(&self, range: Range<usize>) -> Result<Vec<u8>, Error> {
        self.gguf
            .read_data(self.info.offset + range.start as u64, range.len())
            .map_err(|error| self.here(error))
    }

    fn here(&self, error: Error) -> Error {
        error
            .at(format_args!("tensor `{}`", self.info.name))
            .at(format_args!("`{}`", self.gguf.path().display()))
    }
}
