use std::collections::HashMap;

use coto_coalition::{Coalition, Stream};
use foldhash::fast::FixedState;
use rand::seq::SliceRandom;

/// Where each of a list of distinct coalitions stands in it.
pub(crate) type Places = HashMap<Coalition, usize, FixedState>;

/// The distinct coalitions that an estimate will ask for, never more than its budget; first the empty and the grand one.
pub(crate) struct Plan {
    budget: usize,
    pub(crate) coalitions: Vec<Coalition>,
    places: Places,
}

/// Where the empty coalition stands in every plan.
pub(crate) const EMPTY: usize = 0;
/// Where the grand coalition stands in every plan.
pub(crate) const GRAND: usize = 1;

/// How often over a plan may be drawn what it already holds, as a multiple of its budget.
const REPEATS: usize = 8;

impl Plan {
    /// Nothing but the empty and the grand coalition of `n` players, which the budget must allow.
    pub(crate) fn new(n: usize, budget: usize) -> Self {
        let expected = budget.min(1 << 20);
        let mut plan = Self {
            budget,
            coalitions: Vec::with_capacity(expected),
            places: Places::with_capacity_and_hasher(expected, FixedState::default()),
        };
        plan.add(vec![Coalition::empty(n), Coalition::grand(n)]);
        plan
    }

    /// Whether a coalition is planned already.
    pub(crate) fn holds(&self, coalition: &Coalition) -> bool {
        self.places.contains_key(coalition)
    }

    /// How many more coalitions can be afforded.
    pub(crate) fn left(&self) -> usize {
        self.budget - self.coalitions.len()
    }

    /// Plans all of a unit's coalitions and says where they stand; or none of them, if they are more than the budget has left.
    pub(crate) fn add(&mut self, unit: Vec<Coalition>) -> Option<Vec<usize>> {
        let before = self.coalitions.len();
        let mut standing = Vec::with_capacity(unit.len());
        for coalition in unit {
            let next = self.coalitions.len();
            let place = match self.places.get(&coalition) {
                Some(&place) => place,
                None if next == self.budget => {
                    self.coalitions.drain(before..).for_each(|undone| {
                        self.places.remove(&undone);
                    });
                    return None;
                }
                None => {
                    self.places.insert(coalition.clone(), next);
                    self.coalitions.push(coalition);
                    next
                }
            };
            standing.push(place);
        }
        Some(standing)
    }

    /// Plans the units number 0, 1, 2, … that `draw` makes, as long as the budget and patience with repetitions last.
    pub(crate) fn fill(
        &mut self,
        mut draw: impl FnMut(usize) -> Vec<Coalition>,
    ) -> Vec<Vec<usize>> {
        let (mut units, mut drawn) = (Vec::new(), 0);
        while drawn < REPEATS * self.budget {
            let unit = draw(units.len());
            drawn += unit.len().max(1);
            match self.add(unit) {
                Some(standing) => units.push(standing),
                None => break,
            }
        }
        units
    }
}

/// Random sets of `size` of `n` players. Each is uniform; sets drawn one after the other are blocks of one permutation, so that
/// together they hold every player equally often.
pub(crate) struct Blocks {
    n: usize,
    size: usize,
    order: Vec<usize>,
    next: usize,
}

impl Blocks {
    pub(crate) fn new(n: usize, size: usize) -> Self {
        Self {
            n,
            size,
            order: (0..n).collect(),
            next: n,
        }
    }

    pub(crate) fn draw(&mut self, stream: &mut Stream) -> Coalition {
        let few = self.size.min(self.n - self.size);
        if self.next + few > self.n {
            self.order.shuffle(stream);
            self.next = 0;
        }
        let block = &self.order[self.next..self.next + few];
        self.next += few.max(1);
        let set = Coalition::from_players(self.n, block.iter().copied());
        if few == self.size {
            set
        } else {
            set.complement()
        }
    }
}

/// A permutation of `n` players.
pub(crate) fn permutation(n: usize, stream: &mut Stream) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    order.shuffle(stream);
    order
}

/// The coalitions of the first 1, 2, …, n − 1 of an order.
pub(crate) fn prefixes(order: &[usize]) -> Vec<Coalition> {
    let mut set = Coalition::empty(order.len());
    let inner = order.len().saturating_sub(1);
    let grow = |&player: &usize| {
        set.insert(player);
        set.clone()
    };
    order[..inner].iter().map(grow).collect()
}
