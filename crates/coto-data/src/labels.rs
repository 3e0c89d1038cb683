use std::collections::HashMap;

use crate::error::Nearest;

/// The names of the classes, given or gathered while the examples are read.
pub struct Labels {
    names: Vec<String>,
    index: HashMap<String, usize>,
    fixed: bool,
}

impl Labels {
    /// The given names in their order, or none yet.
    pub fn new(fixed: Option<&[String]>) -> Self {
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

    /// The class of `label`, until [`Labels::settle`] if the names are gathered.
    ///
    /// # Errors
    /// The nearest name, if the names are given and lack it.
    pub fn class(&mut self, label: String) -> Result<usize, Nearest> {
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

    /// The final label set. Gathered labels are sorted, as numbers if all are whole numbers, and the classes of the examples
    /// follow.
    pub fn settle<'a>(self, classes: impl IntoIterator<Item = &'a mut usize>) -> Vec<String> {
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
        for class in classes {
            *class = new[*class];
        }
        order
            .into_iter()
            .map(|old| self.names[old].clone())
            .collect()
    }
}
