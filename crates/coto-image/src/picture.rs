use std::io::Cursor;

use image::{DynamicImage, ImageError, ImageReader, Limits};

use crate::error::Error;

/// What one image may take, in bytes: decoded, and again after resizing.
pub(crate) const MEMORY: u64 = 256 << 20;
/// The longest side of an image, in pixels.
const SIDE: u32 = 1 << 16;

/// The channels of a [`Picture`], 8 bits each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Grey.
    L,
    /// Grey and alpha.
    La,
    /// Red, green, blue.
    Rgb,
    /// Red, green, blue and alpha.
    Rgba,
}

impl Mode {
    /// Bytes a pixel.
    pub fn channels(self) -> usize {
        match self {
            Mode::L => 1,
            Mode::La => 2,
            Mode::Rgb => 3,
            Mode::Rgba => 4,
        }
    }
}

/// A decoded image: 8-bit pixels [height, width, channels].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) mode: Mode,
    pub(crate) pixels: Vec<u8>,
}

impl Picture {
    /// A picture of raw pixels [height, width, channels].
    ///
    /// # Errors
    /// If a side is 0 or the number of bytes is another.
    pub fn new(height: usize, width: usize, mode: Mode, pixels: Vec<u8>) -> Result<Self, Error> {
        let size = height
            .checked_mul(width)
            .and_then(|area| area.checked_mul(mode.channels()));
        match size == Some(pixels.len()) && !pixels.is_empty() {
            true => Ok(Self {
                height,
                width,
                mode,
                pixels,
            }),
            false => Err(Error::Raw {
                height,
                width,
                channels: mode.channels(),
                bytes: pixels.len(),
            }),
        }
    }

    /// Decodes a PNG, JPEG, GIF (its first frame), BMP or WebP file; what it is, its first bytes say, not its name.
    ///
    /// Palettes and transparent colours are expanded, and 16 bits become 8 as Pillow reads them: a colour keeps its high byte, while
    /// plain grey is cut off at 255. A camera's note of how it was held (EXIF) is not obeyed, as in Pillow.
    ///
    /// # Errors
    /// If the bytes are none of these formats, cut short or damaged; if the image has inks for colours (CMYK); if a side exceeds
    /// 65,536 pixels or the image 256 MiB.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = ImageReader::new(Cursor::new(bytes))
            .with_guessed_format()
            .map_err(|_| Error::NoImage)?;
        let format = reader.format().ok_or(Error::NoImage)?;
        if format == image::ImageFormat::Jpeg {
            whole_jpeg(bytes)?;
        }
        let mut limits = Limits::default();
        limits.max_image_width = Some(SIDE);
        limits.max_image_height = Some(SIDE);
        limits.max_alloc = Some(MEMORY);
        reader.limits(limits);
        let image = reader.decode().map_err(|fault| match fault {
            ImageError::Limits(_) => Error::TooLarge,
            fault => Error::Unreadable {
                reason: fault.to_string(),
            },
        })?;
        let (width, height) = (image.width() as usize, image.height() as usize);
        let (mode, pixels) = eight_bits(image)?;
        Self::new(height, width, mode, pixels)
    }

    /// Height and width in pixels.
    pub fn size(&self) -> (usize, usize) {
        (self.height, self.width)
    }

    /// The channels.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The pixels [height, width, channels].
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The pixels [height, width, 3], as Pillow's `convert("RGB")` makes them: grey three times, alpha forgotten.
    pub(crate) fn rgb(&self) -> Vec<u8> {
        match self.mode {
            Mode::L => self.pixels.iter().flat_map(|&grey| [grey; 3]).collect(),
            Mode::La => self.each(|[grey, _]: [u8; 2]| [grey; 3]),
            Mode::Rgb => self.pixels.clone(),
            Mode::Rgba => self.each(|[r, g, b, _]: [u8; 4]| [r, g, b]),
        }
    }

    /// The pixels [height, width, 3] before a white ground, as Pillow's `alpha_composite` mixes them.
    pub(crate) fn on_white(&self) -> Vec<u8> {
        let mix = |value: u8, alpha: u8| {
            let (value, alpha) = (u32::from(value), u32::from(alpha));
            let sum = (value * alpha + 255 * (255 - alpha)) + 128;
            ((sum + (sum >> 8)) >> 8) as u8
        };
        match self.mode {
            Mode::L | Mode::Rgb => self.rgb(),
            Mode::La => self.each(|[grey, alpha]: [u8; 2]| [mix(grey, alpha); 3]),
            Mode::Rgba => self.each(|[r, g, b, a]: [u8; 4]| [r, g, b].map(|value| mix(value, a))),
        }
    }

    /// The pixels [height, width, 1], as Pillow's `convert("RGB").convert("L")` makes them: luma of ITU-R 601-2 in 16 bits, alpha forgotten.
    pub(crate) fn grey(&self) -> Vec<u8> {
        let luma = |[r, g, b]: [u32; 3]| ((19595 * r + 38470 * g + 7471 * b + 0x8000) >> 16) as u8;
        match self.mode {
            Mode::L => self.pixels.clone(),
            Mode::La => self.each(|[grey, _]: [u8; 2]| [grey]),
            Mode::Rgb => self.each(|rgb: [u8; 3]| [luma(rgb.map(u32::from))]),
            Mode::Rgba => self.each(|[r, g, b, _]: [u8; 4]| [luma([r, g, b].map(u32::from))]),
        }
    }

    fn each<const FROM: usize, const TO: usize>(
        &self,
        convert: impl Fn([u8; FROM]) -> [u8; TO],
    ) -> Vec<u8> {
        let (pixels, _) = self.pixels.as_chunks::<FROM>();
        pixels.iter().flat_map(|&pixel| convert(pixel)).collect()
    }
}

fn eight_bits(image: DynamicImage) -> Result<(Mode, Vec<u8>), Error> {
    let high = |values: Vec<u16>| values.into_iter().map(|value| (value >> 8) as u8).collect();
    Ok(match image {
        DynamicImage::ImageLuma8(image) => (Mode::L, image.into_raw()),
        DynamicImage::ImageLumaA8(image) => (Mode::La, image.into_raw()),
        DynamicImage::ImageRgb8(image) => (Mode::Rgb, image.into_raw()),
        DynamicImage::ImageRgba8(image) => (Mode::Rgba, image.into_raw()),
        DynamicImage::ImageLuma16(image) => {
            let cut_off = |value: u16| value.min(255) as u8;
            (Mode::L, image.into_raw().into_iter().map(cut_off).collect())
        }
        DynamicImage::ImageLumaA16(image) => (Mode::La, high(image.into_raw())),
        DynamicImage::ImageRgb16(image) => (Mode::Rgb, high(image.into_raw())),
        DynamicImage::ImageRgba16(image) => (Mode::Rgba, high(image.into_raw())),
        other => {
            return Err(Error::Channels {
                found: format!("{:?}", other.color()),
            });
        }
    })
}

/// The decoder fills what is missing of a JPEG with grey, and turns inks into colours in its own way; Pillow does neither.
fn whole_jpeg(bytes: &[u8]) -> Result<(), Error> {
    let cut = || Error::Unreadable {
        reason: "the JPEG is cut short".to_owned(),
    };
    let mut at = 2;
    loop {
        let &[mark, code, high, low] = bytes
            .get(at..)
            .and_then(<[u8]>::first_chunk)
            .ok_or_else(cut)?;
        match (mark, code) {
            (0xff, 0xff) => at += 1,
            (0xff, 0xda) => break,
            // The frame header: its length, precision, height and width, then the number of components.
            (0xff, 0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf)
                if *bytes.get(at + 9).ok_or_else(cut)? == 4 =>
            {
                return Err(Error::Channels {
                    found: "CMYK".to_owned(),
                });
            }
            (0xff, _) => at += 2 + usize::from(u16::from_be_bytes([high, low])),
            _ => {
                return Err(Error::Unreadable {
                    reason: format!("no JPEG marker at byte {at}"),
                });
            }
        }
    }
    // Nothing but the end of the image reads FF D9 after the first scan has begun.
    match bytes[at..].windows(2).any(|pair| pair == [0xff, 0xd9]) {
        true => Ok(()),
        false => Err(cut()),
    }
}
