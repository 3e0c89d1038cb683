use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use coto_merge::{Options, Plan, options, parse};
use serde::Deserialize;

use super::merge::MergeArgs;

/// The yardstick among the methods that are tried: no merge, but the mean of the outputs.
pub const ENSEMBLE: &str = "ensemble";

/// A recipe: which adapters are merged, and how. The flags of `coto merge` make one too.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Where the merged adapter goes.
    pub out: Option<PathBuf>,
    /// How, as `coto merge --explain` lists it.
    #[serde(default = "concat")]
    pub method: String,
    /// Whether factors are aligned first.
    #[serde(default)]
    pub align: bool,
    /// What the result is multiplied by.
    #[serde(default = "one")]
    pub scale: f64,
    /// The seed of all that is drawn.
    #[serde(default)]
    pub seed: u64,
    /// The rank to which every module is compressed, and the methods' own settings.
    #[serde(default)]
    pub options: Options,
    /// The adapters.
    #[serde(rename = "adapter")]
    pub adapters: Vec<Entry>,
    /// Other methods for some modules.
    #[serde(default, rename = "module")]
    pub modules: Vec<Override>,
    /// Runs on whose tasks merged adapters are judged; by default those that the adapters lie in.
    #[serde(default)]
    pub judges: Vec<PathBuf>,
}

/// An adapter of a recipe.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The folder of a finished run, or an adapter folder.
    pub path: PathBuf,
    /// What it is called; by default its folder's name, or its path where names repeat.
    pub name: Option<String>,
    /// Its weight; by default one over the number of adapters.
    pub weight: Option<f64>,
}

/// A method for some modules.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Override {
    /// A pattern of module paths, as in PEFT's `rank_pattern`.
    pub pattern: String,
    /// The method.
    pub method: String,
}

fn concat() -> String {
    "concat".to_owned()
}

fn one() -> f64 {
    1.0
}

impl Recipe {
    /// The recipe of a command line: a file, or flags that say the same, and what `--set` changes in it.
    pub fn of(args: &MergeArgs) -> Result<Self> {
        let (mut table, origin) = match args.sources.as_slice() {
            [file] if file.extension().is_some_and(|end| end == "toml") => {
                let text =
                    std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
                let table: toml::Table =
                    toml::from_str(&text).with_context(|| file.display().to_string())?;
                ensure!(
                    args.weights.is_empty(),
                    "--weights: {} has them",
                    file.display()
                );
                (table, file.display().to_string())
            }
            folders => (
                of_folders(folders, &args.weights)?,
                "the command line".to_owned(),
            ),
        };
        let mut put = |key: &str, value: Option<toml::Value>| {
            if let Some(value) = value {
                table.insert(key.to_owned(), value);
            }
        };
        put("method", args.method.clone().map(Into::into));
        put("align", args.align.then(|| true.into()));
        put("seed", args.seed.map(|seed| (seed as i64).into()));
        put("out", args.out.as_deref().map(path_value));
        for assignment in args
            .rank
            .map(|rank| format!("options.rank={rank}"))
            .iter()
            .chain(&args.set)
        {
            coto_train::assign(&mut table, assignment)?;
        }
        let set = table.get("options").and_then(|options| options.as_table());
        let set: Vec<String> = set
            .into_iter()
            .flat_map(|options| options.keys().cloned())
            .collect();
        let recipe: Self = table.try_into().with_context(|| origin.clone())?;
        ensure!(!recipe.adapters.is_empty(), "{origin}: no adapter");
        recipe.check_used(&set, &args.tried)?;
        Ok(recipe)
    }

    /// Refuses an option that none of the methods takes.
    fn check_used(&self, set: &[String], tried: &[String]) -> Result<()> {
        let own = [self.method.clone()];
        let methods = if tried.is_empty() { &own } else { tried };
        if methods == ["all"] {
            return Ok(());
        }
        let others = self.modules.iter().map(|module| &module.method);
        let methods: Vec<&String> = methods.iter().chain(others).collect();
        let mut taken = vec!["rank"];
        for name in &methods {
            match name.as_str() {
                ENSEMBLE => {}
                peft if peft.starts_with("peft:") => taken.extend(["density", "majority"]),
                name => taken.extend(options(name)?),
            }
        }
        taken.sort_unstable();
        taken.dedup();
        if let Some(unused) = set.iter().find(|key| !taken.contains(&key.as_str())) {
            bail!(
                "options.{unused}: `{}` takes only {}",
                methods
                    .iter()
                    .map(|name| name.as_str())
                    .collect::<Vec<_>>()
                    .join("`, `"),
                taken.join(", ")
            );
        }
        Ok(())
    }

    /// What is done, but for the method.
    pub fn plan(&self, name: &str) -> Result<Plan, coto_merge::Error> {
        let mut plan = Plan::named(name, &self.options)?;
        for own in &self.modules {
            plan.overrides
                .push((own.pattern.clone(), parse(&own.method, &self.options)?));
        }
        plan.align = self.align;
        plan.scale = self.scale;
        plan.seed = self.seed;
        Ok(plan)
    }

    /// The adapters' names, all different.
    pub fn names(&self) -> Vec<String> {
        let short = |path: &Path| {
            let path = if path.ends_with("adapter") {
                path.parent().unwrap_or(path)
            } else {
                path
            };
            path.file_name()
                .map_or(String::new(), |name| name.to_string_lossy().into_owned())
        };
        let of = |entry: &Entry| entry.name.clone().unwrap_or_else(|| short(&entry.path));
        let names: Vec<String> = self.adapters.iter().map(of).collect();
        let repeats = |name: &String| names.iter().filter(|other| *other == name).count() > 1;
        let full = |(name, entry): (&String, &Entry)| match repeats(name) && entry.name.is_none() {
            true => entry.path.display().to_string(),
            false => name.clone(),
        };
        names.iter().zip(&self.adapters).map(full).collect()
    }

    /// The adapters' weights.
    pub fn weights(&self) -> Vec<f64> {
        let equal = 1.0 / self.adapters.len() as f64;
        let of = |entry: &Entry| entry.weight.unwrap_or(equal);
        self.adapters.iter().map(of).collect()
    }
}

fn of_folders(folders: &[PathBuf], weights: &[f64]) -> Result<toml::Table> {
    if !weights.is_empty() && weights.len() != folders.len() {
        bail!("{} adapters but {} weights", folders.len(), weights.len());
    }
    let entry = |(i, path): (usize, &PathBuf)| {
        let mut entry = toml::Table::new();
        entry.insert("path".to_owned(), path_value(path));
        if let Some(weight) = weights.get(i) {
            entry.insert("weight".to_owned(), (*weight).into());
        }
        toml::Value::Table(entry)
    };
    let adapters: Vec<toml::Value> = folders.iter().enumerate().map(entry).collect();
    Ok(toml::Table::from_iter([(
        "adapter".to_owned(),
        adapters.into(),
    )]))
}

fn path_value(path: &Path) -> toml::Value {
    path.display().to_string().into()
}
