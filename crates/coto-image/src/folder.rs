use std::fs;
use std::path::{Path, PathBuf};

use coto_data::{Labels, Place};

use crate::error::Error;
use crate::set::{ImageSet, Stored};

const ENDS: [&str; 6] = ["png", "jpg", "jpeg", "gif", "bmp", "webp"];

/// Reads `root/class/image`, or `root/train/class/image`.
pub(crate) fn read(root: &Path, labels: Option<&[String]>) -> Result<ImageSet, Error> {
    let train = root.join("train");
    let within = match train.is_dir() {
        true => entries(&train)?,
        false => Vec::new(),
    };
    let class_folders = match !within.is_empty() && within.iter().all(|path| path.is_dir()) {
        true => within,
        false => entries(root)?,
    };
    let mut set = Labels::new(labels);
    let (mut images, mut classes) = (Vec::new(), Vec::new());
    for folder in class_folders {
        if !folder.is_dir() {
            return Err(Error::Stray {
                path: folder,
                what: "a file beside the class folders",
                hint: "each image belongs into the folder of its class",
            });
        }
        let files = images_of(&folder)?;
        if files.is_empty() {
            continue;
        }
        let label = folder.file_name().unwrap_or_default().to_string_lossy();
        let class =
            set.class(label.clone().into_owned())
                .map_err(|nearest| Error::UnknownLabel {
                    at: Place::file(&folder),
                    label: label.into_owned(),
                    nearest,
                })?;
        classes.extend(files.iter().map(|_| class));
        images.extend(files.into_iter().map(Stored::File));
    }
    if images.is_empty() {
        return Err(Error::Empty { path: root.into() });
    }
    let labels = set.settle(&mut classes);
    Ok(ImageSet::new(images, classes, labels))
}

fn images_of(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let files = entries(folder)?;
    for path in &files {
        let end = path.extension().unwrap_or_default().to_string_lossy();
        let what = match (path.is_dir(), ENDS.contains(&&*end.to_lowercase())) {
            (true, _) => "a folder within a class folder",
            (false, false) => "no image by its name",
            (false, true) => continue,
        };
        return Err(Error::Stray {
            path: path.clone(),
            what,
            hint: "a class folder holds .png, .jpg, .jpeg, .gif, .bmp and .webp files alone",
        });
    }
    Ok(files)
}

/// What is in a folder, sorted, but for names that begin with a dot.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let open = |reason| coto_data::Error::Open {
        path: folder.into(),
        reason,
    };
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(open)? {
        let entry = entry.map_err(open)?;
        if !entry.file_name().to_string_lossy().starts_with('.') {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}
