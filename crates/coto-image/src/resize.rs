/// A resampling filter, by the number that Pillow (and so `preprocessor_config.json`) gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resample {
    /// 0: the pixel at the place.
    Nearest,
    /// 1: a sinc windowed by a sinc, 3 pixels to each side.
    Lanczos,
    /// 2: a triangle, 1 pixel to each side.
    Bilinear,
    /// 3: the cubic of Keys with a = −1/2, 2 pixels to each side.
    Bicubic,
    /// 4: a box, half a pixel to each side.
    Box,
    /// 5: a sinc in a Hamming window, 1 pixel to each side.
    Hamming,
}

impl Resample {
    /// The filter of a number of Pillow's.
    pub(crate) fn from_number(number: u64) -> Option<Self> {
        use Resample::{Bicubic, Bilinear, Box, Hamming, Lanczos, Nearest};
        [Nearest, Lanczos, Bilinear, Bicubic, Box, Hamming]
            .get(usize::try_from(number).ok()?)
            .copied()
    }

    /// How far the filter reaches to each side, in source pixels where the image grows.
    fn support(self) -> f64 {
        match self {
            Resample::Nearest | Resample::Box => 0.5,
            Resample::Bilinear | Resample::Hamming => 1.0,
            Resample::Bicubic => 2.0,
            Resample::Lanczos => 3.0,
        }
    }

    /// The filter's weight at distance x.
    fn weight(self, x: f64) -> f64 {
        let sinc = |x: f64| match x == 0.0 {
            true => 1.0,
            false => (x * std::f64::consts::PI).sin() / (x * std::f64::consts::PI),
        };
        let far = x.abs();
        match self {
            Resample::Nearest | Resample::Box => f64::from(-0.5 < x && x <= 0.5),
            Resample::Bilinear => (1.0 - far).max(0.0),
            Resample::Hamming if far < 1.0 => {
                // Pillow has these two numbers in single precision.
                let (base, swing) = (f64::from(0.54_f32), f64::from(0.46_f32));
                sinc(far) * (base + swing * (far * std::f64::consts::PI).cos())
            }
            Resample::Bicubic if far < 1.0 => (1.5 * far - 2.5) * far * far + 1.0,
            Resample::Bicubic if far < 2.0 => (((far - 5.0) * far + 8.0) * far - 4.0) * -0.5,
            Resample::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            _ => 0.0,
        }
    }
}

/// Resizes 8-bit pixels [height, width, channels] to the `to` height and width as Pillow 13 does, to the bit: rows and columns in
/// two passes, each rounded to 8 bits, with weights in fixed point. A filter is widened where the image shrinks, so that every
/// source pixel counts. All sizes are positive.
pub(crate) fn resize(
    pixels: Vec<u8>,
    channels: usize,
    from: (usize, usize),
    to: (usize, usize),
    filter: Resample,
) -> Vec<u8> {
    if filter == Resample::Nearest {
        return nearest(&pixels, channels, from, to);
    }
    let rows = |pixels: Vec<u8>| match (from.1 == to.1, channels) {
        (true, _) => pixels,
        (_, 1) => along_rows::<1>(&pixels, from.1, &Taps::new(from.1, to.1, filter)),
        _ => along_rows::<3>(&pixels, from.1, &Taps::new(from.1, to.1, filter)),
    };
    let columns = |pixels: Vec<u8>, width: usize| match from.0 == to.0 {
        true => pixels,
        false => along_columns(&pixels, width * channels, &Taps::new(from.0, to.0, filter)),
    };
    match columns_first(from, to) {
        true => rows(columns(pixels, from.1)),
        false => columns(rows(pixels), to.1),
    }
}

/// Pillow's choice since version 13, by the pixels that height and width lose.
fn columns_first(from: (usize, usize), to: (usize, usize)) -> bool {
    from.0 > to.0 && from.0 + 2 * to.1 > to.0 + 2 * from.1
}

/// Bits after the point of a weight: 8 remain for the pixel, and 2 for sums below 0 and above 255.
const PRECISION: u32 = 32 - 8 - 2;

/// For each target pixel the first source pixel that counts, and the weights of that and the following.
struct Taps(Vec<(usize, Vec<i32>)>);

impl Taps {
    fn new(from: usize, to: usize, filter: Resample) -> Self {
        let scale = from as f64 / to as f64;
        let stretch = scale.max(1.0);
        let support = filter.support() * stretch;
        let tap = |target: usize| {
            let center = (target as f64 + 0.5) * scale;
            // Casts cut off, and send what is negative to 0.
            let first = (center - support + 0.5) as usize;
            let end = ((center + support + 0.5) as usize).min(from);
            let weights: Vec<f64> = (first..end)
                .map(|source| filter.weight((source as f64 - center + 0.5) * (1.0 / stretch)))
                .collect();
            let sum: f64 = weights.iter().sum();
            let fixed = |weight: f64| (weight / sum * f64::from(1 << PRECISION)).round() as i32;
            (first, weights.into_iter().map(fixed).collect())
        };
        Self((0..to).map(tap).collect())
    }
}

fn clip(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

const HALF: i32 = 1 << (PRECISION - 1);

fn along_rows<const CHANNELS: usize>(pixels: &[u8], width: usize, taps: &Taps) -> Vec<u8> {
    let (pixels, _) = pixels.as_chunks::<CHANNELS>();
    let mut out = Vec::with_capacity(pixels.len() / width * taps.0.len() * CHANNELS);
    for row in pixels.chunks_exact(width) {
        for (first, weights) in &taps.0 {
            let mut sums = [HALF; CHANNELS];
            for (pixel, weight) in row[*first..].iter().zip(weights) {
                for (sum, &value) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(value) * weight;
                }
            }
            out.extend(sums.map(clip));
        }
    }
    out
}

fn along_columns(pixels: &[u8], stride: usize, taps: &Taps) -> Vec<u8> {
    let mut out = Vec::with_capacity(stride * taps.0.len());
    let mut sums = vec![0; stride];
    for (first, weights) in &taps.0 {
        sums.fill(HALF);
        for (row, weight) in pixels.chunks_exact(stride).skip(*first).zip(weights) {
            for (sum, &value) in sums.iter_mut().zip(row) {
                *sum += i32::from(value) * weight;
            }
        }
        out.extend(sums.iter().map(|&sum| clip(sum)));
    }
    out
}

fn nearest(pixels: &[u8], channels: usize, from: (usize, usize), to: (usize, usize)) -> Vec<u8> {
    // Pillow adds the scale up, target pixel by target pixel; a product would round elsewhere.
    let sources = |from: usize, to: usize| -> Vec<usize> {
        let scale = from as f64 / to as f64;
        let places = std::iter::successors(Some(scale * 0.5), |place| Some(place + scale));
        places
            .take(to)
            .map(|place| (place as usize).min(from - 1))
            .collect()
    };
    let columns = sources(from.1, to.1);
    let mut out = Vec::with_capacity(to.0 * to.1 * channels);
    for row in sources(from.0, to.0) {
        for &column in &columns {
            let start = (row * from.1 + column) * channels;
            out.extend_from_slice(&pixels[start..start + channels]);
        }
    }
    out
}
