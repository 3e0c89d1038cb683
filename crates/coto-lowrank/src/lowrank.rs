use std::ops::Range;

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};

use crate::{Error, Matrix};

/// An update ΔW = B A of one module, its scale in the factors.
#[derive(Debug, Clone)]
pub struct LowRank {
    a: Mat<f64>,
    b: Mat<f64>,
}

/// A singular value decomposition ΔW = U diag(s) Vᵀ.
#[derive(Debug, Clone)]
pub struct Svd {
    /// Left singular vectors, [out, k].
    pub u: Mat<f64>,
    /// Singular values, the largest first: k = min(out, in, r) of them.
    pub s: Vec<f64>,
    /// Right singular vectors, [in, k].
    pub v: Mat<f64>,
}

impl LowRank {
    /// The update B A.
    ///
    /// # Shapes
    /// A is [r, in], B is [out, r].
    ///
    /// # Errors
    /// [`Error::Shape`] for factors of two ranks, [`Error::Rank`] for rank 0.
    pub fn new(a: Mat<f64>, b: Mat<f64>) -> Result<Self, Error> {
        if a.nrows() != b.ncols() {
            return Err(Error::Shape {
                what: "factor A",
                found: [a.nrows(), a.ncols()],
                expected: [b.ncols(), a.ncols()],
            });
        }
        if a.nrows() == 0 {
            return Err(Error::Rank);
        }
        Ok(Self { a, b })
    }

    /// The update `scale` · B A. The scale goes into B.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn of(a: &Matrix, b: &Matrix, scale: f64) -> Result<Self, Error> {
        Self::new(a.to_f64(), b.to_f64() * faer::Scale(scale))
    }

    /// The factor A, [r, in].
    pub fn a(&self) -> MatRef<'_, f64> {
        self.a.as_ref()
    }

    /// The factor B, [out, r].
    pub fn b(&self) -> MatRef<'_, f64> {
        self.b.as_ref()
    }

    /// The number of rank-one terms, r; the matrix itself may be of a lower rank.
    pub fn rank(&self) -> usize {
        self.a.nrows()
    }

    /// The sizes of ΔW: [out, in].
    pub fn dims(&self) -> [usize; 2] {
        [self.b.nrows(), self.a.ncols()]
    }

    /// `factor` times the update.
    pub fn scaled(&self, factor: f64) -> Self {
        Self {
            a: self.a.clone(),
            b: &self.b * faer::Scale(factor),
        }
    }

    /// Σ wₖ ΔWₖ, exactly, of rank Σ rₖ: the A stacked, the weighted B side by side.
    ///
    /// # Errors
    /// [`Error::Empty`]; [`Error::Shape`] for updates of different sizes.
    pub fn sum(parts: &[(&Self, f64)]) -> Result<Self, Error> {
        let (first, _) = parts.first().ok_or(Error::Empty)?;
        parts
            .iter()
            .try_for_each(|(part, _)| first.fits(part, "update"))?;
        let [out, input] = first.dims();
        let rank = parts.iter().map(|(part, _)| part.rank()).sum();
        let (mut a, mut b) = (Mat::zeros(rank, input), Mat::zeros(out, rank));
        let mut at = 0;
        for (part, weight) in parts {
            let r = part.rank();
            a.as_mut().subrows_mut(at, r).copy_from(&part.a);
            let weighted = &part.b * faer::Scale(*weight);
            b.as_mut().subcols_mut(at, r).copy_from(weighted);
            at += r;
        }
        Self::new(a, b)
    }

    /// ⟨ΔW₁, ΔW₂⟩ = Σ (B₁ᵀB₂) ⊙ (A₁A₂ᵀ), the inner product of the flattened updates.
    ///
    /// # Errors
    /// [`Error::Shape`] for updates of different sizes.
    pub fn inner(&self, other: &Self) -> Result<f64, Error> {
        self.fits(other, "update")?;
        let (b, a) = (self.b.transpose() * &other.b, &self.a * other.a.transpose());
        let terms = (0..b.ncols()).flat_map(|j| (0..b.nrows()).map(move |i| (i, j)));
        Ok(terms.map(|at| b[at] * a[at]).sum())
    }

    /// The Frobenius norm of ΔW.
    pub fn norm(&self) -> f64 {
        self.inner(self)
            .map_or(0.0, |square| square.max(0.0).sqrt())
    }

    /// The singular value decomposition, by QR of both factors and the decomposition of the small core between them.
    ///
    /// # Errors
    /// [`Error::Diverges`], of entries that are not finite.
    pub fn svd(&self) -> Result<Svd, Error> {
        let (left, right) = (self.b.qr(), self.a.transpose().qr());
        let core = left.thin_R() * right.thin_R().transpose();
        let found = core.thin_svd().map_err(|_| Error::Diverges {
            rows: core.nrows(),
            cols: core.ncols(),
        })?;
        Ok(Svd {
            u: left.compute_thin_Q() * found.U(),
            s: found.S().column_vector().iter().copied().collect(),
            v: right.compute_thin_Q() * found.V(),
        })
    }

    /// The nearest update of at most this rank (Eckart and Young, Psychometrika 1, 1936), and its distance from this one over
    /// this one's norm. An update of no higher rank stays as it is.
    ///
    /// # Errors
    /// [`Error::Rank`] for rank 0; as [`svd`](Self::svd).
    pub fn compressed(&self, rank: usize) -> Result<(Self, f64), Error> {
        if rank == 0 {
            return Err(Error::Rank);
        }
        if self.rank() <= rank {
            return Ok((self.clone(), 0.0));
        }
        let svd = self.svd()?;
        Ok((svd.truncated(rank), svd.error(rank)))
    }

    /// Some rows of ΔW, in f32.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn dense_rows(&self, rows: Range<usize>) -> Matrix {
        let single = |matrix: MatRef<f64>| {
            Mat::<f32>::from_fn(matrix.nrows(), matrix.ncols(), |i, j| matrix[(i, j)] as f32)
        };
        let (count, input) = (rows.len(), self.a.ncols());
        let b = single(self.b().subrows(rows.start, count));
        let mut dense = Matrix::zeros(count, input);
        let place = faer::MatMut::from_row_major_slice_mut(dense.values_mut(), count, input);
        matmul(
            place,
            Accum::Replace,
            &b,
            &single(self.a()),
            1.0,
            Par::rayon(0),
        );
        dense
    }

    /// ΔW, in f32.
    pub fn dense(&self) -> Matrix {
        self.dense_rows(0..self.b.nrows())
    }

    fn fits(&self, other: &Self, what: &'static str) -> Result<(), Error> {
        if self.dims() == other.dims() {
            return Ok(());
        }
        Err(Error::Shape {
            what,
            found: other.dims(),
            expected: self.dims(),
        })
    }
}

impl Svd {
    /// The update of the largest `rank` singular values, B = U √s and A = √s Vᵀ; of all where there are no more.
    ///
    /// # Panics
    /// For rank 0.
    pub fn truncated(&self, rank: usize) -> LowRank {
        let rank = rank.min(self.s.len());
        assert!(rank > 0, "rank 0");
        let root = |k: usize| self.s[k].sqrt();
        LowRank {
            a: Mat::from_fn(rank, self.v.nrows(), |k, j| root(k) * self.v[(j, k)]),
            b: Mat::from_fn(self.u.nrows(), rank, |i, k| self.u[(i, k)] * root(k)),
        }
    }

    /// What [`truncated`](Self::truncated) leaves out: √(Σ of the left-out s²), over the norm; 0 for an update of zeros.
    pub fn error(&self, rank: usize) -> f64 {
        let energy = |s: &[f64]| s.iter().map(|s| s * s).sum::<f64>();
        let all = energy(&self.s);
        let lost = energy(&self.s[rank.min(self.s.len())..]);
        if all > 0.0 { (lost / all).sqrt() } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn update(out: usize, input: usize, rank: usize, seed: u64) -> LowRank {
        let noise = |i: usize, j: usize, k: u64| {
            let mut x = seed ^ (i as u64) << 40 ^ (j as u64) << 20 ^ k << 60;
            x = (x ^ x >> 31).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            x = (x ^ x >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            ((x ^ x >> 32) as f64) / u64::MAX as f64 - 0.5
        };
        LowRank::new(
            Mat::from_fn(rank, input, |i, j| noise(i, j, 1)),
            Mat::from_fn(out, rank, |i, j| noise(i, j, 2)),
        )
        .unwrap()
    }

    fn full(update: &LowRank) -> Mat<f64> {
        update.b() * update.a()
    }

    fn gap(a: &Mat<f64>, b: &Mat<f64>) -> f64 {
        (a - b).norm_l2() / b.norm_l2()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn sums_products_and_decompositions_are_those_of_the_matrix(
            (out, input, r1, r2, seed) in (1usize..40, 1usize..40, 1usize..65, 1usize..20, any::<u64>())
        ) {
            let (one, two) = (update(out, input, r1, seed), update(out, input, r2, !seed));
            let sum = LowRank::sum(&[(&one, 0.3), (&two, -1.5)]).unwrap();
            let expected = full(&one) * faer::Scale(0.3) - full(&two) * faer::Scale(1.5);
            prop_assert!(gap(&full(&sum), &expected) < 1e-12);
            let inner: f64 = (full(&one).transpose() * full(&two)).diagonal().column_vector().iter().sum();
            let size = one.norm() * two.norm();
            prop_assert!((one.inner(&two).unwrap() - inner).abs() < 1e-12 * size);
            let svd = sum.svd().unwrap();
            prop_assert_eq!(svd.s.len(), out.min(input).min(r1 + r2));
            prop_assert!(svd.s.is_sorted_by(|a, b| a >= b));
            prop_assert!(gap(&full(&svd.truncated(usize::MAX)), &expected) < 1e-10);
            let dense = sum.dense().to_f64();
            prop_assert!(gap(&dense, &expected) < 1e-5);
        }

        #[test]
        fn compression_loses_what_it_says(
            (out, input, rank, to, seed) in (2usize..40, 2usize..40, 1usize..40, 1usize..40, any::<u64>())
        ) {
            let whole = update(out, input, rank, seed);
            let (small, error) = whole.compressed(to).unwrap();
            prop_assert!(small.rank() <= to.max(1));
            let lost = (full(&small) - full(&whole)).norm_l2() / whole.norm();
            prop_assert!((lost - error).abs() < 1e-7, "{lost} {error}");
            if to >= rank.min(out).min(input) {
                prop_assert!(error < 1e-7);
            }
        }
    }

    #[test]
    fn the_same_update_twice_compresses_to_its_own_rank() {
        let one = update(30, 20, 4, 1);
        let sum = LowRank::sum(&[(&one, 0.5), (&one, 0.5)]).unwrap();
        let (small, error) = sum.compressed(4).unwrap();
        assert!(error < 1e-12 && gap(&full(&small), &full(&one)) < 1e-12);
    }

    #[test]
    fn an_update_of_zeros_has_a_decomposition() {
        let zeros = LowRank::new(Mat::zeros(3, 5), Mat::zeros(4, 3)).unwrap();
        let (small, error) = zeros.compressed(1).unwrap();
        assert_eq!((small.norm(), error), (0.0, 0.0));
    }

    #[test]
    fn what_does_not_fit_is_told() {
        let (one, two) = (update(3, 4, 1, 1), update(3, 5, 1, 1));
        let error = LowRank::sum(&[(&one, 1.0), (&two, 1.0)]).unwrap_err();
        assert_eq!(error.to_string(), "update: [3, 5] does not fit [3, 4]");
        assert!(one.inner(&two).is_err());
        assert!(matches!(LowRank::sum(&[]), Err(Error::Empty)));
        assert!(matches!(one.compressed(0), Err(Error::Rank)));
        let error = LowRank::new(Mat::zeros(2, 4), Mat::zeros(3, 1)).unwrap_err();
        assert!(matches!(error, Error::Shape { .. }));
        let nan = LowRank::new(Mat::from_fn(1, 4, |_, _| f64::NAN), Mat::zeros(3, 1)).unwrap();
        assert!(matches!(nan.svd(), Err(Error::Diverges { .. })));
    }
}
