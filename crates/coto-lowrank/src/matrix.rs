use std::ops::Range;

use coto_peft::HostTensor;
use faer::{Mat, MatRef};

use crate::Error;

/// Rows that are converted together, between matrices that lie row by row and those that lie column by column: a cache line of each
/// column.
const BAND: usize = 8;

/// A dense matrix on the host, row by row.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    rows: usize,
    cols: usize,
    values: Vec<f32>,
}

impl Matrix {
    /// A matrix of these values, row by row.
    ///
    /// # Errors
    /// [`Error::Shape`] for another number of values.
    pub fn new(rows: usize, cols: usize, values: Vec<f32>) -> Result<Self, Error> {
        if rows.checked_mul(cols) != Some(values.len()) {
            return Err(Error::Shape {
                what: "values",
                found: [1, values.len()],
                expected: [rows, cols],
            });
        }
        Ok(Self { rows, cols, values })
    }

    /// A matrix of zeros.
    pub fn zeros(rows: usize, cols: usize) -> Self {
        Self {
            rows,
            cols,
            values: vec![0.0; rows * cols],
        }
    }

    /// A matrix with `value(row, column)` at each place.
    pub fn from_fn(rows: usize, cols: usize, mut value: impl FnMut(usize, usize) -> f32) -> Self {
        let places = (0..rows).flat_map(|i| (0..cols).map(move |j| (i, j)));
        let values = places.map(|(i, j)| value(i, j)).collect();
        Self { rows, cols, values }
    }

    /// A folder's tensor; a vector is one row.
    ///
    /// # Errors
    /// [`Error::Peft`] for a dtype that is none of floats.
    pub fn read(tensor: &HostTensor) -> Result<Self, Error> {
        let values = tensor.to_f32()?;
        match tensor.shape[..] {
            [rows, cols] => Self::new(rows, cols, values),
            _ => Self::new(1, values.len(), values),
        }
    }

    /// The matrix as a folder's tensor, f32.
    ///
    /// # Errors
    /// [`Error::Peft`] for sizes that no tensor has.
    pub fn to_tensor(&self) -> Result<HostTensor, Error> {
        Ok(HostTensor::from_f32([self.rows, self.cols], &self.values)?)
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// All values, row by row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// All values, row by row, to be changed.
    pub fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }

    /// The values, row by row.
    pub fn into_values(self) -> Vec<f32> {
        self.values
    }

    /// One row.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.cols..][..self.cols]
    }

    /// One row, to be changed.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row_mut(&mut self, row: usize) -> &mut [f32] {
        &mut self.values[row * self.cols..][..self.cols]
    }

    /// The matrix with rows and columns exchanged.
    pub fn transposed(&self) -> Self {
        Self::from_fn(self.cols, self.rows, |i, j| self.row(j)[i])
    }

    /// The Frobenius norm.
    pub fn norm(&self) -> f64 {
        let squares = self.values.iter().map(|&x| f64::from(x).powi(2));
        squares.sum::<f64>().sqrt()
    }

    /// The matrix in f64.
    pub fn to_f64(&self) -> Mat<f64> {
        let mut matrix = Mat::zeros(self.rows, self.cols);
        let bands = self.values.chunks(BAND * self.cols.max(1));
        for (at, band) in bands.enumerate() {
            let count = band.len() / self.cols;
            let mut places = matrix.as_mut().subrows_mut(at * BAND, count);
            for (j, column) in places.as_mut().col_iter_mut().enumerate() {
                for (i, place) in column.iter_mut().enumerate() {
                    *place = f64::from(band[i * self.cols + j]);
                }
            }
        }
        matrix
    }

    /// The matrix rounded to f32.
    pub fn rounded(matrix: MatRef<f64>) -> Self {
        let mut rounded = Self::zeros(matrix.nrows(), matrix.ncols());
        let cols = rounded.cols;
        let bands = rounded.values.chunks_mut(BAND * cols.max(1));
        for (at, band) in bands.enumerate() {
            let values = matrix.subrows(at * BAND, band.len() / cols);
            for (j, column) in values.col_iter().enumerate() {
                for (i, &value) in column.iter().enumerate() {
                    band[i * cols + j] = value as f32;
                }
            }
        }
        rounded
    }

    /// Some of the columns.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn columns(&self, range: Range<usize>) -> Self {
        assert!(range.end <= self.cols, "there are {} columns", self.cols);
        Self::from_fn(self.rows, range.len(), |i, j| self.row(i)[range.start + j])
    }
}
