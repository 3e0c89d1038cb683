use std::collections::BTreeMap;
use std::sync::Arc;

use burn::tensor::{Gradients, Tensor};
use coto_coalition::{Coalition, Grouping, Module, Players, stream};
use coto_peft::Config;

use crate::{Adapter, AdapterConfig, Error, Factor, FrozenLinear, Init, Variant, Variants};

/// A model whose linears can be adapted.
pub trait Base {
    /// The linears, in the order of the layers; heads and poolers are not among them.
    fn modules(&self) -> &[Module];

    /// Linear number `module` of [`modules`](Self::modules).
    fn linear(&self, module: usize) -> &FrozenLinear;
}

/// The adapters of one model, and the players they form.
#[derive(Debug, Clone)]
pub struct AdapterSet {
    pub(crate) adapters: Vec<Adapter>,
    pub(crate) config: Config,
    by_module: Vec<Option<usize>>,
    modules: Vec<Module>,
    players: Players,
    grouping: Grouping,
}

impl AdapterSet {
    /// New adapters on a model, drawn from the seed's stream `init/<module path>`.
    ///
    /// # Errors
    /// For a configuration that does not fit the model or contradicts itself; see [`Error`].
    pub fn new(
        base: &impl Base,
        config: &AdapterConfig,
        grouping: &Grouping,
        seed: u64,
    ) -> Result<Self, Error> {
        Self::with_variants(base, config, grouping, seed, &Variants::default())
    }

    /// [`new`](Self::new), where the configuration may name a variant from outside this crate.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn with_variants(
        base: &impl Base,
        config: &AdapterConfig,
        grouping: &Grouping,
        seed: u64,
        variants: &Variants,
    ) -> Result<Self, Error> {
        let peft = config.to_peft(variants)?;
        let variant = variants.named(&config.variant)?;
        let paths: Vec<&str> = base
            .modules()
            .iter()
            .map(|module| module.path.as_str())
            .collect();
        let adapters = peft
            .resolve_targets(&paths)?
            .into_iter()
            .map(|module| fresh(base, module, &variant, &peft, config.init, seed))
            .collect::<Result<Vec<_>, _>>()?;
        Self::assemble(base, adapters, peft, grouping)
    }

    pub(crate) fn assemble(
        base: &impl Base,
        adapters: Vec<Adapter>,
        config: Config,
        grouping: &Grouping,
    ) -> Result<Self, Error> {
        let modules: Vec<Module> = adapters
            .iter()
            .map(|adapter| base.modules()[adapter.module].clone())
            .collect();
        let mut by_module = vec![None; base.modules().len()];
        for (i, adapter) in adapters.iter().enumerate() {
            by_module[adapter.module] = Some(i);
        }
        let players = grouping.players(&modules)?;
        Ok(Self {
            adapters,
            config,
            by_module,
            modules,
            players,
            grouping: grouping.clone(),
        })
    }

    /// The same adapters, grouped into other players.
    ///
    /// # Errors
    /// For a grouping that does not fit the adapted modules.
    pub fn regrouped(self, grouping: &Grouping) -> Result<Self, Error> {
        let players = grouping.players(&self.modules)?;
        let grouping = grouping.clone();
        Ok(Self {
            players,
            grouping,
            ..self
        })
    }

    /// The players that the adapters form.
    pub fn players(&self) -> &Players {
        &self.players
    }

    /// How the adapters are grouped into players.
    pub fn grouping(&self) -> &Grouping {
        &self.grouping
    }

    /// All players on: what evaluation runs.
    pub fn grand(&self) -> Coalition {
        Coalition::grand(self.players.len())
    }

    /// The adapters, in the order of the model's modules.
    pub fn adapters(&self) -> &[Adapter] {
        &self.adapters
    }

    /// The adapted modules, one for each of [`adapters`](Self::adapters).
    pub fn modules(&self) -> &[Module] {
        &self.modules
    }

    /// The PEFT configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The number of trainable parameters.
    pub fn trainable_parameters(&self) -> usize {
        let sizes = |adapter: &Adapter| -> usize {
            adapter
                .trainable()
                .map(|(_, tensor)| tensor.shape().num_elements())
                .sum()
        };
        self.adapters.iter().map(sizes).sum()
    }

    pub(crate) fn active(&self, module: usize, on: &Coalition) -> Option<&Adapter> {
        let adapter = self.by_module.get(module).copied().flatten()?;
        on.contains(self.players.player_of(adapter))
            .then(|| &self.adapters[adapter])
    }

    /// A copy whose trainable factors record gradients. Evaluate on the original, which records nothing.
    pub fn tracked(&self) -> Self {
        Self {
            adapters: self.adapters.iter().map(Adapter::tracked).collect(),
            ..self.clone()
        }
    }

    /// The gradients of a [`tracked`](Self::tracked) set, in the order of [`factors`](Self::factors); `None` for what took
    /// no part in the pass.
    pub fn gradients(&self, grads: &Gradients) -> Vec<Option<Tensor<2>>> {
        self.adapters
            .iter()
            .flat_map(|adapter| adapter.gradients(grads))
            .collect()
    }

    /// The trainable factors, to be read and updated.
    pub fn factors(&mut self) -> Vec<Factor<'_>> {
        let mut factors = Vec::new();
        for adapter in &mut self.adapters {
            let Adapter {
                path,
                variant,
                factors: tensors,
                ..
            } = adapter;
            for (spec, tensor) in variant.factors().iter().zip(tensors) {
                if spec.trainable {
                    factors.push(Factor {
                        name: format!("{path}.{}", spec.name),
                        spec,
                        tensor,
                    });
                }
            }
        }
        factors
    }

    /// Every tensor by name, the untrained ones and the origins of PiSSA and OLoRA included: what a checkpoint keeps.
    pub fn state(&self) -> BTreeMap<String, Tensor<2>> {
        let named = |adapter: &Adapter| {
            let names: Vec<String> = (0..adapter.factors.len())
                .map(|i| state_name(adapter, i))
                .collect();
            names
                .into_iter()
                .zip(adapter.factors.clone())
                .collect::<Vec<_>>()
        };
        self.adapters.iter().flat_map(named).collect()
    }

    /// Takes back what [`state`](Self::state) gave.
    ///
    /// # Errors
    /// [`Error::State`] for a tensor that is missing, [`Error::Shape`] for one of another shape.
    pub fn restore(&mut self, mut state: BTreeMap<String, Tensor<2>>) -> Result<(), Error> {
        for adapter in &mut self.adapters {
            for i in 0..adapter.factors.len() {
                let name = state_name(adapter, i);
                let tensor = state
                    .remove(&name)
                    .ok_or(Error::State { name: name.clone() })?;
                if tensor.dims() != adapter.factors[i].dims() {
                    return Err(Error::Shape {
                        module: adapter.path.clone(),
                        key: name,
                        found: tensor.dims().to_vec(),
                        expected: adapter.factors[i].dims().to_vec(),
                    });
                }
                adapter.factors[i] = tensor;
            }
        }
        Ok(())
    }
}

fn state_name(adapter: &Adapter, i: usize) -> String {
    let specs = adapter.variant.factors();
    match specs.get(i) {
        Some(spec) => format!("{}.{}", adapter.path, spec.name),
        None => format!("{}.origin.{}", adapter.path, i - specs.len()),
    }
}

fn fresh(
    base: &impl Base,
    module: usize,
    variant: &Arc<dyn Variant>,
    config: &Config,
    init: Init,
    seed: u64,
) -> Result<Adapter, Error> {
    let path = base.modules()[module].path.clone();
    let (rank, scale) = (config.rank(&path)?, config.scaling(&path)?);
    let mut draws = stream(seed, &format!("init/{path}"));
    let factors = variant
        .init(base.linear(module), init, rank, scale, &mut draws)
        .map_err(|error| error.in_module(&path))?;
    Ok(Adapter {
        module,
        variant: variant.clone(),
        rank,
        scale,
        dropout: config.dropout,
        factors,
        path,
    })
}
