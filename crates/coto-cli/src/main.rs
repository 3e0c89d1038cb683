//! The `coto` command: fine-tune models with CoTo, inspect and exchange adapters.

mod analysis;
mod args;
mod ask;
mod demo;
mod edit;
mod generate;
mod init;
mod train;

use std::process::ExitCode;

use anyhow::Result;
use args::{Args, Verb};
use clap::{CommandFactory, Parser};
use coto_kernels::allocator::{Allocator, keep_freed_memory};

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn main() -> ExitCode {
    keep_freed_memory();
    // A closed pipe, as of `coto … --json | head`, ends the command in silence.
    sigpipe::reset();
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<()> {
    match args.verb {
        Verb::Demo(demo) => demo::run(&demo),
        Verb::Init { path } => init::run(&path),
        Verb::Train(args) => train::run(&args),
        Verb::Validate { run, json } => ask::validate(&run, json),
        Verb::Eval(args) => ask::eval(&args),
        Verb::Shapley(args) => analysis::shapley(&args),
        Verb::Stability(args) => analysis::stability(&args),
        Verb::Connect(args) => analysis::connect(&args),
        Verb::Similarity(args) => analysis::similarity(&args),
        Verb::Bound(args) => analysis::bound(&args),
        Verb::Merge(args) => edit::merge(&args),
        Verb::Prune(args) => edit::prune(&args),
        Verb::Export(args) => edit::export(&args),
        Verb::Generate(args) => generate::run(&args),
        Verb::Targets {
            model,
            targets,
            json,
        } => ask::targets(&model, &targets, json),
        Verb::Inspect { folder, json } => ask::inspect(&folder, json),
        Verb::Report { folder } => ask::report(&folder),
        Verb::Fetch { model } => {
            println!("{}", coto_models::locate(model.as_ref())?.display());
            Ok(())
        }
        Verb::Completions { shell } => {
            clap_complete::generate(shell, &mut Args::command(), "coto", &mut std::io::stdout());
            Ok(())
        }
    }
}
