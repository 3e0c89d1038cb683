use burn::tensor::{Device, Tensor};
use coto_adapters::{FrozenLinear, Pass};
use coto_coalition::Module;
use serde::Deserialize;

use crate::norm::LayerNorm;
use crate::{Error, Hidden, Weights};

/// The linears of a layer: query, key, value, attention output, up, down.
const LINEARS: usize = 6;

/// What stands between the linears of a feed-forward network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// x Φ(x).
    Gelu,
    /// x σ(1.702 x).
    QuickGelu,
}

/// The layers of a vision model, those of all its towers, with the norm before attention and feed-forward network.
#[derive(Debug, Clone, Default)]
pub(crate) struct Towers {
    layers: Vec<Layer>,
    modules: Vec<Module>,
}

/// The sizes of one tower.
pub(crate) struct Sizes {
    pub layers: usize,
    pub d: usize,
    pub ff: usize,
    pub heads: usize,
    pub epsilon: f64,
    pub activation: Activation,
    /// Whether query, key and value have biases.
    pub qkv_bias: bool,
}

/// What a tower calls its parts: in the file, and as modules.
pub(crate) struct Names {
    pub stored: [&'static str; 1 + LINEARS],
    pub modules: [&'static str; 1 + LINEARS],
    pub norms: [&'static str; 2],
}

#[derive(Debug, Clone)]
struct Layer {
    linears: [FrozenLinear; LINEARS],
    attention_norm: LayerNorm,
    mlp_norm: LayerNorm,
    heads: usize,
    activation: Activation,
}

impl Towers {
    /// Reads a tower and puts its layers above those that there are.
    pub fn add(
        &mut self,
        names: &Names,
        sizes: &Sizes,
        weights: &mut Weights,
        device: &Device,
    ) -> Result<(), Error> {
        let (d, ff) = (sizes.d, sizes.ff);
        let dims = [[d, d], [d, d], [d, d], [d, d], [d, ff], [ff, d]];
        let ([stored, linears @ ..], [above, modules @ ..]) = (names.stored, names.modules);
        for i in 0..sizes.layers {
            let mut found = Vec::with_capacity(LINEARS);
            for (number, (linear, dims)) in linears.into_iter().zip(dims).enumerate() {
                let key = format!("{stored}.{i}.{linear}");
                let weight = weights.linear(&format!("{key}.weight"), dims, device)?;
                let bias = (sizes.qkv_bias || number > 2)
                    .then(|| weights.vector(&format!("{key}.bias"), dims[1], device))
                    .transpose()?;
                found.push(FrozenLinear::new(self.modules.len(), weight, bias));
                let name = modules[number];
                let kind = name.split_once('.').map_or(name, |(_, kind)| kind);
                let path = format!("{above}.{i}.{name}");
                let layer = self.layers.len();
                self.modules.push(Module::new(path, Some(layer), kind));
            }
            let [attention_norm, mlp_norm] = names.norms.map(|norm| {
                let path = format!("{stored}.{i}.{norm}");
                LayerNorm::load(weights, &path, d, sizes.epsilon, device)
            });
            self.layers.push(Layer {
                linears: found.try_into().expect("six linears"),
                attention_norm: attention_norm?,
                mlp_norm: mlp_norm?,
                heads: sizes.heads,
                activation: sizes.activation,
            });
        }
        Ok(())
    }

    pub fn depth(&self) -> usize {
        self.layers.len()
    }

    pub fn modules(&self) -> &[Module] {
        &self.modules
    }

    pub fn linear(&self, module: usize) -> &FrozenLinear {
        &self.layers[module / LINEARS].linears[module % LINEARS]
    }

    pub fn parameters(&self) -> usize {
        self.layers.iter().map(Layer::parameters).sum()
    }

    pub fn layer(&self, layer: usize, hidden: Hidden, pass: &Pass) -> Hidden {
        self.layers[layer].forward(hidden, pass)
    }
}

impl Layer {
    fn parameters(&self) -> usize {
        let linears = self.linears.iter().map(|linear| {
            let [inputs, outputs] = linear.dims();
            (inputs + usize::from(linear.bias().is_some())) * outputs
        });
        linears.sum::<usize>() + self.attention_norm.parameters() + self.mlp_norm.parameters()
    }

    fn forward(&self, hidden: Hidden, pass: &Pass) -> Hidden {
        let [query, key, value, output, up, down] = &self.linears;
        let x = self.attention_norm.forward(hidden.states.clone());
        let qkv = [query, key, value].map(|linear| pass.linear(linear, x.clone()));
        let (blocked, rows) = (hidden.blocked.clone(), hidden.rows);
        let mixed = coto_kernels::attention(qkv, blocked, rows, self.heads);
        let states = hidden.states + pass.linear(output, mixed);
        let x = self.mlp_norm.forward(states.clone());
        let inner = self.activation.forward(pass.linear(up, x));
        let states = states + pass.linear(down, inner);
        Hidden { states, ..hidden }
    }
}

impl Activation {
    fn forward(self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Gelu => coto_kernels::gelu(x),
            Self::QuickGelu => coto_kernels::quick_gelu(x),
        }
    }
}
