use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{Device, Tensor};
use coto_adapters::{Base, FrozenLinear, Pass};
use coto_coalition::Module;
use serde::Deserialize;

use crate::config::{json, multiple};
use crate::norm::LayerNorm;
use crate::patches::{Patches, first, positions};
use crate::tower::{Names, Sizes, Towers};
use crate::{Activation, BaseQuant, Error, Hidden, ImageBatch, Layered, Weights, locate};

const NAMES: Names = Names {
    stored: [
        "encoder.layer",
        "attention.attention.query",
        "attention.attention.key",
        "attention.attention.value",
        "attention.output.dense",
        "intermediate.dense",
        "output.dense",
    ],
    modules: [
        "layers",
        "attention.q_proj",
        "attention.k_proj",
        "attention.v_proj",
        "attention.o_proj",
        "mlp.fc1",
        "mlp.fc2",
    ],
    norms: ["layernorm_before", "layernorm_after"],
};

/// The `config.json` of a vision transformer. What it leaves out has the values of ViT-B/16.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct VitConfig {
    /// The model type as the file has it.
    pub model_type: String,
    /// d, the width of the states.
    pub hidden_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// The width of the feed-forward network.
    pub intermediate_size: usize,
    /// The activation of the feed-forward network.
    pub hidden_act: Activation,
    /// ε of the layer norms.
    pub layer_norm_eps: f64,
    /// The height and the width of an image, in pixels.
    pub image_size: usize,
    /// The height and the width of a patch, in pixels.
    pub patch_size: usize,
    /// Colours.
    pub num_channels: usize,
    /// Whether query, key and value have biases.
    pub qkv_bias: bool,
    /// The classes of the checkpoint's own classifier, by number.
    pub id2label: Option<BTreeMap<usize, String>>,
}

impl Default for VitConfig {
    fn default() -> Self {
        Self {
            model_type: "vit".to_owned(),
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            hidden_act: Activation::Gelu,
            layer_norm_eps: 1e-12,
            image_size: 224,
            patch_size: 16,
            num_channels: 3,
            qkv_bias: true,
            id2label: None,
        }
    }
}

impl VitConfig {
    /// Reads a `config.json`.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Config`], [`Error::Unsupported`], [`Error::Inconsistent`].
    pub fn load(path: &Path) -> Result<Self, Error> {
        let config: Self = json(path)?;
        if config.model_type != "vit" {
            return Err(Error::Unsupported {
                path: path.into(),
                field: "model_type",
                value: config.model_type,
                known: "`vit`",
            });
        }
        let (d, heads) = (config.hidden_size, config.num_attention_heads);
        multiple(path, ("hidden_size", d), ("num_attention_heads", heads))?;
        let (image, patch) = (config.image_size, config.patch_size);
        multiple(path, ("image_size", image), ("patch_size", patch))?;
        let numbers = config.id2label.iter().flat_map(BTreeMap::keys);
        if let Some((expected, number)) = (0..).zip(numbers).find(|(i, number)| i != *number) {
            let reason = format!("id2label has no class {expected}, but a class {number}");
            return Err(Error::Inconsistent {
                path: path.into(),
                reason,
            });
        }
        Ok(config)
    }

    /// The shape of the images that it takes, [channels, height, width].
    pub fn image_shape(&self) -> [usize; 3] {
        [self.num_channels, self.image_size, self.image_size]
    }

    /// The names of the classes. A file without any means two.
    pub fn labels(&self) -> Vec<String> {
        match &self.id2label {
            Some(labels) => labels.values().cloned().collect(),
            None => vec!["LABEL_0".to_owned(), "LABEL_1".to_owned()],
        }
    }
}

/// A vision transformer (Dosovitskiy et al., arXiv 2010.11929), frozen; its feature is the normed state of the class token.
/// Clones share the weights.
///
/// Its modules have the paths of transformers 5's `ViTModel`, `layers.0.attention.q_proj` and so on; its files the older names,
/// as transformers writes them still.
#[derive(Debug, Clone)]
pub struct Vit {
    config: VitConfig,
    patches: Patches,
    layers: Towers,
    norm: LayerNorm,
    classifier: Option<Classifier>,
}

/// The head that a checkpoint brings along.
#[derive(Debug, Clone)]
pub struct Classifier {
    /// [d, classes].
    pub weight: Tensor<2>,
    /// (classes).
    pub bias: Tensor<1>,
    /// The names of the classes.
    pub labels: Vec<String>,
}

impl Vit {
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
        let config = VitConfig::load(&folder.join("config.json"))?;
        let mut weights = Weights::open(&folder)?.under("vit.").quantised(quant);
        let mut model = Self::build(config, &mut weights, device)?;
        weights = weights.under("");
        if weights.contains("classifier.weight") {
            model.classifier = Some(model.read_classifier(&mut weights, device)?);
        }
        weights.finish(&["pooler.", "vit.pooler."])?;
        Ok(model)
    }

    /// The configuration.
    pub fn config(&self) -> &VitConfig {
        &self.config
    }

    /// The checkpoint's own classifier, if it has one; it is for the features and no part of this model.
    pub fn classifier(&self) -> Option<&Classifier> {
        self.classifier.as_ref()
    }

    fn build(config: VitConfig, weights: &mut Weights, device: &Device) -> Result<Self, Error> {
        let (d, c, patch) = (config.hidden_size, config.num_channels, config.patch_size);
        let places = positions(config.image_size, patch);
        let token = weights.tensor("embeddings.cls_token", [1, 1, d], device)?;
        let table = weights.tensor("embeddings.position_embeddings", [1, places, d], device)?;
        let projection = "embeddings.patch_embeddings.projection";
        let patches = Patches::new(
            weights.tensor(
                &format!("{projection}.weight"),
                [d, c, patch, patch],
                device,
            )?,
            Some(weights.vector(&format!("{projection}.bias"), d, device)?),
            token,
            table,
            config.image_size,
        );
        let sizes = Sizes {
            layers: config.num_hidden_layers,
            d,
            ff: config.intermediate_size,
            heads: config.num_attention_heads,
            epsilon: config.layer_norm_eps,
            activation: config.hidden_act,
            qkv_bias: config.qkv_bias,
        };
        let mut layers = Towers::default();
        layers.add(&NAMES, &sizes, weights, device)?;
        Ok(Self {
            norm: LayerNorm::load(weights, "layernorm", d, config.layer_norm_eps, device)?,
            classifier: None,
            patches,
            layers,
            config,
        })
    }

    fn read_classifier(&self, weights: &mut Weights, device: &Device) -> Result<Classifier, Error> {
        let (labels, d) = (self.config.labels(), self.config.hidden_size);
        let weight = weights.matrix("classifier.weight", [labels.len(), d], device)?;
        Ok(Classifier {
            weight: weight.transpose(),
            bias: weights.vector("classifier.bias", labels.len(), device)?,
            labels,
        })
    }
}

impl Base for Vit {
    fn modules(&self) -> &[Module] {
        self.layers.modules()
    }

    fn linear(&self, module: usize) -> &FrozenLinear {
        self.layers.linear(module)
    }
}

impl Layered for Vit {
    type Batch = ImageBatch;

    fn depth(&self) -> usize {
        self.layers.depth()
    }

    fn parameters(&self) -> usize {
        self.patches.parameters() + self.layers.parameters() + self.norm.parameters()
    }

    /// # Panics
    /// If the images are not of the model's size and channels.
    fn embed(&self, batch: &ImageBatch) -> Hidden {
        self.patches.embed(&batch.pixels)
    }

    fn resume(&self, states: Tensor<2>, batch: &ImageBatch) -> Option<Hidden> {
        let [rows, ..] = batch.pixels.dims();
        let width = states.dims()[0] / rows;
        Some(Hidden::of(states, rows, width))
    }

    fn layer(&self, layer: usize, hidden: Hidden, pass: &Pass) -> Hidden {
        self.layers.layer(layer, hidden, pass)
    }

    fn head(&self, hidden: Hidden, _: &ImageBatch) -> Tensor<2> {
        self.norm.forward(first(hidden))
    }
}
