use std::path::PathBuf;
use std::sync::Arc;

use burn::tensor::Device;
use coto_adapters::{AdapterSet, Pass};
use coto_models::{Layered, Model, parse_device};
use coto_schedule::{CoalitionSampler, Schedule};
use serde::Serialize;
use serde_json::{Value, json};

use crate::checkpoint::{Checkpoint, State};
use crate::essence::{difference, essence};
use crate::eval::{evaluate, features};
use crate::finished::HEAD;
use crate::prefix;
use crate::task;
use crate::train::Epoch;
use crate::{
    AdamW, Error, Head, HeadKind, PrefixCache, Readout, RunConfig, Scores, Split, Task, atomic,
};

/// A run: frozen model, task, readout, adapters, and how far they have come.
pub struct Run {
    pub(crate) config: RunConfig,
    pub(crate) device: Device,
    pub(crate) model: Model,
    pub(crate) task: Arc<dyn Task>,
    pub(crate) readout: Readout,
    pub(crate) adapters: AdapterSet,
    pub(crate) sampler: CoalitionSampler,
    pub(crate) optimiser: AdamW,
    pub(crate) state: State,
    pub(crate) best: Option<AdapterSet>,
    pub(crate) epoch: Epoch,
    pub(crate) prefix: Option<PrefixCache>,
}

/// What a run file amounts to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// The players, in order.
    pub players: Vec<String>,
    /// The adapted modules.
    pub modules: Vec<String>,
    /// Parameters that are trained: adapters and, if it is, the head.
    pub trainable_parameters: usize,
    /// Parameters that are not.
    pub frozen_parameters: usize,
    /// The classes.
    pub labels: Vec<String>,
    /// Rows of the training, validation and test splits.
    pub rows: [usize; 3],
    /// Passes over the training rows.
    pub epochs: f64,
    /// The share of adapters that is on, on average over the run: what of their cost is paid.
    pub expected_activity: f64,
    /// Bytes of the frozen weights, as they lie in memory.
    pub base_bytes: usize,
    /// Bytes of weights, gradients and moments; activations come on top.
    pub memory_bytes: usize,
}

impl Run {
    /// Loads and checks everything that a run file names.
    ///
    /// # Errors
    /// [`Error`], which names what is wrong.
    pub fn prepare(config: &RunConfig) -> Result<Self, Error> {
        let (device, model, task) = Self::parts(config)?;
        Self::new(config, device, model, task, None)
    }

    /// The device, the model and the task that a run file names.
    pub(crate) fn parts(config: &RunConfig) -> Result<(Device, Model, Arc<dyn Task>), Error> {
        let device = parse_device(&config.device)?;
        let model = Model::load_as(&config.model.name, config.model.quant, &device)?;
        let model = match config.model.pooling {
            Some(pooling) => model.with_pooling(pooling)?,
            None => model,
        };
        let task = task::open(config, &model, &device)?;
        Ok((device, model, task))
    }

    /// A run on a model and a task that are there already; without a readout it gets its own.
    ///
    /// # Errors
    /// [`Error`], which names what is wrong.
    pub fn new(
        config: &RunConfig,
        device: Device,
        model: Model,
        task: Arc<dyn Task>,
        readout: Option<Readout>,
    ) -> Result<Self, Error> {
        prefix::check(config, &model)?;
        let adapters = AdapterSet::new(&model, &config.adapter, &config.players, config.seed)?;
        let schedule = Schedule::new(&config.schedule, config.optim.steps)?;
        let sampler = CoalitionSampler::new(schedule, adapters.players(), config.seed);
        let readout = match readout {
            Some(readout) => readout,
            None => fresh_readout(config, &model, task.as_ref(), &device)?,
        };
        let state = State {
            step: 0,
            config: essence(config),
            data: task.fingerprint(),
            metrics_bytes: 0,
            times: Default::default(),
            best_loss: None,
            stale: 0,
        };
        let optimiser = AdamW::new(&config.optim);
        let config = config.clone();
        Ok(Self {
            config,
            device,
            model,
            task,
            readout,
            adapters,
            sampler,
            optimiser,
            state,
            best: None,
            epoch: Epoch::default(),
            prefix: None,
        })
    }

    /// The plan: what would be trained, and what it would cost.
    pub fn plan(&self) -> Plan {
        let steps = self.config.optim.steps;
        let players = self.adapters.players();
        let activity = |t| -> f64 {
            let rate = self.sampler.rate(t);
            rate.iter().sum::<f64>() / rate.len().max(1) as f64
        };
        let head = self.readout.head().map_or(0, Head::parameters);
        let trained = match self.config.head.kind {
            HeadKind::Trained => head,
            _ => 0,
        };
        let trainable = self.adapters.trainable_parameters() + trained;
        let frozen = self.model.parameters() + head - trained;
        let rows = |split| self.task.samples(split).unwrap_or(0);
        let optim = &self.config.optim;
        let micro = steps * optim.accumulation;
        Plan {
            players: players.names().to_vec(),
            modules: self
                .adapters
                .modules()
                .iter()
                .map(|module| module.path.clone())
                .collect(),
            trainable_parameters: trainable,
            frozen_parameters: frozen,
            labels: self.task.labels().to_vec(),
            rows: [Split::Train, Split::Validation, Split::Test].map(rows),
            epochs: micro as f64
                / self.task.epoch(optim.batch_size, self.config.seed, 0).len() as f64,
            expected_activity: (0..steps).map(activity).sum::<f64>() / steps as f64,
            base_bytes: self.model.bytes(),
            memory_bytes: self.model.bytes() + 4 * (head - trained + 4 * trainable),
        }
    }

    /// The run file.
    pub fn config(&self) -> &RunConfig {
        &self.config
    }

    /// The adapters as they stand.
    pub fn adapters(&self) -> &AdapterSet {
        &self.adapters
    }

    /// What reads the last layer's states.
    pub fn readout(&self) -> &Readout {
        &self.readout
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The task.
    pub fn task(&self) -> &Arc<dyn Task> {
        &self.task
    }

    /// Where it runs.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Optimiser steps done.
    pub fn step(&self) -> usize {
        self.state.step
    }

    /// A file or folder of the run.
    pub fn path(&self, name: &str) -> PathBuf {
        self.config.out.join(name)
    }

    /// Scores of a split under a pass.
    ///
    /// # Errors
    /// [`Error::NoSplit`]; for a sample that cannot be read.
    pub fn evaluate(&self, split: Split, pass: &Pass) -> Result<Scores, Error> {
        evaluate(
            &self.model,
            &self.readout,
            pass,
            self.task.as_ref(),
            split,
            self.config.eval.batch_size,
            &self.device,
        )
    }

    /// Scores of the test rows, all adapters on.
    ///
    /// # Errors
    /// As [`evaluate`](Self::evaluate).
    pub fn evaluate_test(&self) -> Result<Scores, Error> {
        let grand = self.adapters.grand();
        self.evaluate(Split::Test, &Pass::new(&self.adapters, &grand))
    }

    /// Writes the adapter folder, the head and the run file as it was understood.
    pub(crate) fn save_result(&self) -> Result<(), Error> {
        let mut folder = self.adapters.to_folder()?;
        folder.config.base_model_name_or_path = Some(self.config.model.name.clone());
        // The class whose modules have the paths that ours have.
        let class = match self.model {
            Model::Llama(_) => "CAUSAL_LM",
            _ => "FEATURE_EXTRACTION",
        };
        folder.config.task_type = Some(class.to_owned());
        folder.side = Some(self.side());
        folder.save(self.path("adapter"))?;
        match self.readout.head() {
            Some(head) => head.save(&self.path(HEAD), self.task.labels()),
            None => Ok(()),
        }
    }

    pub(crate) fn save_config(&self) -> Result<(), Error> {
        std::fs::create_dir_all(&self.config.out).map_err(Error::io(&self.config.out))?;
        let text = toml::to_string(&self.config).expect("a run file is TOML");
        atomic::write(&self.path("run.toml"), text.as_bytes())
    }

    fn side(&self) -> Value {
        let schedule = &self.config.schedule;
        json!({
            "summary": format!(
                "A {} adapter trained for {} steps with the `{}` schedule of CoTo (arXiv 2506.05713), seed {}.",
                self.config.adapter.variant,
                self.state.step,
                serde_json::to_value(schedule.preset).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default(),
                self.config.seed,
            ),
            "version": env!("CARGO_PKG_VERSION"),
            "players": self.adapters.players().names(),
            "grouping": self.config.players,
            "schedule": schedule,
            "seed": self.config.seed,
            "steps": self.state.step,
        })
    }

    /// Writes `checkpoint.safetensors`.
    pub(crate) fn save_checkpoint(&mut self) -> Result<(), Error> {
        let mut tensors = std::collections::BTreeMap::new();
        let mut put =
            |prefix: &str, name: &str, tensor| tensors.insert(format!("{prefix}{name}"), tensor);
        for (name, tensor) in self.adapters.state() {
            put("adapter/", &name, tensor);
        }
        for (name, tensor) in self.readout.head().iter().flat_map(|head| head.state()) {
            put("head/", &name, tensor);
        }
        for (name, tensor) in self.best.iter().flat_map(AdapterSet::state) {
            put("best/", &name, tensor);
        }
        self.state.times.clear();
        for (name, time, first, second) in self.optimiser.moments() {
            put("m1/", name, first);
            put("m2/", name, second);
            self.state.times.insert(name.to_owned(), time);
        }
        Checkpoint {
            state: self.state.clone(),
            tensors,
        }
        .save(&self.path("checkpoint.safetensors"))
    }

    /// Takes up `checkpoint.safetensors`, if there is one; says whether there was.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] for a broken file, [`Error::OtherRun`] for one of another run file or other rows.
    pub fn resume(&mut self) -> Result<bool, Error> {
        let path = self.path("checkpoint.safetensors");
        if !path.exists() {
            return Ok(false);
        }
        let checkpoint = Checkpoint::load(&path, &self.device)?;
        let other = |what, found: String, expected: String| Error::OtherRun {
            path: path.clone(),
            what,
            found,
            expected,
        };
        let (found, expected) = (&checkpoint.state.config, &self.state.config);
        if let Some((key, a, b)) = difference(found, expected, "") {
            return Err(other(
                "the run file",
                format!("{key} = {a}"),
                format!("{key} = {b}"),
            ));
        }
        if checkpoint.state.data != self.state.data {
            let hex = |v: u64| format!("{v:016x}");
            return Err(other(
                "the training data",
                hex(checkpoint.state.data),
                hex(self.state.data),
            ));
        }
        self.adapters.restore(checkpoint.under("adapter/"))?;
        let broken = |reason: &str| Error::Checkpoint {
            path: path.clone(),
            reason: reason.to_owned(),
        };
        if let Readout::Classes(head) = &mut self.readout {
            let mut parts = checkpoint.under("head/");
            let mut part = |name| parts.remove(name).ok_or_else(|| broken("it has no head"));
            **head = Head {
                weight: part("weight")?,
                bias: part("bias")?,
            };
        }
        let best = checkpoint.under("best/");
        if !best.is_empty() {
            let mut set = self.adapters.clone();
            set.restore(best)?;
            self.best = Some(set);
        }
        let (first, mut second) = (checkpoint.under("m1/"), checkpoint.under("m2/"));
        for (name, first) in first {
            let time = checkpoint.state.times.get(&name).copied();
            let (Some(time), Some(second)) = (time, second.remove(&name)) else {
                return Err(broken(&format!("the moments of `{name}` are not whole")));
            };
            self.optimiser.restore(&name, time, first, second);
        }
        self.state = checkpoint.state;
        Ok(true)
    }
}

/// What reads a model's states, where none is given.
fn fresh_readout(
    config: &RunConfig,
    model: &Model,
    task: &dyn Task,
    device: &Device,
) -> Result<Readout, Error> {
    if task.labels().is_empty() {
        return Ok(Readout::Tokens);
    }
    if let Model::Clip(_) = model {
        return Ok(Readout::Prompts);
    }
    let classes = task.labels().len();
    if config.head.kind == HeadKind::Checkpoint {
        return Ok(Readout::Classes(Head::of(model, task.labels())?.into()));
    }
    let (x, truth) = features(model, task, config.eval.batch_size, device)?;
    let head = match config.head.kind {
        HeadKind::Probe => Head::fit(x, &truth, classes, config.head.l2),
        _ => Head::zeros(x.dims()[1], classes, device),
    };
    Ok(Readout::Classes(head.into()))
}
