//! Attention on the CPU: samples, or the heads of few, spread over the cores, one head's scores at a time.

use std::ops::Range;

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

    /// Into how many parts of as many heads each sample is cut, where a part can be one of `heads`.
    fn parts(&self, heads: usize) -> usize {
        match self.rows < rayon::current_num_threads() {
            true => heads.max(1),
            false => 1,
        }
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

    /// The queries' heads of one of so many parts.
    fn part(&self, part: usize, parts: usize) -> Range<usize> {
        part * self.queries / parts..(part + 1) * self.queries / parts
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
                for (query, row) in rows {
                    softmax(row, self.row(query));
                }
            },
        );
    }

    /// Some heads' output into `out`, which has their columns alone.
    fn forward(&self, heads: Range<usize>, weights: &mut [f32], out: &mut [f32]) {
        let ([first, _], stride) = (self.heads.at(heads.start), heads.len() * self.heads.size);
        for head in heads {
            self.weights(head, weights);
            let v = self.key(self.qkv[2], head);
            let place = &mut out[self.heads.at(head)[0] - first..];
            let weights = View::rows(weights, self.keys);
            product((place, stride), Onto::Nothing, 1.0, weights, v);
        }
    }

    /// With P the weights and G the gradient: dv = Pᵀ G, dS = P ⊙ (G vᵀ - Σ), dq = s·dS k, dk = s·dSᵀ q; dk and dv
    /// of a head that serves several are sums, onto what is there. The three have the columns of the heads alone.
    fn backward(
        &self,
        heads: Range<usize>,
        [p, s]: [&mut [f32]; 2],
        grad: &[f32],
        [dq, dk, dv]: [&mut [f32]; 3],
    ) {
        let (keys, scale) = (self.keys, self.scale());
        let first = self.heads.at(heads.start);
        let q_stride = heads.len() * self.heads.size;
        let k_stride = q_stride * self.heads.keys / self.heads.queries;
        for head in heads {
            let at = self.heads.at(head);
            let [q_at, k_at] = [at[0] - first[0], at[1] - first[1]];
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

/// The numbers of every token side by side, of samples whose parts follow one another, [rows, parts, tokens, width].
fn side_by_side(blocks: Vec<f32>, [rows, parts, tokens]: [usize; 3]) -> Vec<f32> {
    if parts == 1 || blocks.is_empty() {
        return blocks;
    }
    let (sample, width) = (blocks.len() / rows, blocks.len() / (rows * parts * tokens));
    let mut out = vec![0.0; blocks.len()];
    let samples = out
        .chunks_exact_mut(sample)
        .zip(blocks.chunks_exact(sample));
    for (out, blocks) in samples {
        let tokens = out.par_chunks_exact_mut(parts * width).enumerate();
        tokens.for_each(|(token, out)| {
            let parts = blocks[token * width..].chunks(sample / parts);
            for (out, block) in out.chunks_exact_mut(width).zip(parts) {
                out.copy_from_slice(&block[..width]);
            }
        });
    }
    out
}

fn run(inputs: &Inputs) -> Primitive {
    let [[queries, d], [keys, _]] = inputs.dims();
    let (tokens, parts) = (inputs.rows * queries, inputs.parts(inputs.heads));
    let mut out = vec![0.0; tokens * d];
    let blocks = out.par_chunks_mut((queries * d / parts).max(1));
    blocks.enumerate().for_each_init(
        || vec![0.0; queries * keys],
        |weights, (i, out)| {
            let sample = inputs.sample(i / parts);
            let heads = sample.heads.part(i % parts, parts);
            sample.forward(heads, weights, out);
        },
    );
    let out = side_by_side(out, [inputs.rows, parts, queries]);
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
    let grad = slice(&grad);
    let parts = inputs.parts(kv * inputs.heads / d.max(1));
    let shapes = [[queries, d], [keys, kv], [keys, kv]];
    let mut grads = shapes.map(|[n, d]| vec![0.0; inputs.rows * n * d]);
    let [dq, dk, dv] = &mut grads;
    let [q_len, k_len] = [queries * d, keys * kv].map(|len| (len / parts).max(1));
    let blocks = dq
        .par_chunks_mut(q_len)
        .zip(dk.par_chunks_mut(k_len).zip(dv.par_chunks_mut(k_len)));
    blocks.enumerate().for_each_init(
        || [(); 2].map(|()| vec![0.0; queries * keys]),
        |scratch, (i, (dq, (dk, dv)))| {
            let (row, scratch) = (i / parts, scratch.each_mut().map(Vec::as_mut_slice));
            let grad = &grad[row * queries * d..(row + 1) * queries * d];
            let sample = inputs.sample(row);
            let heads = sample.heads.part(i % parts, parts);
            sample.backward(heads, scratch, grad, [dq, dk, dv]);
        },
    );
    let mut shapes = shapes.into_iter();
    grads.map(|grad| {
        let [n, d] = shapes.next().expect("three");
        let grad = side_by_side(grad, [inputs.rows, parts, n]);
        tensor(grad, [inputs.rows * n, d])
    })
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
