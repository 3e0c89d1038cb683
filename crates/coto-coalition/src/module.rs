use serde::{Deserialize, Serialize};

use crate::Error;

/// A place of the model that carries an adapter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Module {
    /// Its dotted path, such as `encoder.layer.3.attention.self.query`.
    pub path: String,
    /// The index of its layer, counted from the bottom; `None` outside the stack of layers.
    pub layer: Option<usize>,
    /// What it is within its layer: the end of the path, such as `query`.
    pub kind: String,
}

impl Module {
    /// A module at `path`, in `layer` if it is in any, of the given kind.
    pub fn new(path: impl Into<String>, layer: Option<usize>, kind: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            layer,
            kind: kind.into(),
        }
    }

    /// By the path, its beginning or, as PEFT matches a list of target modules, its end, cut at dots; or by kind.
    fn matches(&self, pattern: &str) -> bool {
        let begins = self.path.strip_prefix(pattern);
        let ends = self.path.strip_suffix(pattern);
        self.path == pattern
            || self.kind == pattern
            || begins.is_some_and(|rest| rest.starts_with('.'))
            || ends.is_some_and(|rest| rest.ends_with('.'))
    }

    /// Everything a pattern could have said to match this module.
    fn handles(&self) -> impl Iterator<Item = &str> {
        let parts = self.path.match_indices('.');
        let parts = parts.flat_map(|(dot, _)| [&self.path[..dot], &self.path[dot + 1..]]);
        [self.kind.as_str(), self.path.as_str()]
            .into_iter()
            .chain(parts)
    }
}

/// The modules that a group lists, pattern by pattern.
pub(crate) fn matches<P: AsRef<str>>(
    modules: &[Module],
    group: &str,
    patterns: &[P],
) -> Result<Vec<usize>, Error> {
    let mut found = Vec::new();
    for pattern in patterns.iter().map(AsRef::as_ref) {
        let before = found.len();
        found.extend((0..modules.len()).filter(|&index| modules[index].matches(pattern)));
        if found.len() == before {
            let nearest = nearest(modules, pattern);
            return Err(Error::UnmatchedPattern {
                group: group.into(),
                pattern: pattern.into(),
                nearest,
            });
        }
    }
    Ok(found)
}

fn nearest(modules: &[Module], pattern: &str) -> Option<String> {
    let likeness = |handle| strsim::normalized_damerau_levenshtein(handle, pattern);
    let scored = modules
        .iter()
        .flat_map(Module::handles)
        .map(|handle| (likeness(handle), handle));
    let best = scored
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|best| best.0 >= 0.5);
    best.map(|(_, handle)| handle.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_of_paths_match_at_dots_only() {
        let module = Module::new("text.layer.12.q_proj", Some(12), "self.q_proj");
        for pattern in [
            "text.layer.12.q_proj",
            "12.q_proj",
            "q_proj",
            "self.q_proj",
            "text.layer.12",
            "text.layer",
            "text",
        ] {
            assert!(module.matches(pattern), "{pattern}");
        }
        for pattern in [
            "2.q_proj",
            "proj",
            "layer.12",
            "layer",
            "text.layer.1",
            "tex",
            "text.",
            "",
        ] {
            assert!(!module.matches(pattern), "{pattern}");
        }
    }
}
