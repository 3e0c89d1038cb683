use coto_coalition::stream_at;
use rand::Rng;

/// Batches this many at a time are sorted by length: enough that neighbours are alike, few enough that the order stays random.
const WINDOW: usize = 50;

/// The batches of one epoch of training, as indices into `lengths`: each index once, in batches of `batch_size` but for one that
/// may be shorter.
///
/// The order is shuffled, then sorted by length within windows of 50 batches so that a batch needs little padding, then the
/// batches are shuffled. It is a pure function of the arguments, so a resumed run derives it again in place of saving it.
///
/// # Panics
/// If `batch_size` is 0.
pub fn batches(lengths: &[usize], batch_size: usize, seed: u64, epoch: u64) -> Vec<Vec<usize>> {
    let mut stream = stream_at(seed, "order", epoch);
    let mut order = shuffled(lengths.len(), &mut stream);
    for window in order.chunks_mut(batch_size.saturating_mul(WINDOW)) {
        window.sort_by_key(|&index| lengths[index]);
    }
    let mut batches = cut(&order, batch_size);
    shuffle(&mut batches, &mut stream);
    batches
}

/// The batches of an evaluation, as indices into `lengths`: shortest first, equal lengths in their own order.
///
/// # Panics
/// If `batch_size` is 0.
pub fn in_order(lengths: &[usize], batch_size: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&index| lengths[index]);
    cut(&order, batch_size)
}

pub(crate) fn cut<T: Clone>(order: &[T], batch_size: usize) -> Vec<Vec<T>> {
    order.chunks(batch_size).map(<[T]>::to_vec).collect()
}

pub(crate) fn shuffled(length: usize, stream: &mut impl Rng) -> Vec<usize> {
    let mut order: Vec<usize> = (0..length).collect();
    shuffle(&mut order, stream);
    order
}

/// The shuffle of Fisher and Yates. A run is identified by its seed, so its order is not left to a library whose shuffle may
/// change with its version.
pub(crate) fn shuffle<T>(items: &mut [T], stream: &mut impl Rng) {
    for last in (1..items.len()).rev() {
        let drawn = (u128::from(stream.next_u64()) * (last as u128 + 1)) >> 64;
        items.swap(last, drawn as usize);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cells(lengths: &[usize], batches: &[Vec<usize>]) -> usize {
        let longest =
            |batch: &Vec<usize>| batch.iter().map(|&index| lengths[index]).max().unwrap_or(0);
        batches
            .iter()
            .map(|batch| longest(batch) * batch.len())
            .sum()
    }

    fn covers_once(count: usize, batch_size: usize, batches: &[Vec<usize>]) -> bool {
        let mut seen: Vec<usize> = batches.concat();
        seen.sort_unstable();
        let short = batches
            .iter()
            .filter(|batch| batch.len() < batch_size)
            .count();
        let sizes = batches
            .iter()
            .all(|batch| !batch.is_empty() && batch.len() <= batch_size);
        seen == (0..count).collect::<Vec<_>>()
            && sizes
            && short == usize::from(!count.is_multiple_of(batch_size))
    }

    proptest! {
        #[test]
        fn every_example_comes_exactly_once(
            lengths in prop::collection::vec(1usize..60, 0..400),
            batch_size in 1usize..9,
            seed: u64,
            epoch: u64,
        ) {
            prop_assert!(covers_once(lengths.len(), batch_size, &batches(&lengths, batch_size, seed, epoch)));
            prop_assert!(covers_once(lengths.len(), batch_size, &in_order(&lengths, batch_size)));
        }

        #[test]
        fn full_batches_are_never_padded_more_than_without_buckets(
            mut lengths in prop::collection::vec(1usize..60, 1..900),
            batch_size in 1usize..9,
            seed: u64,
        ) {
            lengths.truncate(lengths.len() / batch_size * batch_size);
            let plain = cut(&shuffled(lengths.len(), &mut stream_at(seed, "order", 0)), batch_size);
            let bucketed = cells(&lengths, &batches(&lengths, batch_size, seed, 0));
            prop_assert!(bucketed <= cells(&lengths, &plain));
            prop_assert!(cells(&lengths, &in_order(&lengths, batch_size)) <= bucketed);
        }

        #[test]
        fn the_same_arguments_give_the_same_batches(
            lengths in prop::collection::vec(1usize..60, 0..200),
            seed: u64,
            epoch: u64,
        ) {
            prop_assert_eq!(batches(&lengths, 4, seed, epoch), batches(&lengths, 4, seed, epoch));
        }
    }

    #[test]
    fn epochs_and_seeds_differ() {
        let lengths: Vec<usize> = (0..100).map(|i| i * 7 % 31).collect();
        let first = batches(&lengths, 4, 1, 0);
        assert_ne!(first, batches(&lengths, 4, 1, 1));
        assert_ne!(first, batches(&lengths, 4, 2, 0));
    }

    #[test]
    fn buckets_save_most_of_the_padding_of_uneven_texts() {
        let lengths: Vec<usize> = (0..3200).map(|i| 5 + i * i % 97).collect();
        let used: usize = lengths.iter().sum();
        let waste = |batches: &[Vec<usize>]| cells(&lengths, batches) - used;
        let plain = cut(&shuffled(lengths.len(), &mut stream_at(3, "order", 0)), 32);
        assert!(waste(&batches(&lengths, 32, 3, 0)) * 10 < waste(&plain));
    }

    #[test]
    fn evaluation_starts_with_the_shortest_and_keeps_ties_in_order() {
        assert_eq!(
            in_order(&[3, 1, 3, 1, 2], 2),
            [vec![1, 3], vec![4, 0], vec![2]]
        );
    }

    #[test]
    fn the_shuffle_reaches_every_permutation_about_equally() {
        let mut counts = std::collections::HashMap::new();
        for index in 0..6000 {
            *counts
                .entry(shuffled(3, &mut stream_at(5, "order", index)))
                .or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 6);
        assert!(counts.values().all(|&count| (850..1150).contains(&count)));
    }
}
