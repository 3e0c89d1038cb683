use std::cell::RefCell;
use std::collections::BTreeMap;

use burn::tensor::{Gradients, Tensor};
use coto_adapters::{Adapter, AdapterSet, Base, Pass};
use coto_coalition::{Stream, stream};
use coto_lowrank::{Gradients as Means, Matrix, PerFactor, Statistics};
use coto_models::{Hidden, Layered};
use coto_train::{Batch, Rows};
use rand::RngExt;
use rand::seq::index;

use crate::{Error, Evaluation};

/// What is run to learn about adapters, and what is kept of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calibration {
    /// Rows kept of the inputs of each module, fewer where there are no more.
    pub samples: usize,
    /// Batches run, fewer where there are no more rows.
    pub batches: usize,
    /// Rows of each. Gradients are those of a batch's mean loss: of 1, which takes longest, the gradients of single samples that
    /// the Fisher information is defined by.
    pub batch_size: usize,
    /// Whether gradients are taken too.
    pub gradients: bool,
    /// Of the rows that are run, and of the inputs that are kept.
    pub seed: u64,
}

impl Default for Calibration {
    fn default() -> Self {
        Self {
            samples: 256,
            batches: 32,
            batch_size: 8,
            gradients: false,
            seed: 0,
        }
    }
}

/// Runs the model with all adapters on, over rows drawn from an evaluation's without replacement, and tells of each adapted
/// module, by its path, what went into it and what its factors' gradients were.
///
/// The inputs are a uniform sample of all rows [tokens, in] that went through the module, padding left out, and drawn alike for
/// all modules: those that see the same tokens keep the same ones. Gradients are of the mean loss of a batch's targets, without
/// dropout and without the schedule's coalitions; calibrate on training rows.
///
/// # Errors
/// [`Error::Value`]; [`Error::Doubled`] for gradients of factors that their folder does not have, [`Error::NonFinite`]; for a
/// sample that cannot be read.
pub fn calibrate(
    evaluation: &Evaluation,
    adapters: &AdapterSet,
    options: &Calibration,
) -> Result<BTreeMap<String, Statistics>, Error> {
    check(adapters, options)?;
    let (model, grand) = (evaluation.model(), adapters.grand());
    let run = match options.gradients {
        true => adapters.tracked(),
        false => adapters.clone(),
    };
    let places: BTreeMap<&str, usize> = (adapters.modules().iter().enumerate())
        .map(|(place, module)| (module.path.as_str(), place))
        .collect();
    let kept: Vec<RefCell<Sample>> = (adapters.adapters().iter())
        .map(|adapter| Sample::new(model.linear(adapter.module()).dims()[0], options).into())
        .collect();
    let mut sums: Vec<Sums> = adapters.adapters().iter().map(Sums::new).collect();
    let batches = drawn(evaluation, options);
    for (done, rows) in batches.iter().enumerate() {
        let batch = evaluation.batch(rows)?;
        let hear = |adapter: &Adapter, x: &Tensor<2>| {
            let place = places[adapter.path()];
            let tokens = batch.input.tokens(&adapters.modules()[place]);
            kept[place].borrow_mut().take(x, tokens.as_deref());
        };
        let pass = Pass::new(&run, &grand).heard_by(&hear);
        let hidden = model.states(&batch.input, &pass);
        if options.gradients {
            let grads = gradients(evaluation, hidden, &batch, rows)?;
            let pairs = run.adapters().iter().zip(adapters.adapters());
            for (sums, (tracked, plain)) in sums.iter_mut().zip(pairs) {
                sums.add(tracked, plain, &grads);
            }
        }
        if let Some(watch) = evaluation.watch {
            watch((done + 1) as f64 / batches.len() as f64);
        }
    }
    let told = adapters.modules().iter().zip(kept.into_iter().zip(sums));
    let told = told.map(|(module, (kept, sums))| {
        let means = || sums.means(batches.len());
        let statistics = Statistics {
            inputs: kept.into_inner().matrix()?,
            gradients: options.gradients.then(means).transpose()?,
        };
        Ok((module.path.clone(), statistics))
    });
    told.collect()
}

/// The gradients of a batch's mean loss.
fn gradients(
    evaluation: &Evaluation,
    hidden: Hidden,
    batch: &Batch,
    rows: &Rows,
) -> Result<Gradients, Error> {
    let sum = (evaluation.readout()).loss(evaluation.model(), hidden, batch);
    let mean = sum.div_scalar(batch.targets.len() as f64);
    let loss = mean.clone().into_scalar::<f32>();
    if !loss.is_finite() {
        let rows = rows.concat();
        return Err(Error::NonFinite { loss, rows });
    }
    Ok(mean.backward())
}

fn check(adapters: &AdapterSet, options: &Calibration) -> Result<(), Error> {
    for (field, value) in [
        ("samples", options.samples),
        ("batches", options.batches),
        ("batch_size", options.batch_size),
    ] {
        if value == 0 {
            return Err(Error::Value {
                field,
                value: value.to_string(),
                reason: "at least 1",
            });
        }
    }
    match adapters.adapters().iter().find(|a| a.has_origin()) {
        Some(adapter) if options.gradients => Err(Error::Doubled {
            module: adapter.path().to_owned(),
        }),
        _ => Ok(()),
    }
}

/// The batches to run.
fn drawn(evaluation: &Evaluation, options: &Calibration) -> Vec<Rows> {
    let all: Rows = evaluation.batches.concat();
    let count = options.batches.saturating_mul(options.batch_size);
    let mut draws = stream(options.seed, "calibration/rows");
    let chosen = index::sample(&mut draws, all.len(), count.min(all.len()));
    let chosen: Rows = chosen.into_iter().map(|row| all[row].clone()).collect();
    let batches = chosen.chunks(options.batch_size);
    batches.map(<[_]>::to_vec).collect()
}

/// A uniform sample of the rows that go by (Vitter's algorithm R, ACM TOMS 11, 1985).
struct Sample {
    size: usize,
    width: usize,
    seen: usize,
    draws: Stream,
    values: Vec<f32>,
}

impl Sample {
    fn new(width: usize, options: &Calibration) -> Self {
        Self {
            size: options.samples,
            width,
            seen: 0,
            // The same for all modules: those with the same rows keep the same.
            draws: stream(options.seed, "calibration/inputs"),
            values: Vec::new(),
        }
    }

    /// Rows that go by, [rows, width]: those that stand for tokens, where some do not.
    fn take(&mut self, x: &Tensor<2>, tokens: Option<&[bool]>) {
        let mut row_of = BTreeMap::new();
        for row in (0..x.dims()[0]).filter(|&row| tokens.is_none_or(|tokens| tokens[row])) {
            let place = match self.seen < self.size {
                true => self.seen,
                false => self.draws.random_range(0..=self.seen),
            };
            self.seen += 1;
            if place < self.size {
                row_of.insert(place, row as i32);
            }
        }
        if row_of.is_empty() {
            return;
        }
        let x = x.clone().without_autodiff();
        let rows: Vec<i32> = row_of.values().copied().collect();
        let rows = x
            .clone()
            .select(0, Tensor::from_data(rows.as_slice(), &x.device()));
        let values: Vec<f32> = rows.into_data().iter().collect();
        let kept = self.seen.min(self.size) * self.width;
        self.values.resize(kept, 0.0);
        for (place, row) in row_of.keys().zip(values.chunks_exact(self.width)) {
            self.values[place * self.width..][..self.width].copy_from_slice(row);
        }
    }

    fn matrix(self) -> Result<Matrix, Error> {
        let rows = self.seen.min(self.size);
        Ok(Matrix::new(rows, self.width, self.values)?)
    }
}

/// Sums over batches for A [in, r] and B [r, out].
struct Sums {
    squared: [Tensor<2>; 2],
    sensitivity: [Tensor<2>; 2],
}

impl Sums {
    fn new(adapter: &Adapter) -> Self {
        let zeros = || [0, 1].map(|i| adapter.factor(i).zeros_like());
        Self {
            squared: zeros(),
            sensitivity: zeros(),
        }
    }

    /// A factor that took no part has a gradient of zeros.
    fn add(&mut self, tracked: &Adapter, plain: &Adapter, grads: &Gradients) {
        for i in [0, 1] {
            if let Some(g) = tracked.factor(i).grad(grads) {
                let product = g.clone() * plain.factor(i);
                self.squared[i] = self.squared[i].clone() + g.square();
                self.sensitivity[i] = self.sensitivity[i].clone() + product.abs();
            }
        }
    }

    fn means(self, batches: usize) -> Result<Means, Error> {
        let mean = |sum: Tensor<2>| {
            let [rows, cols] = sum.dims();
            let mean = sum.div_scalar(batches as f64);
            // The folder's factors are the transposes.
            let mean = Matrix::new(rows, cols, mean.into_data().iter().collect())?;
            Ok::<_, Error>(mean.transposed())
        };
        let both = |[a, b]: [Tensor<2>; 2]| {
            Ok::<_, Error>(PerFactor {
                a: mean(a)?,
                b: mean(b)?,
            })
        };
        Ok(Means {
            squared: both(self.squared)?,
            sensitivity: both(self.sensitivity)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    #[test]
    fn every_token_is_kept_as_often_as_any_other() {
        // Three batches of 10, 4 and 10 rows, of which every fifth is padding: 20 tokens, 5 kept.
        let mut counts = [0; 24];
        for seed in 0..4_000 {
            let options = Calibration {
                samples: 5,
                seed,
                ..Default::default()
            };
            let mut sample = Sample::new(1, &options);
            for rows in [0..10, 10..14, 14..24] {
                let values: Vec<f32> = rows.clone().map(|row| row as f32).collect();
                let data = TensorData::new(values, [rows.len(), 1]);
                let tokens: Vec<bool> = rows.map(|row| row % 5 != 4).collect();
                sample.take(&Tensor::from_data(data, &Device::flex()), Some(&tokens));
            }
            let kept = sample.matrix().unwrap();
            assert_eq!(kept.rows(), 5);
            kept.values()
                .iter()
                .for_each(|&row| counts[row as usize] += 1);
        }
        for (row, &count) in counts.iter().enumerate() {
            // A quarter of 4,000 draws; the deviation is √(4,000 · ¼ · ¾) ≈ 27.
            let expected = if row % 5 == 4 { 0..1 } else { 890..1_110 };
            assert!(expected.contains(&count), "{row}: {count}");
        }
    }
}
