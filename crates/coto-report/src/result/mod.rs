//! The pages of single results, and the one that gathers them.

mod bound;
mod connect;
mod gather;
mod merge;
mod prune;
mod shapley;
mod similarity;
mod stability;

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

pub use gather::{gather, has_results};

use crate::read::{parse, text};
use crate::{Error, html};

/// The results that there are pages for.
const KINDS: [&str; 7] = [
    "shapley",
    "stability",
    "connect",
    "similarity",
    "bound",
    "merge",
    "prune",
];

/// One result as part of a page.
struct Section {
    title: String,
    /// Markup.
    body: String,
}

/// What every result file says of where it comes from.
#[derive(Deserialize)]
struct Origin {
    adapters: Vec<String>,
    model: String,
    split: Option<String>,
    samples: Option<usize>,
    seed: Option<u64>,
    version: String,
}

impl Origin {
    /// The adapters' names, as short as they are told apart.
    fn names(&self) -> Vec<String> {
        let name = |path: &String| {
            let path = path.trim_end_matches('/');
            let path = path.strip_suffix("/adapter").unwrap_or(path);
            path.rsplit('/').next().unwrap_or(path).to_owned()
        };
        let short: Vec<String> = self.adapters.iter().map(name).collect();
        let mut distinct = short.clone();
        distinct.sort();
        distinct.dedup();
        match distinct.len() == short.len() {
            true => short,
            false => self.adapters.clone(),
        }
    }

    /// A sentence on where the numbers come from.
    fn note(&self) -> String {
        let rows = match (&self.split, self.samples) {
            (Some(split), Some(samples)) => format!(", on {samples} rows of the {split} split"),
            _ => String::new(),
        };
        let seed = self
            .seed
            .map_or(String::new(), |seed| format!(", seed {seed}"));
        format!(
            "{} on {}{rows}{seed}; coto {}.",
            self.adapters.join(", "),
            self.model,
            self.version
        )
    }
}

/// Writes the page of one result file of `coto`'s instruments beside it, as `<name>.html`, and returns its path.
///
/// # Errors
/// A file that is missing, malformed or no such result, and a page that cannot be written.
pub fn result(path: &Path) -> Result<PathBuf, Error> {
    let section = section(path, "result")?;
    let page = html::page(&section.title, &section.body);
    html::publish(path.with_extension("html"), &page)
}

/// The section of one result file; `id` goes before the ids of its pictures.
fn section(path: &Path, id: &str) -> Result<Section, Error> {
    let text = text(path)?;
    #[derive(Deserialize)]
    struct Kind {
        kind: String,
    }
    let Kind { kind } = parse(&text, path, 1)?;
    let origin: Origin = parse(&text, path, 1)?;
    match kind.as_str() {
        "shapley" => Ok(shapley::section(&parse(&text, path, 1)?, &origin, id)),
        "stability" => Ok(stability::section(&parse(&text, path, 1)?, &origin, id)),
        "connect" => Ok(connect::section(&parse(&text, path, 1)?, &origin, id)),
        "similarity" => Ok(similarity::section(&parse(&text, path, 1)?, &origin, id)),
        "bound" => Ok(bound::section(&parse(&text, path, 1)?, &origin, id)),
        "merge" => Ok(merge::section(&parse(&text, path, 1)?, &origin, id)),
        "prune" => Ok(prune::section(&parse(&text, path, 1)?, &origin, id)),
        _ => Err(Error::Kind {
            path: path.to_owned(),
            kind,
        }),
    }
}

/// So many decimals that the greatest of some numbers has three digits at least.
fn decimals(most: f64) -> usize {
    match most.is_finite() && most > 0.0 {
        true => (2.0 - most.log10().floor()).clamp(0.0, 8.0) as usize,
        false => 2,
    }
}

/// The settings of a result as rows of a table.
fn rows(pairs: &[(&str, String)]) -> Vec<Vec<String>> {
    let row = |(name, value): &(&str, String)| vec![(*name).to_owned(), value.clone()];
    pairs.iter().map(row).collect()
}

/// What a JSON file says its kind is, if it says so.
fn kind(path: &Path) -> Option<String> {
    let value: Value = serde_json::from_str(&text(path).ok()?).ok()?;
    Some(value.get("kind")?.as_str()?.to_owned())
}
