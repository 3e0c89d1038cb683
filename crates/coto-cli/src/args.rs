use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

/// Fine-tune models with CoTo; inspect and exchange adapters.
#[derive(Debug, Parser)]
#[command(name = "coto", version, arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Train plain LoRA and CoTo side by side on an embedded task, and show what comes out
    Demo(DemoArgs),
    /// Write a commented run file
    Init {
        /// Where to
        #[arg(default_value = "run.toml")]
        path: PathBuf,
    },
    /// Check a run file and show the plan: players, parameters, cost, memory
    Validate {
        #[command(flatten)]
        run: RunArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Train adapters as a run file says
    Train(TrainArgs),
    /// Evaluate a finished run, with all adapters on or with a coalition of them
    Eval(EvalArgs),
    /// List a model's linears, and which of them some targets choose
    Targets {
        /// A model folder, the name of an embedded model, or a hub id
        model: String,
        /// Target names as in a run file, or `all-linear`, or a regular expression
        targets: Vec<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what a PEFT adapter folder holds
    Inspect {
        /// The folder
        folder: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Draw the report of a run or of a demo
    Report {
        /// Its folder
        folder: PathBuf,
    },
    /// Fetch a model from the hub into its cache, and print where it lies
    Fetch {
        /// A hub id
        model: String,
    },
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

#[derive(Debug, ClapArgs)]
pub struct RunArgs {
    /// The run file
    pub config: PathBuf,
    /// Set a value of the run file, as in `optim.lr=1e-3`; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Where to run: cpu, wgpu, wgpu:n, cuda, cuda:n; the run file's by default
    #[arg(long)]
    pub device: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub struct TrainArgs {
    #[command(flatten)]
    pub run: RunArgs,
    /// Go on from the checkpoint, if there is one
    #[arg(long, conflicts_with = "overwrite")]
    pub resume: bool,
    /// Start afresh though the folder has a run
    #[arg(long)]
    pub overwrite: bool,
    /// Print the final scores as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, ClapArgs)]
pub struct EvalArgs {
    /// The folder of a finished run
    pub folder: PathBuf,
    /// Which rows
    #[arg(long, value_enum, default_value_t = SplitName::Test)]
    pub split: SplitName,
    /// Which players are on, as a row of 0 and 1, the lowest first
    #[arg(long)]
    pub coalition: Option<String>,
    /// Where to run
    #[arg(long)]
    pub device: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum SplitName {
    Train,
    Validation,
    Test,
}

#[derive(Debug, ClapArgs)]
pub struct DemoArgs {
    /// Where the adapters, summary.json and report.html go
    #[arg(long, default_value = "coto-demo")]
    pub out: PathBuf,
    /// The embedded task
    #[arg(long, value_enum, default_value_t = DemoTask::WordnetNouns)]
    pub task: DemoTask,
    /// Optimiser steps of each run
    #[arg(long, default_value_t = 300)]
    pub steps: usize,
    /// Where to run: cpu, wgpu, wgpu:n, cuda, cuda:n
    #[arg(long, default_value = "cpu")]
    pub device: String,
    /// Print the summary as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum DemoTask {
    /// 26 classes of nouns, told by their definitions
    WordnetNouns,
    /// Unsolicited e-mail against the rest
    SpamAssassin,
}

impl DemoTask {
    pub fn folder(self) -> &'static str {
        match self {
            Self::WordnetNouns => "wordnet-nouns",
            Self::SpamAssassin => "spam-assassin",
        }
    }
}
