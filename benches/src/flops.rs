//! What a step must compute, counted: the products of the model and its adapters. Norms, activations, rotations, the classifier of
//! an encoder and the optimiser are left out: together well below a hundredth.

use coto_adapters::{AdapterSet, Base};
use coto_models::{Layered, Model};

/// The linears that read what goes into their layer.
const FIRST: [&str; 6] = ["query", "key", "value", "q_proj", "k_proj", "v_proj"];

/// FLOPs of a step with all adapters on: of a product of [m, k] and [k, n] 2·m·k·n. Backward, a frozen matrix has the gradient of its
/// input alone, and that only above the lowest adapter.
pub fn step(model: &Model, adapters: &AdapterSet, [rows, width]: [usize; 2]) -> f64 {
    let tokens = rows * width;
    let modules = adapters.modules();
    let lowest = modules.iter().filter_map(|module| module.layer).min();
    let adapted: Vec<usize> = adapters.adapters().iter().map(|a| a.module()).collect();
    let mut flops = 0.0;
    for (i, module) in model.modules().iter().enumerate() {
        let dims = model.linear(i).dims();
        let tracked = module.layer > lowest
            || module.layer == lowest && !FIRST.contains(&module.kind.as_str());
        let place = adapted.iter().position(|&module| module == i);
        let adapter = place.map(|place| &adapters.adapters()[place]);
        flops += linear(tokens, dims, tracked);
        if let Some(adapter) = adapter {
            let (variant, rank) = (adapter.variant().name(), adapter.rank());
            flops += added(variant, tokens, dims, rank, tracked);
        }
        if ["query", "q_proj"].contains(&module.kind.as_str()) {
            flops += attention(rows, width, dims[1], matches!(model, Model::Llama(_)));
        }
    }
    // A decoder tells a token at each place, by the last of its tables.
    let head = model.tables().last().map(|table| table.dims());
    flops + head.map_or(0.0, |dims| linear(tokens, dims, true))
}

fn product(m: usize, k: usize, n: usize) -> f64 {
    2.0 * m as f64 * k as f64 * n as f64
}

/// x W and, where x is tracked, dy Wᵀ.
fn linear(tokens: usize, [input, output]: [usize; 2], tracked: bool) -> f64 {
    product(tokens, input, output) * if tracked { 2.0 } else { 1.0 }
}

/// What an adapter adds to its frozen matrix.
fn added(
    variant: &str,
    tokens: usize,
    [input, output]: [usize; 2],
    rank: usize,
    tracked: bool,
) -> f64 {
    let [down, up] = [product(tokens, input, rank), product(tokens, rank, output)];
    // x A and (x A) B; then dy Bᵀ, dB, dA, and dx where x is tracked.
    let low_rank = 2.0 * down + 3.0 * up + if tracked { down } else { 0.0 };
    match variant {
        // Wᵀ A, for the norms of the columns.
        "dora" => low_rank + product(input, rank, output),
        // A B; then xᵀ dy, and from it dA and dB. That of W itself is the frozen one's.
        "hira" => 3.0 * product(input, rank, output) + product(tokens, input, output),
        _ => low_rank,
    }
}

/// Scores and their mix of values, and four such products backward; a decoder sees half of the pairs.
fn attention(rows: usize, width: usize, d: usize, causal: bool) -> f64 {
    let seen = if causal { width + 1 } else { 2 * width };
    6.0 * product(rows * width, d, seen) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_those_made_by_hand() {
        assert_eq!(linear(10, [3, 5], false), 300.0);
        assert_eq!(linear(10, [3, 5], true), 600.0);
        // Down 120, up 200.
        assert_eq!(added("lora", 10, [3, 5], 2, false), 840.0);
        assert_eq!(added("lora", 10, [3, 5], 2, true), 960.0);
        assert_eq!(added("dora", 10, [3, 5], 2, true), 1020.0);
        assert_eq!(added("hira", 10, [3, 5], 2, true), 480.0);
        // Two heads of two numbers, two rows of three: 3·3 pairs of a head, 2·2 FLOPs each, six products.
        assert_eq!(attention(2, 3, 4, false), 2.0 * 2.0 * 9.0 * 4.0 * 6.0);
        // Six pairs in place of nine.
        assert_eq!(attention(2, 3, 4, true), 2.0 * 2.0 * 6.0 * 4.0 * 6.0);
    }
}
