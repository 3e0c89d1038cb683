use std::fmt::Debug;
use std::sync::Arc;

use burn::tensor::Tensor;
use coto_coalition::Stream;
use coto_peft::Config;

use crate::{Adapter, Error, FrozenLinear, Init, dora::Dora, hira::Hira, lora::Lora};

/// A dimension of a factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Axis {
    /// The linear's inputs.
    In,
    /// The linear's outputs.
    Out,
    /// The adapter's rank.
    Rank,
    /// One: the factor is a row here and a vector in PEFT's file.
    One,
}

/// One tensor of a variant.
#[derive(Debug, Clone, Copy)]
pub struct FactorSpec {
    /// Its name in PEFT's file, such as `lora_A.weight`.
    pub name: &'static str,
    /// Its shape here. PEFT's file has the transpose, or a vector where the first axis is [`Axis::One`].
    pub axes: [Axis; 2],
    /// Whether LoRA+ (arXiv 2402.12354) gives it the larger learning rate.
    pub fast: bool,
    /// Whether it is trained.
    pub trainable: bool,
}

impl FactorSpec {
    /// The shape for a linear of `dims` [in, out] and a rank.
    pub fn shape(&self, dims: [usize; 2], rank: usize) -> [usize; 2] {
        self.axes.map(|axis| match axis {
            Axis::In => dims[0],
            Axis::Out => dims[1],
            Axis::Rank => rank,
            Axis::One => 1,
        })
    }
}

/// The mathematics of one kind of adapter, without state: the tensors live in the [`Adapter`].
///
/// A new variant is one file with one type that implements this trait, and one line where it joins
/// [`Variants`]; [`Variants::with`] takes one from outside this crate. Targeting, coalitions,
/// dropout, training, checkpoints and PEFT folders follow from what it says here;
/// only tensor names that PEFT folders have not had yet need a line in `coto_peft::Param` too.
///
/// LoRA-FA (Zhang et al., arXiv 2308.03303) trains B and leaves A as it was drawn:
///
/// ```
/// use std::sync::Arc;
/// use burn::tensor::{Device, Tensor};
/// use coto_adapters::{Adapter, Axis, Error, FactorSpec, FrozenLinear, Init, Variant, Variants};
/// use coto_coalition::Stream;
/// use coto_peft::Config;
///
/// #[derive(Debug)]
/// struct LoraFa;
///
/// impl Variant for LoraFa {
///     fn name(&self) -> &'static str {
///         "lora-fa"
///     }
///     fn factors(&self) -> &'static [FactorSpec] {
///         const FACTORS: [FactorSpec; 2] = [
///             FactorSpec { name: "lora_A.weight", axes: [Axis::In, Axis::Rank], fast: false, trainable: false },
///             FactorSpec { name: "lora_B.weight", axes: [Axis::Rank, Axis::Out], fast: true, trainable: true },
///         ];
///         &FACTORS
///     }
///     fn configure(&self, rank: usize, alpha: f64) -> Config {
///         Config::lora(rank, alpha)
///     }
///     fn init(&self, base: &FrozenLinear, init: Init, rank: usize, scale: f64, draws: &mut Stream)
///         -> Result<Vec<Tensor<2>>, Error>
///     {
///         init.factors(base, rank, scale, draws)
///     }
///     fn forward(&self, x: Tensor<2>, dropped: Option<Tensor<2>>, base: &FrozenLinear, adapter: &Adapter) -> Tensor<2> {
///         let (a, b) = adapter.low_rank();
///         base.forward(x.clone()) + dropped.unwrap_or(x).matmul(a).matmul(b).mul_scalar(adapter.scale())
///     }
///     fn delta(&self, _: &FrozenLinear, adapter: &Adapter) -> Tensor<2> {
///         let (a, b) = adapter.low_rank();
///         a.matmul(b).mul_scalar(adapter.scale())
///     }
/// }
///
/// let variants = Variants::default().with(Arc::new(LoraFa));
/// assert_eq!(variants.named("lora-fa")?.name(), "lora-fa");
/// # Ok::<(), Error>(())
/// ```
pub trait Variant: Debug + Send + Sync {
    /// The name in run files, such as `dora`.
    fn name(&self) -> &'static str;

    /// The tensors, in the order in which [`init`](Self::init) returns them. The first two are the low-rank pair.
    fn factors(&self) -> &'static [FactorSpec];

    /// The PEFT configuration that stands for it.
    fn configure(&self, rank: usize, alpha: f64) -> Config;

    /// Whether a PEFT configuration stands for it; `false` for one that cannot be told apart from another variant.
    fn recognises(&self, _config: &Config) -> bool {
        false
    }

    /// The initial factors, shaped as [`factors`](Self::factors) says, then those of an origin that is subtracted, if
    /// the initialisation has one (see [`Adapter::low_rank`]).
    ///
    /// # Errors
    /// [`Error::Init`] where the variant cannot start so.
    fn init(
        &self,
        base: &FrozenLinear,
        init: Init,
        rank: usize,
        scale: f64,
        draws: &mut Stream,
    ) -> Result<Vec<Tensor<2>>, Error>;

    /// The adapted linear's output, base and bias included. `dropped` is `x` after dropout, where there is any.
    ///
    /// # Shapes
    /// [rows, in] → [rows, out].
    fn forward(
        &self,
        x: Tensor<2>,
        dropped: Option<Tensor<2>>,
        base: &FrozenLinear,
        adapter: &Adapter,
    ) -> Tensor<2>;

    /// ΔW, [in, out]: what folding adds to W.
    fn delta(&self, base: &FrozenLinear, adapter: &Adapter) -> Tensor<2>;
}

/// The variants that run files and folders can name.
#[derive(Debug, Clone)]
pub struct Variants(Vec<Arc<dyn Variant>>);

impl Default for Variants {
    /// The variants of this crate.
    fn default() -> Self {
        Self(vec![
            Arc::new(Lora {
                rank_stabilised: false,
            }),
            Arc::new(Lora {
                rank_stabilised: true,
            }),
            Arc::new(Dora),
            Arc::new(Hira),
        ])
    }
}

impl Variants {
    /// These and one more, which wins where both recognise a configuration.
    pub fn with(mut self, variant: Arc<dyn Variant>) -> Self {
        self.0.insert(0, variant);
        self
    }

    /// The variant of a name.
    ///
    /// # Errors
    /// [`Error::Variant`], which lists the names.
    pub fn named(&self, name: &str) -> Result<Arc<dyn Variant>, Error> {
        self.find(name, |variant| variant.name() == name)
    }

    /// The variant that a PEFT configuration stands for.
    ///
    /// # Errors
    /// [`Error::Variant`].
    pub fn of(&self, config: &Config) -> Result<Arc<dyn Variant>, Error> {
        self.find(config.peft_type.name(), |variant| {
            variant.recognises(config)
        })
    }

    fn find(
        &self,
        name: &str,
        is: impl Fn(&dyn Variant) -> bool,
    ) -> Result<Arc<dyn Variant>, Error> {
        self.0
            .iter()
            .find(|variant| is(variant.as_ref()))
            .cloned()
            .ok_or_else(|| Error::Variant {
                name: name.to_owned(),
                known: self
                    .0
                    .iter()
                    .map(|v| format!("`{}`", v.name()))
                    .collect::<Vec<_>>()
                    .join(", "),
            })
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::{Device, Distribution};
    use coto_coalition::stream;
    use coto_kernels::{Quantised, Scheme, Weight};

    const DIMS: [usize; 2] = [48, 40];

    fn random(dims: [usize; 2]) -> Tensor<2> {
        Tensor::random(dims, Distribution::Normal(0.0, 1.0), &Device::flex())
    }

    fn close(ours: Tensor<2>, theirs: Tensor<2>, what: &str) {
        let size: f32 = theirs.clone().abs().max().into_scalar();
        let error: f32 = (ours - theirs).abs().max().into_scalar();
        assert!(error <= 2e-5 * size.max(1.0), "{what}: {error} of {size}");
    }

    /// The output for an input and the same dropped, ΔW, and the gradients of what is trained.
    fn run(adapter: &Adapter, base: &FrozenLinear, x: &[Tensor<2>; 2]) -> Vec<Tensor<2>> {
        let tracked = adapter.tracked();
        let [plain, dropped] = x.clone();
        let outputs = [None, Some(dropped)].map(|dropped| {
            let y = tracked.forward(plain.clone(), dropped, base);
            let grads = y.clone().square().mean().backward();
            let grads = tracked
                .gradients(&grads)
                .map(|grad| grad.expect("a gradient"));
            [vec![y.without_autodiff()], grads.collect()].concat()
        });
        [outputs.concat(), vec![adapter.delta(base)]].concat()
    }

    #[test]
    fn a_quantised_base_is_the_dense_one_that_it_stands_for() {
        let values = random([DIMS[1], DIMS[0]]).into_data();
        let groups = Scheme::Q4.quantise(values.as_slice().unwrap(), DIMS);
        let weight = Weight::from(Quantised::new(groups, &Device::flex()));
        let bias = random([1, DIMS[1]]).squeeze_dim::<1>(0);
        let dense = FrozenLinear::new(0, weight.dense(), Some(bias.clone()));
        let quantised = FrozenLinear::new(0, weight, Some(bias));
        let inputs = [random([7, DIMS[0]]), random([7, DIMS[0]])];
        for variant in Variants::default().0 {
            for init in [Init::Kaiming, Init::Orthogonal, Init::Pissa, Init::Olora] {
                let what = format!("{} from {init}", variant.name());
                let [ours, theirs] = [&quantised, &dense].map(|base| {
                    let factors = variant.init(base, init, 4, 0.5, &mut stream(1, "tests"));
                    factors.ok()
                });
                let (Some(ours), Some(theirs)) = (ours, theirs) else {
                    assert_eq!(variant.name(), "hira");
                    continue;
                };
                for (ours, theirs) in ours.iter().zip(&theirs) {
                    ours.to_data().assert_eq(&theirs.to_data(), true);
                }
                let mut adapter = Adapter {
                    module: 0,
                    path: "linear".to_owned(),
                    variant: variant.clone(),
                    rank: 4,
                    scale: 0.5,
                    dropout: 0.0,
                    factors: theirs,
                };
                for factor in adapter.factors.iter_mut().take(2) {
                    *factor = factor.clone() + random(factor.dims()) * 0.1;
                }
                let [ours, theirs] = [&quantised, &dense].map(|base| run(&adapter, base, &inputs));
                for (ours, theirs) in ours.into_iter().zip(theirs) {
                    close(ours, theirs, &what);
                }
            }
        }
    }
}
