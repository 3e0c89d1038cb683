use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use coto_data::Place;
use flate2::read::MultiGzDecoder;

use crate::error::Error;
use crate::names::{Label, Names};
use crate::set::{Grid, ImageSet, Stored};

/// The most an IDX file may hold, in bytes.
const LARGEST: u64 = 4 << 30;
/// Deflate packs no byte into less than a 1032nd.
const DENSEST: u64 = 1032;

/// Reads a file of images and one of labels.
pub(crate) fn read(
    images_path: &Path,
    labels_path: &Path,
    labels: Option<&[String]>,
) -> Result<ImageSet, Error> {
    let ([count, height, width], pixels) = unsigned_bytes(images_path, "images")?;
    let ([label_count], numbers) = unsigned_bytes(labels_path, "labels")?;
    if pixels.is_empty() {
        return Err(Error::Empty {
            path: images_path.into(),
        });
    }
    if count != label_count {
        return Err(Error::Counts {
            images: images_path.into(),
            image_count: count,
            labels: labels_path.into(),
            label_count,
        });
    }
    let mut names = Names::new(labels, None);
    let mut classes = numbers
        .iter()
        .enumerate()
        .map(|(index, &number)| {
            let at = || Place::row(labels_path, index + 1);
            names.class(Label::Number(number.into()), at)
        })
        .collect::<Result<Vec<_>, Error>>()?;
    let grid = Arc::new(Grid {
        path: images_path.into(),
        height,
        width,
        pixels,
    });
    let images = (0..count)
        .map(|index| Stored::Grid(grid.clone(), index))
        .collect();
    let labels = names.settle(&mut classes);
    Ok(ImageSet::new(images, classes, labels))
}

/// The sizes and values of an IDX file of unsigned bytes.
fn unsigned_bytes<const DIMENSIONS: usize>(
    path: &Path,
    what: &'static str,
) -> Result<([usize; DIMENSIONS], Vec<u8>), Error> {
    let open = |reason| coto_data::Error::Open {
        path: path.into(),
        reason,
    };
    let file = File::open(path).map_err(open)?;
    let on_disk = file.metadata().map_err(open)?.len();
    let zipped = path
        .extension()
        .is_some_and(|end| end.eq_ignore_ascii_case("gz"));
    let mut stream: Box<dyn Read> = match zipped {
        true => Box::new(MultiGzDecoder::new(BufReader::new(file))),
        false => Box::new(file),
    };
    let length = |promised: String, found: String| Error::Length {
        path: path.into(),
        what,
        promised,
        found,
    };
    let read = |reason| coto_data::Error::Read {
        at: Place::file(path),
        reason,
    };

    let mut header = Vec::new();
    let header_size = 4 + 4 * DIMENSIONS;
    (&mut stream)
        .take(header_size as u64)
        .read_to_end(&mut header)
        .map_err(read)?;
    let (words, _) = header.as_chunks::<4>();
    let wanted = [0, 0, 8, DIMENSIONS as u8];
    if let Some(&found) = words.first().filter(|&&magic| magic != wanted) {
        return Err(Error::Magic {
            path: path.into(),
            what,
            found,
            wanted,
        });
    }
    if header.len() < header_size {
        let promised = format!("a header of {header_size}");
        return Err(length(promised, header.len().to_string()));
    }
    let sizes: [usize; DIMENSIONS] =
        std::array::from_fn(|index| u32::from_be_bytes(words[index + 1]) as usize);
    let promised = sizes
        .iter()
        .try_fold(1, |total: u64, &size| total.checked_mul(size as u64))
        .unwrap_or(u64::MAX);
    let possible = match zipped {
        true => on_disk.saturating_mul(DENSEST),
        false => on_disk.saturating_sub(header_size as u64),
    };
    if promised > possible {
        return Err(length(promised.to_string(), format!("at most {possible}")));
    }
    if promised > LARGEST {
        return Err(length(
            promised.to_string(),
            format!("a limit of {LARGEST}"),
        ));
    }

    let mut values = Vec::new();
    stream
        .take(promised + 1)
        .read_to_end(&mut values)
        .map_err(read)?;
    match values.len() as u64 {
        found if found == promised => Ok((sizes, values)),
        found if found > promised => Err(length(promised.to_string(), "more".to_owned())),
        found => Err(length(promised.to_string(), found.to_string())),
    }
}
