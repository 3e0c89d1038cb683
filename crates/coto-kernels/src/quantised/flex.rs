//! Quantised rows on the CPU, unpacked by vectors and spread over the cores.

use burn::backend::Flex;
use burn::backend::tensor::{FloatTensor, IntTensor};
use rayon::prelude::*;

use crate::matrix::Onto;
use crate::memory::{rows_a_task, slice};
use crate::simd::{sum2, vectorised};

/// The parts of a quantised matrix as slices.
pub(crate) struct Rows<'a> {
    words: &'a [i32],
    /// Words a row.
    width: usize,
    scales: &'a [f32],
    /// None at all where there are none.
    offsets: &'a [f32],
    book: Option<&'a [f32; 16]>,
    bits: usize,
    pub inputs: usize,
    pub outputs: usize,
}

impl<'a> Rows<'a> {
    /// Of dense tensors; offsets and codebook without elements stand for none.
    pub fn new(
        words: &'a IntTensor<Flex>,
        scales: &'a FloatTensor<Flex>,
        offsets: &'a FloatTensor<Flex>,
        book: &'a FloatTensor<Flex>,
        [bits, inputs]: [usize; 2],
    ) -> Self {
        let shape = words.layout().shape();
        Self {
            words: words.as_slice::<i32>().expect("dense words"),
            width: shape[1],
            scales: slice(scales),
            offsets: slice(offsets),
            book: slice(book).first_chunk(),
            bits,
            inputs,
            outputs: shape[0],
        }
    }

    /// The numbers of as many rows as `out` holds, from row `first` on.
    pub fn dequantise(&self, first: usize, out: &mut [f32]) {
        match self.bits {
            4 => self.rows::<4, 8>(first, out),
            _ => self.rows::<8, 4>(first, out),
        }
    }

    /// For codes of so many bits, so many a word.
    fn rows<const BITS: usize, const EACH: usize>(&self, first: usize, out: &mut [f32]) {
        let (cols, each) = (self.inputs.max(1), rows_a_task(self.inputs));
        let tasks = out.par_chunks_mut(each * cols).enumerate();
        tasks.for_each(|(i, rows)| {
            vectorised(
                #[inline(always)]
                || {
                    for (j, row) in rows.chunks_exact_mut(cols).enumerate() {
                        self.row::<BITS, EACH>(first + i * each + j, row);
                    }
                },
            );
        });
    }

    /// x W of a single row x, into `out` or onto what is there.
    pub fn dot(&self, x: &[f32], onto: Onto, out: &mut [f32]) {
        match self.bits {
            4 => self.dots::<4, 8>(x, onto, out),
            _ => self.dots::<8, 4>(x, onto, out),
        }
    }

    fn dots<const BITS: usize, const EACH: usize>(&self, x: &[f32], onto: Onto, out: &mut [f32]) {
        let each = rows_a_task(self.inputs);
        out.par_chunks_mut(each).enumerate().for_each(|(i, out)| {
            let mut row = vec![0.0; self.inputs];
            vectorised(
                #[inline(always)]
                || {
                    for (j, out) in out.iter_mut().enumerate() {
                        self.row::<BITS, EACH>(i * each + j, &mut row);
                        let dot = sum2(&row, x, |w, x| w * x);
                        *out = if onto == Onto::Old { *out + dot } else { dot };
                    }
                },
            );
        });
    }

    #[inline(always)]
    fn row<const BITS: usize, const EACH: usize>(&self, row: usize, out: &mut [f32]) {
        let groups = self.scales.len() / self.outputs;
        let group = self.inputs / groups;
        let words = &self.words[row * self.width..(row + 1) * self.width];
        for (i, out) in out.chunks_exact_mut(group).enumerate() {
            let at = row * groups + i;
            let (scale, start) = (self.scales[at], i * group);
            match (self.book, self.offsets.get(at)) {
                (Some(book), offset) => {
                    let scaled = book.map(|value| scale * value);
                    let values = offset.map_or(scaled, |offset| scaled.map(|x| x + offset));
                    let value = |code: i32| values[(code & 15) as usize];
                    unpack::<BITS, EACH>(words, start, out, value);
                }
                (None, None) => {
                    unpack::<BITS, EACH>(words, start, out, |code| scale * code as f32);
                }
                (None, Some(offset)) => {
                    let value = |code: i32| scale * code as f32 + offset;
                    unpack::<BITS, EACH>(words, start, out, value);
                }
            }
        }
    }
}

/// `f` of the codes from `start` on.
#[inline(always)]
fn unpack<const BITS: usize, const EACH: usize>(
    words: &[i32],
    start: usize,
    out: &mut [f32],
    f: impl Fn(i32) -> f32,
) {
    if start.is_multiple_of(EACH) && out.len().is_multiple_of(EACH) {
        let (out, _) = out.as_chunks_mut::<EACH>();
        for (out, &word) in out.iter_mut().zip(&words[start / EACH..]) {
            *out = std::array::from_fn(|i| f(code::<BITS>(word, i)));
        }
    } else {
        for (i, out) in (start..).zip(out) {
            *out = f(code::<BITS>(words[i / EACH], i % EACH));
        }
    }
}

/// Code `i` of a word: signed of 8 bits, unsigned of 4.
#[inline(always)]
fn code<const BITS: usize>(word: i32, i: usize) -> i32 {
    let code = word << (32 - BITS - BITS * i) >> (32 - BITS);
    if BITS == 4 { code & 15 } else { code }
}
