//! Merging as PEFT's `LoraModel.add_weighted_adapter` does it, folders in and a folder out.
//!
//! Every [`CombinationType`] gives the ΔW that PEFT 0.21.2 gives, where that is right. Singular values come from the factors where
//! the matrix is their weighted sum (`svd`); the others that end in `svd` form ΔW [out, in] as PEFT does, for they treat its entries.
//!
//! Two properties of PEFT's are kept, for they are what the names mean there: `linear` and its kin combine A and B apart, so that
//! their product has cross terms (K equal copies of weight 1/K give K ΔW; `cat` and `svd` give ΔW); and the signs of TIES are
//! elected before the weights come in, so that an adapter of weight 0 or less votes like any other.
//!
//! These faults of PEFT 0.21.2 are not reproduced, and each has a test that holds PEFT's own numbers:
//!
//! | PEFT | here |
//! |---|---|
//! | rsLoRA in the first adapter stays on in the merged one, whose α = r: ΔW is √r times too large | the scale is 1 |
//! | one adapter is merged by `linear`, whatever is asked: no rank, density or seed counts | what is asked |
//! | DoRA's magnitudes and `lora_bias` are not merged; the result starts afresh in both | refused |
//! | with PiSSA, OLoRA and their like the new adapter's start is taken out of the base weights, of all adapters | refused |
//! | `layers_to_transform` and `exclude_modules` of the first adapter hold for all: modules of the others are lost | every module that an adapter has |
//! | modules chosen by the adapters together, but by none alone, are an error | are not adapted |
//! | `linear` and its kin drop `rank_pattern`, though factors keep the module's rank: what is saved cannot be loaded | ranks are written down |
//! | an `svd_rank` above a module's size is an error or leaves factors that do not fit; 0 is taken for none | the module's size; refused |
//! | `svd_clamp` takes the quantile of entries of singular vectors with the signs that LAPACK happened to give | of entries of both signs |
//! | an unknown name that ends in `svd` leaves an adapter of zeros | refused |
//! | more adapters than weights, or the reverse: the rest is left out | refused |
//! | DARE at density 0 is not a number | refused |
//! | a list of targets and a regular expression do not go together | do |
//!
//! That `svd` counts the scale twice was a fault of older versions. Convolutions (on which PEFT's `svd` fails in one and three
//! dimensions), embeddings and `fan_in_fan_out` are not read by [`coto_peft`]. DARE draws from this project's streams in place of
//! torch's generator: other masks of the same distribution. Where ⌊density · entries⌋ is 0, the largest entry stays, not none.

mod combination;
#[cfg(test)]
mod goldens;

use std::collections::{BTreeMap, BTreeSet};

use coto_coalition::stream;
use coto_lowrank::{FolderBuilder, LowRank, Matrix, Svd, faer::Mat, update};
use coto_peft::{Folder, HostTensor, Param};
use rand::RngExt;

use crate::{Error, Majority, Rule, Weighted};
pub use combination::CombinationType;

/// The keyword arguments of `add_weighted_adapter`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PeftOptions {
    /// The method.
    pub combination_type: CombinationType,
    /// Rank of the result of methods that end in `svd`; none: the largest of the adapters' ranks.
    pub svd_rank: Option<usize>,
    /// Clamps U S and V of those methods between ∓ this quantile of their entries and the entries' negatives: in (0.5, 1].
    pub svd_clamp: Option<f64>,
    /// The share of entries that pruning keeps, in (0, 1]; methods that prune need one.
    pub density: Option<f64>,
    /// How TIES elects signs.
    pub majority_sign_method: Majority,
    /// Seed of DARE's masks.
    pub seed: u64,
}

/// Which of a module's matrices are merged: `a`, `b` or `delta`.
#[derive(Debug, Clone, Copy)]
struct Place<'a> {
    module: &'a str,
    matrix: &'static str,
}

/// Merges what the adapters have there; their numbers stand beside.
type Combine<'a> = dyn FnMut(Place, &[usize], Vec<Weighted>) -> Result<Matrix, Error> + 'a;

/// What one adapter has for a module.
struct Part<'a> {
    adapter: usize,
    weight: f64,
    scale: f64,
    update: LowRank,
    /// The folder's own factors.
    a: &'a HostTensor,
    b: &'a HostTensor,
}

/// The folder of the merged adapter, f32: Σ wₖ ΔWₖ, or what the method makes in its place.
///
/// It has every module that one of the adapters has, made of those that have it; its scales are 1.
///
/// # Errors
/// [`Error::Empty`], [`Error::Argument`] for weights or options that cannot be, [`Error::Refused`] for adapters whose sizes do
/// not go together under the method, [`Error::LowRank`] for DoRA, HiRA and folders that contradict themselves.
pub fn add_weighted_adapter(
    folders: &[&Folder],
    weights: &[f64],
    options: &PeftOptions,
) -> Result<Folder, Error> {
    merged(folders, weights, options, &mut |place, _, parts| {
        let name = format!("{}/{}", place.module, place.matrix);
        let seed = stream(options.seed, &name).random();
        options.rule()?.merge(&parts, seed)
    })
}

fn merged(
    folders: &[&Folder],
    weights: &[f64],
    options: &PeftOptions,
    combine: &mut Combine,
) -> Result<Folder, Error> {
    let first = folders.first().ok_or(Error::Empty)?;
    check(folders, weights, options)?;
    let modules = folders.iter().map(|folder| Ok(folder.modules()?));
    let modules = modules.collect::<Result<Vec<_>, coto_lowrank::Error>>()?;
    let ranks = folders.iter().flat_map(|folder| {
        let patterns = folder.config.rank_pattern.iter().map(|(_, rank)| *rank);
        patterns.chain([folder.config.r])
    });
    let rank = options.svd_rank.or(ranks.max()).unwrap_or(1);
    let paths: BTreeSet<&String> = modules.iter().flat_map(BTreeMap::keys).collect();
    let mut folder = FolderBuilder::default();
    for path in paths {
        let mut parts = Vec::new();
        for (adapter, (folder, modules)) in folders.iter().zip(&modules).enumerate() {
            if let Some(tensors) = modules.get(path) {
                parts.push(Part {
                    adapter,
                    weight: weights[adapter],
                    scale: folder
                        .config
                        .scaling(path)
                        .map_err(coto_lowrank::Error::from)?,
                    update: update(&folder.config, path, tensors)?,
                    a: tensors[&Param::LoraA],
                    b: tensors[&Param::LoraB],
                });
            }
        }
        fits(path, &parts)?;
        folder.insert(path, &module(path, &parts, options, rank, combine)?)?;
    }
    Ok(folder.build(first)?)
}

fn ensure(right: bool, name: &'static str, value: String, expected: &str) -> Result<(), Error> {
    if right {
        return Ok(());
    }
    let expected = expected.to_owned();
    Err(Error::Argument {
        name,
        value,
        expected,
    })
}

fn check(folders: &[&Folder], weights: &[f64], options: &PeftOptions) -> Result<(), Error> {
    ensure(
        weights.len() == folders.len() && weights.iter().all(|weight| weight.is_finite()),
        "weights",
        format!("{weights:?}"),
        &format!("one finite number for each of {} adapters", folders.len()),
    )?;
    let rank = options.svd_rank;
    ensure(
        rank != Some(0),
        "svd_rank",
        "0".to_owned(),
        "1 or more, or none",
    )?;
    if let Some(clamp) = options.svd_clamp {
        ensure(
            clamp > 0.5 && clamp <= 1.0,
            "svd_clamp",
            clamp.to_string(),
            "above 0.5 and at most 1",
        )?;
    }
    options.rule()?;
    Ok(())
}

fn fits(path: &str, parts: &[Part]) -> Result<(), Error> {
    let [out, input] = parts[0].update.dims();
    match parts.iter().find(|part| part.update.dims() != [out, input]) {
        None => Ok(()),
        Some(part) => {
            let [other_out, other_input] = part.update.dims();
            Err(Error::Refused {
                module: path.to_owned(),
                reason: format!(
                    "ΔW is [{out}, {input}] in adapter {}, but [{other_out}, {other_input}] in adapter {}",
                    parts[0].adapter, part.adapter
                ),
            })
        }
    }
}

/// The merged update of one module.
fn module(
    path: &str,
    parts: &[Part],
    options: &PeftOptions,
    rank: usize,
    combine: &mut Combine,
) -> Result<LowRank, Error> {
    let kind = options.combination_type;
    let exact = || {
        let terms = parts.iter().map(|part| (&part.update, part.weight));
        LowRank::sum(&terms.collect::<Vec<_>>())
    };
    match kind {
        CombinationType::Cat => Ok(exact()?),
        CombinationType::Svd => match options.svd_clamp {
            None => Ok(exact()?.compressed(rank)?.0),
            Some(quantile) => Ok(clamped(&exact()?.svd()?, rank, quantile)?),
        },
        _ if kind.on_delta() => {
            let deltas = parts
                .iter()
                .map(|part| weighted(part.update.dense(), part.weight));
            let place = Place {
                module: path,
                matrix: "delta",
            };
            let delta = combine(place, &numbers(parts), deltas.collect())?;
            let svd = decomposed(&delta)?;
            match options.svd_clamp {
                None => Ok(svd.truncated(rank)),
                Some(quantile) => Ok(clamped(&svd, rank, quantile)?),
            }
        }
        _ => factors(path, parts, options, combine),
    }
}

/// A and B merged apart, each with the root of its weight and scale; the sign is A's.
fn factors(
    path: &str,
    parts: &[Part],
    options: &PeftOptions,
    combine: &mut Combine,
) -> Result<LowRank, Error> {
    let rank = parts[0].update.rank();
    if let Some(part) = parts.iter().find(|part| part.update.rank() != rank) {
        return Err(Error::Refused {
            module: path.to_owned(),
            reason: format!(
                "`{}` adds the factors, but their ranks are {rank} and {}; `cat` and all that end in `svd` take any ranks",
                options.combination_type.name(),
                part.update.rank()
            ),
        });
    }
    let weight = |part: &Part| part.weight * part.scale;
    let root = |part: &Part| weight(part).abs().sqrt();
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for part in parts {
        let sign = weight(part).signum();
        a.push(weighted(Matrix::read(part.a)?, root(part) * sign));
        b.push(weighted(Matrix::read(part.b)?, root(part)));
    }
    let mut merge = |matrix, factors| {
        let place = Place {
            module: path,
            matrix,
        };
        combine(place, &numbers(parts), factors)
    };
    let (a, b) = (merge("a", a)?, merge("b", b)?);
    Ok(LowRank::new(a.to_f64(), b.to_f64())?)
}

fn weighted(matrix: Matrix, weight: f64) -> Weighted {
    Weighted { matrix, weight }
}

fn numbers(parts: &[Part]) -> Vec<usize> {
    parts.iter().map(|part| part.adapter).collect()
}

fn decomposed(delta: &Matrix) -> Result<Svd, coto_lowrank::Error> {
    let found = delta.to_f64().thin_svd();
    let found = found.map_err(|_| coto_lowrank::Error::Diverges {
        rows: delta.rows(),
        cols: delta.cols(),
    })?;
    Ok(Svd {
        u: found.U().to_owned(),
        s: found.S().column_vector().iter().copied().collect(),
        v: found.V().to_owned(),
    })
}

/// The largest `rank` singular values as B = U S and A = Vᵀ, each entry clamped.
fn clamped(svd: &Svd, rank: usize, quantile: f64) -> Result<LowRank, coto_lowrank::Error> {
    let rank = rank.min(svd.s.len());
    let b = Mat::from_fn(svd.u.nrows(), rank, |i, k| svd.u[(i, k)] * svd.s[k]);
    let a = Mat::from_fn(rank, svd.v.nrows(), |k, j| svd.v[(j, k)]);
    let columns = a.col_iter().chain(b.col_iter());
    let entries = columns.flat_map(|column| column.iter().copied().collect::<Vec<f64>>());
    let high = at_quantile(
        entries.flat_map(|entry| [entry, -entry]).collect(),
        quantile,
    );
    let clamp = |matrix: Mat<f64>| {
        Mat::from_fn(matrix.nrows(), matrix.ncols(), |i, j| {
            matrix[(i, j)].clamp(-high, high)
        })
    };
    LowRank::new(clamp(a), clamp(b))
}

/// Linear between two entries, as torch has it.
fn at_quantile(mut entries: Vec<f64>, quantile: f64) -> f64 {
    entries.sort_by(f64::total_cmp);
    let place = quantile * (entries.len() - 1) as f64;
    let (low, high) = (
        entries[place.floor() as usize],
        entries[place.ceil() as usize],
    );
    low + (high - low) * place.fract()
}
