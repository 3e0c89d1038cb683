use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensorError};

use crate::hint;

/// Everything that can be wrong with an adapter folder, one variant per cause.
///
/// Every message is complete in itself: a cause is part of the text, not a [`source`](std::error::Error::source).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another error, and the file, module or tensor it was met in.
    #[error("{place}: {cause}")]
    In {
        /// The file's path, or the tensor's key.
        place: String,
        /// What is wrong there.
        cause: Box<Error>,
    },
    /// The operating system refused to read or write.
    #[error("cannot {action} `{}`: {cause}", path.display())]
    Io {
        /// What was tried: "read", "write", …
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        cause: std::io::Error,
    },
    /// A file that every adapter folder has is not there.
    #[error("`{}` is not an adapter folder: it has no `{file}`", folder.display())]
    MissingFile {
        /// The folder.
        folder: PathBuf,
        /// The name of the file.
        file: &'static str,
    },
    /// The folder holds its tensors only as a pickle, which can run code when read.
    #[error(
        "`{}` is a pickle, which is not read here; convert it to `adapter_model.safetensors` first \
         (in Python: safetensors.torch.save_file(torch.load(…, weights_only=True), …, metadata={{\"format\": \"pt\"}}))",
        path.display()
    )]
    Pickle {
        /// The pickled file.
        path: PathBuf,
    },
    /// A JSON file is not UTF-8.
    #[error("`{}` is not UTF-8: byte {offset} is the first wrong one", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// Offset of the first byte that does not belong, from 0.
        offset: usize,
    },
    /// A JSON file does not parse; the cause holds line and column.
    #[error("`{}` is not valid JSON: {cause}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What the parser met, with line and column.
        cause: serde_json::Error,
    },
    /// The tensor file is shorter, or longer, than its own header says.
    #[error("`{}` is cut short or has bytes to spare: {cause}", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// What the reader met.
        cause: SafeTensorError,
    },
    /// The tensor file's header makes no sense, or the file cannot be formed.
    #[error("`{}` is not a sound safetensors file: {cause}", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// What the reader or writer met.
        cause: SafeTensorError,
    },
    /// The configuration is of an adapter type that is not implemented.
    #[error(
        "peft_type {found} is not supported: LORA and HIRA are{}",
        hint(nearest)
    )]
    PeftType {
        /// The type as found (JSON text).
        found: String,
        /// The nearest supported types.
        nearest: Vec<String>,
    },
    /// A field of the configuration has a value it cannot have.
    #[error("field `{field}` is {value}, but must be {expected}")]
    Field {
        /// The field, `pattern.entry` inside a map.
        field: String,
        /// Its value (JSON text).
        value: String,
        /// What would be right.
        expected: String,
    },
    /// A field asks for mathematics that this library does not have.
    #[error("field `{field}` is {value}, which is not supported: {reason}")]
    Unsupported {
        /// The field.
        field: String,
        /// Its value (JSON text).
        value: String,
        /// What the field would change.
        reason: &'static str,
    },
    /// A regular expression cannot be used.
    #[error("field `{field}`: the pattern `{pattern}` cannot be used: {reason}")]
    Regex {
        /// The field that holds it.
        field: &'static str,
        /// The pattern as written.
        pattern: String,
        /// Why not.
        reason: String,
    },
    /// `target_modules` is null, so nothing says what to adapt.
    #[error("field `target_modules` is null: name the modules to adapt, or \"all-linear\"")]
    NoTargets,
    /// The configuration chooses no module of the model at all.
    #[error(
        "no module is adapted: target_modules {targets} chooses none of the {modules} modules{}",
        hint(nearest)
    )]
    NothingTargeted {
        /// The targets (JSON text).
        targets: String,
        /// How many modules there were to choose from.
        modules: usize,
        /// The nearest module names.
        nearest: Vec<String>,
    },
    /// One entry of the target list names no module (PEFT would go on in silence).
    #[error(
        "target_modules entry `{entry}` is the name of no module{}",
        hint(nearest)
    )]
    UnmatchedTarget {
        /// The entry.
        entry: String,
        /// The nearest module names.
        nearest: Vec<String>,
    },
    /// The tensor file adapts a module that the configuration does not choose; PEFT would drop its tensors.
    #[error(
        "module `{module}` has tensors, but the configuration does not choose it: target_modules is {targets}"
    )]
    NotTargeted {
        /// The module's path.
        module: String,
        /// The targets (JSON text).
        targets: String,
    },
    /// The folder has no tensor at all.
    #[error("the adapter has no tensor")]
    NoTensors,
    /// A key is not `base_model.model.<module path>.<param>` with a parameter known here.
    #[error("tensor key `{key}` is not understood: {reason}{}", hint(nearest))]
    Key {
        /// The key.
        key: String,
        /// Which part is wrong.
        reason: &'static str,
        /// The nearest right names.
        nearest: Vec<String>,
    },
    /// A module lacks a tensor of its variant.
    #[error("tensor `{key}` is missing")]
    MissingTensor {
        /// The key that should be there.
        key: String,
    },
    /// A module has a tensor that its variant has not.
    #[error("tensor `{key}` is one too many: {reason}")]
    UnexpectedTensor {
        /// The key.
        key: String,
        /// Why it should not be there.
        reason: String,
    },
    /// A tensor's shape does not fit the configuration or its sister tensor.
    #[error("tensor `{key}` has shape {found:?}, but must be {expected}")]
    Shape {
        /// The key.
        key: String,
        /// Its shape.
        found: Vec<usize>,
        /// What would be right.
        expected: String,
    },
    /// The bytes of a tensor are not as many as dtype and shape say.
    #[error("a {dtype} tensor of shape {shape:?} cannot have {bytes} bytes")]
    Length {
        /// The dtype.
        dtype: Dtype,
        /// The shape.
        shape: Vec<usize>,
        /// How many bytes there are.
        bytes: usize,
    },
    /// A dtype that cannot be read as f32.
    #[error("dtype {dtype} is none of F32, F16, BF16, F64")]
    Dtype {
        /// The dtype.
        dtype: Dtype,
    },
    /// A weight is NaN or infinite.
    #[error("tensor `{key}` holds {value} at flat index {index}")]
    NotFinite {
        /// The key.
        key: String,
        /// Row-major position of the first such weight.
        index: usize,
        /// The weight, as f32.
        value: f32,
    },
    /// The folder to replace holds things that are no part of an adapter and would be lost.
    #[error("`{}` holds `{entry}`, which is no part of an adapter: save to another folder", path.display())]
    Occupied {
        /// The folder.
        path: PathBuf,
        /// The first such entry.
        entry: String,
    },
}

impl Error {
    pub(crate) fn at(self, place: impl std::fmt::Display) -> Self {
        Self::In {
            place: place.to_string(),
            cause: Box::new(self),
        }
    }

    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |cause| Self::Io {
            action,
            path,
            cause,
        }
    }
}
