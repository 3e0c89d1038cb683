use std::fmt;

/// How a tensor's elements are stored: those of ggml's types (`enum ggml_type`) that are read here.
///
/// A quantised type stores blocks of elements; a row is always a whole number of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum GgmlType {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of an IEEE single.
    BF16,
    /// 32 elements of 4 bits with a scale.
    Q4_0,
    /// 32 elements of 4 bits with a scale and a minimum.
    Q4_1,
    /// 32 elements of 8 bits with a scale.
    Q8_0,
    /// `Q4_K`: 256 elements of 4 bits in 8 groups, with scales and minimums of 6 bits.
    Q4K,
    /// `Q6_K`: 256 elements of 6 bits in 16 groups, with scales of 8 bits.
    Q6K,
}

use GgmlType::{BF16, F16, F32, Q4_0, Q4_1, Q4K, Q6K, Q8_0};

impl GgmlType {
    /// Every type that is read here.
    pub const ALL: [Self; 8] = [F32, F16, BF16, Q4_0, Q4_1, Q8_0, Q4K, Q6K];

    /// The type with this number in a file, if it is read here.
    pub fn from_id(id: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|dtype| dtype.id() == id)
    }

    /// Its number in a file.
    pub fn id(self) -> u32 {
        match self {
            F32 => 0,
            F16 => 1,
            Q4_0 => 2,
            Q4_1 => 3,
            Q8_0 => 8,
            Q4K => 12,
            Q6K => 14,
            BF16 => 30,
        }
    }

    /// How many elements share a block: 1 for the plain types.
    pub fn block_elements(self) -> usize {
        match self {
            F32 | F16 | BF16 => 1,
            Q4_0 | Q4_1 | Q8_0 => 32,
            Q4K | Q6K => 256,
        }
    }

    /// The size of a block, in bytes.
    pub fn block_bytes(self) -> usize {
        match self {
            F32 => 4,
            F16 | BF16 => 2,
            Q4_0 => 2 + 16,
            Q4_1 => 2 + 2 + 16,
            Q8_0 => 2 + 32,
            Q4K => 2 + 2 + 12 + 128,
            Q6K => 128 + 64 + 16 + 2,
        }
    }

    /// The size of so many elements, in bytes; nothing when they are no whole number of blocks, or too many.
    pub fn bytes(self, elements: usize) -> Option<usize> {
        if !elements.is_multiple_of(self.block_elements()) {
            return None;
        }
        (elements / self.block_elements()).checked_mul(self.block_bytes())
    }

    pub(crate) fn listed() -> String {
        Self::ALL.map(|dtype| dtype.to_string()).join(", ")
    }
}

impl fmt::Display for GgmlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name(self.id()).expect("every type has a name"))
    }
}

/// ggml's name of a type, supported here or not.
pub(crate) fn name(id: u32) -> Option<&'static str> {
    Some(match id {
        0 => "F32",
        1 => "F16",
        2 => "Q4_0",
        3 => "Q4_1",
        4 => "Q4_2, removed from ggml",
        5 => "Q4_3, removed from ggml",
        6 => "Q5_0",
        7 => "Q5_1",
        8 => "Q8_0",
        9 => "Q8_1",
        10 => "Q2_K",
        11 => "Q3_K",
        12 => "Q4_K",
        13 => "Q5_K",
        14 => "Q6_K",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        30 => "BF16",
        31 => "Q4_0_4_4, removed from ggml",
        32 => "Q4_0_4_8, removed from ggml",
        33 => "Q4_0_8_8, removed from ggml",
        34 => "TQ1_0",
        35 => "TQ2_0",
        36 => "IQ4_NL_4_4, removed from ggml",
        37 => "IQ4_NL_4_8, removed from ggml",
        38 => "IQ4_NL_8_8, removed from ggml",
        39 => "MXFP4",
        40 => "NVFP4",
        41 => "Q1_0",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_types_are_one_to_one() {
        for dtype in GgmlType::ALL {
            assert_eq!(GgmlType::from_id(dtype.id()), Some(dtype));
        }
        assert_eq!(GgmlType::from_id(6), None);
        assert_eq!(
            GgmlType::listed(),
            "F32, F16, BF16, Q4_0, Q4_1, Q8_0, Q4_K, Q6_K"
        );
    }

    #[test]
    fn sizes_are_in_whole_blocks() {
        assert_eq!(GgmlType::Q4_1.bytes(64), Some(40));
        assert_eq!(GgmlType::Q4_1.bytes(48), None);
        assert_eq!(GgmlType::F32.bytes(usize::MAX), None);
    }
}
