//! A vision transformer of burn's own layers, to be trained from scratch.

use burn::module::{Initializer, Module, Param};
use burn::nn::attention::{MhaInput, MultiHeadAttention, MultiHeadAttentionConfig};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor, TensorData, activation};

/// The sizes of a network.
#[derive(Debug, Clone)]
pub struct Sizes {
    /// The height and the width of the grey images.
    pub image: usize,
    /// The height and the width of a patch.
    pub patch: usize,
    /// The width of the states.
    pub d: usize,
    /// Layers.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// The width of the feed-forward networks.
    pub ff: usize,
    /// Classes.
    pub classes: usize,
}

/// ε of the layer norms.
pub const EPSILON: f64 = 1e-6;

/// A pre-norm vision transformer with a classifier on the class token (Dosovitskiy et al., arXiv 2010.11929).
#[derive(Module, Debug)]
pub struct Network {
    patches: Linear,
    class: Param<Tensor<3>>,
    positions: Param<Tensor<3>>,
    layers: Vec<Layer>,
    norm: LayerNorm,
    classifier: Linear,
    patch: usize,
}

#[derive(Module, Debug)]
struct Layer {
    attention_norm: LayerNorm,
    attention: MultiHeadAttention,
    mlp_norm: LayerNorm,
    up: Linear,
    down: Linear,
}

impl Network {
    /// With random weights, from the device's stream of random numbers.
    pub fn new(sizes: &Sizes, device: &Device) -> Self {
        let d = sizes.d;
        let small = Initializer::Normal {
            mean: 0.0,
            std: 0.02,
        };
        let places = (sizes.image / sizes.patch).pow(2) + 1;
        Self {
            patches: LinearConfig::new(sizes.patch * sizes.patch, d).init(device),
            class: small.init([1, 1, d], device),
            positions: small.init([1, places, d], device),
            layers: (0..sizes.layers)
                .map(|_| Layer::new(sizes, device))
                .collect(),
            norm: norm(d, device),
            classifier: LinearConfig::new(d, sizes.classes).init(device),
            patch: sizes.patch,
        }
    }

    /// Logits, [rows, 1, image, image] → [rows, classes].
    pub fn forward(&self, pixels: Tensor<4>) -> Tensor<2> {
        let ([rows, _, image, _], patch) = (pixels.dims(), self.patch);
        let side = image / patch;
        let flat = pixels
            .reshape([rows, side, patch, side, patch])
            .permute([0, 1, 3, 2, 4])
            .reshape([rows, side * side, patch * patch]);
        let class = self.class.val().repeat_dim(0, rows);
        let states = Tensor::cat(vec![class, self.patches.forward(flat)], 1);
        let states = states + self.positions.val();
        let states = self
            .layers
            .iter()
            .fold(states, |states, layer| layer.forward(states));
        let class = states.narrow(1, 0, 1).squeeze_dim::<2>(1);
        self.classifier.forward(self.norm.forward(class))
    }

    /// The weights under the names and in the shapes of a `ViTForImageClassification` of transformers.
    pub fn tensors(&self) -> Vec<(String, TensorData)> {
        let mut out = Vec::new();
        let d = self.class.dims()[2];
        let kernel = self.patches.weight.val().transpose();
        let kernel = kernel.reshape([d, 1, self.patch, self.patch]);
        let bias = |linear: &Linear| linear.bias.as_ref().expect("a bias").val().into_data();
        let mut put = |name: &str, data| out.push((name.to_owned(), data));
        put("vit.embeddings.cls_token", self.class.val().into_data());
        put(
            "vit.embeddings.position_embeddings",
            self.positions.val().into_data(),
        );
        put(
            "vit.embeddings.patch_embeddings.projection.weight",
            kernel.into_data(),
        );
        put(
            "vit.embeddings.patch_embeddings.projection.bias",
            bias(&self.patches),
        );
        let mut linears = vec![("classifier".to_owned(), &self.classifier)];
        let mut norms = vec![("vit.layernorm".to_owned(), &self.norm)];
        for (i, layer) in self.layers.iter().enumerate() {
            let name = |part: &str| format!("vit.encoder.layer.{i}.{part}");
            linears.extend(layer.linears().map(|(part, linear)| (name(part), linear)));
            norms.push((name("layernorm_before"), &layer.attention_norm));
            norms.push((name("layernorm_after"), &layer.mlp_norm));
        }
        for (name, linear) in linears {
            let weight = linear.weight.val().transpose();
            put(&format!("{name}.weight"), weight.into_data());
            put(&format!("{name}.bias"), bias(linear));
        }
        for (name, norm) in norms {
            let beta = norm.beta.as_ref().expect("a shift").val();
            put(&format!("{name}.weight"), norm.gamma.val().into_data());
            put(&format!("{name}.bias"), beta.into_data());
        }
        out
    }
}

fn norm(d: usize, device: &Device) -> LayerNorm {
    LayerNormConfig::new(d).with_epsilon(EPSILON).init(device)
}

impl Layer {
    fn new(sizes: &Sizes, device: &Device) -> Self {
        let (d, ff) = (sizes.d, sizes.ff);
        Self {
            attention_norm: norm(d, device),
            attention: MultiHeadAttentionConfig::new(d, sizes.heads)
                .with_dropout(0.0)
                .init(device),
            mlp_norm: norm(d, device),
            up: LinearConfig::new(d, ff).init(device),
            down: LinearConfig::new(ff, d).init(device),
        }
    }

    fn forward(&self, states: Tensor<3>) -> Tensor<3> {
        let x = self.attention_norm.forward(states.clone());
        let states = states + self.attention.forward(MhaInput::self_attn(x)).context;
        let x = activation::gelu(self.up.forward(self.mlp_norm.forward(states.clone())));
        states + self.down.forward(x)
    }

    fn linears(&self) -> [(&'static str, &Linear); 6] {
        let attention = &self.attention;
        [
            ("attention.attention.query", &attention.query),
            ("attention.attention.key", &attention.key),
            ("attention.attention.value", &attention.value),
            ("attention.output.dense", &attention.output),
            ("intermediate.dense", &self.up),
            ("output.dense", &self.down),
        ]
    }
}
