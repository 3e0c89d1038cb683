//! The cross-entropy of a linear head over a vocabulary, without the logits of more than some rows at a time.

use burn::tensor::{Int, Tensor, TensorData, activation};

use crate::{Weight, linear};

#[cfg(feature = "flex")]
mod flex;
#[cfg(feature = "flex")]
pub(crate) use flex::{forward, tracked};

/// Logits in memory at a time, about 32 MiB: at most half as many again.
const LOGITS: usize = 8 << 20;

/// The sum over the rows of -log softmax(states W)\[target\]; differentiable in the states alone.
///
/// # Shapes
/// `states` [n, d], `weight` [d, vocabulary], `targets` n → (1).
///
/// # Panics
/// If there are not as many targets as rows, or one is not of the vocabulary.
pub fn cross_entropy(states: Tensor<2>, weight: &Weight, targets: &[u32]) -> Tensor<1> {
    check(&states, weight, targets);
    if targets.is_empty() {
        return states.sum();
    }
    let losses = losses(states, weight, targets);
    losses.slice([0..targets.len(), 0..1]).sum()
}

/// What [`cross_entropy`] sums: the loss of each row, and whether its target has the largest logit.
///
/// # Shapes
/// `states` [n, d], `weight` [d, vocabulary], `targets` n → n.
///
/// # Panics
/// As [`cross_entropy`].
pub fn token_losses(states: Tensor<2>, weight: &Weight, targets: &[u32]) -> Vec<(f32, bool)> {
    check(&states, weight, targets);
    let (states, d) = (states.clone().without_autodiff(), states.dims()[1]);
    let each = rows_at_a_time(targets.len(), weight.dims()[1]);
    let chunk = |(i, targets): (usize, &[u32])| {
        let rows = i * each..i * each + targets.len();
        let pairs = losses(states.clone().slice([rows, 0..d]), weight, targets);
        let pairs: Vec<f32> = pairs.into_data().iter().collect();
        let pairs = pairs.chunks_exact(2).map(|pair| (pair[0], pair[1] > 0.5));
        pairs.collect::<Vec<_>>()
    };
    targets.chunks(each).enumerate().flat_map(chunk).collect()
}

/// Even shares of the rows, as the matrix is gone through once for each: a small rest would cost as much as the others.
fn rows_at_a_time(rows: usize, vocabulary: usize) -> usize {
    let shares = (rows * vocabulary + LOGITS / 2) / LOGITS;
    rows.div_ceil(shares.max(1)).max(1)
}

fn check(states: &Tensor<2>, weight: &Weight, targets: &[u32]) {
    let (rows, vocabulary) = (states.dims()[0], weight.dims()[1]);
    assert_eq!(rows, targets.len(), "rows and targets");
    let largest = targets.iter().max().copied().unwrap_or(0);
    assert!(
        targets.is_empty() || (largest as usize) < vocabulary,
        "target {largest} of a vocabulary of {vocabulary}"
    );
}

/// Each row's loss, and one where its target has the largest logit or else zero: [n, 2].
fn losses(states: Tensor<2>, weight: &Weight, targets: &[u32]) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if crate::fast(&states) && weight.fast() {
        use crate::ops::KernelOps;
        use burn::backend::Dispatch;
        let (states, weight) = (states.into_dispatch(), weight.matrix());
        return Tensor::from_dispatch(Dispatch::losses(states, weight, targets.to_vec()));
    }
    plain(states, weight, targets)
}

fn plain(states: Tensor<2>, weight: &Weight, targets: &[u32]) -> Tensor<2> {
    let device = states.device().without_autodiff();
    let targets: Vec<i32> = targets.iter().map(|&target| target as i32).collect();
    let shape = [targets.len(), 1];
    let targets = Tensor::<2, Int>::from_data(TensorData::new(targets, shape), &device);
    let logits = linear(states, weight, None);
    let constant = logits.clone().without_autodiff();
    let found = constant.clone().gather(1, targets.clone());
    let hits = found.equal(constant.max_dim(1)).float();
    let losses = activation::log_softmax(logits, 1).gather(1, targets).neg();
    Tensor::cat(vec![losses, hits], 1)
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::Scheme;
    use crate::testing::{agree, quantised, random};
    use burn::tensor::Device;

    fn targets(n: usize, vocabulary: usize) -> Vec<u32> {
        (0..n).map(|i| (i * 7919 % vocabulary) as u32).collect()
    }

    fn both(states: Tensor<2>, weight: &Weight) {
        let targets = targets(states.dims()[0], weight.dims()[1]);
        let [ours, theirs] = [losses, plain].map(|form| {
            let targets = targets.clone();
            // Hits have no gradient, losses one of their own each.
            move |[x]: [Tensor<2>; 1]| form(x, weight, &targets).slice([0..targets.len(), 0..1])
        });
        agree([states.clone()], ours, theirs, 2e-5);
        let expected = plain(states.clone(), weight, &targets).into_data();
        let expected = expected.as_slice::<f32>().unwrap().chunks_exact(2);
        let pairs = token_losses(states.clone().autodiff().require_grad(), weight, &targets);
        for (expected, (loss, hit)) in expected.zip(&pairs) {
            assert!((expected[0] - loss).abs() < 1e-4 * expected[0].max(1.0));
            assert_eq!(expected[1] == 1.0, *hit);
        }
        let sum: f32 = cross_entropy(states, weight, &targets).into_scalar();
        let expected: f32 = pairs.iter().map(|(loss, _)| loss).sum();
        assert!(
            (sum - expected).abs() <= 1e-5 * expected.abs(),
            "{sum} {expected}"
        );
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(40))]
        #[test]
        fn losses_and_their_gradients_are_the_primitive_ones(
            n in 1usize..60, d in 1usize..40, vocabulary in 1usize..300,
        ) {
            let weight = random([vocabulary, d]).transpose().into();
            both(random([n, d]), &weight);
            both(random([d, n]).transpose(), &weight);
            both(random([n, d]).mul_scalar(30.0), &quantised(Scheme::Q8, [d, vocabulary]));
        }
    }

    #[test]
    fn rows_that_do_not_fit_at_once_are_taken_in_turns() {
        let vocabulary = LOGITS / 150;
        both(random([350, 4]), &random([4, vocabulary]).into());
        both(random([301, 4]), &quantised(Scheme::Q4, [4, vocabulary]));
    }

    #[test]
    fn no_rows_cost_nothing() {
        let weight = random([4, 3]).into();
        let states = Tensor::<2>::empty([0, 4], &Device::flex())
            .autodiff()
            .require_grad();
        let loss = cross_entropy(states.clone(), &weight, &[]);
        assert_eq!(loss.clone().into_scalar::<f32>(), 0.0);
        let grads = loss.backward();
        assert_eq!(states.grad(&grads).map(|grad| grad.dims()), Some([0, 4]));
        assert!(token_losses(states, &weight, &[]).is_empty());
    }

    #[test]
    #[should_panic(expected = "target 3 of a vocabulary of 3")]
    fn targets_are_of_the_vocabulary() {
        cross_entropy(random([2, 4]), &random([4, 3]).into(), &[1, 3]);
    }
}
