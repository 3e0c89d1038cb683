//! Estimators in which each evaluation serves all players, or all pairs of players: SVARM (Kolpaczki et al., 2024) for Shapley
//! values, and its extension to interactions, SVARM-IQ, both stratified by size.

use coto_coalition::{Coalition, Stream, stream_at};

use crate::estimate::Raw;
use crate::plan::{Blocks, EMPTY, GRAND, Plan};
use crate::{Error, Game, Memo};

/// Coalitions of all sizes with their values: those of up to `border` players, or all but that many, completely.
pub(crate) struct Sized {
    n: usize,
    border: usize,
    pub(crate) total: f64,
    pub(crate) evaluations: usize,
    by_size: Vec<Vec<(Coalition, f64)>>,
}

/// The sets of one size.
fn subsets(n: usize, size: usize) -> Vec<Coalition> {
    let mut sets = vec![(Coalition::empty(n), 0)];
    for _ in 0..size {
        let grown = |(set, from): &(Coalition, usize)| {
            (*from..n).map(|i| (set.with(i), i + 1)).collect::<Vec<_>>()
        };
        sets = sets.iter().flat_map(grown).collect();
    }
    sets.into_iter().map(|(set, _)| set).collect()
}

/// The evaluations that the borders need, the empty and the grand coalition included.
pub(crate) fn border_cost(n: usize, border: usize) -> usize {
    let pairs = if border > 1 {
        n * n.saturating_sub(1)
    } else {
        0
    };
    2 + 2 * n + pairs
}

impl Sized {
    pub(crate) fn draw<G: Game>(
        memo: &mut Memo<G>,
        budget: usize,
        seed: u64,
        border: usize,
    ) -> Result<Self, Error<G::Error>> {
        let n = memo.players();
        let mut plan = Plan::new(n, budget);
        for size in 1..=border.min(n - 1) {
            let sets = subsets(n, size);
            let complements = sets.iter().map(Coalition::complement).collect();
            plan.add(sets);
            plan.add(complements);
        }
        let complete = plan.coalitions.len();
        let inner: Vec<usize> = (border + 1..n.saturating_sub(border)).collect();
        let mut blocks: Vec<(Blocks, Stream)> = inner
            .iter()
            .map(|&size| (Blocks::new(n, size), stream_at(seed, "sizes", size as u64)))
            .collect();
        // Sizes take turns, a step apart that has no divisor in common with their number, so that early turns are spread out.
        let count = inner.len();
        let step = (count * 5 / 8..)
            .find(|&step| step > 0 && gcd(step, count) == 1)
            .unwrap_or(1);
        let mut places: Vec<usize> = (0..complete).collect();
        if count > 0 {
            let units = plan.fill(|unit| {
                let (blocks, stream) = &mut blocks[unit * step % count];
                vec![blocks.draw(stream)]
            });
            places.extend(units.into_iter().flatten());
        }
        let values = memo.values(&plan.coalitions)?;
        let mut by_size = vec![Vec::new(); n + 1];
        for place in places {
            let set = plan.coalitions[place].clone();
            by_size[set.len()].push((set, values[place]));
        }
        Ok(Self {
            n,
            border,
            total: values[GRAND] - values[EMPTY],
            evaluations: plan.coalitions.len(),
            by_size,
        })
    }

    /// The mean value of the sets of `size` that `belongs` picks, and the variance of that mean. Where none was drawn, the mean of
    /// the whole size, or of the nearest size with any, stands in.
    fn stratum(&self, size: usize, belongs: impl Fn(&Coalition) -> bool) -> (f64, f64) {
        let moments = |values: &[f64]| {
            let count = values.len() as f64;
            let mean = values.iter().sum::<f64>() / count;
            (
                mean,
                values
                    .iter()
                    .map(|value| (value - mean).powi(2))
                    .sum::<f64>()
                    / (count - 1.0).max(1.0),
            )
        };
        let all = |size: usize| {
            self.by_size[size]
                .iter()
                .map(|(_, value)| *value)
                .collect::<Vec<f64>>()
        };
        let own: Vec<f64> = self.by_size[size]
            .iter()
            .filter(|(set, _)| belongs(set))
            .map(|(_, value)| *value)
            .collect();
        if size <= self.border || size + self.border >= self.n {
            return (moments(&own).0, 0.0);
        }
        match own.len() {
            0 => {
                let near = (0..=self.n).filter(|&other| !self.by_size[other].is_empty());
                moments(&all(near
                    .min_by_key(|other| other.abs_diff(size))
                    .unwrap_or(0)))
            }
            // The spread of few values is told better by the whole size.
            1..4 => (moments(&own).0, moments(&all(size)).1 / own.len() as f64),
            count => (moments(&own).0, moments(&own).1 / count as f64),
        }
    }

    /// φᵢ = 1/n Σₛ (mean of v over sets of s + 1 with i − mean of v over sets of s without i).
    pub(crate) fn shapley(&self) -> Raw {
        let n = self.n;
        let value = |i: usize| {
            let strata = (0..n).flat_map(|s| [(s + 1, true), (s, false)]);
            let (mut sum, mut spread) = (0.0, 0.0);
            for (size, with) in strata {
                let (mean, variance) = self.stratum(size, |set| set.contains(i) == with);
                sum += if with { mean } else { -mean };
                spread += variance;
            }
            (sum / n as f64, spread.sqrt() / n as f64)
        };
        let (values, errors) = (0..n).map(value).unzip();
        let freedom = (self.evaluations as f64 - border_cost(n, 1) as f64) / n as f64;
        Raw::new(
            values,
            errors,
            freedom.max(2.0),
            self.evaluations,
            self.total,
        )
    }

    /// Iᵢⱼ = 1/(n−1) Σₛ (mean over sets of s + 2 with both − over sets of s + 1 with i only − with j only + over sets of s with none).
    pub(crate) fn interaction(&self, i: usize, j: usize) -> (f64, f64) {
        let (mut sum, mut spread) = (0.0, 0.0);
        for s in 0..self.n - 1 {
            for (first, second) in [(true, true), (true, false), (false, true), (false, false)] {
                let size = s + usize::from(first) + usize::from(second);
                let belongs =
                    |set: &Coalition| set.contains(i) == first && set.contains(j) == second;
                let (mean, variance) = self.stratum(size, belongs);
                sum += if first == second { mean } else { -mean };
                spread += variance;
            }
        }
        let slots = (self.n - 1) as f64;
        (sum / slots, spread.sqrt() / slots)
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
