use std::ops::Range;

use half::f16;

use crate::{Error, GgmlType};

/// The values of `elements` stored elements, in their order: exact from F32, F16 and BF16, and from quantised blocks
/// in f32 arithmetic, with the operations and their order of the Python package `gguf`. A NaN stays a NaN; only of F16
/// its payload may change.
///
/// # Errors
/// [`Error::Length`] when `bytes` is not as long as `dtype` and `elements` say.
pub fn dequantise(dtype: GgmlType, bytes: &[u8], elements: usize) -> Result<Vec<f32>, Error> {
    if dtype.bytes(elements) != Some(bytes.len()) {
        return Err(Error::Length {
            dtype,
            elements,
            bytes: bytes.len(),
        });
    }
    let mut values = vec![0.0; elements];
    match dtype {
        GgmlType::F32 => each(bytes, &mut values, |b, [v]| *v = f32::from_le_bytes(*b)),
        GgmlType::F16 => each(bytes, &mut values, |b, [v]| {
            *v = f16::from_le_bytes(*b).to_f32()
        }),
        GgmlType::BF16 => each(bytes, &mut values, |&[low, high], [v]| {
            *v = f32::from_le_bytes([0, 0, low, high]);
        }),
        GgmlType::Q4_0 => each(bytes, &mut values, q4_0),
        GgmlType::Q4_1 => each(bytes, &mut values, q4_1),
        GgmlType::Q8_0 => each(bytes, &mut values, q8_0),
        GgmlType::Q4K => each(bytes, &mut values, q4_k),
        GgmlType::Q6K => each(bytes, &mut values, q6_k),
    }
    Ok(values)
}

/// The values of some rows of a stored matrix: `bytes` is the whole of it, row-major, with `columns` elements a row.
///
/// # Errors
/// [`Error::Block`] when a row is no whole number of blocks, [`Error::Length`] when `bytes` is no whole number of rows,
/// [`Error::Rows`] when the matrix does not have the rows.
pub fn dequantise_row_range(
    dtype: GgmlType,
    bytes: &[u8],
    columns: usize,
    rows: Range<usize>,
) -> Result<Vec<f32>, Error> {
    let size = row_bytes(dtype, columns)?;
    let available = bytes.len().checked_div(size).unwrap_or(0);
    if available * size != bytes.len() {
        return Err(Error::Length {
            dtype,
            elements: available.saturating_mul(columns),
            bytes: bytes.len(),
        });
    }
    check_rows(&rows, available)?;
    dequantise(
        dtype,
        &bytes[rows.start * size..rows.end * size],
        rows.len() * columns,
    )
}

/// The size of a row of so many elements, in bytes.
pub(crate) fn row_bytes(dtype: GgmlType, columns: usize) -> Result<usize, Error> {
    dtype.bytes(columns).ok_or(Error::Block {
        dtype,
        columns: columns as u64,
    })
}

pub(crate) fn check_rows(rows: &Range<usize>, available: usize) -> Result<(), Error> {
    if rows.start > rows.end || rows.end > available {
        return Err(Error::Rows {
            rows: rows.clone(),
            available,
        });
    }
    Ok(())
}

fn each<const BYTES: usize, const ELEMENTS: usize>(
    bytes: &[u8],
    values: &mut [f32],
    block: impl Fn(&[u8; BYTES], &mut [f32; ELEMENTS]),
) {
    let (blocks, _) = bytes.as_chunks();
    let (values, _) = values.as_chunks_mut();
    for (b, v) in blocks.iter().zip(values) {
        block(b, v);
    }
}

fn half(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// Scale, then nibbles: the low ones are elements 0 to 15, the high ones 16 to 31.
fn q4_0(block: &[u8; 18], values: &mut [f32; 32]) {
    let scale = half(block, 0);
    let (low, high) = values.split_at_mut(16);
    for ((low, high), byte) in low.iter_mut().zip(high).zip(&block[2..]) {
        *low = scale * f32::from((byte & 15) as i8 - 8);
        *high = scale * f32::from((byte >> 4) as i8 - 8);
    }
}

/// Scale, minimum, then nibbles as in Q4_0.
fn q4_1(block: &[u8; 20], values: &mut [f32; 32]) {
    let (scale, min) = (half(block, 0), half(block, 2));
    let (low, high) = values.split_at_mut(16);
    for ((low, high), byte) in low.iter_mut().zip(high).zip(&block[4..]) {
        *low = scale * f32::from(byte & 15) + min;
        *high = scale * f32::from(byte >> 4) + min;
    }
}

/// Scale, then signed bytes.
fn q8_0(block: &[u8; 34], values: &mut [f32; 32]) {
    let scale = half(block, 0);
    for (value, &byte) in values.iter_mut().zip(&block[2..]) {
        *value = f32::from(byte as i8) * scale;
    }
}

/// Scale of the scales, scale of the minimums, 12 bytes of scales and minimums, then four runs of 32 bytes whose low
/// nibbles are one group of 32 elements and whose high nibbles are the next.
fn q4_k(block: &[u8; 144], values: &mut [f32; 256]) {
    let (scale, min) = (half(block, 0), half(block, 2));
    let packed = &block[4..16];
    for (group, values) in values.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (s, m) = q4_k_scale_min(packed, group);
        let (scale, min) = (scale * f32::from(s), min * f32::from(m));
        let shift = 4 * (group % 2);
        for (value, byte) in values.iter_mut().zip(&block[16 + group / 2 * 32..]) {
            *value = scale * f32::from(byte >> shift & 15) - min;
        }
    }
}

/// The 6-bit scale and minimum of a group. Of groups 0 to 3 they are the low bits of bytes 0 to 3 and 4 to 7; of groups
/// 4 to 7 the low four bits are the nibbles of bytes 8 to 11, and the high two are the ones left over in bytes 0 to 7.
pub(crate) fn q4_k_scale_min(packed: &[u8], group: usize) -> (u8, u8) {
    if group < 4 {
        return (packed[group] & 63, packed[group + 4] & 63);
    }
    let low = packed[group + 4];
    (
        (low & 15) | (packed[group - 4] >> 6 << 4),
        (low >> 4) | (packed[group] >> 6 << 4),
    )
}

/// Low four bits (128 bytes), high two bits (64 bytes), signed scales of 16 elements each (16 bytes), their scale.
///
/// A half of 128 elements is four runs of 32: of its 64 low bytes, runs 0 and 1 are the low nibbles, 2 and 3 the high
/// ones; of its 32 high bytes, each run has two bits of every byte.
fn q6_k(block: &[u8; 210], values: &mut [f32; 256]) {
    let (low, high, scales) = (&block[..128], &block[128..192], &block[192..208]);
    let scale = half(block, 208);
    for (i, (values, &s)) in values
        .as_chunks_mut::<16>()
        .0
        .iter_mut()
        .zip(scales)
        .enumerate()
    {
        let scale = scale * f32::from(s as i8);
        let (part, run, start) = (i / 8, i / 2 % 4, i % 2 * 16);
        let low = &low[part * 64 + run % 2 * 32 + start..];
        let high = &high[part * 32 + start..];
        for ((value, low), high) in values.iter_mut().zip(low).zip(high) {
            let bits = (low >> (run / 2 * 4) & 15) | ((high >> (run * 2) & 3) << 4);
            *value = scale * f32::from(bits as i8 - 32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_must_fit() {
        let text = |result: Result<Vec<f32>, Error>| result.unwrap_err().to_string();
        assert_eq!(
            text(dequantise(GgmlType::Q8_0, &[0; 33], 32)),
            "32 elements of Q8_0 cannot have 33 bytes"
        );
        assert_eq!(
            text(dequantise(GgmlType::Q8_0, &[0; 34], 33)),
            "33 elements of Q8_0 cannot have 34 bytes"
        );
        assert!(dequantise(GgmlType::F32, &[], usize::MAX).is_err());
        assert_eq!(
            text(dequantise_row_range(GgmlType::Q4K, &[0; 144], 128, 0..1)),
            "rows of 128 elements cannot be Q4_K, whose blocks have 256"
        );
        assert_eq!(
            text(dequantise_row_range(GgmlType::F16, &[0; 12], 3, 1..3)),
            "rows 1..3 are asked for, but there are 2"
        );
        assert!(dequantise_row_range(GgmlType::F16, &[0; 12], 4, 0..1).is_err());
        assert!(dequantise_row_range(GgmlType::F16, &[0; 12], 0, 0..0).is_err());
        assert_eq!(
            dequantise_row_range(GgmlType::F16, &[], 0, 0..0).unwrap(),
            []
        );
    }

    #[test]
    fn a_nibble_of_8_is_zero_in_q4_0() {
        let mut block = [0x8f; 18];
        block[..2].copy_from_slice(&f16::from_f32(0.5).to_le_bytes());
        let values = dequantise(GgmlType::Q4_0, &block, 32).unwrap();
        assert_eq!(
            (values[0], values[15], values[16], values[31]),
            (3.5, 3.5, 0.0, 0.0)
        );
    }
}
