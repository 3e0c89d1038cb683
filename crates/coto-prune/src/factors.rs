use std::collections::BTreeMap;

use coto_peft::{Config, HostTensor, Param};

/// A module's A [r, in] and B [out, r], as they are in the folder.
pub(crate) fn of<'a>(
    config: &Config,
    tensors: &BTreeMap<Param, &'a HostTensor>,
) -> [&'a HostTensor; 2] {
    config.peft_type.factors().map(|param| tensors[&param])
}

/// The factor with zeros, bit for bit +0, where `zero` says so by the row-major index.
pub(crate) fn zeroed(tensor: &HostTensor, zero: &[bool]) -> HostTensor {
    let mut tensor = tensor.clone();
    let size = tensor.dtype.bitsize() / 8;
    for (bytes, _) in tensor
        .data
        .chunks_exact_mut(size)
        .zip(zero)
        .filter(|(_, zero)| **zero)
    {
        bytes.fill(0);
    }
    tensor
}

/// Some rows of a factor, bit for bit.
pub(crate) fn rows(tensor: &HostTensor, rows: &[usize]) -> HostTensor {
    let size = tensor.dtype.bitsize() / 8 * tensor.shape[1];
    let data = rows
        .iter()
        .flat_map(|row| &tensor.data[row * size..][..size]);
    HostTensor {
        dtype: tensor.dtype,
        shape: vec![rows.len(), tensor.shape[1]],
        data: data.copied().collect(),
    }
}

/// Some columns of a factor, bit for bit.
pub(crate) fn columns(tensor: &HostTensor, columns: &[usize]) -> HostTensor {
    let size = tensor.dtype.bitsize() / 8;
    let all = tensor.data.chunks_exact(size * tensor.shape[1]);
    let data = all.flat_map(|row| {
        columns
            .iter()
            .flat_map(move |column| &row[column * size..][..size])
    });
    HostTensor {
        dtype: tensor.dtype,
        shape: vec![tensor.shape[0], columns.len()],
        data: data.copied().collect(),
    }
}
