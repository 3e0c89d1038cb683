use coto_coalition::stream_at;
use serde::{Deserialize, Serialize};

use crate::dataset::Dataset;
use crate::error::Error;
use crate::order::shuffled;

/// How much of a data set to set apart: `200` examples or `0.1` of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Share {
    /// A number of examples.
    Count(usize),
    /// A fraction of the examples, between 0 and 1, rounded to the nearest number.
    Fraction(f64),
}

impl Share {
    /// The number of examples, if it leaves some on both sides.
    fn of(self, examples: usize) -> Result<usize, Error> {
        let (count, share) = match self {
            Share::Count(count) => (count, count.to_string()),
            Share::Fraction(part) => ((part * examples as f64).round() as usize, part.to_string()),
        };
        match count > 0 && count < examples {
            true => Ok(count),
            false => Err(Error::Share { share, examples }),
        }
    }
}

/// The indices of at most `per_class` random examples of each class, in order; `classes` names the class of each example,
/// all below `count`.
///
/// A class with fewer gives all it has, one without examples none. More examples a class under the same seed only add
/// to fewer.
pub fn few_shot(classes: &[usize], count: usize, per_class: usize, seed: u64) -> Vec<usize> {
    let members = members(classes, count);
    let quotas: Vec<usize> = members.iter().map(|of| of.len().min(per_class)).collect();
    let mut chosen = draw(&members, &quotas, seed, "few-shot");
    chosen.sort_unstable();
    chosen
}

/// Sets a random share of the examples apart, stratified: each class gives in proportion to its size, with the largest
/// remainders rounded up. `classes` names the class of each example, all below `count`. Returns the indices of the rest and of
/// the share, both in order.
///
/// # Errors
/// If the share or the rest would be empty.
pub fn split(
    classes: &[usize],
    count: usize,
    share: Share,
    seed: u64,
) -> Result<(Vec<usize>, Vec<usize>), Error> {
    let total = share.of(classes.len())?;
    let members = members(classes, count);
    let sizes: Vec<usize> = members.iter().map(Vec::len).collect();
    let mut held_out = vec![false; classes.len()];
    for index in draw(&members, &proportional(&sizes, total), seed, "split") {
        held_out[index] = true;
    }
    Ok((0..classes.len()).partition(|&index| !held_out[index]))
}

impl Dataset {
    /// At most `per_class` random examples of each class, as [`few_shot`] draws them.
    pub fn few_shot(&self, per_class: usize, seed: u64) -> Self {
        self.pick(&few_shot(
            &self.classes(),
            self.labels.len(),
            per_class,
            seed,
        ))
    }

    /// Sets a random share apart, as [`split`] does. Returns the rest and the share.
    ///
    /// # Errors
    /// If the share or the rest would be empty.
    pub fn split(&self, share: Share, seed: u64) -> Result<(Self, Self), Error> {
        let (rest, held_out) = split(&self.classes(), self.labels.len(), share, seed)?;
        Ok((self.pick(&rest), self.pick(&held_out)))
    }

    fn classes(&self) -> Vec<usize> {
        self.examples.iter().map(|example| example.label).collect()
    }

    fn pick(&self, indices: &[usize]) -> Self {
        Self {
            examples: indices
                .iter()
                .map(|&index| self.examples[index].clone())
                .collect(),
            labels: self.labels.clone(),
        }
    }
}

/// The examples of each class, in order.
fn members(classes: &[usize], count: usize) -> Vec<Vec<usize>> {
    let mut members = vec![Vec::new(); count];
    for (index, &class) in classes.iter().enumerate() {
        members[class].push(index);
    }
    members
}

/// The indices of `quotas[c]` random examples of each class c.
fn draw(members: &[Vec<usize>], quotas: &[usize], seed: u64, stream: &str) -> Vec<usize> {
    let mut drawn = Vec::new();
    for (class, (members, &quota)) in members.iter().zip(quotas).enumerate() {
        let order = shuffled(members.len(), &mut stream_at(seed, stream, class as u64));
        drawn.extend(order.into_iter().take(quota).map(|place| members[place]));
    }
    drawn
}

/// Shares `total` ≤ the sum of `counts` among classes by the method of largest remainders.
fn proportional(counts: &[usize], total: usize) -> Vec<usize> {
    let all: usize = counts.iter().sum();
    let exact = |class: usize| total as u128 * counts[class] as u128;
    let mut quotas: Vec<usize> = (0..counts.len())
        .map(|class| (exact(class) / all as u128) as usize)
        .collect();
    let mut classes: Vec<usize> = (0..counts.len()).collect();
    classes.sort_by_key(|&class| std::cmp::Reverse(exact(class) % all as u128));
    let missing = total - quotas.iter().sum::<usize>();
    for &class in &classes[..missing] {
        quotas[class] += 1;
    }
    quotas
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Example;

    fn dataset(labels: &[usize]) -> Dataset {
        let example = |(index, &label)| Example {
            text: format!("text {index}"),
            pair: None,
            label,
        };
        Dataset {
            examples: labels.iter().enumerate().map(example).collect(),
            labels: (0..4).map(|class| format!("class {class}")).collect(),
        }
    }

    fn numbers(data: &Dataset) -> Vec<usize> {
        data.examples
            .iter()
            .map(|example| example.text[5..].parse().unwrap())
            .collect()
    }

    proptest! {
        #[test]
        fn a_split_keeps_each_example_once_in_order_and_the_classes_in_proportion(
            labels in prop::collection::vec(0usize..4, 2..200),
            part in 0.0f64..1.0,
            seed: u64,
        ) {
            let data = dataset(&labels);
            let count = ((labels.len() as f64 * part) as usize).clamp(1, labels.len() - 1);
            let (rest, held_out) = data.split(Share::Count(count), seed).unwrap();
            prop_assert_eq!(held_out.examples.len(), count);
            prop_assert!(numbers(&rest).is_sorted() && numbers(&held_out).is_sorted());
            let mut all = [numbers(&rest), numbers(&held_out)].concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..labels.len()).collect::<Vec<_>>());
            for (&whole, &held) in data.class_counts().iter().zip(&held_out.class_counts()) {
                let exact = whole as f64 * count as f64 / labels.len() as f64;
                prop_assert!((held as f64 - exact).abs() < 1.0);
            }
            prop_assert_eq!(&data.split(Share::Count(count), seed).unwrap(), &(rest, held_out));
        }

        #[test]
        fn few_shot_takes_what_there_is_up_to_k_and_grows_with_k(
            labels in prop::collection::vec(0usize..4, 0..80),
            k in 0usize..12,
            seed: u64,
        ) {
            let data = dataset(&labels);
            let few = data.few_shot(k, seed);
            let wanted: Vec<usize> = data.class_counts().iter().map(|&count| count.min(k)).collect();
            prop_assert_eq!(few.class_counts(), wanted);
            prop_assert!(numbers(&few).is_sorted());
            let more = numbers(&data.few_shot(k + 1, seed));
            prop_assert!(numbers(&few).iter().all(|number| more.contains(number)));
        }
    }

    #[test]
    fn another_seed_draws_another_sample() {
        let data = dataset(&[0; 50]);
        assert_ne!(data.few_shot(5, 1), data.few_shot(5, 2));
        assert_ne!(
            data.split(Share::Count(5), 1).unwrap(),
            data.split(Share::Count(5), 2).unwrap()
        );
    }

    #[test]
    fn a_share_that_leaves_nothing_is_refused() {
        let data = dataset(&[0, 1, 0, 1]);
        for share in [
            Share::Count(0),
            Share::Count(4),
            Share::Fraction(0.05),
            Share::Fraction(f64::NAN),
            Share::Fraction(2.0),
        ] {
            let message = data.split(share, 0).unwrap_err().to_string();
            assert!(message.contains("4 examples"), "{message}");
        }
        assert_eq!(
            data.split(Share::Fraction(0.5), 0)
                .unwrap()
                .1
                .class_counts(),
            [1, 1, 0, 0]
        );
    }

    #[test]
    fn a_share_is_written_as_a_count_or_a_fraction() {
        assert_eq!(
            serde_json::from_str::<Share>("200").unwrap(),
            Share::Count(200)
        );
        assert_eq!(
            serde_json::from_str::<Share>("0.1").unwrap(),
            Share::Fraction(0.1)
        );
    }
}
