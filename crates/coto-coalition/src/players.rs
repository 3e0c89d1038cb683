use std::collections::BTreeMap;

use crate::module::matches;
use crate::{Error, Module};

/// Who plays: each player is a named group of modules, and each module belongs to exactly one player.
///
/// Modules are known by their index in the list that the players were made from. [`crate::Grouping`] chooses between the
/// constructors from a configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Players {
    names: Vec<String>,
    modules: Vec<Vec<usize>>,
    player_of: Vec<usize>,
    heights: Vec<f64>,
}

impl Players {
    /// One player per layer, from the bottom up, named `layer.0` and so on: the published CoTo and CopRA.
    ///
    /// A module without a layer is a player of its own, named by its path: below the layers if it is listed before all of
    /// them (an embedding), else above (a head).
    pub fn per_layer(modules: &[Module]) -> Self {
        let stack = modules
            .iter()
            .position(|module| module.layer.is_some())
            .unwrap_or(0);
        let mut players = BTreeMap::<_, (String, Vec<usize>)>::new();
        for (index, module) in modules.iter().enumerate() {
            let (place, name) = match module.layer {
                Some(layer) => ((1, layer), format!("layer.{layer}")),
                None => (
                    (if index < stack { 0 } else { 2 }, index),
                    module.path.clone(),
                ),
            };
            players
                .entry(place)
                .or_insert((name, Vec::new()))
                .1
                .push(index);
        }
        Self::new(modules, players.into_values())
    }

    /// Every module a player, in the order of the list, named by its path.
    pub fn per_module(modules: &[Module]) -> Self {
        Self::new(
            modules,
            modules
                .iter()
                .enumerate()
                .map(|(index, module)| (module.path.clone(), vec![index])),
        )
    }

    /// One player per kind, in the order in which kinds first appear, named by the kind.
    pub fn per_kind(modules: &[Module]) -> Self {
        let mut players = Vec::<(String, Vec<usize>)>::new();
        for (index, module) in modules.iter().enumerate() {
            match players.iter_mut().find(|(kind, _)| *kind == module.kind) {
                Some((_, members)) => members.push(index),
                None => players.push((module.kind.clone(), vec![index])),
            }
        }
        Self::new(modules, players)
    }

    /// Every `size` consecutive modules a player, named `chunk.0` and so on, as in the published CoTo scheduler.
    ///
    /// A remainder forms a last, smaller player, where the published code stops with an index error.
    ///
    /// # Errors
    /// [`Error::ZeroChunk`] if `size` is 0.
    pub fn chunks(modules: &[Module], size: usize) -> Result<Self, Error> {
        if size == 0 {
            return Err(Error::ZeroChunk);
        }
        let indices: Vec<usize> = (0..modules.len()).collect();
        let chunks = indices.chunks(size).enumerate();
        Ok(Self::new(
            modules,
            chunks.map(|(chunk, members)| (format!("chunk.{chunk}"), members.to_vec())),
        ))
    }

    /// Players by name, in the order given, each with the patterns that list its modules.
    ///
    /// A pattern matches a module whose path is the pattern, begins with the pattern and `.` (a tower, a layer) or ends in `.`
    /// and the pattern (as PEFT's `target_modules` does), or whose kind is the pattern.
    ///
    /// # Errors
    /// A name given twice, a group without patterns, a pattern that matches nothing, a module in two groups or in none; each
    /// error names the culprit.
    pub fn named<N: AsRef<str>, P: AsRef<str>>(
        modules: &[Module],
        groups: &[(N, Vec<P>)],
    ) -> Result<Self, Error> {
        let mut owner: Vec<Option<usize>> = vec![None; modules.len()];
        for (player, (name, patterns)) in groups.iter().enumerate() {
            let group = name.as_ref();
            if groups[..player]
                .iter()
                .any(|(earlier, _)| earlier.as_ref() == group)
            {
                return Err(Error::DuplicateGroup {
                    group: group.into(),
                });
            }
            if patterns.is_empty() {
                return Err(Error::EmptyGroup {
                    group: group.into(),
                });
            }
            for index in matches(modules, group, patterns)? {
                if let Some(first) = owner[index]
                    .replace(player)
                    .filter(|&first| first != player)
                {
                    let (module, first) =
                        (modules[index].path.clone(), groups[first].0.as_ref().into());
                    return Err(Error::SharedModule {
                        module,
                        first,
                        second: group.into(),
                    });
                }
            }
        }
        if let Some(index) = owner.iter().position(Option::is_none) {
            return Err(Error::UnmatchedModule {
                module: modules[index].path.clone(),
            });
        }
        let members = |player| {
            (0..modules.len())
                .filter(|&index| owner[index] == Some(player))
                .collect()
        };
        let players = groups
            .iter()
            .enumerate()
            .map(|(player, (name, _))| (name.as_ref().to_string(), members(player)));
        Ok(Self::new(modules, players))
    }

    fn new(modules: &[Module], players: impl IntoIterator<Item = (String, Vec<usize>)>) -> Self {
        let (names, members): (Vec<_>, Vec<Vec<usize>>) = players.into_iter().unzip();
        let mut player_of = vec![0; modules.len()];
        for (player, members) in members.iter().enumerate() {
            members.iter().for_each(|&index| player_of[index] = player);
        }
        let heights = members
            .iter()
            .map(|members| height(modules, members))
            .collect();
        Self {
            names,
            modules: members,
            player_of,
            heights,
        }
    }

    /// The number of players.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are no players, because there were no modules.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The name of a player.
    ///
    /// # Panics
    /// If `player` is out of range.
    pub fn name(&self, player: usize) -> &str {
        &self.names[player]
    }

    /// The names of all players, in order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The player that owns a module.
    ///
    /// # Panics
    /// If `module` is out of range.
    pub fn player_of(&self, module: usize) -> usize {
        self.player_of[module]
    }

    /// The modules of a player, ascending.
    ///
    /// # Panics
    /// If `player` is out of range.
    pub fn modules(&self, player: usize) -> &[usize] {
        &self.modules[player]
    }

    /// Where a player sits, from 0 (the lowest adapted layer) to 1 (the highest): the mean over those of its modules that are in
    /// a layer. It is ½ if none is, or if only one layer is adapted.
    ///
    /// # Panics
    /// If `player` is out of range.
    pub fn height(&self, player: usize) -> f64 {
        self.heights[player]
    }
}

fn height(modules: &[Module], members: &[usize]) -> f64 {
    let layers = modules.iter().filter_map(|module| module.layer);
    let (low, high) = (layers.clone().min().unwrap_or(0), layers.max().unwrap_or(0));
    let own: Vec<f64> = members
        .iter()
        .filter_map(|&index| modules[index].layer)
        .map(|layer| (layer - low) as f64)
        .collect();
    if own.is_empty() || low == high {
        return 0.5;
    }
    own.iter().sum::<f64>() / (own.len() as f64 * (high - low) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An embedding, then query and value of three layers in an order that is not the stack's, then a head.
    fn modules() -> Vec<Module> {
        let mut modules = vec![Module::new("embed", None, "embed")];
        for layer in [10, 2, 4] {
            for kind in ["query", "value"] {
                modules.push(Module::new(
                    format!("layer.{layer}.{kind}"),
                    Some(layer),
                    kind,
                ));
            }
        }
        modules.push(Module::new("head", None, "head"));
        modules
    }

    fn assert_is_a_partition(players: &Players, modules: usize) {
        let mut owned: Vec<usize> = (0..players.len())
            .flat_map(|player| players.modules(player).to_vec())
            .collect();
        owned.sort();
        assert_eq!(owned, (0..modules).collect::<Vec<_>>());
        for player in 0..players.len() {
            assert!(
                players
                    .modules(player)
                    .iter()
                    .all(|&module| players.player_of(module) == player)
            );
        }
    }

    #[test]
    fn layers_play_from_the_bottom_up_between_embedding_and_head() {
        let players = Players::per_layer(&modules());
        assert_eq!(
            players.names(),
            ["embed", "layer.2", "layer.4", "layer.10", "head"]
        );
        assert_eq!(players.modules(1), [3, 4]);
        assert_eq!(players.name(players.player_of(1)), "layer.10");
        assert_is_a_partition(&players, 8);
    }

    #[test]
    fn modules_and_kinds_play_in_listed_order() {
        let players = Players::per_module(&modules());
        assert_eq!((players.len(), players.name(3)), (8, "layer.2.query"));
        assert_is_a_partition(&players, 8);
        let players = Players::per_kind(&modules());
        assert_eq!(players.names(), ["embed", "query", "value", "head"]);
        assert_eq!(players.modules(1), [1, 3, 5]);
        assert_is_a_partition(&players, 8);
    }

    #[test]
    fn the_remainder_of_chunks_is_a_last_smaller_player() {
        let players = Players::chunks(&modules(), 3).unwrap();
        assert_eq!(players.names(), ["chunk.0", "chunk.1", "chunk.2"]);
        assert_eq!(players.modules(2), [6, 7]);
        assert_is_a_partition(&players, 8);
        assert_eq!(Players::chunks(&modules(), 9).unwrap().modules(0).len(), 8);
        assert_eq!(Players::chunks(&modules(), 0), Err(Error::ZeroChunk));
    }

    #[test]
    fn named_groups_match_kinds_paths_and_ends_of_paths() {
        let groups = [
            ("ends", vec!["embed", "head"]),
            ("queries", vec!["query"]),
            ("rest", vec!["layer.10.value", "2.value", "4.value"]),
        ];
        let players = Players::named(&modules(), &groups).unwrap();
        assert_eq!(players.modules(0), [0, 7]);
        assert_eq!(players.modules(1), [1, 3, 5]);
        assert_eq!(players.modules(2), [2, 4, 6]);
        assert_is_a_partition(&players, 8);
    }

    #[test]
    fn named_groups_match_beginnings_of_paths() {
        let towers = ["text_model", "vision_model"];
        let modules: Vec<Module> = (0..4)
            .map(|i| {
                let path = format!("{}.encoder.layers.{}.q_proj", towers[i / 2], i % 2);
                Module::new(path, Some(i), "q_proj")
            })
            .collect();
        let groups = towers.map(|tower| (tower, vec![tower]));
        let players = Players::named(&modules, &groups).unwrap();
        assert_eq!(
            (players.modules(0), players.modules(1)),
            (&[0, 1][..], &[2, 3][..])
        );
        assert_is_a_partition(&players, 4);
        let error = |pattern: &str| {
            Players::named(&modules, &[("a", vec![pattern])])
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            error("txt_model"),
            "group `a`: `txt_model` matches no adapted module; did you mean `text_model`?"
        );
        assert_eq!(
            error("text_model.encoder.layers.3"),
            "group `a`: `text_model.encoder.layers.3` matches no adapted module; did you mean `text_model.encoder.layers.1`?"
        );
    }

    #[test]
    fn each_fault_of_named_groups_is_named() {
        let named = |groups: &[(&str, Vec<&str>)]| {
            Players::named(&modules(), groups).unwrap_err().to_string()
        };
        let all = || vec!["embed", "query", "value", "head"];
        assert_eq!(
            named(&[("a", all()), ("a", all())]),
            "two groups of players are named `a`"
        );
        assert_eq!(
            named(&[("a", all()), ("b", vec![])]),
            "group `b` lists no module"
        );
        assert_eq!(
            named(&[("a", all()), ("b", vec!["head"])]),
            "module `head` belongs to both `a` and `b`"
        );
        assert_eq!(
            named(&[("a", vec!["embed", "query", "value"])]),
            "module `head` belongs to no group"
        );
        assert_eq!(
            named(&[("a", vec!["qurey"])]),
            "group `a`: `qurey` matches no adapted module; did you mean `query`?"
        );
        assert_eq!(
            named(&[("a", vec!["zzzzzz"])]),
            "group `a`: `zzzzzz` matches no adapted module"
        );
    }

    #[test]
    fn one_module_listed_twice_by_one_group_is_no_fault() {
        let groups = [(
            "a",
            vec!["embed", "query", "layer.2.query", "value", "head"],
        )];
        assert_eq!(
            Players::named(&modules(), &groups)
                .unwrap()
                .modules(0)
                .len(),
            8
        );
    }

    #[test]
    fn height_runs_from_the_lowest_adapted_layer_to_the_highest() {
        let players = Players::per_layer(&modules());
        let heights: Vec<f64> = (0..players.len())
            .map(|player| players.height(player))
            .collect();
        assert_eq!(heights, [0.5, 0.0, 0.25, 1.0, 0.5]);
        let kinds = Players::per_kind(&modules());
        assert!((kinds.height(1) - 1.25 / 3.0).abs() < 1e-15);
        let single = [Module::new("layer.7.query", Some(7), "query")];
        assert_eq!(Players::per_layer(&single).height(0), 0.5);
    }
}
