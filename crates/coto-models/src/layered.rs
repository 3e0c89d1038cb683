use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use coto_adapters::{Base, Pass};
use coto_kernels::Weight;

/// The states between two layers.
#[derive(Debug, Clone)]
pub struct Hidden {
    /// One row for each position of each sample, [rows · width, d].
    pub states: Tensor<2>,
    /// Samples in the batch.
    pub rows: usize,
    /// Positions of each.
    pub width: usize,
    /// True where attention must not look, [rows, 1, 1, width] or [rows, 1, width, width]; `None` where it may look
    /// everywhere.
    pub blocked: Option<Tensor<4, Bool>>,
    /// The same in layers whose attention sees a window only.
    pub windowed: Option<Tensor<4, Bool>>,
    /// Cosine and sine of the positions' angles, [rows · width, half a head], where heads are turned by them.
    pub rotation: Option<[Tensor<2>; 2]>,
    /// The other tower's states, in a model of two.
    pub beside: Option<Box<Hidden>>,
}

impl Hidden {
    /// States that attention may look at everywhere.
    pub fn of(states: Tensor<2>, rows: usize, width: usize) -> Self {
        Self {
            states,
            rows,
            width,
            blocked: None,
            windowed: None,
            rotation: None,
            beside: None,
        }
    }
}

/// The face that every model shows: embed, layers, head.
pub trait Layered: Base {
    /// What goes in.
    type Batch;

    /// The number of layers.
    fn depth(&self) -> usize;

    /// The number of frozen parameters.
    fn parameters(&self) -> usize;

    /// Matrices besides the linears that may be quantised: a decoder's tables of tokens.
    fn tables(&self) -> Vec<&Weight> {
        Vec::new()
    }

    /// What the frozen parameters take in memory, in bytes.
    fn bytes(&self) -> usize {
        let linears = (0..self.modules().len()).map(|module| self.linear(module).frozen());
        let weights = linears.chain(self.tables());
        let saved = |weight: &Weight| 4 * weight.dims().iter().product::<usize>() - weight.bytes();
        4 * self.parameters() - weights.map(saved).sum::<usize>()
    }

    /// What goes into the first layer.
    fn embed(&self, batch: &Self::Batch) -> Hidden;

    /// States that go into any layer, [rows · width, d], with what the layers need of their batch beside them: what
    /// [`embed`](Self::embed) gives, with other states. `None` of a model whose states are not one tensor.
    fn resume(&self, _states: Tensor<2>, _batch: &Self::Batch) -> Option<Hidden> {
        None
    }

    /// Layer number `layer`, with the adapters that the pass has on.
    fn layer(&self, layer: usize, hidden: Hidden, pass: &Pass) -> Hidden;

    /// What comes out, of the last layer's states: for an encoder its features, [rows, d].
    fn head(&self, hidden: Hidden, batch: &Self::Batch) -> Tensor<2>;

    /// The states after the last layer.
    fn states(&self, batch: &Self::Batch, pass: &Pass) -> Hidden {
        self.states_from(0, self.embed(batch), pass)
    }

    /// The states after the last layer, of those that go into layer number `first`.
    fn states_from(&self, first: usize, hidden: Hidden, pass: &Pass) -> Hidden {
        let layers = |hidden, layer| self.layer(layer, hidden, pass);
        (first..self.depth()).fold(hidden, layers)
    }

    /// All of it.
    fn forward(&self, batch: &Self::Batch, pass: &Pass) -> Tensor<2> {
        self.head(self.states(batch, pass), batch)
    }
}

/// Token sequences of one length, padded at their ends.
#[derive(Debug, Clone)]
pub struct TokenBatch {
    /// Token numbers, [rows, width].
    pub ids: Tensor<2, Int>,
    /// Segment numbers, [rows, width].
    pub types: Tensor<2, Int>,
    /// Which positions hold a token; `None` where all do, [rows, width].
    pub mask: Option<Tensor<2, Bool>>,
    /// The place of each token in its own sample, where rows hold several, [rows, width].
    pub positions: Option<Tensor<2, Int>>,
    /// The number of the sample that each token belongs to, where rows hold several, [rows, width].
    pub samples: Option<Tensor<2, Int>>,
}

impl TokenBatch {
    /// A batch of `rows` sequences, given row by row; `mask` is true where a token stands.
    ///
    /// # Panics
    /// If the slices differ in length, or `rows` does not divide it.
    pub fn new(ids: &[u32], types: &[u32], mask: &[bool], rows: usize, device: &Device) -> Self {
        assert!(
            rows > 0 && ids.len().is_multiple_of(rows),
            "rows of one length"
        );
        assert!(
            types.len() == ids.len() && mask.len() == ids.len(),
            "a type and a mask for each token"
        );
        let shape = [rows, ids.len() / rows];
        let int = |values: &[u32]| {
            let values: Vec<i32> = values.iter().map(|&v| v as i32).collect();
            Tensor::<2, Int>::from_data(TensorData::new(values, shape), device)
        };
        let padded = mask.iter().any(|&token| !token);
        let mask = padded.then(|| Tensor::from_data(TensorData::new(mask.to_vec(), shape), device));
        Self {
            ids: int(ids),
            types: int(types),
            mask,
            positions: None,
            samples: None,
        }
    }

    /// Rows that hold several samples one after the other: each counts its positions from 0 and sees itself alone. For
    /// decoders; encoders have no use for them.
    ///
    /// # Panics
    /// If there is no row, or no token.
    pub fn packed(rows: &[Vec<&[u32]>], device: &Device) -> Self {
        let length = |row: &Vec<&[u32]>| row.iter().map(|sample| sample.len()).sum::<usize>();
        let width = rows.iter().map(length).max().unwrap_or(0);
        assert!(width > 0, "a token at least");
        let [mut ids, mut positions, mut samples] = [(); 3].map(|()| Vec::<u32>::new());
        let mut mask = Vec::new();
        for row in rows {
            for (number, sample) in row.iter().enumerate() {
                ids.extend_from_slice(sample);
                positions.extend(0..sample.len() as u32);
                samples.extend(sample.iter().map(|_| number as u32));
            }
            // Padding is a sample of its own.
            let gap = width - length(row);
            ids.extend((0..gap).map(|_| 0));
            positions.extend(0..gap as u32);
            samples.extend((0..gap).map(|_| row.len() as u32));
            mask.extend((0..width).map(|i| i < width - gap));
        }
        let int = |values: Vec<u32>| {
            let values: Vec<i32> = values.into_iter().map(|v| v as i32).collect();
            Tensor::from_data(TensorData::new(values, [rows.len(), width]), device)
        };
        let types = vec![0; ids.len()];
        Self {
            positions: Some(int(positions)),
            samples: Some(int(samples)),
            ..Self::new(&ids, &types, &mask, rows.len(), device)
        }
    }

    /// Some of the rows, in the order given.
    pub fn select(&self, rows: &[usize]) -> Self {
        let rows = indices(rows, &self.ids.device());
        let int = |tensor: &Tensor<2, Int>| tensor.clone().select(0, rows.clone());
        Self {
            ids: int(&self.ids),
            types: int(&self.types),
            mask: self.mask.clone().map(|mask| mask.select(0, rows.clone())),
            positions: self.positions.as_ref().map(int),
            samples: self.samples.as_ref().map(int),
        }
    }

    /// How many tokens each sample of each row has, in the order in which they stand.
    pub fn lengths(&self) -> Vec<Vec<usize>> {
        let [rows, width] = self.ids.dims();
        let mask = self.mask.as_ref().map(|mask| mask.to_data());
        let samples = self.samples.as_ref().map(|samples| samples.to_data());
        let tokens: Vec<bool> = match &mask {
            Some(mask) => mask.iter().collect(),
            None => vec![true; rows * width],
        };
        let samples: Vec<i64> = match &samples {
            Some(samples) => samples.iter().collect(),
            None => vec![0; rows * width],
        };
        let row = |(tokens, samples): (&[bool], &[i64])| {
            let real = samples.iter().zip(tokens).filter(|(_, token)| **token);
            let real: Vec<i64> = real.map(|(sample, _)| *sample).collect();
            real.chunk_by(|a, b| a == b).map(<[i64]>::len).collect()
        };
        let rows = tokens.chunks(width).zip(samples.chunks(width));
        rows.map(row).collect()
    }
}

fn indices(rows: &[usize], device: &Device) -> Tensor<1, Int> {
    let rows: Vec<i32> = rows.iter().map(|&row| row as i32).collect();
    Tensor::from_data(rows.as_slice(), &device.clone().without_autodiff())
}

/// Images of one size, and for a model of two towers what they are compared with.
#[derive(Debug, Clone)]
pub struct ImageBatch {
    /// Normalised pixels, [rows, channels, height, width].
    pub pixels: Tensor<4>,
    /// The prompts, each for every image; `None` for a model of images alone.
    pub prompts: Option<TokenBatch>,
    /// The prompts' features as [`Clip::text_features`](crate::Clip::text_features) gave them, [prompts, projection]. Where they
    /// are there, `prompts` is not looked at.
    pub text: Option<Tensor<2>>,
}

impl ImageBatch {
    /// Some of the images, in the order given.
    pub fn select(&self, rows: &[usize]) -> Self {
        let rows = indices(rows, &self.pixels.device());
        Self {
            pixels: self.pixels.clone().select(0, rows),
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_know_the_lengths_of_their_samples_and_keep_them_when_some_are_selected() {
        let device = Device::flex();
        let rows: [Vec<&[u32]>; 3] = [vec![&[5, 6], &[7, 8, 9]], vec![&[1]], vec![&[2, 3, 4, 5]]];
        let packed = TokenBatch::packed(&rows, &device);
        assert_eq!(packed.lengths(), [vec![2, 3], vec![1], vec![4]]);
        let some = packed.select(&[2, 0]);
        assert_eq!(some.lengths(), [vec![4], vec![2, 3]]);
        let ids: Vec<i64> = some.ids.to_data().iter().collect();
        assert_eq!(ids, [2, 3, 4, 5, 0, 5, 6, 7, 8, 9]);

        let whole = TokenBatch::new(&[1, 2, 3, 4], &[0; 4], &[true; 4], 2, &device);
        assert_eq!(whole.lengths(), [[2], [2]]);
        assert_eq!(whole.select(&[1]).lengths(), [[2]]);
    }
}
