//! A checkpoint in the Hugging Face layout, read by ranges: no tensor is ever held whole.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use safetensors::SafeTensorError;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::Deserialize;

use super::FoldError;

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// The longest header that the format's own reader takes.
const LONGEST_HEADER: u64 = 100_000_000;

/// One `model.safetensors`, or the shards of an index.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    pub folder: PathBuf,
    pub shards: Vec<Shard>,
    /// Which shard has a tensor.
    places: BTreeMap<String, usize>,
    sharded: bool,
}

/// One file.
#[derive(Debug)]
pub(crate) struct Shard {
    pub path: PathBuf,
    /// The file up to the data, byte by byte.
    pub head: Vec<u8>,
    pub header: Metadata,
    file: File,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Checkpoint {
    pub fn open(folder: &Path) -> Result<Self, FoldError> {
        std::fs::read_dir(folder).map_err(FoldError::io("read", folder))?;
        let index = folder.join(INDEX);
        let sharded = !folder.join(SINGLE).exists();
        if sharded && !index.exists() {
            let pickle = |name: &str| folder.join(name).exists();
            return Err(FoldError::NoCheckpoint {
                folder: folder.to_owned(),
                pickle: pickle("pytorch_model.bin") || pickle("pytorch_model.bin.index.json"),
            });
        }
        let map = if sharded {
            read_index(&index)?
        } else {
            BTreeMap::new()
        };
        let files: BTreeSet<&str> = match sharded {
            true => map.values().map(String::as_str).collect(),
            false => BTreeSet::from([SINGLE]),
        };
        let shards = files.iter().map(|file| Shard::open(folder.join(file)));
        let shards: Vec<Shard> = shards.collect::<Result<_, _>>()?;
        let mut places = BTreeMap::new();
        for (at, shard) in shards.iter().enumerate() {
            for tensor in shard.header.offset_keys() {
                if let Some(first) = places.insert(tensor.clone(), at) {
                    return Err(FoldError::Twice {
                        tensor,
                        first: shards[first].path.clone(),
                        second: shard.path.clone(),
                    });
                }
            }
        }
        for (tensor, file) in &map {
            let found = places.get(tensor).map(|&at| shards[at].name());
            if found.as_ref() != Some(file) {
                return Err(FoldError::Index {
                    path: index,
                    reason: format!("it names tensor `{tensor}`, which `{file}` does not have"),
                });
            }
        }
        let folder = folder.to_owned();
        Ok(Self {
            folder,
            shards,
            places,
            sharded,
        })
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    pub fn find(&self, tensor: &str) -> Option<(&Shard, &TensorInfo)> {
        let shard = &self.shards[*self.places.get(tensor)?];
        Some((shard, shard.header.info(tensor)?))
    }

    /// The names of the files that make up the checkpoint, without the index.
    pub fn files(&self) -> impl Iterator<Item = String> {
        self.shards.iter().map(Shard::name)
    }

    /// The name of the index, where there is one in use.
    pub fn index(&self) -> Option<&'static str> {
        self.sharded.then_some(INDEX)
    }
}

fn read_index(path: &Path) -> Result<BTreeMap<String, String>, FoldError> {
    let text = std::fs::read(path).map_err(FoldError::io("read", path))?;
    let index: Index = serde_json::from_slice(&text).map_err(|cause| FoldError::Json {
        path: path.to_owned(),
        cause,
    })?;
    let wrong = |reason| FoldError::Index {
        path: path.to_owned(),
        reason,
    };
    if index.weight_map.is_empty() {
        return Err(wrong("it names no file".to_owned()));
    }
    for file in index.weight_map.values() {
        if Path::new(file)
            .file_name()
            .is_none_or(|name| name != file.as_str())
        {
            return Err(wrong(format!(
                "`{file}` is not the name of a file beside it"
            )));
        }
        if !path.with_file_name(file).exists() {
            return Err(wrong(format!(
                "it names the file `{file}`, which is not there"
            )));
        }
    }
    Ok(index.weight_map)
}

impl Shard {
    fn open(path: PathBuf) -> Result<Self, FoldError> {
        let broken = |cause| FoldError::SafeTensors {
            path: path.clone(),
            cause,
        };
        let io = || FoldError::io("read", &path);
        let mut file = File::open(&path).map_err(io())?;
        let size = file.metadata().map_err(io())?.len();
        if size < 8 {
            return Err(broken(SafeTensorError::HeaderTooSmall));
        }
        let mut head = vec![0; 8];
        file.read_exact(&mut head).map_err(io())?;
        let length = u64::from_le_bytes(*head.first_chunk().expect("eight bytes"));
        if length > LONGEST_HEADER.min(size - 8) {
            return Err(broken(SafeTensorError::InvalidHeaderLength));
        }
        head.resize(8 + length as usize, 0);
        file.read_exact(&mut head[8..]).map_err(io())?;
        let header: Metadata = serde_json::from_slice(&head[8..])
            .map_err(|cause| broken(SafeTensorError::InvalidHeaderDeserialization(cause)))?;
        if (head.len() as u64).checked_add(header.data_len() as u64) != Some(size) {
            return Err(broken(SafeTensorError::MetadataIncompleteBuffer));
        }
        Ok(Self {
            path,
            head,
            header,
            file,
        })
    }

    pub fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// Fills `bytes` from this offset into the data.
    pub fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<(), FoldError> {
        let mut file = &self.file;
        let start = self.head.len() as u64 + offset as u64;
        file.seek(SeekFrom::Start(start))
            .and_then(|_| file.read_exact(bytes))
            .map_err(FoldError::io("read", &self.path))
    }
}
