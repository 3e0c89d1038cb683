use burn::tensor::Tensor;

/// A frozen layer norm (Ba et al., arXiv 1607.06450).
#[derive(Debug, Clone)]
pub(crate) struct LayerNorm {
    pub gamma: Tensor<1>,
    pub beta: Tensor<1>,
    pub epsilon: f64,
}

impl LayerNorm {
    /// Of x + y, [rows, d] each → the same.
    pub fn residual(&self, x: Tensor<2>, y: Tensor<2>) -> Tensor<2> {
        let (gamma, beta) = (self.gamma.clone(), self.beta.clone());
        coto_kernels::residual_norm(x, y, gamma, beta, self.epsilon)
    }
}

/// A frozen root-mean-square norm (Zhang and Sennrich, arXiv 1910.07467): γ ⊙ x/√(mean x² + ε).
#[derive(Debug, Clone)]
pub(crate) struct RmsNorm {
    pub gamma: Tensor<1>,
    pub epsilon: f64,
}

impl RmsNorm {
    /// [rows, d] → the same.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let size = x
            .clone()
            .square()
            .mean_dim(1)
            .add_scalar(self.epsilon)
            .sqrt();
        x / size * self.gamma.clone().unsqueeze()
    }
}
