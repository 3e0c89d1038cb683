//! KernelSHAP, unbiased KernelSHAP and LeverageSHAP.

use coto_coalition::{Coalition, Stream, stream};
use rand::RngExt;

use crate::estimate::Raw;
use crate::plan::{Blocks, EMPTY, GRAND, Plan};
use crate::regression::{Fit, variance};
use crate::{Error, Game, Memo};

/// Draws coalitions as the Shapley kernel weighs them: sizes s by 1/(s(n−s)), sets of a size alike.
fn kernel_draws(n: usize, seed: u64, paired: bool) -> impl FnMut(usize) -> Vec<Coalition> {
    let mut weights: Vec<f64> = (1..n).map(|s| 1.0 / (s * (n - s)) as f64).collect();
    for s in 1..weights.len() {
        weights[s] += weights[s - 1];
    }
    let mut draws: Stream = stream(seed, if paired { "kernel pairs" } else { "kernel" });
    move |_| {
        let at = draws.random::<f64>() * weights.last().copied().unwrap_or(0.0);
        let size = 1 + weights.partition_point(|&sum| sum <= at).min(n - 2);
        let set = Blocks::new(n, size).draw(&mut draws);
        if paired {
            vec![set.complement(), set]
        } else {
            vec![set]
        }
    }
}

/// KernelSHAP (Lundberg and Lee, 2017; Covert and Lee, 2021, for pairs): sampled with replacement, so that all weigh the same.
pub(crate) fn kernel<G: Game>(
    memo: &mut Memo<G>,
    budget: usize,
    seed: u64,
    paired: bool,
) -> Result<Raw, Error<G::Error>> {
    let n = memo.players();
    let mut plan = Plan::new(n, budget);
    let units = plan.fill(kernel_draws(n, seed, paired));
    let values = memo.values(&plan.coalitions)?;
    let total = values[GRAND] - values[EMPTY];
    // A unit drawn k times is one row of weight k. So is a pair, of weight 2k: its second row would be the first with its sign turned.
    let mut times = vec![0.0; plan.coalitions.len()];
    let mut distinct: Vec<&[usize]> = Vec::new();
    for unit in &units {
        let first = unit.iter().copied().min().unwrap_or(EMPTY);
        if times[first] == 0.0 {
            distinct.push(unit);
        }
        times[first] += 1.0;
    }
    let row = |unit: &&[usize]| {
        let weight = times[unit[0]] * unit.len() as f64;
        (&plan.coalitions[unit[0]], weight, vec![])
    };
    let gain = |place: usize| values[place] - values[EMPTY];
    let target = |unit: &&[usize]| match **unit {
        [set, complement] => (gain(set) + total - gain(complement)) / 2.0,
        _ => gain(unit[0]),
    };
    let fit = Fit::new(n, &distinct.iter().map(row).collect::<Vec<_>>());
    let (phi, left) = fit.solve(&distinct.iter().map(target).collect::<Vec<_>>(), total);
    // With repetitions counted: a unit drawn k times has k times the influence but k units' share of the variance.
    let influence = |(row, unit): (usize, &&[usize])| {
        let mut psi = fit.influence(row, &left);
        psi.iter_mut().for_each(|psi| *psi /= times[unit[0]].sqrt());
        psi
    };
    let influences: Vec<_> = distinct.iter().enumerate().map(influence).collect();
    let errors = variance(n, &[(influences, f64::INFINITY)])
        .into_iter()
        .map(f64::sqrt)
        .collect();
    let freedom = distinct.len() as f64 - n as f64;
    Ok(Raw::new(phi, errors, freedom, plan.coalitions.len(), total))
}

/// Unbiased KernelSHAP (Covert and Lee, 2021, section 3.2): the normal matrix of the fit is known, only its right-hand side is sampled.
pub(crate) fn unbiased<G: Game>(
    memo: &mut Memo<G>,
    budget: usize,
    seed: u64,
) -> Result<Raw, Error<G::Error>> {
    let n = memo.players();
    let mut plan = Plan::new(n, budget);
    let units = plan.fill(kernel_draws(n, seed, false));
    let values = memo.values(&plan.coalitions)?;
    let total = values[GRAND] - values[EMPTY];
    // A: ½ on the diagonal, the chance that two players are drawn together off it.
    let both: f64 = (2..n).map(|k| (k - 1) as f64 / (n - k) as f64).sum();
    let all: f64 = (1..n).map(|k| 1.0 / (k * (n - k)) as f64).sum();
    let together = both / ((n * (n - 1)) as f64 * all);
    // A is (½ − together)·I + together·11ᵀ; centred right-hand sides see only the first part.
    let estimate = |unit: &Vec<usize>| {
        let (set, value) = (&plan.coalitions[unit[0]], values[unit[0]] - values[EMPTY]);
        let mean = value * set.len() as f64 / n as f64;
        let gap = 0.5 - together;
        let of =
            |i: usize| (if set.contains(i) { value } else { 0.0 } - mean) / gap + total / n as f64;
        (0..n).map(of).collect()
    };
    let estimates: Vec<Vec<f64>> = units.iter().map(estimate).collect();
    let (phi, errors) = crate::spread::mean(n, &estimates);
    Ok(Raw::new(
        phi,
        errors,
        units.len() as f64 - 1.0,
        plan.coalitions.len(),
        total,
    ))
}
