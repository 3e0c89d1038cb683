use std::path::{Path, PathBuf};

use coto_peft::{Dtype, hint};
use safetensors::SafeTensorError;

/// Why an adapter is not folded, unfolded, checked or exported, one variant per cause.
///
/// Every message is complete in itself: a cause is part of the text, not a [`source`](std::error::Error::source).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FoldError {
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
    /// The folder is no checkpoint that is read here.
    #[error(
        "`{}` has neither `model.safetensors` nor `model.safetensors.index.json`{}",
        folder.display(),
        if *pickle { ", only a pickle, which is not read here: save it with safe_serialization" } else { "" }
    )]
    NoCheckpoint {
        /// The folder.
        folder: PathBuf,
        /// Whether it holds a pickled checkpoint.
        pickle: bool,
    },
    /// A JSON file does not parse, or is not what it should be.
    #[error("`{}`: {cause}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What the parser met.
        cause: serde_json::Error,
    },
    /// The index contradicts itself or the files beside it.
    #[error("`{}`: {reason}", path.display())]
    Index {
        /// The index.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A tensor file is cut short, too long, or its header makes no sense.
    #[error("`{}` is cut short or not a sound safetensors file: {cause}", path.display())]
    SafeTensors {
        /// The file.
        path: PathBuf,
        /// What the reader met.
        cause: SafeTensorError,
    },
    /// Two files have the same tensor.
    #[error("tensor `{tensor}` is in `{}` and in `{}`", first.display(), second.display())]
    Twice {
        /// The tensor's name.
        tensor: String,
        /// One file.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// No adapter to fold.
    #[error("there is no adapter to fold")]
    NoAdapter,
    /// What cannot be folded, or not be taken out again.
    #[error("{variant} cannot be {done}: {reason}")]
    Refused {
        /// The variant's name.
        variant: &'static str,
        /// What was asked for: "folded …", "unfolded", …
        done: String,
        /// Why, and what would do.
        reason: &'static str,
    },
    /// A weight that is no number.
    #[error("the weight of adapter {adapter} is {weight}, but must be finite")]
    Weight {
        /// Which adapter, from 0.
        adapter: usize,
        /// Its weight.
        weight: f64,
    },
    /// The adapter was made for another model.
    #[error(
        "module `{module}` is in no tensor of the checkpoint: none is named `{module}.weight`, with or without a prefix{}",
        hint(nearest)
    )]
    UnknownModule {
        /// The module's path.
        module: String,
        /// The nearest names.
        nearest: Vec<String>,
    },
    /// A path that could mean several tensors.
    #[error(
        "module `{module}` could be any of {}: adapt the model under its whole paths",
        list(candidates)
    )]
    Ambiguous {
        /// The module's path.
        module: String,
        /// The tensors that end so.
        candidates: Vec<String>,
    },
    /// A weight that is no matrix of floats.
    #[error(
        "tensor `{tensor}` of module `{module}` is {dtype}: an update is folded into F64, F32, F16 and BF16 only; fold into the checkpoint from before the quantisation"
    )]
    Dtype {
        /// The tensor's name.
        tensor: String,
        /// The module's path.
        module: String,
        /// The tensor's dtype.
        dtype: Dtype,
    },
    /// A weight of other sizes than the update.
    #[error(
        "tensor `{tensor}` has shape {found:?}, but the update of module `{module}` has {expected:?}"
    )]
    Shape {
        /// The tensor's name.
        tensor: String,
        /// Its shape.
        found: Vec<usize>,
        /// The module's path.
        module: String,
        /// The update's shape, [out, in].
        expected: [usize; 2],
    },
    /// An entry that does not come out as a finite number.
    #[error("tensor `{tensor}`, row {row}: {reason}")]
    Entry {
        /// The tensor's name.
        tensor: String,
        /// The row, from 0.
        row: usize,
        /// What is wrong with an entry of it.
        reason: String,
    },
    /// The folder to write is there and not empty.
    #[error("`{}` holds `{entry}`: a checkpoint is written to a folder that does not exist or is empty", path.display())]
    Occupied {
        /// The folder.
        path: PathBuf,
        /// Something in it.
        entry: String,
    },
    /// The same adapter a second time.
    #[error("`{}` has adapter {fingerprint} folded in already", folder.display())]
    Already {
        /// The checkpoint's folder.
        folder: PathBuf,
        /// The adapter's fingerprint.
        fingerprint: String,
    },
    /// An adapter that is not in the checkpoint.
    #[error("`{}` does not have adapter {fingerprint} with weight {weight} folded in, says its `coto_fold.json`", folder.display())]
    NotFolded {
        /// The checkpoint's folder.
        folder: PathBuf,
        /// The adapter's fingerprint.
        fingerprint: String,
        /// Its weight.
        weight: f64,
    },
    /// Two checkpoints that do not have the same tensors.
    #[error("tensor `{tensor}` {difference}")]
    Tensors {
        /// The tensor's name.
        tensor: String,
        /// How the checkpoints differ in it.
        difference: String,
    },
    /// A folded checkpoint is not what folding gives.
    #[error(
        "tensor `{tensor}`, row {row}, column {column}: {found} is stored where {expected} is due"
    )]
    Differs {
        /// The tensor's name.
        tensor: String,
        /// The row, from 0; of a tensor that is not adapted 0.
        row: usize,
        /// The column, from 0; of a tensor that is not adapted the byte.
        column: usize,
        /// What is stored.
        found: f64,
        /// What is due.
        expected: f64,
    },
    /// A folded tensor is further from what is due than rounding explains, though no single entry is.
    #[error(
        "tensor `{tensor}` is {found:.2e} of its norm away from what is due, where rounding explains {allowed:.2e}"
    )]
    Drifts {
        /// The tensor's name.
        tensor: String,
        /// ‖stored − due‖ / ‖due‖.
        found: f64,
        /// What is let pass.
        allowed: f64,
    },
    /// What vLLM does not load.
    #[error("vLLM does not load this adapter: {reason}")]
    Vllm {
        /// Why, and the way out.
        reason: String,
    },
    /// `merged` without a base.
    #[error("target `merged` needs the folder of the base checkpoint")]
    NoBase,
    /// The adapter folder's own error.
    #[error(transparent)]
    Peft(#[from] coto_peft::Error),
    /// The algebra's own error.
    #[error(transparent)]
    LowRank(#[from] coto_lowrank::Error),
}

impl FoldError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |cause| Self::Io {
            action,
            path,
            cause,
        }
    }
}

fn list(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}
