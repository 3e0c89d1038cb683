use coto_coalition::stream_at;

use crate::order::{cut, shuffle, shuffled};

/// Packs samples into rows of at most `capacity` tokens, first fit: each sample of `order`, an index into `lengths`, goes into
/// the first row that has room for it. Returns the rows, each with its samples in the order they came.
///
/// A sample longer than `capacity` has a row of its own.
///
/// # Panics
/// If an index is outside of `lengths`.
pub fn pack(lengths: &[usize], capacity: usize, order: &[usize]) -> Vec<Vec<usize>> {
    let mut rows: Vec<Vec<usize>> = Vec::new();
    let mut room = Room::new(order.len(), capacity);
    for &sample in order {
        let length = lengths[sample].min(capacity);
        let row = room.take(length);
        if row == rows.len() {
            rows.push(Vec::new());
        }
        rows[row].push(sample);
    }
    rows
}

/// The batches of one epoch of training on packed rows, as indices into `lengths`: each index once, first-fit in rows of
/// `capacity` tokens, with `rows_per_batch` rows a batch but for one that may have fewer.
///
/// Samples are shuffled, packed in that order, and the rows are shuffled. It is a pure function of the arguments, so a resumed
/// run derives it again in place of saving it.
///
/// # Panics
/// If `rows_per_batch` is 0.
pub fn packed_batches(
    lengths: &[usize],
    capacity: usize,
    rows_per_batch: usize,
    seed: u64,
    epoch: u64,
) -> Vec<Vec<Vec<usize>>> {
    let mut stream = stream_at(seed, "order", epoch);
    let order = shuffled(lengths.len(), &mut stream);
    let mut rows = pack(lengths, capacity, &order);
    shuffle(&mut rows, &mut stream);
    cut(&rows, rows_per_batch)
}

/// The room that is left in each of many rows, as a tree whose nodes have the larger room of the two below.
struct Room {
    tree: Vec<usize>,
    leaves: usize,
}

impl Room {
    fn new(rows: usize, capacity: usize) -> Self {
        let leaves = rows.next_power_of_two();
        Self {
            tree: vec![capacity; 2 * leaves],
            leaves,
        }
    }

    /// The first row with that much room, which then has less. There are as many rows as samples, so one always has.
    fn take(&mut self, length: usize) -> usize {
        let mut node = 1;
        while node < self.leaves {
            node = 2 * node + usize::from(self.tree[2 * node] < length);
        }
        let row = node - self.leaves;
        self.tree[node] -= length;
        while node > 1 {
            node /= 2;
            self.tree[node] = self.tree[2 * node].max(self.tree[2 * node + 1]);
        }
        row
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// First fit as its definition has it.
    fn first_fit(lengths: &[usize], capacity: usize, order: &[usize]) -> Vec<Vec<usize>> {
        let mut rows: Vec<Vec<usize>> = Vec::new();
        for &sample in order {
            let used = |row: &Vec<usize>| row.iter().map(|&other| lengths[other]).sum::<usize>();
            match rows
                .iter_mut()
                .find(|row| used(row) + lengths[sample] <= capacity)
            {
                Some(row) => row.push(sample),
                None => rows.push(vec![sample]),
            }
        }
        rows
    }

    proptest! {
        #[test]
        fn packing_is_first_fit(
            lengths in prop::collection::vec(1usize..40, 0..120),
            capacity in 40usize..100,
            seed: u64,
        ) {
            let order = shuffled(lengths.len(), &mut stream_at(seed, "order", 0));
            prop_assert_eq!(pack(&lengths, capacity, &order), first_fit(&lengths, capacity, &order));
        }

        #[test]
        fn every_sample_comes_exactly_once_and_no_row_overflows(
            lengths in prop::collection::vec(0usize..40, 0..300),
            capacity in 40usize..100,
            rows_per_batch in 1usize..5,
            seed: u64,
            epoch: u64,
        ) {
            let batches = packed_batches(&lengths, capacity, rows_per_batch, seed, epoch);
            let rows = batches.concat();
            let used = |row: &Vec<usize>| row.iter().map(|&sample| lengths[sample]).sum::<usize>();
            prop_assert!(rows.iter().all(|row| !row.is_empty() && used(row) <= capacity));
            let mut seen = rows.concat();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..lengths.len()).collect::<Vec<_>>());
            let short = batches.iter().filter(|batch| batch.len() < rows_per_batch).count();
            prop_assert!(short == usize::from(rows.len() % rows_per_batch > 0));
            prop_assert_eq!(batches, packed_batches(&lengths, capacity, rows_per_batch, seed, epoch));
        }
    }

    #[test]
    fn epochs_and_seeds_differ() {
        let lengths: Vec<usize> = (0..100).map(|i| 1 + i * 7 % 31).collect();
        let first = packed_batches(&lengths, 64, 2, 1, 0);
        assert_ne!(first, packed_batches(&lengths, 64, 2, 1, 1));
        assert_ne!(first, packed_batches(&lengths, 64, 2, 2, 0));
    }

    #[test]
    fn packing_leaves_little_empty() {
        let lengths: Vec<usize> = (0..3200).map(|i| 5 + i * i % 97).collect();
        let rows = packed_batches(&lengths, 512, 1, 3, 0).len();
        assert!(lengths.iter().sum::<usize>() * 100 > rows * 512 * 97);
    }

    #[test]
    fn a_sample_that_is_too_long_has_a_row_of_its_own() {
        assert_eq!(pack(&[3, 9, 1], 4, &[0, 1, 2]), [vec![0, 2], vec![1]]);
        assert_eq!(pack(&[3, 1], 4, &[]), Vec::<Vec<usize>>::new());
    }
}
