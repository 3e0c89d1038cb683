//! The design of LeverageSHAP: complementary pairs, all sizes alike, none twice.

use coto_coalition::{Coalition, Stream, stream_at};

use crate::plan::{Blocks, Plan};

/// Pairs {S, N∖S} drawn without replacement, evenly over the sizes |S| = 1, …, ⌊n/2⌋ (the leverage of a coalition is
/// 1/C(n, |S|): Musco and Witter, 2025). A size whose pairs are all drawn passes its turns on.
pub(crate) struct Pairs {
    /// Rows of each pair, S then N∖S, as places in the plan.
    pub(crate) units: Vec<[usize; 2]>,
    /// |S| of each pair.
    pub(crate) sizes: Vec<usize>,
}

/// How many pairs there are of sets of `size` and n − `size` of `n` players.
pub(crate) fn population(n: usize, size: usize) -> f64 {
    let sets = (0..size).fold(1.0, |product, k| product * (n - k) as f64 / (k + 1) as f64);
    if 2 * size == n { sets / 2.0 } else { sets }.round()
}

impl Pairs {
    /// As many pairs as the plan's budget has room for. A larger budget draws the same pairs first.
    pub(crate) fn draw(n: usize, plan: &mut Plan, seed: u64) -> Self {
        let half = n / 2;
        let mut open: Vec<usize> = (1..=half).collect();
        let mut streams: Vec<Stream> = (0..=half)
            .map(|size| stream_at(seed, "pairs", size as u64))
            .collect();
        let mut blocks: Vec<Blocks> = (0..=half).map(|size| Blocks::new(n, size)).collect();
        let mut drawn = vec![0.0_f64; half + 1];
        let mut pairs = Self {
            units: Vec::new(),
            sizes: Vec::new(),
        };
        // Of n sizes, n/2 is met once where the others are met twice, as s and as n − s.
        let share = |size: usize| if 2 * size == n { 2.0 } else { 1.0 };
        while plan.left() >= 2 && !open.is_empty() {
            // The open size that has had the fewest turns; of equal ones the smallest.
            let turn =
                |&a: &usize, &b: &usize| (drawn[a] * share(a)).total_cmp(&(drawn[b] * share(b)));
            let Some(size) = open.iter().copied().min_by(turn) else {
                break;
            };
            let set = loop {
                let set = blocks[size].draw(&mut streams[size]);
                if !plan.holds(&set) {
                    break set;
                }
            };
            let Some(places) = plan.add(vec![set.clone(), set.complement()]) else {
                break;
            };
            pairs.units.push([places[0], places[1]]);
            pairs.sizes.push(size);
            drawn[size] += 1.0;
            if drawn[size] >= population(n, size) {
                open.retain(|&other| other != size);
            }
        }
        pairs
    }

    /// The weight of each pair's rows in the fit: the Shapley kernel over the chance of being drawn.
    pub(crate) fn weights(&self, n: usize) -> Vec<f64> {
        let drawn = |size: usize| self.sizes.iter().filter(|&&other| other == size).count() as f64;
        let share = |size: usize| if 2 * size == n { 0.5 } else { 1.0 };
        let by_size: Vec<f64> = (0..=n / 2)
            .map(|size| share(size) / ((size * (n - size)) as f64 * drawn(size)))
            .collect();
        self.sizes.iter().map(|&size| by_size[size]).collect()
    }

    /// The pairs of each size that was drawn.
    pub(crate) fn strata(&self, n: usize) -> Vec<(Vec<usize>, f64)> {
        let members = |size: usize| {
            (0..self.sizes.len())
                .filter(|&pair| self.sizes[pair] == size)
                .collect::<Vec<_>>()
        };
        let strata = (1..=n / 2).map(|size| (members(size), population(n, size)));
        strata.filter(|(members, _)| !members.is_empty()).collect()
    }

    /// The coalition that each pair's first row stands for.
    pub(crate) fn first<'a>(&self, plan: &'a Plan) -> Vec<&'a Coalition> {
        self.units
            .iter()
            .map(|unit| &plan.coalitions[unit[0]])
            .collect()
    }
}
