use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Error, Module, Players};

/// How modules are grouped into players, as a configuration says it.
///
/// In TOML: `"layer"`, `"module"`, `"kind"`, `{ chunk = 2 }` or `{ groups = { attention = ["query", "value"], rest = ["dense"] } }`.
/// `{ groups = { text = ["text_model"], vision = ["vision_model"] } }` makes a player of each tower.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grouping {
    /// [`Players::per_layer`], the published choice.
    #[default]
    Layer,
    /// [`Players::per_module`].
    Module,
    /// [`Players::per_kind`].
    Kind,
    /// [`Players::chunks`] of so many modules.
    Chunk(usize),
    /// [`Players::named`]: patterns by the name of their group, players in the alphabetical order of the names.
    Groups(BTreeMap<String, Vec<String>>),
}

impl Grouping {
    /// The players that this grouping makes of a model's adapted modules.
    ///
    /// # Errors
    /// Those of [`Players::chunks`] and [`Players::named`].
    pub fn players(&self, modules: &[Module]) -> Result<Players, Error> {
        match self {
            Self::Layer => Ok(Players::per_layer(modules)),
            Self::Module => Ok(Players::per_module(modules)),
            Self::Kind => Ok(Players::per_kind(modules)),
            Self::Chunk(size) => Players::chunks(modules, *size),
            Self::Groups(groups) => {
                let groups: Vec<_> = groups
                    .iter()
                    .map(|(name, patterns)| (name, patterns.clone()))
                    .collect();
                Players::named(modules, &groups)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_grouping_is_read_from_its_text_and_makes_its_players() {
        let module =
            |layer, kind: &str| Module::new(format!("layer.{layer}.{kind}"), Some(layer), kind);
        let modules = [module(0, "query"), module(0, "value"), module(1, "query")];
        for (text, names) in [
            (r#""layer""#, vec!["layer.0", "layer.1"]),
            (
                r#""module""#,
                vec!["layer.0.query", "layer.0.value", "layer.1.query"],
            ),
            (r#""kind""#, vec!["query", "value"]),
            (r#"{"chunk":2}"#, vec!["chunk.0", "chunk.1"]),
            (
                r#"{"groups":{"b":["query"],"a":["value"]}}"#,
                vec!["a", "b"],
            ),
        ] {
            let grouping: Grouping = serde_json::from_str(text).unwrap();
            assert_eq!(grouping.players(&modules).unwrap().names(), names);
            let again = serde_json::from_str(&serde_json::to_string(&grouping).unwrap()).unwrap();
            assert_eq!(grouping, again);
        }
    }

    #[test]
    fn an_unknown_grouping_is_refused_with_the_known_ones() {
        let error = serde_json::from_str::<Grouping>(r#""layers""#)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("`layer`") && error.contains("`groups`"),
            "{error}"
        );
    }
}
