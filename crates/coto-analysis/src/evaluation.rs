use std::collections::HashSet;

use burn::tensor::Device;
use coto_adapters::AdapterSet;
use coto_coalition::{Coalition, stream};
use coto_models::Model;
use coto_train::{Batch, Readout, Rows, Run, Split, Task};
use rand::seq::index;
use serde::Serialize;

use crate::{CoalitionTree, Error, LayerRuns};

/// How well one target was told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Told {
    /// Its cross-entropy, in nats.
    pub loss: f32,
    /// Whether it had the greatest logit.
    pub right: bool,
    /// By how much its logit exceeds the greatest other one; not a number where margins were not asked for.
    pub margin: f32,
}

/// How well the targets of all rows were told, on average.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Means {
    /// Cross-entropy, in nats.
    pub loss: f64,
    /// The share that had the greatest logit.
    pub accuracy: f64,
    /// Logit margin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub margin: Option<f64>,
}

/// What is told of each target besides loss and accuracy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Margins {
    /// The logit margin too: for a decoder another product with its vocabulary.
    Wanted,
    /// Nothing.
    Unwanted,
}

/// A model, what reads it, and the rows on which it is judged: the same for every coalition and every adapter.
#[derive(Clone)]
pub struct Evaluation<'a> {
    model: &'a Model,
    readout: Readout,
    task: &'a dyn Task,
    split: Split,
    pub(crate) batches: Vec<Rows>,
    device: &'a Device,
    pub(crate) watch: Option<&'a dyn Fn(f64)>,
}

impl<'a> Evaluation<'a> {
    /// All rows of a split of a run's task, in the run's evaluation batches.
    ///
    /// # Errors
    /// [`coto_train::Error::NoSplit`], [`Error::NoRows`].
    pub fn new(run: &'a Run, split: Split) -> Result<Self, Error> {
        let task = run.task().as_ref();
        match task.samples(split) {
            None => {
                return Err(coto_train::Error::NoSplit {
                    split: split.name(),
                }
                .into());
            }
            Some(0) => {
                return Err(Error::NoRows {
                    split: split.name(),
                });
            }
            Some(_) => {}
        }
        Ok(Self {
            model: run.model(),
            readout: run.readout().clone(),
            task,
            split,
            batches: task.in_order(split, run.config().eval.batch_size),
            device: run.device(),
            watch: None,
        })
    }

    /// On at most so many of its samples, drawn without replacement by the seed's stream `rows`.
    pub fn sampled(mut self, samples: usize, seed: u64) -> Self {
        let all: Rows = self.batches.concat();
        let count: usize = all.iter().map(Vec::len).sum();
        if samples >= count {
            return self;
        }
        let size = self.batches.iter().map(Vec::len).max().unwrap_or(1);
        let chosen = index::sample(&mut stream(seed, "rows"), count, samples);
        let chosen: HashSet<usize> = chosen.into_iter().collect();
        let kept = all.into_iter().filter_map(|row| {
            let row: Vec<usize> = row.into_iter().filter(|i| chosen.contains(i)).collect();
            (!row.is_empty()).then_some(row)
        });
        let kept: Rows = kept.collect();
        self.batches = kept.chunks(size).map(<[_]>::to_vec).collect();
        self
    }

    /// With another readout, such as another run's classifier.
    pub fn with_readout(self, readout: Readout) -> Self {
        Self { readout, ..self }
    }

    /// With a function that is told the share of each call's work that is done, in 0..=1.
    pub fn watched(self, watch: &'a dyn Fn(f64)) -> Self {
        Self {
            watch: Some(watch),
            ..self
        }
    }

    /// The model.
    pub fn model(&self) -> &'a Model {
        self.model
    }

    /// What reads its states.
    pub fn readout(&self) -> &Readout {
        &self.readout
    }

    /// The number of samples.
    pub fn samples(&self) -> usize {
        self.batches.iter().flatten().map(Vec::len).sum()
    }

    /// The split.
    pub fn split(&self) -> Split {
        self.split
    }

    /// Some of its rows.
    pub(crate) fn batch(&self, rows: &Rows) -> Result<Batch, Error> {
        Ok(self.task.batch(self.split, rows, self.device)?)
    }

    /// Runs every batch under every coalition, through the [`CoalitionTree`]; `hear` gets the number of a coalition and how well
    /// the next batch's targets were told, batch after batch.
    ///
    /// # Errors
    /// For a sample that cannot be read.
    ///
    /// # Panics
    /// If a coalition is of another number of players than the adapters form.
    pub fn judge(
        &self,
        adapters: &AdapterSet,
        coalitions: &[Coalition],
        margins: Margins,
        hear: &mut impl FnMut(usize, &[Told]),
    ) -> Result<LayerRuns, Error> {
        let tree = CoalitionTree::new(self.model, adapters);
        let (mut runs, mut done) = (LayerRuns::default(), 0);
        let all = (self.batches.len() * coalitions.len()).max(1) as f64;
        for rows in &self.batches {
            let batch = self.batch(rows)?;
            runs += tree.walk(&batch.input, coalitions, &mut |places, hidden| {
                let margin = match margins {
                    Margins::Wanted => self.readout.margins(self.model, hidden.clone(), &batch),
                    Margins::Unwanted => vec![f32::NAN; batch.targets.len()],
                };
                let judged = self.readout.judge(self.model, hidden, &batch);
                let told: Vec<Told> = judged
                    .into_iter()
                    .zip(margin)
                    .zip(&batch.targets)
                    .map(|(((loss, class), margin), &target)| Told {
                        loss,
                        right: class == target,
                        margin,
                    })
                    .collect();
                places.iter().for_each(|&place| hear(place, &told));
                done += places.len();
                if let Some(watch) = self.watch {
                    watch(done as f64 / all);
                }
            });
        }
        Ok(runs)
    }

    /// The means over all targets for each coalition, and the layers that were run.
    ///
    /// # Errors
    /// As [`judge`](Self::judge).
    ///
    /// # Panics
    /// As [`judge`](Self::judge).
    pub fn means(
        &self,
        adapters: &AdapterSet,
        coalitions: &[Coalition],
        margins: Margins,
    ) -> Result<(Vec<Means>, LayerRuns), Error> {
        let mut sums = vec![[0.0; 4]; coalitions.len()];
        let runs = self.judge(adapters, coalitions, margins, &mut |place, told| {
            let [targets, loss, right, margin] = &mut sums[place];
            for told in told {
                *targets += 1.0;
                *loss += f64::from(told.loss);
                *right += f64::from(u8::from(told.right));
                *margin += f64::from(told.margin);
            }
        })?;
        let means = sums.into_iter().map(|[targets, loss, right, margin]| {
            let n = f64::max(targets, 1.0);
            Means {
                loss: loss / n,
                accuracy: right / n,
                margin: (margins == Margins::Wanted).then_some(margin / n),
            }
        });
        Ok((means.collect(), runs))
    }

    /// The means with all adapters on.
    ///
    /// # Errors
    /// As [`judge`](Self::judge).
    pub fn whole(&self, adapters: &AdapterSet, margins: Margins) -> Result<Means, Error> {
        let (means, _) = self.means(adapters, &[adapters.grand()], margins)?;
        Ok(means[0])
    }
}
