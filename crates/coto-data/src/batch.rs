use crate::dataset::Dataset;
use crate::encode::Tokens;

/// Some examples as one table of tokens, padded on the right to the longest of them.
///
/// `ids`, `types` and `mask` have the shape `[rows, width]`, row by row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Token ids; the padding id where `mask` is false.
    pub ids: Vec<u32>,
    /// Segment ids: 0 for the first text and padding, 1 for the second, where the tokenizer tells them apart.
    pub types: Vec<u32>,
    /// True for tokens, false for padding.
    pub mask: Vec<bool>,
    /// The number of examples.
    pub rows: usize,
    /// The number of tokens of the longest example.
    pub width: usize,
    /// The class of each example; shape `[rows]`.
    pub labels: Vec<usize>,
    /// The place of each example in its data set; shape `[rows]`.
    pub indices: Vec<usize>,
}

/// Joins the examples at `indices` into one batch, in that order; `tokens` are those of `data`, example by example.
///
/// # Panics
/// If an index is outside of `tokens` or `data`.
pub fn collate(tokens: &[Tokens], data: &Dataset, indices: &[usize], pad_id: u32) -> Batch {
    let chosen = || indices.iter().map(|&index| &tokens[index]);
    let width = chosen().map(|tokens| tokens.ids.len()).max().unwrap_or(0);
    let mut batch = Batch {
        ids: vec![pad_id; indices.len() * width],
        types: vec![0; indices.len() * width],
        mask: vec![false; indices.len() * width],
        rows: indices.len(),
        width,
        labels: indices
            .iter()
            .map(|&index| data.examples[index].label)
            .collect(),
        indices: indices.to_vec(),
    };
    for (row, tokens) in chosen().enumerate() {
        let cells = row * width..row * width + tokens.ids.len();
        batch.ids[cells.clone()].copy_from_slice(&tokens.ids);
        batch.types[cells.clone()].copy_from_slice(&tokens.types);
        batch.mask[cells].fill(true);
    }
    batch
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Example;

    #[test]
    fn a_batch_is_as_wide_as_its_own_longest_row() {
        let tokens = [vec![5, 6, 7, 8], vec![1], vec![2, 3]].map(|ids: Vec<u32>| Tokens {
            types: vec![1; ids.len()],
            ids,
        });
        let example = |label| Example {
            text: String::new(),
            pair: None,
            label,
        };
        let data = Dataset {
            examples: vec![example(0), example(2), example(1)],
            labels: ["a", "b", "c"].map(String::from).into(),
        };
        let expected = Batch {
            ids: vec![2, 3, 1, 9],
            types: vec![1, 1, 1, 0],
            mask: vec![true, true, true, false],
            rows: 2,
            width: 2,
            labels: vec![1, 2],
            indices: vec![2, 1],
        };
        assert_eq!(collate(&tokens, &data, &[2, 1], 9), expected);

        let none = collate(&tokens, &data, &[], 9);
        assert_eq!((none.rows, none.width, none.ids.len()), (0, 0, 0));
    }
}
