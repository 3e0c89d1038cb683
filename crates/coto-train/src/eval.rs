use burn::tensor::{Device, Tensor};
use coto_adapters::Pass;
use coto_data::in_order;
use coto_models::{Layered, TokenBatch};

use crate::{Head, Scores, Split, Task};

/// What a model says of each row of a split.
#[derive(Debug, Clone)]
pub struct Predictions {
    /// The class of the largest logit.
    pub classes: Vec<usize>,
    /// Mean cross-entropy of the true classes, in nats.
    pub loss: f64,
}

impl Predictions {
    /// Runs a split through the model under a pass. Nothing is tracked: give it adapters that are not.
    pub fn of<M: Layered<Batch = TokenBatch>>(
        model: &M,
        head: &Head,
        pass: &Pass,
        task: &Task,
        split: &Split,
        batch_size: usize,
        device: &Device,
    ) -> Self {
        let mut classes = vec![0; split.tokens.len()];
        let mut loss = 0.0;
        for rows in in_order(&split.lengths(), batch_size) {
            let (batch, tokens) = task.batch(split, &rows, device);
            let (sum, logits) = head.loss(model.forward(&tokens, pass), &batch.labels);
            loss += f64::from(sum.into_scalar::<f32>());
            let best = logits.argmax(1).into_data().convert::<i64>();
            let best = best.as_slice::<i64>().expect("converted to i64");
            rows.iter()
                .zip(best)
                .for_each(|(&row, &class)| classes[row] = class as usize);
        }
        Self {
            loss: loss / classes.len().max(1) as f64,
            classes,
        }
    }

    /// The scores against the split's labels.
    pub fn scores(&self, split: &Split) -> Scores {
        Scores::new(
            &split.truth(),
            &self.classes,
            split.data.labels.len(),
            self.loss,
        )
    }
}

/// The frozen model's features of every row, [n, d], in order.
pub(crate) fn features<M: Layered<Batch = TokenBatch>>(
    model: &M,
    task: &Task,
    split: &Split,
    batch_size: usize,
    device: &Device,
) -> Tensor<2> {
    let mut order = Vec::new();
    let mut parts = Vec::new();
    for rows in in_order(&split.lengths(), batch_size) {
        let (_, tokens) = task.batch(split, &rows, device);
        parts.push(model.forward(&tokens, &Pass::base()));
        order.extend(rows);
    }
    let mut back = vec![0i32; order.len()];
    order
        .iter()
        .enumerate()
        .for_each(|(at, &row)| back[row] = at as i32);
    Tensor::cat(parts, 0).select(0, Tensor::from_data(back.as_slice(), device))
}
