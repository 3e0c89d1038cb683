//! Chores of the workspace, one verb each: `cargo xtask <verb>`.

mod assets;

use clap::Parser;

/// Chores of the workspace.
#[derive(Parser)]
enum Verb {
    /// Make the committed folder `assets/` from published packages.
    Assets(assets::Args),
}

fn main() -> anyhow::Result<()> {
    match Verb::parse() {
        Verb::Assets(args) => assets::run(&args),
    }
}
