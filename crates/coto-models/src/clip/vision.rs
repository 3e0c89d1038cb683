use burn::tensor::{Device, Tensor};
use coto_kernels::Weight;

use super::{ClipConfig, names};
use crate::norm::LayerNorm;
use crate::patches::{Patches, first, positions};
use crate::tower::{Sizes, Towers};
use crate::{Error, Hidden, Weights};

/// What lies below and above the layers of the vision tower.
#[derive(Debug, Clone)]
pub(super) struct Vision {
    patches: Patches,
    before: LayerNorm,
    after: LayerNorm,
    /// [d, projection].
    projection: Weight,
}

impl Vision {
    pub fn load(
        config: &ClipConfig,
        layers: &mut Towers,
        weights: &mut Weights,
        device: &Device,
    ) -> Result<Self, Error> {
        let (vision, projection) = (&config.vision, config.projection_dim);
        let (d, c, patch) = (vision.hidden_size, vision.num_channels, vision.patch_size);
        let places = positions(vision.image_size, patch);
        let embeddings = "vision_model.embeddings";
        let kernel = format!("{embeddings}.patch_embedding.weight");
        let class = weights.vector(&format!("{embeddings}.class_embedding"), d, device)?;
        let table = format!("{embeddings}.position_embedding.weight");
        let patches = Patches::new(
            weights.tensor(&kernel, [d, c, patch, patch], device)?,
            None,
            class.reshape([1, 1, d]),
            weights.matrix(&table, [places, d], device)?.unsqueeze(),
            vision.image_size,
        );
        let sizes = Sizes {
            layers: vision.num_hidden_layers,
            d,
            ff: vision.intermediate_size,
            heads: vision.num_attention_heads,
            epsilon: vision.layer_norm_eps,
            activation: vision.hidden_act,
            qkv_bias: true,
        };
        layers.add(
            &names("vision_model.encoder.layers"),
            &sizes,
            weights,
            device,
        )?;
        // The first is misspelt in the files.
        let [before, after] = ["pre_layrnorm", "post_layernorm"].map(|name| {
            let path = format!("vision_model.{name}");
            LayerNorm::load(weights, &path, d, vision.layer_norm_eps, device)
        });
        Ok(Self {
            patches,
            before: before?,
            after: after?,
            projection: weights
                .matrix("visual_projection.weight", [projection, d], device)?
                .transpose()
                .into(),
        })
    }

    pub fn parameters(&self) -> usize {
        let norms = self.before.parameters() + self.after.parameters();
        self.patches.parameters() + norms + self.projection.dims().iter().product::<usize>()
    }

    pub fn embed(&self, pixels: &Tensor<4>) -> Hidden {
        let hidden = self.patches.embed(pixels);
        let states = self.before.forward(hidden.states.clone());
        Hidden { states, ..hidden }
    }

    /// The projected state of each image's class token.
    pub fn features(&self, hidden: Hidden) -> Tensor<2> {
        let states = self.after.forward(first(hidden));
        coto_kernels::linear(states, &self.projection, None)
    }
}
