//! DoRA (Liu et al., arXiv 2402.09353): W' = m ⊙ V/‖V‖, V = W + s·A B, the norm per column and detached (§4.3).

use burn::tensor::Tensor;
use coto_coalition::Stream;
use coto_peft::{Config, PeftType};

use crate::{Adapter, Axis, Error, FactorSpec, FrozenLinear, Init, Variant, lora};

const MAGNITUDE: FactorSpec = FactorSpec {
    name: "lora_magnitude_vector",
    axes: [Axis::One, Axis::Out],
    fast: false,
    trainable: true,
};

#[derive(Debug)]
pub(crate) struct Dora;

impl Dora {
    /// ‖V‖ of each column, [1, out], without forming V: ‖w + s·A b‖² = ‖w‖² + 2s·(Wᵀ A)·b + s²·bᵀ(AᵀA)b.
    fn norm(base: &FrozenLinear, adapter: &Adapter) -> Tensor<2> {
        let (a, b) = adapter.low_rank();
        let (a, b) = (a.without_autodiff(), b.without_autodiff());
        let s = adapter.scale();
        let cross = coto_kernels::linear(a.clone().transpose(), base.frozen(), None);
        let cross = cross.mul_scalar(2.0 * s);
        let square = a
            .clone()
            .transpose()
            .matmul(a)
            .matmul(b.clone())
            .mul_scalar(s * s);
        let change = ((cross + square) * b).sum_dim(0);
        (base.column_squares() + change).clamp_min(0.0).sqrt()
    }

    /// m/‖V‖, [1, out].
    fn ratio(base: &FrozenLinear, adapter: &Adapter) -> Tensor<2> {
        adapter.factor(2) / Self::norm(base, adapter)
    }
}

impl Variant for Dora {
    fn name(&self) -> &'static str {
        "dora"
    }

    fn factors(&self) -> &'static [FactorSpec] {
        const FACTORS: [FactorSpec; 3] = [lora::A, lora::B, MAGNITUDE];
        &FACTORS
    }

    fn configure(&self, rank: usize, alpha: f64) -> Config {
        Config {
            use_dora: true,
            ..Config::lora(rank, alpha)
        }
    }

    fn recognises(&self, config: &Config) -> bool {
        config.peft_type == PeftType::Lora && config.use_dora
    }

    fn init(
        &self,
        base: &FrozenLinear,
        init: Init,
        rank: usize,
        scale: f64,
        draws: &mut Stream,
    ) -> Result<Vec<Tensor<2>>, Error> {
        // Every initialisation leaves V = W, so that ‖V‖ is ‖W‖.
        let mut factors = init.factors(base, rank, scale, draws)?;
        factors.insert(2, base.column_squares().sqrt());
        Ok(factors)
    }

    fn forward(
        &self,
        x: Tensor<2>,
        dropped: Option<Tensor<2>>,
        base: &FrozenLinear,
        adapter: &Adapter,
    ) -> Tensor<2> {
        let ratio = Self::ratio(base, adapter);
        match dropped {
            None => base.add_bias(adapter.low_rank_linear(x, base, None) * ratio),
            // As in PEFT, the frozen product passes undropped and its correction dropped.
            Some(dropped) => {
                let correction = coto_kernels::linear(dropped.clone(), base.frozen(), None);
                let correction = correction * ratio.clone().sub_scalar(1.0);
                base.forward(x) + correction + adapter.update(dropped) * ratio
            }
        }
    }

    fn delta(&self, base: &FrozenLinear, adapter: &Adapter) -> Tensor<2> {
        let (a, b) = adapter.low_rank();
        let weight = base.weight();
        let v = weight.clone() + a.matmul(b).mul_scalar(adapter.scale());
        v * Self::ratio(base, adapter) - weight
    }
}
