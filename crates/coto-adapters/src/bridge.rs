//! Adapters for burn modules that are not of this project's models, through burn's own reparameterisation.
//!
//! A weight-space form: W + s·A B is composed at every use of the weight, and there is no input dropout. What it shares with
//! the rest is the gate: an adapter that is off costs nothing and gets no gradient.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::module::{Module, Param, Reparameterization, Reparameterizer};
use burn::tensor::{Tensor, TensorData};
use coto_coalition::{Coalition, Grouping, Module as Place, Players, stream};
use coto_peft::Config;
use rand::RngExt;

use crate::{AdapterConfig, Error, Init, Variants};

/// A gated low-rank update of one weight matrix.
#[derive(Debug, Module)]
pub struct LoraGate {
    /// A, [in, r].
    a: Param<Tensor<2>>,
    /// B, [r, out].
    b: Param<Tensor<2>>,
    #[module(skip)]
    scale: f64,
    #[module(skip)]
    on: Arc<AtomicBool>,
}

impl Reparameterization for LoraGate {
    const NAME: &'static str = "coto_lora";

    fn apply<const D: usize>(&self, base: Tensor<D>) -> Tensor<D> {
        if !self.on.load(Ordering::Relaxed) {
            return base;
        }
        let delta = self.a.val().matmul(self.b.val()).mul_scalar(self.scale);
        let shape = base.shape();
        base + delta.reshape(shape)
    }
}

/// The gates of an adapted module, opened and shut by coalition.
#[derive(Debug, Clone)]
pub struct Gates {
    gates: Vec<Arc<AtomicBool>>,
    players: Players,
}

impl Gates {
    /// The players that the adapted weights form.
    pub fn players(&self) -> &Players {
        &self.players
    }

    /// Switches on the adapters of a coalition, and all others off, in every clone of the module.
    ///
    /// # Panics
    /// If the coalition is of another number of players.
    pub fn set(&self, on: &Coalition) {
        assert_eq!(
            on.players(),
            self.players.len(),
            "a coalition of other players"
        );
        for (i, gate) in self.gates.iter().enumerate() {
            gate.store(on.contains(self.players.player_of(i)), Ordering::Relaxed);
        }
    }
}

/// Adds gated LoRA to the matrices of any burn module and freezes everything else.
///
/// `config.targets` name the modules that hold the weights, by burn's paths: `fc1` for `fc1.weight`. A number in the path
/// is taken for the layer. Only `lora` and `rslora`, and only their default initialisation, have this form.
///
/// # Errors
/// As [`AdapterSet::new`](crate::AdapterSet::new); [`Error::Variant`], [`Error::Init`] and [`Error::Dropout`] for what a weight
/// alone cannot have.
pub fn adapt_module<M: Module>(
    module: M,
    config: &AdapterConfig,
    grouping: &Grouping,
    seed: u64,
) -> Result<(M, Gates), Error> {
    if !matches!(config.variant.as_str(), "lora" | "rslora") {
        let known = "`lora`, `rslora` for foreign modules".to_owned();
        return Err(Error::Variant {
            name: config.variant.clone(),
            known,
        });
    }
    if config.init != Init::Kaiming {
        let (variant, allowed) = ("foreign", "`kaiming`");
        return Err(Error::Init {
            variant,
            init: config.init,
            allowed,
        });
    }
    if config.dropout != 0.0 {
        return Err(Error::Dropout {
            dropout: config.dropout,
        });
    }
    let peft = config.to_peft(&Variants::default())?;
    let mut seen = Weights(Vec::new());
    let module = module.no_grad().apply_reparameterization(Visit(&mut seen));
    let chosen = peft.resolve_targets(&seen.0)?;
    let places: Vec<Place> = chosen.iter().map(|&i| place(&seen.0[i])).collect();
    let players = grouping.players(&places)?;
    let gates: Vec<_> = chosen
        .iter()
        .map(|_| Arc::new(AtomicBool::new(true)))
        .collect();
    let adapt = Adapt {
        chosen: places
            .iter()
            .map(|place| place.path.clone())
            .zip(gates.iter().cloned())
            .collect(),
        config: peft,
        seed,
    };
    Ok((
        module.apply_reparameterization(adapt),
        Gates { gates, players },
    ))
}

fn place(path: &str) -> Place {
    let layer = path.split('.').find_map(|segment| segment.parse().ok());
    Place::new(path, layer, path.rsplit('.').next().unwrap_or(path))
}

struct Weights(Vec<String>);

/// Lists the modules with a matrix called `weight`, and changes nothing.
struct Visit<'a>(&'a mut Weights);

impl Reparameterizer for Visit<'_> {
    type Reparam = LoraGate;

    fn reparameterize<const D: usize>(
        &mut self,
        path: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<LoraGate>) {
        if let (2, Some(module)) = (D, path.strip_suffix(".weight")) {
            self.0.0.push(module.to_owned());
        }
        (param, None)
    }
}

struct Adapt {
    chosen: Vec<(String, Arc<AtomicBool>)>,
    config: Config,
    seed: u64,
}

impl Reparameterizer for Adapt {
    type Reparam = LoraGate;

    fn reparameterize<const D: usize>(
        &mut self,
        path: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<LoraGate>) {
        let module = path.strip_suffix(".weight").unwrap_or(path);
        let found = self
            .chosen
            .iter()
            .find(|(chosen, _)| chosen == module && D == 2);
        let Some((_, on)) = found else {
            return (param, None);
        };
        let (Ok(rank), Ok(scale)) = (self.config.rank(module), self.config.scaling(module)) else {
            return (param, None);
        };
        let (shape, device) = (param.lazy_shape(), param.lazy_device());
        let (inputs, outputs) = (shape[0], shape[1]);
        let bound = (inputs as f32).sqrt().recip();
        let mut draws = stream(self.seed, &format!("init/{module}"));
        let a: Vec<f32> = (0..inputs * rank)
            .map(|_| draws.random_range(-bound..bound))
            .collect();
        let a = Tensor::from_data(TensorData::new(a, [inputs, rank]), &device);
        let gate = LoraGate {
            a: Param::from_tensor(a),
            b: Param::from_tensor(Tensor::zeros([rank, outputs], &device)),
            scale,
            on: on.clone(),
        };
        (param, Some(gate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::{Linear, LinearConfig};
    use burn::optim::{AdamWConfig, GradientsParams};
    use burn::tensor::{Device, Distribution};

    #[derive(Debug, Module)]
    struct Mlp {
        up: Linear,
        down: Linear,
    }

    impl Mlp {
        fn forward(&self, x: Tensor<2>) -> Tensor<2> {
            self.down.forward(self.up.forward(x))
        }
    }

    fn mlp() -> (Mlp, Tensor<2>) {
        let device = Device::flex().autodiff();
        let up = LinearConfig::new(4, 6).init(&device);
        let down = LinearConfig::new(6, 3).init(&device);
        (
            Mlp { up, down },
            Tensor::random([5, 4], Distribution::Default, &device),
        )
    }

    #[test]
    fn a_shut_gate_gives_the_base_and_no_gradient_and_its_adapter_stays() {
        let (base, x) = mlp();
        let (model, gates) = adapt_module(
            base.clone(),
            &AdapterConfig::lora(2, 4.0),
            &Grouping::Module,
            1,
        )
        .unwrap();
        assert_eq!(gates.players().names(), ["up", "down"]);
        assert_eq!(
            model.num_params(),
            base.num_params() + 2 * (4 + 6) + 2 * (6 + 3)
        );
        let on = Coalition::from_players(2, [1]);
        gates.set(&on);
        let mut optimiser = AdamWConfig::new().init();
        let mut model = model;
        let a = |model: &Mlp| {
            let gate = model.up.weight.reparameterization::<LoraGate>();
            gate.unwrap().a.val().into_data()
        };
        let before = a(&model);
        for _ in 0..2 {
            let grads = model.forward(x.clone()).sum().backward();
            let grads = GradientsParams::from_grads(grads, &model);
            assert_eq!(grads.len(), 2, "A and B of `down` alone");
            model = optimiser.step(0.1, model, grads);
        }
        a(&model).assert_eq(&before, true);
        let changed = model.forward(x.clone()).into_data();
        gates.set(&Coalition::empty(2));
        let off = model.forward(x.clone()).into_data();
        off.assert_eq(&base.forward(x).into_data(), true);
        assert_ne!(off, changed);
    }

    #[test]
    fn what_a_weight_cannot_have_is_refused() {
        let config = AdapterConfig::lora(2, 4.0);
        for config in [
            config.clone().dropout(0.1),
            config.clone().init(Init::Pissa),
            config.variant("dora"),
        ] {
            assert!(
                adapt_module(mlp().0, &config, &Grouping::Layer, 1).is_err(),
                "{config:?}"
            );
        }
    }
}
