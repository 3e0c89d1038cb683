use burn::tensor::{Tensor, TensorData};
use coto_models::{Hidden, Layered, Model};

use crate::head::cross_entropy;
use crate::{Batch, Head};

/// What reads the last layer's states.
#[derive(Debug, Clone)]
pub enum Readout {
    /// A linear classifier on the model's features.
    Classes(Box<Head>),
    /// The model's own output, a logit for each class: that of an image and the prompts.
    Prompts,
    /// The decoder's vocabulary: the loss is that of the tokens to come.
    Tokens,
}

impl Readout {
    /// The classifier, if it is one.
    pub fn head(&self) -> Option<&Head> {
        match self {
            Self::Classes(head) => Some(head),
            _ => None,
        }
    }

    /// The sum of the cross-entropies of a batch's targets, in nats.
    ///
    /// # Panics
    /// If [`Readout::Tokens`] is asked of a model that is no decoder, or of a batch without places.
    pub fn loss(&self, model: &Model, hidden: Hidden, batch: &Batch) -> Tensor<1> {
        match self {
            Self::Tokens => {
                let (states, decoder) = told(model, hidden, batch);
                coto_kernels::cross_entropy(states, decoder.vocabulary(), &batch.targets)
            }
            _ => cross_entropy(self.logits(model, hidden, batch), &batch.targets).sum(),
        }
    }

    /// For each target its cross-entropy in nats and the likeliest class; of tokens that it was not the likeliest is told by a
    /// class that none is.
    ///
    /// # Panics
    /// As [`loss`](Self::loss).
    pub fn judge(&self, model: &Model, hidden: Hidden, batch: &Batch) -> Vec<(f32, u32)> {
        if let Self::Tokens = self {
            let (states, decoder) = told(model, hidden, batch);
            let losses = coto_kernels::token_losses(states, decoder.vocabulary(), &batch.targets);
            let pairs = losses.into_iter().zip(&batch.targets);
            return pairs
                .map(|((loss, right), &target)| (loss, if right { target } else { u32::MAX }))
                .collect();
        }
        let logits = self.logits(model, hidden, batch);
        let losses = cross_entropy(logits.clone(), &batch.targets).into_data();
        let classes = logits.argmax(1).into_data().convert::<i64>();
        let classes = classes.as_slice::<i64>().expect("converted to i64");
        let losses = losses.convert::<f32>();
        let losses = losses.as_slice::<f32>().expect("converted to f32");
        let pairs = losses.iter().zip(classes);
        pairs.map(|(&loss, &class)| (loss, class as u32)).collect()
    }

    fn logits(&self, model: &Model, hidden: Hidden, batch: &Batch) -> Tensor<2> {
        let output = model.head(hidden, &batch.input);
        match self {
            Self::Classes(head) => head.forward(output),
            _ => output,
        }
    }
}

/// The normed states in which the targets are told, and the decoder that tells them.
fn told<'a>(
    model: &'a Model,
    hidden: Hidden,
    batch: &Batch,
) -> (Tensor<2>, &'a coto_models::Llama) {
    let (Model::Llama(decoder), Some(places)) = (model, &batch.places) else {
        panic!("tokens are told by a decoder, in places")
    };
    let device = hidden.states.device().without_autodiff();
    let places = TensorData::new(places.clone(), [places.len()]);
    let states = hidden
        .states
        .clone()
        .select(0, Tensor::from_data(places, &device));
    (decoder.normed(Hidden { states, ..hidden }), decoder)
}
