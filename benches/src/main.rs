//! One training step, timed: MiniLM, 32 × 64 tokens, r = 8 on query and value. Prints milliseconds as JSON.
//!
//! `cargo run --release -p coto-benches -- [model folder] [rounds]`. Every round times each measure once, so that a
//! disturbance of the machine falls on all of them alike. A step is forward, loss, backward and AdamW.

use std::collections::BTreeMap;
use std::time::Instant;

use burn::module::{Lora, Module, ParamGroup};
use burn::nn::transformer::{
    TransformerEncoder, TransformerEncoderConfig, TransformerEncoderInput,
};
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Distribution, Tensor};
use coto_adapters::{AdapterConfig, AdapterSet, Factor, Pass};
use coto_coalition::{Coalition, Grouping};
use coto_models::{Bert, Layered, TokenBatch};
use coto_schedule::{CoalitionSampler, Schedule, ScheduleConfig};
use coto_train::{AdamW, Head, OptimConfig, Update};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROWS: usize = 32;
const WIDTH: usize = 64;
const RANK: usize = 8;
const CLASSES: usize = 26;
/// Steps of the CoTo run whose mean is taken, spread evenly over the schedule.
const COTO_STEPS: usize = 8;

fn main() {
    let mut args = std::env::args().skip(1);
    let model = args.next().unwrap_or_else(|| "all-MiniLM-L6-v2".to_owned());
    let rounds: usize = args
        .next()
        .map_or(5, |n| n.parse().expect("a number of rounds"));
    let device = Device::flex();
    let mut ours = Ours::new(&model, &device);
    let mut theirs = Theirs::new(&device);
    let mut times: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for round in 0..=rounds {
        let mut note = |name, ms| {
            // The first round warms up.
            if round > 0 {
                times.entry(name).or_default().push(ms);
            }
        };
        let grand = ours.adapters.grand();
        note("forward", time(|| ours.forward()));
        note("step_all", time(|| ours.step(&grand)));
        let n = grand.players();
        let quarter = Coalition::from_players(
            n,
            [round % n, (round + 3) % n].into_iter().take(n.div_ceil(4)),
        );
        note("step_quarter", time(|| ours.step(&quarter)));
        let coalitions: Vec<Coalition> = (0..COTO_STEPS)
            .map(|k| ours.sampler.draw(k * 1000 / COTO_STEPS + round))
            .collect();
        let run = time(|| coalitions.iter().for_each(|coalition| ours.step(coalition)));
        note("coto_run", run / COTO_STEPS as f64);
        note("burn_lora_step_all", time(|| theirs.step()));
    }
    println!("{}", serde_json::to_string(&times).expect("numbers"));
}

fn time(mut work: impl FnMut()) -> f64 {
    let start = Instant::now();
    work();
    1e3 * start.elapsed().as_secs_f64()
}

struct Ours {
    model: Bert,
    adapters: AdapterSet,
    head: Head,
    optimiser: AdamW,
    sampler: CoalitionSampler,
    batch: TokenBatch,
    labels: Vec<usize>,
}

impl Ours {
    fn new(model: &str, device: &Device) -> Self {
        let model = Bert::load(model, device).expect("a model");
        let config = AdapterConfig::lora(RANK, 16.0).targets(["query", "value"]);
        let adapters = AdapterSet::new(&model, &config, &Grouping::Layer, 1).expect("adapters");
        let schedule = Schedule::new(&ScheduleConfig::default(), 1000).expect("a schedule");
        let sampler = CoalitionSampler::new(schedule, adapters.players(), 1);
        let ids: Vec<u32> = (0..ROWS * WIDTH)
            .map(|i| 1000 + (i * 7919 % 20000) as u32)
            .collect();
        let zeros = vec![0; ids.len()];
        let batch = TokenBatch::new(&ids, &zeros, &vec![true; ids.len()], ROWS, device);
        let labels = (0..ROWS).map(|row| row % CLASSES).collect();
        let weight = Tensor::random(
            [model.config().hidden_size, CLASSES],
            Distribution::Normal(0.0, 0.05),
            device,
        );
        let head = Head {
            weight,
            bias: Tensor::zeros([1, CLASSES], device),
        };
        Self {
            model,
            adapters,
            head,
            optimiser: AdamW::new(&OptimConfig::default()),
            sampler,
            batch,
            labels,
        }
    }

    fn forward(&self) {
        let on = self.adapters.grand();
        self.model
            .forward(&self.batch, &Pass::new(&self.adapters, &on))
            .into_data();
    }

    fn step(&mut self, on: &Coalition) {
        let tracked = self.adapters.tracked();
        let features = self.model.forward(&self.batch, &Pass::new(&tracked, on));
        let (loss, _) = self.head.loss(features, &self.labels);
        let loss = loss.div_scalar(ROWS as f64);
        let grads = loss.backward();
        let gradients = tracked.gradients(&grads);
        let updates = self.adapters.factors().into_iter().zip(gradients);
        let updates = updates
            .map(|(factor, gradient)| update(factor, gradient))
            .collect();
        self.optimiser.step(updates);
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
    labels: Vec<usize>,
}

impl Theirs {
    fn new(device: &Device) -> Self {
        let training = device.clone().autodiff();
        let lora = Lora::new(RANK, 16.0);
        let targets = ParamGroup::from_any_predicates(vec!["query", "value"]);
        let model = TransformerEncoderConfig::new(384, 1536, 12, 6)
            .with_dropout(0.0)
            .init(&training)
            .apply_lora(lora.set_param_group(targets));
        let input = Tensor::random([ROWS, WIDTH, 384], Distribution::Normal(0.0, 1.0), device);
        let weight = Tensor::random([384, CLASSES], Distribution::Normal(0.0, 0.05), device);
        let head = Head {
            weight,
            bias: Tensor::zeros([1, CLASSES], device),
        };
        let optimiser = AdamWConfig::new().init();
        Self {
            model,
            optimiser,
            input,
            head,
            labels: (0..ROWS).map(|row| row % CLASSES).collect(),
        }
    }

    fn step(&mut self) {
        let states = self
            .model
            .forward(TransformerEncoderInput::new(self.input.clone()));
        let features = states.mean_dim(1).reshape([ROWS, 384]);
        let (loss, _) = self.head.loss(features, &self.labels);
        let grads =
            GradientsParams::from_grads(loss.div_scalar(ROWS as f64).backward(), &self.model);
        self.model = self.optimiser.step(1e-3, self.model.clone(), grads);
    }
}
