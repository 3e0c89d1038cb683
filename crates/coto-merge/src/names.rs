use std::sync::Arc;

use coto_peft::nearest;
use serde::{Deserialize, Serialize};

use crate::catalogue::{ENTRIES, Entry, Kind, Make};
use crate::{Error, InSpace, Majority, Method, Plan, Rescale, Space};

/// What named methods can be told; each takes what concerns it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The rank of the result: `svd`, `shared` and the rules in `delta` need it, `lego` has as many clusters.
    pub rank: Option<usize>,
    /// The share of entries that a sparse rule keeps, in (0, 1]. Without it 0.2 for `ties` and `magnitude`, 0.5 for `dare` and
    /// `della`, 0.15 for `breadcrumbs`.
    pub density: Option<f64>,
    /// The share of the largest entries that `breadcrumbs` drops as outliers, in [0, 1); 0.01 without it.
    pub gamma: Option<f64>,
    /// Half the width of the window of `della`'s probabilities; 0.15 without it, or less where the density asks for less.
    pub epsilon: Option<f64>,
    /// How `dare` and `della` make up for what they drop.
    pub rescale: Rescale,
    /// What elects a sign in a `ties` rule.
    pub majority: Majority,
    /// The share of places that `sce` selects by their variance, in (0, 1]; 1 without it.
    pub select: Option<f64>,
    /// The factor of the entries off the diagonal of `regmean`'s inner products, in [0, 1]; 0.9 without it.
    pub off_diagonal: Option<f64>,
    /// What `regmean` adds to the diagonal, over its mean; 1e-6 without it.
    pub ridge: Option<f64>,
    /// The factor of `zip`'s penalty; 0.01 without it.
    pub penalty: Option<f64>,
    /// The steps that `zip` optimises; 200 without it.
    pub steps: Option<usize>,
}

/// The method of a name: `concat`, `svd`, `lego`, …; a rule in a space, as `knots+dare-ties`; or a rule alone, which is done in core
/// space: nothing is lost there, it is the cheapest, and the result has at most the ranks of the adapters together.
/// [`catalogue()`] has all names.
///
/// ```
/// use coto_merge::{Options, parse};
///
/// parse("core+ties", &Options { density: Some(0.3), ..Options::default() })?;
/// let error = parse("core+tise", &Options::default()).unwrap_err().to_string();
/// assert!(error.contains("`tise`") && error.contains("`ties`"));
/// # Ok::<(), coto_merge::Error>(())
/// ```
///
/// # Errors
/// [`Error::Unknown`] with the nearest names; [`Error::Refused`] for options that the method lacks.
pub fn parse(text: &str, options: &Options) -> Result<Arc<dyn Method>, Error> {
    let (space, entry) = entries(text)?;
    let space = space.map_or(Make::Space(|_| Ok(Space::Core)), |space| space.make);
    match (space, entry.make) {
        (_, Make::Method(make)) => make(options),
        (Make::Space(space), Make::Rule(rule)) => Ok(Arc::new(InSpace {
            space: space(options)?,
            rule: rule(options),
        })),
        _ => Err(unknown(text, &[Kind::Method, Kind::Rule])),
    }
}

/// The fields of [`Options`] that the method of a name takes, beside the rank that every method can be compressed to.
///
/// # Errors
/// [`Error::Unknown`] with the nearest names.
pub fn options(text: &str) -> Result<Vec<&'static str>, Error> {
    let (space, entry) = entries(text)?;
    let of_space = space.map_or(&[][..], |space| space.options);
    Ok([of_space, entry.options].concat())
}

/// The space of a name, where it has one, and its rule or method.
fn entries(text: &str) -> Result<(Option<&'static Entry>, &'static Entry), Error> {
    match text.trim().split_once('+') {
        Some((space, rule)) => Ok((
            Some(find(space, &[Kind::Space])?),
            find(rule, &[Kind::Rule])?,
        )),
        None => Ok((None, find(text, &[Kind::Method, Kind::Rule])?)),
    }
}

/// All names that [`parse`] knows, and what they are.
pub fn catalogue() -> &'static [Entry] {
    ENTRIES
}

/// The names of all that is worth trying: every method, every rule in core space, and TIES and DARE-TIES in the other spaces.
pub fn suite() -> Vec<String> {
    let of = |kind: Kind| {
        ENTRIES
            .iter()
            .filter(move |entry| entry.kind() == kind)
            .map(|entry| entry.names[0])
    };
    let others = ["knots", "delta", "factors", "shared"]
        .into_iter()
        .flat_map(|space| ["ties", "dare-ties"].map(|rule| format!("{space}+{rule}")));
    let rules = of(Kind::Rule).map(|rule| format!("core+{rule}"));
    of(Kind::Method)
        .map(str::to_owned)
        .chain(rules)
        .chain(others)
        .collect()
}

impl Plan {
    /// A plan for a [method by name](parse), with the options' rank.
    ///
    /// # Errors
    /// As [`parse`].
    pub fn named(text: &str, options: &Options) -> Result<Self, Error> {
        Ok(Self {
            rank: options.rank,
            ..Self::new(parse(text, options)?)
        })
    }
}

fn find(name: &str, kinds: &[Kind]) -> Result<&'static Entry, Error> {
    let name = name.trim();
    let mut entries = ENTRIES.iter().filter(|entry| kinds.contains(&entry.kind()));
    entries
        .find(|entry| entry.names.contains(&name))
        .ok_or_else(|| unknown(name, kinds))
}

fn unknown(name: &str, kinds: &[Kind]) -> Error {
    let entries = ENTRIES.iter().filter(|entry| kinds.contains(&entry.kind()));
    let names = entries.flat_map(|entry| entry.names.iter().copied());
    let what = match kinds {
        [Kind::Space] => "space",
        [Kind::Rule] => "rule",
        _ => "method of merging",
    };
    Error::Unknown {
        what,
        name: name.to_owned(),
        nearest: nearest(name, names),
    }
}
