//! Our side of `cargo xtask bench`: training steps, timed as they are asked for.
//!
//! `coto-benches MODEL VARIANT ROWSxWIDTH`, where VARIANT is that of the adapters of an encoder; `burn`, which is burn's own
//! LoRA on burn's own encoder of MiniLM's shape; or, of LoRA on a decoder, `smollm2-dense` and `smollm2-stored`, with
//! `-checkpointed` after them for gradient checkpointing; r = 8 on queries and values. A step is forward, loss, backward and
//! AdamW. Each line of standard input is a question, each line of standard output its answer in numbers; an empty one where
//! the variant has none. `benches/peer.py` answers the same in PyTorch with PEFT.
//!
//! | question | answer |
//! |---|---|
//! | `layers` | their number |
//! | `forward` | ms of a forward pass and its loss without gradients, all adapters on |
//! | `step 0 3` | ms of a step with the adapters of layers 0 and 3 on |
//! | `cached 0 3` | the same, the states below the lowest of them out of the cache, if a step before left them there |
//! | `prefix 3` | ms of the embedding and the three lowest layers, no adapter on |
//! | `memory` | the most memory that the process held, MiB |
//! | `flops` | GFLOP of a step with all adapters on |
//! | `peak` | GFLOP/s of a large square product |
//! | `finetune DIR` | ms, accuracy and test rows of a run on a real task, whose data and adapters at the start go to DIR |

use std::error::Error;
use std::io::{Write, stdin, stdout};
use std::time::Instant;

use burn::tensor::{Device, Distribution, Tensor};
use coto_coalition::Coalition;
use coto_kernels::allocator::{Allocator, keep_freed_memory};

mod burn_lora;
mod finetune;
mod flops;
mod step;

use burn_lora::BurnLora;
use step::Ours;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

const RANK: usize = 8;
const CLASSES: usize = 26;

enum Side {
    Ours(Box<Ours>),
    Burn(Box<BurnLora>),
}

fn main() -> Result<(), Box<dyn Error>> {
    keep_freed_memory();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, variant, shape] = args.as_slice() else {
        return Err("arguments: MODEL VARIANT ROWSxWIDTH".into());
    };
    let (rows, width) = shape.split_once('x').ok_or("a shape such as 32x64")?;
    let shape = [rows.parse()?, width.parse()?];
    let device = Device::flex();
    let mut side = match variant.as_str() {
        "burn" => Side::Burn(BurnLora::new(shape, &device).into()),
        variant => Side::Ours(Ours::new(model, variant, shape, &device)?.into()),
    };
    for question in stdin().lines() {
        let question = question?;
        let (verb, rest) = question.split_once(' ').unwrap_or((&question, ""));
        let answer = match &mut side {
            Side::Burn(burn) => answer_burn(burn, verb, rest)?,
            Side::Ours(ours) => answer(ours, verb, rest)?,
        };
        let answer: Vec<String> = answer.iter().map(f64::to_string).collect();
        println!("{}", answer.join(" "));
        stdout().flush()?;
    }
    Ok(())
}

fn answer(ours: &mut Ours, verb: &str, rest: &str) -> Result<Vec<f64>, Box<dyn Error>> {
    Ok(match verb {
        "layers" => vec![ours.layers() as f64],
        "forward" => vec![time(|| ours.forward())],
        "step" | "cached" => {
            let on = Coalition::from_players(ours.layers(), numbers(rest)?);
            vec![time(|| ours.step(&on, verb == "cached"))]
        }
        "prefix" => {
            let layers = rest.parse()?;
            vec![time(|| ours.prefix(layers))]
        }
        "memory" => vec![peak_memory()],
        "flops" => vec![flops::step(&ours.model, &ours.adapters, ours.shape) / 1e9],
        "peak" => vec![peak_product()],
        "finetune" => match ours.variant {
            Some(variant) => finetune::run(&ours.path, variant, ours.shape, rest.as_ref())?.into(),
            None => Vec::new(),
        },
        other => return Err(format!("no question: {other}").into()),
    })
}

/// Burn's own knows steps with all on alone.
fn answer_burn(burn: &mut BurnLora, verb: &str, on: &str) -> Result<Vec<f64>, Box<dyn Error>> {
    Ok(match verb {
        "layers" => vec![burn_lora::LAYERS as f64],
        "step" if numbers(on)?.len() == burn_lora::LAYERS => vec![time(|| burn.step())],
        "memory" => vec![peak_memory()],
        _ => Vec::new(),
    })
}

fn numbers(text: &str) -> Result<Vec<usize>, std::num::ParseIntError> {
    text.split_whitespace().map(str::parse).collect()
}

/// How long a piece of work takes, in ms.
fn time(mut work: impl FnMut()) -> f64 {
    let start = Instant::now();
    work();
    1e3 * start.elapsed().as_secs_f64()
}

/// The most memory that the process held, in MiB.
fn peak_memory() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kib.and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

/// GFLOP/s of burn's product of two square matrices in f32, the best of five.
fn peak_product() -> f64 {
    const N: usize = 1536;
    let random = || Tensor::<2>::random([N, N], Distribution::Normal(0.0, 1.0), &Device::flex());
    let (a, b) = (random(), random());
    let product = || drop(a.clone().matmul(b.clone()).into_data());
    let best = (0..5).map(|_| time(product)).fold(f64::INFINITY, f64::min);
    2.0 * (N as f64).powi(3) / best / 1e6
}
