//! Stories that use the libraries without the command line: `cargo run --release -p coto-examples -- STORY`.
//!
//! | story | tells |
//! |---|---|
//! | `nouns` | CoTo in a loop of one's own, on the embedded encoder |
//! | `glosses` | a decoder, its base quantised, learns to define nouns; needs `cargo xtask stories` |
//! | `vision` | a small vision transformer, pretrained on clothes, adapted to digits with few examples; needs `cargo xtask stories` |
//!
//! `STORY --help` lists a story's options; `--device cpu`, `wgpu` or `cuda` goes with all of them, the last two in a build with the feature
//! of that name.

mod glosses;
mod nouns;
mod vision;

use clap::Parser;
use coto_kernels::allocator::{Allocator, keep_freed_memory};

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// Stories that use the libraries without the command line.
#[derive(Parser)]
enum Story {
    /// CoTo in a loop of one's own, on the embedded encoder.
    Nouns(nouns::Args),
    /// A decoder, its base quantised, learns to define nouns.
    Glosses(glosses::Args),
    /// A small vision transformer, pretrained on clothes, adapted to digits with few examples.
    Vision(vision::Args),
}

fn main() -> anyhow::Result<()> {
    keep_freed_memory();
    match Story::parse() {
        Story::Nouns(args) => nouns::run(&args),
        Story::Glosses(args) => glosses::run(&args),
        Story::Vision(args) => vision::run(&args),
    }
}
