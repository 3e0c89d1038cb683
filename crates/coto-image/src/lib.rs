//! Labelled images on their way into a model: folders, IDX files, Parquet files and lists, decoded lazily and prepared as the
//! processors of ViT and CLIP do.
//!
//! An [`ImageSet`] knows where images are and which class each has, a [`Processor`] what a model wants of them. The crate knows no
//! tensor library: pixels are a plain vector [channels, height, width]. Resizing is Pillow's, to the bit. A file is taken to be
//! hostile: nothing is allocated before its size has been held against a limit.
//!
//! ```
//! use coto_image::{ImageColumns, ImageSet, Processor};
//!
//! let set = ImageSet::load("goldens/sets/folder", &ImageColumns::default(), None)?;
//! assert_eq!(set.labels(), ["blue", "red"]);
//!
//! let settings = r#"{"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32}}"#;
//! let processor = Processor::from_json("settings", settings)?;
//! assert_eq!(processor.shape(), [3, 32, 32]);
//!
//! let few = set.few_shot(1, 7); // one of each class, under seed 7
//! for index in 0..few.len() {
//!     let pixels: Vec<f32> = few.pixels(index, &processor)?;
//!     assert_eq!((pixels.len(), few.label(index)), (3 * 32 * 32, index));
//! }
//! # Ok::<(), coto_image::Error>(())
//! ```

mod error;
mod folder;
mod idx;
mod names;
mod parquet_file;
mod picture;
mod processor;
mod prompt;
mod resize;
mod set;
mod settings;

pub use error::Error;
pub use picture::{Mode, Picture};
pub use processor::Processor;
pub use prompt::{PHOTO, prompts};
pub use set::{ImageColumns, ImageSet};
