use std::fs::File;
use std::io::Write;
use std::path::Path;

use crate::Error;

/// Writes a file beside its place and renames it into it: whoever looks sees the old file or the new one, whole.
///
/// # Errors
/// [`Error::Io`]; then nothing has changed.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let dir = path
        .parent()
        .filter(|dir| !dir.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let attempt = || {
        let mut builder = tempfile::Builder::new();
        // A temporary file is private to its owner; what is written here is a file like any other.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let mut file = builder.tempfile_in(dir)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        File::open(dir)?.sync_all()
    };
    attempt().map_err(Error::io(path))
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_written_file_can_be_read_by_whom_others_can_be() {
        let dir = tempfile::tempdir().unwrap();
        let mode = |name: &str| {
            fs::metadata(dir.path().join(name))
                .unwrap()
                .permissions()
                .mode()
        };
        write(&dir.path().join("written"), b"new").unwrap();
        fs::write(dir.path().join("usual"), b"new").unwrap();
        assert_eq!(mode("written"), mode("usual"));
        let names = fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(names, 2);
    }
}
