use coto_peft::Dtype;
use half::{bf16, f16};

/// The dtypes into which an update is folded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Float {
    F64,
    F32,
    F16,
    Bf16,
}

impl Float {
    pub fn of(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::F64 => Some(Self::F64),
            Dtype::F32 => Some(Self::F32),
            Dtype::F16 => Some(Self::F16),
            Dtype::BF16 => Some(Self::Bf16),
            _ => None,
        }
    }

    /// Bytes of one number.
    pub fn size(self) -> usize {
        match self {
            Self::F64 => 8,
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// The largest relative error of rounding to nearest.
    pub fn roundoff(self) -> f64 {
        let bits = match self {
            Self::F64 => 53,
            Self::F32 => 24,
            Self::F16 => 11,
            Self::Bf16 => 8,
        };
        0.5f64.powi(bits)
    }

    /// The numbers of a row.
    pub fn read(self, bytes: &[u8]) -> Vec<f64> {
        match self {
            Self::F64 => each(bytes, f64::from_le_bytes),
            Self::F32 => each(bytes, |b| f32::from_le_bytes(b).into()),
            Self::F16 => each(bytes, |b| f16::from_le_bytes(b).into()),
            Self::Bf16 => each(bytes, |b| bf16::from_le_bytes(b).into()),
        }
    }

    /// Writes a row over `bytes`, rounded to f32 and from there to the dtype, to nearest, ties to even.
    pub fn write(self, row: &[f64], bytes: &mut [u8]) {
        match self {
            Self::F64 => put(row, bytes, f64::to_le_bytes),
            Self::F32 => put(row, bytes, |x| (x as f32).to_le_bytes()),
            // Through f32: `half` cuts an f64's last 32 bits off before it rounds.
            Self::F16 => put(row, bytes, |x| f16::from_f32(x as f32).to_le_bytes()),
            Self::Bf16 => put(row, bytes, |x| bf16::from_f32(x as f32).to_le_bytes()),
        }
    }
}

fn each<const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> f64) -> Vec<f64> {
    let (numbers, _) = bytes.as_chunks::<N>();
    numbers.iter().map(|&number| read(number)).collect()
}

fn put<const N: usize>(row: &[f64], bytes: &mut [u8], write: impl Fn(f64) -> [u8; N]) {
    let (places, _) = bytes.as_chunks_mut::<N>();
    for (place, &x) in places.iter_mut().zip(row) {
        *place = write(x);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_to_the_nearest_and_ties_to_even() {
        let cases = [
            // Between 1 and its neighbour 1 + 2u: the tie goes to 1, anything above it up, and from 1 + 2u a tie goes up.
            (Float::F32, 0.5f64.powi(24)),
            (Float::F16, 0.5f64.powi(11)),
            (Float::Bf16, 0.5f64.powi(8)),
        ];
        for (float, u) in cases {
            assert_eq!(float.roundoff(), u);
            let row = [1.0 + u, 1.0 + 1.5 * u, 1.0 + 3.0 * u, -1.0 - 2.0 * u];
            let mut bytes = vec![0; row.len() * float.size()];
            float.write(&row, &mut bytes);
            let expected = [1.0, 1.0 + 2.0 * u, 1.0 + 4.0 * u, -1.0 - 2.0 * u];
            assert_eq!(float.read(&bytes), expected, "{float:?}");
        }
        let mut bytes = [0; 8];
        Float::F64.write(&[0.1], &mut bytes);
        assert_eq!(bytes, 0.1f64.to_le_bytes());
        assert_eq!(Float::of(Dtype::I8), None);
    }
}
