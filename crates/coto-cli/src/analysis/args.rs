use std::path::PathBuf;

use clap::Args as ClapArgs;
use coto_analysis::Value;
use coto_coalition::Grouping;
use coto_shapley::Method;

use super::grouping;
use crate::args::SplitName;

/// Where an instrument works and where its result goes.
#[derive(Debug, ClapArgs)]
pub struct Setting {
    /// The run whose model, data and classifier serve; by default the one that the (first) adapter lies in
    #[arg(long)]
    pub run: Option<PathBuf>,
    /// Where to run: cpu, wgpu, wgpu:n, cuda, cuda:n; as the run by default
    #[arg(long)]
    pub device: Option<String>,
    /// The result file, beside which its page goes; by default in the (first) folder, named after the verb
    #[arg(short, long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// What is judged on.
#[derive(Debug, ClapArgs)]
pub struct Judging {
    /// Which rows to judge on
    #[arg(long, value_enum, default_value_t = SplitName::Test)]
    pub split: SplitName,
    /// Judge on so many rows only, drawn by the seed
    #[arg(long, value_name = "N")]
    pub samples: Option<usize>,
    /// The seed of everything that is drawn
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    #[command(flatten)]
    pub setting: Setting,
}

#[derive(Debug, ClapArgs)]
pub struct ShapleyArgs {
    /// The folder of a finished run, or an adapter folder
    pub folder: PathBuf,
    /// Who the players are: layer, module, kind, or JSON as in {"chunk":2}; as in the run by default
    #[arg(long, value_parser = grouping)]
    pub per: Option<Grouping>,
    /// What a coalition is worth: loss (its sign turned), accuracy, margin
    #[arg(long, default_value_t = Value::Loss)]
    pub value: Value,
    /// How: auto, exact, permutation, antithetic, owen, kernel-paired, leverage, svarm, …
    #[arg(long, default_value_t = Method::Auto)]
    pub method: Method,
    /// The most coalitions to evaluate; auto takes exact values where all of them are no more
    #[arg(long, default_value_t = coto_shapley::BUDGET)]
    pub budget: usize,
    /// Stop as soon as no value's standard error is above this
    #[arg(long, value_name = "ERROR")]
    pub precision: Option<f64>,
    /// Keep every coalition's value in a file beside the result, and go on from that file: after a kill, with a larger budget
    #[arg(long)]
    pub resume: bool,
    /// Write the values of all coalitions into the result, in the order of their players' bits
    #[arg(long)]
    pub values: bool,
    #[command(flatten)]
    pub judging: Judging,
}

#[derive(Debug, ClapArgs)]
pub struct StabilityArgs {
    /// The folder of a finished run, or an adapter folder
    pub folder: PathBuf,
    /// Who the players are: layer, module, kind, or JSON as in {"chunk":2}; as in the run by default
    #[arg(long, value_parser = grouping)]
    pub per: Option<Grouping>,
    /// The most coalitions of each size
    #[arg(long, default_value_t = 20)]
    pub most: usize,
    #[command(flatten)]
    pub judging: Judging,
}

#[derive(Debug, ClapArgs)]
pub struct ConnectArgs {
    /// Two runs or adapters, or three for a triangle map
    #[arg(num_args = 2..=3, required = true)]
    pub folders: Vec<PathBuf>,
    /// Turn the other adapters' factors towards the first's too (LoRA Align), as a further path
    #[arg(long)]
    pub align: bool,
    /// In how many equal steps a path goes
    #[arg(long, default_value_t = 10)]
    pub steps: usize,
    #[command(flatten)]
    pub judging: Judging,
}

#[derive(Debug, ClapArgs)]
pub struct SimilarityArgs {
    /// Runs or adapters of one base model
    #[arg(num_args = 2.., required = true)]
    pub folders: Vec<PathBuf>,
    #[command(flatten)]
    pub setting: Setting,
}

#[derive(Debug, ClapArgs)]
pub struct BoundArgs {
    /// The folder of a finished run, or an adapter folder
    pub folder: PathBuf,
    /// Who the players are: layer, module, kind, or JSON as in {"chunk":2}; as in the run by default
    #[arg(long, value_parser = grouping)]
    pub per: Option<Grouping>,
    /// The most coalitions of each size
    #[arg(long, default_value_t = 20)]
    pub most: usize,
    /// In how many equal steps the rate p goes from 0 to 1
    #[arg(long, default_value_t = 20)]
    pub steps: usize,
    #[command(flatten)]
    pub judging: Judging,
}
