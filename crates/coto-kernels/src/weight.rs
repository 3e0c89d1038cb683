//! The matrix of a frozen linear: dense or quantised.

use burn::tensor::{Device, Int, Tensor};

use crate::Quantised;

#[cfg(feature = "flex")]
mod flex;
#[cfg(feature = "flex")]
pub(crate) use flex::Matrix;

/// A frozen matrix W, [in, out].
#[derive(Debug, Clone)]
#[allow(
    clippy::large_enum_variant,
    reason = "most matrices are of the large one"
)]
pub enum Weight {
    /// Every number by itself.
    Dense(Tensor<2>),
    /// In groups along its inputs.
    Quantised(Quantised),
}

impl From<Tensor<2>> for Weight {
    fn from(weight: Tensor<2>) -> Self {
        Self::Dense(weight)
    }
}

impl From<Quantised> for Weight {
    fn from(weight: Quantised) -> Self {
        Self::Quantised(weight)
    }
}

impl Weight {
    /// [in, out].
    pub fn dims(&self) -> [usize; 2] {
        match self {
            Self::Dense(weight) => weight.dims(),
            Self::Quantised(weight) => weight.dims(),
        }
    }

    /// Where it lies.
    pub fn device(&self) -> Device {
        match self {
            Self::Dense(weight) => weight.device(),
            Self::Quantised(weight) => weight.device(),
        }
    }

    /// W, [in, out]; dequantised into new memory where it is quantised.
    pub fn dense(&self) -> Tensor<2> {
        match self {
            Self::Dense(weight) => weight.clone(),
            Self::Quantised(weight) => weight.dequantise().transpose(),
        }
    }

    /// Its size in memory.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Dense(weight) => weight.shape().num_elements() * weight.dtype().size(),
            Self::Quantised(weight) => weight.bytes(),
        }
    }

    /// The rows `ids` of Wᵀ, [n, in], and no others dequantised: what an embedding reads of a table that is a head too.
    pub fn columns(&self, ids: Tensor<1, Int>) -> Tensor<2> {
        match self {
            Self::Dense(weight) => weight.clone().transpose().select(0, ids),
            Self::Quantised(weight) => weight.select(ids).dequantise(),
        }
    }

    /// Whether the fast forms take it.
    #[cfg(feature = "flex")]
    pub(crate) fn fast(&self) -> bool {
        match self {
            Self::Dense(weight) => crate::fast(weight),
            Self::Quantised(weight) => weight.fast(),
        }
    }

    #[cfg(feature = "flex")]
    pub(crate) fn matrix(&self) -> Matrix<burn::backend::Dispatch> {
        match self {
            Self::Dense(weight) => Matrix::Dense(weight.clone().into_dispatch()),
            Self::Quantised(weight) => weight.matrix(),
        }
    }
}
