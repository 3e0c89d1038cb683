mod single;
mod trials;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args as ClapArgs;
use coto_lowrank::Statistics;
use coto_merge::{Entry, Kind, Needs, Source, catalogue};
use coto_peft::Folder;

use super::recipe::Recipe;
use super::{data, read};
use crate::analysis::Place;
use crate::args::SplitName;

#[derive(Debug, ClapArgs)]
pub struct MergeArgs {
    /// The folders of finished runs, or adapter folders; or a recipe, a .toml file
    #[arg(required_unless_present = "explain")]
    pub sources: Vec<PathBuf>,
    /// How to merge, as --explain lists it; concat by default. Or peft:NAME, as PEFT's combination_type of that name
    #[arg(long)]
    pub method: Option<String>,
    /// The adapters' weights; one over their number by default
    #[arg(long, value_delimiter = ',', allow_negative_numbers = true)]
    pub weights: Vec<f64>,
    /// Compress every module to this rank
    #[arg(long)]
    pub rank: Option<usize>,
    /// Align the factors to the first adapter's before (LoRA Align)
    #[arg(long)]
    pub align: bool,
    /// Set a value of the recipe, as in `options.density=0.3`; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Where the merged adapter goes
    #[arg(short, long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// Tell what a method does, what it costs and when to choose it; without a name, of all
    #[arg(long, value_name = "METHOD", num_args = 0..=1, default_missing_value = "")]
    pub explain: Option<String>,
    /// Judge these methods on the adapters' own tasks, `all` for every one, `ensemble` for the mean of the outputs; the best goes to
    /// --out
    #[arg(long = "try", value_name = "METHODS", value_delimiter = ',')]
    pub tried: Vec<String>,
    /// Search the weights too, with so many evaluations (LoraHub)
    #[arg(long, value_name = "EVALUATIONS")]
    pub search: Option<usize>,
    /// Which rows to judge on
    #[arg(long, value_enum, default_value_t = SplitName::Validation)]
    pub split: SplitName,
    /// Judge on so many rows of each task only, drawn by the seed
    #[arg(long, value_name = "N")]
    pub samples: Option<usize>,
    /// The seed of everything that is drawn
    #[arg(long)]
    pub seed: Option<u64>,
    /// Where to run: cpu, wgpu, wgpu:n, cuda, cuda:n; as the runs by default
    #[arg(long)]
    pub device: Option<String>,
    /// The result file of --try; by default merge.json beside the merged folder
    #[arg(long, value_name = "FILE")]
    pub result: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &MergeArgs) -> Result<()> {
    if let Some(name) = &args.explain {
        return explain(name);
    }
    let recipe = Recipe::of(args)?;
    let opened = recipe.adapters.iter().map(|entry| read(&entry.path));
    let opened = opened.collect::<Result<Vec<_>>>()?;
    let names = recipe.names();
    let mut bench = Bench {
        args,
        recipe: &recipe,
        opened: &opened,
        names: &names,
        weights: recipe.weights(),
        statistics: Vec::new(),
    };
    if args.tried.is_empty() && args.search.is_none() {
        return bench.single();
    }
    bench.trials()
}

fn explain(name: &str) -> Result<()> {
    let parts: Vec<&str> = name.split('+').collect();
    let named =
        |entry: &&Entry| name.is_empty() || entry.names.iter().any(|name| parts.contains(name));
    let wanted: Vec<&Entry> = catalogue().iter().filter(named).collect();
    if wanted.is_empty() {
        let all = catalogue()
            .iter()
            .flat_map(|entry| entry.names.iter().copied());
        bail!(
            "no method `{name}`; nearest: {}",
            coto_peft::nearest(name, all).join(", ")
        );
    }
    for entry in wanted {
        let kind = match entry.kind() {
            Kind::Space => " (a space, as in SPACE+RULE)",
            Kind::Rule => " (a rule, in any space)",
            Kind::Method => "",
        };
        println!(
            "{}{kind}\n    {}\n    {}",
            entry.names.join(", "),
            entry.about,
            entry.source
        );
        if !entry.options.is_empty() {
            println!("    options: {}", entry.options.join(", "));
        }
        println!();
    }
    Ok(())
}

/// What is merged, and what is known of it.
struct Bench<'a> {
    args: &'a MergeArgs,
    recipe: &'a Recipe,
    opened: &'a [(Place, Folder)],
    names: &'a [String],
    weights: Vec<f64>,
    /// By adapter; empty unless a method asks.
    statistics: Vec<BTreeMap<String, Statistics>>,
}

impl<'a> Bench<'a> {
    fn sources(&self, weights: &[f64]) -> Vec<Source<'_>> {
        let each = self.opened.iter().zip(self.names).zip(weights).enumerate();
        each.map(|(i, (((_, folder), name), &weight))| Source {
            name: name.clone(),
            folder,
            weight,
            statistics: self.statistics.get(i),
        })
        .collect()
    }

    /// Asks the adapters' own rows, if a method needs to.
    fn prepare(&mut self, methods: &[String]) -> Result<()> {
        let plans = methods
            .iter()
            .filter_map(|name| self.recipe.plan(name).ok());
        let needs = plans.map(|plan| plan.needs()).max();
        let gradients = match needs {
            None | Some(Needs::Nothing) => return Ok(()),
            Some(Needs::Inputs) => false,
            Some(Needs::Gradients) => true,
        };
        for (place, folder) in self.opened {
            let run = data::open(place.run.as_deref(), self.args.device.as_deref())?;
            let found = data::statistics(&run, folder, gradients, self.recipe.seed)?;
            self.statistics.push(found);
        }
        Ok(())
    }
}
