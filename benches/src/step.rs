//! A step of ours on a batch without padding.

use std::path::PathBuf;

use burn::tensor::{Device, Distribution, Gradients, Tensor};
use coto_adapters::{AdapterConfig, AdapterSet, Factor, Pass};
use coto_coalition::{Coalition, Grouping};
use coto_models::{BaseQuant, Input, Layered, Model, TokenBatch, backward_by_layers};
use coto_train::{AdamW, Batch, Head, OptimConfig, PrefixCache, Readout, Update};

use crate::{CLASSES, RANK};

/// An encoder's adapters.
pub fn adapter_config(variant: &str) -> AdapterConfig {
    let config = AdapterConfig::lora(RANK, 16.0).variant(variant);
    config.targets(["query", "value"])
}

pub struct Ours {
    pub path: PathBuf,
    /// That of an encoder's adapters.
    pub variant: Option<&'static str>,
    pub shape: [usize; 2],
    pub model: Model,
    pub adapters: AdapterSet,
    readout: Readout,
    optimiser: AdamW,
    batch: Batch,
    checkpointing: bool,
    cache: PrefixCache,
}

impl Ours {
    pub fn new(
        path: &str,
        variant: &str,
        shape: [usize; 2],
        device: &Device,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let decoder = variant.strip_prefix("smollm2-");
        let quant = match decoder.is_some_and(|variant| variant.starts_with("dense")) {
            true => BaseQuant::None,
            false => BaseQuant::Stored,
        };
        let model = Model::load_as(path, quant, device)?;
        let [rows, width] = shape;
        let ids: Vec<u32> = (0..rows * width)
            .map(|i| 1000 + (i * 7919 % 20000) as u32)
            .collect();
        let (config, readout, targets, places) = match decoder {
            Some(_) => {
                let config = AdapterConfig::lora(RANK, 16.0).targets(["q_proj", "v_proj"]);
                let mut next = ids.clone();
                next.rotate_left(1);
                let places = (0..ids.len() as i32).collect();
                (config, Readout::Tokens, next, Some(places))
            }
            None => {
                let labels = (0..rows).map(|row| (row % CLASSES) as u32).collect();
                let readout = Readout::Classes(head(device).into());
                (adapter_config(variant), readout, labels, None)
            }
        };
        let adapters = AdapterSet::new(&model, &config, &Grouping::Layer, 1)?;
        let (zeros, all) = (vec![0; ids.len()], vec![true; ids.len()]);
        let batch = Batch {
            input: Input::Tokens(TokenBatch::new(&ids, &zeros, &all, rows, device).into()),
            targets,
            places,
            tokens: ids.len(),
        };
        let known = adapters.adapters()[0].variant().name();
        // A run without end, whose steps begin at any layer.
        let starts: Vec<usize> = (0..=model.depth()).collect();
        Ok(Self {
            path: path.into(),
            variant: decoder.is_none().then_some(known),
            shape,
            model,
            adapters,
            readout,
            optimiser: AdamW::new(&OptimConfig::default()),
            batch,
            checkpointing: variant.ends_with("-checkpointed"),
            cache: PrefixCache::new(usize::MAX, &starts),
        })
    }

    /// The players: one a layer.
    pub fn layers(&self) -> usize {
        self.adapters.players().len()
    }

    /// The loss alone, all adapters on.
    pub fn forward(&self) {
        let grand = self.adapters.grand();
        let pass = Pass::new(&self.adapters, &grand);
        let hidden = self.model.states(&self.batch.input, &pass);
        let loss = self.readout.loss(&self.model, hidden, &self.batch);
        loss.into_data();
    }

    /// What a cache of the frozen prefix's states would spare: the embedding and the lowest layers.
    pub fn prefix(&self, layers: usize) {
        let layer = |hidden, layer| self.model.layer(layer, hidden, &Pass::base());
        let hidden = (0..layers).fold(self.model.embed(&self.batch.input), layer);
        drop(hidden.states.into_data());
    }

    /// A step; with the frozen prefix's states out of the cache, if so is said and a step before left them there.
    pub fn step(&mut self, on: &Coalition, cached: bool) {
        let tracked = self.adapters.tracked();
        let mut gradients = vec![None; self.adapters.factors().len()];
        let [plain, pass] = [&self.adapters, &tracked].map(|set| Pass::new(set, on));
        let mean = |hidden| {
            let sum = self.readout.loss(&self.model, hidden, &self.batch);
            sum.div_scalar(self.batch.targets.len() as f64)
        };
        let mut take = |grads: &Gradients| {
            let new = gradients.iter_mut().zip(tracked.gradients(grads));
            new.for_each(|(old, new)| *old = old.take().or(new));
        };
        if self.checkpointing {
            let input = &self.batch.input;
            backward_by_layers(&self.model, input, [&plain, &pass], mean, &mut take);
        } else {
            let input = &self.batch.input;
            let hidden = match cached {
                true => {
                    let first = pass.lowest_layer().unwrap_or(self.model.depth());
                    let rows: Vec<Vec<usize>> = (0..self.shape[0]).map(|row| vec![row]).collect();
                    let hidden = self.cache.enter(&self.model, input, &rows, first);
                    self.model.states_from(first, hidden, &pass)
                }
                false => self.model.states(input, &pass),
            };
            take(&mean(hidden).backward());
        }
        let updates = self.adapters.factors().into_iter().zip(gradients);
        let updates = updates
            .map(|(factor, gradient)| update(factor, gradient))
            .collect();
        self.optimiser.step(updates);
    }
}

/// A classifier on MiniLM's features.
pub fn head(device: &Device) -> Head {
    Head {
        weight: Tensor::random([384, CLASSES], Distribution::Normal(0.0, 0.05), device),
        bias: Tensor::zeros([1, CLASSES], device),
    }
}

fn update(factor: Factor<'_>, gradient: Option<Tensor<2>>) -> Update<'_> {
    let Factor { name, tensor, .. } = factor;
    Update {
        name,
        tensor,
        gradient,
        lr: 1e-3,
    }
}
