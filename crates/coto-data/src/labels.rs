use std::collections::HashMap;

use crate::dataset::Example;
use crate::error::Nearest;

/// The names of the classes, given or gathered.
pub(crate) struct Labels {
    names: Vec<String>,
    index: HashMap<String, usize>,
    fixed: bool,
}

impl Labels {
    pub(crate) fn new(fixed: Option<&[String]>) -> Self {
        let names = fixed.unwrap_or_default().to_vec();
        let index = names
            .iter()
            .cloned()
            .enumerate()
            .map(|(i, name)| (name, i))
            .collect();
        Self {
            names,
            index,
            fixed: fixed.is_some(),
        }
    }

    /// The class of `label`, or the nearest label if the set is fixed and lacks it.
    pub(crate) fn class(&mut self, label: String) -> Result<usize, Nearest> {
        if let Some(&class) = self.index.get(&label) {
            return Ok(class);
        }
        if self.fixed {
            return Err(Nearest::of(&label, self.names.iter().map(String::as_str)));
        }
        self.names.push(label.clone());
        self.index.insert(label, self.names.len() - 1);
        Ok(self.names.len() - 1)
    }

    /// The final label set. Gathered labels are sorted, as numbers if all are whole numbers, and the examples follow.
    pub(crate) fn settle(self, examples: &mut [Example]) -> Vec<String> {
        if self.fixed {
            return self.names;
        }
        let numbers: Option<Vec<i128>> = self.names.iter().map(|name| name.parse().ok()).collect();
        let mut order: Vec<usize> = (0..self.names.len()).collect();
        order.sort_by_key(|&old| {
            (
                numbers.as_ref().map(|numbers| numbers[old]),
                &self.names[old],
            )
        });

        let mut new = vec![0; order.len()];
        for (place, &old) in order.iter().enumerate() {
            new[old] = place;
        }
        for example in examples {
            example.label = new[example.label];
        }
        order
            .into_iter()
            .map(|old| self.names[old].clone())
            .collect()
    }
}
