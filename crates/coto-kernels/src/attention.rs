//! Scaled dot-product attention of all heads (Vaswani et al., arXiv 1706.03762): softmax(q kᵀ/√d) v.

use burn::tensor::{Bool, Tensor, activation};

#[cfg(feature = "flex")]
mod flex;
#[cfg(feature = "flex")]
pub(crate) use flex::{forward, tracked};

/// Attention of `rows` samples, each head by itself; differentiable in q, k and v.
///
/// The CPU form keeps one head's scores in memory, forwards and backwards, never those of the batch: they are computed again
/// for the gradient.
///
/// Keys and values may have fewer heads, each serving as many of the queries' (Ainslie et al., arXiv 2305.13245), and
/// another width.
///
/// # Shapes
/// `q` [rows · queries, d], where head h has the columns h·d/heads to (h+1)·d/heads; `k`, `v` [rows · keys, d'], of heads as
/// large; `blocked` [rows, 1, 1, keys] or [rows, 1, queries, keys], true where must not be looked → [rows · queries, d].
///
/// # Panics
/// If a dimension is no multiple of what it is to be cut into.
pub fn attention(
    [q, k, v]: [Tensor<2>; 3],
    blocked: Option<Tensor<4, Bool>>,
    rows: usize,
    heads: usize,
) -> Tensor<2> {
    let ([tokens, d], [keys, kv]) = (q.dims(), k.dims());
    assert!(
        rows > 0 && tokens.is_multiple_of(rows) && heads > 0 && d.is_multiple_of(heads),
        "{tokens} tokens of {d} numbers into {rows} samples and {heads} heads"
    );
    let size = (d / heads).max(1);
    assert!(
        keys.is_multiple_of(rows)
            && kv.is_multiple_of(size)
            && heads.is_multiple_of((kv / size).max(1)),
        "{keys} keys of {kv} numbers for {rows} samples and {heads} heads of {size}"
    );
    #[cfg(feature = "flex")]
    if [&q, &k, &v].into_iter().all(crate::fast) {
        use crate::ops::KernelOps;
        use burn::backend::Dispatch;
        let none = || Tensor::empty([0, 1, 1, 0], &q.device().without_autodiff());
        let blocked = blocked.unwrap_or_else(none).into_dispatch();
        let [q, k, v] = [q, k, v].map(Tensor::into_dispatch);
        return Tensor::from_dispatch(Dispatch::fused_attention(q, k, v, blocked, rows, heads));
    }
    plain([q, k, v], blocked, rows, heads)
}

fn plain(
    [q, k, v]: [Tensor<2>; 3],
    blocked: Option<Tensor<4, Bool>>,
    rows: usize,
    heads: usize,
) -> Tensor<2> {
    let [tokens, d] = q.dims();
    let (width, size) = (tokens / rows, d / heads);
    let split = |x: Tensor<2>| {
        let [tokens, d] = x.dims();
        let (width, here) = (tokens / rows, d / size);
        let x = x
            .reshape([rows, width, here, 1, size])
            .permute([0, 2, 3, 1, 4]);
        let each = x.expand([rows, here, heads / here, width, size]);
        each.reshape([rows, heads, width, size])
    };
    let keys = k.dims()[0] / rows;
    let scale = (d as f64 / heads as f64).sqrt().recip();
    let scores = split(q.mul_scalar(scale)).matmul(split(k).swap_dims(2, 3));
    let scores = match blocked {
        Some(blocked) => scores.mask_fill(blocked.expand([rows, heads, width, keys]), f32::MIN),
        None => scores,
    };
    let mixed = activation::softmax(scores, 3).matmul(split(v));
    mixed.swap_dims(1, 2).reshape([tokens, d])
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::testing::{agree, random};
    use burn::tensor::{Device, TensorData};

    fn both(qkv: [Tensor<2>; 3], blocked: Option<Tensor<4, Bool>>, rows: usize, heads: usize) {
        let [ours, theirs] = [attention, plain].map(|form| {
            let blocked = blocked.clone();
            move |qkv: [Tensor<2>; 3]| form(qkv, blocked.clone(), rows, heads)
        });
        agree(qkv, ours, theirs, 2e-5);
    }

    fn lengths(lengths: &[usize], width: usize) -> Tensor<4, Bool> {
        let rows = lengths.iter();
        let blocked = rows.flat_map(|&length| (0..width).map(move |i| i >= length));
        let shape = [lengths.len(), 1, 1, width];
        let blocked: Vec<bool> = blocked.collect();
        Tensor::from_data(TensorData::new(blocked, shape), &Device::flex())
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(40))]
        #[test]
        fn attention_and_its_gradients_are_the_primitive_ones(
            kept in proptest::collection::vec(0usize..40, 1..5), heads in 1usize..5, size in 1usize..20,
        ) {
            let (rows, width) = (kept.len(), kept.iter().max().unwrap() + 1);
            let (tokens, d) = (rows * width, heads * size);
            let qkv = || [(); 3].map(|()| random([tokens, d]));
            both(qkv(), None, rows, heads);
            both(qkv(), Some(lengths(&kept, width)), rows, heads);
            let [q, k, v] = qkv();
            both([q, k.transpose().mul_scalar(1.0).transpose(), v], None, rows, heads);
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(40))]
        #[test]
        fn grouped_heads_and_masks_of_queries_and_keys_are_the_primitive_ones(
            rows in 1usize..4, queries in 1usize..12, more in 0usize..8,
            served in 1usize..4, groups in 1usize..3, size in 1usize..9,
        ) {
            let (keys, heads) = (queries + more, served * groups);
            let q = random([rows * queries, heads * size]);
            let [k, v] = [(); 2].map(|()| random([rows * keys, groups * size]));
            // Each query sees the keys up to its own place.
            let blocked = (0..rows * queries * keys).map(|i| i % keys > i / keys % queries + more);
            let blocked = TensorData::new(blocked.collect::<Vec<bool>>(), [rows, 1, queries, keys]);
            let blocked = Tensor::from_data(blocked, &Device::flex());
            both([q.clone(), k.clone(), v.clone()], None, rows, heads);
            both([q, k, v], Some(blocked), rows, heads);
        }
    }

    #[test]
    fn large_scores_and_numbers_that_are_none_come_through() {
        // Whole numbers and a head of four: scores of a hundred and more, and no rounding in them.
        let [q, k] = [(); 2].map(|()| random([6, 4]).mul_scalar(8.0).round());
        let qkv = [q, k, random([6, 4])];
        both(qkv.clone(), None, 2, 1);
        let [q, k, v] = qkv;
        let q = q.mask_fill(
            Tensor::<2, Bool>::from_data([[true]], &Device::flex()).expand([6, 4]),
            f32::NAN,
        );
        let mixed = attention([q, k, v], None, 2, 2).into_data();
        assert!(mixed.as_slice::<f32>().unwrap().iter().all(|x| x.is_nan()));
    }

    #[test]
    #[should_panic(expected = "5 tokens of 4 numbers into 2 samples")]
    fn samples_are_of_one_length() {
        let x = random([5, 4]);
        attention([x.clone(), x.clone(), x], None, 2, 2);
    }
}
