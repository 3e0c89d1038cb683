use coto_lowrank::faer::{Mat, Scale};
use coto_lowrank::{Gradients, LowRank, Matrix, PerFactor, Statistics};
use proptest::prelude::*;

use super::zip::Problem;
use super::*;
use crate::{Error, Method, Part, Parts};

fn noise(rows: usize, cols: usize, seed: u64) -> Matrix {
    use rand_distr::{Distribution, StandardNormal};
    let mut draws = coto_coalition::stream(seed, "test");
    Matrix::from_fn(rows, cols, |_, _| StandardNormal.sample(&mut draws))
}

fn update(out: usize, input: usize, rank: usize, seed: u64) -> LowRank {
    let (a, b) = (noise(rank, input, seed), noise(out, rank, seed ^ 1 << 40));
    LowRank::of(&a, &b, 0.5).unwrap()
}

fn seen(inputs: Matrix) -> Statistics {
    let gradients = None;
    Statistics { inputs, gradients }
}

/// Parts of these updates, weights and statistics.
fn parts<'a>(all: &'a [(LowRank, f64, Statistics)]) -> Parts<'a> {
    let part =
        |(adapter, (update, weight, statistics)): (usize, &'a (LowRank, f64, Statistics))| Part {
            adapter,
            weight: *weight,
            update: update.clone(),
            scale: 0.5,
            statistics: Some(statistics),
        };
    let weights: Vec<f64> = all.iter().map(|(_, weight, _)| *weight).collect();
    Parts {
        path: "layers.0.q",
        weights: weights.leak(),
        parts: all.iter().enumerate().map(part).collect(),
        seed: 3,
    }
}

fn full(update: &LowRank) -> Mat<f64> {
    update.b() * update.a()
}

fn gap(a: &Mat<f64>, b: &Mat<f64>) -> f64 {
    (a - b).norm_l2() / b.norm_l2()
}

/// What RegMean minimises, by the formula: Σ wₖ tr((τ − τₖ) Gₖ (τ − τₖ)ᵀ).
fn regmean_loss(rule: &RegMean, all: &[(LowRank, f64, Statistics)], at: &Mat<f64>) -> f64 {
    let losses = all.iter().map(|(update, weight, statistics)| {
        let x = statistics.inputs.to_f64();
        let whole = x.transpose() * &x * Scale(1.0 / x.nrows() as f64);
        let n = whole.nrows();
        let mean = (0..n).map(|j| whole[(j, j)]).sum::<f64>() / n as f64;
        let g = Mat::from_fn(n, n, |i, j| match i == j {
            true => whole[(i, i)] + rule.ridge * mean,
            false => rule.off_diagonal * whole[(i, j)],
        });
        let off = at - full(update);
        let by = &off * g;
        weight
            * (0..n)
                .map(|j| by.col(j).transpose() * off.col(j))
                .sum::<f64>()
    });
    losses.sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn regmean_is_the_minimum(
        (out, input, samples, seed, off_diagonal) in
            (2usize..12, 2usize..14, 1usize..12, any::<u64>(), prop::sample::select(vec![0.0, 0.5, 0.9, 1.0]))
    ) {
        // Fewer samples than inputs, and more: both ways to solve.
        let rule = RegMean { off_diagonal, ridge: 1e-3 };
        let all: Vec<_> = (0..3)
            .map(|k| (update(out, input, 1 + k, seed ^ k as u64), 0.5 + k as f64, seen(noise(samples, input, !seed ^ k as u64))))
            .collect();
        let found = rule.merge(&parts(&all)).unwrap();
        prop_assert_eq!(found.rank(), 6);
        let found = full(&found);
        let least = regmean_loss(&rule, &all, &found);
        for k in 0..5 {
            let step = noise(out, input, seed ^ 99 ^ k).to_f64() * Scale(1e-3);
            // A quadratic at its minimum: the same on both sides, and above.
            let [up, down] = [1.0, -1.0].map(|sign| regmean_loss(&rule, &all, &(&found + &step * Scale(sign))));
            prop_assert!(up > least && down > least);
            prop_assert!((up - down).abs() < 1e-6 * (up - least) + 1e-12 * least, "{up} {least} {down}");
        }
    }

    #[test]
    fn regmean_of_the_same_inputs_is_the_mean(
        (out, input, samples, seed) in (2usize..12, 2usize..14, 1usize..20, any::<u64>())
    ) {
        let inputs = noise(samples, input, seed ^ 7);
        let all = [0, 1].map(|k| (update(out, input, 2, seed ^ k), [1.0, 3.0][k as usize], seen(inputs.clone())));
        let expected = full(&all[0].0) * Scale(0.25) + full(&all[1].0) * Scale(0.75);
        let found = RegMean::default().merge(&parts(&all)).unwrap();
        prop_assert!(gap(&full(&found), &expected) < 1e-6);
    }

    #[test]
    fn one_adapter_is_itself((out, input, seed) in (1usize..12, 1usize..14, any::<u64>())) {
        let gradients = Gradients {
            squared: squares(2, out, input, seed),
            sensitivity: squares(2, out, input, seed),
        };
        let statistics = Statistics { inputs: noise(5, input, !seed), gradients: Some(gradients) };
        let all = [(update(out, input, 2, seed), 1.0, statistics)];
        let methods: [&dyn Method; 3] = [&RegMean::default(), &Fisher::default(), &Zip::default()];
        for method in methods {
            let found = method.merge(&parts(&all)).unwrap();
            prop_assert_eq!(found.a(), all[0].0.a(), "{:?}", method);
            prop_assert_eq!(found.b(), all[0].0.b(), "{:?}", method);
        }
    }
}

/// Squared noise for both factors.
fn squares(rank: usize, out: usize, input: usize, seed: u64) -> PerFactor {
    let square = |rows, cols, seed| {
        let mut matrix = noise(rows, cols, seed);
        matrix
            .values_mut()
            .iter_mut()
            .for_each(|x| *x = x.powi(2) * 1e-6);
        matrix
    };
    PerFactor {
        a: square(rank, input, seed),
        b: square(out, rank, !seed),
    }
}

#[test]
fn fisher_by_hand() {
    // A of [1, 2] and B of [1, 1] at scales 1 and 2; information 1 : 3 and so on, without a floor.
    let matrix = |rows, cols, values: &[f32]| Matrix::new(rows, cols, values.to_vec()).unwrap();
    let one = |a: &[f32], b: f32, scale, fa: &[f32], fb: f32| {
        let update = LowRank::of(&matrix(1, 2, a), &matrix(1, 1, &[b]), scale).unwrap();
        let squared = PerFactor {
            a: matrix(1, 2, fa),
            b: matrix(1, 1, &[fb]),
        };
        let gradients = Gradients {
            sensitivity: squared.clone(),
            squared,
        };
        let statistics = Statistics {
            inputs: matrix(1, 2, &[1.0, 1.0]),
            gradients: Some(gradients),
        };
        (update, 1.0, statistics)
    };
    let all = [
        one(&[4.0, 8.0], 1.0, 1.0, &[1.0, 0.0], 1.0),
        one(&[8.0, 2.0], 3.0, 2.0, &[3.0, 2.0], 12.0),
    ];
    let mut parts = parts(&all);
    (parts.parts[0].scale, parts.parts[1].scale) = (1.0, 2.0);
    let mut rule = Fisher {
        floor: 0.0,
        normalize: false,
    };
    let found = rule.merge(&parts).unwrap();
    // A: (4 + 3·8)/4 = 7 and 2. s B: 1 and 6, whose information is 1 and 12/2² = 3: (1 + 18)/4.
    assert_eq!(
        [found.a()[(0, 0)], found.a()[(0, 1)], found.b()[(0, 0)]],
        [7.0, 2.0, 4.75]
    );
    // Norms √2 and √157.
    rule.normalize = true;
    let found = rule.merge(&parts).unwrap();
    let (x, y) = (1.0 / 2f64.sqrt(), 3.0 / 157f64.sqrt());
    assert!((found.a()[(0, 0)] - (4.0 * x + 8.0 * y) / (x + y)).abs() < 1e-6);
    // No information at all: the mean.
    let mut silent = all.clone();
    for (_, _, statistics) in &mut silent {
        let squared = &mut statistics.gradients.as_mut().unwrap().squared;
        (squared.a, squared.b) = (Matrix::zeros(1, 2), Matrix::zeros(1, 1));
    }
    let found = Fisher::default().merge(&self::parts(&silent)).unwrap();
    assert_eq!(
        [found.a()[(0, 0)], found.a()[(0, 1)], found.b()[(0, 0)]],
        [6.0, 5.0, 3.5]
    );
}

#[test]
fn zips_gradient_is_that_of_its_objective() {
    let all = [2, 3].map(|k| {
        (
            update(6, 5, k, k as u64),
            k as f64,
            seen(noise(7, 5, 9 + k as u64)),
        )
    });
    let problem = Problem::new(&parts(&all), 0.3).unwrap();
    let at = noise(2, 5, 1).to_f64();
    let (_, gradient) = problem.value(&at);
    for (k, j) in (0..2).flat_map(|k| (0..5).map(move |j| (k, j))) {
        let value = |step: f64| {
            let mut at = at.clone();
            at[(k, j)] += step;
            problem.value(&at).0
        };
        let slope = (value(1e-6) - value(-1e-6)) / 2e-6;
        assert!((slope - gradient[(k, j)]).abs() < 1e-7 * (1.0 + slope.abs()));
    }
    // And the objective is that of the definition, by dense matrices.
    let (value, _) = problem.value(&at);
    let merged = all.iter().enumerate().map(|(k, (update, ..))| {
        let full = full(update);
        Mat::from_fn(6, 5, |i, j| full[(i, j)] * at[(k, j)])
    });
    let merged = merged.reduce(|x, y| x + y).unwrap();
    let errors = all.iter().map(|(update, weight, statistics)| {
        let x = statistics.inputs.to_f64();
        let own = &x * full(update).transpose();
        let off = &x * merged.transpose() - &own;
        weight / 5.0 * (off.norm_l2() / own.norm_l2()).powi(2)
    });
    let penalty = (0..5).map(|j| (at[(0, j)] * at[(1, j)]).abs()).sum::<f64>() / 5.0;
    let expected = errors.sum::<f64>() + 0.3 * penalty;
    assert!(
        (value - expected).abs() < 1e-9 * expected,
        "{value} {expected}"
    );
}

#[test]
fn zip_is_better_than_the_sum_and_near_the_best_without_a_penalty() {
    for seed in 0..4u64 {
        let all = [0, 1, 2].map(|k| {
            (
                update(16, 12, 3, seed * 9 + k),
                1.0,
                seen(noise(40, 12, !seed ^ k)),
            )
        });
        let problem = Problem::new(&parts(&all), 0.0).unwrap();
        let start = problem.value(&problem.start()).0;
        let found = problem.value(&problem.minimize(200, 0.05)).0;
        // The least of a quadratic, by its own gradients: solve H m = -g(0).
        let n = 36;
        let place = |i: usize| (i % 3, i / 3);
        let flat = |m: &Mat<f64>| Mat::from_fn(n, 1, |i, _| m[place(i)]);
        let base = flat(&problem.value(&Mat::zeros(3, 12)).1);
        let mut hessian = Mat::zeros(n, n);
        for i in 0..n {
            let mut unit = Mat::zeros(3, 12);
            unit[place(i)] = 1.0;
            let column = flat(&problem.value(&unit).1) - &base;
            hessian.as_mut().subcols_mut(i, 1).copy_from(column);
        }
        use coto_lowrank::faer::prelude::Solve;
        let solved = hessian
            .llt(coto_lowrank::faer::Side::Lower)
            .unwrap()
            .solve(-&base);
        let mut best = Mat::zeros(3, 12);
        (0..n).for_each(|i| best[place(i)] = solved[(i, 0)]);
        let best = problem.value(&best).0;
        assert!(
            found < 0.8 * start && found < best + 0.01 * (start - best),
            "{start} {found} {best}"
        );
    }
}

#[test]
fn zip_parts_columns_that_two_adapters_share() {
    // The inputs under each adapter use a half of the columns, and its merger can be 0 on the other half.
    let (out, input) = (4, 6);
    let half = |k: usize| {
        let own = noise(50, input, k as u64);
        let inputs = Matrix::from_fn(
            50,
            input,
            |i, j| if j / 3 == k { own.row(i)[j] } else { 0.0 },
        );
        (update(out, input, 2, 30 + k as u64), 1.0, seen(inputs))
    };
    let all = [half(0), half(1)];
    let method = Zip::default();
    let found = full(&method.merge(&parts(&all)).unwrap());
    let sum = full(&all[0].0) + full(&all[1].0);
    for (k, (update, ..)) in all.iter().enumerate() {
        let own = full(update);
        let places = (0..out).flat_map(|i| (0..3).map(move |j| (i, 3 * k + j)));
        let size: f64 = places.clone().map(|at| own[at].powi(2)).sum();
        let off = |got: &Mat<f64>| {
            let errors = places.clone().map(|at| (own[at] - got[at]).powi(2));
            errors.sum::<f64>() / size
        };
        assert!(
            off(&found) < 0.01 && off(&sum) > 0.05,
            "{} {}",
            off(&found),
            off(&sum)
        );
    }
}

#[test]
fn without_data_it_is_told_what_to_give() {
    let all = [0, 1].map(|k| (update(4, 5, 2, k), 1.0, seen(noise(3, 5, k))));
    let methods: [&dyn Method; 3] = [&RegMean::default(), &Fisher::default(), &Zip::default()];
    let told = |method: &dyn Method, parts: &Parts, words: &str| {
        let error = method.merge(parts).unwrap_err();
        assert!(matches!(error, Error::Refused { .. }));
        let error = error.to_string();
        assert!(
            error.contains("layers.0.q") && error.contains(words),
            "{error}"
        );
    };
    for method in methods {
        let mut none = parts(&all);
        none.parts[1].statistics = None;
        // Fisher asks the first adapter's gradients first.
        told(method, &none, "give calibration data");
        let mut negative = parts(&all);
        negative.parts[0].weight = -1.0;
        told(method, &negative, "weight -1 of adapter 0");
    }
    told(methods[1], &parts(&all), "gradients of adapter 0");
    for method in [methods[0], methods[2]] {
        let mut wrong = all.clone();
        wrong[1].2 = seen(noise(3, 4, 0));
        told(
            method,
            &parts(&wrong),
            "adapter 1 are [3, 4], not [samples, 5]",
        );
        wrong[1].2 = seen(Matrix::zeros(0, 5));
        told(method, &parts(&wrong), "adapter 1 are [0, 5]");
        wrong[1].2 = seen(Matrix::from_fn(3, 5, |_, _| f32::NAN));
        told(method, &parts(&wrong), "adapter 1 are not finite");
    }
    let mut dead = all.clone();
    dead[1].2 = seen(Matrix::zeros(3, 5));
    told(
        methods[0],
        &parts(&dead),
        "all inputs under adapter 1 are 0",
    );
    let rule = |off_diagonal, ridge| RegMean {
        off_diagonal,
        ridge,
    };
    told(&rule(1.5, 1e-6), &parts(&all), "off_diagonal 1.5");
    told(&rule(0.9, f64::NAN), &parts(&all), "ridge NaN");
    told(&rule(0.9, 0.0), &parts(&all), "ridge 0");
    let zip = Zip {
        lambda: -1.0,
        ..Zip::default()
    };
    told(&zip, &parts(&all), "lambda -1");
}

fn searched(n: usize, evaluations: usize, f: impl Fn(&[f64]) -> f64) -> Found {
    let options = SearchOptions {
        evaluations,
        l1: 0.0,
        ..SearchOptions::default()
    };
    search(n, |w| Ok::<_, Error>(f(w)), &options).unwrap()
}

#[test]
fn search_finds_the_least_of_quadratics_and_of_a_ridge() {
    let target = [0.5, -1.0, 0.2, 1.2];
    let bowl = |w: &[f64]| {
        w.iter()
            .zip(target)
            .map(|(w, t)| (w - t).powi(2))
            .sum::<f64>()
    };
    let found = searched(4, 600, bowl);
    assert!(found.value < 1e-6 && found.evaluations <= 600, "{found:?}");
    // A narrow valley across the axes: 10⁴ times as steep over it as along.
    let ridge =
        |w: &[f64]| 100.0 * (w[0] + w[1] - 1.0).powi(2) + 0.01 * (w[0] - w[1] - 0.6).powi(2);
    let found = searched(2, 1500, ridge);
    assert!(
        (found.weights[0] - 0.8).abs() < 1e-2 && (found.weights[1] - 0.2).abs() < 1e-2,
        "{found:?}"
    );
    // As few evaluations as LoraHub has already help.
    let found = searched(3, 40, |w| bowl(&[w[0], w[1], w[2], 1.2]));
    assert!(
        found.value < 0.3 * found.start && found.evaluations == 40,
        "{found:?}"
    );
}

#[test]
fn search_stays_in_its_bounds_and_weighs_the_penalty() {
    let asked = std::cell::RefCell::new(Vec::new());
    let found = searched(2, 300, |w| {
        asked.borrow_mut().push(w.to_vec());
        (w[0] - 4.0).powi(2) + w[1].powi(2)
    });
    assert!(asked.borrow().iter().flatten().all(|w| w.abs() <= 1.5));
    assert!(
        found.weights[0] == 1.5 && found.weights[1].abs() < 1e-2,
        "{found:?}"
    );
    // |w − 0.1| pulls less than a penalty of 2: nothing stays.
    let options = SearchOptions {
        evaluations: 200,
        l1: 2.0,
        start: Some(vec![0.5]),
        ..SearchOptions::default()
    };
    let pull = |w: &[f64]| Ok::<_, Error>((w[0] - 0.1).abs());
    let found = search(1, pull, &options).unwrap();
    assert!(
        found.weights[0].abs() < 1e-3 && (found.start - 1.4).abs() < 1e-12,
        "{found:?}"
    );
    assert_eq!(search(1, pull, &options).unwrap(), found);
}

#[test]
fn search_survives_values_that_are_not_finite_and_refuses_nonsense() {
    let found = searched(2, 300, |w| {
        if w[0] < 0.3 {
            f64::NAN
        } else {
            w[0] + w[1].powi(2)
        }
    });
    assert!(found.value < 0.32, "{found:?}");
    let options = SearchOptions::default;
    let told = |options: SearchOptions, words: &str| {
        let error = search(2, |_| Ok::<_, Error>(0.0), &options).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    };
    told(
        SearchOptions {
            evaluations: 0,
            ..options()
        },
        "evaluations 0",
    );
    told(
        SearchOptions {
            bound: f64::NAN,
            ..options()
        },
        "bound NaN",
    );
    told(
        SearchOptions {
            l1: -1.0,
            ..options()
        },
        "l1 -1",
    );
    told(
        SearchOptions {
            start: Some(vec![0.0]),
            ..options()
        },
        "1 weights, not 2",
    );
    told(
        SearchOptions {
            start: Some(vec![0.0, 9.0]),
            ..options()
        },
        "weight 9 is beyond",
    );
    let failing = |_: &[f64]| Err(Error::Empty);
    assert!(matches!(search(2, failing, &options()), Err(Error::Empty)));
}
