//! Quantised matrices on the host, as files have them, and how dense ones become such.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The quantiles of NF4 (Dettmers et al., arXiv 2305.14314, Appendix E).
const NF4: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// A quantised matrix, row-major [out, in]: groups of `group` numbers along each row share a scale and an offset.
///
/// A number is scale · code + offset, or scale · codebook\[code\] + offset where there is a codebook.
#[derive(Debug, Clone, PartialEq)]
pub struct Groups {
    /// [in, out], as [`linear`](crate::linear) has them.
    pub dims: [usize; 2],
    /// 4 or 8 a code.
    pub bits: u8,
    /// Numbers a group; divides `in`.
    pub group: usize,
    /// 8 bits: one signed code a byte. 4 bits: unsigned, two a byte, the earlier number in the low half; rows follow each
    /// other without a gap.
    pub codes: Vec<u8>,
    /// One a group.
    pub scales: Vec<f32>,
    /// One a group; empty for none.
    pub offsets: Vec<f32>,
    /// What codes of 4 bits stand for, where it is not themselves.
    pub codebook: Option<[f32; 16]>,
}

impl Groups {
    /// The numbers, row-major [out, in].
    pub fn dequantise(&self) -> Vec<f32> {
        let len = self.dims[0] * self.dims[1];
        let number = |i: usize| {
            let code = self.code(i);
            let value = match self.codebook {
                Some(codebook) => codebook[usize::from(code)],
                None if self.bits == 8 => f32::from(code.cast_signed()),
                None => f32::from(code),
            };
            let group = i / self.group;
            let scaled = self.scales[group] * value;
            self.offsets
                .get(group)
                .map_or(scaled, |offset| scaled + offset)
        };
        (0..len).map(number).collect()
    }

    /// The code of number `i`.
    pub(crate) fn code(&self, i: usize) -> u8 {
        match self.bits {
            8 => self.codes[i],
            _ => self.codes[i / 2] >> (4 * (i % 2)) & 15,
        }
    }

    /// # Panics
    /// If a length or the form is not as the fields say.
    pub(crate) fn check(&self) {
        let [inputs, outputs] = self.dims;
        let (bits, group) = (self.bits, self.group);
        assert!(
            bits == 8 && self.codebook.is_none() || bits == 4,
            "codes of {bits} bits, with a codebook or none"
        );
        assert!(
            group > 0 && inputs.is_multiple_of(group),
            "rows of {inputs} numbers in groups of {group}"
        );
        let (numbers, groups) = (inputs * outputs, inputs / group * outputs);
        assert_eq!(
            self.codes.len(),
            (numbers * usize::from(bits)).div_ceil(8),
            "bytes of codes"
        );
        assert_eq!(self.scales.len(), groups, "scales");
        assert!(
            self.offsets.is_empty() || self.offsets.len() == groups,
            "{} offsets of {groups} groups",
            self.offsets.len()
        );
    }
}

/// How a dense matrix is quantised.
///
/// Where a group does not divide `in`, the largest divisor that is smaller takes its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// 8 bits, symmetric: groups of 32 by their largest magnitude.
    Q8,
    /// 4 bits, affine: groups of 32 from their smallest to their largest number.
    Q4,
    /// NF4 of QLoRA (Dettmers et al., arXiv 2305.14314): groups of 64 by their largest magnitude, onto quantiles of the normal
    /// distribution.
    Nf4,
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Q8 => "q8",
            Self::Q4 => "q4",
            Self::Nf4 => "nf4",
        })
    }
}

impl Scheme {
    /// Quantises a matrix, `values` row-major [out, in] for `dims` [in, out], every number to the nearest that its group has.
    ///
    /// # Panics
    /// If there are not as many values as the dimensions say.
    pub fn quantise(self, values: &[f32], dims: [usize; 2]) -> Groups {
        assert_eq!(values.len(), dims[0] * dims[1], "values of {dims:?}");
        let group = divisor(dims[0], if self == Self::Nf4 { 64 } else { 32 });
        let mut codes = Vec::with_capacity(values.len());
        let (mut scales, mut offsets) = (Vec::new(), Vec::new());
        for numbers in values.chunks_exact(group) {
            let largest = numbers.iter().fold(0f32, |size, x| size.max(x.abs()));
            match self {
                Self::Q8 => {
                    let scale = largest / 127.0;
                    scales.push(scale);
                    let code = |x: &f32| ratio(*x, scale).round().clamp(-127.0, 127.0) as i8;
                    codes.extend(numbers.iter().map(|x| code(x).cast_unsigned()));
                }
                Self::Q4 => {
                    let low = numbers.iter().copied().fold(f32::INFINITY, f32::min);
                    let high = numbers.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                    let scale = (high - low) / 15.0;
                    scales.push(scale);
                    offsets.push(low);
                    let code = |x: &f32| ratio(x - low, scale).round().clamp(0.0, 15.0) as u8;
                    codes.extend(numbers.iter().map(code));
                }
                Self::Nf4 => {
                    scales.push(largest);
                    codes.extend(numbers.iter().map(|x| nearest(ratio(*x, largest))));
                }
            }
        }
        let (bits, codes) = match self {
            Self::Q8 => (8, codes),
            Self::Q4 | Self::Nf4 => (4, halves(&codes)),
        };
        let codebook = (self == Self::Nf4).then_some(NF4);
        Groups {
            dims,
            bits,
            group,
            codes,
            scales,
            offsets,
            codebook,
        }
    }
}

/// x / scale; zero where all numbers are one.
fn ratio(x: f32, scale: f32) -> f32 {
    if scale > 0.0 { x / scale } else { 0.0 }
}

/// The code of NF4 whose quantile is nearest.
fn nearest(x: f32) -> u8 {
    let below = |pair: &&[f32]| (pair[0] + pair[1]) / 2.0 < x;
    NF4.windows(2).take_while(below).count() as u8
}

/// Two codes a byte.
fn halves(codes: &[u8]) -> Vec<u8> {
    let byte = |pair: &[u8]| pair[0] | pair.get(1).map_or(0, |high| high << 4);
    codes.chunks(2).map(byte).collect()
}

/// The largest divisor of n that is at most `limit`.
fn divisor(n: usize, limit: usize) -> usize {
    let mut divisors = (1..=limit).rev();
    divisors.find(|&d| n.is_multiple_of(d)).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers without a pattern, in ±1.
    fn values(n: usize) -> Vec<f32> {
        let number = |i: usize| (i as f32 * 12.9898).sin() * 43_758.547;
        (0..n).map(|i| number(i).fract()).collect()
    }

    fn errors(scheme: Scheme, values: &[f32], dims: [usize; 2]) -> Vec<f32> {
        let groups = scheme.quantise(values, dims);
        groups.check();
        let numbers = groups.dequantise().into_iter().zip(values).enumerate();
        let relative = |(i, (ours, value)): (usize, (f32, &f32))| {
            (ours - value).abs() / groups.scales[i / groups.group]
        };
        numbers.map(relative).collect()
    }

    proptest::proptest! {
        #[test]
        fn every_number_becomes_the_nearest_of_its_group(inputs in 1usize..200, outputs in 1usize..5) {
            let (dims, values) = ([inputs, outputs], values(inputs * outputs));
            let widest = (NF4[1] - NF4[0]) / 2.0;
            for (scheme, half) in [(Scheme::Q8, 0.5), (Scheme::Q4, 0.5), (Scheme::Nf4, widest)] {
                for error in errors(scheme, &values, dims) {
                    // A group of one number has no scale, and no error.
                    assert!(error.is_nan() || error <= half + 1e-4, "{scheme}: {error}");
                }
            }
        }
    }

    #[test]
    fn groups_divide_their_rows() {
        for (inputs, expected) in [(64, 32), (576, 32), (48, 24), (37, 1), (31, 31), (62, 31)] {
            let groups = Scheme::Q8.quantise(&values(inputs), [inputs, 1]);
            assert_eq!(groups.group, expected, "{inputs}");
        }
        assert_eq!(Scheme::Nf4.quantise(&values(96), [96, 1]).group, 48);
    }

    #[test]
    fn groups_of_one_number_over_and_over_are_exact() {
        for x in [0.0, -0.37, 1e-45, 1e30] {
            for scheme in [Scheme::Q8, Scheme::Q4, Scheme::Nf4] {
                let numbers = scheme.quantise(&[x; 64], [64, 1]).dequantise();
                let exact = |y: &f32| (y - x).abs() <= (1e-6 * x.abs()).max(1e-44);
                assert!(numbers.iter().all(exact), "{scheme} of {x}: {numbers:?}");
            }
        }
    }

    #[test]
    fn codes_of_four_bits_lie_low_half_first() {
        let groups = Scheme::Q4.quantise(&[0.0, 15.0, 1.0, 2.0, 3.0, 4.0], [2, 3]);
        assert_eq!(groups.codes, [0xf0, 0xf0, 0xf0]);
        let groups = Scheme::Q4.quantise(&[0.0, 5.0, 15.0], [3, 1]);
        assert_eq!(groups.codes, [0x50, 0x0f]);
        assert_eq!((groups.scales, groups.offsets), (vec![1.0], vec![0.0]));
    }

    /// Appendix E of the paper: evenly spaced quantiles, eight steps up from zero and seven down, over the largest.
    #[cfg(feature = "flex")]
    #[test]
    fn the_codebook_is_evenly_spaced_in_probability() {
        let cdf = |x: f32| crate::simd::normal(1.848_130_8 * x).0;
        let top = cdf(1.0) - 0.5;
        for (i, value) in NF4.into_iter().enumerate() {
            let step = i as f32 - 7.0;
            let expected = 0.5 + top * if step > 0.0 { step / 8.0 } else { step / 7.0 };
            assert!((cdf(value) - expected).abs() < 1e-6, "{i}: {value}");
        }
    }

    #[test]
    fn names_are_those_of_run_files() {
        for scheme in [Scheme::Q8, Scheme::Q4, Scheme::Nf4] {
            let name = serde_json::to_string(&scheme).unwrap();
            assert_eq!(name, format!("\"{scheme}\""));
        }
    }
}
