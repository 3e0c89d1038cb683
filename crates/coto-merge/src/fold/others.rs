//! The files of a checkpoint's folder besides its weights.

use std::fs;
use std::path::{Path, PathBuf};

use super::FoldError;
use super::checkpoint::Checkpoint;
use super::record::RECORD;

/// Endings of files with weights, which would not be those of the fold, and of pickles, which run code.
const WEIGHTS: [&str; 16] = [
    "bin",
    "ckpt",
    "data",
    "gguf",
    "h5",
    "msgpack",
    "mlmodel",
    "npz",
    "onnx",
    "onnx_data",
    "ot",
    "pickle",
    "pkl",
    "pt",
    "pth",
    "tflite",
];

/// The files, by their paths in the folder.
#[derive(Debug, Default)]
pub(crate) struct Others {
    pub copied: Vec<PathBuf>,
    pub left_out: Vec<PathBuf>,
}

impl Others {
    pub fn of(checkpoint: &Checkpoint) -> Result<Self, FoldError> {
        let mut found = Self::default();
        found.walk(checkpoint, Path::new(""))?;
        found.copied.sort();
        found.left_out.sort();
        Ok(found)
    }

    fn walk(&mut self, checkpoint: &Checkpoint, below: &Path) -> Result<(), FoldError> {
        let dir = checkpoint.folder.join(below);
        for entry in fs::read_dir(&dir).map_err(FoldError::io("read", &dir))? {
            let entry = entry.map_err(FoldError::io("read", &dir))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = below.join(entry.file_name());
            let kind = entry.file_type().map_err(FoldError::io("read", &dir))?;
            if name.starts_with('.') {
                self.left_out.push(path);
            } else if kind.is_dir() {
                self.walk(checkpoint, &path)?;
            } else if !entry.path().is_file() {
                self.left_out.push(path); // a link to a folder, a socket
            } else if below.as_os_str().is_empty() && written(checkpoint, &name) {
            } else if is_copied(checkpoint, below, &name) {
                self.copied.push(path);
            } else {
                self.left_out.push(path);
            }
        }
        Ok(())
    }
}

/// Whether the fold writes a file of this name itself.
fn written(checkpoint: &Checkpoint, name: &str) -> bool {
    name == RECORD || checkpoint.files().any(|file| file == name)
}

fn is_copied(checkpoint: &Checkpoint, below: &Path, name: &str) -> bool {
    // An index is nothing without the files that it names.
    let bare = name.strip_suffix(".index.json").unwrap_or(name);
    let ending = bare.rsplit_once('.').map_or("", |(_, ending)| ending);
    if WEIGHTS.contains(&ending) {
        return false;
    }
    // Below the top there may be further modules of the model, with their own weights.
    let top = below.as_os_str().is_empty();
    let stray = ending == "safetensors" && checkpoint.index() != Some(name);
    !top || !(stray || name == "adapter_config.json")
}
