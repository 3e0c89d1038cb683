//! Products of matrices in place: the one door to the `gemm` crate, and the one place that needs `unsafe`.
#![allow(unsafe_code)]

use std::ops::Range;

use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;
use rayon::prelude::*;

/// Below this many multiplications a second thread costs more than it brings.
const SHARED: usize = 192 * 192 * 192;

/// A matrix in somebody else's memory: element (i, j) at i·strides[0] + j·strides[1].
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    data: &'a [f32],
    dims: [usize; 2],
    strides: [usize; 2],
}

impl<'a> View<'a> {
    /// # Panics
    /// If an element lies outside of the data.
    pub fn new(data: &'a [f32], dims: [usize; 2], strides: [usize; 2]) -> Self {
        assert!(
            fits(data.len(), dims, strides),
            "a view of more than there is"
        );
        Self {
            data,
            dims,
            strides,
        }
    }

    /// Rows one after the other.
    pub fn rows(data: &'a [f32], cols: usize) -> Self {
        Self::new(data, [data.len() / cols.max(1), cols], [cols, 1])
    }

    /// A tensor of two dimensions as it lies.
    pub fn of(x: &'a FloatTensor<Flex>) -> Self {
        let (shape, strides) = (x.layout().shape(), x.layout().strides());
        let stride = |i: usize| usize::try_from(strides[i]).expect("a tensor that runs forwards");
        let data = &x.storage::<f32>()[x.layout().start_offset()..];
        Self::new(data, [shape[0], shape[1]], [stride(0), stride(1)])
    }

    /// Its transpose.
    pub fn t(self) -> Self {
        Self {
            dims: [self.dims[1], self.dims[0]],
            strides: [self.strides[1], self.strides[0]],
            ..self
        }
    }

    /// Some of its columns.
    pub fn columns(self, columns: Range<usize>) -> Self {
        assert!(
            columns.start <= columns.end && columns.end <= self.dims[1],
            "columns {columns:?} of {}",
            self.dims[1]
        );
        let start = (columns.start * self.strides[1]).min(self.data.len());
        let dims = [self.dims[0], columns.len()];
        Self::new(&self.data[start..], dims, self.strides)
    }

    /// As many rows as fit into `out`, from row `first` on.
    pub fn copy(self, first: usize, out: &mut [f32]) {
        let ([_, cols], [row, col]) = (self.dims, self.strides);
        if cols == 0 {
            return;
        }
        let bands = out.par_chunks_mut(SQUARE * cols).enumerate();
        bands.for_each(|(band, out)| {
            let numbers = &self.data[(first + band * SQUARE) * row..];
            if row == 1 && out.len() == SQUARE * cols {
                return turn(numbers, col, out);
            }
            for (i, out) in out.chunks_exact_mut(cols).enumerate() {
                let numbers = numbers[i * row..].iter().step_by(col.max(1));
                out.iter_mut().zip(numbers).for_each(|(out, x)| *out = *x);
            }
        });
    }

    /// Whether its rows lie so far apart that a product reads it slowly: a cache line of each falls on the same few places of
    /// the first cache.
    pub fn far(self) -> bool {
        self.strides[0] == 1 && self.strides[1] > 1 && self.strides[1].is_multiple_of(256)
    }

    /// Its only row, where that lies without gaps.
    pub fn row(self) -> Option<&'a [f32]> {
        let single = self.dims[0] == 1 && (self.strides[1] == 1 || self.dims[1] < 2);
        single.then(|| &self.data[..self.dims[1]])
    }

    pub fn dims(&self) -> [usize; 2] {
        self.dims
    }
}

/// Numbers in a cache line, and as many lines.
const SQUARE: usize = 16;

/// The transpose of a band: `SQUARE` rows into `out`, number (i, j) from j·`stride` + i, by squares of whole cache lines.
fn turn(numbers: &[f32], stride: usize, out: &mut [f32]) {
    let cols = out.len() / SQUARE;
    let whole = cols - cols % SQUARE;
    for start in (0..whole).step_by(SQUARE) {
        let mut square = [[0.0; SQUARE]; SQUARE];
        for (j, line) in square.iter_mut().enumerate() {
            line.copy_from_slice(&numbers[(start + j) * stride..][..SQUARE]);
        }
        for (i, row) in out.chunks_exact_mut(cols).enumerate() {
            let row = row[start..start + SQUARE].iter_mut();
            row.zip(&square).for_each(|(out, line)| *out = line[i]);
        }
    }
    for (i, row) in out.chunks_exact_mut(cols).enumerate() {
        let rest = row[whole..].iter_mut().enumerate();
        rest.for_each(|(j, out)| *out = numbers[(whole + j) * stride + i]);
    }
}

fn fits(len: usize, dims: [usize; 2], strides: [usize; 2]) -> bool {
    let last = |i: usize| (dims[i] - 1).checked_mul(strides[i]);
    dims.contains(&0)
        || matches!((last(0), last(1)), (Some(a), Some(b)) if a.checked_add(b).is_some_and(|last| last < len))
}

/// What becomes of what lies in a product's place.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Onto {
    /// It is overwritten.
    Nothing,
    /// The product is added to it.
    Old,
}

/// `scale`·a b into `out`, whose rows begin `stride` apart.
///
/// # Panics
/// If the dimensions do not meet, or `out` is too small.
pub(crate) fn product(
    (out, stride): (&mut [f32], usize),
    onto: Onto,
    scale: f32,
    a: View,
    b: View,
) {
    let ([m, k], [k2, n]) = (a.dims, b.dims);
    assert_eq!(k, k2, "inner dimensions");
    assert!(
        n <= stride && fits(out.len(), [m, n], [stride, 1]),
        "a product larger than its place"
    );
    let threads = if m.saturating_mul(n).saturating_mul(k) >= SHARED {
        gemm::Parallelism::Rayon(0)
    } else {
        gemm::Parallelism::None
    };
    let [a_row, a_col] = a.strides.map(|s| s as isize);
    let [b_row, b_col] = b.strides.map(|s| s as isize);
    // SAFETY: `gemm` reads elements (i < m, j < k) of a and (i < k, j < n) of b, which their constructor found inside their
    // slices, and writes elements (i < m, j < n) of `out`, which the assertion above found inside it; no two of them
    // coincide, as n ≤ stride. `out` is borrowed mutably, so it overlaps neither input. All of it is initialised.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            stride as isize,
            onto == Onto::Old,
            a.data.as_ptr(),
            a_col,
            a_row,
            b.data.as_ptr(),
            b_col,
            b_row,
            1.0,
            scale,
            false,
            false,
            false,
            threads,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_go_where_they_should_and_nowhere_else() {
        let (a, b) = (
            [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
            [1.0, 0.0, 2.0, 1.0, 0.0, 3.0],
        );
        let mut out = [9.0; 8];
        product(
            (&mut out, 4),
            Onto::Nothing,
            1.0,
            View::rows(&a, 3),
            View::rows(&b, 2),
        );
        assert_eq!(out, [5.0, 11.0, 9.0, 9.0, 14.0, 23.0, 9.0, 9.0]);
        let b = View::rows(&b, 3).t();
        product((&mut out, 4), Onto::Old, 2.0, View::rows(&a, 3), b);
        assert_eq!(out, [19.0, 31.0, 9.0, 9.0, 46.0, 67.0, 9.0, 9.0]);
    }

    #[test]
    #[should_panic(expected = "a view of more than there is")]
    fn a_view_ends_where_its_data_does() {
        View::new(&[0.0; 5], [2, 3], [3, 1]);
    }

    #[test]
    fn columns_are_a_view_of_their_own() {
        let (a, one) = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1.0]);
        let mut out = [0.0; 2];
        let column = View::rows(&a, 3).columns(1..2);
        let one = View::rows(&one, 1);
        product((&mut out, 1), Onto::Nothing, 1.0, column, one);
        assert_eq!(out, [2.0, 5.0]);
    }

    #[test]
    fn rows_are_copied_from_wherever_they_lie() {
        let a = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let mut out = [0.0; 4];
        View::rows(&a, 2).copy(1, &mut out);
        assert_eq!(out, [3.0, 4.0, 5.0, 6.0]);
        View::rows(&a, 3).t().copy(1, &mut out);
        assert_eq!(out, [2.0, 5.0, 3.0, 6.0]);
        for (rows, cols, first) in [(40, 37, 3), (16, 16, 0), (33, 1, 1), (5, 40, 0)] {
            let a: Vec<f32> = (0..rows * cols).map(|i| i as f32).collect();
            let turned = View::rows(&a, rows).t();
            let mut out = vec![0.0; (rows - first) * cols];
            turned.copy(first, &mut out);
            for (at, x) in out.into_iter().enumerate() {
                let (i, j) = (first + at / cols, at % cols);
                assert_eq!(x, (j * rows + i) as f32, "{rows} x {cols}: {i}, {j}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "columns 2..4 of 3")]
    fn columns_end_where_their_matrix_does() {
        View::rows(&[0.0; 6], 3).columns(2..4);
    }

    #[test]
    #[should_panic(expected = "larger than its place")]
    fn a_product_ends_where_its_place_does() {
        let one = [1.0; 4];
        let view = View::rows(&one, 2);
        product((&mut [0.0; 3], 2), Onto::Nothing, 1.0, view, view);
    }
}
