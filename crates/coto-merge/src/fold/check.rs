use std::path::Path;

use safetensors::tensor::TensorInfo;

use super::checkpoint::{Checkpoint, Shard};
use super::plan::Plan;
use super::report::{Checked, Squares};
use super::weight::{Row, Weight};
use super::{Adapter, FoldError};

/// What the f32 arithmetic of another program may differ by, relative to the numbers that it adds.
const ARITHMETIC: f64 = 1e-6;
const BYTES: usize = 1 << 22;

/// Whether a folded checkpoint is what folding the adapters into the base gives; it may be another program's, in other shards.
///
/// The tensors that are not adapted must be the base's, byte for byte. Of the others every entry may be two roundings of its
/// dtype away from W', and ‖stored − W'‖ twice what rounding W' makes; in f32, where that is next to nothing, 10⁻⁶ of W' are let
/// pass.
///
/// # Errors
/// [`FoldError::Tensors`], [`FoldError::Differs`] or [`FoldError::Drifts`] for the first tensor that is something else; as
/// [`fold`](super::fold) for what cannot be folded.
pub fn check(
    base: impl AsRef<Path>,
    folded: impl AsRef<Path>,
    adapters: &[Adapter],
) -> Result<Checked, FoldError> {
    let (base, folded) = (
        Checkpoint::open(base.as_ref())?,
        Checkpoint::open(folded.as_ref())?,
    );
    let plan = Plan::fold(&base, adapters)?;
    check_names(&base, &folded)?;
    let mut checked = Checked {
        tensors: base.names().count(),
        folded: 0,
        other_bits: 0,
        drift: 0.0,
    };
    for shard in &base.shards {
        for tensor in shard.header.offset_keys() {
            let info = shard.header.info(&tensor).expect("a key of this header");
            let other = folded.find(&tensor).expect("both have the same tensors");
            check_kind(&tensor, info, other.1)?;
            match plan.change(&tensor)? {
                None => check_copied(&tensor, (shard, info), other)?,
                Some((_, change)) => {
                    let weight = Weight::new(&tensor, shard, info, change);
                    let (squares, bits) = check_changed(&weight, other)?;
                    checked.folded += 1;
                    checked.other_bits += bits;
                    checked.drift = checked.drift.max(squares.drift());
                }
            }
        }
    }
    Ok(checked)
}

fn check_names(base: &Checkpoint, folded: &Checkpoint) -> Result<(), FoldError> {
    let only = |one: &Checkpoint, other: &Checkpoint, difference: &str| match one
        .names()
        .find(|name| other.find(name).is_none())
    {
        None => Ok(()),
        Some(name) => Err(FoldError::Tensors {
            tensor: name.to_owned(),
            difference: difference.to_owned(),
        }),
    };
    only(base, folded, "is not in the folded checkpoint")?;
    only(folded, base, "is not in the base checkpoint")
}

fn check_kind(tensor: &str, base: &TensorInfo, folded: &TensorInfo) -> Result<(), FoldError> {
    if (base.dtype, &base.shape) == (folded.dtype, &folded.shape) {
        return Ok(());
    }
    let text = |info: &TensorInfo| format!("{} {:?}", info.dtype, info.shape);
    Err(FoldError::Tensors {
        tensor: tensor.to_owned(),
        difference: format!(
            "is {} in the base and {} in the folded checkpoint",
            text(base),
            text(folded)
        ),
    })
}

fn check_copied(
    tensor: &str,
    (base, one): (&Shard, &TensorInfo),
    (folded, two): (&Shard, &TensorInfo),
) -> Result<(), FoldError> {
    let length = one.data_offsets.1 - one.data_offsets.0;
    let (mut due, mut found) = (Vec::new(), Vec::new());
    for start in (0..length).step_by(BYTES) {
        let size = BYTES.min(length - start);
        due.resize(size, 0);
        found.resize(size, 0);
        base.read(one.data_offsets.0 + start, &mut due)?;
        folded.read(two.data_offsets.0 + start, &mut found)?;
        if let Some(at) = (0..size).find(|&at| due[at] != found[at]) {
            return Err(FoldError::Tensors {
                tensor: tensor.to_owned(),
                difference: format!(
                    "is not adapted, but byte {} is another than in the base",
                    start + at
                ),
            });
        }
    }
    Ok(())
}

/// How far the stored rows are from what is due, and how many of their numbers are not those that folding writes.
fn check_changed(
    weight: &Weight,
    (shard, info): (&Shard, &TensorInfo),
) -> Result<(Squares, u64), FoldError> {
    let (mut found, mut rounding, mut other_bits) = (Squares::default(), Squares::default(), 0);
    let mut bytes = Vec::new();
    for rows in weight.blocks() {
        let place = weight.bytes(&rows);
        bytes.resize(place.len(), 0);
        shard.read(info.data_offsets.0 + place.start, &mut bytes)?;
        let each = weight.rows(rows, &mut bytes, |row: Row| {
            let stored = weight.float.read(row.bytes);
            check_row(weight, &row, &stored)?;
            let of = |stored: &[f64]| Squares::of(row.before, row.after, stored);
            let found = of(&stored);
            weight.float.write(row.after, row.bytes);
            let due = weight.float.read(row.bytes);
            let differ = stored.iter().zip(&due).filter(|(a, b)| a != b).count();
            Ok((found, of(&due), differ as u64))
        })?;
        for (row, rounded, differ) in &each {
            found.add(row);
            rounding.add(rounded);
            other_bits += differ;
        }
    }
    let allowed = 2.0 * rounding.drift() + ARITHMETIC;
    if found.drift() <= allowed {
        return Ok((found, other_bits));
    }
    Err(FoldError::Drifts {
        tensor: weight.tensor.to_owned(),
        found: found.drift(),
        allowed,
    })
}

fn check_row(weight: &Weight, row: &Row, stored: &[f64]) -> Result<(), FoldError> {
    let largest = |row: &[f64]| row.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
    let (u, size) = (weight.float.roundoff(), largest(row.after));
    let allowed = |before: f64, due: f64| {
        2.0 * u * (due.abs() + before.abs() + (due - before).abs()) + 4.0 * ARITHMETIC * size
    };
    let differs = |column: &usize| {
        let (before, due) = (row.before[*column], row.after[*column]);
        stored[*column].is_nan() || (stored[*column] - due).abs() > allowed(before, due)
    };
    match (0..stored.len()).find(differs) {
        None => Ok(()),
        Some(column) => Err(FoldError::Differs {
            tensor: weight.tensor.to_owned(),
            row: row.index,
            column,
            found: stored[column],
            expected: row.after[column],
        }),
    }
}
