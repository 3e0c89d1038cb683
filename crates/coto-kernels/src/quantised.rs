//! A quantised matrix on a device.

use std::sync::Arc;

use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use crate::Groups;

#[cfg(feature = "flex")]
mod flex;
#[cfg(feature = "flex")]
pub(crate) use flex::Rows;

/// A quantised matrix W on a device, its codes packed in words of 32 bits. Clones share it.
#[derive(Debug, Clone)]
pub struct Quantised(Arc<Parts>);

#[derive(Debug, Clone)]
struct Parts {
    /// [out, words]: each row of Wᵀ begins a word, the earlier numbers in its lower bits.
    words: Tensor<2, Int>,
    /// [out, groups].
    scales: Tensor<2>,
    /// [out, groups].
    offsets: Option<Tensor<2>>,
    codebook: Option<Tensor<1>>,
    bits: u32,
    inputs: usize,
}

impl Quantised {
    /// The matrix on a device.
    ///
    /// # Panics
    /// If a field of the groups has another length than their documentation says.
    pub fn new(groups: Groups, device: &Device) -> Self {
        groups.check();
        let ([inputs, outputs], device) = (groups.dims, device.clone().without_autodiff());
        let each = |values: Vec<f32>| {
            let shape = [outputs, inputs / groups.group];
            Tensor::from_data(TensorData::new(values, shape), &device)
        };
        let words = words(&groups);
        let shape = [outputs, words.len() / outputs.max(1)];
        let offsets = (!groups.offsets.is_empty()).then(|| each(groups.offsets));
        Self(Arc::new(Parts {
            words: Tensor::from_data(TensorData::new(words, shape), (&device, DType::I32)),
            scales: each(groups.scales),
            offsets,
            codebook: groups.codebook.map(|book| Tensor::from_data(book, &device)),
            bits: groups.bits.into(),
            inputs,
        }))
    }

    /// [in, out].
    pub(crate) fn dims(&self) -> [usize; 2] {
        [self.0.inputs, self.0.words.dims()[0]]
    }

    pub(crate) fn device(&self) -> Device {
        self.0.scales.device()
    }

    pub(crate) fn bytes(&self) -> usize {
        let floats = |x: &Tensor<2>| 4 * x.shape().num_elements();
        let words = 4 * self.0.words.shape().num_elements();
        let book = self.0.codebook.as_ref().map_or(0, |_| 64);
        words + floats(&self.0.scales) + self.0.offsets.as_ref().map_or(0, floats) + book
    }

    /// Of the rows `ids` of Wᵀ.
    pub(crate) fn select(&self, ids: Tensor<1, Int>) -> Self {
        let rows = |x: &Tensor<2>| x.clone().select(0, ids.clone());
        Self(Arc::new(Parts {
            words: self.0.words.clone().select(0, ids.clone()),
            scales: rows(&self.0.scales),
            offsets: self.0.offsets.as_ref().map(rows),
            ..Parts::clone(&self.0)
        }))
    }

    /// Wᵀ, [out, in].
    pub(crate) fn dequantise(&self) -> Tensor<2> {
        #[cfg(feature = "flex")]
        if self.fast() {
            use crate::ops::KernelOps;
            use burn::backend::Dispatch;
            return Tensor::from_dispatch(Dispatch::dequantise(self.matrix()));
        }
        self.plain()
    }

    /// Whether the fast forms take it.
    #[cfg(feature = "flex")]
    pub(crate) fn fast(&self) -> bool {
        crate::fast(&self.0.scales)
    }

    #[cfg(feature = "flex")]
    pub(crate) fn matrix(&self) -> crate::weight::Matrix<burn::backend::Dispatch> {
        let none = || Tensor::<1>::empty([0], &self.device());
        let offsets = self.0.offsets.clone();
        let book = self.0.codebook.clone().unwrap_or_else(none);
        crate::weight::Matrix::Quantised {
            words: self.0.words.clone().into_dispatch(),
            scales: self.0.scales.clone().into_dispatch(),
            offsets: offsets.map_or_else(|| none().into_dispatch(), Tensor::into_dispatch),
            book: book.into_dispatch(),
            form: [self.0.bits as usize, self.0.inputs],
        }
    }

    fn plain(&self) -> Tensor<2> {
        let [outputs, words] = self.0.words.dims();
        let (bits, each) = (self.0.bits, 32 / self.0.bits);
        let codes = (0..each).map(|i| match bits {
            // The second shift repeats the sign.
            8 => {
                let high = self.0.words.clone().bitwise_left_shift_scalar(24 - 8 * i);
                high.bitwise_right_shift_scalar(24)
            }
            _ => {
                let low = self.0.words.clone().bitwise_right_shift_scalar(bits * i);
                low.bitwise_and_scalar(15)
            }
        });
        let codes: Tensor<3, Int> = Tensor::stack(codes.collect(), 2);
        let codes = codes.reshape([outputs, words * each as usize]);
        let codes = codes.slice([0..outputs, 0..self.0.inputs]);
        let groups = outputs * self.0.scales.dims()[1];
        let shape = [groups, outputs * self.0.inputs / groups.max(1)];
        let values = match &self.0.codebook {
            Some(book) => {
                let codes = codes.reshape([outputs * self.0.inputs]);
                book.clone().select(0, codes).reshape(shape)
            }
            None => codes.reshape(shape).float(),
        };
        let each = |x: &Tensor<2>| x.clone().reshape([groups, 1]);
        let values = values * each(&self.0.scales);
        let values = match &self.0.offsets {
            Some(offsets) => values + each(offsets),
            None => values,
        };
        values.reshape([outputs, self.0.inputs])
    }
}

/// The codes with every row on words of its own.
fn words(groups: &Groups) -> Vec<i32> {
    let [inputs, outputs] = groups.dims;
    let bits = usize::from(groups.bits);
    if (inputs * bits).is_multiple_of(32) {
        let (words, _) = groups.codes.as_chunks::<4>();
        return words.iter().map(|&word| i32::from_le_bytes(word)).collect();
    }
    let (each, width) = (32 / bits, (inputs * bits).div_ceil(32));
    let mut words = vec![0u32; outputs * width];
    for i in 0..inputs * outputs {
        let (row, at) = (i / inputs, i % inputs);
        words[row * width + at / each] |= u32::from(groups.code(i)) << (bits * (at % each));
    }
    words.into_iter().map(u32::cast_signed).collect()
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::Weight;
    use proptest::prelude::*;

    fn bits(x: Tensor<2>) -> Vec<u32> {
        x.into_data().iter::<f32>().map(f32::to_bits).collect()
    }

    fn groups() -> impl Strategy<Value = Groups> {
        let form = (
            1usize..40,
            1usize..5,
            1usize..9,
            any::<(bool, bool, bool)>(),
        );
        form.prop_flat_map(|(group, groups, outputs, (wide, offset, book))| {
            let dims = [group * groups, outputs];
            let (numbers, groups) = (dims[0] * dims[1], groups * outputs);
            let bytes = if wide { numbers } else { numbers.div_ceil(2) };
            let floats = |n| proptest::collection::vec(-2f32..2.0, n);
            (
                proptest::collection::vec(any::<u8>(), bytes),
                floats(groups),
                floats(if offset { groups } else { 0 }),
                floats(16),
            )
                .prop_map(move |(codes, scales, offsets, values)| Groups {
                    dims,
                    bits: if wide { 8 } else { 4 },
                    group,
                    codes,
                    scales,
                    offsets,
                    codebook: (book && !wide).then(|| values.try_into().expect("sixteen")),
                })
        })
    }

    proptest! {
        #[test]
        fn both_forms_give_the_hosts_numbers_to_the_bit(groups in groups(), seed in 0usize..100) {
            let expected: Vec<u32> = groups.dequantise().into_iter().map(f32::to_bits).collect();
            let [inputs, outputs] = groups.dims;
            let device = Device::flex();
            let quantised = Quantised::new(groups, &device);
            prop_assert_eq!(quantised.dims(), [inputs, outputs]);
            prop_assert_eq!(&bits(quantised.plain()), &expected);
            prop_assert_eq!(&bits(quantised.dequantise()), &expected);
            let weight = Weight::from(quantised);
            prop_assert_eq!(&bits(weight.dense().transpose()), &expected);
            let ids: Vec<usize> = (0..outputs + 2).map(|i| (seed + 5 * i) % outputs).collect();
            let rows = ids.iter().flat_map(|&i| &expected[i * inputs..(i + 1) * inputs]);
            let rows: Vec<u32> = rows.copied().collect();
            let ids: Vec<i64> = ids.iter().map(|&i| i as i64).collect();
            let ids = Tensor::<1, Int>::from_data(ids.as_slice(), &device);
            prop_assert_eq!(&bits(weight.columns(ids.clone())), &rows);
            let dense = Weight::from(weight.dense());
            prop_assert_eq!(&bits(dense.columns(ids)), &rows);
        }
    }

    #[test]
    fn four_bits_take_an_eighth_and_what_groups_need() {
        let dims = [64, 8];
        let weight = crate::testing::quantised(crate::Scheme::Q4, dims);
        assert_eq!(weight.bytes(), 64 * 8 / 2 + 2 * 4 * 16);
        assert_eq!(Weight::from(weight.dense()).bytes(), 4 * 64 * 8);
    }

    #[test]
    #[should_panic(expected = "scales")]
    fn every_group_has_a_scale() {
        let mut groups = crate::Scheme::Q8.quantise(&[1.0; 64], [64, 1]);
        groups.scales.pop();
        Quantised::new(groups, &Device::flex());
    }
}
