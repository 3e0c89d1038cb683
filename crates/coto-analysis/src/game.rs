use std::fmt;
use std::str::FromStr;

use coto_adapters::AdapterSet;
use coto_coalition::Coalition;
use coto_shapley::Game;
use serde::Serialize;

use crate::evaluation::{Evaluation, Margins, Means};
use crate::{Error, LayerRuns};

/// What a coalition of adapters is worth.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Value {
    /// The share of targets that are told right.
    Accuracy,
    /// The mean cross-entropy, its sign turned: less loss is worth more.
    #[default]
    Loss,
    /// The mean logit margin.
    Margin,
}

impl Value {
    /// Its name, as [`FromStr`] takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::Loss => "loss",
            Self::Margin => "margin",
        }
    }

    fn margins(self) -> Margins {
        match self {
            Self::Margin => Margins::Wanted,
            _ => Margins::Unwanted,
        }
    }

    pub(crate) fn of(self, means: &Means) -> f64 {
        match self {
            Self::Accuracy => means.accuracy,
            Self::Loss => -means.loss,
            Self::Margin => means.margin.unwrap_or(f64::NAN),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Value {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let known = [Self::Accuracy, Self::Loss, Self::Margin];
        let found = known.into_iter().find(|value| value.name() == text);
        found.ok_or_else(|| Error::Value {
            field: "value",
            value: text.to_owned(),
            reason: "one of `accuracy`, `loss`, `margin`",
        })
    }
}

/// The adapters of a model as players: a coalition is worth what the model does on fixed rows with exactly those adapters on.
pub struct AdapterGame<'a> {
    evaluation: &'a Evaluation<'a>,
    adapters: &'a AdapterSet,
    value: Value,
    runs: LayerRuns,
}

impl<'a> AdapterGame<'a> {
    /// The game of the players that the adapters form.
    pub fn new(evaluation: &'a Evaluation<'a>, adapters: &'a AdapterSet, value: Value) -> Self {
        Self {
            evaluation,
            adapters,
            value,
            runs: LayerRuns::default(),
        }
    }

    /// The layers run so far.
    pub fn runs(&self) -> LayerRuns {
        self.runs
    }
}

impl Game for AdapterGame<'_> {
    type Error = Error;

    fn players(&self) -> usize {
        self.adapters.players().len()
    }

    fn values(&mut self, coalitions: &[Coalition]) -> Result<Vec<f64>, Error> {
        let margins = self.value.margins();
        let (means, runs) = self.evaluation.means(self.adapters, coalitions, margins)?;
        self.runs += runs;
        Ok(means.iter().map(|means| self.value.of(means)).collect())
    }
}
