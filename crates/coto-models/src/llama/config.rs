use std::path::Path;

use serde::Deserialize;

use crate::Error;
use crate::config::json;

/// The members of the Llama family, by `model_type`.
const FAMILY: [&str; 4] = ["llama", "mistral", "qwen2", "qwen3"];

/// The `config.json` of a Llama-like model.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct LlamaConfig {
    /// The model type as the file has it.
    pub model_type: String,
    /// Tokens known.
    pub vocab_size: usize,
    /// d, the width of the states.
    pub hidden_size: usize,
    /// The width of the feed-forward network.
    pub intermediate_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Heads of the queries.
    pub num_attention_heads: usize,
    /// Heads of the keys and values, where they are fewer.
    #[serde(default)]
    pub num_key_value_heads: Option<usize>,
    /// The width of a head, where it is not d / heads.
    #[serde(default)]
    pub head_dim: Option<usize>,
    /// Positions known.
    pub max_position_embeddings: usize,
    /// ε of the norms.
    #[serde(default = "default_epsilon")]
    pub rms_norm_eps: f64,
    /// The activation of the feed-forward network.
    pub hidden_act: String,
    /// Whether the head's matrix is the embedding's.
    #[serde(default)]
    pub tie_word_embeddings: bool,
    /// Whether all four projections of the attention have biases.
    #[serde(default)]
    pub(super) attention_bias: bool,
    /// Whether the feed-forward network has biases.
    #[serde(default)]
    pub(super) mlp_bias: bool,
    #[serde(default)]
    pub(super) rope_theta: Option<f64>,
    /// As transformers 4 writes it.
    #[serde(default)]
    pub(super) rope_scaling: Option<RopeParameters>,
    /// What each frequency is divided by, as GGUF files write a llama3 scaling.
    #[serde(skip)]
    pub(super) rope_divisors: Option<Vec<f32>>,
    /// As transformers 5 writes it, θ included.
    #[serde(default)]
    pub(super) rope_parameters: Option<RopeParameters>,
    #[serde(default)]
    pub(super) sliding_window: Option<usize>,
    #[serde(default)]
    pub(super) use_sliding_window: Option<bool>,
    #[serde(default)]
    pub(super) max_window_layers: Option<usize>,
    #[serde(default)]
    pub(super) layer_types: Option<Vec<String>>,
}

fn default_epsilon() -> f64 {
    1e-6
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct RopeParameters {
    #[serde(default, alias = "type")]
    pub rope_type: Option<String>,
    #[serde(default)]
    pub(super) rope_theta: Option<f64>,
    #[serde(default)]
    pub factor: Option<f64>,
    #[serde(default)]
    pub(super) low_freq_factor: Option<f64>,
    #[serde(default)]
    pub(super) high_freq_factor: Option<f64>,
    #[serde(default)]
    pub(super) original_max_position_embeddings: Option<usize>,
}

impl LlamaConfig {
    /// Reads a `config.json`.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Config`], [`Error::Unsupported`], [`Error::Inconsistent`].
    pub fn load(path: &Path) -> Result<Self, Error> {
        let config: Self = json(path)?;
        config.check(path)?;
        Ok(config)
    }

    pub(super) fn check(&self, path: &Path) -> Result<(), Error> {
        let unsupported = |field, value: &str, known| {
            Err(Error::Unsupported {
                path: path.into(),
                field,
                value: value.to_owned(),
                known,
            })
        };
        if !FAMILY.contains(&self.model_type.as_str()) {
            let known = "`llama`, `mistral`, `qwen2`, `qwen3`";
            return unsupported("model_type", &self.model_type, known);
        }
        if self.hidden_act != "silu" {
            return unsupported("hidden_act", &self.hidden_act, "`silu`");
        }
        let rope = self.rope();
        if !["default", "linear", "llama3"].contains(&rope.kind()) {
            let known = "`default`, `linear`, `llama3`";
            return unsupported("rope_scaling", rope.kind(), known);
        }
        let inconsistent = |reason: String| {
            Err(Error::Inconsistent {
                path: path.into(),
                reason,
            })
        };
        let (d, heads, kv) = (self.hidden_size, self.num_attention_heads, self.kv_heads());
        if heads == 0 || kv == 0 || !heads.is_multiple_of(kv) {
            return inconsistent(format!(
                "num_attention_heads {heads} is not a multiple of num_key_value_heads {kv}"
            ));
        }
        if d == 0 || (self.head_dim.is_none() && !d.is_multiple_of(heads)) {
            return inconsistent(format!(
                "hidden_size {d} is not a multiple of num_attention_heads {heads}"
            ));
        }
        if self.head_size() == 0 || !self.head_size().is_multiple_of(2) {
            return inconsistent(format!("head_dim {} is not even", self.head_size()));
        }
        if rope.kind() != "default" && rope.factor.is_none_or(|factor| factor <= 0.0) {
            return inconsistent(format!("a {} rope scaling needs a factor > 0", rope.kind()));
        }
        if rope.kind() == "llama3" {
            let (low, high) = (rope.low_freq_factor, rope.high_freq_factor);
            if low
                .zip(high)
                .is_none_or(|(low, high)| low <= 0.0 || high <= low)
            {
                return inconsistent(format!(
                    "a llama3 rope scaling needs 0 < low_freq_factor < high_freq_factor; there are {low:?} and {high:?}"
                ));
            }
        }
        let half = self.head_size() / 2;
        let divisors = self.rope_divisors.as_ref();
        if divisors.is_some_and(|d| d.len() != half || d.iter().any(|&d| d <= 0.0)) {
            return inconsistent(format!("rope_freqs.weight is not {half} numbers > 0"));
        }
        let types = self
            .layer_types
            .as_ref()
            .map_or(self.num_hidden_layers, Vec::len);
        if types != self.num_hidden_layers {
            return inconsistent(format!(
                "layer_types has {types} entries for num_hidden_layers {}",
                self.num_hidden_layers
            ));
        }
        Ok(())
    }

    /// Heads of the keys and values.
    pub fn kv_heads(&self) -> usize {
        self.num_key_value_heads.unwrap_or(self.num_attention_heads)
    }

    /// The width of a head.
    pub fn head_size(&self) -> usize {
        match self.head_dim {
            Some(size) => size,
            // The class's default, which is not hidden_size / num_attention_heads.
            None if self.model_type == "qwen3" => 128,
            None => self.hidden_size / self.num_attention_heads,
        }
    }

    /// Whether q, k and v, and whether o, have biases.
    pub(crate) fn attention_biases(&self) -> [bool; 2] {
        [
            self.attention_bias || self.model_type == "qwen2",
            self.attention_bias,
        ]
    }

    pub(crate) fn mlp_bias(&self) -> bool {
        self.mlp_bias
    }

    /// Whether each head's queries and keys are normed.
    pub(crate) fn qk_norm(&self) -> bool {
        self.model_type == "qwen3"
    }

    /// How many of the latest tokens a layer's attention sees, its own included; `None` for all.
    pub(crate) fn window(&self, layer: usize) -> Option<usize> {
        let slides = match (&self.layer_types, self.model_type.as_str()) {
            (_, "llama") => false,
            (_, "qwen2" | "qwen3") if self.use_sliding_window != Some(true) => false,
            (Some(types), _) => types[layer] == "sliding_attention",
            (None, "mistral") => true,
            (None, _) => self.max_window_layers.is_some_and(|first| layer >= first),
        };
        self.sliding_window.filter(|_| slides)
    }

    fn rope(&self) -> RopeParameters {
        let written = self.rope_scaling.clone().or(self.rope_parameters.clone());
        let mut rope = written.unwrap_or_default();
        rope.rope_theta = rope.rope_theta.or(self.rope_theta);
        rope
    }

    /// The angle by which each pair of a head turns from one position to the next, head_size / 2 of them (Su et al., arXiv
    /// 2104.09864; its scalings as in transformers).
    pub fn inverse_frequencies(&self) -> Vec<f64> {
        let rope = self.rope();
        let theta = rope.rope_theta.unwrap_or(10000.0);
        let size = self.head_size();
        let plain = (0..size / 2).map(|i| theta.powf(-2.0 * i as f64 / size as f64));
        let scaled = plain.map(|frequency| self.scaled(&rope, frequency));
        let divisors = self.rope_divisors.iter().flatten().copied();
        let divisors = divisors.chain(std::iter::repeat(1.0));
        scaled
            .zip(divisors)
            .map(|(frequency, divisor)| frequency / f64::from(divisor))
            .collect()
    }

    fn scaled(&self, rope: &RopeParameters, frequency: f64) -> f64 {
        let factor = rope.factor.unwrap_or(1.0);
        match rope.kind() {
            "linear" => frequency / factor,
            "llama3" => {
                let (low, high) = (
                    rope.low_freq_factor.unwrap_or(1.0),
                    rope.high_freq_factor.unwrap_or(4.0),
                );
                let known = rope.original_max_position_embeddings;
                let known = known.unwrap_or(self.max_position_embeddings) as f64;
                let wave = 2.0 * std::f64::consts::PI / frequency;
                // How much of the unscaled frequency stays: all of it in short waves, none in long ones.
                let keep = ((known / wave - low) / (high - low)).clamp(0.0, 1.0);
                (1.0 - keep) * frequency / factor + keep * frequency
            }
            _ => frequency,
        }
    }
}

impl RopeParameters {
    fn kind(&self) -> &str {
        self.rope_type.as_deref().unwrap_or("default")
    }
}
