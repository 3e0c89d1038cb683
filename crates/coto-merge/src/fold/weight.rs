use std::ops::Range;

use rayon::prelude::*;
use safetensors::tensor::TensorInfo;

use super::FoldError;
use super::change::Change;
use super::checkpoint::Shard;
use super::float::Float;

/// Numbers of a block: few enough that what a block needs, some 20 bytes each, is little beside a large tensor.
const BLOCK: usize = 1 << 21;

/// A tensor of a checkpoint and what is done to it.
#[derive(Debug)]
pub(crate) struct Weight<'a> {
    pub tensor: &'a str,
    pub float: Float,
    shard: &'a Shard,
    info: &'a TensorInfo,
    change: Change,
}

/// A row on its way.
#[derive(Debug)]
pub(crate) struct Row<'a> {
    pub index: usize,
    /// As it is stored.
    pub before: &'a [f64],
    /// As it is to be, not yet rounded to the dtype.
    pub after: &'a [f64],
    /// The row's place in the other bytes.
    pub bytes: &'a mut [u8],
}

impl<'a> Weight<'a> {
    /// A tensor whose shape and dtype the plan has checked.
    pub fn new(tensor: &'a str, shard: &'a Shard, info: &'a TensorInfo, change: Change) -> Self {
        let float = Float::of(info.dtype).expect("checked by the plan");
        Self {
            tensor,
            float,
            shard,
            info,
            change,
        }
    }

    /// The tensor's rows, block by block.
    pub fn blocks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let [rows, width] = self.change.dims();
        let each = (BLOCK / width.max(1)).max(1);
        (0..rows)
            .step_by(each)
            .map(move |start| start..rows.min(start + each))
    }

    /// Where some rows lie in the tensor's data.
    pub fn bytes(&self, rows: &Range<usize>) -> Range<usize> {
        let width = self.row_bytes();
        rows.start * width..rows.end * width
    }

    fn row_bytes(&self) -> usize {
        self.change.dims()[1] * self.float.size()
    }

    /// Shows every row of a block to `row`, beside its place in `bytes`, and gives what that says of them, in order.
    pub fn rows<T: Send>(
        &self,
        rows: Range<usize>,
        bytes: &mut [u8],
        row: impl Fn(Row) -> Result<T, FoldError> + Sync,
    ) -> Result<Vec<T>, FoldError> {
        let place = self.bytes(&rows);
        let mut stored = vec![0; place.len()];
        self.shard
            .read(self.info.data_offsets.0 + place.start, &mut stored)?;
        let product = self.change.product(rows.clone());
        let width = self.row_bytes().max(1);
        let pairs = bytes.par_chunks_mut(width).zip(stored.par_chunks(width));
        let each = pairs.enumerate().map(|(at, (bytes, stored))| {
            let index = rows.start + at;
            let before = self.float.read(stored);
            let mut after = before.clone();
            let changed = self.change.apply(index, product.row(at), &mut after);
            changed.map_err(|reason| self.wrong(index, reason))?;
            row(Row {
                index,
                before: &before,
                after: &after,
                bytes,
            })
        });
        // Of several wrong rows the first is told, whichever thread comes upon one first.
        let each: Vec<Result<T, FoldError>> = each.collect();
        each.into_iter().collect()
    }

    pub fn wrong(&self, row: usize, reason: String) -> FoldError {
        FoldError::Entry {
            tensor: self.tensor.to_owned(),
            row,
            reason,
        }
    }
}
