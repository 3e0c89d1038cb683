use std::sync::Arc;

use coto_lowrank::faer::Mat;
use coto_lowrank::{LowRank, Matrix};
use coto_merge::{Error, InSpace, Linear, Method, Rule, Space, Weighted};
use proptest::prelude::*;

use super::own_method::Median;
use super::{full, gap, mean, noise, parts, update};

const LOSSLESS: [Space; 3] = [Space::Delta, Space::Knots, Space::Core];

/// A linear rule that does not say so: every space has to bring it there and back.
#[derive(Debug)]
struct Hidden;

impl Rule for Hidden {
    fn merge(&self, parts: &[Weighted], seed: u64) -> Result<Matrix, Error> {
        Linear::default().merge(parts, seed)
    }
}

/// Signs survive where all agree: the mean of the entries whose sign is that of the sum. A rule that every space sees differently.
#[derive(Debug)]
struct Agreeing;

impl Rule for Agreeing {
    fn merge(&self, parts: &[Weighted], _seed: u64) -> Result<Matrix, Error> {
        let (rows, cols) = (parts[0].matrix.rows(), parts[0].matrix.cols());
        Ok(Matrix::from_fn(rows, cols, |i, j| {
            let values: Vec<f32> = parts
                .iter()
                .map(|p| p.weight as f32 * p.matrix.row(i)[j])
                .collect();
            let sign = values.iter().sum::<f32>().signum();
            let agree: Vec<f32> = values.into_iter().filter(|v| v * sign > 0.0).collect();
            agree.iter().sum::<f32>() / agree.len().max(1) as f32
        }))
    }
}

/// Σ w² τ |τ|: no sum of the updates, different in every space, and without jumps.
#[derive(Debug)]
struct Squares;

impl Rule for Squares {
    fn merge(&self, parts: &[Weighted], _seed: u64) -> Result<Matrix, Error> {
        let (rows, cols) = (parts[0].matrix.rows(), parts[0].matrix.cols());
        Ok(Matrix::from_fn(rows, cols, |i, j| {
            let values = parts.iter().map(|p| p.weight as f32 * p.matrix.row(i)[j]);
            values.map(|v| v * v.abs()).sum()
        }))
    }
}

fn lift(space: Space, rule: impl Rule + 'static) -> InSpace {
    InSpace {
        space,
        rule: Arc::new(rule),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn one_adapter_is_reproduced_in_every_space(
        (out, input, rank, seed) in (1usize..80, 1usize..80, 1usize..65, any::<u64>())
    ) {
        let own = update(out, input, rank, seed);
        let parts = parts(std::slice::from_ref(&own), &[1.0]);
        for space in [Space::Factors, Space::Delta, Space::Knots, Space::Core, Space::Shared { rank }] {
            let rules: [Arc<dyn Rule>; 5] = [
                Arc::new(Linear::default()),
                Arc::new(mean()),
                Arc::new(Hidden),
                Arc::new(Agreeing),
                Arc::new(Median),
            ];
            for rule in rules {
                let merged = InSpace { space, rule }.merge(&parts).unwrap();
                let apart = gap(&full(&merged), &full(&own));
                prop_assert!(apart < 1e-6, "{space:?} {apart}");
            }
        }
    }

    #[test]
    fn a_sum_is_the_sum_in_every_lossless_space_and_in_shared_bases_that_hold_all(
        (out, input, r1, r2, seed) in (1usize..60, 1usize..60, 1usize..40, 1usize..20, any::<u64>())
    ) {
        let updates = [update(out, input, r1, seed), update(out, input, r2, seed ^ 1)];
        let weights = [0.7, -1.2];
        let parts = parts(&updates, &weights);
        let expected = full(&updates[0]) * coto_lowrank::faer::Scale(0.7) - full(&updates[1]) * coto_lowrank::faer::Scale(1.2);
        for space in LOSSLESS {
            let exact = lift(space, Linear::default()).merge(&parts).unwrap();
            prop_assert_eq!(exact.rank(), r1 + r2);
            prop_assert!(gap(&full(&exact), &expected) < 1e-12);
        }
        for space in LOSSLESS.into_iter().chain([Space::Shared { rank: r1 + r2 }]) {
            let there_and_back = lift(space, Hidden).merge(&parts).unwrap();
            let apart = gap(&full(&there_and_back), &expected);
            prop_assert!(apart < 1e-5, "{space:?} {apart}");
        }
        let (svd, error) = lift(Space::Core, Linear::default()).merge(&parts).unwrap().compressed(out.min(input)).unwrap();
        prop_assert!(error < 1e-7 && gap(&full(&svd), &expected) < 1e-7);
    }

    #[test]
    fn knots_is_the_rule_on_the_blocks_of_the_whole_decomposition(
        (out, input, r1, r2, seed) in (1usize..40, 1usize..40, 1usize..12, 1usize..12, any::<u64>())
    ) {
        let updates = [update(out, input, r1, seed), update(out, input, r2, seed ^ 1)];
        let weights = [1.0, 0.5];
        // The whole [τ₁ τ₂], as the authors have it.
        let side = Mat::from_fn(out, 2 * input, |i, j| full(&updates[j / input])[(i, j % input)]);
        let svd = side.thin_svd().unwrap();
        let s = svd.S().column_vector();
        let kept = s.iter().filter(|&&value| value > 1e-8 * s[0]).count();
        let blocks: Vec<Weighted> = (0..2).map(|k| Weighted {
            matrix: Matrix::from_fn(kept, input, |i, j| (s[i] * svd.V()[(k * input + j, i)]) as f32),
            weight: weights[k],
        }).collect();
        let expected = svd.U().subcols(0, kept) * Squares.merge(&blocks, 5).unwrap().to_f64();
        let found = lift(Space::Knots, Squares).merge(&parts(&updates, &weights)).unwrap();
        prop_assert!(found.rank() <= r1 + r2);
        let apart = gap(&full(&found), &expected);
        prop_assert!(apart < 1e-4, "{apart}");
    }

    #[test]
    fn core_is_the_rule_on_the_cores_of_the_whole_decompositions(
        (out, input, r1, r2, seed) in (24usize..40, 24usize..40, 1usize..12, 1usize..12, any::<u64>())
    ) {
        let updates = [update(out, input, r1, seed), update(out, input, r2, seed ^ 1)];
        let weights = [1.0, 0.5];
        let stack = Mat::from_fn(r1 + r2, input, |i, j| if i < r1 { updates[0].a()[(i, j)] } else { updates[1].a()[(i - r1, j)] });
        let side = Mat::from_fn(out, r1 + r2, |i, j| if j < r1 { updates[0].b()[(i, j)] } else { updates[1].b()[(i, j - r1)] });
        let (stack, side) = (stack.thin_svd().unwrap(), side.thin_svd().unwrap());
        let cores: Vec<Weighted> = updates.iter().zip(weights).map(|(update, weight)| Weighted {
            matrix: Matrix::rounded((side.U().transpose() * full(update) * stack.V()).as_ref()),
            weight,
        }).collect();
        let merged = Squares.merge(&cores, 5).unwrap().to_f64();
        let expected = side.U() * merged * stack.V().transpose();
        let found = lift(Space::Core, Squares).merge(&parts(&updates, &weights)).unwrap();
        let apart = gap(&full(&found), &expected);
        prop_assert!(apart < 1e-4, "{apart}");
    }

    #[test]
    fn shared_bases_are_the_largest_directions_of_both_sides(
        (rank, seed) in (1usize..12, any::<u64>())
    ) {
        let updates = [update(30, 20, 5, seed), update(30, 20, 4, seed ^ 1)];
        let weights = [0.5, 0.5];
        let wide = Mat::from_fn(30, 40, |i, j| full(&updates[j / 20])[(i, j % 20)]);
        let tall = Mat::from_fn(60, 20, |i, j| full(&updates[i / 30])[(i % 30, j)]);
        let (wide, tall) = (wide.thin_svd().unwrap(), tall.thin_svd().unwrap());
        let (u, v) = (wide.U().subcols(0, rank.min(9)), tall.V().subcols(0, rank.min(9)));
        let mean = (full(&updates[0]) + full(&updates[1])) * coto_lowrank::faer::Scale(0.5);
        let expected = u * (u.transpose() * mean * v) * v.transpose();
        let found = lift(Space::Shared { rank }, Linear::default()).merge(&parts(&updates, &weights)).unwrap();
        prop_assert!(found.rank() <= rank);
        let apart = gap(&full(&found), &expected);
        prop_assert!(apart < 1e-5, "{apart}");
    }
}

#[test]
fn the_entries_of_the_update_are_what_the_rule_sees() {
    for (out, input) in [(7, 12), (12, 7)] {
        let updates = [
            update(out, input, 2, 1),
            update(out, input, 3, 2),
            update(out, input, 1, 3),
        ];
        let weights = [1.0, 2.0, -1.0];
        let seen: Vec<Weighted> = updates
            .iter()
            .zip(weights)
            .map(|(update, weight)| Weighted {
                matrix: update.dense(),
                weight,
            })
            .collect();
        let expected = Median.merge(&seen, 0).unwrap().to_f64();
        let found = lift(Space::Delta, Median)
            .merge(&parts(&updates, &weights))
            .unwrap();
        assert_eq!(found.rank(), 7);
        assert!(gap(&full(&found), &expected) < 1e-12);
    }
}

#[test]
fn fusion_adds_factors_and_so_has_cross_terms() {
    let updates = [update(6, 5, 2, 1), update(6, 5, 2, 2)];
    let merged = lift(Space::Factors, Linear::default())
        .merge(&parts(&updates, &[0.5, 0.5]))
        .unwrap();
    let half = coto_lowrank::faer::Scale(0.5);
    let a = updates[0].a() * half + updates[1].a() * half;
    let b = updates[0].b() * half + updates[1].b() * half;
    assert!(gap(&full(&merged), &(b * a)) < 1e-6);
}

#[test]
fn an_adapter_without_the_module_is_an_update_of_zeros() {
    let own = update(9, 8, 3, 1);
    let zeros = LowRank::new(Mat::zeros(3, 8), Mat::zeros(9, 3)).unwrap();
    let weights = [1.0, 2.0, 3.0];
    let all = parts(&[own.clone(), own.clone(), zeros], &weights);
    let mut fewer = parts(&[own.clone(), own.clone()], &weights);
    for space in [
        Space::Factors,
        Space::Delta,
        Space::Knots,
        Space::Core,
        Space::Shared { rank: 3 },
    ] {
        let rules: [Arc<dyn Rule>; 3] = [Arc::new(mean()), Arc::new(Hidden), Arc::new(Median)];
        for rule in rules {
            let method = InSpace { space, rule };
            let [one, two] = [&all, &fewer].map(|parts| full(&method.merge(parts).unwrap()));
            assert!(gap(&one, &two) < 1e-6, "{method:?}");
        }
    }
    fewer.parts.remove(0);
    let mean = lift(Space::Core, mean()).merge(&fewer).unwrap();
    assert!(
        gap(
            &full(&mean),
            &(full(&own) * coto_lowrank::faer::Scale(2.0 / 6.0))
        ) < 1e-12
    );
}

#[test]
fn updates_of_zeros_merge_in_every_space() {
    let zeros = LowRank::new(noise(2, 5, 1), Mat::zeros(4, 2)).unwrap();
    let weights = [1.0, 1.0];
    let parts = parts(&[zeros.clone(), zeros], &weights);
    for space in [
        Space::Factors,
        Space::Delta,
        Space::Knots,
        Space::Core,
        Space::Shared { rank: 2 },
    ] {
        assert_eq!(
            lift(space, Agreeing).merge(&parts).unwrap().norm(),
            0.0,
            "{space:?}"
        );
    }
}

#[test]
fn what_a_space_cannot_do_is_refused() {
    let updates = [update(6, 5, 2, 1), update(6, 5, 3, 2)];
    let weights = [0.5, -0.5];
    let parts = parts(&updates, &weights);
    let refused = |space, rule: Arc<dyn Rule>| {
        InSpace { space, rule }
            .merge(&parts)
            .unwrap_err()
            .to_string()
    };
    let error = refused(Space::Factors, Arc::new(Median));
    assert!(
        error.contains("`layers.0.query`") && error.contains("2 and 3"),
        "{error}"
    );
    let error = refused(Space::Shared { rank: 0 }, Arc::new(Median));
    assert!(error.contains("rank 0"), "{error}");
    let error = refused(Space::Core, Arc::new(mean()));
    assert!(
        error.contains("`layers.0.query`") && error.contains("sum to 0"),
        "{error}"
    );

    #[derive(Debug)]
    struct Turns;
    impl Rule for Turns {
        fn merge(&self, parts: &[Weighted], _seed: u64) -> Result<Matrix, Error> {
            Ok(parts[0].matrix.transposed())
        }
    }
    let error = refused(Space::Delta, Arc::new(Turns));
    assert!(
        error.contains("Turns") && error.contains("sizes"),
        "{error}"
    );
}
