use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{ArgGroup, Args as ClapArgs, ValueEnum};
use coto_analysis::{AdapterGame, Evaluation, Judged, Margins, Value};
use coto_coalition::{Coalition, Grouping};
use coto_peft::Folder;
use coto_prune::{
    By, Candidates, Choice, Ranks, Rule, Sparsity, Zeros, reduce, sparsify, sparsity,
};
use coto_shapley::Shapley;
use coto_train::Run;
use serde::Deserialize;
use serde_json::json;

use super::{curves, data, read};
use crate::analysis::grouping;
use crate::args::SplitName;

#[derive(Debug, ClapArgs)]
#[command(group = ArgGroup::new("what").required(true).args(["keep", "sparsity", "ranks", "curve"]))]
pub struct PruneArgs {
    /// The folder of a finished run, or an adapter folder
    pub folder: PathBuf,
    /// Keep some modules only: a number of players (see --by), or even, odd, low, middle, high, kinds:query,value, top:6:norms,
    /// budget:40000:norms, …
    #[arg(long)]
    pub keep: Option<String>,
    /// What ranks players
    #[arg(long, value_enum, default_value_t = Ranking::Norms)]
    pub by: Ranking,
    /// A result of `coto shapley` whose values rank players; without it they are measured
    #[arg(long, value_name = "FILE")]
    pub scores: Option<PathBuf>,
    /// Who the players are: layer, module, kind, or JSON as in {"chunk":2}; as in the run by default
    #[arg(long, value_parser = grouping)]
    pub per: Option<Grouping>,
    /// Set this share of the entries to zero, as in 0.5; or 2:4, two of every four stay
    #[arg(long)]
    pub sparsity: Option<Sparsity>,
    /// Which entries: magnitude:tensor, magnitude:row, magnitude:global, wanda, sparsegpt
    #[arg(long, default_value = "magnitude:tensor")]
    pub rule: Rule,
    /// Lower the ranks: energy:0.95, rank:4, total:64, total:64:relative, parameters:9000, sensitivity:64
    #[arg(long)]
    pub ranks: Option<Ranks>,
    /// Measure loss and accuracy against what is kept, by every criterion
    #[arg(long, value_enum)]
    pub curve: Option<curves::Axis>,
    /// Where the smaller adapter goes; with --curve the result file, by default prune.json in the folder
    #[arg(short, long, required_unless_present = "curve")]
    pub out: Option<PathBuf>,
    /// The run whose model, data and classifier serve; by default the one that the adapter lies in
    #[arg(long)]
    pub run: Option<PathBuf>,
    /// Where to run: cpu, wgpu, wgpu:n, cuda, cuda:n; as the run by default
    #[arg(long)]
    pub device: Option<String>,
    /// What is measured where players are ranked by measuring: loss (its sign turned), accuracy, margin
    #[arg(long, default_value_t = Value::Loss)]
    pub value: Value,
    /// Which rows to measure on
    #[arg(long, value_enum, default_value_t = SplitName::Validation)]
    pub split: SplitName,
    /// Measure on so many rows only, drawn by the seed
    #[arg(long, value_name = "N")]
    pub samples: Option<usize>,
    /// The seed of everything that is drawn
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// What ranks players.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Ranking {
    /// The norm of ΔW
    Norms,
    /// Shapley values
    Shapley,
    /// Backward elimination
    Greedy,
    /// Draws by the seed
    Random,
}

pub fn run(args: &PruneArgs) -> Result<()> {
    if let Some(axis) = args.curve {
        return curves::run(args, axis);
    }
    let (place, folder) = read(&args.folder)?;
    let run = || {
        data::open(
            args.run.as_deref().or(place.run.as_deref()),
            args.device.as_deref(),
        )
    };
    let mut pruned = if let Some(keep) = &args.keep {
        args.kept(
            keep,
            &folder,
            place.run.is_some() || args.run.is_some(),
            &run,
        )?
    } else if let Some(share) = args.sparsity {
        let statistics = match args.rule {
            Rule::Magnitude(_) => BTreeMap::new(),
            _ => data::statistics(&run()?, &folder, false, args.seed)?,
        };
        sparsify(&folder, args.rule, share, &statistics)?
    } else {
        let ranks = args.ranks.as_ref().context("one of the group is there")?;
        let statistics = match ranks {
            Ranks::Sensitivity(_) => data::statistics(&run()?, &folder, true, args.seed)?,
            _ => BTreeMap::new(),
        };
        reduce(&folder, ranks, &statistics)?.0
    };
    let out = args.out.as_deref().context("clap asks for it")?;
    pruned.side = Some(
        json!({"summary": format!("Pruned from {} by {}.", place.adapter.display(), args.what())}),
    );
    pruned.save(out)?;
    report(&folder, &pruned, args)?;
    Ok(())
}

impl PruneArgs {
    /// What was asked for, in words.
    fn what(&self) -> String {
        match (&self.keep, self.sparsity, &self.ranks) {
            (Some(keep), ..) if keep.parse::<usize>().is_ok() => {
                format!("keeping {keep} players by {:?}", self.by)
            }
            (Some(keep), ..) => format!("keeping {keep}"),
            (_, Some(sparsity), _) => format!("sparsity {sparsity}, {}", self.rule),
            (.., ranks) => format!(
                "ranks {}",
                ranks.map_or(String::new(), |ranks| ranks.to_string())
            ),
        }
    }

    fn kept(
        &self,
        keep: &str,
        folder: &Folder,
        has_run: bool,
        run: &dyn Fn() -> Result<Run>,
    ) -> Result<Folder> {
        let count = keep.parse::<usize>().ok();
        let choice = match count {
            Some(k) => match self.by {
                Ranking::Norms => Choice::Top(k, By::Norms),
                Ranking::Random => Choice::Top(k, By::Random(self.seed)),
                Ranking::Shapley | Ranking::Greedy => Choice::Top(k, By::Scores),
            },
            None => keep.parse()?,
        };
        let given = self.scores.as_deref().map(scores).transpose()?;
        let measured = given.is_none()
            && matches!(
                choice,
                Choice::Top(_, By::Scores) | Choice::Budget(_, By::Scores)
            );
        if !measured && !has_run {
            let per = self.per.clone().unwrap_or(Grouping::Layer);
            let candidates = Candidates::new(folder, &per)?;
            return Ok(candidates.keep(&candidates.choose(&choice, given.as_ref())?)?);
        }
        let run = run()?;
        let per = self.per.clone().unwrap_or(run.config().players.clone());
        let candidates =
            Candidates::of_model(folder, coto_adapters::Base::modules(run.model()), &per)?;
        let coalition = match (count, measured, self.by) {
            (Some(k), true, Ranking::Greedy) => self.greedy(&run, folder, &per)?(k)?,
            (_, true, _) => candidates.choose(&choice, Some(&self.shapley(&run, folder, &per)?))?,
            _ => candidates.choose(&choice, given.as_ref())?,
        };
        Ok(candidates.keep(&coalition)?)
    }

    /// Shapley values by player.
    pub(super) fn shapley(
        &self,
        run: &Run,
        folder: &Folder,
        per: &Grouping,
    ) -> Result<BTreeMap<String, f64>> {
        let evaluation = self.evaluation(run)?;
        let adapters = data::adapters(run, folder, per)?;
        let mut game = AdapterGame::new(&evaluation, &adapters, self.value);
        let found = Shapley::auto().seed(self.seed).run(&mut game)?;
        let names = adapters.players().names().iter().cloned();
        Ok(names.zip(found.values).collect())
    }

    fn greedy(
        &self,
        run: &Run,
        folder: &Folder,
        per: &Grouping,
    ) -> Result<impl Fn(usize) -> Result<Coalition>> {
        let evaluation = self.evaluation(run)?;
        let adapters = data::adapters(run, folder, per)?;
        let mut judged = Judged::new(&evaluation, &adapters, self.margins());
        let n = adapters.players().len();
        let curve = coto_prune::greedy(n, |coalitions| judged.values(self.value, coalitions))?;
        Ok(move |k: usize| match k {
            0 => bail!("--keep 0: at least 1"),
            k if k > n => bail!("--keep {k}: there are {n} players"),
            k => Ok(curve.best(k)),
        })
    }

    pub(super) fn margins(&self) -> Margins {
        match self.value {
            Value::Margin => Margins::Wanted,
            _ => Margins::Unwanted,
        }
    }

    pub(super) fn evaluation<'a>(&self, run: &'a Run) -> Result<Evaluation<'a>> {
        data::evaluation(run, self.split, self.samples, self.seed)
    }
}

/// The values of a result of `coto shapley`, by player.
fn scores(path: &std::path::Path) -> Result<BTreeMap<String, f64>> {
    #[derive(Deserialize)]
    struct Scores {
        players: Vec<Score>,
    }
    #[derive(Deserialize)]
    struct Score {
        player: String,
        value: f64,
    }
    let text = std::fs::read(path).with_context(|| path.display().to_string())?;
    let scores: Scores = serde_json::from_slice(&text)
        .with_context(|| format!("{}: no result of `coto shapley`", path.display()))?;
    let each = scores.players.into_iter();
    Ok(each.map(|score| (score.player, score.value)).collect())
}

fn report(before: &Folder, after: &Folder, args: &PruneArgs) -> Result<()> {
    let size = |folder: &Folder| -> Result<(usize, usize, Zeros)> {
        let zeros: Zeros = sparsity(folder)?.into_values().flatten().sum();
        let parameters = folder
            .tensors
            .values()
            .map(|tensor| tensor.shape.iter().product::<usize>());
        Ok((folder.modules()?.len(), parameters.sum(), zeros))
    };
    let ((modules, parameters, _), (kept, left, zeros)) = (size(before)?, size(after)?);
    let out = args.out.as_deref().context("clap asks for it")?;
    if args.json {
        let result = json!({
            "out": out,
            "modules": kept,
            "modules_before": modules,
            "parameters": left,
            "parameters_before": parameters,
            "zeros": zeros.zeros,
        });
        println!("{}", serde_json::to_string_pretty(&result)?);
    } else {
        println!(
            "{kept} of {modules} modules, {left} of {parameters} parameters, {:.1} % of them zero",
            100.0 * zeros.share()
        );
        println!("{}", out.display());
    }
    Ok(())
}
