use std::fs::{File, OpenOptions};
use std::io::Write;
use std::time::Instant;

use burn::tensor::{Gradients, Tensor};
use coto_adapters::{Dropout, Pass};
use coto_models::{Layered, backward_from};
use serde::Serialize;

use crate::optim::Update;
use crate::{Batch, Error, HeadKind, PrefixUse, Rate, Readout, Rows, Run, Scores, Split};

/// One optimiser step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepRecord {
    /// Which, from 0.
    pub step: usize,
    /// Mean cross-entropy of its targets, in nats.
    pub loss: f32,
    /// The learning rate.
    pub lr: f64,
    /// The gradients' norm before clipping.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub norm: Option<f32>,
    /// The schedule's p.
    pub p: f64,
    /// Which players were on, the lowest first.
    pub active: String,
    /// Tokens seen, padding not counted.
    pub tokens: usize,
    /// How long it took.
    pub seconds: f64,
    /// What the cache of the frozen prefix did in this step, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<PrefixUse>,
}

/// One evaluation on the validation rows, all adapters on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EvalRecord {
    /// Optimiser steps done.
    pub step: usize,
    /// The scores.
    #[serde(flatten)]
    pub scores: Scores,
}

/// What a run tells while it runs; also a line of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Event {
    /// A step is done.
    Step(StepRecord),
    /// An evaluation is done.
    Eval(EvalRecord),
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// All steps are done, or early stopping ended it; the result is written.
    Finished,
    /// It was asked to stop; the checkpoint is written.
    Stopped,
}

/// The order of an epoch, and the number of its first micro-batch in the run.
#[derive(Default)]
pub(crate) struct Epoch {
    number: u64,
    first: usize,
    batches: Vec<Rows>,
}

impl Run {
    /// Trains to the end, or until `stop` says so between two steps.
    ///
    /// Writes `run.toml`, `metrics.jsonl` and `checkpoint.safetensors` while it runs, `adapter/` and `head.safetensors` at
    /// its end.
    ///
    /// # Errors
    /// [`Error::NonFinite`]; [`Error::Io`] when a file cannot be written: the last good checkpoint stays.
    pub fn train(
        &mut self,
        on: &mut dyn FnMut(&Event),
        stop: &dyn Fn() -> bool,
    ) -> Result<Outcome, Error> {
        self.save_config()?;
        let mut log = Log::open(self)?;
        self.plan_prefix();
        let steps = self.config.optim.steps;
        let due = |every: usize, step: usize| every > 0 && step.is_multiple_of(every);
        while self.state.step < steps && !self.exhausted() {
            if stop() {
                self.checkpoint(&log)?;
                return Ok(Outcome::Stopped);
            }
            let record = Event::Step(self.advance()?);
            log.write(&record)?;
            on(&record);
            let step = self.state.step;
            if due(self.config.eval.every, step) || step == steps {
                self.validate(&mut log, on)?;
            }
            if due(self.config.eval.checkpoint_every, step) || step == steps || self.exhausted() {
                self.checkpoint(&log)?;
            }
        }
        if let Some(best) = &self.best {
            self.adapters = best.clone();
        }
        self.save_result()?;
        Ok(Outcome::Finished)
    }

    fn exhausted(&self) -> bool {
        self.config.eval.patience > 0 && self.state.stale >= self.config.eval.patience
    }

    fn checkpoint(&mut self, log: &Log) -> Result<(), Error> {
        self.state.metrics_bytes = log.bytes;
        self.save_checkpoint()
    }

    fn validate(&mut self, log: &mut Log, on: &mut dyn FnMut(&Event)) -> Result<(), Error> {
        if self.task.samples(Split::Validation).is_none() {
            return Ok(());
        }
        let grand = self.adapters.grand();
        let scores = self.evaluate(Split::Validation, &Pass::new(&self.adapters, &grand))?;
        if self.config.eval.patience > 0 {
            if self.state.best_loss.is_none_or(|best| scores.loss < best) {
                self.state.best_loss = Some(scores.loss);
                self.state.stale = 0;
                self.best = Some(self.adapters.clone());
            } else {
                self.state.stale += 1;
            }
        }
        let record = Event::Eval(EvalRecord {
            step: self.state.step,
            scores,
        });
        log.write(&record)?;
        on(&record);
        Ok(())
    }

    /// The rows of micro-batch number `micro` of the run. Epochs may differ in their number of micro-batches: samples that
    /// share rows are put together anew.
    fn rows(&mut self, micro: usize) -> Rows {
        loop {
            let Epoch {
                number,
                first,
                batches,
            } = &self.epoch;
            let next = first + batches.len();
            if (*first..next).contains(&micro) {
                return batches[micro - first].clone();
            }
            let (number, first) = if batches.is_empty() || micro < *first {
                (0, 0)
            } else {
                (number + 1, next)
            };
            let config = &self.config;
            let batches = self
                .task
                .epoch(config.optim.batch_size, config.seed, number);
            self.epoch = Epoch {
                number,
                first,
                batches,
            };
        }
    }

    /// One optimiser step: one coalition for all of its micro-batches, the loss averaged over all of their targets.
    fn advance(&mut self) -> Result<StepRecord, Error> {
        let (start, step) = (Instant::now(), self.state.step);
        let config = self.config.optim.clone();
        let coalition = self.sampler.draw(step);
        let adapters = self.adapters.tracked();
        let trains_head = self.config.head.kind == HeadKind::Trained;
        let readout = match &self.readout {
            Readout::Classes(head) if trains_head => Readout::Classes(head.tracked().into()),
            other => other.clone(),
        };
        let mut micro: Vec<(Rows, Batch)> = Vec::with_capacity(config.accumulation);
        for k in 0..config.accumulation {
            let rows = self.rows(step * config.accumulation + k);
            let batch = self.task.batch(Split::Train, &rows, &self.device)?;
            micro.push((rows, batch));
        }
        let total: usize = micro.iter().map(|(_, batch)| batch.targets.len()).sum();
        let tokens = micro.iter().map(|(_, batch)| batch.tokens).sum();
        let lowest = self.lowest(&coalition);
        let before = self.prefix();
        let mut loss = 0.0;
        let mut gradients: Vec<Option<Tensor<2>>> = Vec::new();
        for (k, (rows, batch)) in micro.into_iter().enumerate() {
            let dropout = Dropout {
                seed: self.config.seed,
                pass: (step * config.accumulation + k) as u64,
            };
            let mut take = |grads: &Gradients| {
                let mut new = adapters.gradients(grads);
                if let Some(head) = readout.head().filter(|_| trains_head) {
                    new.extend([head.weight.grad(grads), head.bias.grad(grads)]);
                }
                gradients = add(std::mem::take(&mut gradients), new);
            };
            let pass = |adapters| Pass::new(adapters, &coalition).with_dropout(dropout);
            let tracked = pass(&adapters);
            let mean = |hidden| {
                let sum = readout.loss(&self.model, hidden, &batch);
                sum.div_scalar(total as f64)
            };
            let (first, hidden) = match &mut self.prefix {
                Some(cache) => {
                    let hidden = cache.enter(&self.model, &batch.input, &rows, lowest);
                    (lowest, hidden)
                }
                None => (0, self.model.embed(&batch.input)),
            };
            let value = if config.gradient_checkpointing {
                let passes = [&pass(&self.adapters), &tracked];
                backward_from(&self.model, first, hidden, passes, mean, &mut take)
            } else {
                let mean = mean(self.model.states_from(first, hidden, &tracked));
                // With no player on and the head frozen there is nothing to learn.
                if mean.is_tracked() {
                    take(&mean.backward());
                }
                mean
            };
            let value = value.into_scalar::<f32>();
            loss += value;
            if !value.is_finite() {
                return Err(Error::NonFinite {
                    loss: value,
                    step,
                    rows: rows.concat(),
                    coalition: coalition.to_string(),
                });
            }
        }
        let rate = Rate {
            peak: config.lr,
            warmup: config.warmup,
            steps: config.steps,
            decay: config.decay,
        };
        let lr = rate.at(step);
        let mut updates = Vec::with_capacity(gradients.len());
        let mut gradients = gradients.into_iter();
        for factor in self.adapters.factors() {
            let lr = if factor.spec.fast {
                lr * config.lora_plus_ratio
            } else {
                lr
            };
            let gradient = gradients.next().flatten();
            updates.push(Update {
                name: factor.name,
                tensor: factor.tensor,
                gradient,
                lr,
            });
        }
        if let Readout::Classes(head) = &mut self.readout
            && trains_head
        {
            let lr = lr * config.head_lr_ratio;
            for (name, tensor) in [
                ("head.weight", &mut head.weight),
                ("head.bias", &mut head.bias),
            ] {
                let gradient = gradients.next().flatten();
                updates.push(Update {
                    name: name.to_owned(),
                    tensor,
                    gradient,
                    lr,
                });
            }
        }
        let norm = self.optimiser.step(updates);
        self.state.step += 1;
        let prefix = self.prefix().zip(before);
        if let Some(cache) = &mut self.prefix {
            cache.done(lowest);
        }
        Ok(StepRecord {
            step,
            loss,
            lr,
            norm,
            p: self.sampler.schedule().p(step),
            active: coalition.to_string(),
            tokens,
            seconds: start.elapsed().as_secs_f64(),
            prefix: prefix.map(|(now, before)| now.since(before)),
        })
    }
}

fn add(sum: Vec<Option<Tensor<2>>>, new: Vec<Option<Tensor<2>>>) -> Vec<Option<Tensor<2>>> {
    if sum.is_empty() {
        return new;
    }
    let join = |(a, b): (Option<Tensor<2>>, Option<Tensor<2>>)| match (a, b) {
        (Some(a), Some(b)) => Some(a + b),
        (a, b) => a.or(b),
    };
    sum.into_iter().zip(new).map(join).collect()
}

/// `metrics.jsonl`, cut back on resume to what the checkpoint knew.
struct Log {
    file: File,
    path: std::path::PathBuf,
    bytes: u64,
}

impl Log {
    fn open(run: &Run) -> Result<Self, Error> {
        let (path, bytes) = (run.path("metrics.jsonl"), run.state.metrics_bytes);
        let open = || {
            let mut file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)?;
            file.set_len(bytes)?;
            std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0))?;
            Ok(file)
        };
        let file = open().map_err(Error::io(&path))?;
        Ok(Self { file, path, bytes })
    }

    fn write(&mut self, event: &Event) -> Result<(), Error> {
        let mut line = serde_json::to_string(event).expect("an event is JSON");
        line.push('\n');
        self.file
            .write_all(line.as_bytes())
            .map_err(Error::io(&self.path))?;
        self.bytes += line.len() as u64;
        Ok(())
    }
}
