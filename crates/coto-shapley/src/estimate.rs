use serde::{Deserialize, Serialize};

/// What is known of each player's value, and how well.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Estimate {
    /// The method's name, such as `exact` or `permutation`.
    pub method: String,
    /// The seed that its draws came from; 0 for exact values.
    pub seed: u64,
    /// Whether the values are exact up to rounding.
    pub exact: bool,
    /// Distinct coalitions evaluated, the empty and the grand one among them.
    pub evaluations: usize,
    /// v(N) − v(∅) − Σφ before the values were made efficient; 0 where the method makes it so by construction.
    pub efficiency_residual: f64,
    /// A value per player.
    pub values: Vec<f64>,
    /// The standard error of each value; 0 if exact.
    pub standard_errors: Vec<f64>,
    /// A 95 % confidence interval per player, as (low, high).
    pub intervals: Vec<(f64, f64)>,
}

impl Estimate {
    /// Values that are known exactly.
    pub(crate) fn exactly(
        method: &str,
        evaluations: usize,
        residual: f64,
        values: Vec<f64>,
    ) -> Self {
        Self {
            method: method.into(),
            seed: 0,
            exact: true,
            evaluations,
            efficiency_residual: residual,
            standard_errors: vec![0.0; values.len()],
            intervals: values.iter().map(|&value| (value, value)).collect(),
            values,
        }
    }

    /// The `k` players of the greatest values, the greatest first; all of them if there are fewer.
    pub fn top(&self, k: usize) -> Vec<usize> {
        let mut players: Vec<usize> = (0..self.values.len()).collect();
        players.sort_by(|&a, &b| self.values[b].total_cmp(&self.values[a]));
        players.truncate(k);
        players
    }
}

/// What an estimator found, before the last touches.
pub(crate) struct Raw {
    pub(crate) values: Vec<f64>,
    pub(crate) errors: Vec<f64>,
    /// Degrees of freedom of the standard errors.
    pub(crate) freedom: f64,
    pub(crate) evaluations: usize,
    /// v(N) − v(∅).
    pub(crate) total: f64,
}

impl Raw {
    pub(crate) fn new(
        values: Vec<f64>,
        errors: Vec<f64>,
        freedom: f64,
        evaluations: usize,
        total: f64,
    ) -> Self {
        Self {
            values,
            errors,
            freedom,
            evaluations,
            total,
        }
    }

    /// Spreads what is missing from v(N) − v(∅) evenly over the players, and draws the intervals.
    pub(crate) fn finish(mut self, method: &str, seed: u64) -> Estimate {
        let residual = self.total - self.values.iter().sum::<f64>();
        let share = residual / self.values.len() as f64;
        self.values.iter_mut().for_each(|value| *value += share);
        Estimate::with_errors(
            method,
            seed,
            self.evaluations,
            residual,
            self.values,
            self.errors,
            self.freedom,
        )
    }
}

impl Estimate {
    /// Values with standard errors of so many degrees of freedom.
    pub(crate) fn with_errors(
        method: &str,
        seed: u64,
        evaluations: usize,
        efficiency_residual: f64,
        values: Vec<f64>,
        standard_errors: Vec<f64>,
        freedom: f64,
    ) -> Self {
        let reach = crate::spread::quantile(freedom);
        let interval =
            |(value, error): (&f64, &f64)| (value - reach * error, value + reach * error);
        Self {
            method: method.into(),
            seed,
            exact: false,
            evaluations,
            efficiency_residual,
            intervals: values.iter().zip(&standard_errors).map(interval).collect(),
            values,
            standard_errors,
        }
    }
}
