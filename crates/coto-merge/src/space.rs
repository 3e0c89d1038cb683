use std::sync::Arc;

use coto_lowrank::faer::{Mat, MatRef};
use coto_lowrank::{LowRank, Matrix};

use crate::{Error, Method, Parts, Rule, Weighted};

/// Where a rule sees the updates.
///
/// All but the first are one idea: with orthonormal bases U and V the rule sees the coordinates Uᵀ τₖ V, and what it makes of
/// them, M, stands for U M Vᵀ. Bases that span the updates lose nothing. A rule whose result is Σ cₖ τₖ is the same in all
/// lossless spaces and is done on the factors; any other sees different entries, and so gives a different result, in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    /// A and B, each for itself; A as the folder has it, B with the scale in it. The product has cross terms Bⱼ Aₖ. The
    /// linear rule here is the fusion of LoraRetriever (arXiv 2402.09997) and CopRA (arXiv 2410.22911). One rank for all.
    Factors,
    /// The entries of ΔW: no bases. Costs out · in numbers for each adapter, in f32, and the result is of full rank.
    Delta,
    /// KnOTS (arXiv 2410.19735): U of [τ₁ … τ_K] = U S [V₁ … V_K]ᵀ, so that the coordinates are S Vₖᵀ; V is left out. Directions
    /// with a singular value of at most 10⁻⁸ of the largest are dropped (the authors drop those of at most 10⁻⁵), and that is all
    /// that is lost.
    Knots,
    /// Core Space (arXiv 2509.17786): U of the B side by side, scales in them, and V of the stacked A. The coordinates are small,
    /// and nothing is lost.
    Core,
    /// Bases of one rank r for all adapters: the r largest left singular vectors of [τ₁ … τ_K] and right ones of
    /// [τ₁; …; τ_K]. The result is of rank r, and what lies outside of the bases is lost. This is our reading of
    /// Compress-then-Merge (arXiv 2606.03723), of which only the abstract was read.
    Shared {
        /// The rank r.
        rank: usize,
    },
}

/// A rule in a space.
#[derive(Debug, Clone)]
pub struct InSpace {
    /// Where the rule sees the updates.
    pub space: Space,
    /// The rule.
    pub rule: Arc<dyn Rule>,
}

impl Method for InSpace {
    fn merge(&self, parts: &Parts) -> Result<LowRank, Error> {
        let bases = match self.space {
            Space::Factors => return self.on_factors(parts),
            Space::Shared { rank } => Bases::shared(parts, rank)?,
            lossless => {
                if let Some(coefficients) = self.coefficients(parts)? {
                    return Ok(combined(parts, &coefficients)?);
                }
                match lossless {
                    Space::Knots => Bases::knots(parts)?,
                    Space::Core => Bases::core(parts)?,
                    _ => Bases::default(),
                }
            }
        };
        let seen = weighted(parts, |update| bases.coordinates(update));
        let merged = self.on(seen, parts, parts.seed)?;
        Ok(bases.update(&merged)?)
    }
}

impl InSpace {
    fn on_factors(&self, parts: &Parts) -> Result<LowRank, Error> {
        let rank = parts.parts[0].update.rank();
        if let Some(other) = parts.parts.iter().find(|part| part.update.rank() != rank) {
            let other = other.update.rank();
            return Err(parts.refused(format!(
                "A and B can be merged each for itself only where all adapters have one rank, and here are {rank} and {other}; \
                 the other spaces take any ranks"
            )));
        }
        let a = weighted(parts, |update| Matrix::rounded(update.a()));
        let b = weighted(parts, |update| Matrix::rounded(update.b()));
        let a = self.on(a, parts, parts.seed)?;
        // Another seed: what is drawn for A and for B is independent.
        let b = self.on(b, parts, !parts.seed)?;
        Ok(LowRank::of(&a, &b, 1.0)?)
    }

    fn on(&self, seen: Vec<Weighted>, parts: &Parts, seed: u64) -> Result<Matrix, Error> {
        let merged = self
            .rule
            .merge(&seen, seed)
            .map_err(|error| error.at(parts.path))?;
        let sizes = |matrix: &Matrix| (matrix.rows(), matrix.cols());
        if sizes(&merged) != sizes(&seen[0].matrix) {
            return Err(parts.refused(format!("{:?} changes the sizes of matrices", self.rule)));
        }
        Ok(merged)
    }

    fn coefficients(&self, parts: &Parts) -> Result<Option<Vec<f64>>, Error> {
        let mut gram = vec![vec![0.0; parts.adapters()]; parts.adapters()];
        for (i, one) in parts.parts.iter().enumerate() {
            for other in &parts.parts[i..] {
                let inner = one.update.inner(&other.update)?;
                gram[one.adapter][other.adapter] = inner;
                gram[other.adapter][one.adapter] = inner;
            }
        }
        let found = self.rule.coefficients(&gram, parts.weights).transpose();
        let found = found.map_err(|error| error.at(parts.path))?;
        if let Some(coefficients) = &found
            && (coefficients.len() != parts.adapters()
                || coefficients.iter().any(|c| !c.is_finite()))
        {
            return Err(parts.refused(format!(
                "{:?} gives the coefficients {coefficients:?} for the weights {:?}",
                self.rule, parts.weights
            )));
        }
        Ok(found)
    }
}

fn combined(parts: &Parts, coefficients: &[f64]) -> Result<LowRank, coto_lowrank::Error> {
    let terms = parts.parts.iter();
    let terms: Vec<_> = terms
        .map(|part| (&part.update, coefficients[part.adapter]))
        .collect();
    LowRank::sum(&terms)
}

/// What a rule sees: of each adapter a matrix, of one that does not adapt the module a matrix of zeros.
fn weighted(parts: &Parts, view: impl Fn(&LowRank) -> Matrix) -> Vec<Weighted> {
    let seen: Vec<Option<Matrix>> = parts
        .by_adapter()
        .map(|part| part.map(|part| view(&part.update)))
        .collect();
    let shape = seen.iter().flatten().next().map(|m| (m.rows(), m.cols()));
    let (rows, cols) = shape.unwrap_or_default();
    let weights = parts.weights.iter();
    let each = seen.into_iter().zip(weights);
    each.map(|(matrix, &weight)| Weighted {
        matrix: matrix.unwrap_or_else(|| Matrix::zeros(rows, cols)),
        weight,
    })
    .collect()
}

/// Orthonormal columns of both sides, U [out, p] and V [in, q]; `None` is the identity.
#[derive(Default)]
struct Bases {
    left: Option<Mat<f64>>,
    right: Option<Mat<f64>>,
}

/// Factors of one update, or of its transpose: B [out, r] and A [r, in].
type Factors<'a> = (MatRef<'a, f64>, MatRef<'a, f64>);

impl Bases {
    fn knots(parts: &Parts) -> Result<Self, Error> {
        let (u, s) = joint(&factors(parts))?;
        let kept = s.iter().filter(|&&value| value > 1e-8 * s[0]).count();
        Ok(Self {
            left: Some(u.subcols(0, kept.max(1)).to_owned()),
            right: None,
        })
    }

    fn core(parts: &Parts) -> Result<Self, Error> {
        let side = |columns: Vec<MatRef<f64>>| -> Result<Mat<f64>, Error> {
            let qr = beside(&columns).qr();
            let (u, _) = left_vectors(&qr.thin_R().to_owned())?;
            Ok(qr.compute_thin_Q() * u)
        };
        let parts = parts.parts.iter();
        Ok(Self {
            left: Some(side(parts.clone().map(|part| part.update.b()).collect())?),
            right: Some(side(
                parts.map(|part| part.update.a().transpose()).collect(),
            )?),
        })
    }

    fn shared(parts: &Parts, rank: usize) -> Result<Self, Error> {
        if rank == 0 {
            return Err(
                parts.refused("the shared bases are of rank 0, but must have at least rank 1")
            );
        }
        let factors = factors(parts);
        let turned: Vec<_> = factors
            .iter()
            .map(|(b, a)| (a.transpose(), b.transpose()))
            .collect();
        let top = |factors: &[Factors]| -> Result<_, Error> {
            let (u, s) = joint(factors)?;
            Ok(Some(u.subcols(0, rank.min(s.len())).to_owned()))
        };
        Ok(Self {
            left: top(&factors)?,
            right: top(&turned)?,
        })
    }

    /// Uᵀ ΔW V, in f32.
    fn coordinates(&self, update: &LowRank) -> Matrix {
        let b = self.left.as_ref().map(|u| u.transpose() * update.b());
        let a = self.right.as_ref().map(|v| update.a() * v);
        if b.is_none() && a.is_none() {
            return update.dense();
        }
        let b = b.as_ref().map_or(update.b(), Mat::as_ref);
        let a = a.as_ref().map_or(update.a(), Mat::as_ref);
        Matrix::rounded((b * a).as_ref())
    }

    /// U M Vᵀ, of the smaller of M's sizes for its rank.
    fn update(&self, coordinates: &Matrix) -> Result<LowRank, coto_lowrank::Error> {
        let m = coordinates.to_f64();
        let left = |m: Option<Mat<f64>>| match (&self.left, m) {
            (Some(u), Some(m)) => u * m,
            (Some(u), None) => u.clone(),
            (None, Some(m)) => m,
            (None, None) => Mat::identity(coordinates.rows(), coordinates.rows()),
        };
        let right = |m: Option<Mat<f64>>| match (&self.right, m) {
            (Some(v), Some(m)) => m * v.transpose(),
            (Some(v), None) => v.transpose().to_owned(),
            (None, Some(m)) => m,
            (None, None) => Mat::identity(coordinates.cols(), coordinates.cols()),
        };
        if m.nrows() <= m.ncols() {
            LowRank::new(right(Some(m)), left(None))
        } else {
            LowRank::new(right(None), left(Some(m)))
        }
    }
}

fn factors<'a>(parts: &'a Parts) -> Vec<Factors<'a>> {
    let each = parts.parts.iter();
    each.map(|part| (part.update.b(), part.update.a()))
        .collect()
}

/// The left singular vectors and singular values of [B₁A₁ … B_K A_K], by QR of the B side by side and of each Aₖᵀ.
fn joint(factors: &[Factors]) -> Result<(Mat<f64>, Vec<f64>), Error> {
    let columns: Vec<_> = factors.iter().map(|(b, _)| *b).collect();
    let left = beside(&columns).qr();
    let triangle = left.thin_R();
    let mut at = 0;
    let blocks: Vec<Mat<f64>> = factors
        .iter()
        .map(|(_, a)| {
            let block = triangle.subcols(at, a.nrows());
            at += a.nrows();
            block * a.transpose().qr().thin_R().transpose()
        })
        .collect();
    let blocks: Vec<_> = blocks.iter().map(Mat::as_ref).collect();
    let (u, s) = left_vectors(&beside(&blocks))?;
    Ok((left.compute_thin_Q() * u, s))
}

fn left_vectors(matrix: &Mat<f64>) -> Result<(Mat<f64>, Vec<f64>), Error> {
    let found = matrix
        .thin_svd()
        .map_err(|_| coto_lowrank::Error::Diverges {
            rows: matrix.nrows(),
            cols: matrix.ncols(),
        })?;
    let s = found.S().column_vector().iter().copied().collect();
    Ok((found.U().to_owned(), s))
}

fn beside(columns: &[MatRef<f64>]) -> Mat<f64> {
    let rows = columns.first().map_or(0, |first| first.nrows());
    let mut all = Mat::zeros(rows, columns.iter().map(|part| part.ncols()).sum());
    let mut at = 0;
    for part in columns {
        all.as_mut().subcols_mut(at, part.ncols()).copy_from(part);
        at += part.ncols();
    }
    all
}
