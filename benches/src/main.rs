//! One training step, timed: an encoder or a decoder, r = 8 on queries and values. Prints milliseconds and MiB as JSON.
//!
//! `coto-benches MODEL VARIANT ROWSxWIDTH ROUNDS`, where VARIANT is that of the adapters of an encoder; `burn`, which is
//! burn's own LoRA on burn's own encoder of MiniLM's shape; or, of LoRA on a decoder, `smollm2-dense` and `smollm2-stored`,
//! with `-checkpointed` after them for gradient checkpointing. Every round times each measure once, so that a disturbance of
//! the machine falls on all of them alike. A step is forward, loss, backward and AdamW. `cargo xtask bench` sets PyTorch
//! beside it.

use std::collections::BTreeMap;
use std::time::Instant;

use burn::module::{Lora, Module, ParamGroup};
use burn::nn::transformer::{
    TransformerEncoder, TransformerEncoderConfig, TransformerEncoderInput,
};
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Distribution, Gradients, Tensor};
use coto_adapters::{AdapterConfig, AdapterSet, Factor, Pass};
use coto_coalition::{Coalition, Grouping};
use coto_models::{BaseQuant, Input, Layered, Model, TokenBatch, backward_by_layers};
use coto_schedule::{CoalitionSampler, Schedule, ScheduleConfig};
use coto_train::{AdamW, Batch, Head, OptimConfig, Readout, Update};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const RANK: usize = 8;
const CLASSES: usize = 26;
/// Steps of the CoTo run whose mean is taken, spread evenly over the schedule.
const COTO_STEPS: usize = 8;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, variant, shape, rounds] = args.as_slice() else {
        panic!("arguments: MODEL VARIANT ROWSxWIDTH ROUNDS");
    };
    let (rows, width) = shape.split_once('x').expect("a shape such as 32x64");
    let [rows, width, rounds] = [rows, width, rounds].map(|n| n.parse().expect("a number"));
    let device = Device::flex();
    let mut times: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    // The first round, a step alone, warms up; without others it tells the time from the start to the first step.
    let mut note = |round: usize, name, ms| {
        if round > 0 || rounds == 0 {
            times.entry(name).or_default().push(ms);
        }
    };
    if variant == "burn" {
        let mut theirs = Theirs::new([rows, width], &device);
        (0..=rounds).for_each(|round| note(round, "step_all", time(|| theirs.step())));
    } else {
        let mut ours = Ours::new(model, variant, [rows, width], &device);
        let grand = ours.adapters.grand();
        for round in 0..=rounds {
            note(round, "step_all", time(|| ours.step(&grand)));
            if round == 0 {
                continue;
            }
            note(round, "forward", time(|| ours.forward(&grand)));
            let n = grand.players();
            let some = n.div_ceil(4);
            let quarter = (0..some).map(|k| (round + k * n / some) % n);
            let quarter = Coalition::from_players(n, quarter);
            note(round, "step_quarter", time(|| ours.step(&quarter)));
            let coalitions: Vec<Coalition> = (0..COTO_STEPS)
                .map(|k| ours.sampler.draw(k * 1000 / COTO_STEPS + round))
                .collect();
            let run = time(|| coalitions.iter().for_each(|coalition| ours.step(coalition)));
            note(round, "coto_run", run / COTO_STEPS as f64);
        }
    }
    note(1, "peak_memory", peak_memory());
    println!("{}", serde_json::to_string(&times).expect("numbers"));
}

/// The most memory that the process held, in MiB.
fn peak_memory() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kib.and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

fn time(mut work: impl FnMut()) -> f64 {
    let start = Instant::now();
    work();
    1e3 * start.elapsed().as_secs_f64()
}

struct Ours {
    model: Model,
    adapters: AdapterSet,
    readout: Readout,
    optimiser: AdamW,
    sampler: CoalitionSampler,
    batch: Batch,
    checkpointing: bool,
}

impl Ours {
    fn new(model: &str, variant: &str, [rows, width]: [usize; 2], device: &Device) -> Self {
        let decoder = variant.strip_prefix("smollm2-");
        let quant = match decoder.is_some_and(|variant| variant.starts_with("dense")) {
            true => BaseQuant::None,
            false => BaseQuant::Stored,
        };
        let model = Model::load_as(model, quant, device).expect("a model");
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
                let config = AdapterConfig::lora(RANK, 16.0).variant(variant);
                let labels = (0..rows).map(|row| (row % CLASSES) as u32).collect();
                let readout = Readout::Classes(head(device).into());
                (config.targets(["query", "value"]), readout, labels, None)
            }
        };
        let adapters = AdapterSet::new(&model, &config, &Grouping::Layer, 1).expect("adapters");
        let schedule = Schedule::new(&ScheduleConfig::default(), 1000).expect("a schedule");
        let sampler = CoalitionSampler::new(schedule, adapters.players(), 1);
        let (zeros, all) = (vec![0; ids.len()], vec![true; ids.len()]);
        let batch = Batch {
            input: Input::Tokens(TokenBatch::new(&ids, &zeros, &all, rows, device).into()),
            targets,
            places,
            tokens: ids.len(),
        };
        Self {
            model,
            adapters,
            readout,
            optimiser: AdamW::new(&OptimConfig::default()),
            sampler,
            batch,
            checkpointing: variant.ends_with("-checkpointed"),
        }
    }

    /// The loss alone.
    fn forward(&self, on: &Coalition) {
        let pass = Pass::new(&self.adapters, on);
        let hidden = self.model.states(&self.batch.input, &pass);
        let loss = self.readout.loss(&self.model, hidden, &self.batch);
        loss.into_data();
    }

    fn step(&mut self, on: &Coalition) {
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
            let hidden = self.model.states(&self.batch.input, &pass);
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
fn head(device: &Device) -> Head {
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

/// Burn's own weight-space LoRA, on burn's encoder of the same shape.
struct Theirs {
    model: TransformerEncoder,
    optimiser: ModuleOptimizer,
    input: Tensor<3>,
    head: Head,
    labels: Vec<u32>,
}

impl Theirs {
    fn new([rows, width]: [usize; 2], device: &Device) -> Self {
        let training = device.clone().autodiff();
        let lora = Lora::new(RANK, 16.0);
        let targets = ParamGroup::from_any_predicates(vec!["query", "value"]);
        let model = TransformerEncoderConfig::new(384, 1536, 12, 6)
            .with_dropout(0.0)
            .init(&training)
            .apply_lora(lora.set_param_group(targets));
        let input = Tensor::random([rows, width, 384], Distribution::Normal(0.0, 1.0), device);
        let optimiser = AdamWConfig::new().init();
        Self {
            model,
            optimiser,
            input,
            head: head(device),
            labels: (0..rows).map(|row| (row % CLASSES) as u32).collect(),
        }
    }

    fn step(&mut self) {
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
