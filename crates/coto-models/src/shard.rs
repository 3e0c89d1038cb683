//! Safetensors files, one or several, read tensor by tensor.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use safetensors::SafeTensorError;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::Deserialize;

use crate::Error;
use crate::config::json;

#[derive(Debug)]
pub(crate) struct Shard {
    pub path: PathBuf,
    file: File,
    pub header: Metadata,
    /// Where the data begin.
    start: u64,
}

/// `model.safetensors.index.json`.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Shard {
    pub fn open(path: PathBuf) -> Result<Self, Error> {
        let broken = |source| Error::SafeTensors {
            path: path.clone(),
            source,
        };
        let mut file = File::open(&path).map_err(Error::io(&path))?;
        let size = file.metadata().map_err(Error::io(&path))?.len();
        let mut length = [0; 8];
        if size < 8 {
            return Err(broken(SafeTensorError::HeaderTooSmall));
        }
        file.read_exact(&mut length).map_err(Error::io(&path))?;
        let start = u64::from_le_bytes(length).checked_add(8);
        let start = start
            .filter(|&start| start <= size)
            .ok_or_else(|| broken(SafeTensorError::InvalidHeaderLength))?;
        let mut header = vec![0; (start - 8) as usize];
        file.read_exact(&mut header).map_err(Error::io(&path))?;
        let header: Metadata = serde_json::from_slice(&header)
            .map_err(|source| broken(SafeTensorError::InvalidHeaderDeserialization(source)))?;
        if start.checked_add(header.data_len() as u64) != Some(size) {
            return Err(broken(SafeTensorError::MetadataIncompleteBuffer));
        }
        Ok(Self {
            path,
            file,
            header,
            start,
        })
    }

    pub fn read(&self, info: &TensorInfo) -> Result<Vec<u8>, Error> {
        let (from, to) = info.data_offsets;
        let mut bytes = vec![0; to - from];
        let mut file = &self.file;
        file.seek(SeekFrom::Start(self.start + from as u64))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(Error::io(&self.path))?;
        Ok(bytes)
    }
}

/// The files of an index, each once.
pub(crate) fn shards(index: &Path) -> Result<Vec<PathBuf>, Error> {
    let names: BTreeSet<String> = json::<Index>(index)?.weight_map.into_values().collect();
    let plain = |name: &String| {
        Path::new(name)
            .file_name()
            .is_some_and(|file| file == name.as_str())
    };
    if let Some(name) = names.iter().find(|name| !plain(name)) {
        return Err(Error::Inconsistent {
            path: index.into(),
            reason: format!("`{name}` is not the name of a file beside it"),
        });
    }
    if names.is_empty() {
        return Err(Error::Inconsistent {
            path: index.into(),
            reason: "it names no file".to_owned(),
        });
    }
    Ok(names
        .iter()
        .map(|name| index.with_file_name(name))
        .collect())
}
