use std::path::PathBuf;
use std::sync::Arc;

use burn::tensor::Device;
use coto_adapters::{AdapterSet, Pass};
use coto_models::{Layered, Model, TokenBatch, locate, parse_device};
use coto_schedule::{CoalitionSampler, Schedule};
use serde::Serialize;
use serde_json::{Value, json};

use crate::checkpoint::{Checkpoint, State};
use crate::eval::features;
use crate::{AdamW, Error, Head, HeadKind, Predictions, RunConfig, Scores, Split, Task, atomic};

/// A run: frozen model, task, head, adapters, and how far they have come.
pub struct Run<M = Model> {
    pub(crate) config: RunConfig,
    pub(crate) device: Device,
    pub(crate) model: M,
    pub(crate) task: Arc<Task>,
    pub(crate) head: Head,
    pub(crate) adapters: AdapterSet,
    pub(crate) sampler: CoalitionSampler,
    pub(crate) optimiser: AdamW,
    pub(crate) state: State,
    pub(crate) best: Option<AdapterSet>,
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
    /// Bytes of weights, gradients and moments; activations come on top.
    pub memory_bytes: usize,
}

impl Run<Model> {
    /// Loads and checks everything that a run file names.
    ///
    /// # Errors
    /// [`Error`], which names what is wrong.
    pub fn prepare(config: &RunConfig) -> Result<Self, Error> {
        let device = parse_device(&config.device)?;
        let folder = locate(config.model.name.as_ref())?;
        let model = Model::load(&folder, &device)?;
        let model = match config.model.pooling {
            Some(pooling) => model.with_pooling(pooling)?,
            None => model,
        };
        let limit = model.max_tokens();
        let task = Task::load(&config.data, &folder.join("tokenizer.json"), limit)?;
        Self::new(config, device, model, Arc::new(task), None)
    }
}

impl<M: Layered<Batch = TokenBatch>> Run<M> {
    /// A run on a model and a task that are there already; without a head it gets its own.
    ///
    /// # Errors
    /// [`Error`], which names what is wrong.
    pub fn new(
        config: &RunConfig,
        device: Device,
        model: M,
        task: Arc<Task>,
        head: Option<Head>,
    ) -> Result<Self, Error> {
        let adapters = AdapterSet::new(&model, &config.adapter, &config.players, config.seed)?;
        let schedule = Schedule::new(&config.schedule, config.optim.steps)?;
        let sampler = CoalitionSampler::new(schedule, adapters.players(), config.seed);
        let head = head.unwrap_or_else(|| Self::fresh_head(config, &model, &task, &device));
        let state = State {
            step: 0,
            config: essence(config),
            data: task.train.data.fingerprint(),
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
            head,
            adapters,
            sampler,
            optimiser,
            state,
            best: None,
        })
    }

    fn fresh_head(config: &RunConfig, model: &M, task: &Task, device: &Device) -> Head {
        let x = features(model, task, &task.train, config.eval.batch_size, device);
        let classes = task.labels.len();
        match config.head.kind {
            HeadKind::Probe => Head::fit(x, &task.train.truth(), classes, config.head.l2),
            HeadKind::Trained => Head::zeros(x.dims()[1], classes, device),
        }
    }

    /// The plan: what would be trained, and what it would cost.
    pub fn plan(&self) -> Plan {
        let steps = self.config.optim.steps;
        let players = self.adapters.players();
        let activity = |t| -> f64 {
            let rate = self.sampler.rate(t);
            rate.iter().sum::<f64>() / rate.len().max(1) as f64
        };
        let head = match self.config.head.kind {
            HeadKind::Trained => self.head.parameters(),
            HeadKind::Probe => 0,
        };
        let trainable = self.adapters.trainable_parameters() + head;
        let frozen = self.model.parameters() + self.head.parameters() - head;
        let rows = |split: &Option<Split>| split.as_ref().map_or(0, |split| split.tokens.len());
        let seen = steps * self.config.optim.batch_size * self.config.optim.accumulation;
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
            labels: self.task.labels.clone(),
            rows: [
                self.task.train.tokens.len(),
                rows(&self.task.validation),
                rows(&self.task.test),
            ],
            epochs: seen as f64 / self.task.train.tokens.len().max(1) as f64,
            expected_activity: (0..steps).map(activity).sum::<f64>() / steps as f64,
            memory_bytes: 4 * (frozen + 4 * trainable),
        }
    }

    /// The adapters as they stand.
    pub fn adapters(&self) -> &AdapterSet {
        &self.adapters
    }

    /// The head.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The model.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// The task.
    pub fn task(&self) -> &Arc<Task> {
        &self.task
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
    pub fn evaluate(&self, split: &Split, pass: &Pass) -> Scores {
        let size = self.config.eval.batch_size;
        let predictions = Predictions::of(
            &self.model,
            &self.head,
            pass,
            &self.task,
            split,
            size,
            &self.device,
        );
        predictions.scores(split)
    }

    /// Scores of the test rows, all adapters on.
    ///
    /// # Errors
    /// [`Error::NoSplit`].
    pub fn evaluate_test(&self) -> Result<Scores, Error> {
        let split = self
            .task
            .test
            .as_ref()
            .ok_or(Error::NoSplit { split: "test" })?;
        Ok(self.evaluate(split, &Pass::new(&self.adapters, &self.adapters.grand())))
    }

    /// Takes the adapters and the head that a finished run wrote.
    ///
    /// # Errors
    /// For files that are missing, broken or of another model.
    pub fn load_result(&mut self) -> Result<(), Error> {
        let folder = coto_peft::Folder::load(self.path("adapter"))?;
        self.adapters = AdapterSet::from_folder(&self.model, &folder, &self.config.players)?;
        let [d, classes] = self.head.weight.dims();
        self.head = Head::load(&self.path("head.safetensors"), d, classes, &self.device)?;
        Ok(())
    }

    /// Writes the adapter folder, the head and the run file as it was understood.
    pub(crate) fn save_result(&self) -> Result<(), Error> {
        let mut folder = self.adapters.to_folder()?;
        folder.config.base_model_name_or_path = Some(self.config.model.name.clone());
        folder.config.task_type = Some("FEATURE_EXTRACTION".to_owned());
        folder.side = Some(self.side());
        folder.save(self.path("adapter"))?;
        self.head
            .save(&self.path("head.safetensors"), &self.task.labels)
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
        for (name, tensor) in self.head.state() {
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
        let mut head = checkpoint.under("head/");
        let mut part = |name| head.remove(name).ok_or_else(|| broken("it has no head"));
        self.head = Head {
            weight: part("weight")?,
            bias: part("bias")?,
        };
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

/// The fields on which the result depends.
fn essence(config: &RunConfig) -> Value {
    let mut value = serde_json::to_value(config).expect("a run file is JSON");
    for key in ["out", "device"] {
        value.as_object_mut().map(|map| map.remove(key));
    }
    if let Some(eval) = value["eval"].as_object_mut() {
        eval.remove("checkpoint_every");
    }
    value
}

/// The first field in which two documents differ, and its values.
fn difference(a: &Value, b: &Value, at: &str) -> Option<(String, Value, Value)> {
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => x.keys().chain(y.keys()).find_map(|key| {
            let at = if at.is_empty() {
                key.clone()
            } else {
                format!("{at}.{key}")
            };
            difference(&a[key], &b[key], &at)
        }),
        _ => (a != b).then(|| (at.to_owned(), a.clone(), b.clone())),
    }
}
