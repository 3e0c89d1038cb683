use coto_data::{Labels, Place};

use crate::error::Error;

/// A label of a source: a text, or a number that may be a place in a list of names.
pub(crate) enum Label {
    Text(String),
    Number(i64),
}

/// The label set of a source whose labels may be numbers.
pub(crate) struct Names<'a> {
    /// The names that numbers count, from 0.
    names: Option<&'a [String]>,
    set: Labels,
}

impl<'a> Names<'a> {
    /// Of a given label set and the names that the source itself has for numbers.
    ///
    /// Without names of their own, numbers count the given labels, unless these are whole numbers themselves.
    pub(crate) fn new(labels: Option<&'a [String]>, own: Option<&'a [String]>) -> Self {
        let named =
            labels.filter(|labels| labels.iter().any(|label| label.parse::<i64>().is_err()));
        Self {
            names: own.or(named),
            set: Labels::new(labels.or(own)),
        }
    }

    pub(crate) fn class(&mut self, label: Label, at: impl Fn() -> Place) -> Result<usize, Error> {
        let label = match (label, self.names) {
            (Label::Text(text), _) => text,
            (Label::Number(number), None) => number.to_string(),
            (Label::Number(number), Some(names)) => {
                let name = usize::try_from(number)
                    .ok()
                    .and_then(|place| names.get(place));
                name.cloned().ok_or_else(|| Error::LabelRange {
                    at: at(),
                    label: number,
                    classes: names.len(),
                })?
            }
        };
        self.set
            .class(label.clone())
            .map_err(|nearest| Error::UnknownLabel {
                at: at(),
                label: label.chars().take(120).collect(),
                nearest,
            })
    }

    pub(crate) fn settle(self, classes: &mut [usize]) -> Vec<String> {
        self.set.settle(classes)
    }
}
