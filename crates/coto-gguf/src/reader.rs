use std::io::Read;

use crate::{Array, Error, Value, ValueType};

/// The longest key of the specification; no tensor name comes near it either.
const MAX_NAME: u64 = 65_535;
/// How deep arrays may lie in arrays: real files hold plain arrays.
const MAX_NESTING: usize = 4;

/// Reads on through a file whose size is known, and never asks for more than is left of it.
pub(crate) struct Reader<R> {
    source: R,
    size: u64,
    position: u64,
}

impl<R: Read> Reader<R> {
    pub(crate) fn new(source: R, size: u64) -> Self {
        Self {
            source,
            size,
            position: 0,
        }
    }

    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    pub(crate) fn into_inner(self) -> R {
        self.source
    }

    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32, Error> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64, Error> {
        self.array(what).map(u64::from_le_bytes)
    }

    pub(crate) fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Error> {
        let mut bytes = [0; N];
        self.check(what, N as u64)?;
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// A count of things that take at least so many bytes each.
    pub(crate) fn count(&mut self, what: &'static str, least: u64) -> Result<usize, Error> {
        let count = self.u64("a count")?;
        let left = self.size - self.position;
        count
            .checked_mul(least)
            .filter(|&bytes| bytes <= left)
            .and_then(|_| usize::try_from(count).ok())
            .ok_or(Error::TooMany {
                what,
                count,
                least,
                left,
            })
    }

    /// A metadata key or tensor name.
    pub(crate) fn name(&mut self, what: &'static str) -> Result<String, Error> {
        let offset = self.position;
        let length = self.u64(what)?;
        if length > MAX_NAME {
            return Err(Error::NameTooLong {
                what,
                offset,
                length,
                limit: MAX_NAME,
            });
        }
        self.text(what, length)
    }

    /// A metadata value, with its type before it.
    pub(crate) fn value(&mut self) -> Result<Value, Error> {
        Ok(match self.value_type()? {
            ValueType::U8 => Value::U8(self.number(u8::from_le_bytes)?),
            ValueType::I8 => Value::I8(self.number(i8::from_le_bytes)?),
            ValueType::U16 => Value::U16(self.number(u16::from_le_bytes)?),
            ValueType::I16 => Value::I16(self.number(i16::from_le_bytes)?),
            ValueType::U32 => Value::U32(self.number(u32::from_le_bytes)?),
            ValueType::I32 => Value::I32(self.number(i32::from_le_bytes)?),
            ValueType::F32 => Value::F32(self.number(f32::from_le_bytes)?),
            ValueType::U64 => Value::U64(self.number(u64::from_le_bytes)?),
            ValueType::I64 => Value::I64(self.number(i64::from_le_bytes)?),
            ValueType::F64 => Value::F64(self.number(f64::from_le_bytes)?),
            ValueType::Bool => Value::Bool(truth(self.number(u8::from_le_bytes)?)?),
            ValueType::String => Value::String(self.string()?),
            ValueType::Array => Value::Array(self.elements(1)?),
        })
    }

    fn elements(&mut self, depth: usize) -> Result<Array, Error> {
        if depth > MAX_NESTING {
            return Err(Error::Nesting { limit: MAX_NESTING });
        }
        let kind = self.value_type()?;
        let n = self.count("array elements", kind.least_bytes())?;
        Ok(match kind {
            ValueType::U8 => Array::U8(self.numbers(n, u8::from_le_bytes)?),
            ValueType::I8 => Array::I8(self.numbers(n, i8::from_le_bytes)?),
            ValueType::U16 => Array::U16(self.numbers(n, u16::from_le_bytes)?),
            ValueType::I16 => Array::I16(self.numbers(n, i16::from_le_bytes)?),
            ValueType::U32 => Array::U32(self.numbers(n, u32::from_le_bytes)?),
            ValueType::I32 => Array::I32(self.numbers(n, i32::from_le_bytes)?),
            ValueType::F32 => Array::F32(self.numbers(n, f32::from_le_bytes)?),
            ValueType::U64 => Array::U64(self.numbers(n, u64::from_le_bytes)?),
            ValueType::I64 => Array::I64(self.numbers(n, i64::from_le_bytes)?),
            ValueType::F64 => Array::F64(self.numbers(n, f64::from_le_bytes)?),
            ValueType::Bool => Array::Bool(
                self.numbers(n, u8::from_le_bytes)?
                    .into_iter()
                    .map(truth)
                    .collect::<Result<_, _>>()?,
            ),
            ValueType::String => {
                Array::String((0..n).map(|_| self.string()).collect::<Result<_, _>>()?)
            }
            ValueType::Array => Array::Array(
                (0..n)
                    .map(|_| self.elements(depth + 1))
                    .collect::<Result<_, _>>()?,
            ),
        })
    }

    fn value_type(&mut self) -> Result<ValueType, Error> {
        let id = self.u32("a value type")?;
        ValueType::from_id(id).ok_or(Error::UnknownValueType { id })
    }

    fn number<T, const N: usize>(&mut self, convert: fn([u8; N]) -> T) -> Result<T, Error> {
        self.array("a value").map(convert)
    }

    fn numbers<T, const N: usize>(
        &mut self,
        count: usize,
        convert: fn([u8; N]) -> T,
    ) -> Result<Vec<T>, Error> {
        let mut bytes = vec![0; count * N];
        self.fill(&mut bytes)?;
        Ok(bytes.as_chunks().0.iter().map(|&b| convert(b)).collect())
    }

    fn string(&mut self) -> Result<String, Error> {
        let length = self.u64("the length of a string")?;
        self.text("a string", length)
    }

    fn text(&mut self, what: &'static str, length: u64) -> Result<String, Error> {
        self.check(what, length)?;
        let start = self.position;
        let mut bytes = vec![0; length as usize];
        self.fill(&mut bytes)?;
        String::from_utf8(bytes).map_err(|error| Error::NotUtf8 {
            what,
            offset: start + error.utf8_error().valid_up_to() as u64,
        })
    }

    fn check(&self, what: &'static str, needed: u64) -> Result<(), Error> {
        let left = self.size - self.position;
        if needed > left || usize::try_from(needed).is_err() {
            return Err(Error::Truncated {
                what,
                offset: self.position,
                needed,
                left,
            });
        }
        Ok(())
    }

    /// The caller has checked that so many bytes are left.
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        self.source.read_exact(bytes).map_err(Error::io("read"))?;
        self.position += bytes.len() as u64;
        Ok(())
    }
}

fn truth(byte: u8) -> Result<bool, Error> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        byte => Err(Error::Bool { byte }),
    }
}
