use burn::tensor::{Device, Tensor};

use crate::{Error, Weights};

/// A frozen layer norm (Ba et al., arXiv 1607.06450).
#[derive(Debug, Clone)]
pub(crate) struct LayerNorm {
    pub gamma: Tensor<1>,
    pub beta: Tensor<1>,
    pub epsilon: f64,
}

impl LayerNorm {
    /// The norm of d numbers whose `weight` and `bias` lie under `path`.
    pub fn load(
        weights: &mut Weights,
        path: &str,
        d: usize,
        epsilon: f64,
        device: &Device,
    ) -> Result<Self, Error> {
        Ok(Self {
            gamma: weights.vector(&format!("{path}.weight"), d, device)?,
            beta: weights.vector(&format!("{path}.bias"), d, device)?,
            epsilon,
        })
    }

    pub fn parameters(&self) -> usize {
        2 * self.gamma.dims()[0]
    }

    /// [rows, d] → the same.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        coto_kernels::layer_norm(x, self.gamma.clone(), self.beta.clone(), self.epsilon)
    }

    /// Of x + y, [rows, d] each → the same.
    pub fn residual(&self, x: Tensor<2>, y: Tensor<2>) -> Tensor<2> {
        let (gamma, beta) = (self.gamma.clone(), self.beta.clone());
        coto_kernels::residual_norm(x, y, gamma, beta, self.epsilon)
    }
}

/// A frozen root-mean-square norm (Zhang and Sennrich, arXiv 1910.07467).
#[derive(Debug, Clone)]
pub(crate) struct RmsNorm {
    pub gamma: Tensor<1>,
    pub epsilon: f64,
}

impl RmsNorm {
    /// [rows, d] → the same.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        coto_kernels::rms_norm(x, self.gamma.clone(), self.epsilon)
    }
}
