use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coto_data::{Columns, Dataset, Fingerprint, Place, Share};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::picture::{MEMORY, Mode, Picture};
use crate::processor::Processor;
use crate::{folder, idx, parquet_file};

/// Which columns of a table hold the image and the label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImageColumns {
    /// The image: its bytes in Parquet, its path in a list; `image` by default.
    pub image: String,
    /// The class; `label` by default.
    pub label: String,
}

impl Default for ImageColumns {
    fn default() -> Self {
        Self {
            image: "image".into(),
            label: "label".into(),
        }
    }
}

/// Labelled images, in the order of their source, decoded one by one when they are asked for.
///
/// Images of a folder stay on disk, those of a Parquet file are kept in memory as they are encoded, those of an IDX file as bytes.
/// A sample shares them with the set it is drawn from.
#[derive(Debug, Clone)]
pub struct ImageSet {
    images: Vec<Stored>,
    classes: Vec<usize>,
    labels: Vec<String>,
}

/// Where an image is.
#[derive(Debug, Clone)]
pub(crate) enum Stored {
    File(PathBuf),
    /// Row and bytes of a file.
    Row(Arc<Path>, usize, Arc<[u8]>),
    /// One of many, from 0.
    Grid(Arc<Grid>, usize),
}

/// Grey pixels [images, height, width].
#[derive(Debug)]
pub(crate) struct Grid {
    pub(crate) path: PathBuf,
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) pixels: Vec<u8>,
}

impl ImageSet {
    /// Reads a set whose form is told by its path:
    ///
    /// * a folder with a folder of images for each class, or one whose folder `train` is such a folder;
    /// * an IDX file of images (its name has `idx3` and `images`, with `.gz` or without), beside which lies the file of labels under
    ///   the same name but for `idx1` and `labels`;
    /// * a Parquet file of encoded images, as a binary column or in Hugging Face's layout {bytes, path}; class names come from
    ///   Hugging Face's metadata where it has them;
    /// * a list of files: a table that [`Dataset::load`] reads (`.jsonl`, `.csv`, …), with paths relative to its folder.
    ///
    /// With `labels` given, such as those a model was trained with, they are the label set in that order; otherwise it is the distinct
    /// labels, sorted (as numbers if all are whole numbers), or the names in the metadata. Labels that are numbers without names count
    /// given names from 0, unless those are whole numbers themselves.
    ///
    /// # Errors
    /// Whatever is wrong with the source, by path, row and column; a label outside of a given set. What is wrong with an image itself
    /// is found when that is decoded.
    pub fn load(
        path: impl AsRef<Path>,
        columns: &ImageColumns,
        labels: Option<&[String]>,
    ) -> Result<Self, Error> {
        let path = path.as_ref();
        if metadata(path)?.is_dir() {
            return Self::folder(path, labels);
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let lower = name.to_lowercase();
        let plain = lower.strip_suffix(".gz").unwrap_or(&lower);
        let list = [".jsonl", ".json", ".csv", ".tsv"];
        if lower.ends_with(".parquet") {
            Self::parquet(path, columns, labels)
        } else if list.iter().any(|end| plain.ends_with(end)) {
            Self::list(path, columns, labels)
        } else if name.contains("idx3") && name.contains("images") {
            let partner = name.replace("images", "labels").replace("idx3", "idx1");
            Self::idx(path, path.with_file_name(partner), labels)
        } else {
            Err(Error::UnknownForm { path: path.into() })
        }
    }

    /// Reads a folder of class folders: `cat/1.png`, `dog/2.jpg`, sorted by name. Where `train` is itself a folder of folders, it is read
    /// in the folder's place. Names that begin with a dot are passed over.
    ///
    /// # Errors
    /// If there is no image, or anything that is none by the end of its name; a class outside of a given set.
    pub fn folder(path: impl AsRef<Path>, labels: Option<&[String]>) -> Result<Self, Error> {
        folder::read(path.as_ref(), labels)
    }

    /// Reads two IDX files, as MNIST and its kin have: grey images [images, height, width] and labels, each with `.gz` or without.
    ///
    /// # Errors
    /// If a file is of another kind, longer or shorter than its header says, or holds more than 4 GiB; if there are not as many labels
    /// as images; a label outside of a given set.
    pub fn idx(
        images: impl AsRef<Path>,
        labels_path: impl AsRef<Path>,
        labels: Option<&[String]>,
    ) -> Result<Self, Error> {
        idx::read(images.as_ref(), labels_path.as_ref(), labels)
    }

    /// Reads a Parquet file of encoded images; see [`ImageSet::load`].
    ///
    /// # Errors
    /// If the file is damaged; if a column is missing or of another type; a null; a label outside of the set.
    pub fn parquet(
        path: impl AsRef<Path>,
        columns: &ImageColumns,
        labels: Option<&[String]>,
    ) -> Result<Self, Error> {
        parquet_file::read(path.as_ref(), columns, labels)
    }

    /// Reads a table of paths and labels, the paths relative to its folder.
    ///
    /// # Errors
    /// As [`Dataset::load`].
    pub fn list(
        path: impl AsRef<Path>,
        columns: &ImageColumns,
        labels: Option<&[String]>,
    ) -> Result<Self, Error> {
        let path = path.as_ref();
        let columns = Columns {
            text: columns.image.clone(),
            pair: None,
            label: columns.label.clone(),
        };
        let table = Dataset::load(path, &columns, labels)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let (images, classes) = table
            .examples
            .into_iter()
            .map(|example| (Stored::File(folder.join(example.text)), example.label))
            .unzip();
        Ok(Self::new(images, classes, table.labels))
    }

    /// A set of at least one image.
    pub(crate) fn new(images: Vec<Stored>, classes: Vec<usize>, labels: Vec<String>) -> Self {
        Self {
            images,
            classes,
            labels,
        }
    }

    /// How many images there are.
    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// Whether there is none, as in a sample of none a class.
    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// The names of the classes.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// The class of an image, an index into [`ImageSet::labels`].
    ///
    /// # Panics
    /// If there is no such image.
    pub fn label(&self, index: usize) -> usize {
        self.classes[index]
    }

    /// How many images each class has, in the order of [`ImageSet::labels`].
    pub fn class_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.labels.len()];
        for &class in &self.classes {
            counts[class] += 1;
        }
        counts
    }

    /// Decodes an image.
    ///
    /// # Errors
    /// If the file cannot be read or the image not be decoded.
    ///
    /// # Panics
    /// If there is no such image.
    pub fn picture(&self, index: usize) -> Result<Picture, Error> {
        let stored = &self.images[index];
        let picture = match stored {
            Stored::File(path) => Picture::decode(&file(path)?),
            Stored::Row(_, _, bytes) => Picture::decode(bytes),
            Stored::Grid(grid, index) => {
                let pixels = grid.image(*index).to_vec();
                Picture::new(grid.height, grid.width, Mode::L, pixels)
            }
        };
        picture.map_err(|error| error.at(stored.place()))
    }

    /// The model's input [channels, height, width] of an image, of [`Processor::shape`].
    ///
    /// # Errors
    /// As [`ImageSet::picture`] and [`Processor::pixels`], with the file and, where it has several, the row.
    ///
    /// # Panics
    /// If there is no such image.
    pub fn pixels(&self, index: usize, processor: &Processor) -> Result<Vec<f32>, Error> {
        processor
            .pixels(&self.picture(index)?)
            .map_err(|error| error.at(self.images[index].place()))
    }

    /// A hash of labels and images in their order, by which a resumed run tells that its data have changed.
    ///
    /// It takes the bytes as they are stored, so the same images in another format have another; a folder is read whole.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn fingerprint(&self) -> Result<u64, Error> {
        let mut hash = Fingerprint::default();
        hash.number(self.labels.len());
        for label in &self.labels {
            hash.text(label);
        }
        for (stored, &class) in self.images.iter().zip(&self.classes) {
            hash.number(class);
            let read;
            let bytes = match stored {
                Stored::File(path) => {
                    read = file(path)?;
                    &read
                }
                Stored::Row(_, _, bytes) => &bytes[..],
                Stored::Grid(grid, index) => {
                    hash.number(grid.width);
                    grid.image(*index)
                }
            };
            hash.number(bytes.len());
            hash.bytes(bytes);
        }
        Ok(hash.finish())
    }

    /// At most `per_class` random images of each class, as [`coto_data::few_shot`] draws them.
    pub fn few_shot(&self, per_class: usize, seed: u64) -> Self {
        let classes = self.labels.len();
        self.pick(&coto_data::few_shot(
            &self.classes,
            classes,
            per_class,
            seed,
        ))
    }

    /// Sets a random share apart, stratified, as [`coto_data::split`] does. Returns the rest and the share.
    ///
    /// # Errors
    /// If the share or the rest would be empty.
    pub fn split(&self, share: Share, seed: u64) -> Result<(Self, Self), Error> {
        let (rest, held_out) = coto_data::split(&self.classes, self.labels.len(), share, seed)?;
        Ok((self.pick(&rest), self.pick(&held_out)))
    }

    fn pick(&self, indices: &[usize]) -> Self {
        Self {
            images: indices
                .iter()
                .map(|&index| self.images[index].clone())
                .collect(),
            classes: indices.iter().map(|&index| self.classes[index]).collect(),
            labels: self.labels.clone(),
        }
    }
}

impl Stored {
    fn place(&self) -> Place {
        match self {
            Stored::File(path) => Place::file(path),
            Stored::Row(path, row, _) => Place::row(path, *row),
            Stored::Grid(grid, index) => Place::row(&grid.path, index + 1),
        }
    }
}

impl Grid {
    fn image(&self, index: usize) -> &[u8] {
        let area = self.height * self.width;
        &self.pixels[index * area..][..area]
    }
}

fn metadata(path: &Path) -> Result<fs::Metadata, Error> {
    Ok(fs::metadata(path).map_err(|reason| open(path, reason))?)
}

fn file(path: &Path) -> Result<Vec<u8>, Error> {
    match metadata(path)?.len() > MEMORY {
        true => Err(Error::TooLarge.at(Place::file(path))),
        false => Ok(fs::read(path).map_err(|reason| open(path, reason))?),
    }
}

fn open(path: &Path, reason: std::io::Error) -> coto_data::Error {
    coto_data::Error::Open {
        path: path.into(),
        reason,
    }
}
