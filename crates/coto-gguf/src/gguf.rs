use std::collections::{BTreeMap, HashMap, hash_map};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::nearest::nearest;
use crate::reader::Reader;
use crate::tensor::Info;
use crate::{Error, Metadata, Tensor, Value};

const ALIGNMENT: &str = "general.alignment";
const DEFAULT_ALIGNMENT: u64 = 32;
/// The least size of a metadata entry in a file, in bytes: no key, a value of one byte.
const LEAST_ENTRY: u64 = 8 + 4 + 1;

/// An open GGUF file: its metadata and its tensors' shapes are in memory, its weights are not.
#[derive(Debug)]
pub struct Gguf {
    version: u32,
    metadata: Metadata,
    tensors: Vec<Info>,
    by_name: HashMap<String, usize>,
    data_start: u64,
    file: Mutex<File>,
}

impl Gguf {
    /// Opens a file and reads all but the tensor data. The padding after the last tensor may be missing.
    ///
    /// # Errors
    /// Every message begins with the path. [`Error::Io`]; [`Error::Magic`], [`Error::Version`] and
    /// [`Error::BigEndian`] when it is no GGUF file that is read here; [`Error::Truncated`], [`Error::TooMany`] and
    /// [`Error::OutOfFile`] when it is shorter than it says; [`Error::UnsupportedType`] when a tensor is of a type that
    /// is not in [`GgmlType`](crate::GgmlType); else one of those from [`Error::NameTooLong`] to [`Error::Overlap`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        Self::read(path).map_err(|error| error.at(format_args!("`{}`", path.display())))
    }

    fn read(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(Error::io("open"))?;
        let size = file.metadata().map_err(Error::io("open"))?.len();
        let mut reader = Reader::new(BufReader::new(file), size);

        let version = read_version(&mut reader)?;
        let tensor_count = reader.count("tensors", Info::LEAST_BYTES)?;
        let entry_count = reader.count("metadata entries", LEAST_ENTRY)?;
        let entries = read_entries(&mut reader, entry_count)?;
        let alignment = alignment(&entries)?;

        let mut tensors = Vec::new();
        let mut by_name = HashMap::new();
        for index in 0..tensor_count {
            let info = Info::read(&mut reader)?;
            match by_name.entry(info.name.clone()) {
                hash_map::Entry::Vacant(free) => free.insert(index),
                hash_map::Entry::Occupied(taken) => {
                    return Err(Error::Duplicate {
                        what: "tensor",
                        name: taken.key().clone(),
                    });
                }
            };
            tensors.push(info);
        }
        let data_start = reader.position().next_multiple_of(alignment);
        check_places(&tensors, alignment, size.saturating_sub(data_start))?;
        Ok(Self {
            version,
            metadata: Metadata {
                path: path.to_owned(),
                entries,
            },
            tensors,
            by_name,
            data_start,
            file: Mutex::new(reader.into_inner().into_inner()),
        })
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.metadata.path
    }

    /// The version of the format: 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The metadata.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Every tensor, in the order of the file.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = Tensor<'_>> {
        self.tensors.iter().map(|info| Tensor { gguf: self, info })
    }

    /// The tensor of this name.
    ///
    /// # Errors
    /// [`Error::MissingTensor`].
    pub fn tensor(&self, name: &str) -> Result<Tensor<'_>, Error> {
        match self.by_name.get(name) {
            Some(&index) => Ok(Tensor {
                gguf: self,
                info: &self.tensors[index],
            }),
            None => Err(Error::MissingTensor {
                name: name.to_owned(),
                nearest: nearest(name, self.tensors.iter().map(|info| info.name.as_str())),
            }
            .at(format_args!("`{}`", self.path().display()))),
        }
    }

    /// Bytes of the tensor data; the caller has checked that the file had them when it was opened.
    pub(crate) fn read_data(&self, offset: u64, length: usize) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; length];
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(self.data_start + offset))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(Error::io("read"))?;
        Ok(bytes)
    }
}

fn read_version(reader: &mut Reader<impl Read>) -> Result<u32, Error> {
    let magic = reader.array::<4>("the magic")?;
    if &magic != b"GGUF" {
        return Err(Error::Magic {
            found: magic.escape_ascii().to_string(),
        });
    }
    match reader.u32("the version")? {
        version @ 2..=3 => Ok(version),
        swapped if matches!(swapped.swap_bytes(), 1..=3) => Err(Error::BigEndian {
            version: swapped.swap_bytes(),
        }),
        found => Err(Error::Version { found }),
    }
}

fn read_entries(
    reader: &mut Reader<impl Read>,
    count: usize,
) -> Result<BTreeMap<String, Value>, Error> {
    let mut entries = BTreeMap::new();
    for _ in 0..count {
        let key = reader.name("a metadata key")?;
        if entries.contains_key(&key) {
            return Err(Error::Duplicate {
                what: "metadata key",
                name: key,
            });
        }
        let value = reader
            .value()
            .map_err(|error| error.at(format_args!("metadata key `{key}`")))?;
        entries.insert(key, value);
    }
    Ok(entries)
}

/// The specification asks for a multiple of 8, ggml for a power of two.
fn alignment(entries: &BTreeMap<String, Value>) -> Result<u64, Error> {
    match entries.get(ALIGNMENT) {
        None => Ok(DEFAULT_ALIGNMENT),
        Some(&Value::U32(n)) if n >= 8 && n.is_power_of_two() => Ok(n.into()),
        Some(Value::U32(n)) => Err(Error::Alignment {
            found: n.to_string(),
        }),
        Some(value) => Err(Error::Alignment {
            found: format!("of type {}", value.value_type()),
        }),
    }
}

/// Each tensor must be aligned, within the file, and apart from every other.
fn check_places(tensors: &[Info], alignment: u64, available: u64) -> Result<(), Error> {
    for tensor in tensors {
        let (offset, bytes) = (tensor.offset, tensor.bytes as u64);
        let wrong = if !offset.is_multiple_of(alignment) {
            Error::Unaligned { offset, alignment }
        } else if offset.checked_add(bytes).is_none_or(|end| end > available) {
            Error::OutOfFile {
                offset,
                bytes,
                available,
            }
        } else {
            continue;
        };
        return Err(wrong.at(format_args!("tensor `{}`", tensor.name)));
    }
    let mut order: Vec<&Info> = tensors.iter().filter(|tensor| tensor.bytes > 0).collect();
    order.sort_by_key(|tensor| tensor.offset);
    match order
        .windows(2)
        .find(|pair| pair[0].offset + pair[0].bytes as u64 > pair[1].offset)
    {
        Some(pair) => Err(Error::Overlap {
            first: pair[0].name.clone(),
            second: pair[1].name.clone(),
        }),
        None => Ok(()),
    }
}
