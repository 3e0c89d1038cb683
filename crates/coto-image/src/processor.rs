use std::fs;
use std::path::Path;

use crate::error::Error;
use crate::picture::Picture;
use crate::resize::{Resample, resize};
use crate::settings::{Settings, Size, too_many};

/// Makes a model's input of a picture, as `preprocessor_config.json` says: convert to its channels, resize, crop, rescale,
/// normalise.
///
/// The numbers are those of the processors of Hugging Face transformers that work through Pillow (`use_fast=False`), for ViT and
/// CLIP. A model of one channel is one whose `image_mean` is a list of one number; its pictures are turned grey. With
/// `do_convert_rgb`, transparent pictures are put before white, as transformers 5 does; without it transformers would take
/// no picture but RGB, and here others are converted as Pillow's `convert("RGB")` does, which forgets transparency.
#[derive(Debug, Clone)]
pub struct Processor {
    on_white: bool,
    resize: Option<(Size, Resample)>,
    crop: Option<(usize, usize)>,
    size: (usize, usize),
    /// For each channel what becomes of each of the 256 values.
    tables: Vec<[f32; 256]>,
}

impl Processor {
    /// Reads a `preprocessor_config.json`.
    ///
    /// # Errors
    /// As [`Processor::from_json`], or if the file cannot be read.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let json = fs::read_to_string(path).map_err(|reason| coto_data::Error::Open {
            path: path.into(),
            reason,
        })?;
        Self::from_json(&path.display().to_string(), &json)
    }

    /// Reads settings from JSON; `name` stands in the errors for the path.
    ///
    /// The types `ViTImageProcessor`, `ViTFeatureExtractor`, `CLIPImageProcessor` and `CLIPFeatureExtractor` are known, each also
    /// with `Fast`. A setting that is absent has transformers' default for the type. Unknown keys are passed over.
    ///
    /// # Errors
    /// If the type is another, a value cannot be used, or an unknown switch (`do_…`, `use_…`) is on; if pictures of different sizes
    /// would come out in different sizes.
    pub fn from_json(name: &str, json: &str) -> Result<Self, Error> {
        let settings = Settings::parse(name, json)?;
        let size = match (settings.crop, settings.size) {
            (Some(size), _) => size,
            (None, Size::Exact(height, width)) => (height, width),
            (None, Size::ShortestEdge(edge)) => (edge, edge),
        };
        let table = |channel: usize| {
            std::array::from_fn(|value| {
                let value = match settings.rescale {
                    Some(factor) => (value as f64 * factor) as f32,
                    None => value as f32,
                };
                match &settings.normalize {
                    Some((mean, std)) => (value - mean[channel]) / std[channel],
                    None => value,
                }
            })
        };
        Ok(Self {
            on_white: settings.convert_rgb,
            resize: settings
                .resize
                .then_some((settings.size, settings.resample)),
            crop: settings.crop,
            size,
            tables: (0..settings.channels).map(table).collect(),
        })
    }

    /// The shape of [`Processor::pixels`]: [channels, height, width].
    pub fn shape(&self) -> [usize; 3] {
        [self.tables.len(), self.size.0, self.size.1]
    }

    /// The model's input [channels, height, width] of a picture.
    ///
    /// # Errors
    /// If the picture is so long and thin that resizing its shorter side would take more than 256 MiB; with neither a resize nor
    /// a crop, if it has another size than the processor's.
    pub fn pixels(&self, picture: &Picture) -> Result<Vec<f32>, Error> {
        let channels = self.tables.len();
        let mut pixels = match (channels, self.on_white) {
            (1, _) => picture.grey(),
            (_, true) => picture.on_white(),
            (_, false) => picture.rgb(),
        };
        let mut size = picture.size();
        if let Some((target, filter)) = self.resize {
            let to = target.of(size);
            if too_many(to.0, to.1, channels) || too_many(size.0, to.1, channels) {
                return Err(Error::Stretched {
                    height: size.0,
                    width: size.1,
                    to_height: to.0,
                    to_width: to.1,
                });
            }
            pixels = resize(pixels, channels, size, to, filter);
            size = to;
        }
        if self.crop.is_none() && size != self.size {
            return Err(Error::Size {
                height: size.0,
                width: size.1,
                to_height: self.size.0,
                to_width: self.size.1,
            });
        }
        Ok(self.cropped(&pixels, size))
    }

    /// The window in the middle of 8-bit pixels [height, width, channels] as numbers [channels, height, width]; where it reaches
    /// beyond the picture, the pixels count as 0.
    fn cropped(&self, pixels: &[u8], (height, width): (usize, usize)) -> Vec<f32> {
        let offset = |whole: usize, part: usize| (whole as isize - part as isize).div_euclid(2);
        let (top, left) = (offset(height, self.size.0), offset(width, self.size.1));
        let place = |at: usize, offset: isize, end: usize| {
            at.checked_add_signed(offset).filter(|&place| place < end)
        };
        let channels = self.tables.len();
        let mut out = Vec::with_capacity(channels * self.size.0 * self.size.1);
        for (channel, table) in self.tables.iter().enumerate() {
            for row in 0..self.size.0 {
                let row = place(row, top, height);
                out.extend((0..self.size.1).map(|column| {
                    let value = match (row, place(column, left, width)) {
                        (Some(row), Some(column)) => {
                            pixels[(row * width + column) * channels + channel]
                        }
                        _ => 0,
                    };
                    table[usize::from(value)]
                }));
            }
        }
        out
    }
}

impl Size {
    /// The height and width to which a picture is resized.
    fn of(self, (height, width): (usize, usize)) -> (usize, usize) {
        match self {
            Size::Exact(height, width) => (height, width),
            Size::ShortestEdge(edge) => {
                let long =
                    |long: usize, short: usize| ((edge * long) as f64 / short as f64) as usize;
                match width <= height {
                    true => (long(height, width), edge),
                    false => (edge, long(width, height)),
                }
            }
        }
    }
}
