use std::path::Path;

use burn::tensor::{Bool, Device, Int, Tensor};
use coto_adapters::{Base, FrozenLinear, Pass};
use coto_coalition::Module;
use serde::{Deserialize, Serialize};

use crate::norm::LayerNorm;
use crate::{BaseQuant, BertConfig, Error, Family, Hidden, Layered, TokenBatch, Weights, locate};

/// The linears of a layer.
const LINEARS: usize = 6;

/// How the states become one feature vector a sample.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// The mean over the tokens.
    #[default]
    Mean,
    /// The first token's.
    Cls,
    /// The last token's, as decoders have it.
    Last,
}

/// An encoder of the BERT family, frozen. Clones share the weights.
#[derive(Debug, Clone)]
pub struct Bert {
    config: BertConfig,
    words: Tensor<2>,
    positions: Tensor<2>,
    types: Option<Tensor<2>>,
    norm: LayerNorm,
    layers: Vec<Layer>,
    modules: Vec<Module>,
    pooling: Pooling,
}

#[derive(Debug, Clone)]
struct Layer {
    /// query, key, value, attention output, up, down.
    linears: [FrozenLinear; LINEARS],
    attention_norm: LayerNorm,
    output_norm: LayerNorm,
}

impl Bert {
    /// Loads a Hugging Face folder (config.json, model.safetensors), or a model of the hub by its id.
    ///
    /// # Errors
    /// For files that are missing, broken, contradictory or of another model; see [`Error`].
    pub fn load(name: impl AsRef<Path>, device: &Device) -> Result<Self, Error> {
        Self::load_as(name, BaseQuant::Stored, device)
    }

    /// [`load`](Self::load), with the matrices of its linears dense or quantised as is said.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_as(
        name: impl AsRef<Path>,
        quant: BaseQuant,
        device: &Device,
    ) -> Result<Self, Error> {
        let folder = locate(name.as_ref())?;
        let config = BertConfig::load(&folder.join("config.json"))?;
        let names = Names::of(&config);
        let mut weights = Weights::open(&folder)?.under(names.prefix).quantised(quant);
        let model = Self::build(config, &names, &mut weights, device)?;
        weights.finish(&[
            "pooler.",
            "cls.",
            "classifier.",
            "lm_head.",
            "vocab_",
            "qa_outputs.",
            "pre_classifier.",
            "embeddings.position_ids",
        ])?;
        Ok(model)
    }

    /// With another pooling.
    ///
    /// # Panics
    /// With [`Pooling::Last`], which is for decoders.
    pub fn with_pooling(self, pooling: Pooling) -> Self {
        assert_ne!(
            pooling,
            Pooling::Last,
            "an encoder's last token is no summary"
        );
        Self { pooling, ..self }
    }

    /// The configuration.
    pub fn config(&self) -> &BertConfig {
        &self.config
    }

    fn build(
        config: BertConfig,
        names: &Names,
        weights: &mut Weights,
        device: &Device,
    ) -> Result<Self, Error> {
        let d = config.hidden_size;
        let norm = |weights: &mut Weights, path: &str| {
            LayerNorm::load(weights, path, d, config.layer_norm_eps, device)
        };
        let table = |weights: &mut Weights, name: &str, rows| {
            weights.matrix(
                &format!("embeddings.{name}_embeddings.weight"),
                [rows, d],
                device,
            )
        };
        let mut modules = Vec::new();
        let mut layers = Vec::new();
        let ff = config.intermediate_size;
        let dims = [[d, d], [d, d], [d, d], [d, d], [d, ff], [ff, d]];
        for i in 0..config.num_hidden_layers {
            let layer = format!("{}.{i}", names.layers);
            let mut linears = Vec::with_capacity(LINEARS);
            for (name, dims) in names.linears.iter().zip(dims) {
                let path = format!("{layer}.{name}");
                let weight = weights.linear(&format!("{path}.weight"), dims, device)?;
                let bias = weights.vector(&format!("{path}.bias"), dims[1], device)?;
                linears.push(FrozenLinear::new(modules.len(), weight, Some(bias)));
                let kind = name.strip_prefix("attention.self.").unwrap_or(name);
                modules.push(Module::new(path, Some(i), kind));
            }
            layers.push(Layer {
                linears: linears.try_into().expect("six linears"),
                attention_norm: norm(weights, &format!("{layer}.{}", names.norms[0]))?,
                output_norm: norm(weights, &format!("{layer}.{}", names.norms[1]))?,
            });
        }
        Ok(Self {
            words: table(weights, "word", config.vocab_size)?,
            positions: table(weights, "position", config.max_position_embeddings)?,
            types: match config.type_vocab_size {
                0 => None,
                types => Some(table(weights, "token_type", types)?),
            },
            norm: norm(weights, "embeddings.LayerNorm")?,
            layers,
            modules,
            pooling: Pooling::default(),
            config,
        })
    }
}

impl Base for Bert {
    fn modules(&self) -> &[Module] {
        &self.modules
    }

    fn linear(&self, module: usize) -> &FrozenLinear {
        &self.layers[module / LINEARS].linears[module % LINEARS]
    }
}

impl Layered for Bert {
    type Batch = TokenBatch;

    fn depth(&self) -> usize {
        self.layers.len()
    }

    fn parameters(&self) -> usize {
        let d = self.config.hidden_size;
        let embeddings = [
            Some(&self.words),
            Some(&self.positions),
            self.types.as_ref(),
        ];
        let embeddings: usize = embeddings
            .into_iter()
            .flatten()
            .map(|t| t.shape().num_elements())
            .sum();
        let linears = (0..self.modules.len()).map(|i| self.linear(i).dims());
        embeddings
            + linears.map(|[i, o]| (i + 1) * o).sum::<usize>()
            + (2 + 4 * self.layers.len()) * d
    }

    fn embed(&self, batch: &TokenBatch) -> Hidden {
        let [rows, width] = batch.ids.dims();
        let first = self.config.first_position();
        let flat = |ids: &Tensor<2, Int>| ids.clone().reshape([rows * width]);
        let words = self.words.clone().select(0, flat(&batch.ids));
        let places = self.positions.clone().slice([first..first + width]);
        let mut places = places.repeat_dim(0, rows);
        if let Some(types) = &self.types {
            places = places + types.clone().select(0, flat(&batch.types));
        }
        around(self.norm.residual(words, places), batch)
    }

    fn resume(&self, states: Tensor<2>, batch: &TokenBatch) -> Option<Hidden> {
        Some(around(states, batch))
    }

    fn layer(&self, layer: usize, hidden: Hidden, pass: &Pass) -> Hidden {
        let layer = &self.layers[layer];
        let [query, key, value, output, up, down] = &layer.linears;
        let x = hidden.states.clone();
        let qkv = [query, key, value].map(|linear| pass.linear(linear, x.clone()));
        let heads = self.config.num_attention_heads;
        let mixed = coto_kernels::attention(qkv, hidden.blocked.clone(), hidden.rows, heads);
        let mixed = pass.linear(output, mixed);
        let x = layer.attention_norm.residual(x, mixed);
        let inner = coto_kernels::gelu(pass.linear(up, x.clone()));
        let inner = pass.linear(down, inner);
        let states = layer.output_norm.residual(x, inner);
        Hidden { states, ..hidden }
    }

    fn head(&self, hidden: Hidden, batch: &TokenBatch) -> Tensor<2> {
        let (rows, width, d) = (hidden.rows, hidden.width, self.config.hidden_size);
        let states = hidden.states.reshape([rows, width, d]);
        match (self.pooling, &batch.mask) {
            (Pooling::Cls, _) => states.slice([0..rows, 0..1, 0..d]).reshape([rows, d]),
            (Pooling::Last, _) => unreachable!("refused by `with_pooling`"),
            (Pooling::Mean, None) => states.mean_dim(1).reshape([rows, d]),
            (Pooling::Mean, Some(mask)) => {
                let tokens = mask.clone().float().reshape([rows, width, 1]);
                let count = tokens.clone().sum_dim(1);
                ((states * tokens).sum_dim(1) / count).reshape([rows, d])
            }
        }
    }
}

/// States of a batch, and where its padding is.
fn around(states: Tensor<2>, batch: &TokenBatch) -> Hidden {
    let [rows, width] = batch.ids.dims();
    let blocked = batch
        .mask
        .as_ref()
        .map(|mask: &Tensor<2, Bool>| mask.clone().bool_not().reshape([rows, 1, 1, width]));
    Hidden {
        blocked,
        ..Hidden::of(states, rows, width)
    }
}

/// What the members of the family call their parts.
struct Names {
    prefix: &'static str,
    layers: &'static str,
    linears: [&'static str; LINEARS],
    norms: [&'static str; 2],
}

impl Names {
    fn of(config: &BertConfig) -> Self {
        let bert = Self {
            prefix: "bert.",
            layers: "encoder.layer",
            linears: [
                "attention.self.query",
                "attention.self.key",
                "attention.self.value",
                "attention.output.dense",
                "intermediate.dense",
                "output.dense",
            ],
            norms: ["attention.output.LayerNorm", "output.LayerNorm"],
        };
        match config.family() {
            Some(Family::Roberta) => Self {
                prefix: "roberta.",
                ..bert
            },
            Some(Family::DistilBert) => Self {
                prefix: "distilbert.",
                layers: "transformer.layer",
                linears: [
                    "attention.q_lin",
                    "attention.k_lin",
                    "attention.v_lin",
                    "attention.out_lin",
                    "ffn.lin1",
                    "ffn.lin2",
                ],
                norms: ["sa_layer_norm", "output_layer_norm"],
            },
            _ => bert,
        }
    }
}
