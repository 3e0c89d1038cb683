//! HiRA (Huang et al., ICLR 2025): ΔW = W ⊙ (A B), of high rank though A and B are thin.

use burn::tensor::Tensor;
use coto_coalition::Stream;
use coto_peft::{Config, PeftType};

use crate::{Adapter, Error, FactorSpec, FrozenLinear, Init, Variant, lora};

#[derive(Debug)]
pub(crate) struct Hira;

impl Variant for Hira {
    fn name(&self) -> &'static str {
        "hira"
    }

    fn factors(&self) -> &'static [FactorSpec] {
        const FACTORS: [FactorSpec; 2] = [
            FactorSpec {
                name: "hira_A",
                ..lora::A
            },
            FactorSpec {
                name: "hira_B",
                ..lora::B
            },
        ];
        &FACTORS
    }

    /// HiRA has no α.
    fn configure(&self, rank: usize, _alpha: f64) -> Config {
        Config::hira(rank)
    }

    fn recognises(&self, config: &Config) -> bool {
        config.peft_type == PeftType::Hira
    }

    fn init(
        &self,
        base: &FrozenLinear,
        init: Init,
        rank: usize,
        scale: f64,
        draws: &mut Stream,
    ) -> Result<Vec<Tensor<2>>, Error> {
        match init {
            Init::Kaiming | Init::Gaussian => init.factors(base, rank, scale, draws),
            // The others start from factors of W, which multiply W here.
            init => Err(Error::Init {
                variant: self.name(),
                init,
                allowed: "`kaiming` or `gaussian`",
            }),
        }
    }

    fn forward(
        &self,
        x: Tensor<2>,
        dropped: Option<Tensor<2>>,
        base: &FrozenLinear,
        adapter: &Adapter,
    ) -> Tensor<2> {
        let (a, b) = adapter.low_rank();
        let scaled = |x, bias, shift| {
            let pair = [a, b];
            coto_kernels::hadamard_linear(x, base.frozen(), bias, pair, shift)
        };
        match dropped {
            None => scaled(x, base.bias(), 1.0),
            Some(dropped) => base.forward(x) + scaled(dropped, None, 0.0),
        }
    }

    fn delta(&self, base: &FrozenLinear, adapter: &Adapter) -> Tensor<2> {
        let (a, b) = adapter.low_rank();
        a.matmul(b) * base.weight()
    }
}
