use coto_lowrank::LowRank;
use coto_lowrank::faer::{Mat, Scale};
use coto_merge::{Lego, Method};
use proptest::prelude::*;

use super::{full, gap, noise, parts, update};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn one_adapter_is_reproduced((out, input, rank, seed) in (1usize..80, 1usize..80, 1usize..65, any::<u64>())) {
        let own = update(out, input, rank, seed);
        for lego in [Lego { rank: None }, Lego { rank: Some(rank) }] {
            let merged = lego.merge(&parts(std::slice::from_ref(&own), &[1.0])).unwrap();
            prop_assert!(gap(&full(&merged), &full(&own)) < 1e-10);
        }
    }

    #[test]
    fn copies_with_terms_in_another_order_with_other_signs_and_scales_are_found_again(
        (rank, seed) in (1usize..12, any::<u64>())
    ) {
        let own = update(40, 30, rank, seed);
        // Term k of the copy is term rank - 1 - k of the adapter, by -3 and -1/3.
        let turn = |by: f64| Mat::from_fn(rank, rank, |i, j| if i + j + 1 == rank { by } else { 0.0 });
        let copy = LowRank::new(turn(-3.0) * own.a(), own.b() * turn(-1.0 / 3.0)).unwrap();
        let merged = Lego { rank: None }.merge(&parts(&[own.clone(), copy], &[0.3, 0.9])).unwrap();
        prop_assert_eq!(merged.rank(), rank);
        let again = gap(&full(&merged), &full(&own));
        prop_assert!(again < 1e-9, "{again}");
    }
}

#[test]
fn a_cluster_keeps_the_mean_norm_and_the_whole_its_size() {
    // Two units at a right angle in A and equal in B, of one length: their mean is shorter, and is brought back to their length.
    let unit = |k: usize| {
        let a = Mat::from_fn(1, 2, |_, j| if j == k { 1.0 } else { 0.0 });
        LowRank::new(a, Mat::from_fn(1, 1, |_, _| 1.0)).unwrap()
    };
    let merged = Lego { rank: Some(1) }
        .merge(&parts(&[unit(0), unit(1)], &[1.0, 1.0]))
        .unwrap();
    // The mean of [1 0; 1] and [0 1; 1] is [½ ½; 1], of length √1.5; at length √2 the product is (2/1.5) · [½ ½].
    let expected = Mat::from_fn(1, 2, |_, _| 2.0 / 3.0);
    assert!(gap(&full(&merged), &expected) < 1e-12);
    // As many clusters as units: both terms whole, and the root of mean rank over clusters.
    let merged = Lego { rank: Some(9) }
        .merge(&parts(&[unit(0), unit(1)], &[1.0, 1.0]))
        .unwrap();
    let expected = Mat::from_fn(1, 2, |_, _| 0.5f64.sqrt());
    assert!(gap(&full(&merged), &expected) < 1e-12);
}

#[test]
fn the_same_seed_gives_the_same_clusters_and_ranks_may_differ() {
    let updates = [
        update(20, 30, 4, 1),
        update(20, 30, 7, 2),
        update(20, 30, 2, 3),
    ];
    let weights = [1.0, 1.0, 0.5];
    let merge = || {
        full(
            &Lego { rank: None }
                .merge(&parts(&updates, &weights))
                .unwrap(),
        )
    };
    assert_eq!(merge(), merge());
    let merged = Lego { rank: None }
        .merge(&parts(&updates, &weights))
        .unwrap();
    assert_eq!(merged.rank(), 7);
}

#[test]
fn zeros_are_merged_and_negative_weights_and_no_clusters_are_refused() {
    let zeros = LowRank::new(noise(3, 5, 1), Mat::zeros(4, 3)).unwrap();
    let merged = Lego { rank: None }
        .merge(&parts(&[zeros.clone(), zeros.clone()], &[1.0, 1.0]))
        .unwrap();
    assert_eq!(merged.norm(), 0.0);
    let own = update(4, 5, 3, 1);
    let merged = Lego { rank: Some(3) }
        .merge(&parts(&[own.clone(), zeros.clone()], &[1.0, 0.0]))
        .unwrap();
    assert!(gap(&full(&merged), &(full(&own) * Scale(1.0))) < 1e-10);
    let error = Lego { rank: None }
        .merge(&parts(std::slice::from_ref(&zeros), &[-1.0]))
        .unwrap_err();
    assert!(error.to_string().contains("-1"), "{error}");
    assert!(
        Lego { rank: Some(0) }
            .merge(&parts(&[zeros], &[1.0]))
            .is_err()
    );
}
