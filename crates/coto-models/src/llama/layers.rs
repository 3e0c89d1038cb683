//! What a decoder does with tokens, layer by layer.

use burn::tensor::{Bool, Int, Tensor, TensorData};
use coto_adapters::{Base, Pass};
use coto_kernels::Weight;

use super::Llama;
use super::decode::Seen;
use crate::norm::RmsNorm;
use crate::{Hidden, Layered, TokenBatch};

impl Llama {
    /// What goes into the first layer, of tokens that follow `past` others.
    pub(super) fn embed_after(&self, batch: &TokenBatch, past: usize) -> Hidden {
        let [rows, width] = batch.ids.dims();
        let ids = batch.ids.clone().reshape([rows * width]);
        self.around(self.tokens.columns(ids), batch, past)
    }

    /// States of tokens that follow `past` others, with what each may look at and how its heads are turned.
    fn around(&self, states: Tensor<2>, batch: &TokenBatch, past: usize) -> Hidden {
        let [rows, width] = batch.ids.dims();
        let mut windows = self.layers.iter().map(|layer| layer.window);
        let window = windows
            .clone()
            .flatten()
            .next()
            .filter(|&window| window < past + width);
        let everywhere = windows.any(|window| window.is_none_or(|window| window >= past + width));
        // One token after others may look at all of them.
        let alone = width == 1 && batch.mask.is_none();
        Hidden {
            blocked: (everywhere && !alone).then(|| blocked(batch, past, None)),
            windowed: window.map(|window| blocked(batch, past, Some(window))),
            rotation: Some(self.rotation(batch, past)),
            ..Hidden::of(states, rows, width)
        }
    }

    /// Layer number `layer`; with what it has seen of earlier tokens, which then grows.
    pub(super) fn block(
        &self,
        layer: usize,
        hidden: Hidden,
        pass: &Pass,
        seen: Option<&mut Seen>,
    ) -> Hidden {
        let layer = &self.layers[layer];
        let [q, k, v, o, gate, up, down] = &layer.linears;
        let x = layer.attention_norm.forward(hidden.states.clone());
        let [q, k, v] = [q, k, v].map(|linear| pass.linear(linear, x.clone()));
        let [q_norm, k_norm] = match &layer.head_norms {
            Some([q, k]) => [Some(q), Some(k)],
            None => [None, None],
        };
        let q = self.turn(q, q_norm, &hidden);
        let k = self.turn(k, k_norm, &hidden);
        let [k, v] = match seen {
            Some(seen) => seen.extend([k, v]),
            None => [k, v],
        };
        let keys = k.dims()[0] / hidden.rows;
        let slides = layer.window.is_some_and(|window| window < keys);
        let blocked = if slides {
            &hidden.windowed
        } else {
            &hidden.blocked
        };
        let heads = self.config.num_attention_heads;
        let mixed = coto_kernels::attention([q, k, v], blocked.clone(), hidden.rows, heads);
        let states = hidden.states + pass.linear(o, mixed);
        let x = layer.mlp_norm.forward(states.clone());
        let gated = coto_kernels::gated_silu(pass.linear(gate, x.clone()), pass.linear(up, x));
        let states = states + pass.linear(down, gated);
        Hidden { states, ..hidden }
    }

    /// Cosine and sine of every position's angles, [tokens, head_size / 2] each.
    fn rotation(&self, batch: &TokenBatch, past: usize) -> [Tensor<2>; 2] {
        let ([rows, width], half) = (batch.ids.dims(), self.frequencies.len());
        let device = batch.ids.device().without_autodiff();
        let angles = (past..past + width)
            .flat_map(|position| self.frequencies.iter().map(move |f| position as f64 * f));
        let angles: Vec<f64> = angles.collect();
        [f64::cos, f64::sin].map(|f| {
            let values: Vec<f32> = angles.iter().map(|&angle| f(angle) as f32).collect();
            let table = Tensor::<2>::from_data(TensorData::new(values, [width, half]), &device);
            match &batch.positions {
                Some(positions) => table.select(0, positions.clone().reshape([rows * width])),
                None => table.repeat_dim(0, rows),
            }
        })
    }

    /// One layer's heads: normed where the model does so, and turned by their positions.
    fn turn(&self, x: Tensor<2>, norm: Option<&RmsNorm>, hidden: &Hidden) -> Tensor<2> {
        let ([tokens, d], size) = (x.dims(), self.config.head_size());
        let x = match norm {
            Some(norm) => norm
                .forward(x.reshape([tokens * d / size, size]))
                .reshape([tokens, d]),
            None => x,
        };
        match hidden.rotation.clone() {
            Some([cos, sin]) => coto_kernels::rotate(x, cos, sin),
            None => x,
        }
    }
}

/// Which keys each query must not look at, [rows, 1, width, past + width]: later ones, padding, other samples of a packed row,
/// and those beyond a window.
fn blocked(batch: &TokenBatch, past: usize, window: Option<usize>) -> Tensor<4, Bool> {
    let [rows, width] = batch.ids.dims();
    let keys = past + width;
    let device = batch.ids.device().without_autodiff();
    let places = Tensor::<1, Int>::arange(0..keys as i64, &device);
    let query = places
        .clone()
        .slice([past..keys])
        .reshape([1, 1, width, 1])
        .expand([1, 1, width, keys]);
    let key = places.reshape([1, 1, 1, keys]).expand([1, 1, width, keys]);
    let mut blocked = key.clone().greater(query.clone());
    if let Some(window) = window {
        blocked = blocked.bool_or((query - key).greater_equal_elem(window as i64));
    }
    let full = [rows, 1, width, keys];
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
        let tables = self.tables().into_iter().map(Weight::dims);
        tables.map(|[d, tokens]| d * tokens).sum::<usize>()
            + linears.sum::<usize>()
            + head_norms
            + (1 + 2 * self.layers.len()) * self.config.hidden_size
    }

    fn tables(&self) -> Vec<&Weight> {
        [Some(&self.tokens), self.head.as_ref()]
            .into_iter()
            .flatten()
            .collect()
    }

    fn embed(&self, batch: &TokenBatch) -> Hidden {
        self.embed_after(batch, 0)
    }

    fn resume(&self, states: Tensor<2>, batch: &TokenBatch) -> Option<Hidden> {
        Some(self.around(states, batch, 0))
    }

    fn layer(&self, layer: usize, hidden: Hidden, pass: &Pass) -> Hidden {
        self.block(layer, hidden, pass, None)
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
