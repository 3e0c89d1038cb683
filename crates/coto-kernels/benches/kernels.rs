//! Each kernel on the CPU beside the same in burn's own tensors: forward, and forward with backward, at the shapes of
//! all-MiniLM-L6-v2 (32 × 64 tokens) and SmolLM2-135M (4 × 128).
//!
//! `cargo bench -p coto-cli -p coto-kernels --bench kernels -- gelu`; `coto-cli` is there for its selection of burn's features.

use std::time::Duration;

use burn::tensor::{Device, Distribution, Int, Tensor, TensorData, activation, module};
use coto_kernels::{
    Quantised, Scheme, Weight, attention, cross_entropy, gated_silu, gelu, gelu_tanh,
    hadamard_linear, layer_norm, linear, low_rank_linear, quick_gelu, residual_norm, rms_norm,
    rotate,
};
use criterion::{Criterion, criterion_group, criterion_main};

/// Rows × width, and the sizes of the two models.
const MINILM: Shape = Shape {
    rows: 32,
    width: 64,
    d: 384,
    ff: 1536,
    heads: 12,
};
const SMOLLM2: Shape = Shape {
    rows: 4,
    width: 128,
    d: 576,
    ff: 1536,
    heads: 9,
};
/// SmolLM2's heads of keys, and its tokens.
const KEY_HEADS: usize = 3;
const VOCABULARY: usize = 49152;
const RANK: usize = 8;

struct Shape {
    rows: usize,
    width: usize,
    d: usize,
    ff: usize,
    heads: usize,
}

impl Shape {
    fn tokens(&self) -> usize {
        self.rows * self.width
    }
}

fn random(dims: [usize; 2]) -> Tensor<2> {
    Tensor::random(dims, Distribution::Normal(0.0, 1.0), &Device::flex())
}

fn vector(n: usize) -> Tensor<1> {
    random([1, n]).squeeze_dim(0)
}

/// An operation on several tensors.
type Operation<'a, const N: usize> = &'a dyn Fn([Tensor<2>; N]) -> Tensor<2>;

/// Times both forms, forward alone and with a backward to all inputs.
fn both<const N: usize>(
    c: &mut Criterion,
    name: &str,
    inputs: [Tensor<2>; N],
    kernel: impl Fn([Tensor<2>; N]) -> Tensor<2>,
    primitive: impl Fn([Tensor<2>; N]) -> Tensor<2>,
) {
    let mut group = c.benchmark_group(name);
    let forms: [(&str, Operation<N>); 2] = [("kernel", &kernel), ("primitive", &primitive)];
    for (form, f) in forms {
        group.bench_function(format!("{form}/forward"), |b| {
            b.iter_with_large_drop(|| f(inputs.clone()))
        });
        group.bench_function(format!("{form}/both ways"), |b| {
            b.iter_with_large_drop(|| {
                let leaves = inputs.clone().map(|x| x.autodiff().require_grad());
                f(leaves).sum().backward()
            })
        });
    }
    group.finish();
}

fn element_wise(c: &mut Criterion) {
    let wide = [MINILM.tokens(), MINILM.ff];
    type Form = fn(Tensor<2>) -> Tensor<2>;
    let forms: [(&str, Form, Form); 3] = [
        ("gelu", gelu, activation::gelu),
        ("gelu_tanh", gelu_tanh, activation::gelu_approximate),
        ("quick_gelu", quick_gelu, |x| {
            x.clone() * activation::sigmoid(x.mul_scalar(1.702))
        }),
    ];
    for (name, kernel, primitive) in forms {
        both(c, name, [random(wide)], |[x]| kernel(x), |[x]| primitive(x));
    }
    both(
        c,
        "gated_silu",
        [(); 2].map(|()| random([SMOLLM2.tokens(), SMOLLM2.ff])),
        |[gate, up]| gated_silu(gate, up),
        |[gate, up]| activation::silu(gate) * up,
    );
}

fn norms(c: &mut Criterion) {
    const EPSILON: f64 = 1e-5;
    let dims = [MINILM.tokens(), MINILM.d];
    let (gamma, beta) = (vector(MINILM.d), vector(MINILM.d));
    let plain = |x| module::layer_norm(x, gamma.clone(), Some(beta.clone()), EPSILON);
    both(
        c,
        "layer_norm",
        [random(dims)],
        |[x]| layer_norm(x, gamma.clone(), beta.clone(), EPSILON),
        |[x]| plain(x),
    );
    both(
        c,
        "residual_norm",
        [random(dims), random(dims)],
        |[x, y]| residual_norm(x, y, gamma.clone(), beta.clone(), EPSILON),
        |[x, y]| plain(x + y),
    );
    let gamma = vector(SMOLLM2.d);
    both(
        c,
        "rms_norm",
        [random([SMOLLM2.tokens(), SMOLLM2.d])],
        |[x]| rms_norm(x, gamma.clone(), EPSILON),
        |[x]| {
            let square = x.clone().square().mean_dim(1);
            x / square.add_scalar(EPSILON).sqrt() * gamma.clone().unsqueeze()
        },
    );
}

fn linears(c: &mut Criterion) {
    for (model, shape) in [("MiniLM", MINILM), ("SmolLM2", SMOLLM2)] {
        let (d, ff, tokens) = (shape.d, shape.ff, shape.tokens());
        let dense = |dims: [usize; 2]| Weight::from(random([dims[1], dims[0]]).transpose());
        let quantised = |dims: [usize; 2]| {
            let values = random([dims[1], dims[0]]).into_data();
            let groups = Scheme::Q4.quantise(values.as_slice().expect("f32"), dims);
            Weight::from(Quantised::new(groups, &Device::flex()))
        };
        for (name, weight) in [
            ("dense", dense([d, ff])),
            ("dense, back", dense([ff, d])),
            ("q4", quantised([d, ff])),
        ] {
            let [input, output] = weight.dims();
            let bias = vector(output);
            both(
                c,
                &format!("linear, {name}, {model}"),
                [random([tokens, input])],
                |[x]| linear(x, &weight, Some(bias.clone())),
                |[x]| x.matmul(weight.dense()) + bias.clone().unsqueeze(),
            );
        }
        let (weight, bias) = (dense([d, d]), vector(d));
        let inputs = || [random([tokens, d]), random([d, RANK]), random([RANK, d])];
        both(
            c,
            &format!("low_rank_linear, {model}"),
            inputs(),
            |[x, a, b]| low_rank_linear(x, &weight, Some(bias.clone()), [a, b], 2.0),
            |[x, a, b]| {
                let update = x.clone().matmul(a).mul_scalar(2.0).matmul(b);
                x.matmul(weight.dense()) + bias.clone().unsqueeze() + update
            },
        );
        both(
            c,
            &format!("hadamard_linear, {model}"),
            inputs(),
            |[x, a, b]| hadamard_linear(x, &weight, Some(bias.clone()), [a, b], 1.0),
            |[x, a, b]| {
                let scaled = (a.matmul(b) + 1.0) * weight.dense();
                x.matmul(scaled) + bias.clone().unsqueeze()
            },
        );
    }
}

fn attentions(c: &mut Criterion) {
    for (model, shape, kv) in [
        ("MiniLM", MINILM, MINILM.heads),
        ("SmolLM2", SMOLLM2, KEY_HEADS),
    ] {
        let Shape {
            rows,
            width,
            d,
            heads,
            ..
        } = shape;
        let size = d / heads;
        let dims = [d, kv * size, kv * size];
        let split = |x: Tensor<2>| {
            let here = x.dims()[1] / size;
            let x = x.reshape([rows, width, here, 1, size]);
            let x = x.permute([0, 2, 3, 1, 4]);
            let each = x.expand([rows, here, heads / here, width, size]);
            each.reshape([rows, heads, width, size])
        };
        both(
            c,
            &format!("attention, {model}"),
            dims.map(|d| random([rows * width, d])),
            |qkv| attention(qkv, None, rows, heads),
            |[q, k, v]| {
                let q = q.mul_scalar((size as f64).sqrt().recip());
                let scores = split(q).matmul(split(k).swap_dims(2, 3));
                let mixed = activation::softmax(scores, 3).matmul(split(v));
                mixed.permute([0, 2, 1, 3]).reshape([rows * width, d])
            },
        );
    }
}

/// What only decoders have.
fn decoders(c: &mut Criterion) {
    let (tokens, d) = (SMOLLM2.tokens(), SMOLLM2.d);
    let (heads, half) = (SMOLLM2.heads, d / SMOLLM2.heads / 2);
    let [cos, sin] = [(); 2].map(|()| random([tokens, half]));
    both(
        c,
        "rotate",
        [random([tokens, d])],
        |[x]| rotate(x, cos.clone(), sin.clone()),
        |[x]| {
            let x = x.reshape([tokens, heads, 2 * half]);
            let [a, b] = [0, half].map(|at| {
                let x = x.clone();
                x.slice([0..tokens, 0..heads, at..at + half])
            });
            let [cos, sin] = [&cos, &sin].map(|t| t.clone().reshape([tokens, 1, half]));
            let turned = vec![
                a.clone() * cos.clone() - b.clone() * sin.clone(),
                b * cos + a * sin,
            ];
            Tensor::cat(turned, 2).reshape([tokens, d])
        },
    );
    let weight = Weight::from(random([VOCABULARY, d]).mul_scalar(0.05).transpose());
    let targets: Vec<u32> = (0..tokens)
        .map(|i| (i * 7919 % VOCABULARY) as u32)
        .collect();
    let places: Vec<i32> = targets.iter().map(|&target| target as i32).collect();
    let places = TensorData::new(places, [tokens, 1]);
    let places = Tensor::<2, Int>::from_data(places, &Device::flex());
    both(
        c,
        "cross_entropy",
        [random([tokens, d])],
        |[x]| cross_entropy(x, &weight, &targets).reshape([1, 1]),
        |[x]| {
            let log = activation::log_softmax(x.matmul(weight.dense()), 1);
            log.gather(1, places.clone()).sum().neg().reshape([1, 1])
        },
    );
}

criterion_group! {
    name = kernels;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = element_wise, norms, linears, attentions, decoders
}
criterion_main!(kernels);
