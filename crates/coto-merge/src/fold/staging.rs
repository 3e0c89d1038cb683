use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::FoldError;

/// A folder that is written beside its place and moved there whole, or vanishes.
#[derive(Debug)]
pub(crate) struct Staging {
    hidden: TempDir,
    place: PathBuf,
}

impl Staging {
    /// Begins the folder that is to be at `place`, where nothing or an empty folder is.
    pub fn beside(place: &Path) -> Result<Self, FoldError> {
        // Of a link, the folder it points to is filled.
        let place = match place.exists() {
            true => fs::canonicalize(place),
            false => std::path::absolute(place),
        }
        .map_err(FoldError::io("find", place))?;
        check_empty(&place)?;
        let parent = place.parent().unwrap_or(&place).to_owned();
        fs::create_dir_all(&parent).map_err(FoldError::io("create", &parent))?;
        let name = place.file_name().unwrap_or_default().to_string_lossy();
        let hidden = tempfile::Builder::new()
            .prefix(&format!(".{name}."))
            .tempdir_in(&parent)
            .map_err(FoldError::io("write into", &parent))?;
        let fresh = hidden.path().join("new");
        fs::create_dir(&fresh).map_err(FoldError::io("create", &fresh))?;
        Ok(Self { hidden, place })
    }

    /// The path of a file in the folder; the folders above it are made.
    fn path(&self, name: &Path) -> Result<PathBuf, FoldError> {
        let path = self.fresh().join(name);
        let above = path.parent().unwrap_or(&path);
        fs::create_dir_all(above).map_err(FoldError::io("create", above))?;
        Ok(path)
    }

    fn fresh(&self) -> PathBuf {
        self.hidden.path().join("new")
    }

    /// A new file, which [`Output::finish`] flushes to the disk.
    pub fn create(&self, name: &str) -> Result<Output, FoldError> {
        let path = self.path(Path::new(name))?;
        let file = File::create_new(&path).map_err(FoldError::io("create", &path))?;
        Ok(Output { file, path })
    }

    /// A copy of a file, under its name below the folder.
    pub fn copy(&self, from: &Path, name: &Path) -> Result<u64, FoldError> {
        let path = self.path(name)?;
        let mut source = File::open(from).map_err(FoldError::io("read", from))?;
        let mut file = File::create_new(&path).map_err(FoldError::io("create", &path))?;
        let bytes = io::copy(&mut source, &mut file).map_err(FoldError::io("write", &path))?;
        file.sync_all().map_err(FoldError::io("write", &path))?;
        Ok(bytes)
    }

    /// Moves the folder to its place.
    pub fn commit(self) -> Result<(), FoldError> {
        let fresh = self.fresh();
        sync_all(&fresh)?;
        check_empty(&self.place)?;
        if self.place.exists() {
            fs::remove_dir(&self.place).map_err(FoldError::io("replace", &self.place))?;
        }
        fs::rename(&fresh, &self.place).map_err(FoldError::io("create", &self.place))?;
        sync(self.place.parent().unwrap_or(&self.place))
    }
}

/// A file that is being written.
#[derive(Debug)]
pub(crate) struct Output {
    file: File,
    path: PathBuf,
}

impl Output {
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), FoldError> {
        let written = self.file.write_all(bytes);
        written.map_err(FoldError::io("write", &self.path))
    }

    pub fn finish(self) -> Result<(), FoldError> {
        let synced = self.file.sync_all();
        synced.map_err(FoldError::io("write", &self.path))
    }
}

fn check_empty(place: &Path) -> Result<(), FoldError> {
    if !place.exists() {
        return Ok(());
    }
    let mut entries = fs::read_dir(place).map_err(FoldError::io("replace", place))?;
    match entries.next().transpose() {
        Ok(None) => Ok(()),
        Ok(Some(entry)) => Err(FoldError::Occupied {
            path: place.to_owned(),
            entry: entry.file_name().to_string_lossy().into_owned(),
        }),
        Err(cause) => Err(FoldError::io("replace", place)(cause)),
    }
}

/// Flushes the names in a folder and in those below it.
fn sync_all(dir: &Path) -> Result<(), FoldError> {
    for entry in fs::read_dir(dir).map_err(FoldError::io("read", dir))? {
        let path = entry.map_err(FoldError::io("read", dir))?.path();
        if path.is_dir() {
            sync_all(&path)?;
        }
    }
    sync(dir)
}

fn sync(dir: &Path) -> Result<(), FoldError> {
    if cfg!(unix) {
        let flushed = File::open(dir).and_then(|dir| dir.sync_all());
        flushed.map_err(FoldError::io("flush", dir))?;
    }
    Ok(())
}
