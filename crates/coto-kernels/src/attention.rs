//! Scaled dot-product attention of all heads (Vaswani et al., arXiv 1706.03762): softmax(q kᵀ/√d) v.

use burn::tensor::{Bool, Tensor, activation};

#[cfg(feature = "flex")]
pub(crate) use flex::{forward, tracked};

/// Attention of `rows` samples, each head by itself; differentiable in q, k and v.
///
/// The CPU form keeps one head's scores in memory, forwards and backwards, never those of the batch: they are computed again
/// for the gradient.
///
/// # Shapes
/// `q`, `k`, `v` [rows · width, d], where head h has the columns h·d/heads to (h+1)·d/heads; `blocked` [rows, 1, 1, width],
/// true where a key must not be looked at → [rows · width, d].
///
/// # Panics
/// If `rows` or `heads` does not divide its dimension.
pub fn attention(
    [q, k, v]: [Tensor<2>; 3],
    blocked: Option<Tensor<4, Bool>>,
    rows: usize,
    heads: usize,
) -> Tensor<2> {
    let [tokens, d] = q.dims();
    assert!(
        rows > 0 && tokens.is_multiple_of(rows) && heads > 0 && d.is_multiple_of(heads),
        "{tokens} tokens of {d} numbers into {rows} samples and {heads} heads"
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
    let width = tokens / rows;
    let split = |x: Tensor<2>| x.reshape([rows, width, heads, d / heads]).swap_dims(1, 2);
    let scale = (d as f64 / heads as f64).sqrt().recip();
    let scores = split(q.mul_scalar(scale)).matmul(split(k).swap_dims(2, 3));
    let scores = match blocked {
        Some(blocked) => scores.mask_fill(blocked.expand([rows, heads, width, width]), f32::MIN),
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
        /// One byte a key, [rows · width], or none at all.
        blocked: BoolTensor<Flex>,
        rows: usize,
        heads: usize,
    }

    /// One sample of them.
    struct Sample<'a> {
        qkv: [&'a [f32]; 3],
        blocked: Option<&'a [u8]>,
        width: usize,
        d: usize,
        heads: usize,
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

        fn dims(&self) -> [usize; 2] {
            let shape = self.qkv[0].layout().shape();
            [shape[0], shape[1]]
        }

        fn sample(&self, row: usize) -> Sample<'_> {
            let [tokens, d] = self.dims();
            let width = tokens / self.rows;
            let keys = self.blocked.layout();
            Sample {
                qkv: self
                    .qkv
                    .each_ref()
                    .map(|x| &slice(x)[row * width * d..(row + 1) * width * d]),
                blocked: (keys.num_elements() > 0).then(|| {
                    let start = keys.start_offset() + row * width;
                    &self.blocked.storage::<u8>()[start..start + width]
                }),
                width,
                d,
                heads: self.heads,
            }
        }
    }

    impl Sample<'_> {
        fn scale(&self) -> f32 {
            ((self.d / self.heads) as f32).sqrt().recip()
        }

        /// The columns of one head.
        fn head<'a>(&self, x: &'a [f32], head: usize) -> View<'a> {
            let size = self.d / self.heads;
            View::new(&x[head * size..], [self.width, size], [self.d, 1])
        }

        /// What each position takes from each, [width, width].
        fn weights(&self, head: usize, out: &mut [f32]) {
            let [q, k, _] = self.qkv.map(|x| self.head(x, head));
            product((out, self.width), Onto::Nothing, self.scale(), q, k.t());
            vectorised(
                #[inline(always)]
                || {
                    out.chunks_exact_mut(self.width)
                        .for_each(|row| softmax(row, self.blocked))
                },
            );
        }

        fn forward(&self, weights: &mut [f32], out: &mut [f32]) {
            for head in 0..self.heads {
                self.weights(head, weights);
                let v = self.head(self.qkv[2], head);
                let place = &mut out[head * (self.d / self.heads)..];
                product(
                    (place, self.d),
                    Onto::Nothing,
                    1.0,
                    View::rows(weights, self.width),
                    v,
                );
            }
        }

        /// With P the weights and G the gradient: dv = Pᵀ G, dS = P ⊙ (G vᵀ - Σ), dq = s·dS k, dk = s·dSᵀ q.
        fn backward(&self, [p, s]: [&mut [f32]; 2], grad: &[f32], [dq, dk, dv]: [&mut [f32]; 3]) {
            let (width, d, scale) = (self.width, self.d, self.scale());
            for head in 0..self.heads {
                let at = head * (d / self.heads);
                self.weights(head, p);
                let [q, k, v] = self.qkv.map(|x| self.head(x, head));
                let grad = self.head(grad, head);
                product(
                    (&mut dv[at..], d),
                    Onto::Nothing,
                    1.0,
                    View::rows(p, width).t(),
                    grad,
                );
                product((s, width), Onto::Nothing, 1.0, grad, v.t());
                vectorised(
                    #[inline(always)]
                    || {
                        for (s, p) in s.chunks_exact_mut(width).zip(p.chunks_exact(width)) {
                            let mean = sum2(s, p, |s, p| s * p);
                            s.iter_mut().zip(p).for_each(|(s, p)| *s = (*s - mean) * p);
                            // Where every key is blocked the weights are even, yet of no score.
                            mask(s, self.blocked, 0.0);
                        }
                    },
                );
                let s = View::rows(s, width);
                product((&mut dq[at..], d), Onto::Nothing, scale, s, k);
                product((&mut dk[at..], d), Onto::Nothing, scale, s.t(), q);
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
        let [tokens, d] = inputs.dims();
        let width = tokens / inputs.rows;
        let mut out = vec![0.0; tokens * d];
        if !out.is_empty() {
            out.par_chunks_mut(width * d).enumerate().for_each_init(
                || vec![0.0; width * width],
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
        let [tokens, d] = inputs.dims();
        let width = tokens / inputs.rows;
        let grad = dense(grad);
        let [mut dq, mut dk, mut dv] = [(); 3].map(|()| vec![0.0; tokens * d]);
        let size = (width * d).max(1);
        let grads = dq
            .par_chunks_mut(size)
            .zip(dk.par_chunks_mut(size).zip(dv.par_chunks_mut(size)));
        let samples = grads.zip(slice(&grad).par_chunks(size)).enumerate();
        samples.for_each_init(
            || [(); 2].map(|()| vec![0.0; width * width]),
            |scratch, (row, ((dq, (dk, dv)), grad))| {
                let scratch = scratch.each_mut().map(Vec::as_mut_slice);
                inputs.sample(row).backward(scratch, grad, [dq, dk, dv]);
            },
        );
        [dq, dk, dv].map(|values| tensor(values, [tokens, d]))
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
