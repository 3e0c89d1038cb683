//! Estimators that average marginal contributions v(S∪i) − v(S).

use coto_coalition::{Coalition, stream, stream_at};
use rand::{Rng, RngExt};

use crate::estimate::Raw;
use crate::plan::{EMPTY, GRAND, Plan, permutation, prefixes};
use crate::{Error, Game, Memo, spread};

/// Permutation sampling (Castro, Gómez and Tejada, 2009): the marginals along random orders; with `antithetic`, along each order
/// and its reverse (Mitchell et al., 2022), whose mean is exact where no more than two players interact.
pub(crate) fn permutations<G: Game>(
    memo: &mut Memo<G>,
    budget: usize,
    seed: u64,
    antithetic: bool,
) -> Result<Raw, Error<G::Error>> {
    let n = memo.players();
    let orders = |unit: usize| {
        let order = permutation(n, &mut stream_at(seed, "permutation", unit as u64));
        let reverse = order.iter().rev().copied().collect();
        if antithetic {
            vec![order, reverse]
        } else {
            vec![order]
        }
    };
    let mut plan = Plan::new(n, budget);
    let units = plan.fill(|unit| {
        orders(unit)
            .iter()
            .flat_map(|order| prefixes(order))
            .collect()
    });
    let values = memo.values(&plan.coalitions)?;
    let marginals = |(unit, places): (usize, &Vec<usize>)| {
        let (orders, mut phi) = (orders(unit), vec![0.0; n]);
        for (order, inner) in orders.iter().zip(places.chunks(n - 1)) {
            let chain = [&[EMPTY][..], inner, &[GRAND]].concat();
            for (step, &player) in chain.windows(2).zip(order) {
                phi[player] += (values[step[1]] - values[step[0]]) / orders.len() as f64;
            }
        }
        phi
    };
    let units: Vec<Vec<f64>> = units.iter().enumerate().map(marginals).collect();
    Ok(Raw::of_units(n, &units, plan.coalitions.len(), &values))
}

/// Truncated Monte Carlo (Ghorbani and Zou, 2019): permutation sampling that stops along an order once what is left to gain,
/// |v(N) − v(prefix)|, is at most `tolerance`·|v(N) − v(∅)|. The next player gets the remainder, so that the values stay efficient.
pub(crate) fn truncated<G: Game>(
    memo: &mut Memo<G>,
    budget: usize,
    seed: u64,
    tolerance: f64,
) -> Result<Raw, Error<G::Error>> {
    /// Orders that advance together, so that the game sees batches.
    const TOGETHER: usize = 8;
    let n = memo.players();
    let mut plan = Plan::new(n, budget);
    let ends = memo.values(&plan.coalitions)?;
    let (start, grand) = (ends[EMPTY], ends[GRAND]);
    let close = tolerance * (grand - start).abs();
    let mut units: Vec<Vec<f64>> = Vec::new();
    'groups: while units.len() < 8 * budget {
        let order = |unit: usize| permutation(n, &mut stream_at(seed, "truncated", unit as u64));
        let orders: Vec<Vec<usize>> = (units.len()..units.len() + TOGETHER).map(order).collect();
        let mut phi = vec![vec![0.0; n]; TOGETHER];
        let mut reached = vec![(Coalition::empty(n), start); TOGETHER];
        for step in 0..n {
            let open: Vec<usize> = (0..TOGETHER)
                .filter(|&k| !reached[k].0.is_grand())
                .collect();
            let last = |k: usize| step == n - 1 || (grand - reached[k].1).abs() <= close;
            let next = |&k: &usize| match last(k) {
                true => Coalition::grand(n),
                false => reached[k].0.with(orders[k][step]),
            };
            let sets: Vec<Coalition> = open.iter().map(next).collect();
            if plan.add(sets.clone()).is_none() {
                break 'groups;
            }
            for ((k, set), value) in open.into_iter().zip(sets.clone()).zip(memo.values(&sets)?) {
                phi[k][orders[k][step]] = value - reached[k].1;
                reached[k] = (set, value);
            }
        }
        units.append(&mut phi);
    }
    let values = memo.values(&plan.coalitions)?;
    Ok(Raw::of_units(n, &units, plan.coalitions.len(), &values))
}

/// Place `index` of a sequence that fills [0, 1) evenly from its first members on (van der Corput, shifted digitally by a random
/// number): each place is uniform, and any 2ᵏ in a row take one of each 2⁻ᵏ-wide stratum.
fn even(index: usize, shift: u64) -> f64 {
    (((index as u64).reverse_bits() ^ shift) >> 11) as f64 / (1_u64 << 53) as f64
}

/// The multilinear extension (Owen, 1972; Okhrati and Lipani, 2020): φᵢ = ∫₀¹ E[v(S∪i) − v(S∖i)] dq, where S holds every player
/// with probability q. One S serves all players, each flipped in turn. `halved` uses S's complement at 1 − q too.
///
/// The places q are evenly spread and jittered, so that no end of the integral is favoured.
pub(crate) fn owen<G: Game>(
    memo: &mut Memo<G>,
    budget: usize,
    seed: u64,
    halved: bool,
) -> Result<Raw, Error<G::Error>> {
    let n = memo.players();
    let shift = stream(seed, "owen").next_u64();
    let level = |unit: usize| even(unit, shift);
    let sets = |unit: usize| {
        let (q, mut draws) = (level(unit), stream_at(seed, "owen", unit as u64));
        let set = Coalition::from_players(n, (0..n).filter(|_| draws.random_bool(q)));
        if halved {
            vec![set.complement(), set]
        } else {
            vec![set]
        }
    };
    let flipped = |set: &Coalition, i| {
        if set.contains(i) {
            set.without(i)
        } else {
            set.with(i)
        }
    };
    let flips = |set: Coalition| {
        (0..n)
            .map(|i| flipped(&set, i))
            .chain([set.clone()])
            .collect::<Vec<_>>()
    };
    let mut plan = Plan::new(n, budget);
    let units = plan.fill(|unit| sets(unit).into_iter().flat_map(flips).collect());
    let values = memo.values(&plan.coalitions)?;
    let marginal = |places: &[usize], i: usize| {
        let (set, other) = (places[n], places[i]);
        let gain = values[other] - values[set];
        if plan.coalitions[set].contains(i) {
            -gain
        } else {
            gain
        }
    };
    let samples = |i: usize| {
        let of = |(unit, places): (usize, &Vec<usize>)| {
            let parts = places.chunks(n + 1);
            let count = parts.len() as f64;
            (
                level(unit),
                parts.map(|part| marginal(part, i)).sum::<f64>() / count,
            )
        };
        units.iter().enumerate().map(of).collect()
    };
    Ok(Raw::along(
        (0..n).map(samples).collect(),
        plan.coalitions.len(),
        &values,
    ))
}

/// Stratified sampling (Maleki et al., 2013): each player's marginals at sizes that are evenly spread over 0, …, n − 1.
pub(crate) fn stratified<G: Game>(
    memo: &mut Memo<G>,
    budget: usize,
    seed: u64,
) -> Result<Raw, Error<G::Error>> {
    let n = memo.players();
    let shifts: Vec<u64> = (0..n)
        .map(|i| stream_at(seed, "strata", i as u64).next_u64())
        .collect();
    // Round after round, each player in turn.
    let level = |unit: usize| even(unit / n, shifts[unit % n]);
    let pair = |unit: usize| {
        let (player, size) = (unit % n, (level(unit) * n as f64) as usize);
        let order = permutation(n, &mut stream_at(seed, "stratified", unit as u64));
        let others = order
            .into_iter()
            .filter(|&other| other != player)
            .take(size);
        let set = Coalition::from_players(n, others);
        vec![set.with(player), set]
    };
    let mut plan = Plan::new(n, budget);
    let units = plan.fill(pair);
    let values = memo.values(&plan.coalitions)?;
    let mut samples = vec![Vec::new(); n];
    for (unit, places) in units.iter().enumerate() {
        samples[unit % n].push((level(unit), values[places[0]] - values[places[1]]));
    }
    Ok(Raw::along(samples, plan.coalitions.len(), &values))
}

impl Raw {
    /// Of independent estimates of all players' values.
    fn of_units(n: usize, units: &[Vec<f64>], evaluations: usize, values: &[f64]) -> Self {
        let (means, errors) = spread::mean(n, units);
        Self::new(
            means,
            errors,
            units.len() as f64 - 1.0,
            evaluations,
            values[GRAND] - values[EMPTY],
        )
    }

    /// Of samples of each player's marginals, evenly spread along an axis.
    fn along(mut samples: Vec<Vec<(f64, f64)>>, evaluations: usize, values: &[f64]) -> Self {
        let freedom = samples.iter().map(Vec::len).min().unwrap_or(0) as f64 - 1.0;
        let (means, errors) = samples.iter_mut().map(|own| spread::along(own)).unzip();
        Self::new(
            means,
            errors,
            freedom / 1.5,
            evaluations,
            values[GRAND] - values[EMPTY],
        )
    }
}
