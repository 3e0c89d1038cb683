use half::{bf16, f16};
use safetensors::{Dtype, View};

use crate::Error;

/// A tensor in host memory: row-major little-endian bytes, as in a safetensors file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostTensor {
    /// Type of one element.
    pub dtype: Dtype,
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
    /// The elements.
    pub data: Vec<u8>,
}

impl HostTensor {
    /// A tensor from its parts.
    ///
    /// # Errors
    /// [`Error::Length`] when `data` is not as long as `dtype` and `shape` say.
    pub fn new(dtype: Dtype, shape: impl Into<Vec<usize>>, data: Vec<u8>) -> Result<Self, Error> {
        let shape = shape.into();
        let bits = shape
            .iter()
            .try_fold(dtype.bitsize(), |bits, &size| bits.checked_mul(size));
        if bits != data.len().checked_mul(8) {
            return Err(Error::Length {
                dtype,
                shape,
                bytes: data.len(),
            });
        }
        Ok(Self { dtype, shape, data })
    }

    /// An F32 tensor.
    ///
    /// # Errors
    /// [`Error::Length`] when `shape` does not have as many elements as `values`.
    pub fn from_f32(shape: impl Into<Vec<usize>>, values: &[f32]) -> Result<Self, Error> {
        let words: Vec<[u8; 4]> = values.iter().map(|v| v.to_le_bytes()).collect();
        Self::new(Dtype::F32, shape, words.into_flattened())
    }

    /// The elements as f32: exact from F32, F16 and BF16, rounded to nearest from F64.
    ///
    /// # Errors
    /// [`Error::Dtype`] for any other dtype.
    pub fn to_f32(&self) -> Result<Vec<f32>, Error> {
        match self.dtype {
            Dtype::F32 => Ok(self.each(f32::from_le_bytes)),
            Dtype::F16 => Ok(self.each(|bytes| f16::from_le_bytes(bytes).to_f32())),
            Dtype::BF16 => Ok(self.each(|bytes| bf16::from_le_bytes(bytes).to_f32())),
            Dtype::F64 => Ok(self.each(|bytes| f64::from_le_bytes(bytes) as f32)),
            dtype => Err(Error::Dtype { dtype }),
        }
    }

    fn each<const N: usize>(&self, convert: impl Fn([u8; N]) -> f32) -> Vec<f32> {
        self.data
            .as_chunks()
            .0
            .iter()
            .map(|&bytes| convert(bytes))
            .collect()
    }
}

impl View for &HostTensor {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> std::borrow::Cow<'_, [u8]> {
        (&self.data).into()
    }

    fn data_len(&self) -> usize {
        self.data.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_float_dtype_reads_as_f32() {
        for (dtype, data) in [
            (Dtype::F32, (-1.5f32).to_le_bytes().to_vec()),
            (Dtype::F16, f16::from_f32(-1.5).to_le_bytes().to_vec()),
            (Dtype::BF16, bf16::from_f32(-1.5).to_le_bytes().to_vec()),
            (Dtype::F64, (-1.5f64).to_le_bytes().to_vec()),
        ] {
            assert_eq!(
                HostTensor::new(dtype, [1], data).unwrap().to_f32().unwrap(),
                [-1.5],
                "{dtype}"
            );
        }
        let whole = HostTensor::new(Dtype::I32, [1], vec![0; 4]).unwrap();
        assert!(whole.to_f32().unwrap_err().to_string().contains("I32"));
    }

    #[test]
    fn bytes_must_be_as_many_as_the_shape_says() {
        let error = HostTensor::new(Dtype::F16, [2, 3], vec![0; 13])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("F16") && error.contains("[2, 3]") && error.contains("13"),
            "{error}"
        );
        assert!(HostTensor::new(Dtype::F32, [usize::MAX, 3], vec![]).is_err());
        assert!(HostTensor::from_f32([0, 3], &[]).is_ok());
    }

    proptest! {
        #[test]
        fn f32_survives_bit_for_bit(bits in proptest::collection::vec(any::<u32>(), 0..20)) {
            let values: Vec<f32> = bits.iter().map(|&b| f32::from_bits(b)).collect();
            let back = HostTensor::from_f32([values.len()], &values).unwrap().to_f32().unwrap();
            prop_assert_eq!(back.iter().map(|v| v.to_bits()).collect::<Vec<_>>(), bits);
        }
    }
}
