use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use coto_coalition::stream;
use coto_lowrank::{FolderBuilder, LowRank, Statistics};
use coto_peft::{Folder, HostTensor, Param, first_match, nearest};
use rand::RngExt;
use serde::Serialize;

use crate::{Error, Method, Needs, Part, Parts, align, sketch};

/// An adapter to merge.
#[derive(Debug, Clone)]
pub struct Source<'a> {
    /// What messages call it.
    pub name: String,
    /// The adapter.
    pub folder: &'a Folder,
    /// Its weight.
    pub weight: f64,
    /// What data says of its modules, by path, for methods that ask.
    pub statistics: Option<&'a BTreeMap<String, Statistics>>,
}

/// How adapters are merged.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The method.
    pub method: Arc<dyn Method>,
    /// Other methods for some modules: the first pattern that matches a module's path, or its ending after a dot, counts, as in
    /// PEFT's `rank_pattern`.
    pub overrides: Vec<(String, Arc<dyn Method>)>,
    /// The rank to which every module's result is compressed. Without it results stay as they are, and one of a higher rank than
    /// its parts together is refused.
    pub rank: Option<usize>,
    /// Whether the factors are [`align()`]ed first.
    pub align: bool,
    /// λ, by which the result is multiplied.
    pub scale: f64,
    /// Seed of all that is drawn.
    pub seed: u64,
}

/// A merged adapter and how it came out.
#[derive(Debug, Clone)]
pub struct Merged {
    /// The adapter: plain LoRA, f32, of scale 1.
    pub folder: Folder,
    /// What was done, module by module.
    pub modules: Vec<Outcome>,
    /// What a reader should know, such as adapters of different base models.
    pub remarks: Vec<String>,
}

/// One module of a merged adapter.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// The module's path.
    pub path: String,
    /// How many adapters adapt it.
    pub adapters: usize,
    /// The rank of the method's own result.
    pub rank_before: usize,
    /// The rank after compression.
    pub rank: usize,
    /// ‖compressed - result‖ / ‖result‖, in Frobenius norms; 0 where nothing was compressed.
    pub error: f64,
    /// What it took, in seconds.
    pub seconds: f64,
}

impl Plan {
    /// A plan that uses `method` everywhere, keeps ranks, factors and size as they are, and draws by seed 0.
    pub fn new(method: Arc<dyn Method>) -> Self {
        Self {
            method,
            overrides: Vec::new(),
            rank: None,
            align: false,
            scale: 1.0,
            seed: 0,
        }
    }

    /// What its methods ask of [`Source::statistics`].
    pub fn needs(&self) -> Needs {
        let others = self.overrides.iter().map(|(_, method)| method.needs());
        others.fold(self.method.needs(), Needs::max)
    }

    fn method(&self, path: &str) -> Result<&dyn Method, Error> {
        let found = first_match("overrides", &self.overrides, path)?;
        Ok(found.unwrap_or(&self.method).as_ref())
    }

    fn check(&self, paths: &BTreeSet<&str>) -> Result<(), Error> {
        finite("the merged adapter", self.scale)?;
        for (pattern, _) in &self.overrides {
            let own = [(pattern.clone(), ())];
            let mut chosen = false;
            for path in paths {
                chosen |= first_match("overrides", &own, path)?.is_some();
            }
            if !chosen {
                let paths = paths.iter().copied();
                return Err(Error::Pattern {
                    pattern: pattern.clone(),
                    nearest: nearest(pattern, paths),
                });
            }
        }
        Ok(())
    }
}

/// One LoRA adapter of several, of LoRA or rsLoRA and of any ranks. Where one adapter does not adapt a module that another does, its
/// update there is zero.
///
/// Modules are merged one after another, so that beside the adapters and the result only one module's work is in memory.
///
/// # Errors
/// [`Error::Empty`], [`Error::Duplicate`], [`Error::Weight`]; [`Error::Variant`] for DoRA and HiRA, [`Error::Adapter`] for a folder
/// that contradicts itself or holds a number that is not finite, [`Error::Shapes`]; [`Error::Pattern`]; what the method refuses;
/// [`Error::Rank`].
pub fn merge(sources: &[Source], plan: &Plan) -> Result<Merged, Error> {
    check(sources)?;
    let adapters: Vec<Modules> = sources.iter().map(read).collect::<Result<_, _>>()?;
    let paths: BTreeSet<&str> = adapters
        .iter()
        .flat_map(|a| a.keys().map(String::as_str))
        .collect();
    plan.check(&paths)?;
    let weights: Vec<f64> = sources.iter().map(|source| source.weight).collect();
    let (mut folder, mut modules) = (FolderBuilder::default(), Vec::new());
    for path in &paths {
        let start = Instant::now();
        let parts = parts(sources, &adapters, &weights, path, plan)?;
        let (update, outcome) = module(parts, plan).map_err(|error| error.at(path))?;
        folder.insert(path, &update)?;
        modules.push(Outcome {
            seconds: start.elapsed().as_secs_f64(),
            ..outcome
        });
    }
    // The configuration of an adapter that has all modules names them as the user did.
    let whole = adapters.iter().position(|own| own.len() == paths.len());
    let like = sources[whole.unwrap_or(0)].folder;
    Ok(Merged {
        folder: folder.build(like)?,
        modules,
        remarks: remarks(sources),
    })
}

/// An adapter's tensors by module.
pub(crate) type Modules<'a> = BTreeMap<String, BTreeMap<Param, &'a HostTensor>>;

/// What is wrong with the sources whatever is done with them.
pub(crate) fn check(sources: &[Source]) -> Result<(), Error> {
    if sources.is_empty() {
        return Err(Error::Empty);
    }
    let mut names = BTreeSet::new();
    for source in sources {
        if !names.insert(&source.name) {
            let name = source.name.clone();
            return Err(Error::Duplicate { name });
        }
        finite(&format!("adapter `{}`", source.name), source.weight)?;
    }
    Ok(())
}

fn finite(of: &str, weight: f64) -> Result<(), Error> {
    if weight.is_finite() {
        return Ok(());
    }
    let of = of.to_owned();
    Err(Error::Weight { of, weight })
}

pub(crate) fn read<'a>(source: &Source<'a>) -> Result<Modules<'a>, Error> {
    source.folder.modules().map_err(|cause| Error::Adapter {
        name: source.name.clone(),
        cause: Box::new(cause.into()),
    })
}

fn parts<'a>(
    sources: &[Source<'a>],
    adapters: &[Modules],
    weights: &'a [f64],
    path: &'a str,
    plan: &Plan,
) -> Result<Parts<'a>, Error> {
    let mut parts: Vec<Part> = Vec::new();
    for (adapter, (source, modules)) in sources.iter().zip(adapters).enumerate() {
        let Some(tensors) = modules.get(path) else {
            continue;
        };
        let config = &source.folder.config;
        let update = coto_lowrank::update(config, path, tensors);
        let update = update.map_err(|cause| refused(&source.name, cause))?;
        if let Some(first) = parts.first()
            && first.update.dims() != update.dims()
        {
            return Err(Error::Shapes {
                module: path.to_owned(),
                name: source.name.clone(),
                found: update.dims(),
                other: sources[first.adapter].name.clone(),
                expected: first.update.dims(),
            });
        }
        parts.push(Part {
            adapter,
            weight: source.weight,
            update,
            scale: config.scaling(path)?,
            statistics: source.statistics.and_then(|all| all.get(path)),
        });
    }
    let seed = stream(plan.seed, path).random();
    Ok(Parts {
        path,
        weights,
        parts,
        seed,
    })
}

fn refused(name: &str, cause: coto_lowrank::Error) -> Error {
    let name = name.to_owned();
    match cause {
        coto_lowrank::Error::NotLowRank { variant, .. } => Error::Variant { name, variant },
        cause => Error::Adapter {
            name,
            cause: Box::new(cause),
        },
    }
}

fn module(mut parts: Parts, plan: &Plan) -> Result<(LowRank, Outcome), Error> {
    if plan.align {
        align(&mut parts)?;
    }
    let mut merged = plan.method(parts.path)?.merge(&parts)?;
    if plan.scale != 1.0 {
        merged = merged.scaled(plan.scale);
    }
    let (rank_before, own) = (
        merged.rank(),
        parts.parts.iter().map(|part| part.update.rank()).sum(),
    );
    let (update, error) = match plan.rank {
        Some(rank) => sketch::nearest(&merged, rank, parts.seed)?,
        None if rank_before > own => {
            return Err(Error::Rank {
                module: parts.path.to_owned(),
                rank: rank_before,
                parts: own,
            });
        }
        None => (merged, 0.0),
    };
    let outcome = Outcome {
        path: parts.path.to_owned(),
        adapters: parts.parts.len(),
        rank_before,
        rank: update.rank(),
        error,
        seconds: 0.0,
    };
    Ok((update, outcome))
}

fn remarks(sources: &[Source]) -> Vec<String> {
    let base = |source: &Source| source.folder.config.base_model_name_or_path.clone();
    let mut named = sources
        .iter()
        .filter_map(|source| Some((&source.name, base(source)?)));
    let Some((first, model)) = named.next() else {
        return Vec::new();
    };
    named
        .filter(|(_, other)| *other != model)
        .map(|(name, other)| {
            format!(
                "`{first}` was trained on {model}, `{name}` on {other}: are they the same weights?"
            )
        })
        .collect()
}
