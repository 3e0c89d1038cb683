use coto_lowrank::LowRank;
use coto_lowrank::faer::{Mat, Scale};

use super::{importance, inputs, not_negative, refused, stacked};
use crate::{Error, Method, Needs, Parts};

/// ZipLoRA (Shah et al., arXiv 2311.13600): Σ τₖ diag(mₖ), a factor for each input column of each adapter, for which the merged
/// outputs are near each adapter's own on that adapter's inputs, and no two adapters use the same columns.
///
/// It minimises Σ wₖ E‖(τ − τₖ)x‖² / E‖τₖx‖² over the inputs x under adapter k, plus λ times the mean over columns of Σ |mⱼmₖ| over pairs,
/// starting from mₖ = 1, the sum. The errors are those of the module's output over that of its update, not of the model's, so λ
/// means the same in every module. The result is exactly of rank Σ rₖ. Of the weights only the ratios count.
#[derive(Debug, Clone, PartialEq)]
pub struct Zip {
    /// The penalty's factor λ, 0.01 by default.
    pub lambda: f64,
    /// Steps of Adam, 200 by default; the best that was met is taken.
    pub steps: usize,
    /// The first step's learning rate, 0.05 by default; it falls evenly to 0.
    pub learning_rate: f64,
}

impl Default for Zip {
    fn default() -> Self {
        Self {
            lambda: 0.01,
            steps: 200,
            learning_rate: 0.05,
        }
    }
}

impl Method for Zip {
    fn merge(&self, parts: &Parts) -> Result<LowRank, Error> {
        not_negative(parts, "lambda", self.lambda)?;
        not_negative(parts, "learning_rate", self.learning_rate)?;
        let problem = Problem::new(parts, self.lambda)?;
        let mergers = problem.minimize(self.steps, self.learning_rate);
        let a = problem.merged(&mergers);
        Ok(LowRank::new(a, problem.updates.b().to_owned())?)
    }

    fn needs(&self) -> Needs {
        Needs::Inputs
    }
}

/// The objective of the mergers m, [adapters, in].
pub(super) struct Problem {
    /// All factors.
    updates: LowRank,
    /// Which adapter each of the Σ r rows of A is of.
    owner: Vec<usize>,
    /// BᵀB of all B.
    gram: Mat<f64>,
    /// Of each adapter: its inputs, scaled so that its error is Σ of squares.
    inputs: Vec<Mat<f64>>,
    lambda: f64,
}

impl Problem {
    pub(super) fn new(parts: &Parts, lambda: f64) -> Result<Self, Error> {
        let weights = importance(parts, "zip")?;
        let updates = stacked(parts)?;
        let gram = updates.b().transpose() * updates.b();
        let owner = parts.parts.iter().enumerate();
        let owner = owner.flat_map(|(k, part)| vec![k; part.update.rank()]);
        let scaled = parts.parts.iter().zip(weights).map(|(part, weight)| {
            let x = inputs(parts, part, "zip")?;
            let outputs = &x * part.update.a().transpose();
            let gram = part.update.b().transpose() * part.update.b();
            let energy = inner(&(&outputs * gram), &outputs);
            if energy.is_nan() || energy.is_infinite() {
                let reason = format!("the update of adapter {} is not finite", part.adapter);
                return Err(refused(parts, reason));
            }
            // An update without any output on its own inputs asks for nothing.
            let scale = if energy > 0.0 {
                (weight / energy).sqrt()
            } else {
                0.0
            };
            Ok(x * Scale(scale))
        });
        Ok(Self {
            owner: owner.collect(),
            gram,
            inputs: scaled.collect::<Result<_, Error>>()?,
            updates,
            lambda,
        })
    }

    /// The plain sum.
    pub(super) fn start(&self) -> Mat<f64> {
        Mat::from_fn(self.inputs.len(), self.updates.dims()[1], |_, _| 1.0)
    }

    /// A with its columns scaled by the mergers, of one adapter by what they are more than 1.
    fn scaled(&self, mergers: &Mat<f64>, without: Option<usize>) -> Mat<f64> {
        let a = self.updates.a();
        Mat::from_fn(a.nrows(), a.ncols(), |row, j| {
            let owner = self.owner[row];
            let target = f64::from(u8::from(without == Some(owner)));
            a[(row, j)] * (mergers[(owner, j)] - target)
        })
    }

    fn merged(&self, mergers: &Mat<f64>) -> Mat<f64> {
        self.scaled(mergers, None)
    }

    /// The objective and its gradient.
    pub(super) fn value(&self, mergers: &Mat<f64>) -> (f64, Mat<f64>) {
        let (adapters, input) = (mergers.nrows(), mergers.ncols());
        let mut gradient = Mat::zeros(adapters, input);
        let mut value = 0.0;
        for (k, x) in self.inputs.iter().enumerate() {
            // ‖X (τ − τₖ)ᵀ‖² = tr(Z BᵀB Zᵀ), and by row of the scaled A it is 2 BᵀB Zᵀ X.
            let z = x * self.scaled(mergers, Some(k)).transpose();
            let weighted = &z * &self.gram;
            value += inner(&weighted, &z);
            let by_a = weighted.transpose() * x;
            let a = self.updates.a();
            for (row, &owner) in self.owner.iter().enumerate() {
                for j in 0..input {
                    gradient[(owner, j)] += 2.0 * by_a[(row, j)] * a[(row, j)];
                }
            }
        }
        let share = self.lambda / input as f64;
        for j in 0..input {
            let all: f64 = (0..adapters).map(|k| mergers[(k, j)].abs()).sum();
            for k in 0..adapters {
                let m = mergers[(k, j)];
                let others = all - m.abs();
                value += share * m.abs() * others / 2.0;
                if m != 0.0 {
                    gradient[(k, j)] += share * m.signum() * others;
                }
            }
        }
        (value, gradient)
    }

    /// Adam (Kingma and Ba, arXiv 1412.6980), its β 0.9 and 0.999, from the plain sum.
    pub(super) fn minimize(&self, steps: usize, learning_rate: f64) -> Mat<f64> {
        let mut mergers = self.start();
        let (adapters, input) = (mergers.nrows(), mergers.ncols());
        let mut first: Mat<f64> = Mat::zeros(adapters, input);
        let mut second = first.clone();
        let mut best = (f64::INFINITY, mergers.clone());
        for step in 0..=steps {
            let (value, gradient) = self.value(&mergers);
            if value < best.0 {
                best = (value, mergers.clone());
            }
            let t = step as i32 + 1;
            let rate = learning_rate * (1.0 - step as f64 / steps.max(1) as f64);
            for at in (0..input).flat_map(|j| (0..adapters).map(move |k| (k, j))) {
                let g = gradient[at];
                first[at] += 0.1 * (g - first[at]);
                second[at] += 0.001 * (g * g - second[at]);
                let mean = first[at] / (1.0 - 0.9f64.powi(t));
                let size = (second[at] / (1.0 - 0.999f64.powi(t))).sqrt();
                if size > 0.0 {
                    mergers[at] -= rate * mean / size;
                }
            }
        }
        best.1
    }
}

fn inner(x: &Mat<f64>, y: &Mat<f64>) -> f64 {
    let columns = x.col_iter().zip(y.col_iter());
    columns.map(|(x, y)| x.transpose() * y).sum()
}
