mod config;
mod text;
mod vision;

use std::path::Path;

use burn::tensor::{Device, Tensor};
use coto_adapters::{Base, FrozenLinear, Pass};
use coto_coalition::Module;

pub use config::{ClipConfig, ClipTextConfig, ClipVisionConfig};
use text::Text;
use vision::Vision;

use crate::tower::{Names, Towers};
use crate::{BaseQuant, Error, Hidden, ImageBatch, Layered, TokenBatch, Weights, locate};

/// The names of a tower's parts, the same in the file and as modules.
fn names(layers: &'static str) -> Names {
    let names = [
        layers,
        "self_attn.q_proj",
        "self_attn.k_proj",
        "self_attn.v_proj",
        "self_attn.out_proj",
        "mlp.fc1",
        "mlp.fc2",
    ];
    Names {
        stored: names,
        modules: names,
        norms: ["layer_norm1", "layer_norm2"],
    }
}

/// CLIP (Radford et al., arXiv 2103.00020), frozen: a tower of text and one of images. Clones share the weights.
///
/// Its layers are those of the text tower, then those of the vision tower, and are counted through: so they lie in the model's
/// list of modules, and so the published CoTo takes them. A text tower without active adapters is not tracked, and does not run
/// at all where [`ImageBatch::text`] is given.
#[derive(Debug, Clone)]
pub struct Clip {
    config: ClipConfig,
    text: Text,
    vision: Vision,
    layers: Towers,
    /// exp of the file's `logit_scale`.
    scale: f64,
}

impl Clip {
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
        let config = ClipConfig::load(&folder.join("config.json"))?;
        let mut weights = Weights::open(&folder)?.quantised(quant);
        let mut layers = Towers::default();
        let text = Text::load(&config, &mut layers, &mut weights, device)?;
        let vision = Vision::load(&config, &mut layers, &mut weights, device)?;
        let scale = f64::from(weights.scalar("logit_scale")?).exp();
        weights.finish(&[
            "text_model.embeddings.position_ids",
            "vision_model.embeddings.position_ids",
        ])?;
        Ok(Self {
            config,
            text,
            vision,
            layers,
            scale,
        })
    }

    /// The configuration.
    pub fn config(&self) -> &ClipConfig {
        &self.config
    }

    /// The prompts' features, each of length 1, [prompts, projection].
    ///
    /// # Panics
    /// If a prompt is longer than the positions suffice for.
    pub fn text_features(&self, prompts: &TokenBatch, pass: &Pass) -> Tensor<2> {
        let layers = |hidden, layer| self.layers.layer(layer, hidden, pass);
        let hidden = (0..self.text_depth()).fold(self.text.embed(prompts), layers);
        unit(self.text.features(hidden, prompts))
    }

    /// The images' features, each of length 1, [rows, projection].
    ///
    /// # Panics
    /// If the images are not of the model's size and channels.
    pub fn image_features(&self, pixels: &Tensor<4>, pass: &Pass) -> Tensor<2> {
        let layers = |hidden, layer| self.layers.layer(layer, hidden, pass);
        let hidden = (self.text_depth()..self.depth()).fold(self.vision.embed(pixels), layers);
        unit(self.vision.features(hidden))
    }

    /// The layers of the text tower.
    fn text_depth(&self) -> usize {
        self.config.text.num_hidden_layers
    }
}

/// Every row at length 1.
fn unit(x: Tensor<2>) -> Tensor<2> {
    let length = x.clone().square().sum_dim(1).sqrt();
    x / length
}

impl Base for Clip {
    fn modules(&self) -> &[Module] {
        self.layers.modules()
    }

    fn linear(&self, module: usize) -> &FrozenLinear {
        self.layers.linear(module)
    }
}

impl Layered for Clip {
    type Batch = ImageBatch;

    fn depth(&self) -> usize {
        self.layers.depth()
    }

    fn parameters(&self) -> usize {
        self.text.parameters() + self.vision.parameters() + self.layers.parameters() + 1
    }

    /// The images' states, and the prompts' beside them.
    ///
    /// # Panics
    /// If the images are not of the model's size and channels, or a prompt is longer than the positions suffice for.
    fn embed(&self, batch: &ImageBatch) -> Hidden {
        let prompts = batch.prompts.as_ref().filter(|_| batch.text.is_none());
        Hidden {
            beside: prompts.map(|prompts| Box::new(self.text.embed(prompts))),
            ..self.vision.embed(&batch.pixels)
        }
    }

    fn layer(&self, layer: usize, hidden: Hidden, pass: &Pass) -> Hidden {
        if layer >= self.text_depth() {
            return self.layers.layer(layer, hidden, pass);
        }
        let run = |text: Box<Hidden>| Box::new(self.layers.layer(layer, *text, pass));
        Hidden {
            beside: hidden.beside.map(run),
            ..hidden
        }
    }

    /// exp(logit scale) times the cosine of each image and each prompt, [rows, prompts]; the images' features where there are no
    /// prompts.
    fn head(&self, mut hidden: Hidden, batch: &ImageBatch) -> Tensor<2> {
        let run = hidden.beside.take().zip(batch.prompts.as_ref());
        let run = run.map(|(text, prompts)| unit(self.text.features(*text, prompts)));
        let images = unit(self.vision.features(hidden));
        match batch.text.clone().or(run) {
            Some(text) => images.matmul(text.transpose()).mul_scalar(self.scale),
            None => images,
        }
    }
}
