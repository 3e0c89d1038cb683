use burn::tensor::{Tensor, module};

/// A frozen layer norm (Ba et al., arXiv 1607.06450).
#[derive(Debug, Clone)]
pub(crate) struct LayerNorm {
    pub gamma: Tensor<1>,
    pub beta: Tensor<1>,
    pub epsilon: f64,
}

impl LayerNorm {
    /// [rows, d] → the same.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        module::layer_norm(x, self.gamma.clone(), Some(self.beta.clone()), self.epsilon)
    }
}
