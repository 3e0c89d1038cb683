use coto_coalition::stream;
use coto_lowrank::faer::{Col, Mat, Side};
use rand_distr::{Distribution, StandardNormal};

use crate::Error;

/// How [`search`] goes about it. The defaults are LoraHub's, whose 40 evaluations are of few examples.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchOptions {
    /// How often the objective may be asked, 40 by default.
    pub evaluations: usize,
    /// Each weight is in [−bound, bound]; 1.5 by default.
    pub bound: f64,
    /// Factor of the mean |weight|, which is added to the objective; 0.05 by default.
    pub l1: f64,
    /// Where to start; all 0 by default.
    pub start: Option<Vec<f64>>,
    /// Seed of the draws.
    pub seed: u64,
}

impl Default for SearchOptions {
    fn default() -> Self {
        Self {
            evaluations: 40,
            bound: 1.5,
            l1: 0.05,
            start: None,
            seed: 0,
        }
    }
}

/// What a search found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The best weights that were asked.
    pub weights: Vec<f64>,
    /// The objective there, with the penalty.
    pub value: f64,
    /// The objective's value at the start, with the penalty.
    pub start: f64,
    /// How often the objective was asked.
    pub evaluations: usize,
}

/// The weights of a merge with the least objective, which may be anything and needs no gradient (LoraHub, Huang et al., arXiv
/// 2307.13269), by CMA-ES with its author's default parameters (Hansen, arXiv 1604.00772).
///
/// Weights beyond the bound are asked at the bound. A value that is not finite counts as the worst.
///
/// # Errors
/// The objective's own; [`Error::Refused`] for options that make no sense.
pub fn search<E: From<Error>>(
    weights: usize,
    mut objective: impl FnMut(&[f64]) -> Result<f64, E>,
    options: &SearchOptions,
) -> Result<Found, E> {
    options.check(weights)?;
    let bound = options.bound;
    let start = options.start.clone().unwrap_or_else(|| vec![0.0; weights]);
    let mut found = Found {
        weights: start.clone(),
        value: f64::INFINITY,
        start: f64::INFINITY,
        evaluations: 0,
    };
    let mut ask = |found: &mut Found, at: &[f64]| -> Result<f64, E> {
        let size = at.iter().map(|w| w.abs()).sum::<f64>() / weights as f64;
        let value = objective(at)? + options.l1 * size;
        let value = if value.is_finite() {
            value
        } else {
            f64::INFINITY
        };
        found.evaluations += 1;
        if value < found.value {
            (found.value, found.weights) = (value, at.to_vec());
        }
        Ok(value)
    };
    found.start = ask(&mut found, &start)?;
    let mut draws = stream(options.seed, "search");
    let mut state = State::new(&start, bound / 3.0);
    while found.evaluations < options.evaluations && state.sigma > 1e-12 * bound {
        let mut generation = Vec::with_capacity(state.population);
        let root = state.power(0.5);
        for _ in 0..state
            .population
            .min(options.evaluations - found.evaluations)
        {
            let z: Col<f64> = Col::from_fn(weights, |_| StandardNormal.sample(&mut draws));
            let drawn: Col<f64> = &root * z;
            let at: Vec<f64> = (0..weights)
                .map(|i| (state.mean[i] + state.sigma * drawn[i]).clamp(-bound, bound))
                .collect();
            let value = ask(&mut found, &at)?;
            let step = Col::from_fn(weights, |i| (at[i] - state.mean[i]) / state.sigma);
            generation.push((value, step));
        }
        if generation.len() < state.population {
            break;
        }
        generation.sort_by(|(x, _), (y, _)| x.total_cmp(y));
        state.learn(&generation);
    }
    Ok(found)
}

impl SearchOptions {
    fn check(&self, weights: usize) -> Result<(), Error> {
        let start = self.start.as_deref().unwrap_or_default();
        let outside = start
            .iter()
            .find(|w| !(-self.bound..=self.bound).contains(*w));
        let reason = if weights == 0 {
            return Err(Error::Empty);
        } else if self.evaluations == 0 {
            "evaluations 0: a search asks at least once".to_owned()
        } else if !(self.bound > 0.0 && self.bound.is_finite()) {
            format!("bound {}: it must be a finite number above 0", self.bound)
        } else if !(self.l1 >= 0.0 && self.l1.is_finite()) {
            format!("l1 {}: it must be a finite number of at least 0", self.l1)
        } else if self.start.is_some() && start.len() != weights {
            format!("start: {} weights, not {weights}", start.len())
        } else if let Some(outside) = outside {
            format!("start: weight {outside} is beyond the bound {}", self.bound)
        } else {
            return Ok(());
        };
        let module = String::new();
        Err(Error::Refused { module, reason })
    }
}

/// A normal distribution that learns: its mean, step size and covariance, and the paths of the two latter.
struct State {
    mean: Vec<f64>,
    sigma: f64,
    covariance: Mat<f64>,
    sigma_path: Col<f64>,
    path: Col<f64>,
    population: usize,
    /// Recombination weights of the better half, the best first.
    shares: Vec<f64>,
    generation: i32,
}

impl State {
    fn new(start: &[f64], sigma: f64) -> Self {
        let n = start.len();
        let population = 4 + (3.0 * (n as f64).ln()) as usize;
        let half = population / 2;
        let middle = (population as f64 + 1.0) / 2.0;
        let raw: Vec<f64> = (1..=half).map(|i| (middle / i as f64).ln()).collect();
        let sum: f64 = raw.iter().sum();
        Self {
            mean: start.to_vec(),
            sigma,
            covariance: Mat::identity(n, n),
            sigma_path: Col::zeros(n),
            path: Col::zeros(n),
            population,
            shares: raw.iter().map(|x| x / sum).collect(),
            generation: 0,
        }
    }

    /// A power of the covariance.
    fn power(&self, exponent: f64) -> Mat<f64> {
        let n = self.mean.len();
        let Ok(eigen) = self.covariance.self_adjoint_eigen(Side::Lower) else {
            return Mat::identity(n, n);
        };
        let (u, s) = (eigen.U(), eigen.S().column_vector());
        let scaled = Mat::from_fn(n, n, |i, k| u[(i, k)] * s[k].max(1e-20).powf(exponent));
        scaled * u.transpose()
    }

    /// Hansen's equations 38 to 47, without active weights.
    fn learn(&mut self, generation: &[(f64, Col<f64>)]) {
        let n = self.mean.len() as f64;
        let effective = 1.0 / self.shares.iter().map(|w| w * w).sum::<f64>();
        let c_sigma = (effective + 2.0) / (n + effective + 5.0);
        let damping = 1.0 + c_sigma + 2.0 * (((effective - 1.0) / (n + 1.0)).sqrt() - 1.0).max(0.0);
        let c_path = (4.0 + effective / n) / (n + 4.0 + 2.0 * effective / n);
        let c_one = 2.0 / ((n + 1.3).powi(2) + effective);
        let c_mu = 2.0 * (effective - 2.0 + 1.0 / effective) / ((n + 2.0).powi(2) + effective);
        let c_mu = c_mu.min(1.0 - c_one);
        let usual = n.sqrt() * (1.0 - 1.0 / (4.0 * n) + 1.0 / (21.0 * n * n));

        let better = || {
            self.shares
                .iter()
                .zip(generation.iter().map(|(_, step)| step))
        };
        let step: Col<f64> = Col::from_fn(self.mean.len(), |i| {
            better().map(|(w, step)| w * step[i]).sum::<f64>()
        });
        let white: Col<f64> = self.power(-0.5) * &step;
        let gain = (c_sigma * (2.0 - c_sigma) * effective).sqrt();
        let sigma_path = Col::from_fn(self.mean.len(), |i| {
            (1.0 - c_sigma) * self.sigma_path[i] + gain * white[i]
        });
        self.generation += 1;
        let length = sigma_path.norm_l2();
        let warmed = (1.0 - (1.0 - c_sigma).powi(2 * self.generation)).sqrt();
        let steady = length / warmed < (1.4 + 2.0 / (n + 1.0)) * usual;
        let gain = (c_path * (2.0 - c_path) * effective).sqrt() * f64::from(u8::from(steady));
        let path = Col::from_fn(self.mean.len(), |i| {
            (1.0 - c_path) * self.path[i] + gain * step[i]
        });
        let missed = if steady {
            0.0
        } else {
            c_one * c_path * (2.0 - c_path)
        };
        let keep = 1.0 - c_one - c_mu + missed;
        self.covariance = Mat::from_fn(self.mean.len(), self.mean.len(), |i, j| {
            let spread: f64 = better().map(|(w, step)| w * step[i] * step[j]).sum();
            keep * self.covariance[(i, j)] + c_one * path[i] * path[j] + c_mu * spread
        });
        for (mean, step) in self.mean.iter_mut().zip(step.iter()) {
            *mean += self.sigma * step;
        }
        self.sigma *= (c_sigma / damping * (length / usual - 1.0)).min(1.0).exp();
        (self.sigma_path, self.path) = (sigma_path, path);
    }
}
