mod config;
mod gguf;

use std::path::Path;

use burn::tensor::{Bool, Device, Int, Tensor, TensorData, activation};
use coto_adapters::{Base, FrozenLinear, Pass};
use coto_coalition::Module;

pub use config::LlamaConfig;
pub(crate) use gguf::GgufBase;

use crate::norm::RmsNorm;
use crate::{Error, Hidden, Layered, TokenBatch, Weights, locate};

/// The linears of a layer.
const LINEARS: usize = 7;
const NAMES: [&str; LINEARS] = [
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
];

/// A decoder of the Llama family (Touvron et al., arXiv 2302.13971, and its descendants), frozen. Clones share the weights.
#[derive(Debug, Clone)]
pub struct Llama {
    config: LlamaConfig,
    tokens: Tensor<2>,
    layers: Vec<Layer>,
    norm: RmsNorm,
    /// The head's matrix, [d, vocabulary]; `None` where it is the embedding's transpose.
    head: Option<Tensor<2>>,
    modules: Vec<Module>,
    frequencies: Vec<f64>,
}

#[derive(Debug, Clone)]
struct Layer {
    /// q, k, v, o, gate, up, down.
    linears: [FrozenLinear; LINEARS],
    attention_norm: RmsNorm,
    mlp_norm: RmsNorm,
    /// Of each head's queries and of its keys.
    head_norms: Option<[RmsNorm; 2]>,
    window: Option<usize>,
}

impl Llama {
    /// Loads a Hugging Face folder (config.json, safetensors in one file or in shards), a GGUF file, dequantised, or a model
    /// of the hub by its id.
    ///
    /// # Errors
    /// For files that are missing, broken, contradictory or of another model; see [`Error`].
    pub fn load(name: impl AsRef<Path>, device: &Device) -> Result<Self, Error> {
        let name = name.as_ref();
        let (config, mut weights) = if GgufBase::is(name) {
            let (base, config) = GgufBase::open(name)?;
            (config, Weights::from(base))
        } else {
            let folder = locate(name)?;
            let config = LlamaConfig::load(&folder.join("config.json"))?;
            (config, Weights::open(&folder)?)
        };
        let model = Self::build(config, &mut weights, device)?;
        // A tied head may be written all the same; old files carry the frequencies.
        let mut ignored = vec!["lm_head."];
        let buffers: Vec<String> = (0..model.layers.len())
            .map(|i| format!("model.layers.{i}.self_attn.rotary_emb."))
            .collect();
        ignored.extend(buffers.iter().map(String::as_str));
        weights.finish(&ignored)?;
        Ok(model)
    }

    /// The configuration.
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    fn build(config: LlamaConfig, weights: &mut Weights, device: &Device) -> Result<Self, Error> {
        let (d, ff, size) = (
            config.hidden_size,
            config.intermediate_size,
            config.head_size(),
        );
        let (q, kv) = (config.num_attention_heads * size, config.kv_heads() * size);
        let dims = [[d, q], [d, kv], [d, kv], [q, d], [d, ff], [d, ff], [ff, d]];
        let [qkv, o] = config.attention_biases();
        let biased = [
            qkv,
            qkv,
            qkv,
            o,
            config.mlp_bias(),
            config.mlp_bias(),
            config.mlp_bias(),
        ];
        let norm = |weights: &mut Weights, path: &str, len| {
            Ok::<_, Error>(RmsNorm {
                gamma: weights.vector(&format!("{path}.weight"), len, device)?,
                epsilon: config.rms_norm_eps,
            })
        };
        let (mut modules, mut layers) = (Vec::new(), Vec::new());
        for i in 0..config.num_hidden_layers {
            let layer = format!("model.layers.{i}");
            let mut linears = Vec::with_capacity(LINEARS);
            for ((name, dims), biased) in NAMES.into_iter().zip(dims).zip(biased) {
                let path = format!("{layer}.{name}");
                let weight = weights.linear(&format!("{path}.weight"), dims, device)?;
                let bias = biased
                    .then(|| weights.vector(&format!("{path}.bias"), dims[1], device))
                    .transpose()?;
                linears.push(FrozenLinear::new(modules.len(), weight, bias));
                let kind = name.split_once('.').map_or(name, |(_, kind)| kind);
                modules.push(Module::new(path, Some(i), kind));
            }
            let head_norms = match config.qk_norm() {
                false => None,
                true => Some([
                    norm(weights, &format!("{layer}.self_attn.q_norm"), size)?,
                    norm(weights, &format!("{layer}.self_attn.k_norm"), size)?,
                ]),
            };
            layers.push(Layer {
                linears: linears.try_into().expect("seven linears"),
                attention_norm: norm(weights, &format!("{layer}.input_layernorm"), d)?,
                mlp_norm: norm(weights, &format!("{layer}.post_attention_layernorm"), d)?,
                head_norms,
                window: config.window(i),
            });
        }
        let head = match config.tie_word_embeddings {
            true => None,
            false => Some(weights.linear("lm_head.weight", [d, config.vocab_size], device)?),
        };
        Ok(Self {
            tokens: weights.matrix("model.embed_tokens.weight", [config.vocab_size, d], device)?,
            norm: norm(weights, "model.norm", d)?,
            frequencies: config.inverse_frequencies(),
            layers,
            head,
            modules,
            config,
        })
    }

    /// What the model expects after each token: logits, [rows · width, vocabulary].
    pub fn logits(&self, hidden: Hidden) -> Tensor<2> {
        let states = self.norm.forward(hidden.states);
        let head = self.head.clone();
        coto_kernels::linear(
            states,
            head.unwrap_or_else(|| self.tokens.clone().transpose()),
            None,
        )
    }

    /// Cosine and sine of every position's angles, [tokens, 1, head_size / 2] each.
    fn rotation(&self, batch: &TokenBatch) -> [Tensor<3>; 2] {
        let ([rows, width], half) = (batch.ids.dims(), self.frequencies.len());
        let device = batch.ids.device().without_autodiff();
        let angles = (0..width)
            .flat_map(|position| self.frequencies.iter().map(move |f| position as f64 * f));
        let angles: Vec<f64> = angles.collect();
        [f64::cos, f64::sin].map(|f| {
            let values: Vec<f32> = angles.iter().map(|&angle| f(angle) as f32).collect();
            let table = Tensor::<2>::from_data(TensorData::new(values, [width, half]), &device);
            let table = match &batch.positions {
                Some(positions) => table.select(0, positions.clone().reshape([rows * width])),
                None => table.repeat_dim(0, rows),
            };
            table.reshape([rows * width, 1, half])
        })
    }

    /// One layer's heads: normed where the model does so, and turned by their positions.
    fn turn(&self, x: Tensor<2>, norm: Option<&RmsNorm>, hidden: &Hidden) -> Tensor<2> {
        let ([tokens, d], size) = (x.dims(), self.config.head_size());
        let heads = d / size;
        let x = match norm {
            Some(norm) => norm.forward(x.reshape([tokens * heads, size])),
            None => x,
        };
        let Some([cos, sin]) = hidden.rotation.clone() else {
            return x.reshape([tokens, d]);
        };
        let x = x.reshape([tokens, heads, size]);
        let a = x.clone().slice([0..tokens, 0..heads, 0..size / 2]);
        let b = x.slice([0..tokens, 0..heads, size / 2..size]);
        let turned = vec![
            a.clone() * cos.clone() - b.clone() * sin.clone(),
            b * cos + a * sin,
        ];
        Tensor::cat(turned, 2).reshape([tokens, d])
    }
}

/// Which keys each query must not look at, [rows, 1, width, width]: later ones, padding, other samples of a packed row, and
/// those beyond a window.
fn blocked(batch: &TokenBatch, window: Option<usize>) -> Tensor<4, Bool> {
    let [rows, width] = batch.ids.dims();
    let device = batch.ids.device().without_autodiff();
    let places = Tensor::<1, Int>::arange(0..width as i64, &device);
    let [query, key] = [
        places
            .clone()
            .reshape([1, 1, width, 1])
            .expand([1, 1, width, width]),
        places
            .reshape([1, 1, 1, width])
            .expand([1, 1, width, width]),
    ];
    let mut blocked = key.clone().greater(query.clone());
    if let Some(window) = window {
        blocked = blocked.bool_or((query - key).greater_equal_elem(window as i64));
    }
    let full = [rows, 1, width, width];
    let mut blocked = blocked.expand(full);
    if let Some(mask) = &batch.mask {
        let padding = mask.clone().bool_not().reshape([rows, 1, 1, width]);
        blocked = blocked.bool_or(padding.expand(full));
    }
    if let Some(samples) = &batch.samples {
        let [query, key] = [[rows, 1, width, 1], [rows, 1, 1, width]]
            .map(|shape| samples.clone().reshape(shape).expand(full));
        blocked = blocked.bool_or(query.not_equal(key));
    }
    blocked
}

impl Base for Llama {
    fn modules(&self) -> &[Module] {
        &self.modules
    }

    fn linear(&self, module: usize) -> &FrozenLinear {
        &self.layers[module / LINEARS].linears[module % LINEARS]
    }
}

impl Layered for Llama {
    type Batch = TokenBatch;

    fn depth(&self) -> usize {
        self.layers.len()
    }

    fn parameters(&self) -> usize {
        let head_norms: usize = self
            .layers
            .iter()
            .flat_map(|layer| layer.head_norms.iter().flatten())
            .map(|norm| norm.gamma.dims()[0])
            .sum();
        let linears = (0..self.modules.len()).map(|i| {
            let linear = self.linear(i);
            let [inputs, outputs] = linear.dims();
            (inputs + usize::from(linear.bias().is_some())) * outputs
        });
        let matrices = [Some(&self.tokens), self.head.as_ref()];
        let matrices: usize = matrices
            .into_iter()
            .flatten()
            .map(|t| t.shape().num_elements())
            .sum();
        matrices
            + linears.sum::<usize>()
            + head_norms
            + (1 + 2 * self.layers.len()) * self.config.hidden_size
    }

    fn embed(&self, batch: &TokenBatch) -> Hidden {
        let [rows, width] = batch.ids.dims();
        let mut windows = self.layers.iter().map(|layer| layer.window);
        let window = windows
            .clone()
            .flatten()
            .next()
            .filter(|&window| window < width);
        Hidden {
            states: self
                .tokens
                .clone()
                .select(0, batch.ids.clone().reshape([rows * width])),
            rows,
            width,
            blocked: windows
                .any(|window| window.is_none_or(|window| window >= width))
                .then(|| blocked(batch, None)),
            windowed: window.map(|window| blocked(batch, Some(window))),
            rotation: Some(self.rotation(batch)),
        }
    }

    fn layer(&self, layer: usize, hidden: Hidden, pass: &Pass) -> Hidden {
        let layer = &self.layers[layer];
        let [q, k, v, o, gate, up, down] = &layer.linears;
        let x = layer.attention_norm.forward(hidden.states.clone());
        let [q, k, v] = [q, k, v].map(|linear| pass.linear(linear, x.clone()));
        let [q_norm, k_norm] = match &layer.head_norms {
            Some([q, k]) => [Some(q), Some(k)],
            None => [None, None],
        };
        let qkv = [
            self.turn(q, q_norm, &hidden),
            self.turn(k, k_norm, &hidden),
            v,
        ];
        let slides = layer.window.is_some_and(|window| window < hidden.width);
        let blocked = if slides {
            &hidden.windowed
        } else {
            &hidden.blocked
        };
        let heads = self.config.num_attention_heads;
        let mixed = coto_kernels::attention(qkv, blocked.clone(), hidden.rows, heads);
        let states = hidden.states + pass.linear(o, mixed);
        let x = layer.mlp_norm.forward(states.clone());
        let gated = activation::silu(pass.linear(gate, x.clone())) * pass.linear(up, x);
        let states = states + pass.linear(down, gated);
        Hidden { states, ..hidden }
    }

    /// The normed state of each sample's last token.
    fn head(&self, hidden: Hidden, batch: &TokenBatch) -> Tensor<2> {
        let (rows, width) = (hidden.rows, hidden.width);
        let device = batch.ids.device().without_autodiff();
        let starts = Tensor::<1, Int>::arange(0..rows as i64, &device).mul_scalar(width as i64);
        let last = match &batch.mask {
            Some(mask) => mask.clone().int().sum_dim(1).reshape([rows]).sub_scalar(1),
            None => Tensor::full([rows], width as i64 - 1, &device),
        };
        self.norm.forward(hidden.states.select(0, starts + last))
    }
}
