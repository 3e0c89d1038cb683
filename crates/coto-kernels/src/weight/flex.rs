//! Frozen matrices as the CPU backend has them, read in tiles.

use std::cell::RefCell;
use std::ops::Range;

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, ExtensionType, Flex};

use crate::matrix::{Onto, View, product};
use crate::memory::{dense, tensor};
use crate::quantised::Rows;

/// Numbers of a matrix that are dequantised, or copied, at a time, 4 MiB.
const TILE: usize = 1024 * 1024;

/// From so many rows of x on a matrix that lies badly is copied.
const COPIED: usize = 16;

/// A frozen matrix, as it crosses to a backend.
#[derive(Debug, Clone, ExtensionType)]
pub(crate) enum Matrix<B: Backend> {
    /// [in, out].
    Dense(FloatTensor<B>),
    /// As [`Quantised`](crate::Quantised) has it; offsets and codebook without elements stand for none.
    Quantised {
        words: IntTensor<B>,
        scales: FloatTensor<B>,
        offsets: FloatTensor<B>,
        book: FloatTensor<B>,
        /// Bits a code, and inputs.
        form: [usize; 2],
    },
}

thread_local! {
    /// The memory of tiles that are done with.
    static TILES: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// Fills a tile with some columns of a matrix, and calls `work` with it, until all columns have been there.
fn tiled(
    [inputs, outputs]: [usize; 2],
    fill: impl Fn(Range<usize>, &mut [f32]),
    mut work: impl FnMut(Range<usize>, &[f32]),
) {
    let each = (TILE / inputs.max(1)).clamp(1, outputs.max(1));
    let mut scratch = TILES.with_borrow_mut(Vec::pop).unwrap_or_default();
    if scratch.len() < each * inputs {
        scratch.resize(each * inputs, 0.0);
    }
    for start in (0..outputs).step_by(each) {
        let columns = start..outputs.min(start + each);
        let tile = &mut scratch[..columns.len() * inputs];
        fill(columns.clone(), tile);
        work(columns, tile);
    }
    if scratch.len() <= TILE {
        TILES.with_borrow_mut(|tiles| tiles.push(scratch));
    }
}

/// x W into `out`, whose rows begin `stride` apart; of a matrix that lies badly by way of tiles that lie well.
fn times((out, stride): (&mut [f32], usize), onto: Onto, x: View, weight: View) {
    if x.dims()[0] < COPIED || !weight.far() {
        return product((out, stride), onto, 1.0, x, weight);
    }
    let fill = |columns: Range<usize>, tile: &mut [f32]| weight.columns(columns).copy(0, tile);
    tiled(weight.dims(), fill, |columns, tile| {
        let place = (&mut out[columns.start..], stride);
        let tile = View::rows(tile, columns.len());
        product(place, onto, 1.0, x, tile);
    });
}

impl<C: CheckpointStrategy> Matrix<Autodiff<Flex, C>> {
    /// The constant that it is.
    pub fn into_inner(self) -> Matrix<Flex> {
        match self {
            Self::Dense(weight) => Matrix::Dense(weight.into_primitive()),
            Self::Quantised {
                words,
                scales,
                offsets,
                book,
                form,
            } => Matrix::Quantised {
                words,
                scales: scales.into_primitive(),
                offsets: offsets.into_primitive(),
                book: book.into_primitive(),
                form,
            },
        }
    }
}

impl Matrix<Flex> {
    /// [in, out].
    pub fn dims(&self) -> [usize; 2] {
        match self {
            Self::Dense(weight) => View::of(weight).dims(),
            Self::Quantised { words, form, .. } => [form[1], words.layout().shape()[0]],
        }
    }

    /// Calls `work` with some columns at a time, until all have been there.
    fn tiles(&self, mut work: impl FnMut(Range<usize>, View)) {
        match self {
            Self::Dense(weight) => {
                let weight = View::of(weight);
                work(0..weight.dims()[1], weight);
            }
            Self::Quantised { .. } => {
                let inputs = self.dims()[0];
                self.transposed(|columns, tile| work(columns, View::rows(tile, inputs).t()));
            }
        }
    }

    /// Calls `work` with some rows of Wᵀ at a time, side by side in memory, until all have been there.
    pub fn transposed(&self, work: impl FnMut(Range<usize>, &[f32])) {
        match self {
            Self::Dense(weight) => {
                let weight = View::of(weight);
                let fill = |columns: Range<usize>, tile: &mut [f32]| {
                    weight.t().copy(columns.start, tile);
                };
                tiled(weight.dims(), fill, work);
            }
            Self::Quantised { .. } => self.rows(|rows| {
                let fill = |columns: Range<usize>, tile: &mut [f32]| {
                    rows.dequantise(columns.start, tile);
                };
                tiled(self.dims(), fill, work);
            }),
        }
    }

    /// Calls `work` with the rows of a quantised matrix.
    fn rows(&self, work: impl FnOnce(Rows)) {
        if let Self::Quantised {
            words,
            scales,
            offsets,
            book,
            form,
        } = self
        {
            let words = words.to_contiguous();
            let [scales, offsets, book] = [scales, offsets, book].map(|x| dense(x.clone()));
            work(Rows::new(&words, &scales, &offsets, &book, *form));
        }
    }

    /// Wᵀ of a quantised matrix, [out, in].
    pub fn dequantise(&self) -> FloatTensor<Flex> {
        let [inputs, outputs] = self.dims();
        let mut values = vec![0.0; inputs * outputs];
        self.rows(|rows| rows.dequantise(0, &mut values));
        tensor(values, [outputs, inputs])
    }

    /// x W into `out`, [rows of x, out].
    pub fn product(&self, out: &mut [f32], onto: Onto, x: View) {
        if let (Some(x), Self::Quantised { .. }) = (x.row(), self) {
            return self.rows(|rows| rows.dot(x, onto, out));
        }
        let stride = self.dims()[1];
        self.tiles(|columns, weight| {
            times((&mut out[columns.start..], stride), onto, x, weight);
        });
    }

    /// g Wᵀ into `out`, [rows of g, in].
    pub fn product_back(&self, out: &mut [f32], grad: View) {
        let stride = self.dims()[0];
        self.tiles(|columns, weight| {
            let onto = match columns.start {
                0 => Onto::Nothing,
                _ => Onto::Old,
            };
            times((&mut *out, stride), onto, grad.columns(columns), weight.t());
        });
    }
}
