use std::fmt::Debug;

use coto_lowrank::{LowRank, Statistics};

use crate::Error;

/// How the updates that several adapters have for one module become one.
///
/// This is what a new merging method implements; one that treats matrices entry by entry implements
/// [`Rule`](crate::Rule) and works in every space.
pub trait Method: Debug + Send + Sync {
    /// The update of the merged adapter, exactly, whatever its rank.
    ///
    /// # Errors
    /// What the method cannot do with these parts, as [`Error::Refused`].
    fn merge(&self, parts: &Parts) -> Result<LowRank, Error>;

    /// What it asks of [`Part::statistics`].
    fn needs(&self) -> Needs {
        Needs::Nothing
    }
}

/// What a method asks of the adapters' data; each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Needs {
    /// No statistics.
    Nothing,
    /// The modules' inputs.
    Inputs,
    /// The gradients of the factors too.
    Gradients,
}

/// What several adapters have for one module.
#[derive(Debug)]
pub struct Parts<'a> {
    /// The module's path.
    pub path: &'a str,
    /// The weights of all adapters that are merged. Those that do not adapt the module have no part: their update is zero.
    pub weights: &'a [f64],
    /// The adapters' parts, at least one, all of the same [out, in], in the adapters' order.
    pub parts: Vec<Part<'a>>,
    /// Seed of what is drawn for this module.
    pub seed: u64,
}

/// One adapter's part.
#[derive(Debug)]
pub struct Part<'a> {
    /// Which adapter, from 0.
    pub adapter: usize,
    /// Its weight.
    pub weight: f64,
    /// ΔW, its scale s in B.
    pub update: LowRank,
    /// The scale s: the folder's own B is B / s.
    pub scale: f64,
    /// What data says of the module under this adapter, where it was asked.
    pub statistics: Option<&'a Statistics>,
}

impl<'a> Parts<'a> {
    /// How many adapters are merged.
    pub fn adapters(&self) -> usize {
        self.weights.len()
    }

    /// The part of each adapter in turn; `None` for one that does not adapt the module.
    pub fn by_adapter(&self) -> impl Iterator<Item = Option<&Part<'a>>> {
        (0..self.adapters()).map(|k| self.parts.iter().find(|part| part.adapter == k))
    }

    /// [`Error::Refused`] for this module.
    pub fn refused(&self, reason: impl Into<String>) -> Error {
        Error::Refused {
            module: self.path.to_owned(),
            reason: reason.into(),
        }
    }
}
