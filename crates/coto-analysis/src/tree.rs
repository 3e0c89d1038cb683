use std::ops::AddAssign;

use coto_adapters::{AdapterSet, Pass};
use coto_coalition::Coalition;
use coto_models::{Hidden, Layered};
use serde::Serialize;

/// The layers that were run, and those that running the whole model for each coalition would have taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct LayerRuns {
    /// Layers run.
    pub used: usize,
    /// Coalitions times layers.
    pub naive: usize,
}

impl AddAssign for LayerRuns {
    fn add_assign(&mut self, other: Self) {
        self.used += other.used;
        self.naive += other.naive;
    }
}

/// Runs a model under many coalitions, as a trie over its layers: coalitions that agree on the adapters of the lower layers share
/// those layers' states.
///
/// Two coalitions part at the first layer in which other adapters are on, however their players are grouped. All 2ᴸ coalitions of
/// L layers take 2ᴸ⁺¹ - 2 layer runs in place of L 2ᴸ. The trie is walked in depth, so that one state a layer is kept at most. What
/// comes out is what [`Layered::states`] gives, to the last bit.
#[derive(Debug)]
pub struct CoalitionTree<'a, M> {
    model: &'a M,
    adapters: &'a AdapterSet,
    /// The players that have an adapter in each layer; what is outside of the layers counts as in the lowest.
    levels: Vec<Vec<usize>>,
}

impl<'a, M: Layered> CoalitionTree<'a, M> {
    /// The tree of a model and its adapters.
    pub fn new(model: &'a M, adapters: &'a AdapterSet) -> Self {
        let mut levels = vec![Vec::new(); model.depth()];
        for (adapter, module) in adapters.modules().iter().enumerate() {
            levels[module.layer.unwrap_or(0)].push(adapters.players().player_of(adapter));
        }
        for players in &mut levels {
            players.sort_unstable();
            players.dedup();
        }
        Self {
            model,
            adapters,
            levels,
        }
    }

    /// The layer runs that [`walk`](Self::walk) takes.
    pub fn runs(&self, coalitions: &[Coalition]) -> LayerRuns {
        let order = self.order(coalitions);
        let mut used = 0;
        let mut groups = vec![&order[..]];
        for level in 0..self.levels.len() {
            let split = |group| self.children(level, coalitions, group);
            groups = groups.into_iter().flat_map(split).collect();
            used += groups.len();
        }
        LayerRuns {
            used,
            naive: coalitions.len() * self.levels.len(),
        }
    }

    /// Runs a batch under every coalition. `leaf` gets the last layer's states, and the places in the list of the coalitions (equal
    /// ones) that they belong to.
    ///
    /// # Panics
    /// If a coalition is of another number of players.
    pub fn walk(
        &self,
        batch: &M::Batch,
        coalitions: &[Coalition],
        leaf: &mut impl FnMut(&[usize], Hidden),
    ) -> LayerRuns {
        let runs = self.runs(coalitions);
        if !coalitions.is_empty() {
            let hidden = self.model.embed(batch);
            self.descend(0, hidden, coalitions, &self.order(coalitions), leaf);
        }
        runs
    }

    /// `group`: places of coalitions that agree below `level`, in the tree's order.
    fn descend(
        &self,
        level: usize,
        hidden: Hidden,
        coalitions: &[Coalition],
        group: &[usize],
        leaf: &mut impl FnMut(&[usize], Hidden),
    ) {
        if level == self.levels.len() {
            return leaf(group, hidden);
        }
        let mut hidden = Some(hidden);
        let mut children = self.children(level, coalitions, group).peekable();
        while let Some(child) = children.next() {
            // The last child takes the states themselves, which may then be written over.
            let input = match children.peek() {
                Some(_) => hidden.clone(),
                None => hidden.take(),
            };
            let pass = Pass::new(self.adapters, &coalitions[child[0]]);
            let input = input.expect("taken by the last child only");
            let output = self.model.layer(level, input, &pass);
            self.descend(level + 1, output, coalitions, child, leaf);
        }
    }

    fn children<'b>(
        &self,
        level: usize,
        coalitions: &[Coalition],
        group: &'b [usize],
    ) -> impl Iterator<Item = &'b [usize]> {
        let players = &self.levels[level];
        group.chunk_by(|&a, &b| {
            let on = |place: usize, player| coalitions[place].contains(player);
            players.iter().all(|&player| on(a, player) == on(b, player))
        })
    }

    /// The places of the coalitions, sorted so that those which share a lower part of the model are neighbours.
    fn order(&self, coalitions: &[Coalition]) -> Vec<usize> {
        let mut order: Vec<usize> = (0..coalitions.len()).collect();
        let key = |place: &usize| -> Vec<bool> {
            let players = self.levels.iter().flatten();
            players
                .map(|&player| coalitions[*place].contains(player))
                .collect()
        };
        order.sort_by_cached_key(key);
        order
    }
}
