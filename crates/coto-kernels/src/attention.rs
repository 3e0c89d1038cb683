//! Scaled dot-product attention of all heads (Vaswani et al., arXiv 1706.03762): softmax(q kᵀ/√d) v.

use burn::tensor::{Bool, Tensor, activation};

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

#[cfg(feature = "flex")]
mod flex {
    use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
    use burn::backend::autodiff::grads::Gradients;
    use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
    use burn::backend::tensor::{BoolTensor, FloatTensor};
    use burn::backend::{Autodiff, Flex};
    use rayon::prelude::*;

    use crate::matrix::{Onto, View, product};
    use crate::memory::{dense, slice, tensor};
    use crate::simd::{exp, fold, sum2, vectorised};

    type Primitive = FloatTensor<Flex>;

    /// What both directions read.
    #[derive(Debug, Clone)]
    pub(crate) struct Inputs {
        qkv: [Primitive; 3],
        /// One byte a key, or a query and key, of each sample; or none at all.
        blocked: BoolTensor<Flex>,
        rows: usize,
        heads: usize,
    }

    /// One sample of them.
    struct Sample<'a> {
        qkv: [&'a [f32]; 3],
        blocked: Option<&'a [u8]>,
        queries: usize,
        keys: usize,
        heads: Heads,
    }

    /// How the columns are cut into heads.
    #[derive(Clone, Copy)]
    struct Heads {
        size: usize,
        queries: usize,
        keys: usize,
    }

    impl Inputs {
        fn new(qkv: [Primitive; 3], blocked: BoolTensor<Flex>, rows: usize, heads: usize) -> Self {
            Self {
                qkv: qkv.map(dense),
                blocked: blocked.to_contiguous(),
                rows,
                heads,
            }
        }

        /// Tokens in each sample, and numbers in each token, of the queries and of the keys.
        fn dims(&self) -> [[usize; 2]; 2] {
            [&self.qkv[0], &self.qkv[1]].map(|x| {
                let shape = x.layout().shape();
                [shape[0] / self.rows, shape[1]]
            })
        }

        fn sample(&self, row: usize) -> Sample<'_> {
            let [[queries, d], [keys, kv]] = self.dims();
            let layout = self.blocked.layout();
            let bytes = layout.num_elements() / self.rows;
            let size = d / self.heads;
            let [q, k, v] = self.qkv.each_ref().map(slice);
            Sample {
                qkv: [(q, queries * d), (k, keys * kv), (v, keys * kv)]
                    .map(|(x, len)| &x[row * len..(row + 1) * len]),
                blocked: (bytes > 0).then(|| {
                    let start = layout.start_offset() + row * bytes;
                    &self.blocked.storage::<u8>()[start..start + bytes]
                }),
                queries,
                keys,
                heads: Heads {
                    size,
                    queries: self.heads,
                    keys: kv / size,
                },
            }
        }
    }

    impl Heads {
        /// Where the columns of a query's head begin, and those of the key's that serves it.
        fn at(&self, head: usize) -> [usize; 2] {
            [head, head / (self.queries / self.keys)].map(|head| head * self.size)
        }

        /// The row strides of queries and keys.
        fn strides(&self) -> [usize; 2] {
            [self.queries, self.keys].map(|heads| heads * self.size)
        }
    }

    impl Sample<'_> {
        fn scale(&self) -> f32 {
            (self.heads.size as f32).sqrt().recip()
        }

        /// The columns of one head, of what is shaped like the queries.
        fn query<'a>(&self, x: &'a [f32], head: usize) -> View<'a> {
            let ([at, _], [stride, _]) = (self.heads.at(head), self.heads.strides());
            View::new(&x[at..], [self.queries, self.heads.size], [stride, 1])
        }

        /// The columns of the head that serves it, of what is shaped like the keys.
        fn key<'a>(&self, x: &'a [f32], head: usize) -> View<'a> {
            let ([_, at], [_, stride]) = (self.heads.at(head), self.heads.strides());
            View::new(&x[at..], [self.keys, self.heads.size], [stride, 1])
        }

        /// What is blocked for a query.
        #[inline(always)]
        fn row(&self, query: usize) -> Option<&[u8]> {
            let blocked = self.blocked?;
            Some(if blocked.len() == self.keys {
                blocked
            } else {
                &blocked[query * self.keys..(query + 1) * self.keys]
            })
        }

        /// What each query takes from each key, [queries, keys].
        fn weights(&self, head: usize, out: &mut [f32]) {
            let [q, k, _] = self.qkv;
            let (q, k) = (self.query(q, head), self.key(k, head));
            product((out, self.keys), Onto::Nothing, self.scale(), q, k.t());
            vectorised(
                #[inline(always)]
                || {
                    let rows = out.chunks_exact_mut(self.keys).enumerate();
                    rows.for_each(|(query, row)| softmax(row, self.row(query)));
                },
            );
        }

        fn forward(&self, weights: &mut [f32], out: &mut [f32]) {
            let [stride, _] = self.heads.strides();
            for head in 0..self.heads.queries {
                self.weights(head, weights);
                let v = self.key(self.qkv[2], head);
                let place = &mut out[self.heads.at(head)[0]..];
                let weights = View::rows(weights, self.keys);
                product((place, stride), Onto::Nothing, 1.0, weights, v);
            }
        }

        /// With P the weights and G the gradient: dv = Pᵀ G, dS = P ⊙ (G vᵀ - Σ), dq = s·dS k, dk = s·dSᵀ q; dk and dv
        /// of a head that serves several are sums, onto what is there.
        fn backward(&self, [p, s]: [&mut [f32]; 2], grad: &[f32], [dq, dk, dv]: [&mut [f32]; 3]) {
            let (keys, scale) = (self.keys, self.scale());
            let [q_stride, k_stride] = self.heads.strides();
            for head in 0..self.heads.queries {
                let [q_at, k_at] = self.heads.at(head);
                self.weights(head, p);
                let [q, k, v] = self.qkv;
                let (q, k, v) = (self.query(q, head), self.key(k, head), self.key(v, head));
                let grad = self.query(grad, head);
                let weights = View::rows(p, keys).t();
                product((&mut dv[k_at..], k_stride), Onto::Old, 1.0, weights, grad);
                product((s, keys), Onto::Nothing, 1.0, grad, v.t());
                vectorised(
                    #[inline(always)]
                    || {
                        let rows = s.chunks_exact_mut(keys).zip(p.chunks_exact(keys));
                        for (query, (s, p)) in rows.enumerate() {
                            let mean = sum2(s, p, |s, p| s * p);
                            s.iter_mut().zip(p).for_each(|(s, p)| *s = (*s - mean) * p);
                            // Where every key is blocked the weights are even, yet of no score.
                            mask(s, self.row(query), 0.0);
                        }
                    },
                );
                let s = View::rows(s, keys);
                product((&mut dq[q_at..], q_stride), Onto::Nothing, scale, s, k);
                product((&mut dk[k_at..], k_stride), Onto::Old, scale, s.t(), q);
            }
        }
    }

    #[inline(always)]
    fn mask(row: &mut [f32], blocked: Option<&[u8]>, value: f32) {
        if let Some(blocked) = blocked {
            let pairs = row.iter_mut().zip(blocked);
            pairs.for_each(|(x, &blocked)| *x = if blocked != 0 { value } else { *x });
        }
    }

    #[inline(always)]
    fn softmax(row: &mut [f32], blocked: Option<&[u8]>) {
        mask(row, blocked, f32::MIN);
        let largest = fold(row, f32::MIN, |a, b| if b > a { b } else { a });
        row.iter_mut().for_each(|x| *x = exp(*x - largest));
        let scale = fold(row, 0.0, |a, b| a + b).recip();
        row.iter_mut().for_each(|x| *x *= scale);
    }

    fn run(inputs: &Inputs) -> Primitive {
        let [[queries, d], [keys, _]] = inputs.dims();
        let tokens = inputs.rows * queries;
        let mut out = vec![0.0; tokens * d];
        if !out.is_empty() {
            out.par_chunks_mut(queries * d).enumerate().for_each_init(
                || vec![0.0; queries * keys],
                |weights, (row, out)| inputs.sample(row).forward(weights, out),
            );
        }
        tensor(out, [tokens, d])
    }

    pub(crate) fn forward(
        q: Primitive,
        k: Primitive,
        v: Primitive,
        blocked: BoolTensor<Flex>,
        rows: usize,
        heads: usize,
    ) -> Primitive {
        run(&Inputs::new([q, k, v], blocked, rows, heads))
    }

    fn backward(inputs: &Inputs, grad: Primitive) -> [Primitive; 3] {
        let [[queries, d], [keys, kv]] = inputs.dims();
        let grad = dense(grad);
        let shapes = [[queries, d], [keys, kv], [keys, kv]];
        let [mut dq, mut dk, mut dv] = shapes.map(|[n, d]| vec![0.0; inputs.rows * n * d]);
        let [q_len, k_len] = [queries * d, keys * kv].map(|len| len.max(1));
        let grads = dq
            .par_chunks_mut(q_len)
            .zip(dk.par_chunks_mut(k_len).zip(dv.par_chunks_mut(k_len)));
        let samples = grads.zip(slice(&grad).par_chunks(q_len)).enumerate();
        samples.for_each_init(
            || [(); 2].map(|()| vec![0.0; queries * keys]),
            |scratch, (row, ((dq, (dk, dv)), grad))| {
                let scratch = scratch.each_mut().map(Vec::as_mut_slice);
                inputs.sample(row).backward(scratch, grad, [dq, dk, dv]);
            },
        );
        let mut shapes = shapes.into_iter().map(|[n, d]| [inputs.rows * n, d]);
        [dq, dk, dv].map(|values| tensor(values, shapes.next().expect("three")))
    }

    #[derive(Debug)]
    struct Attention;

    impl Backward<Flex, 3> for Attention {
        type State = Inputs;

        fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
            let grad = grads.consume::<Flex>(&ops.node);
            let new = backward(&ops.state, grad);
            for (parent, grad) in ops.parents.into_iter().zip(new) {
                if let Some(parent) = parent {
                    grads.register::<Flex>(parent.id, grad);
                }
            }
        }
    }

    pub(crate) fn tracked<C: CheckpointStrategy>(
        q: FloatTensor<Autodiff<Flex, C>>,
        k: FloatTensor<Autodiff<Flex, C>>,
        v: FloatTensor<Autodiff<Flex, C>>,
        blocked: BoolTensor<Flex>,
        rows: usize,
        heads: usize,
    ) -> FloatTensor<Autodiff<Flex, C>> {
        let nodes = [q.node(), k.node(), v.node()];
        let prep = Attention.prepare::<C>(nodes).compute_bound().stateful();
        let qkv = [q, k, v].map(|tensor| tensor.into_primitive());
        let inputs = Inputs::new(qkv, blocked, rows, heads);
        let out = run(&inputs);
        match prep {
            OpsKind::Tracked(prep) => prep.finish(inputs, out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }
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
        let qkv = [(); 3].map(|()| random([6, 4]).mul_scalar(30.0));
        both(qkv.clone(), None, 2, 2);
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
