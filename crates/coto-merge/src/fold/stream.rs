//! Folding and unfolding, tensor by tensor and block of rows by block of rows.

use std::path::{Path, PathBuf};
use std::time::Instant;

use safetensors::tensor::TensorInfo;

use super::checkpoint::{Checkpoint, Shard};
use super::others::Others;
use super::plan::Plan;
use super::record::{RECORD, Record};
use super::report::{Folded, Report, Squares};
use super::staging::{Output, Staging};
use super::weight::{Row, Weight};
use super::{Adapter, FoldError};

const COPY: usize = 1 << 23;

/// Folds adapters into the checkpoint in the folder `base` and writes the new checkpoint's folder.
///
/// LoRA and rsLoRA: W' = W + Σ wₖ sₖ Bₖ Aₖ. DoRA, alone and with weight 1: W' = diag(m / ‖W + s B A‖)(W + s B A), the norm of each
/// row. HiRA, alone: W' = W ⊙ (1 + w B A). The product is taken in f32 and W' rounded once, to the tensor's dtype. Files, the order
/// of the tensors, their dtypes, the headers and all other tensors are the base's, byte for byte; other files are copied, but for
/// weights in other formats. The folder also gets a `coto_fold.json`, by which the same adapter is not folded in twice.
///
/// The memory needed does not grow with the tensors: beside the adapters some 50 MB. All is checked before anything is
/// written, and the folder appears whole or not at all.
///
/// # Errors
/// What is wrong with the base ([`FoldError::NoCheckpoint`] …), with an adapter ([`FoldError::Peft`]) or with both together
/// ([`FoldError::UnknownModule`], [`Ambiguous`](FoldError::Ambiguous), [`Shape`](FoldError::Shape),
/// [`Dtype`](FoldError::Dtype)); [`FoldError::Refused`]; [`FoldError::Already`]; [`FoldError::Entry`] for a result that is not
/// finite in the dtype; [`FoldError::Occupied`] unless `out` does not exist or is empty; [`FoldError::Io`].
pub fn fold(
    base: impl AsRef<Path>,
    adapters: &[Adapter],
    out: impl AsRef<Path>,
) -> Result<Report, FoldError> {
    let base = Checkpoint::open(base.as_ref())?;
    let plan = Plan::fold(&base, adapters)?;
    let record = Record::read(&base.folder)?.unwrap_or_default();
    let record = record.with(&base.folder, adapters)?;
    write(&base, &plan, &record, out.as_ref())
}

/// Takes adapters out of a folded checkpoint again, and writes the folder of what is left: W = W' − Σ wₖ sₖ Bₖ Aₖ, or for HiRA
/// W = W' ⊘ (1 + w B A), up to the rounding of W' to its dtype.
///
/// # Errors
/// As [`fold`]; [`FoldError::Refused`] for DoRA, whose norms are lost; [`FoldError::NotFolded`] where the checkpoint's record does
/// not have an adapter; [`FoldError::Entry`] where 1 + B A is too near to 0.
pub fn unfold(
    folded: impl AsRef<Path>,
    adapters: &[Adapter],
    out: impl AsRef<Path>,
) -> Result<Report, FoldError> {
    let folded = Checkpoint::open(folded.as_ref())?;
    let plan = Plan::unfold(&folded, adapters)?;
    let record = match Record::read(&folded.folder)? {
        Some(record) => record.without(&folded.folder, adapters)?,
        None => Record::default(), // folded by someone else
    };
    write(&folded, &plan, &record, out.as_ref())
}

fn write(base: &Checkpoint, plan: &Plan, record: &Record, out: &Path) -> Result<Report, FoldError> {
    let start = Instant::now();
    let others = Others::of(base)?;
    let staging = Staging::beside(out)?;
    let mut folded = Vec::new();
    let mut bytes = 0;
    for shard in &base.shards {
        bytes += (shard.head.len() + shard.header.data_len()) as u64;
        write_shard(shard, plan, &staging, &mut folded)?;
    }
    for path in &others.copied {
        bytes += staging.copy(&base.folder.join(path), path)?;
    }
    if !record.is_empty() {
        let text = record.to_text();
        let mut file = staging.create(RECORD)?;
        file.write(text.as_bytes())?;
        file.finish()?;
        bytes += text.len() as u64;
    }
    staging.commit()?;
    let largest = |of: fn(&Folded) -> f64| folded.iter().map(of).fold(0.0, f64::max);
    let text = |paths: Vec<PathBuf>| {
        let paths = paths.iter().map(|path| path.to_string_lossy().into_owned());
        paths.collect()
    };
    Ok(Report {
        tensors: base.names().count(),
        bytes,
        seconds: start.elapsed().as_secs_f64(),
        drift: largest(|tensor| tensor.drift),
        lost: largest(|tensor| tensor.lost),
        copied: text(others.copied),
        left_out: text(others.left_out),
        folded,
    })
}

/// Writes one file: the base's head as it is, then the tensors in their order.
fn write_shard(
    shard: &Shard,
    plan: &Plan,
    staging: &Staging,
    folded: &mut Vec<Folded>,
) -> Result<(), FoldError> {
    let mut file = staging.create(&shard.name())?;
    file.write(&shard.head)?;
    for tensor in shard.header.offset_keys() {
        let info = shard.header.info(&tensor).expect("a key of this header");
        match plan.change(&tensor)? {
            None => copy(shard, info, &mut file)?,
            Some((module, change)) => {
                let shape = change.dims();
                let weight = Weight::new(&tensor, shard, info, change);
                let squares = write_changed(&weight, &mut file)?;
                folded.push(Folded {
                    module: module.to_owned(),
                    shape,
                    dtype: info.dtype.to_string(),
                    drift: squares.drift(),
                    lost: squares.lost(),
                    tensor,
                });
            }
        }
    }
    file.finish()
}

fn copy(shard: &Shard, info: &TensorInfo, file: &mut Output) -> Result<(), FoldError> {
    let (from, to) = info.data_offsets;
    let mut bytes = vec![0; COPY.min(to - from)];
    for start in (from..to).step_by(COPY) {
        let part = &mut bytes[..COPY.min(to - start)];
        shard.read(start, part)?;
        file.write(part)?;
    }
    Ok(())
}

fn write_changed(weight: &Weight, file: &mut Output) -> Result<Squares, FoldError> {
    let mut all = Squares::default();
    let mut bytes = Vec::new();
    for rows in weight.blocks() {
        bytes.resize(weight.bytes(&rows).len(), 0);
        let squares = weight.rows(rows, &mut bytes, |row: Row| {
            weight.float.write(row.after, row.bytes);
            let stored = weight.float.read(row.bytes);
            if let Some(column) = stored.iter().position(|x| !x.is_finite()) {
                let (from, to) = (row.before[column], row.after[column]);
                let reason = format!(
                    "column {column} becomes {to:e} from {from:e}, which is no finite {:?}",
                    weight.float
                );
                return Err(weight.wrong(row.index, reason));
            }
            Ok(Squares::of(row.before, row.after, &stored))
        })?;
        squares.iter().for_each(|row| all.add(row));
        file.write(&bytes)?;
    }
    Ok(all)
}
