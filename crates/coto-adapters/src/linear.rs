use std::sync::{Arc, OnceLock};

use burn::tensor::Tensor;
use coto_kernels::Weight;

/// A frozen affine map of a base model, y = x W + b. Its weights never get a gradient; clones share them.
#[derive(Debug, Clone)]
pub struct FrozenLinear {
    module: usize,
    weight: Weight,
    bias: Option<Tensor<1>>,
    column_squares: Arc<OnceLock<Tensor<2>>>,
}

impl FrozenLinear {
    /// The linear that is number `module` in its model's list of modules.
    ///
    /// # Shapes
    /// `weight` [in, out], the transpose of PyTorch's; `bias` (out).
    pub fn new(module: usize, weight: impl Into<Weight>, bias: Option<Tensor<1>>) -> Self {
        Self {
            module,
            weight: weight.into(),
            bias,
            column_squares: Arc::default(),
        }
    }

    /// Its number in the model's list of modules.
    pub fn module(&self) -> usize {
        self.module
    }

    /// W, [in, out]; dequantised into new memory where it is quantised.
    pub fn weight(&self) -> Tensor<2> {
        self.weight.dense()
    }

    /// W as it lies in memory.
    pub fn frozen(&self) -> &Weight {
        &self.weight
    }

    /// b, (out).
    pub fn bias(&self) -> Option<Tensor<1>> {
        self.bias.clone()
    }

    /// Its dimensions, [in, out].
    pub fn dims(&self) -> [usize; 2] {
        self.weight.dims()
    }

    /// x W + b.
    ///
    /// # Shapes
    /// [rows, in] → [rows, out].
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        coto_kernels::linear(x, &self.weight, self.bias())
    }

    /// y + b, [rows, out] → the same.
    pub fn add_bias(&self, y: Tensor<2>) -> Tensor<2> {
        match &self.bias {
            Some(bias) => y + bias.clone().unsqueeze(),
            None => y,
        }
    }

    /// The squared norm of each column of W, [1, out]; computed once.
    pub fn column_squares(&self) -> Tensor<2> {
        self.column_squares
            .get_or_init(|| self.weight().square().sum_dim(0))
            .clone()
    }
}
