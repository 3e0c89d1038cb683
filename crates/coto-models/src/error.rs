use std::path::PathBuf;

/// What can be wrong with a model's files or the place it runs.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A configuration that does not parse.
    #[error("{path}: {source}")]
    Config {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A configuration whose model is not known here.
    #[error("{path}: {field} = `{value}` is not supported; there are {known}")]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// The values there are.
        known: &'static str,
    },
    /// A configuration that contradicts itself.
    #[error("{path}: {reason}")]
    Inconsistent {
        /// The file.
        path: PathBuf,
        /// What contradicts what.
        reason: String,
    },
    /// A tensor file whose header or data is broken.
    #[error("{path}: not a whole safetensors file: {source}")]
    SafeTensors {
        /// The file.
        path: PathBuf,
        /// What is broken.
        source: safetensors::SafeTensorError,
    },
    /// A tensor that the model needs and the file lacks.
    #[error("{path}: tensor `{key}` is missing{}", hint(nearest))]
    MissingTensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        key: String,
        /// The nearest name in the file.
        nearest: Option<String>,
    },
    /// A tensor that the model has no place for.
    #[error("{path}: tensor `{key}` has no place in this model")]
    ExtraTensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        key: String,
    },
    /// A tensor of the wrong shape.
    #[error("{path}: tensor `{key}` has shape {found:?}, expected {expected:?}")]
    Shape {
        /// The file.
        path: PathBuf,
        /// The tensor.
        key: String,
        /// The shape in the file.
        found: Vec<usize>,
        /// The shape that the configuration asks for.
        expected: Vec<usize>,
    },
    /// A tensor of a type that is not read here.
    #[error("{path}: tensor `{key}` has type {dtype}; there are F32, F16, BF16 and I8 with scales")]
    Dtype {
        /// The file.
        path: PathBuf,
        /// The tensor.
        key: String,
        /// Its type.
        dtype: String,
    },
    /// A weight that is not a number.
    #[error("{path}: tensor `{key}` is not finite at element {index}")]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The tensor.
        key: String,
        /// The first such element.
        index: usize,
    },
    /// A GGUF file that is broken, or lacks something.
    #[error(transparent)]
    Gguf(#[from] coto_gguf::Error),
    /// Neither a folder nor something that can be fetched.
    #[error("model `{name}`: {reason}")]
    NotFound {
        /// The name or path.
        name: String,
        /// Where was looked and why nothing came.
        reason: String,
    },
    /// A pooling that the model's family does not have.
    #[error("model.pooling: {family} has {known}")]
    Pooling {
        /// The family.
        family: &'static str,
        /// What it has.
        known: &'static str,
    },
    /// A device that this build or machine does not have.
    #[error("device `{name}`: {reason}")]
    Device {
        /// The name.
        name: String,
        /// Why not.
        reason: &'static str,
    },
}

impl Error {
    pub(crate) fn io(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io {
            path: path.into(),
            source,
        }
    }
}

fn hint(nearest: &Option<String>) -> String {
    nearest
        .as_ref()
        .map(|name| format!("; the nearest is `{name}`"))
        .unwrap_or_default()
}
