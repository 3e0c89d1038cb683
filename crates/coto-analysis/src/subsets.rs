use std::collections::BTreeSet;

use coto_coalition::{Coalition, stream_at};
use rand::seq::index;

/// Coalitions of one size.
#[derive(Debug, Clone, PartialEq)]
pub struct OfSize {
    /// How many players are on.
    pub active: usize,
    /// Distinct coalitions, in order.
    pub coalitions: Vec<Coalition>,
    /// Whether these are all that there are.
    pub all: bool,
}

/// Coalitions of each size from nobody to everybody: all where they are at most `most`, else that many, drawn without replacement
/// from the seed's stream `subsets`.
pub fn subsets(players: usize, most: usize, seed: u64) -> Vec<OfSize> {
    (0..=players)
        .map(|active| {
            let all = choose(players, active) <= most as f64;
            let coalitions = match all {
                true => every(players, active),
                false => drawn(players, active, most, seed),
            };
            OfSize {
                active,
                coalitions,
                all,
            }
        })
        .collect()
}

/// C(n, k).
pub(crate) fn choose(n: usize, k: usize) -> f64 {
    (0..k.min(n - k)).fold(1.0, |c, i| (c * (n - i) as f64 / (i + 1) as f64).round())
}

fn every(players: usize, active: usize) -> Vec<Coalition> {
    // Each one from the last: its highest movable player moves up, and those above it follow closely.
    let mut on: Vec<usize> = (0..active).collect();
    let mut found = vec![Coalition::from_players(players, on.iter().copied())];
    while let Some(at) = (0..active).rev().find(|&i| on[i] < players - active + i) {
        on[at] += 1;
        for i in at + 1..active {
            on[i] = on[i - 1] + 1;
        }
        found.push(Coalition::from_players(players, on.iter().copied()));
    }
    found.sort();
    found
}

fn drawn(players: usize, active: usize, count: usize, seed: u64) -> Vec<Coalition> {
    let mut draws = stream_at(seed, "subsets", active as u64);
    let mut found = BTreeSet::new();
    while found.len() < count {
        let on = index::sample(&mut draws, players, active);
        found.insert(Coalition::from_players(players, on));
    }
    found.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_sizes_are_whole_and_large_ones_are_sampled() {
        let sizes = subsets(7, 21, 1);
        let counts: Vec<usize> = sizes.iter().map(|size| size.coalitions.len()).collect();
        assert_eq!(counts, [1, 7, 21, 21, 21, 21, 7, 1]);
        let all: Vec<bool> = sizes.iter().map(|size| size.all).collect();
        assert_eq!(all, [true, true, true, false, false, true, true, true]);
        for size in &sizes {
            assert!(
                size.coalitions
                    .iter()
                    .all(|on| on.len() == size.active && on.players() == 7)
            );
            let distinct: BTreeSet<_> = size.coalitions.iter().collect();
            assert_eq!(distinct.len(), size.coalitions.len());
        }
        assert_eq!(subsets(7, 21, 1), sizes);
        assert_ne!(subsets(7, 21, 2), sizes);
    }

    #[test]
    fn binomials_are_exact() {
        assert_eq!(
            (choose(12, 6), choose(5, 0), choose(5, 5), choose(60, 3)),
            (924.0, 1.0, 1.0, 34220.0)
        );
    }
}
