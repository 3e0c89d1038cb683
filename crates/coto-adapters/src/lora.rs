//! LoRA (Hu et al., arXiv 2106.09685) and rsLoRA (Kalajdzievski, arXiv 2312.03732): y = x W + b + s·(drop(x) A) B.

use burn::tensor::Tensor;
use coto_coalition::Stream;
use coto_peft::{Config, PeftType};

use crate::{Adapter, Axis, Error, FactorSpec, FrozenLinear, Init, Variant};

pub(crate) const A: FactorSpec = FactorSpec {
    name: "lora_A.weight",
    axes: [Axis::In, Axis::Rank],
    fast: false,
    trainable: true,
};
pub(crate) const B: FactorSpec = FactorSpec {
    name: "lora_B.weight",
    axes: [Axis::Rank, Axis::Out],
    fast: true,
    trainable: true,
};

/// LoRA; rank-stabilised with s = α/√r in place of α/r.
#[derive(Debug)]
pub(crate) struct Lora {
    pub rank_stabilised: bool,
}

impl Variant for Lora {
    fn name(&self) -> &'static str {
        if self.rank_stabilised {
            "rslora"
        } else {
            "lora"
        }
    }

    fn factors(&self) -> &'static [FactorSpec] {
        &[A, B]
    }

    fn configure(&self, rank: usize, alpha: f64) -> Config {
        Config {
            use_rslora: self.rank_stabilised,
            ..Config::lora(rank, alpha)
        }
    }

    fn recognises(&self, config: &Config) -> bool {
        config.peft_type == PeftType::Lora
            && !config.use_dora
            && config.use_rslora == self.rank_stabilised
    }

    fn init(
        &self,
        base: &FrozenLinear,
        init: Init,
        rank: usize,
        scale: f64,
        draws: &mut Stream,
    ) -> Result<Vec<Tensor<2>>, Error> {
        init.factors(base, rank, scale, draws)
    }

    fn forward(
        &self,
        x: Tensor<2>,
        dropped: Option<Tensor<2>>,
        base: &FrozenLinear,
        adapter: &Adapter,
    ) -> Tensor<2> {
        match dropped {
            None => adapter.low_rank_linear(x, base, base.bias()),
            Some(dropped) => base.forward(x) + adapter.update(dropped),
        }
    }

    fn delta(&self, _: &FrozenLinear, adapter: &Adapter) -> Tensor<2> {
        let (a, b) = adapter.low_rank();
        a.matmul(b).mul_scalar(adapter.scale())
    }
}
