use serde_json::{Map, Value};

use crate::error::Error;
use crate::picture::MEMORY;
use crate::resize::Resample;

/// What `preprocessor_config.json` says, checked key by key, with the defaults of the processor it names.
pub(crate) struct Settings {
    /// Whether transparent images are put before white: `do_convert_rgb`.
    pub(crate) convert_rgb: bool,
    pub(crate) resize: bool,
    pub(crate) size: Size,
    pub(crate) resample: Resample,
    /// Height and width.
    pub(crate) crop: Option<(usize, usize)>,
    pub(crate) rescale: Option<f64>,
    /// Means and standard deviations of the channels.
    pub(crate) normalize: Option<(Vec<f32>, Vec<f32>)>,
    pub(crate) channels: usize,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Size {
    /// Height and width.
    Exact(usize, usize),
    /// The shorter side; the longer keeps its proportion.
    ShortestEdge(usize),
}

#[derive(Clone, Copy, PartialEq)]
enum Family {
    Vit,
    Clip,
}

const KINDS: [(&str, Family); 4] = [
    ("ViTImageProcessor", Family::Vit),
    ("ViTFeatureExtractor", Family::Vit),
    ("CLIPImageProcessor", Family::Clip),
    ("CLIPFeatureExtractor", Family::Clip),
];
/// The implementations of a processor differ in this end of its name.
const ENDS: [&str; 3] = ["", "Fast", "Pil"];

const SWITCHES: [&str; 5] = [
    "do_resize",
    "do_center_crop",
    "do_rescale",
    "do_normalize",
    "do_convert_rgb",
];
const CLIP_MEAN: [f64; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const CLIP_STD: [f64; 3] = [0.268_629_54, 0.261_302_58, 0.275_777_11];

impl Settings {
    pub(crate) fn parse(name: &str, json: &str) -> Result<Self, Error> {
        let map: Map<String, Value> = serde_json::from_str(json).map_err(|fault| Error::Json {
            name: name.into(),
            reason: fault.to_string(),
        })?;
        let keys = Keys { name, map: &map };
        let clip = keys.family()? == Family::Clip;
        keys.refuse_other_switches()?;

        let (mean, mean_channels) =
            keys.numbers("image_mean", if clip { CLIP_MEAN } else { [0.5; 3] })?;
        let (std, std_channels) =
            keys.numbers("image_std", if clip { CLIP_STD } else { [0.5; 3] })?;
        let normalize = keys.flag("do_normalize", true)?;
        let channels = mean_channels.or(std_channels).unwrap_or(3);
        if normalize && std_channels.is_some_and(|std| std != channels) {
            let wanted = "as many numbers as `image_mean` has";
            return Err(keys.wrong("image_std", wanted));
        }
        if normalize && std.iter().any(|&std| std <= 0.0) {
            return Err(keys.wrong("image_std", "a number above 0 for each channel"));
        }
        let convert_rgb = keys.flag("do_convert_rgb", clip)?;
        if convert_rgb && channels == 1 {
            return Err(keys.wrong(
                "image_mean",
                "a number for each of the 3 channels of `do_convert_rgb`",
            ));
        }
        let spread = |numbers: Vec<f32>| match numbers[..] {
            [one] => vec![one; channels],
            _ => numbers,
        };
        let size = match (keys.get("size"), clip) {
            (Some(size), _) => keys.size("size", size, !clip)?,
            (None, true) => Size::ShortestEdge(224),
            (None, false) => Size::Exact(224, 224),
        };
        let settings = Self {
            convert_rgb,
            resize: keys.flag("do_resize", true)?,
            size,
            resample: keys.resample(if clip {
                Resample::Bicubic
            } else {
                Resample::Bilinear
            })?,
            crop: match keys.flag("do_center_crop", clip)? {
                true => Some(keys.crop(clip)?),
                false => None,
            },
            rescale: match keys.flag("do_rescale", true)? {
                true => Some(keys.factor()?),
                false => None,
            },
            normalize: normalize.then(|| (spread(mean), spread(std))),
            channels,
        };
        match (settings.crop, settings.size) {
            (None, Size::ShortestEdge(_)) => Err(keys.wrong(
                "size",
                "{height, width}, or a centre crop, so that all images come out in one size,",
            )),
            _ => Ok(settings),
        }
    }
}

struct Keys<'a> {
    name: &'a str,
    map: &'a Map<String, Value>,
}

impl Keys<'_> {
    /// The value of a key; null stands for none.
    fn get(&self, key: &str) -> Option<&Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    fn wrong(&self, key: &'static str, wanted: &'static str) -> Error {
        let found = self.get(key).map_or("not given".to_owned(), shown);
        Error::Setting {
            name: self.name.into(),
            key,
            found,
            wanted,
        }
    }

    fn family(&self) -> Result<Family, Error> {
        let named = self
            .get("image_processor_type")
            .or_else(|| self.get("feature_extractor_type"));
        let known = named.and_then(Value::as_str).and_then(|named| {
            let is = |kind: &str| ENDS.iter().any(|end| named.strip_suffix(end) == Some(kind));
            KINDS.iter().find(|(kind, _)| is(kind))
        });
        match known {
            Some(&(_, family)) => Ok(family),
            None => Err(Error::ProcessorType {
                name: self.name.into(),
                found: named.map_or("(no `image_processor_type`)".to_owned(), shown),
                known: KINDS.map(|(kind, _)| kind).join(", "),
            }),
        }
    }

    fn refuse_other_switches(&self) -> Result<(), Error> {
        let on = |value: &Value| match value {
            Value::Null => false,
            Value::Bool(on) => *on,
            Value::Number(number) => number.as_f64() != Some(0.0),
            Value::String(text) => !text.is_empty(),
            Value::Array(items) => !items.is_empty(),
            Value::Object(items) => !items.is_empty(),
        };
        for (key, value) in self.map {
            let switch = key.starts_with("do_") || key.starts_with("use_") || key == "reducing_gap";
            if switch && !SWITCHES.contains(&key.as_str()) && on(value) {
                return Err(Error::Unsupported {
                    name: self.name.into(),
                    key: key.clone(),
                    value: shown(value),
                });
            }
        }
        Ok(())
    }

    fn flag(&self, key: &'static str, default: bool) -> Result<bool, Error> {
        match self.get(key) {
            None => Ok(default),
            Some(Value::Bool(on)) => Ok(*on),
            Some(_) => Err(self.wrong(key, "true or false")),
        }
    }

    /// One number for all channels, or a list and its length.
    fn numbers(
        &self,
        key: &'static str,
        default: [f64; 3],
    ) -> Result<(Vec<f32>, Option<usize>), Error> {
        let wanted = "one finite number, or a list of 1 or 3 of them,";
        let number = |value: &Value| match value.as_f64().map(|number| number as f32) {
            Some(number) if number.is_finite() => Ok(number),
            _ => Err(self.wrong(key, wanted)),
        };
        match self.get(key) {
            None => Ok((default.map(|number| number as f32).to_vec(), Some(3))),
            Some(Value::Array(list)) if [1, 3].contains(&list.len()) => Ok((
                list.iter().map(number).collect::<Result<_, _>>()?,
                Some(list.len()),
            )),
            Some(value) => Ok((vec![number(value)?], None)),
        }
    }

    fn factor(&self) -> Result<f64, Error> {
        match self.get("rescale_factor") {
            None => Ok(1.0 / 255.0),
            Some(value) => value
                .as_f64()
                .ok_or_else(|| self.wrong("rescale_factor", "a number")),
        }
    }

    fn resample(&self, default: Resample) -> Result<Resample, Error> {
        match self.get("resample") {
            None => Ok(default),
            Some(value) => value
                .as_u64()
                .and_then(Resample::from_number)
                .ok_or_else(|| self.wrong("resample", "a number of Pillow's from 0 to 5")),
        }
    }

    fn crop(&self, clip: bool) -> Result<(usize, usize), Error> {
        match self.get("crop_size") {
            None if clip => Ok((224, 224)),
            None => Err(self.wrong("crop_size", "{height, width}")),
            Some(value) => match self.size("crop_size", value, true)? {
                Size::Exact(height, width) => Ok((height, width)),
                Size::ShortestEdge(_) => Err(self.wrong("crop_size", "{height, width}")),
            },
        }
    }

    /// A whole number alone is the side of a square, or else the shorter side.
    fn size(&self, key: &'static str, value: &Value, square: bool) -> Result<Size, Error> {
        let wanted =
            "{height, width} or {shortest_edge} or a whole number, of at most 4096 pixels,";
        let side = |value: &Value| match value.as_u64() {
            Some(side @ 1..=4096) => Ok(side as usize),
            _ => Err(self.wrong(key, wanted)),
        };
        match value {
            Value::Number(_) if square => Ok(Size::Exact(side(value)?, side(value)?)),
            Value::Number(_) => Ok(Size::ShortestEdge(side(value)?)),
            Value::Array(pair) if pair.len() == 2 => {
                Ok(Size::Exact(side(&pair[0])?, side(&pair[1])?))
            }
            Value::Object(map) => {
                let given: Vec<_> = map.iter().filter(|(_, value)| !value.is_null()).collect();
                match (
                    map.get("height"),
                    map.get("width"),
                    map.get("shortest_edge"),
                ) {
                    (Some(height), Some(width), _) if given.len() == 2 => {
                        Ok(Size::Exact(side(height)?, side(width)?))
                    }
                    (_, _, Some(edge)) if given.len() == 1 => Ok(Size::ShortestEdge(side(edge)?)),
                    _ => Err(self.wrong(key, wanted)),
                }
            }
            _ => Err(self.wrong(key, wanted)),
        }
    }
}

/// A value as JSON, its beginning where long.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Whether this many bytes are too many for one image.
pub(crate) fn too_many(height: usize, width: usize, channels: usize) -> bool {
    height.saturating_mul(width).saturating_mul(channels) as u64 > MEMORY
}
