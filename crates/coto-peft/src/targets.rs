use regex::Regex;

use crate::nearest::nearest_modules;
use crate::pattern::{compile, compile_full};
use crate::{Config, Error, OneOrMany, Targets, json};

/// A set of module paths.
enum Names<'a> {
    None,
    All,
    /// Whole paths, or endings after a dot.
    List(&'a [String]),
    /// A match of the whole path.
    Full(Regex),
}

impl Names<'_> {
    fn has(&self, path: &str) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::List(names) => names.iter().any(|name| names_path(name, path)),
            Self::Full(regex) => regex.is_match(path),
        }
    }
}

fn names_path(name: &str, path: &str) -> bool {
    path.strip_suffix(name)
        .is_some_and(|head| head.is_empty() || head.ends_with('.'))
}

/// Answers for one path what PEFT's `check_target_module_exists` answers.
pub(crate) struct Matcher<'a> {
    targets: Names<'a>,
    exclude: Names<'a>,
    layers: Option<Layers<'a>>,
}

/// The layer numbers allowed, and where to find a path's own.
struct Layers<'a> {
    allowed: &'a [i64],
    places: Vec<Regex>,
}

impl<'a> Matcher<'a> {
    pub(crate) fn new(config: &'a Config) -> Result<Self, Error> {
        let targets = match &config.target_modules {
            None => return Err(Error::NoTargets),
            Some(Targets::AllLinear) => Names::All,
            Some(Targets::List(names)) => Names::List(names),
            Some(Targets::Regex(pattern)) => Names::Full(compile_full("target_modules", pattern)?),
        };
        let exclude = match &config.exclude_modules {
            None => Names::None,
            Some(OneOrMany::One(pattern)) if pattern.is_empty() => Names::None,
            Some(OneOrMany::One(pattern)) => Names::Full(compile_full("exclude_modules", pattern)?),
            Some(OneOrMany::Many(names)) => Names::List(names),
        };
        Ok(Self {
            targets,
            exclude,
            layers: Layers::new(config)?,
        })
    }

    pub(crate) fn has(&self, path: &str) -> bool {
        if self.exclude.has(path) || !self.targets.has(path) {
            return false;
        }
        match (&self.targets, &self.layers) {
            // A whole path in the list is chosen whatever its layer.
            (Names::List(names), Some(layers)) => {
                names.iter().any(|name| name == path) || layers.has(path)
            }
            _ => true,
        }
    }
}

impl<'a> Layers<'a> {
    fn new(config: &'a Config) -> Result<Option<Self>, Error> {
        let allowed = config
            .layers_to_transform
            .as_ref()
            .map_or(&[][..], OneOrMany::as_slice);
        if allowed.is_empty() {
            return Ok(None);
        }
        let patterns = match &config.layers_pattern {
            Some(OneOrMany::One(pattern)) if pattern.is_empty() => &[],
            Some(patterns) => patterns.as_slice(),
            None => &[],
        };
        // Lazy, so that the first numbered segment counts: `layers.1.experts.0` is in layer 1.
        let places = if patterns.is_empty() {
            vec![compile(
                "layers_pattern",
                "",
                r".*?\.[^.]*\.(?P<idx>\d+)\.",
            )?]
        } else {
            let frame = r"(?:^|.*?\.){}\.(?P<idx>\d+)\.";
            patterns
                .iter()
                .map(|p| compile("layers_pattern", p, frame))
                .collect::<Result<_, _>>()?
        };
        Ok(Some(Self { allowed, places }))
    }

    fn has(&self, path: &str) -> bool {
        let found = self.places.iter().find_map(|place| place.captures(path));
        let layer = found.and_then(|found| found.name("idx")?.as_str().parse().ok());
        layer.is_some_and(|layer: i64| self.allowed.contains(&layer))
    }
}

impl Config {
    /// Which of a model's modules are adapted: their positions in `paths`, in order.
    ///
    /// `paths` are the modules that can be adapted. With `all-linear` every one of them is taken that is not excluded,
    /// so leave the output head out of them, as PEFT does. The choice is PEFT's, with one difference: a list
    /// entry that names no module at all is an error here, where PEFT goes on in silence.
    ///
    /// # Errors
    /// What [`check_supported`](Self::check_supported) says; [`Error::NoTargets`]; [`Error::Regex`] for a pattern that
    /// cannot be used (such as look-around); [`Error::UnmatchedTarget`]; [`Error::NothingTargeted`].
    pub fn resolve_targets<S: AsRef<str>>(&self, paths: &[S]) -> Result<Vec<usize>, Error> {
        self.check_supported()?;
        let matcher = Matcher::new(self)?;
        let names = paths.iter().map(AsRef::as_ref);
        let chosen: Vec<usize> = names
            .clone()
            .enumerate()
            .filter(|(_, path)| matcher.has(path))
            .map(|(i, _)| i)
            .collect();
        if let Names::List(entries) = &matcher.targets
            && let Some(entry) = entries
                .iter()
                .find(|entry| !names.clone().any(|path| names_path(entry, path)))
        {
            return Err(Error::UnmatchedTarget {
                entry: entry.clone(),
                nearest: nearest_modules(entry, names),
            });
        }
        if chosen.is_empty() {
            let targets = self.targets_text();
            let nearest = nearest_modules(&targets, names);
            return Err(Error::NothingTargeted {
                nearest,
                modules: paths.len(),
                targets,
            });
        }
        Ok(chosen)
    }

    /// The same configuration for just these modules, each with its rank and alpha, whatever else the model has.
    ///
    /// Its targets are the modules' whole paths. The commonest rank and the commonest alpha become `r` and `lora_alpha`; modules
    /// that differ have theirs in `rank_pattern` and `alpha_pattern`. Exclusions and layer lists are gone.
    pub fn for_modules<S: AsRef<str>>(&self, modules: &[(S, usize, f64)]) -> Self {
        let mut config = self.clone();
        let paths = || modules.iter().map(|(path, ..)| path.as_ref());
        config.target_modules = Some(Targets::List(paths().map(str::to_owned).collect()));
        config.exclude_modules = None;
        config.layers_to_transform = None;
        config.layers_pattern = None;
        // A pattern matches the ends of paths; only where that would name two modules is it tied to the start.
        let key = |path: &str| {
            let others = || paths().filter(|other| *other != path);
            match others().any(|other| names_path(path, other)) {
                true => format!("^{path}"),
                false => path.to_owned(),
            }
        };
        if let Some(r) = commonest(modules.iter().map(|module| module.1)) {
            config.r = r;
        }
        if let Some(alpha) = commonest(modules.iter().map(|module| module.2)) {
            config.lora_alpha = alpha;
        }
        let ranks = modules.iter().filter(|module| module.1 != config.r);
        config.rank_pattern = ranks.map(|(path, r, _)| (key(path.as_ref()), *r)).collect();
        let alphas = modules
            .iter()
            .filter(|module| module.2 != config.lora_alpha);
        config.alpha_pattern = alphas
            .map(|(path, _, alpha)| (key(path.as_ref()), *alpha))
            .collect();
        config
    }

    pub(crate) fn targets_text(&self) -> String {
        self.target_modules
            .as_ref()
            .map(json::targets_json)
            .unwrap_or_default()
            .to_string()
    }
}

/// The value that comes most often; of several the first.
fn commonest<T: PartialEq + Copy>(values: impl Iterator<Item = T>) -> Option<T> {
    let mut counts: Vec<(T, usize)> = Vec::new();
    for value in values {
        match counts.iter_mut().find(|(known, _)| *known == value) {
            Some((_, count)) => *count += 1,
            None => counts.push((value, 1)),
        }
    }
    let most = counts.iter().map(|(_, count)| *count).max()?;
    counts
        .iter()
        .find(|(_, count)| *count == most)
        .map(|(value, _)| *value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn strings(value: &Value) -> Vec<&str> {
        value
            .as_array()
            .unwrap()
            .iter()
            .map(|s| s.as_str().unwrap())
            .collect()
    }

    #[test]
    fn the_chosen_modules_are_those_of_peft() {
        let goldens: Value = serde_json::from_str(include_str!("../goldens/targets.json")).unwrap();
        let cases = goldens["targets"].as_array().unwrap();
        assert!(cases.len() >= 40);
        for case in cases {
            let paths = strings(&goldens["paths"][case["paths"].as_str().unwrap()]);
            let mut json = json!({ "peft_type": "LORA" });
            for field in [
                "target_modules",
                "exclude_modules",
                "layers_to_transform",
                "layers_pattern",
            ] {
                json[field] = case[field].clone();
            }
            let config = Config::from_json(json).unwrap();
            let matcher = Matcher::new(&config).unwrap();
            let chosen: Vec<usize> = (0..paths.len())
                .filter(|&i| matcher.has(paths[i]))
                .collect();
            assert_eq!(json!(chosen), case["chosen"], "{case}");
            match config.resolve_targets(&paths) {
                Ok(resolved) => assert_eq!(resolved, chosen, "{case}"),
                Err(Error::NothingTargeted { .. }) => assert!(chosen.is_empty(), "{case}"),
                Err(Error::UnmatchedTarget { entry, .. }) => {
                    assert!(
                        !paths
                            .iter()
                            .any(|p| *p == entry || p.ends_with(&format!(".{entry}"))),
                        "{case}"
                    );
                }
                Err(other) => panic!("{case}: {other}"),
            }
        }
    }

    #[test]
    fn a_name_that_matches_nothing_is_told_the_nearest() {
        let paths = ["layers.0.query", "layers.0.value", "head"];
        let error = Config::lora(2, 4.0)
            .targets(["query", "vlaue"])
            .resolve_targets(&paths)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("`vlaue`") && error.contains("`value`"),
            "{error}"
        );
        let error = Config::lora(2, 4.0)
            .targets(r".*\.qurey")
            .resolve_targets(&paths)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("qurey") && error.contains("`query`") && error.contains("3 modules"),
            "{error}"
        );
        let mut config = Config::lora(2, 4.0).targets(["query"]);
        config.exclude_modules = Some(OneOrMany::Many(vec!["query".into()]));
        assert!(matches!(
            config.resolve_targets(&paths),
            Err(Error::NothingTargeted { .. })
        ));
        assert!(matches!(
            Config::lora(2, 4.0).resolve_targets(&paths),
            Err(Error::NoTargets)
        ));
    }

    #[test]
    fn a_configuration_for_some_modules_has_their_ranks_and_alphas() {
        let mut config = Config::lora(4, 8.0).targets(["q", "v"]);
        config.rank_pattern = vec![("q".into(), 64)];
        config.layers_to_transform = Some(OneOrMany::One(1));
        let modules = [
            ("layers.0.q", 8, 8.0),
            ("layers.1.q", 8, 8.0),
            ("layers.1.v", 3, 1.5),
            ("encoder.layers.1.v", 8, 8.0),
        ];
        let small = config.for_modules(&modules);
        assert_eq!((small.r, small.lora_alpha), (8, 8.0));
        assert_eq!(small.rank_pattern, [("^layers.1.v".to_owned(), 3)]);
        for (path, rank, alpha) in modules {
            assert_eq!(
                (small.rank(path).unwrap(), small.alpha(path).unwrap()),
                (rank, alpha)
            );
        }
        let all = [
            "layers.0.q",
            "layers.0.v",
            "layers.1.q",
            "layers.1.v",
            "encoder.layers.1.v",
        ];
        assert_eq!(small.resolve_targets(&all).unwrap(), [0, 2, 3, 4]);
    }
}
