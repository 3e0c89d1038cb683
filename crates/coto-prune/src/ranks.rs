use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use coto_lowrank::{LowRank, Statistics, Svd, updates};
use coto_peft::Folder;
use serde::{Deserialize, Serialize};

use crate::keep::{checked, exclude};
use crate::text::by_text;
use crate::{Error, terms};

const RULES: &str = "`energy:SHARE`, `rank:R`, `total:RANKS`, `total:RANKS:relative`, `parameters:COUNT`, \
                     `parameters:COUNT:relative`, `sensitivity:RANKS`";

/// What rank each module has left. A module of rank 0 is dropped.
///
/// All but the last cut singular values σ of ΔW = s B A, the best approximation of that rank (Eckart and Young, 1936); the
/// factors come out in f32, rotated, with scale 1. As a text: `energy:0.95`, `rank:4`, `total:64`, `total:64:relative`,
/// `parameters:9000`, `parameters:9000:relative`, `sensitivity:64`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Ranks {
    /// The lowest rank with Σ σ² of at least this share of ‖ΔW‖²_F, in (0, 1], module by module.
    Energy(f64),
    /// At most this rank, module by module.
    Rank(usize),
    /// At most so many ranks over all modules: those of the largest σ, which leaves the least Σ ‖ΔW − ΔW'‖²_F over the modules. If
    /// relative, of the largest σ / ‖ΔW‖_F with each module's own norm, for the least Σ ‖ΔW − ΔW'‖²_F / ‖ΔW‖²_F.
    Total {
        /// The ranks.
        ranks: usize,
        /// Whether errors count relative to their module's norm.
        relative: bool,
    },
    /// At most so many parameters over all modules, a rank of a module costing in + out: the largest σ² (or σ² / ‖ΔW‖²_F) per
    /// parameter, greedily; a module whose next rank does not fit any more gets no other.
    Parameters {
        /// The parameters.
        most: usize,
        /// Whether errors count relative to their module's norm.
        relative: bool,
    },
    /// So many of the folder's own rank-one terms B_:k A_k over all modules, those of the largest Σ |g · w| over the entries w of
    /// A_k and B_:k (after AdaLoRA, arXiv 2303.10512, equation 8), from [`Statistics::gradients`]. They are not rotated, bit for bit as
    /// they were, and the scale stays: α' = α r'/r, for rsLoRA α √(r'/r). DoRA's magnitude stays with its module.
    Sensitivity(usize),
}

/// What became of a module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reduced {
    /// The module's path.
    pub module: String,
    /// The rank in the folder before.
    pub before: usize,
    /// The rank now; 0 if the module is dropped.
    pub after: usize,
    /// ‖ΔW'‖²_F / ‖ΔW‖²_F; 1 for an update of zeros. (For DoRA ΔW is s B A here.)
    pub energy: f64,
    /// ‖ΔW − ΔW'‖_F / ‖ΔW‖_F; 0 for an update of zeros.
    pub error: f64,
}

by_text!(Ranks);

impl FromStr for Ranks {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let unknown = || Error::Text {
            what: "rule for ranks",
            text: text.to_owned(),
            known: RULES,
        };
        let parts: Vec<&str> = text.split(':').collect();
        let number = |text: &str| text.parse().map_err(|_| unknown());
        let relative = |parts: &[&str]| match parts {
            [] => Ok(false),
            ["relative"] => Ok(true),
            _ => Err(unknown()),
        };
        let read = match parts[..] {
            ["energy", share] => Self::Energy(share.parse().map_err(|_| unknown())?),
            ["rank", rank] => Self::Rank(number(rank)?),
            ["total", ranks, ref rest @ ..] => Self::Total {
                ranks: number(ranks)?,
                relative: relative(rest)?,
            },
            ["parameters", most, ref rest @ ..] => Self::Parameters {
                most: number(most)?,
                relative: relative(rest)?,
            },
            ["sensitivity", ranks] => Self::Sensitivity(number(ranks)?),
            _ => return Err(unknown()),
        };
        read.check()
    }
}

impl fmt::Display for Ranks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tail = |relative: &bool| if *relative { ":relative" } else { "" };
        match self {
            Self::Energy(share) => write!(f, "energy:{share}"),
            Self::Rank(rank) => write!(f, "rank:{rank}"),
            Self::Total { ranks, relative } => write!(f, "total:{ranks}{}", tail(relative)),
            Self::Parameters { most, relative } => write!(f, "parameters:{most}{}", tail(relative)),
            Self::Sensitivity(ranks) => write!(f, "sensitivity:{ranks}"),
        }
    }
}

impl Ranks {
    fn check(self) -> Result<Self, Error> {
        let wrong = |what, value, expected: &str| Error::Number {
            what,
            value,
            expected: expected.to_owned(),
        };
        match self {
            Self::Energy(share) if !(share > 0.0 && share <= 1.0) => {
                Err(wrong("the share of energy", share, "above 0 and at most 1"))
            }
            Self::Rank(0) => Err(wrong("the rank", 0.0, "at least 1")),
            _ => Ok(self),
        }
    }
}

/// The folder with lower ranks, and what became of each module, in the order of their paths. `statistics` by module, for
/// [`Ranks::Sensitivity`].
///
/// # Errors
/// [`Error::Number`]; [`Error::Nothing`] if no module has a rank left; [`Error::NoStatistics`], [`Error::Statistics`] and
/// [`Error::NotFinite`]; [`Error::LowRank`] for DoRA and HiRA, whose ΔW depends on the base weight, and [`Error::Refused`] for
/// HiRA's own terms.
pub fn reduce(
    folder: &Folder,
    ranks: &Ranks,
    statistics: &BTreeMap<String, Statistics>,
) -> Result<(Folder, Vec<Reduced>), Error> {
    let ranks = ranks.check()?;
    if let Ranks::Sensitivity(total) = ranks {
        return terms::reduce(folder, total, statistics);
    }
    let whole = updates(folder)?;
    let svds: Vec<Svd> = whole.values().map(LowRank::svd).collect::<Result<_, _>>()?;
    let left = ranks.left(&svds);
    let (mut kept, mut report) = (BTreeMap::new(), Vec::new());
    for (((path, update), svd), &after) in whole.iter().zip(&svds).zip(&left) {
        if after > 0 {
            kept.insert(path.clone(), svd.truncated(after));
        }
        let error = svd.error(after).abs(); // of nothing it is −0
        report.push(Reduced {
            module: path.clone(),
            before: update.rank(),
            after,
            energy: 1.0 - error.powi(2),
            error,
        });
    }
    if kept.is_empty() {
        return Err(Error::Nothing {
            by: ranks.to_string(),
            of: format!("{} modules", whole.len()),
        });
    }
    let mut small = coto_lowrank::folder(folder, &kept)?;
    let gone = whole.keys().filter(|path| !kept.contains_key(*path));
    exclude(
        &mut small.config,
        kept.keys().map(String::as_str),
        gone.map(String::as_str),
    );
    small.side = folder.side.clone();
    Ok((checked(small)?, report))
}

impl Ranks {
    /// The rank that each module has left.
    fn left(self, svds: &[Svd]) -> Vec<usize> {
        let budget = |most, relative, cost: &dyn Fn(&Svd) -> usize| -> Vec<usize> {
            let terms = svds.iter().enumerate().flat_map(|(module, svd)| {
                let norm = if relative { energy(&svd.s) } else { 1.0 };
                let cost = cost(svd);
                let squares = svd
                    .s
                    .iter()
                    .map(|s| s * s)
                    .enumerate()
                    .filter(|(_, square)| *square > 0.0);
                squares.map(move |(index, square)| Term {
                    module,
                    index,
                    gain: square / norm,
                    cost,
                })
            });
            within(terms.collect(), most, svds.len())
                .iter()
                .map(Vec::len)
                .collect()
        };
        match self {
            Self::Energy(share) => svds.iter().map(|svd| enough(&svd.s, share)).collect(),
            Self::Rank(rank) => svds.iter().map(|svd| rank.min(svd.s.len())).collect(),
            Self::Total { ranks, relative } => budget(ranks, relative, &|_| 1),
            Self::Parameters { most, relative } => {
                budget(most, relative, &|svd| svd.u.nrows() + svd.v.nrows())
            }
            Self::Sensitivity(_) => unreachable!("has no singular values"),
        }
    }
}

fn energy(s: &[f64]) -> f64 {
    s.iter().map(|s| s * s).sum()
}

/// The lowest rank that has so much of the energy.
fn enough(s: &[f64], share: f64) -> usize {
    let wanted = share * energy(s);
    let mut sum = 0.0;
    let short = s.iter().take_while(|s| {
        let missing = sum < wanted;
        sum += *s * *s;
        missing
    });
    short.count()
}

/// A rank that a module could keep.
pub(crate) struct Term {
    pub module: usize,
    pub index: usize,
    pub gain: f64,
    pub cost: usize,
}

/// The terms' indices by module, ascending: the best by gain per cost (of equals the earlier) whose costs fit; a module is
/// through with its first term that does not.
pub(crate) fn within(mut terms: Vec<Term>, most: usize, modules: usize) -> Vec<Vec<usize>> {
    let per = |term: &Term| term.gain / term.cost as f64;
    terms.sort_by(|a, b| per(b).total_cmp(&per(a)));
    let (mut kept, mut through, mut left) = (vec![Vec::new(); modules], vec![false; modules], most);
    for term in terms {
        through[term.module] |= term.cost > left;
        if !through[term.module] {
            left -= term.cost;
            kept[term.module].push(term.index);
        }
    }
    kept.iter_mut()
        .for_each(|kept: &mut Vec<usize>| kept.sort_unstable());
    kept
}
