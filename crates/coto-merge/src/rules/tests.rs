use coto_lowrank::Matrix;
use proptest::prelude::*;

use super::*;
use crate::{Error, Rule, Weighted};

fn part(weight: f64, values: &[f32]) -> Weighted {
    Weighted {
        matrix: Matrix::new(1, values.len(), values.to_vec()).unwrap(),
        weight,
    }
}

fn merged(rule: &dyn Rule, parts: &[Weighted]) -> Vec<f32> {
    rule.merge(parts, 7).unwrap().into_values()
}

/// Normal enough noise, by shape and seed.
fn noise(rows: usize, cols: usize, seed: u64) -> Matrix {
    let mut draws = coto_coalition::stream(seed, "test");
    Matrix::from_fn(rows, cols, |_, _| {
        let uniform = |x: u32| f64::from(x) / 2f64.powi(32) - 0.5;
        (0..4)
            .map(|_| uniform(rand::Rng::next_u32(&mut draws)))
            .sum::<f64>() as f32
    })
}

/// Every rule, with nothing dropped where it drops.
fn rules() -> Vec<Box<dyn Rule>> {
    let mergekit = TiesFlavour::Mergekit { normalize: true };
    let mean = Linear {
        normalize: true,
        lambda: 1.0,
    };
    vec![
        Box::new(Linear::default()),
        Box::new(mean),
        Box::new(Slerp),
        Box::new(ModelStock),
        Box::new(Sparse::ties(1.0)),
        Box::new(Sparse::ties_of(TiesFlavour::Peft, 1.0)),
        Box::new(Sparse::ties_of(mergekit, 1.0)),
        Box::new(Sparse::magnitude(1.0)),
        Box::new(Sparse::dare(1.0)),
        Box::new(Sparse::dare(1.0).elect(TiesFlavour::Paper)),
        Box::new(Sparse::breadcrumbs(1.0)),
        Box::new(Sparse::breadcrumbs(1.0).elect(mergekit)),
        Box::new(Sparse::della(1.0)),
        Box::new(Sparse::della(1.0).summed()),
        Box::new(Sce::default()),
        Box::new(Sce { select_topk: 0.3 }),
    ]
}

#[test]
fn ties_by_hand() {
    // Half of four entries stay: [4 0 2 0], [-3 -2 0 0], [0 5 0 -4].
    let parts = [
        part(1.0, &[4.0, -1.0, 2.0, 1.0]),
        part(2.0, &[-3.0, -2.0, 0.5, 1.0]),
        part(1.0, &[1.0, 5.0, -2.5, -4.0]),
    ];
    // Votes after weighting: 4-6, -4+5, 2, -4, so - + + -. Of the weights the ratios count: ¾, 1½, ¾.
    assert_eq!(merged(&Sparse::ties(0.5), &parts), [-4.5, 3.75, 1.5, -3.0]);
    // Votes before weighting: 4-3, -2+5, 2, -4, so + + + -.
    let peft = Sparse::ties_of(TiesFlavour::Peft, 0.5);
    assert_eq!(merged(&peft, &parts), [4.0, 5.0, 2.0, -4.0]);
    // As the paper's, and divided by the weights that agree: 2 1 1 1.
    let mergekit = Sparse::ties_of(TiesFlavour::Mergekit { normalize: true }, 0.5);
    assert_eq!(merged(&mergekit, &parts), [-3.0, 5.0, 2.0, -4.0]);
    let twice = Sparse {
        lambda: 2.0,
        ..mergekit
    };
    assert_eq!(merged(&twice, &parts), [-6.0, 10.0, 4.0, -8.0]);
}

#[test]
fn where_votes_cancel_and_where_several_agree() {
    // Votes 0, -6, -2: the paper's majority over the places is -, the tools take +.
    let parts = [
        part(1.0, &[1.0, -2.0, -1.0]),
        part(1.0, &[-1.0, -4.0, -1.0]),
    ];
    let of = |flavour| Sparse::ties_of(flavour, 1.0);
    assert_eq!(merged(&Sparse::ties(1.0), &parts), [-1.0, -3.0, -1.0]);
    assert_eq!(merged(&of(TiesFlavour::Peft), &parts), [1.0, -3.0, -1.0]);
    let [normalized, plain] =
        [true, false].map(|normalize| of(TiesFlavour::Mergekit { normalize }));
    assert_eq!(merged(&normalized, &parts), [1.0, -3.0, -1.0]);
    assert_eq!(merged(&plain, &parts), [1.0, -6.0, -2.0]);
    // (½·2 + 1½·4) over the count 2, (2 + 3·4) over the count 2, or over the weights' sum 4.
    let parts = [part(1.0, &[2.0]), part(3.0, &[4.0])];
    assert_eq!(merged(&Sparse::ties(1.0), &parts), [3.5]);
    assert_eq!(merged(&of(TiesFlavour::Peft), &parts), [7.0]);
    assert_eq!(merged(&normalized, &parts), [3.5]);
    // One large entry against two small ones: by sum and by number.
    let parts = [part(1.0, &[3.0]), part(1.0, &[-1.0]), part(1.0, &[-1.0])];
    let mut rule = Sparse::ties(1.0);
    assert_eq!(merged(&rule, &parts), [3.0]);
    rule.consensus = Consensus::Elect {
        flavour: TiesFlavour::Paper,
        majority: Majority::Frequency,
    };
    assert_eq!(merged(&rule, &parts), [-1.0]);
}

#[test]
fn breadcrumbs_lose_both_ends() {
    // Of ten: the largest is an outlier, and of the rest the largest four stay.
    let rule = Sparse {
        sparsify: Sparsify::Breadcrumbs {
            density: 0.4,
            gamma: 0.1,
        },
        consensus: Consensus::Sum { normalize: false },
        lambda: 1.0,
    };
    let values = [1.0, -10.0, 3.0, 9.0, -5.0, 2.0, -8.0, 7.0, 6.0, 4.0];
    let expected = [0.0, 0.0, 0.0, 9.0, 0.0, 0.0, -8.0, 7.0, 6.0, 0.0];
    assert_eq!(merged(&rule, &[part(1.0, &values)]), expected);
}

#[test]
fn equal_magnitudes_stay_by_place() {
    let rule = Sparse::magnitude(0.5);
    let parts = [part(2.0, &[1.0, -1.0, 1.0, 1.0, 0.5, 2.0])];
    assert_eq!(merged(&rule, &parts), [2.0, -2.0, 0.0, 0.0, 0.0, 4.0]);
}

#[test]
fn sce_by_hand() {
    // Deviations 1, 3, 0, 2: half of the three that are not 0 is one place, the second. There the squares are 49 and 1.
    let parts = [
        part(1.0, &[1.0, 7.0, 2.0, -2.0]),
        part(1.0, &[3.0, 1.0, 2.0, 2.0]),
    ];
    let half = Sce { select_topk: 0.5 };
    let expected = (49.0 * 7.0 + 1.0) / 50.0;
    assert_eq!(merged(&half, &parts), [0.0, expected, 0.0, 0.0]);
    // All places: mean squares 58/4 and 18/4; at the last the votes cancel and + stays.
    let by = |first: f32, second: f32| (58.0 * first + 18.0 * second) / 76.0;
    let expected = [by(1.0, 3.0), by(7.0, 1.0), 2.0, 2.0];
    assert_eq!(merged(&Sce::default(), &parts), expected);
}

#[test]
fn slerp_walks_the_circle() {
    let at = |angle: f32| [angle.cos(), angle.sin()];
    for (from, to, t) in [(0.1f32, 1.3, 0.25f64), (0.5, 3.0, 0.6), (2.0, 0.3, 0.5)] {
        let parts = [part(1.0 - t, &at(from)), part(t, &at(to))];
        let got = merged(&Slerp, &parts);
        let expected = at(from + t as f32 * (to - from));
        let near = |(x, y): (&f32, &f32)| (x - y).abs() < 1e-6;
        assert!(got.iter().zip(&expected).all(near), "{got:?} {expected:?}");
    }
    let parts = [part(3.0, &[1.0, 0.0]), part(1.0, &[2.0, 0.01])];
    assert_eq!(merged(&Slerp, &parts), [1.25, 0.0025]); // nearly parallel: a straight line
    let three = [parts[0].clone(), parts[1].clone(), parts[0].clone()];
    assert!(
        Slerp
            .merge(&three, 0)
            .unwrap_err()
            .to_string()
            .contains("not 3")
    );
}

#[test]
fn model_stock_shortens_the_mean_by_the_angle() {
    // Cosine ½ of each pair of three: t = 1.5 / 2.
    let gram = vec![
        vec![4.0, 2.0, 2.0],
        vec![2.0, 4.0, 2.0],
        vec![2.0, 2.0, 4.0],
    ];
    let coefficients = ModelStock.coefficients(&gram, &[1.0; 3]).unwrap().unwrap();
    assert!(coefficients.iter().all(|c| (c - 0.25).abs() < 1e-12));
    // Of two at the angle θ, t = 2 cos θ / (1 + cos θ); here cos θ = 0.6.
    let parts = [part(1.0, &[1.0, 0.0]), part(1.0, &[0.6, 0.8])];
    let got = merged(&ModelStock, &parts);
    assert!(
        (got[0] - 0.6).abs() < 1e-6 && (got[1] - 0.3).abs() < 1e-6,
        "{got:?}"
    );
    let opposite = [part(1.0, &[1.0, 0.0]), part(1.0, &[-1.0, 0.0])];
    assert_eq!(merged(&ModelStock, &opposite), [0.0, 0.0]);
}

/// The means over seeds of a rule's entries, less what is expected, over the mean's standard deviation.
fn z(rule: &Sparse, parts: &[Weighted], keep: impl Fn(usize, usize) -> f64) -> Vec<f64> {
    const SEEDS: u64 = 4000;
    let mut sums = vec![0.0; parts[0].matrix.values().len()];
    for seed in 0..SEEDS {
        let merged = rule.merge(parts, seed).unwrap();
        let places = sums.iter_mut().zip(merged.values());
        places.for_each(|(sum, &x)| *sum += f64::from(x));
    }
    let places = sums.iter().enumerate().map(|(at, sum)| {
        let terms = parts.iter().enumerate().map(|(k, part)| {
            let (value, p) = (
                part.weight * f64::from(part.matrix.values()[at]),
                keep(k, at),
            );
            (value, value * value * (1.0 - p) / p)
        });
        let (mean, variance) = terms.fold((0.0, 0.0), |(m, v), (x, y)| (m + x, v + y));
        (sum / SEEDS as f64 - mean) / (variance / SEEDS as f64).sqrt()
    });
    places.collect()
}

#[test]
fn what_is_drawn_is_the_sum_on_the_mean() {
    let weighted = |weight, seed| Weighted {
        matrix: noise(3, 5, seed),
        weight,
    };
    let parts = [weighted(1.0, 1), weighted(-0.5, 2)];
    let dare = z(&Sparse::dare(0.3), &parts, |_, _| 0.3);
    // The probabilities go from 0.15 to 0.45 with the ranks of each row.
    let rank = |k: usize, at: usize| {
        let row = parts[k].matrix.row(at / 5);
        row.iter().filter(|x| x.abs() < row[at % 5].abs()).count() as f64
    };
    let della = z(&Sparse::della(0.3).summed(), &parts, |k, at| {
        0.15 + rank(k, at) * 0.3 / 4.0
    });
    for z in [dare, della] {
        assert!(z.iter().all(|z| z.abs() < 4.0), "{z:?}");
        let square = z.iter().map(|z| z * z).sum::<f64>() / z.len() as f64;
        assert!((0.3..2.0).contains(&square), "{z:?}");
    }
}

#[test]
fn draws_follow_the_seed_and_the_l1_norm_may_be_kept() {
    let parts = [0, 1].map(|seed| Weighted {
        matrix: noise(20, 30, 3),
        weight: seed as f64,
    });
    let mut rule = Sparse::dare(0.4);
    assert_eq!(
        rule.merge(&parts, 1).unwrap(),
        rule.merge(&parts, 1).unwrap()
    );
    assert_ne!(
        rule.merge(&parts, 1).unwrap(),
        rule.merge(&parts, 2).unwrap()
    );
    // The second of two equal matrices has draws of its own.
    assert_ne!(
        rule.merge(&parts[1..], 1).unwrap(),
        rule.merge(&parts, 1).unwrap()
    );
    rule.sparsify = Sparsify::Random {
        density: 0.4,
        rescale: Rescale::L1Norm,
    };
    let size = |matrix: &Matrix| matrix.values().iter().map(|x| x.abs()).sum::<f32>();
    let (got, own) = (
        size(&rule.merge(&parts, 1).unwrap()),
        size(&parts[0].matrix),
    );
    assert!((got / own - 1.0).abs() < 1e-5, "{got} {own}");
}

#[test]
fn what_makes_no_sense_is_told() {
    let parts = [part(1.0, &[1.0, 2.0]), part(1.0, &[3.0, -4.0])];
    let told = |rule: &dyn Rule, parts: &[Weighted], words: &str| {
        let error = rule.merge(parts, 0).unwrap_err();
        assert!(matches!(error, Error::Refused { .. }));
        assert!(error.to_string().contains(words), "{error}");
    };
    for density in [0.0, -0.5, 1.5, f64::NAN] {
        let words = format!("density {density}");
        told(&Sparse::ties(density), &parts, &words);
        told(&Sparse::dare(density), &parts, &words);
        told(&Sparse::breadcrumbs(density), &parts, &words);
        told(&Sparse::della(density), &parts, &words);
    }
    told(&Sce { select_topk: 0.0 }, &parts, "select_topk 0");
    let lambda = f64::INFINITY;
    let linear = Linear {
        normalize: false,
        lambda,
    };
    told(&linear, &parts, "lambda inf");
    told(
        &Sparse {
            lambda,
            ..Sparse::ties(0.5)
        },
        &parts,
        "lambda inf",
    );
    let della = |epsilon| Sparse {
        sparsify: Sparsify::Della {
            density: 0.5,
            epsilon,
            rescale: Rescale::Probability,
        },
        ..Sparse::della(0.5)
    };
    told(&della(0.6), &parts, "epsilon 0.6");
    told(&della(f64::NAN), &parts, "epsilon NaN");
    let crumbs = Sparsify::Breadcrumbs {
        density: 0.5,
        gamma: 1.0,
    };
    let crumbs = Sparse {
        sparsify: crumbs,
        ..Sparse::ties(0.5)
    };
    told(&crumbs, &parts, "gamma 1");
    for rule in rules() {
        let nan = [parts[0].clone(), part(1.0, &[0.0, f32::NAN])];
        told(&*rule, &nan, "matrix 1 is NaN at [0, 1]");
        told(&*rule, &[part(f64::NAN, &[1.0])], "weight of matrix 0: NaN");
        assert!(matches!(rule.merge(&[], 0), Err(Error::Empty)));
        let sizes = [parts[0].clone(), part(1.0, &[0.0])];
        assert!(matches!(rule.merge(&sizes, 0), Err(Error::LowRank(_))));
    }
    let cancel = [part(1.0, &[1.0]), part(-1.0, &[2.0])];
    told(
        &Linear {
            normalize: true,
            lambda: 1.0,
        },
        &cancel,
        "sum to 0",
    );
    told(&ModelStock, &cancel, "sum to 0");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn one_update_is_itself((rows, cols, seed) in (1usize..20, 1usize..20, any::<u64>())) {
        let matrix = noise(rows, cols, seed);
        let parts = [Weighted { matrix, weight: 1.0 }];
        for rule in rules() {
            prop_assert_eq!(&rule.merge(&parts, seed).unwrap(), &parts[0].matrix, "{:?}", rule);
        }
    }

    #[test]
    fn the_order_of_adapters_does_not_matter(
        (rows, cols, count, seed) in (1usize..12, 1usize..12, 2usize..6, any::<u64>())
    ) {
        let parts: Vec<Weighted> = (0..count as u64)
            .map(|k| Weighted { matrix: noise(rows, cols, seed ^ k), weight: 0.5 + k as f64 })
            .collect();
        let turned: Vec<Weighted> = parts.iter().rev().cloned().collect();
        let sparse = [
            Sparse::ties(0.4),
            Sparse::ties_of(TiesFlavour::Peft, 0.4),
            Sparse::ties_of(TiesFlavour::Mergekit { normalize: true }, 0.4),
            Sparse::breadcrumbs(0.4),
        ];
        let sparse = sparse.into_iter().map(|rule| Box::new(rule) as Box<dyn Rule>);
        for rule in rules().into_iter().chain(sparse) {
            if count > 2 && rule.merge(&parts, 1).is_err() {
                continue; // slerp
            }
            let (one, two) = (rule.merge(&parts, 1).unwrap(), rule.merge(&turned, 1).unwrap());
            let near = one.values().iter().zip(two.values()).all(|(x, y)| (x - y).abs() <= 1e-5 * (1.0 + x.abs()));
            prop_assert!(near, "{:?}", rule);
        }
    }

    #[test]
    fn as_many_stay_as_the_density_says(
        (rows, cols, density, seed) in (1usize..20, 1usize..20, 0.01f64..1.0, any::<u64>())
    ) {
        let count = rows * cols;
        let parts = [Weighted { matrix: noise(rows, cols, seed), weight: 1.0 }];
        let stay = ((density * count as f64) as usize).max(1);
        for rule in [Sparse::magnitude(density), Sparse::breadcrumbs(density), Sparse::ties(density)] {
            let got = rule.merge(&parts, 0).unwrap();
            prop_assert_eq!(got.values().iter().filter(|x| **x != 0.0).count(), stay, "{:?}", rule);
        }
        // The smallest that stays is at least the largest that goes.
        let got = Sparse::magnitude(density).merge(&parts, 0).unwrap();
        let pairs = || got.values().iter().zip(parts[0].matrix.values());
        let least = pairs().filter(|(got, _)| **got != 0.0).map(|(_, x)| x.abs()).fold(f32::MAX, f32::min);
        prop_assert!(pairs().filter(|(got, _)| **got == 0.0).all(|(_, x)| x.abs() <= least));
    }

    #[test]
    fn coefficients_say_what_merging_does(
        (rows, cols, seed, w) in (1usize..12, 1usize..12, any::<u64>(), 0.1f64..3.0)
    ) {
        let parts = [(1.0, seed), (w, !seed)].map(|(weight, seed)| Weighted { matrix: noise(rows, cols, seed), weight });
        let weights = [1.0, w];
        for rule in rules() {
            let Some(coefficients) = rule.coefficients(&gram(&parts), &weights) else { continue };
            let coefficients = coefficients.unwrap();
            let merged = rule.merge(&parts, 0).unwrap();
            for (at, got) in merged.values().iter().enumerate() {
                let expected: f64 = parts.iter().zip(&coefficients).map(|(part, c)| c * f64::from(part.matrix.values()[at])).sum();
                prop_assert!((f64::from(*got) - expected).abs() < 1e-5, "{:?}", rule);
            }
        }
    }
}
