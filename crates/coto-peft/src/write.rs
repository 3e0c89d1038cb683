use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use crate::Error;
use crate::folder::{CARD, CONFIG, SIDE, TENSORS};

/// Makes `dir` a folder of just these files, or leaves it as it was.
pub(crate) fn replace(dir: &Path, files: &[(&str, Vec<u8>)]) -> Result<(), Error> {
    // Of a link, the folder it points to is replaced, not the link.
    let dir = if dir.exists() {
        fs::canonicalize(dir)
    } else {
        std::path::absolute(dir)
    }
    .map_err(Error::io("find", dir))?;
    let parent = dir.parent().unwrap_or(&dir);
    fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
    check_replaceable(&dir)?;

    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let staging = tempfile::Builder::new()
        .prefix(&format!(".{name}."))
        .tempdir_in(parent);
    let staging = staging.map_err(Error::io("write into", parent))?;
    let fresh = staging.path().join("new");
    fs::create_dir(&fresh).map_err(Error::io("create", &fresh))?;
    for (name, bytes) in files {
        let path = fresh.join(name);
        write(&path, bytes).map_err(Error::io("write", &path))?;
    }
    sync(&fresh)?;

    let old = staging.path().join("old");
    let had_old = dir.exists();
    if had_old {
        fs::rename(&dir, &old).map_err(Error::io("move", &dir))?;
    }
    if let Err(error) = fs::rename(&fresh, &dir) {
        if had_old && fs::rename(&old, &dir).is_err() {
            let _ = staging.keep(); // the old folder is in there
        }
        return Err(Error::io("create", &dir)(error));
    }
    sync(parent)
}

fn check_replaceable(dir: &Path) -> Result<(), Error> {
    if !dir.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(dir).map_err(Error::io("replace", dir))? {
        let entry = entry.map_err(Error::io("replace", dir))?.file_name();
        if ![CONFIG, TENSORS, CARD, SIDE]
            .iter()
            .any(|own| entry == *own)
        {
            return Err(Error::Occupied {
                path: dir.to_owned(),
                entry: entry.to_string_lossy().into_owned(),
            });
        }
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn sync(dir: &Path) -> Result<(), Error> {
    if cfg!(unix) {
        File::open(dir)
            .and_then(|dir| dir.sync_all())
            .map_err(Error::io("flush", dir))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_folder_is_replaced_whole_and_nothing_is_left_beside_it() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("deep/adapter");
        replace(&dir, &[(CONFIG, b"1".to_vec()), (SIDE, b"2".to_vec())]).unwrap();
        assert_eq!(names(&dir), [CONFIG, SIDE]);
        replace(&dir, &[(CONFIG, b"3".to_vec())]).unwrap();
        assert_eq!(names(&dir), [CONFIG]);
        assert_eq!(fs::read(dir.join(CONFIG)).unwrap(), b"3");
        assert_eq!(names(dir.parent().unwrap()), ["adapter"]);
    }

    #[test]
    fn a_failed_write_keeps_the_old_folder_and_leaves_nothing_half_written() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("adapter");
        replace(&dir, &[(CONFIG, b"old".to_vec())]).unwrap();
        let bad = [(CONFIG, b"new".to_vec()), ("no/such/folder", b"".to_vec())];
        assert!(matches!(
            replace(&dir, &bad),
            Err(Error::Io {
                action: "write",
                ..
            })
        ));
        assert_eq!(fs::read(dir.join(CONFIG)).unwrap(), b"old");
        assert_eq!(names(parent.path()), ["adapter"]);
    }

    #[test]
    fn other_peoples_files_are_not_thrown_away() {
        let parent = tempfile::tempdir().unwrap();
        fs::write(parent.path().join("thesis.tex"), "").unwrap();
        let error = replace(parent.path(), &[]).unwrap_err().to_string();
        assert!(error.contains("thesis.tex"), "{error}");
        assert_eq!(names(parent.path()), ["thesis.tex"]);
        assert!(matches!(
            replace(&parent.path().join("thesis.tex"), &[]),
            Err(Error::Io { .. })
        ));
    }
}
