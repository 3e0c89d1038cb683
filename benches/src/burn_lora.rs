//! Burn's own weight-space LoRA, on burn's encoder of MiniLM's shape.

use burn::module::{Lora, Module, ParamGroup};
use burn::nn::transformer::{
    TransformerEncoder, TransformerEncoderConfig, TransformerEncoderInput,
};
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Distribution, Tensor};
use coto_train::Head;

use crate::{CLASSES, RANK, step};

/// MiniLM's.
pub const LAYERS: usize = 6;

pub struct BurnLora {
    model: TransformerEncoder,
    optimiser: ModuleOptimizer,
    input: Tensor<3>,
    head: Head,
    labels: Vec<u32>,
}

impl BurnLora {
    pub fn new([rows, width]: [usize; 2], device: &Device) -> Self {
        let training = device.clone().autodiff();
        let lora = Lora::new(RANK, 16.0);
        let targets = ParamGroup::from_any_predicates(vec!["query", "value"]);
        let model = TransformerEncoderConfig::new(384, 1536, 12, LAYERS)
            .with_dropout(0.0)
            .init(&training)
            .apply_lora(lora.set_param_group(targets));
        let input = Tensor::random([rows, width, 384], Distribution::Normal(0.0, 1.0), device);
        let optimiser = AdamWConfig::new().init();
        Self {
            model,
            optimiser,
            input,
            head: step::head(device),
            labels: (0..rows).map(|row| (row % CLASSES) as u32).collect(),
        }
    }

    pub fn step(&mut self) {
        let states = self
            .model
            .forward(TransformerEncoderInput::new(self.input.clone()));
        let features = states.mean_dim(1).reshape([self.labels.len(), 384]);
        let loss = self.head.loss(features, &self.labels);
        let grads = GradientsParams::from_grads(
            loss.div_scalar(self.labels.len() as f64).backward(),
            &self.model,
        );
        self.model = self.optimiser.step(1e-3, self.model.clone(), grads);
    }
}
