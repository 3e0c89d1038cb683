use std::collections::BTreeMap;

use burn::optim::{AdamWConfig, AdamWState, AdaptiveMomentumState, Optimizer};
use burn::tensor::Tensor;

use crate::OptimConfig;

/// AdamW (Loshchilov and Hutter, arXiv 1711.05101) over named matrices.
///
/// A parameter without a gradient took no part in the step: neither it nor its moments move, and it does not decay.
#[derive(Clone)]
pub struct AdamW {
    inner: burn::optim::AdamW,
    clip: f64,
    moments: BTreeMap<String, AdamWState<2>>,
}

/// A parameter and its gradient, at one step.
pub struct Update<'a> {
    /// Its name, under which its moments are kept.
    pub name: String,
    /// Its value.
    pub tensor: &'a mut Tensor<2>,
    /// Its gradient, if it took part.
    pub gradient: Option<Tensor<2>>,
    /// Its learning rate.
    pub lr: f64,
}

impl AdamW {
    /// With a run file's settings.
    pub fn new(config: &OptimConfig) -> Self {
        let inner = AdamWConfig::new()
            .with_beta_1(config.beta1 as f32)
            .with_beta_2(config.beta2 as f32)
            .with_epsilon(config.epsilon as f32)
            .with_weight_decay(config.weight_decay as f32)
            .build();
        Self {
            inner,
            clip: config.clip,
            moments: BTreeMap::new(),
        }
    }

    /// One step of all parameters; returns the norm of their gradients before clipping, if clipping is on.
    pub fn step(&mut self, updates: Vec<Update<'_>>) -> Option<f32> {
        let gradients = updates.iter().filter_map(|update| update.gradient.as_ref());
        let squares: Vec<Tensor<1>> = gradients.map(|g| g.clone().square().sum()).collect();
        let norm = (self.clip > 0.0 && !squares.is_empty())
            .then(|| Tensor::cat(squares, 0).sum().sqrt().into_scalar::<f32>());
        // As torch.nn.utils.clip_grad_norm_ has it.
        let shrink = norm.map_or(1.0, |norm| (self.clip / (f64::from(norm) + 1e-6)).min(1.0));
        for Update {
            name,
            tensor,
            gradient,
            lr,
        } in updates
        {
            let Some(gradient) = gradient else { continue };
            let gradient = if shrink < 1.0 {
                gradient.mul_scalar(shrink)
            } else {
                gradient
            };
            let moments = self.moments.remove(&name);
            let (value, moments) = self.inner.step(lr, tensor.clone(), gradient, moments);
            *tensor = value;
            self.moments.extend(moments.map(|moments| (name, moments)));
        }
        norm
    }

    /// The moments by parameter: the number of steps it took part in, first and second.
    pub fn moments(&self) -> impl Iterator<Item = (&str, usize, Tensor<2>, Tensor<2>)> {
        self.moments.iter().map(|(name, state)| {
            let m = &state.momentum;
            (
                name.as_str(),
                m.time,
                m.moment_1.clone(),
                m.moment_2.clone(),
            )
        })
    }

    /// Puts back the moments of one parameter.
    pub fn restore(&mut self, name: &str, time: usize, first: Tensor<2>, second: Tensor<2>) {
        let momentum = AdaptiveMomentumState::new(time, first, second);
        self.moments
            .insert(name.to_owned(), AdamWState::new(momentum));
    }
}
