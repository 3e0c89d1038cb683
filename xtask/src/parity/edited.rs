//! Adapters merged, pruned and exported: all kinds of folders that those write, for PEFT to load, and merges that PEFT makes itself.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use coto_adapters::{AdapterConfig, AdapterSet};
use coto_coalition::Grouping;
use coto_merge::fold::for_vllm;
use coto_merge::peft_compat::{CombinationType, PeftOptions, add_weighted_adapter};
use coto_merge::{Options, Plan, Source, fuse, merge};
use coto_models::Bert;
use coto_peft::Folder;
use coto_prune::{Candidates, Rule, reduce, sparsify};
use serde_json::{Value, json};

use super::checks::perturb;

const VARIANTS: [&str; 4] = ["lora", "rslora", "dora", "hira"];

/// The rank of results that are compressed.
const RANK: usize = 6;

const DENSITY: f64 = 0.5;

/// Of adapters of different variants, ranks and targets.
const MERGES: [(&str, Option<usize>); 6] = [
    ("concat", None),
    ("svd", Some(RANK)),
    ("core+ties", None),
    ("knots+ties", None),
    ("delta+ties", Some(RANK)),
    ("lego", Some(RANK)),
];

/// PEFT's merges: how many of the adapters, and whether they are pruned.
const COMBINATIONS: [(CombinationType, usize, bool); 5] = [
    (CombinationType::Cat, 3, false),
    (CombinationType::Svd, 3, false),
    (CombinationType::TiesSvd, 3, true),
    (CombinationType::MagnitudePruneSvd, 3, true),
    (CombinationType::Linear, 2, false), // of one rank
];

const WEIGHTS: [f64; 3] = [0.7, 0.5, 0.4];

/// Those of PEFT's merges.
const SIGNED: [f64; 3] = [0.7, -0.5, 0.4];

/// Folders by name.
type Folders = Vec<(String, Folder)>;

/// All folders. What PEFT is to merge itself goes to `work`.
pub fn folders(bert: &Bert, work: &Path) -> Result<Folders> {
    let mut found = merges(bert, work)?;
    let pruned = prunes(bert)?;
    let uneven = |(name, _): &&(String, Folder)| name.starts_with("ranks energy");
    let (_, uneven) = pruned.iter().find(uneven).context("no uneven ranks")?;
    found.push(("export vllm".to_owned(), for_vllm(uneven, 16)?));
    found.extend(pruned);
    Ok(found)
}

fn merges(bert: &Bert, work: &Path) -> Result<Folders> {
    let adapters = [
        random(bert, "lora", 8, &["query", "value"], 2)?,
        random(bert, "rslora", 8, &["query", "value"], 3)?,
        random(bert, "lora", 3, &["query", "dense"], 4)?,
    ];
    let mut found = Folders::new();
    for (method, rank) in MERGES {
        let options = Options {
            rank,
            density: Some(DENSITY),
            ..Options::default()
        };
        let merged = merge(&sources(&adapters), &Plan::named(method, &options)?)?;
        found.push((format!("merge {method}"), merged.folder));
    }
    for variant in VARIANTS {
        let of = |seed| random(bert, variant, 8, &["query", "dense"], seed);
        let fused = fuse(&sources(&[of(5)?, of(6)?]))?;
        found.push((format!("fuse {variant}"), fused));
    }
    let mut names = Vec::new();
    for (at, adapter) in adapters.iter().enumerate() {
        names.push(format!("sources/{at}"));
        adapter.save(work.join(&names[at]))?;
    }
    let mut asked = BTreeMap::<String, Value>::new();
    for (combination_type, count, prunes) in COMBINATIONS {
        let options = PeftOptions {
            combination_type,
            svd_rank: Some(RANK),
            density: prunes.then_some(DENSITY),
            ..PeftOptions::default()
        };
        let name = format!("peft {combination_type}");
        let some: Vec<&Folder> = adapters[..count].iter().collect();
        let folder = add_weighted_adapter(&some, &SIGNED[..count], &options)?;
        found.push((name.clone(), folder));
        let options = json!({
            "combination_type": combination_type.name(),
            "svd_rank": options.svd_rank,
            "density": options.density,
        });
        let (folders, weights) = (&names[..count], &SIGNED[..count]);
        asked.insert(
            name,
            json!({"folders": folders, "weights": weights, "options": options}),
        );
    }
    std::fs::write(work.join("merges.json"), serde_json::to_vec(&asked)?)?;
    Ok(found)
}

fn prunes(bert: &Bert) -> Result<Folders> {
    let mut found = Folders::new();
    for (at, variant) in VARIANTS.into_iter().enumerate() {
        let folder = random(
            bert,
            variant,
            8,
            &["query", "value", "dense"],
            10 + at as u64,
        )?;
        let candidates = Candidates::new(&folder, &Grouping::Layer)?;
        let kept = candidates.keep(&candidates.choose(&"odd".parse()?, None)?)?;
        found.push((format!("keep odd, {variant}"), kept));
        let rule: Rule = "magnitude:tensor".parse()?;
        let thin = sparsify(&folder, rule, "0.5".parse()?, &BTreeMap::new())?;
        found.push((format!("sparsity 0.5, {variant}"), thin));
        if !variant.ends_with("lora") {
            continue; // their ΔW depends on the base weight
        }
        for ranks in ["energy:0.8", "rank:3", "total:100"] {
            let (small, _) = reduce(&folder, &ranks.parse()?, &BTreeMap::new())?;
            found.push((format!("ranks {ranks}, {variant}"), small));
        }
        let candidates = Candidates::new(&folder, &Grouping::Module)?;
        let kinds = "kinds:query,value".parse()?;
        let kept = candidates.keep(&candidates.choose(&kinds, None)?)?;
        found.push((format!("keep kinds, {variant}"), kept));
    }
    Ok(found)
}

fn sources(folders: &[Folder]) -> Vec<Source<'_>> {
    let each = folders.iter().zip(WEIGHTS).enumerate();
    each.map(|(at, (folder, weight))| Source {
        name: at.to_string(),
        folder,
        weight,
        statistics: None,
    })
    .collect()
}

/// An adapter with random factors.
fn random(bert: &Bert, variant: &str, rank: usize, targets: &[&str], seed: u64) -> Result<Folder> {
    let config = AdapterConfig::lora(rank, 16.0)
        .variant(variant)
        .targets(targets.iter().copied());
    let mut set = AdapterSet::new(bert, &config, &Grouping::Layer, seed)?;
    perturb(&mut set, if variant == "hira" { 0.7 } else { 0.1 }, seed);
    Ok(set.to_folder()?)
}
