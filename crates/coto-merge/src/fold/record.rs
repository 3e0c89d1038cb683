use std::path::Path;

use coto_peft::Folder;
use serde::{Deserialize, Serialize};

use super::plan::variant;
use super::{Adapter, FoldError};

/// The file in a folded checkpoint that says what is in it.
pub(crate) const RECORD: &str = "coto_fold.json";

/// The adapters that are folded into a checkpoint, in order.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    folded: Vec<Entry>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Entry {
    fingerprint: String,
    weight: f64,
    variant: String,
}

impl Record {
    /// The record of a checkpoint, where it has one.
    pub fn read(folder: &Path) -> Result<Option<Self>, FoldError> {
        let path = folder.join(RECORD);
        if !path.exists() {
            return Ok(None);
        }
        let text = std::fs::read(&path).map_err(FoldError::io("read", &path))?;
        serde_json::from_slice(&text).map_err(|cause| FoldError::Json { path, cause })
    }

    /// With adapters that are folded in now.
    pub fn with(mut self, folder: &Path, adapters: &[Adapter]) -> Result<Self, FoldError> {
        for &(adapter, weight) in adapters {
            let fingerprint = fingerprint(adapter)?;
            if self
                .folded
                .iter()
                .any(|entry| entry.fingerprint == fingerprint)
            {
                return Err(FoldError::Already {
                    folder: folder.to_owned(),
                    fingerprint,
                });
            }
            self.folded.push(Entry {
                fingerprint,
                weight,
                variant: variant(&adapter.config).to_owned(),
            });
        }
        Ok(self)
    }

    /// Without adapters that are taken out.
    pub fn without(mut self, folder: &Path, adapters: &[Adapter]) -> Result<Self, FoldError> {
        for &(adapter, weight) in adapters {
            let fingerprint = fingerprint(adapter)?;
            let same = |entry: &Entry| entry.fingerprint == fingerprint && entry.weight == weight;
            let Some(at) = self.folded.iter().position(same) else {
                return Err(FoldError::NotFolded {
                    folder: folder.to_owned(),
                    fingerprint,
                    weight,
                });
            };
            self.folded.remove(at);
        }
        Ok(self)
    }

    pub fn is_empty(&self) -> bool {
        self.folded.is_empty()
    }

    pub fn to_text(&self) -> String {
        let json = serde_json::to_string_pretty(self).unwrap_or_default();
        json + "\n"
    }
}

/// FNV-1a, 64 bits, of an adapter's modules, scales and tensors: the same for any two folders with the same update.
fn fingerprint(adapter: &Folder) -> Result<String, FoldError> {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut eat = |bytes: &[u8]| {
        for &byte in bytes {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    for (path, tensors) in adapter.modules()? {
        eat(path.as_bytes());
        eat(&adapter.config.scaling(&path)?.to_le_bytes());
        for (param, tensor) in tensors {
            eat(param.name().as_bytes());
            eat(&tensor.data);
        }
    }
    Ok(format!("{hash:016x}"))
}
