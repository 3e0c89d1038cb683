use std::path::PathBuf;

use coto_data::{Nearest, Place};

/// What can be wrong with images, their labels, or the settings they are prepared by.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another error, and the image it was met in.
    #[error("{at}: {cause}")]
    In {
        /// The file, and the row of a file with many images.
        at: Place,
        /// What is wrong there.
        cause: Box<Error>,
    },

    /// A table that holds or lists the images is wrong.
    #[error(transparent)]
    Data(#[from] coto_data::Error),

    /// The path says no form of image set.
    #[error(
        "{path}: no known form of image set; known are a folder of class folders, an IDX file (named `…images…idx3…`), .parquet, and \
         a list of files as .jsonl, .json, .csv or .tsv, each also with .gz"
    )]
    UnknownForm {
        /// The path.
        path: PathBuf,
    },

    /// There is no image at all.
    #[error("{path}: there are no images")]
    Empty {
        /// The folder or file.
        path: PathBuf,
    },

    /// Something in a folder of images is no image.
    #[error("{path}: {what}; {hint}")]
    Stray {
        /// What lies there.
        path: PathBuf,
        /// What it is.
        what: &'static str,
        /// What should be there.
        hint: &'static str,
    },

    /// A label is none of the fixed label set.
    #[error("{at}: the label `{label}` is not in the label set{}", nearest.hint())]
    UnknownLabel {
        /// The class folder or the row.
        at: Place,
        /// The label.
        label: String,
        /// The nearest label of the set.
        nearest: Nearest,
    },

    /// A label is a number for which the label set has no name.
    #[error("{at}: the label {label} is outside of the {classes} names there are")]
    LabelRange {
        /// The row.
        at: Place,
        /// The label.
        label: i64,
        /// How many names there are, for 0, 1, 2, …
        classes: usize,
    },

    /// A file does not begin as an IDX file of the kind does.
    #[error(
        "{path}: no IDX file of {what}: it begins with the bytes {found:02x?}, not with {wanted:02x?}"
    )]
    Magic {
        /// The file.
        path: PathBuf,
        /// `images` or `labels`.
        what: &'static str,
        /// Its first four bytes.
        found: [u8; 4],
        /// What they should be: unsigned bytes, and the number of dimensions.
        wanted: [u8; 4],
    },

    /// An IDX file is longer or shorter than its header says.
    #[error("{path}: the header promises {promised} bytes of {what}, but the file has {found}")]
    Length {
        /// The file.
        path: PathBuf,
        /// `images` or `labels`.
        what: &'static str,
        /// What the sizes in the header come to.
        promised: String,
        /// What is there.
        found: String,
    },

    /// The images of an IDX file are not as many as the labels of the other.
    #[error("{images} has {image_count} images, but {labels} has {label_count} labels")]
    Counts {
        /// The file of images.
        images: PathBuf,
        /// How many it has.
        image_count: usize,
        /// The file of labels.
        labels: PathBuf,
        /// How many it has.
        label_count: usize,
    },

    /// Bytes are of no format this crate decodes.
    #[error("no image: known are PNG, JPEG, GIF, BMP and WebP")]
    NoImage,

    /// An image is damaged, cut short, or uses what its decoder does not know.
    #[error("unreadable image: {reason}")]
    Unreadable {
        /// What the decoder said.
        reason: String,
    },

    /// An image is larger than this crate is willing to unpack.
    #[error("the image is too large: a side may have 65,536 pixels, and the whole 256 MiB")]
    TooLarge,

    /// An image would grow too large before it is cropped.
    #[error(
        "the image of {height}×{width} pixels would be resized to {to_height}×{to_width}: more than 256 MiB"
    )]
    Stretched {
        /// The image's height in pixels.
        height: usize,
        /// The image's width in pixels.
        width: usize,
        /// The height it would get.
        to_height: usize,
        /// The width it would get.
        to_width: usize,
    },

    /// An image has channels that have no fixed meaning as red, green and blue.
    #[error("an image of type {found} is not supported: convert it to RGB")]
    Channels {
        /// The type.
        found: String,
    },

    /// An image is not of the model's size, and the processor neither resizes nor crops.
    #[error(
        "the image has {height}×{width} pixels, but {to_height}×{to_width} are wanted and do_resize is off"
    )]
    Size {
        /// The image's height in pixels.
        height: usize,
        /// The image's width in pixels.
        width: usize,
        /// The height wanted.
        to_height: usize,
        /// The width wanted.
        to_width: usize,
    },

    /// Raw pixels do not fill the picture they are said to be.
    #[error("{height}×{width} pixels of {channels} channels do not come to {bytes} bytes")]
    Raw {
        /// The height in pixels.
        height: usize,
        /// The width in pixels.
        width: usize,
        /// Bytes a pixel.
        channels: usize,
        /// The bytes given.
        bytes: usize,
    },

    /// The settings of a processor are not a JSON object.
    #[error("{name}: not a JSON object: {reason}")]
    Json {
        /// The path, or the name it was given.
        name: String,
        /// What the parser said.
        reason: String,
    },

    /// The settings are for a processor of another kind, or do not say for which.
    #[error("{name}: unknown image processor {found}; known are {known}")]
    ProcessorType {
        /// The path, or the name it was given.
        name: String,
        /// The type named.
        found: String,
        /// The types known.
        known: String,
    },

    /// A setting has a value that cannot be used.
    #[error("{name}: `{key}` is {found}, but {wanted} is wanted")]
    Setting {
        /// The path, or the name it was given.
        name: String,
        /// The key.
        key: &'static str,
        /// The value.
        found: String,
        /// What could be used.
        wanted: &'static str,
    },

    /// A setting switches on what this crate does not do.
    #[error("{name}: `{key}`: {value} is not supported")]
    Unsupported {
        /// The path, or the name it was given.
        name: String,
        /// The key.
        key: String,
        /// The value.
        value: String,
    },

    /// A prompt template has not exactly one place for the class.
    #[error("the template `{template}` must have `{{}}` once, but has it {found} times")]
    Template {
        /// The template.
        template: String,
        /// How often it has `{}`.
        found: usize,
    },

    /// No prompt template was given.
    #[error("there is no prompt template")]
    NoTemplate,

    /// A class that wants a prompt has an empty name.
    #[error("class {class} has no name to put into a prompt")]
    NoName {
        /// The class, from 0.
        class: usize,
    },
}

impl Error {
    /// The same error, told where.
    pub(crate) fn at(self, at: Place) -> Self {
        Error::In {
            at,
            cause: Box::new(self),
        }
    }
}
