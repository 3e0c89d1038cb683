use burn::tensor::{Bool, Device, Int, Tensor};
use coto_kernels::Weight;

use super::{ClipConfig, names};
use crate::norm::LayerNorm;
use crate::tower::{Sizes, Towers};
use crate::{Error, Hidden, TokenBatch, Weights};

/// What lies below and above the layers of the text tower.
#[derive(Debug, Clone)]
pub(super) struct Text {
    /// [vocabulary, d].
    tokens: Tensor<2>,
    /// [positions, d].
    positions: Tensor<2>,
    norm: LayerNorm,
    /// [d, projection].
    projection: Weight,
    eos: u32,
}

impl Text {
    pub fn load(
        config: &ClipConfig,
        layers: &mut Towers,
        weights: &mut Weights,
        device: &Device,
    ) -> Result<Self, Error> {
        let (text, projection) = (&config.text, config.projection_dim);
        let d = text.hidden_size;
        let table = |weights: &mut Weights, name: &str, rows| {
            let key = format!("text_model.embeddings.{name}_embedding.weight");
            weights.matrix(&key, [rows, d], device)
        };
        let sizes = Sizes {
            layers: text.num_hidden_layers,
            d,
            ff: text.intermediate_size,
            heads: text.num_attention_heads,
            epsilon: text.layer_norm_eps,
            activation: text.hidden_act,
            qkv_bias: true,
        };
        layers.add(&names("text_model.encoder.layers"), &sizes, weights, device)?;
        let norm = "text_model.final_layer_norm";
        Ok(Self {
            tokens: table(weights, "token", text.vocab_size)?,
            positions: table(weights, "position", text.max_position_embeddings)?,
            norm: LayerNorm::load(weights, norm, d, text.layer_norm_eps, device)?,
            projection: weights
                .matrix("text_projection.weight", [projection, d], device)?
                .transpose()
                .into(),
            eos: text.eos_token_id,
        })
    }

    pub fn parameters(&self) -> usize {
        let matrices = [
            self.tokens.dims(),
            self.positions.dims(),
            self.projection.dims(),
        ];
        let matrices = matrices.map(|[rows, cols]| rows * cols);
        matrices.iter().sum::<usize>() + self.norm.parameters()
    }

    pub fn embed(&self, prompts: &TokenBatch) -> Hidden {
        let ([rows, width], [known, d]) = (prompts.ids.dims(), self.positions.dims());
        assert!(
            width <= known,
            "prompts of {width} tokens; the model has {known} positions"
        );
        let ids = prompts.ids.clone().reshape([rows * width]);
        let tokens = self.tokens.clone().select(0, ids);
        let places = self.positions.clone().slice([0..width, 0..d]);
        // Padding stands behind the tokens, where nobody looks.
        let device = prompts.ids.device().without_autodiff();
        let later = Tensor::<2, Bool>::tril_mask([width, width], 0, &device);
        let blocked = later.reshape([1, 1, width, width]);
        Hidden {
            blocked: Some(blocked.expand([rows, 1, width, width])),
            ..Hidden::of(tokens + places.repeat_dim(0, rows), rows, width)
        }
    }

    /// The projected state of each prompt's end.
    pub fn features(&self, hidden: Hidden, prompts: &TokenBatch) -> Tensor<2> {
        let ends = self
            .norm
            .forward(hidden.states.select(0, self.ends(prompts)));
        coto_kernels::linear(ends, &self.projection, None)
    }

    /// The rows of the states in which the prompts end: the first end token of each, the first token where there is none.
    fn ends(&self, prompts: &TokenBatch) -> Tensor<1, Int> {
        let (ids, shape) = (&prompts.ids, prompts.ids.dims());
        let [rows, width] = shape;
        let ends = match self.eos {
            2 => ids.clone().equal(ids.clone().max_dim(1).expand(shape)),
            eos => ids.clone().equal_elem(eos),
        };
        let (device, width) = (ids.device().without_autodiff(), width as i64);
        let places = Tensor::<1, Int>::arange(0..width, &device).unsqueeze::<2>();
        // At an end the places from there to the last; elsewhere at most 0.
        let left = (ends.int().mul_scalar(width) - places)
            .max_dim(1)
            .reshape([rows]);
        let starts = Tensor::<1, Int>::arange(0..rows as i64, &device).mul_scalar(width);
        starts + left.neg().add_scalar(width).remainder_scalar(width)
    }
}
