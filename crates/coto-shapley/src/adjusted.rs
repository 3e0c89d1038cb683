//! Regression on complementary pairs, adjusted by the surrogate that leaves the least to sample: LeverageSHAP (Musco and Witter,
//! 2025), its forms with further features, and regression-adjusted estimates (Witter et al., 2025).

use crate::estimate::Raw;
use crate::index::{Index, Row};
use crate::odd::Odd;
use crate::pairs::Pairs;
use crate::plan::{EMPTY, GRAND, Plan};
use crate::regression::{Fit, variance};
use crate::{Error, Game, Memo};

/// What a pair regression may use.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Features {
    /// Additive games only: LeverageSHAP.
    Additive,
    /// Also odd functions of the size: LeverageSHAP, size-centred.
    Sizes,
    /// Whatever of these and of the surrogates promises the smallest standard errors.
    Best,
}

/// More pairs than this are too many for a process, whose cost grows with their cube.
const MOST_PAIRS: usize = 1250;
/// A process is chosen by so many pairs.
const TRIAL_PAIRS: usize = 400;
/// Shares of triples in the processes that are tried.
const MIXES: [f64; 3] = [0.3, 0.8, 0.98];
/// Parts in which a surrogate is judged on what it has not seen.
const FOLDS: usize = 5;

/// The drawn pairs and their values.
struct Sample<'a> {
    n: usize,
    plan: &'a Plan,
    pairs: &'a Pairs,
    values: &'a [f64],
    total: f64,
}

/// A game that is simple to solve and close to the real one.
struct Surrogate {
    shapley: Vec<f64>,
    /// What its variance is multiplied by before it is compared: few pairs may flatter a flexible curve.
    handicap: f64,
    /// Its m(N) − m(∅).
    total: f64,
    /// What it leaves of the odd part of each pair, (v(S) − v(N∖S))/2.
    left: Vec<f64>,
    /// What it leaves of each pair if fitted without it.
    unseen: Vec<f64>,
}

/// One way to read the sample.
struct Reading {
    values: Vec<f64>,
    variances: Vec<f64>,
    freedom: f64,
}

pub(crate) fn pairs<G: Game>(
    memo: &mut Memo<G>,
    budget: usize,
    seed: u64,
    features: Features,
) -> Result<Raw, Error<G::Error>> {
    let n = memo.players();
    let mut plan = Plan::new(n, budget);
    let pairs = Pairs::draw(n, &mut plan, seed);
    let values = memo.values(&plan.coalitions)?;
    let total = values[GRAND] - values[EMPTY];
    let sample = Sample {
        n,
        plan: &plan,
        pairs: &pairs,
        values: &values,
        total,
    };
    let reading = match features {
        Features::Additive => sample.plain(&sample.fit(0)),
        Features::Sizes => sample.plain(&sample.fit(2)),
        Features::Best => sample.best(),
    };
    let errors = reading
        .variances
        .iter()
        .map(|variance| variance.sqrt())
        .collect();
    Ok(Raw::new(
        reading.values,
        errors,
        reading.freedom,
        plan.coalitions.len(),
        total,
    ))
}

impl Sample<'_> {
    /// The fit by additive games and so many further features of a pair, all odd and none with Shapley values of its own: two
    /// functions of the size, then each player's slope with the size's distance from n/2.
    fn fit(&self, further: usize) -> Fit {
        let n = self.n as f64;
        let square = |t: f64| (t - 0.5).powi(2);
        let centre = (1..self.n).map(|s| square(s as f64 / n)).sum::<f64>() / (n - 1.0);
        let row = |(set, weight)| {
            let set: &coto_coalition::Coalition = set;
            let t = set.len() as f64 / n;
            let bend = t * (1.0 - t) * (t - 0.5);
            let mut all = vec![bend, bend * (square(t) - centre)];
            let slope = |i| (f64::from(u8::from(set.contains(i))) - t) * (square(t) - centre);
            all.extend((0..self.n).map(slope));
            all.truncate(further);
            (set, weight, all)
        };
        let sets: Vec<_> = self
            .pairs
            .first(self.plan)
            .into_iter()
            .zip(self.pairs.weights(self.n))
            .map(row)
            .collect();
        Fit::new(self.n, &sets)
    }

    /// The fit alone.
    fn plain(&self, fit: &Fit) -> Reading {
        self.adjusted(fit, &self.nothing())
    }

    /// A surrogate's Shapley values, corrected by a fit to what it leaves of the pairs; the standard errors are those of a fit to
    /// what it leaves of pairs that it has not seen.
    fn adjusted(&self, fit: &Fit, surrogate: &Surrogate) -> Reading {
        let total = self.total - surrogate.total;
        let solve = |odd: &[f64]| {
            fit.solve(
                &odd.iter()
                    .map(|value| value + total / 2.0)
                    .collect::<Vec<_>>(),
                total,
            )
        };
        let (correction, _) = solve(&surrogate.left);
        let (_, misfit) = solve(&surrogate.unseen);
        let influences = |(members, population): (Vec<usize>, f64)| {
            let units = members
                .iter()
                .map(|&pair| fit.influence(pair, &misfit))
                .collect();
            (units, population)
        };
        let strata: Vec<_> = self
            .pairs
            .strata(self.n)
            .into_iter()
            .map(influences)
            .collect();
        Reading {
            values: surrogate
                .shapley
                .iter()
                .zip(correction)
                .map(|(a, b)| a + b)
                .collect(),
            variances: variance(self.n, &strata),
            freedom: self.pairs.units.len() as f64 - fit.width() as f64,
        }
    }

    /// The reading of the smallest mean variance among those that the sample is large enough for.
    fn best(&self) -> Reading {
        let (n, count) = (self.n, self.pairs.units.len());
        let sizes = self.fit(2);
        let centred = self.plain(&sizes);
        let mut surrogates = vec![self.nothing()];
        let curves = [2, 5]
            .into_iter()
            .filter_map(|waves| self.index(&centred.values, waves));
        let misfit = |curve: &Surrogate| curve.unseen.iter().map(|left| left * left).sum::<f64>();
        surrogates.extend(curves.min_by(|a, b| misfit(a).total_cmp(&misfit(b))));
        if count <= MOST_PAIRS {
            surrogates.extend(self.processes(&surrogates));
        }
        let mut readings = vec![(1.0, self.plain(&self.fit(0)))];
        let weighed =
            |surrogate: &Surrogate| (surrogate.handicap, self.adjusted(&sizes, surrogate));
        readings.extend(surrogates.iter().map(weighed));
        if count > 3 * n {
            readings.push((1.0, self.plain(&self.fit(n + 2))));
        }
        let spread =
            |(handicap, reading): &(f64, Reading)| handicap * reading.variances.iter().sum::<f64>();
        let least = readings
            .into_iter()
            .min_by(|a, b| spread(a).total_cmp(&spread(b)));
        least.expect("two readings at least").1
    }

    /// The surrogate that says nothing.
    fn nothing(&self) -> Surrogate {
        let half = |unit: &[usize; 2]| (self.values[unit[0]] - self.values[unit[1]]) / 2.0;
        let odd: Vec<f64> = self.pairs.units.iter().map(half).collect();
        Surrogate {
            shapley: vec![0.0; self.n],
            handicap: 1.0,
            total: 0.0,
            left: odd.clone(),
            unseen: odd,
        }
    }

    /// Each surrogate, and a process of odd interactions on what it leaves: of all [`MIXES`] the one that guesses best what it has
    /// not seen of the first pairs.
    fn processes(&self, surrogates: &[Surrogate]) -> Vec<Surrogate> {
        let few = self.pairs.units.len().min(TRIAL_PAIRS);
        let observed = |count: usize, mix: f64| {
            let mut sets = self.pairs.first(self.plan);
            sets.truncate(count);
            sets.push(&self.plan.coalitions[GRAND]);
            Odd::new(self.n, sets, mix)
        };
        let trials = MIXES.map(|mix| observed(few, mix));
        let mut processes = MIXES.map(|_| None);
        let with = |surrogate: &Surrogate| {
            let misfit = |trial: &Odd| {
                let left_out = trial
                    .fit(&self.with_grand(surrogate, &surrogate.unseen[..few]))
                    .left_out;
                left_out[..few].iter().map(|left| left * left).sum::<f64>()
            };
            let misfits = trials.each_ref().map(misfit);
            let best = (0..MIXES.len())
                .min_by(|&a, &b| misfits[a].total_cmp(&misfits[b]))
                .unwrap_or(0);
            let process = processes[best]
                .get_or_insert_with(|| observed(self.pairs.units.len(), MIXES[best]));
            self.process(surrogate, process)
        };
        surrogates.iter().map(with).collect()
    }

    /// What a surrogate leaves of each pair, and of the grand coalition with the empty one.
    fn with_grand(&self, surrogate: &Surrogate, left: &[f64]) -> Vec<f64> {
        [left, &[(self.total - surrogate.total) / 2.0]].concat()
    }

    /// A surrogate with a process on what it leaves.
    fn process(&self, before: &Surrogate, process: &Odd) -> Surrogate {
        let count = self.pairs.units.len();
        let fitted = process.fit(&self.with_grand(before, &before.left));
        let mut unseen = process
            .fit(&self.with_grand(before, &before.unseen))
            .left_out;
        unseen.truncate(count);
        let added = process.shapley(&fitted);
        Surrogate {
            shapley: before
                .shapley
                .iter()
                .zip(added)
                .map(|(a, b)| a + b)
                .collect(),
            handicap: before.handicap,
            total: self.total - 2.0 * fitted.left[count],
            left: fitted.left[..count].to_vec(),
            unseen,
        }
    }

    /// A function of one index, whose first guess is proportional to `guess`.
    fn index(&self, guess: &[f64], waves: usize) -> Option<Surrogate> {
        let mut model = Index::line(guess, waves)?;
        let row = |place: usize| {
            let weight = if place == EMPTY || place == GRAND {
                10.0
            } else {
                1.0
            };
            Row::new(&self.plan.coalitions[place], self.values[place], weight)
        };
        let rows: Vec<Row> = (0..self.plan.coalitions.len()).map(row).collect();
        model.fit(&rows.iter().collect::<Vec<_>>(), 30);
        let odd = |model: &Index, unit: &[usize; 2]| {
            let left = unit.map(|place| self.values[place] - model.value(&rows[place]));
            (left[0] - left[1]) / 2.0
        };
        let left: Vec<f64> = self
            .pairs
            .units
            .iter()
            .map(|unit| odd(&model, unit))
            .collect();
        let mut unseen = left.clone();
        for fold in 0..FOLDS {
            let mut held = vec![false; rows.len()];
            let units = || {
                self.pairs
                    .units
                    .iter()
                    .enumerate()
                    .skip(fold)
                    .step_by(FOLDS)
            };
            units()
                .flat_map(|(_, unit)| unit)
                .for_each(|&place| held[place] = true);
            let kept: Vec<&Row> = (0..rows.len())
                .filter(|&place| !held[place])
                .map(|place| &rows[place])
                .collect();
            let mut partial = model.clone();
            partial.fit(&kept, 6);
            units().for_each(|(pair, unit)| unseen[pair] = odd(&partial, unit));
        }
        let total = model.value(&rows[GRAND]) - model.value(&rows[EMPTY]);
        Some(Surrogate {
            shapley: model.shapley(),
            handicap: 2.0,
            total,
            left,
            unseen,
        })
    }
}
