//! GGUF model files: metadata and quantised tensors, read strictly and dequantised exactly.
//!
//! [`Gguf::open`] reads a file's header, never its weights; each tensor is read when it is asked for, whole or a few
//! rows at a time. Versions 2 and 3 of the format are read, little-endian, with the types of [`GgmlType`]. The format
//! is that of the GGUF specification (`docs/gguf.md` of ggml), the block layouts are those of ggml (`ggml-common.h`),
//! and the dequantised values are those of its Python package `gguf`, bit for bit. A file is taken to be hostile:
//! nothing is allocated before its size has been held against the size of the file.
//!
//! ```
//! use coto_gguf::{GgmlType, Gguf};
//!
//! let gguf = Gguf::open("goldens/types.gguf")?;
//! assert_eq!(gguf.metadata().get_str("general.architecture")?, "golden");
//!
//! let weight = gguf.tensor("matrix.Q4_1")?;
//! assert_eq!((weight.dtype(), weight.shape()), (GgmlType::Q4_1, &[4, 256][..])); // [out, in], as in PyTorch
//! let values: Vec<f32> = weight.dequantise()?; // row-major
//! assert_eq!(weight.dequantise_row_range(1..3)?, values[256..3 * 256]);
//!
//! let error = gguf.metadata().get_u32("general.aligment").unwrap_err();
//! assert!(error.to_string().contains("nearest: `general.alignment`"));
//! # Ok::<(), coto_gguf::Error>(())
//! ```

mod dequant;
mod error;
mod gguf;
mod groups;
mod metadata;
mod nearest;
mod reader;
mod tensor;
mod types;
mod value;

pub use dequant::{dequantise, dequantise_row_range};
pub use error::Error;
pub use gguf::Gguf;
pub use groups::{Groups, groups};
pub use metadata::Metadata;
pub use tensor::Tensor;
pub use types::GgmlType;
pub use value::{Array, Value, ValueType};
