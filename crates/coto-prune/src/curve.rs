use coto_coalition::Coalition;
use serde::{Deserialize, Serialize};

use crate::Error;

/// A metric against how many players are kept, in one order of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// The players, the one that is kept longest first.
    pub order: Vec<usize>,
    /// The metric with the first k of the order, for k from 0 to n.
    pub metrics: Vec<f64>,
}

impl Curve {
    /// The area under the metric against the share k / n that is kept, by the trapezoidal rule: the mean height of the curve.
    pub fn area(&self) -> f64 {
        let steps = self
            .metrics
            .windows(2)
            .map(|ends| (ends[0] + ends[1]) / 2.0);
        match self.order.len() {
            0 => self.metrics[0],
            n => steps.sum::<f64>() / n as f64,
        }
    }

    /// The coalition of the first `k` players.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn best(&self, k: usize) -> Coalition {
        Coalition::from_players(self.order.len(), self.order[..k].iter().copied())
    }
}

/// Backward elimination: from all players, round by round, the one goes whose absence leaves the highest metric (of equals the
/// last).
///
/// `evaluate` gives a metric, the higher the better, for each coalition of a batch; a round is one batch of all coalitions that lack
/// one player more. With the whole there are n (n + 1) / 2 + 1 evaluations, all of different coalitions; over `coto_shapley::Memo`
/// they are shared with other curves.
///
/// # Errors
/// Those of `evaluate`; [`Error::WrongCount`] and [`Error::NotFinite`] for what it returns.
pub fn greedy<E: From<Error>>(
    n: usize,
    mut evaluate: impl FnMut(&[Coalition]) -> Result<Vec<f64>, E>,
) -> Result<Curve, E> {
    let mut left = Coalition::grand(n);
    let mut metrics = ask(std::slice::from_ref(&left), &mut evaluate)?;
    let mut order = Vec::with_capacity(n);
    while !left.is_empty() {
        let players: Vec<usize> = left.iter().collect();
        let round: Vec<Coalition> = players.iter().map(|&player| left.without(player)).collect();
        let found = ask(&round, &mut evaluate)?;
        let best = (0..found.len()).max_by(|&a, &b| found[a].total_cmp(&found[b]));
        let best = best.expect("a round of at least one");
        left.remove(players[best]);
        order.push(players[best]);
        metrics.push(found[best]);
    }
    order.reverse();
    metrics.reverse();
    Ok(Curve { order, metrics })
}

/// The curve of an order, best player first: n + 1 evaluations in one batch.
///
/// # Errors
/// As [`greedy`].
///
/// # Panics
/// If the order is no permutation of 0..n.
pub fn curve<E: From<Error>>(
    order: &[usize],
    mut evaluate: impl FnMut(&[Coalition]) -> Result<Vec<f64>, E>,
) -> Result<Curve, E> {
    Ok(Curve {
        order: order.to_vec(),
        metrics: ask(&nested(order), &mut evaluate)?,
    })
}

/// The coalitions of the first k players of an order, for k from 0 to n.
///
/// # Panics
/// If the order is no permutation of 0..n.
pub fn nested(order: &[usize]) -> Vec<Coalition> {
    let mut grown = vec![Coalition::empty(order.len())];
    for &player in order {
        let last = &grown[grown.len() - 1];
        assert!(
            !last.contains(player),
            "player {player} is twice in the order"
        );
        grown.push(last.with(player));
    }
    grown
}

/// The players by their scores, the highest first; of equals the lower number.
pub fn ranking(scores: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    order
}

fn ask<E: From<Error>>(
    coalitions: &[Coalition],
    evaluate: &mut impl FnMut(&[Coalition]) -> Result<Vec<f64>, E>,
) -> Result<Vec<f64>, E> {
    let values = evaluate(coalitions)?;
    if values.len() != coalitions.len() {
        return Err(E::from(Error::WrongCount {
            asked: coalitions.len(),
            found: values.len(),
        }));
    }
    let wrong = coalitions
        .iter()
        .zip(&values)
        .find(|(_, value)| !value.is_finite());
    match wrong {
        Some((coalition, &value)) => Err(E::from(Error::NotFinite {
            what: format!("the metric of coalition {coalition}"),
            value,
        })),
        None => Ok(values),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    /// Players 0 and 1 are worth something only together; 2 is worth a little; 3 does harm.
    fn game(s: &Coalition) -> f64 {
        let pair = s.contains(0) && s.contains(1);
        let of = |on: bool, worth: f64| if on { worth } else { 0.0 };
        of(pair, 1.0) + of(s.contains(2), 0.1) - of(s.contains(3), 0.2)
    }

    #[test]
    fn elimination_drops_what_harms_first_and_keeps_a_pair_together() {
        let (mut batches, mut seen) = (0, HashSet::new());
        let found = greedy(4, |coalitions| {
            batches += 1;
            assert!(
                coalitions.iter().all(|s| seen.insert(s.clone())),
                "asked twice"
            );
            Ok::<_, Error>(coalitions.iter().map(game).collect())
        })
        .unwrap();
        assert_eq!((batches, seen.len()), (5, 4 * 5 / 2 + 1));
        assert_eq!(found.order[3], 3);
        assert_eq!(found.best(2).to_string(), "1100");
        let metrics = [0.0, 0.0, 1.0, 1.1, 0.9];
        assert!(
            found
                .metrics
                .iter()
                .zip(metrics)
                .all(|(a, b)| (a - b).abs() < 1e-12)
        );
        assert!((found.area() - (0.0 + 0.0 + 1.0 + 1.1 + 0.45) / 4.0).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn of_an_additive_game_elimination_finds_the_ranking(
            scores in proptest::collection::hash_set(-1000i32..1000, 0..12)
        ) {
            let scores: Vec<f64> = scores.into_iter().map(f64::from).collect();
            let mut values = |coalitions: &[Coalition]| {
                Ok::<_, Error>(coalitions.iter().map(|s| s.iter().map(|i| scores[i]).sum()).collect())
            };
            let found = greedy(scores.len(), &mut values).unwrap();
            prop_assert_eq!(&found.order, &ranking(&scores));
            prop_assert_eq!(&found, &curve(&found.order, values).unwrap());
        }
    }

    #[test]
    fn wrong_answers_of_an_evaluation_are_told() {
        let short = greedy(2, |_| Ok::<_, Error>(vec![])).unwrap_err();
        assert_eq!(
            short.to_string(),
            "the evaluation gave 0 values for 1 coalitions"
        );
        let nan = |s: &[Coalition]| Ok::<_, Error>(vec![f64::NAN; s.len()]);
        let error = curve(&[1, 0], nan).unwrap_err().to_string();
        assert_eq!(
            error,
            "the metric of coalition 00 is NaN; it must be finite"
        );
    }
}
