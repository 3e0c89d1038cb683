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
