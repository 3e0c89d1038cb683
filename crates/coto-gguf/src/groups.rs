use half::f16;

use crate::dequant::q4_k_scale_min;
use crate::{Error, GgmlType};

/// A quantised tensor as codes with one scale, and for some types one offset, for each group of consecutive elements:
/// a value is `scale · code + offset` in f32, or `scale · code` where there are no offsets.
///
/// Groups run along the elements, row-major; a row is a whole number of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Groups {
    /// The size of a code: 4 or 8 bits.
    pub bits: u8,
    /// How many elements share a scale.
    pub group: usize,
    /// The codes in the order of the elements. 8 bits: an `i8` a byte. 4 bits: 0 to 15, two a byte, the earlier element
    /// in the low half.
    pub codes: Vec<u8>,
    /// One for each group.
    pub scales: Vec<f32>,
    /// One for each group, or none at all.
    pub offsets: Vec<f32>,
}

/// Adds a block to the groups before it.
type Block = fn(&[u8], &mut Groups);

/// The codes, scales and offsets of `elements` stored elements; nothing for F32, F16 and BF16, which have no codes.
///
/// `scale · code + offset` is what [`dequantise`](crate::dequantise()) gives, bit for bit, but for the sign of a zero
/// of Q4_0. Q4_0: 4 bits, groups of 32, offset −8 d. Q4_1: 4 bits, 32, offset m. Q4_K: 4 bits, 32, offset −(d_min m).
/// Q8_0: 8 bits, 32. Q6_K: 8 bits, 16.
///
/// # Errors
/// [`Error::Length`] when `bytes` is not as long as `dtype` and `elements` say.
pub fn groups(dtype: GgmlType, bytes: &[u8], elements: usize) -> Result<Option<Groups>, Error> {
    if dtype.bytes(elements) != Some(bytes.len()) {
        return Err(Error::Length {
            dtype,
            elements,
            bytes: bytes.len(),
        });
    }
    let (bits, group, block): (u8, usize, Block) = match dtype {
        GgmlType::F32 | GgmlType::F16 | GgmlType::BF16 => return Ok(None),
        GgmlType::Q4_0 => (4, 32, q4_0),
        GgmlType::Q4_1 => (4, 32, q4_1),
        GgmlType::Q8_0 => (8, 32, q8_0),
        GgmlType::Q4K => (4, 32, q4_k),
        GgmlType::Q6K => (8, 16, q6_k),
    };
    let mut groups = Groups {
        bits,
        group,
        codes: Vec::with_capacity(elements * usize::from(bits) / 8),
        scales: Vec::with_capacity(elements / group),
        offsets: Vec::new(),
    };
    for bytes in bytes.chunks_exact(dtype.block_bytes()) {
        block(bytes, &mut groups);
    }
    Ok(Some(groups))
}

fn half(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// Nibbles of which the low ones are the first elements and the high ones the last, as pairs of neighbours.
fn pairs(nibbles: &[u8]) -> impl Iterator<Item = u8> {
    let half = |shift: u8| {
        nibbles
            .chunks_exact(2)
            .map(move |pair| (pair[0] >> shift & 15) | ((pair[1] >> shift & 15) << 4))
    };
    half(0).chain(half(4))
}

fn q4_0(block: &[u8], groups: &mut Groups) {
    let scale = half(block, 0);
    groups.scales.push(scale);
    groups.offsets.push(-8.0 * scale);
    groups.codes.extend(pairs(&block[2..]));
}

fn q4_1(block: &[u8], groups: &mut Groups) {
    groups.scales.push(half(block, 0));
    groups.offsets.push(half(block, 2));
    groups.codes.extend(pairs(&block[4..]));
}

fn q8_0(block: &[u8], groups: &mut Groups) {
    groups.scales.push(half(block, 0));
    groups.codes.extend(&block[2..]);
}

fn q4_k(block: &[u8], groups: &mut Groups) {
    let (scale, min) = (half(block, 0), half(block, 2));
    for group in 0..8 {
        let (s, m) = q4_k_scale_min(&block[4..16], group);
        groups.scales.push(scale * f32::from(s));
        groups.offsets.push(-(min * f32::from(m)));
    }
    for run in block[16..].chunks_exact(32) {
        groups.codes.extend(pairs(run));
    }
}

/// The layout is that of `dequant::q6_k`.
fn q6_k(block: &[u8], groups: &mut Groups) {
    let (low, high, scales) = (&block[..128], &block[128..192], &block[192..208]);
    let scale = half(block, 208);
    for (i, &s) in scales.iter().enumerate() {
        groups.scales.push(scale * f32::from(s as i8));
        let (part, run, start) = (i / 8, i / 2 % 4, i % 2 * 16);
        let low = &low[part * 64 + run % 2 * 32 + start..][..16];
        let high = &high[part * 32 + start..][..16];
        groups.codes.extend(low.iter().zip(high).map(|(low, high)| {
            let bits = (low >> (run / 2 * 4) & 15) | ((high >> (run * 2) & 3) << 4);
            (bits as i8 - 32) as u8
        }));
    }
}
