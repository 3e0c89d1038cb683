use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use coto_models::BaseQuant;
use coto_train::Split;

use crate::analysis::{BoundArgs, ConnectArgs, ShapleyArgs, SimilarityArgs, StabilityArgs};
use crate::edit::{ExportArgs, MergeArgs, PruneArgs};

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
    /// Tell what each adapter is worth: Shapley values of layers, modules or kinds
    Shapley(ShapleyArgs),
    /// Measure loss and accuracy against the number of adapters that are on
    Stability(StabilityArgs),
    /// Follow the straight path between two adapters and measure its barrier; map the triangle of three
    Connect(ConnectArgs),
    /// Compare adapters: cosines and distances of ΔW, angles of their spaces, a map
    Similarity(SimilarityArgs),
    /// Measure both sides of CoTo's Theorem 3.1
    Bound(BoundArgs),
    /// Merge adapters into one: one method, or many that are judged on the adapters' own tasks
    Merge(MergeArgs),
    /// Make an adapter smaller: fewer modules, fewer entries, lower ranks; or draw the curve of what that costs
    Prune(PruneArgs),
    /// Fold an adapter into its base checkpoint, or write it for others to load
    Export(ExportArgs),
    /// Let a decoder continue a text, or talk with it; with adapters, switched by name
    Generate(GenerateArgs),
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
    /// Draw the report of a run, of a demo, of a result, or of a folder of results
    Report {
        /// Its folder or result file
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
    /// How the base's matrices lie in memory: stored, none, q8, q4, nf4; the run file's by default
    #[arg(long, value_name = "QUANT")]
    pub base_quant: Option<BaseQuant>,
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
    /// Of a decoder: a table of multiple-choice questions (`context`, `choices`, `answer`) to score in place of the split
    #[arg(long, value_name = "TABLE", conflicts_with = "questions")]
    pub choices: Option<PathBuf>,
    /// What stands between a context and a choice
    #[arg(long, default_value = " ", requires = "choices")]
    pub delimiter: String,
    /// Of a decoder: a table of questions (`prompt` or `messages`, and `answer`) to answer in place of the split
    #[arg(long, value_name = "TABLE")]
    pub questions: Option<PathBuf>,
    /// What of an answer counts: the first group of a regular expression, or its match
    #[arg(long, value_name = "REGEX", requires = "questions")]
    pub pattern: Option<String>,
    /// The longest answer, in tokens
    #[arg(long, default_value_t = 256, requires = "questions")]
    pub max_tokens: usize,
    /// Where to run
    #[arg(long)]
    pub device: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, ClapArgs)]
pub struct GenerateArgs {
    /// A model folder, a GGUF file, or a hub id
    pub model: String,
    /// An adapter folder, with a name to switch to it as in `terse=runs/a/adapter`; may be repeated, the last is on
    #[arg(long = "adapter", value_name = "[NAME=]FOLDER")]
    pub adapters: Vec<String>,
    /// Which players are on, as a row of 0 and 1, the lowest layer first
    #[arg(long)]
    pub coalition: Option<String>,
    /// What to continue or to answer; without it, lines of standard input are
    #[arg(long)]
    pub prompt: Option<String>,
    /// The system's message, ahead of the conversation
    #[arg(long, conflicts_with = "raw")]
    pub system: Option<String>,
    /// Continue texts as they are, whether or not the model has a chat template
    #[arg(long)]
    pub raw: bool,
    /// The longest answer, in tokens
    #[arg(long, default_value_t = 256)]
    pub max_tokens: usize,
    /// What logits are divided by; 0 takes the likeliest token
    #[arg(long, default_value_t = 0.0)]
    pub temperature: f64,
    /// Draw only from the likeliest tokens that make up this share
    #[arg(long, default_value_t = 1.0)]
    pub top_p: f64,
    /// The seed of the draws
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// How the base's matrices lie in memory: stored, none, q8, q4, nf4
    #[arg(long, value_name = "QUANT", default_value = "stored")]
    pub base_quant: BaseQuant,
    /// Where to run: cpu, wgpu, wgpu:n, cuda, cuda:n
    #[arg(long, default_value = "cpu")]
    pub device: String,
}

/// A part of the rows.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum SplitName {
    Train,
    Validation,
    Test,
}

impl From<SplitName> for Split {
    fn from(name: SplitName) -> Self {
        match name {
            SplitName::Train => Self::Train,
            SplitName::Validation => Self::Validation,
            SplitName::Test => Self::Test,
        }
    }
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
    /// 15 classes of verbs, told by their definitions
    WordnetVerbs,
    /// Unsolicited e-mail against the rest
    SpamAssassin,
}

impl DemoTask {
    pub fn folder(self) -> &'static str {
        match self {
            Self::WordnetNouns => "wordnet-nouns",
            Self::WordnetVerbs => "wordnet-verbs",
            Self::SpamAssassin => "spam-assassin",
        }
    }
}
