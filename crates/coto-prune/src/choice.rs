use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use coto_coalition::{Coalition, stream};
use coto_peft::nearest;
use rand::RngExt;

use crate::text::by_text;
use crate::{Candidates, Error, ranking};

const CHOICES: &str = "`even`, `odd`, `low`, `middle`, `high`, `kinds:KIND,…`, `top:K:BY`, `budget:PARAMETERS:BY`, \
                       where BY is `scores`, `norms` or `random:SEED`";

/// Which players stay.
///
/// Layers are counted among the adapted ones, from the bottom; modules outside the layers stay whatever layers are chosen. As a
/// text, on the command line and in configurations: `even`, `odd`, `low`, `middle`, `high`, `kinds:query,value`, `top:6:scores`,
/// `top:6:norms`, `top:6:random:7`, `budget:40000:scores`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// Every other layer, from the lowest on.
    Even,
    /// Every other layer, from the second lowest on.
    Odd,
    /// The lowest third: of L layers those with ⌊3 i / L⌋ = 0, i from 0.
    Low,
    /// The middle third, ⌊3 i / L⌋ = 1.
    Middle,
    /// The highest third, ⌊3 i / L⌋ = 2.
    High,
    /// The modules whose paths end so, cut at dots: `query`, `output.dense`.
    Kinds(Vec<String>),
    /// So many players, those of the highest scores; of equals the lower one.
    Top(usize, By),
    /// Players with together at most so many parameters.
    ///
    /// The greedy answer to the knapsack: by score per parameter, the highest first, each player that still fits; or the one
    /// player of the highest score, where that beats them. Its sum of scores is at least half the largest possible (Martello and
    /// Toth, Knapsack Problems, 1990, section 2.4). Players of a negative score stay out.
    Budget(usize, By),
}

/// What scores the players.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Scores from outside, such as Shapley values.
    Scores,
    /// [`Candidates::norms`].
    Norms,
    /// Independent uniform draws under this seed.
    Random(u64),
}

by_text!(Choice);

impl FromStr for Choice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let unknown = || Error::Text {
            what: "choice of modules",
            text: text.to_owned(),
            known: CHOICES,
        };
        let parts: Vec<&str> = text.split(':').collect();
        let number = |text: &str| text.parse().map_err(|_| unknown());
        let by = |parts: &[&str]| match parts {
            ["scores"] => Ok(By::Scores),
            ["norms"] => Ok(By::Norms),
            ["random", seed] => seed.parse().map(By::Random).map_err(|_| unknown()),
            _ => Err(unknown()),
        };
        Ok(match parts[..] {
            ["even"] => Self::Even,
            ["odd"] => Self::Odd,
            ["low"] => Self::Low,
            ["middle"] => Self::Middle,
            ["high"] => Self::High,
            ["kinds", kinds] if !kinds.split(',').any(str::is_empty) => {
                Self::Kinds(kinds.split(',').map(str::to_owned).collect())
            }
            ["top", k, ref rest @ ..] => Self::Top(number(k)?, by(rest)?),
            ["budget", most, ref rest @ ..] => Self::Budget(number(most)?, by(rest)?),
            _ => return Err(unknown()),
        })
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Even => f.write_str("even"),
            Self::Odd => f.write_str("odd"),
            Self::Low => f.write_str("low"),
            Self::Middle => f.write_str("middle"),
            Self::High => f.write_str("high"),
            Self::Kinds(kinds) => write!(f, "kinds:{}", kinds.join(",")),
            Self::Top(k, by) => write!(f, "top:{k}:{by}"),
            Self::Budget(most, by) => write!(f, "budget:{most}:{by}"),
        }
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scores => f.write_str("scores"),
            Self::Norms => f.write_str("norms"),
            Self::Random(seed) => write!(f, "random:{seed}"),
        }
    }
}

impl Candidates<'_> {
    /// The players that a choice keeps; `scores` by the players' names, for [`By::Scores`].
    ///
    /// # Errors
    /// [`Error::Nothing`] if nobody is left; [`Error::Number`] for more players than there are; [`Error::Kind`]; [`Error::Split`]
    /// where layers or kinds cut through a player; [`Error::NoScores`], [`Error::NoScore`] and [`Error::NotFinite`]; those of
    /// [`norms`](Self::norms).
    pub fn choose(
        &self,
        choice: &Choice,
        scores: Option<&BTreeMap<String, f64>>,
    ) -> Result<Coalition, Error> {
        let layers = |wanted: &dyn Fn(usize, usize) -> bool| self.of_layers(wanted);
        let chosen = match choice {
            Choice::Even => layers(&|i, _| i % 2 == 0),
            Choice::Odd => layers(&|i, _| i % 2 == 1),
            Choice::Low => layers(&|i, count| 3 * i / count == 0),
            Choice::Middle => layers(&|i, count| 3 * i / count == 1),
            Choice::High => layers(&|i, count| 3 * i / count == 2),
            Choice::Kinds(kinds) => self.of_kinds(kinds),
            Choice::Top(k, by) => self.top(*k, &self.scores(choice, *by, scores)?),
            Choice::Budget(most, by) => {
                let scores = self.scores(choice, *by, scores)?;
                let kept = knapsack(&scores, &self.parameters(), *most);
                Ok(Coalition::from_players(scores.len(), kept))
            }
        }?;
        if chosen.is_empty() {
            return Err(Error::Nothing {
                by: choice.to_string(),
                of: format!("{} players", self.players().len()),
            });
        }
        Ok(chosen)
    }

    fn of_layers(&self, wanted: &dyn Fn(usize, usize) -> bool) -> Result<Coalition, Error> {
        let mut layers: Vec<usize> = self
            .modules()
            .iter()
            .filter_map(|module| module.layer)
            .collect();
        layers.sort_unstable();
        layers.dedup();
        let stays = |layer: usize| {
            let place = layers.binary_search(&layer).expect("a layer of a module");
            wanted(place, layers.len())
        };
        self.of_modules(|module| module.layer.is_none_or(stays))
    }

    fn of_kinds(&self, kinds: &[String]) -> Result<Coalition, Error> {
        let ends = |path: &str, kind: &str| {
            path.strip_suffix(kind)
                .is_some_and(|head| head.is_empty() || head.ends_with('.'))
        };
        let paths = || self.modules().iter().map(|module| module.path.as_str());
        if let Some(kind) = kinds
            .iter()
            .find(|kind| !paths().any(|path| ends(path, kind)))
        {
            let last = paths().map(|path| path.rsplit('.').next().unwrap_or(path));
            return Err(Error::Kind {
                kind: kind.clone(),
                nearest: nearest(kind, last),
            });
        }
        self.of_modules(|module| kinds.iter().any(|kind| ends(&module.path, kind)))
    }

    fn top(&self, k: usize, scores: &[f64]) -> Result<Coalition, Error> {
        let n = scores.len();
        if k > n {
            return Err(Error::Number {
                what: "the number of players to keep",
                value: k as f64,
                expected: format!("at most {n}, as many as there are"),
            });
        }
        Ok(Coalition::from_players(
            n,
            ranking(scores).into_iter().take(k),
        ))
    }

    fn scores(
        &self,
        choice: &Choice,
        by: By,
        given: Option<&BTreeMap<String, f64>>,
    ) -> Result<Vec<f64>, Error> {
        match (by, given) {
            (By::Norms, _) => self.norms(),
            (By::Random(seed), _) => {
                let mut draws = stream(seed, "prune");
                Ok((0..self.players().len()).map(|_| draws.random()).collect())
            }
            (By::Scores, None) => Err(Error::NoScores {
                choice: choice.to_string(),
            }),
            (By::Scores, Some(given)) => self
                .players()
                .names()
                .iter()
                .map(|name| score(name, given))
                .collect(),
        }
    }
}

fn score(player: &str, given: &BTreeMap<String, f64>) -> Result<f64, Error> {
    match given.get(player) {
        Some(score) if score.is_finite() => Ok(*score),
        Some(&value) => Err(Error::NotFinite {
            what: format!("the score of player `{player}`"),
            value,
        }),
        None => Err(Error::NoScore {
            player: player.to_owned(),
            nearest: nearest(player, given.keys().map(String::as_str)),
        }),
    }
}

/// The items that stay, as [`Choice::Budget`] says.
fn knapsack(scores: &[f64], costs: &[usize], most: usize) -> Vec<usize> {
    let fits = (0..scores.len()).filter(|&i| scores[i] >= 0.0 && costs[i] <= most);
    let mut order: Vec<usize> = fits.clone().collect();
    let per = |i: usize| scores[i] / costs[i] as f64;
    order.sort_by(|&a, &b| per(b).total_cmp(&per(a)));
    let mut left = most;
    order.retain(|&i| {
        let fits = costs[i] <= left;
        left -= if fits { costs[i] } else { 0 };
        fits
    });
    let sum: f64 = order.iter().map(|&i| scores[i]).sum();
    match fits.max_by(|&a, &b| scores[a].total_cmp(&scores[b])) {
        Some(single) if scores[single] > sum => vec![single],
        _ => order,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_choice_is_its_text_in_serde_too() {
        for text in [
            "even",
            "odd",
            "low",
            "middle",
            "high",
            "kinds:query,output.dense",
            "top:6:scores",
            "top:0:norms",
            "top:6:random:7",
            "budget:40000:scores",
        ] {
            let choice: Choice = text.parse().unwrap();
            assert_eq!(choice.to_string(), text);
            let json = serde_json::to_string(&choice).unwrap();
            assert_eq!(json, format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<Choice>(&json).unwrap(), choice);
        }
        for text in [
            "",
            "evn",
            "top:6",
            "top:x:norms",
            "top:1:random",
            "kinds:",
            "kinds:a,",
            "budget:-1:norms",
            "even:1",
        ] {
            let error = text.parse::<Choice>().unwrap_err().to_string();
            assert!(
                error.contains(text) && error.contains("`kinds:KIND,…`"),
                "{error}"
            );
        }
    }

    proptest! {
        #[test]
        fn the_knapsack_fits_and_is_worth_half_the_best(
            items in proptest::collection::vec((-5i32..50, 1usize..40), 1..10), most in 0usize..120
        ) {
            let (scores, costs): (Vec<i32>, Vec<usize>) = items.into_iter().unzip();
            let scores: Vec<f64> = scores.into_iter().map(f64::from).collect();
            let total = |kept: &[usize]| -> (f64, usize) {
                (kept.iter().map(|&i| scores[i]).sum(), kept.iter().map(|&i| costs[i]).sum())
            };
            let (worth, cost) = total(&knapsack(&scores, &costs, most));
            prop_assert!(cost <= most);
            let every = (0..1u32 << scores.len()).map(|bits| {
                (0..scores.len()).filter(|i| bits >> i & 1 == 1).collect::<Vec<_>>()
            });
            let best = every.map(|kept| total(&kept)).filter(|(_, cost)| *cost <= most);
            let best = best.map(|(worth, _)| worth).fold(0.0, f64::max);
            prop_assert!(2.0 * worth >= best && worth <= best, "{worth} of {best}");
        }
    }
}
