use std::sync::Arc;

use burn::tensor::{Gradients, Tensor};

use crate::{FactorSpec, FrozenLinear, Variant};

/// The adapter of one module: its variant and its tensors.
#[derive(Debug, Clone)]
pub struct Adapter {
    pub(crate) module: usize,
    pub(crate) path: String,
    pub(crate) variant: Arc<dyn Variant>,
    pub(crate) rank: usize,
    pub(crate) scale: f64,
    pub(crate) dropout: f64,
    /// As the variant's specs have them, then the origin's A and B where there is one.
    pub(crate) factors: Vec<Tensor<2>>,
}

/// A trainable tensor of an adapter set, by name.
#[derive(Debug)]
pub struct Factor<'a> {
    /// `<module path>.<factor>`, unique in the set.
    pub name: String,
    /// What the variant says of it.
    pub spec: &'static FactorSpec,
    /// Its value.
    pub tensor: &'a mut Tensor<2>,
}

impl Adapter {
    /// The adapted module's path.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The adapted module's number in its model.
    pub fn module(&self) -> usize {
        self.module
    }

    /// The variant.
    pub fn variant(&self) -> &dyn Variant {
        self.variant.as_ref()
    }

    /// The rank r, the origin's not counted.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// The scale s.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Factor number `i` of the variant.
    pub fn factor(&self, i: usize) -> Tensor<2> {
        self.factors[i].clone()
    }

    /// The low-rank pair, A [in, r'] and B [r', out], such that A B is what was learned.
    ///
    /// PiSSA and OLoRA subtract the initial product from W. Here that origin is kept beside the pair and subtracted on
    /// the activation path, A = [A, A₀] and B = [B; -B₀] with r' = 2r, so that W stays shared and untouched, and an
    /// adapter that is off is exactly the base model.
    pub fn low_rank(&self) -> (Tensor<2>, Tensor<2>) {
        let (a, b) = (self.factor(0), self.factor(1));
        match self.origin() {
            None => (a, b),
            Some((a0, b0)) => (
                Tensor::cat(vec![a, a0], 1),
                Tensor::cat(vec![b, b0.neg()], 0),
            ),
        }
    }

    /// Whether its folder is of twice its rank, the origin that PiSSA and OLoRA subtract beside the pair.
    pub fn has_origin(&self) -> bool {
        self.factors.len() > self.variant.factors().len()
    }

    pub(crate) fn origin(&self) -> Option<(Tensor<2>, Tensor<2>)> {
        let specs = self.variant.factors().len();
        self.has_origin()
            .then(|| (self.factor(specs), self.factor(specs + 1)))
    }

    /// s·(x A) B, [rows, in] → [rows, out].
    pub fn update(&self, x: Tensor<2>) -> Tensor<2> {
        let (a, b) = self.low_rank();
        x.matmul(a).mul_scalar(self.scale).matmul(b)
    }

    /// x W + b + s·(x A) B in one operation, for the base's bias or none.
    ///
    /// # Shapes
    /// [rows, in] → [rows, out].
    pub fn low_rank_linear(
        &self,
        x: Tensor<2>,
        base: &FrozenLinear,
        bias: Option<Tensor<1>>,
    ) -> Tensor<2> {
        let (a, b) = self.low_rank();
        coto_kernels::low_rank_linear(x, base.frozen(), bias, [a, b], self.scale)
    }

    /// The adapted linear's output; `dropped` is `x` after dropout, where there is any.
    ///
    /// # Shapes
    /// [rows, in] → [rows, out].
    pub fn forward(
        &self,
        x: Tensor<2>,
        dropped: Option<Tensor<2>>,
        base: &FrozenLinear,
    ) -> Tensor<2> {
        self.variant.forward(x, dropped, base, self)
    }

    /// ΔW, [in, out].
    pub fn delta(&self, base: &FrozenLinear) -> Tensor<2> {
        self.variant.delta(base, self)
    }

    pub(crate) fn tracked(&self) -> Self {
        let specs = self.variant.factors();
        let track = |(i, tensor): (usize, &Tensor<2>)| {
            let tensor = tensor.clone();
            if specs.get(i).is_some_and(|spec| spec.trainable) {
                tensor.autodiff().require_grad()
            } else {
                tensor
            }
        };
        Self {
            factors: self.factors.iter().enumerate().map(track).collect(),
            ..self.clone()
        }
    }

    /// The trainable factors, in order: index, spec, tensor.
    pub(crate) fn trainable(&self) -> impl Iterator<Item = (&'static FactorSpec, &Tensor<2>)> {
        let specs = self.variant.factors();
        specs
            .iter()
            .zip(&self.factors)
            .filter(|(spec, _)| spec.trainable)
    }

    /// The gradients of the trainable factors; `None` for a factor that took no part.
    pub(crate) fn gradients(&self, grads: &Gradients) -> impl Iterator<Item = Option<Tensor<2>>> {
        self.trainable().map(|(_, tensor)| tensor.grad(grads))
    }
}
