//! Chores of the workspace, one verb each: `cargo xtask <verb>`.

mod assets;
mod bench;
mod parity;
mod stories;
mod study;
mod wgpu;

use clap::Parser;

/// Chores of the workspace.
#[derive(Parser)]
enum Verb {
    /// Make the committed folder `assets/` from published packages.
    Assets(assets::Args),
    /// Time one training step beside PyTorch + PEFT.
    Bench(bench::Args),
    /// Compare models and adapters with transformers and PEFT, on a real checkpoint.
    Parity(parity::Args),
    /// Fetch the data of the stories in `examples/` into `runs/`.
    Stories(stories::Args),
    /// Train and measure what a study file says, and tabulate it.
    Study(study::Args),
    /// Run the goldens and a scheduled run on wgpu.
    Wgpu(wgpu::Args),
}

fn main() -> anyhow::Result<()> {
    match Verb::parse() {
        Verb::Assets(args) => assets::run(&args),
        Verb::Bench(args) => bench::run(&args),
        Verb::Parity(args) => parity::run(&args),
        Verb::Stories(args) => stories::run(&args),
        Verb::Study(args) => study::run(&args),
        Verb::Wgpu(args) => wgpu::run(&args),
    }
}
