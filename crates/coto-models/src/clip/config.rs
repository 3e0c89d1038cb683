use std::path::Path;

use serde::Deserialize;

use crate::config::{json, multiple};
use crate::{Activation, Error};

/// The `config.json` of a CLIP model. What it leaves out has the values of CLIP ViT-B/32.
#[derive(Debug, Clone, Default)]
pub struct ClipConfig {
    /// The text tower.
    pub text: ClipTextConfig,
    /// The vision tower.
    pub vision: ClipVisionConfig,
    /// The width of both towers' features.
    pub projection_dim: usize,
}

/// The text tower's part of a [`ClipConfig`].
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct ClipTextConfig {
    /// Tokens known.
    pub vocab_size: usize,
    /// The width of the states.
    pub hidden_size: usize,
    /// The width of the feed-forward network.
    pub intermediate_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Positions known.
    pub max_position_embeddings: usize,
    /// The activation of the feed-forward network.
    pub hidden_act: Activation,
    /// ε of the layer norms.
    pub layer_norm_eps: f64,
    /// The token whose state is the feature; 2, as old files have it, means the largest number in the prompt.
    pub eos_token_id: u32,
}

/// The vision tower's part of a [`ClipConfig`].
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct ClipVisionConfig {
    /// The width of the states.
    pub hidden_size: usize,
    /// The width of the feed-forward network.
    pub intermediate_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
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
}

impl ClipVisionConfig {
    /// The shape of the images that it takes, [channels, height, width].
    pub fn image_shape(&self) -> [usize; 3] {
        [self.num_channels, self.image_size, self.image_size]
    }
}

impl Default for ClipTextConfig {
    fn default() -> Self {
        Self {
            vocab_size: 49408,
            hidden_size: 512,
            intermediate_size: 2048,
            num_hidden_layers: 12,
            num_attention_heads: 8,
            max_position_embeddings: 77,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
            eos_token_id: 49407,
        }
    }
}

impl Default for ClipVisionConfig {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
            image_size: 224,
            patch_size: 32,
            num_channels: 3,
        }
    }
}

/// The file's form.
#[derive(Deserialize)]
struct File {
    model_type: String,
    text_config: Option<ClipTextConfig>,
    vision_config: Option<ClipVisionConfig>,
    /// Where old files have the towers a second time, this one counts.
    text_config_dict: Option<ClipTextConfig>,
    vision_config_dict: Option<ClipVisionConfig>,
    projection_dim: Option<usize>,
}

impl ClipConfig {
    /// Reads a `config.json`.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Config`], [`Error::Unsupported`], [`Error::Inconsistent`].
    pub fn load(path: &Path) -> Result<Self, Error> {
        let file: File = json(path)?;
        if file.model_type != "clip" {
            return Err(Error::Unsupported {
                path: path.into(),
                field: "model_type",
                value: file.model_type,
                known: "`clip`",
            });
        }
        let text = file.text_config_dict.or(file.text_config);
        let vision = file.vision_config_dict.or(file.vision_config);
        let config = Self {
            text: text.unwrap_or_default(),
            vision: vision.unwrap_or_default(),
            projection_dim: file.projection_dim.unwrap_or(512),
        };
        let (text, vision) = (&config.text, &config.vision);
        multiple(
            path,
            ("text_config.hidden_size", text.hidden_size),
            ("num_attention_heads", text.num_attention_heads),
        )?;
        multiple(
            path,
            ("vision_config.hidden_size", vision.hidden_size),
            ("num_attention_heads", vision.num_attention_heads),
        )?;
        multiple(
            path,
            ("vision_config.image_size", vision.image_size),
            ("patch_size", vision.patch_size),
        )?;
        Ok(config)
    }
}
