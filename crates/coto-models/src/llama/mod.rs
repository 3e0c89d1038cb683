mod config;
mod decode;
mod gguf;
mod layers;

use std::path::Path;

use burn::tensor::{Device, Tensor};
use coto_adapters::{Base, FrozenLinear};
use coto_coalition::Module;
use coto_kernels::Weight;

pub use config::LlamaConfig;
pub use decode::{Cache, Sampling};
pub(crate) use gguf::GgufBase;

use crate::norm::RmsNorm;
use crate::{BaseQuant, Error, Hidden, Weights, locate};

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
    /// The embedding's transpose, [d, vocabulary].
    tokens: Weight,
    layers: Vec<Layer>,
    norm: RmsNorm,
    /// The head's matrix, [d, vocabulary]; `None` where it is the embedding's transpose.
    head: Option<Weight>,
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
    /// Loads a Hugging Face folder (config.json, safetensors in one file or in shards), a GGUF file, or a model of the hub by
    /// its id; quantised where a GGUF file is.
    ///
    /// # Errors
    /// For files that are missing, broken, contradictory or of another model; see [`Error`].
    pub fn load(name: impl AsRef<Path>, device: &Device) -> Result<Self, Error> {
        Self::load_as(name, BaseQuant::Stored, device)
    }

    /// [`load`](Self::load), with its matrices dense or quantised as is said.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_as(
        name: impl AsRef<Path>,
        quant: BaseQuant,
        device: &Device,
    ) -> Result<Self, Error> {
        let name = name.as_ref();
        let (config, mut weights) = if GgufBase::is(name) {
            let (base, config) = GgufBase::open(name)?;
            (config, Weights::from(base))
        } else {
            let folder = locate(name)?;
            let config = LlamaConfig::load(&folder.join("config.json"))?;
            (config, Weights::open(&folder)?)
        };
        weights = weights.quantised(quant);
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
            false => Some(weights.table("lm_head.weight", [config.vocab_size, d], device)?),
        };
        Ok(Self {
            tokens: weights.table("model.embed_tokens.weight", [config.vocab_size, d], device)?,
            norm: norm(weights, "model.norm", d)?,
            frequencies: config.inverse_frequencies(),
            layers,
            head,
            modules,
            config,
        })
    }

    /// The last layer's states after their norm: what the vocabulary's matrix turns into logits, [rows · width, d].
    pub fn normed(&self, hidden: Hidden) -> Tensor<2> {
        self.norm.forward(hidden.states)
    }

    /// The head's matrix, [d, vocabulary]; where it is tied, the embedding's transpose.
    pub fn vocabulary(&self) -> &Weight {
        self.head.as_ref().unwrap_or(&self.tokens)
    }

    /// What the model expects after each token: logits, [rows · width, vocabulary].
    pub fn logits(&self, hidden: Hidden) -> Tensor<2> {
        coto_kernels::linear(self.normed(hidden), self.vocabulary(), None)
    }
}

impl Base for Llama {
    fn modules(&self) -> &[Module] {
        &self.modules
    }

    fn linear(&self, module: usize) -> &FrozenLinear {
        &self.layers[module / LINEARS].linears[module % LINEARS]
    }
}
