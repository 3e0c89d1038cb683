use burn::tensor::{Tensor, TensorData};
use coto_models::{Hidden, Layered, Model};

use crate::head::cross_entropy;
use crate::{Batch, Head};

/// Logits in memory at a time where margins of tokens are asked for, about 32 MiB.
const LOGITS: usize = 8 << 20;

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

    /// The weighted mean of classifiers; what has none is the same for all.
    ///
    /// # Panics
    /// If there is no readout, or the classifiers are of different shapes.
    pub fn mean(readouts: &[&Self], weights: &[f64]) -> Self {
        let heads: Vec<&Head> = readouts
            .iter()
            .filter_map(|readout| readout.head())
            .collect();
        if heads.len() != readouts.len() {
            return readouts[0].clone();
        }
        let mean = |part: fn(&Head) -> &Tensor<2>| {
            let parts = heads.iter().zip(weights);
            let parts = parts.map(|(head, &weight)| part(head).clone().mul_scalar(weight));
            parts.reduce(|a, b| a + b).expect("at least one readout")
        };
        let (weight, bias) = (mean(|head| &head.weight), mean(|head| &head.bias));
        Self::Classes(Head { weight, bias }.into())
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
            _ => cross_entropy(self.of_classes(model, hidden, batch), &batch.targets).sum(),
        }
    }

    /// The logits of the targets, [targets, classes]: all at once, or of a vocabulary in parts of about 32 MiB.
    ///
    /// # Panics
    /// As [`loss`](Self::loss).
    pub fn logits<'a>(
        &self,
        model: &'a Model,
        hidden: Hidden,
        batch: &Batch,
    ) -> Box<dyn Iterator<Item = Tensor<2>> + 'a> {
        let Self::Tokens = self else {
            return Box::new(std::iter::once(self.of_classes(model, hidden, batch)));
        };
        let (states, decoder) = told(model, hidden, batch);
        let ([targets, d], [_, vocabulary]) = (states.dims(), decoder.vocabulary().dims());
        let each = (LOGITS / vocabulary).max(1);
        let starts = (0..targets).step_by(each);
        Box::new(starts.map(move |start| {
            let rows = start..targets.min(start + each);
            let states = states.clone().slice([rows, 0..d]);
            coto_kernels::linear(states, decoder.vocabulary(), None)
        }))
    }

    /// For each target by how much its logit exceeds the greatest other one.
    ///
    /// # Panics
    /// As [`loss`](Self::loss).
    pub fn margins(&self, model: &Model, hidden: Hidden, batch: &Batch) -> Vec<f32> {
        let mut targets = &batch.targets[..];
        let part = |logits: Tensor<2>| {
            let (own, rest) = targets.split_at(logits.dims()[0]);
            targets = rest;
            margins(logits, own)
        };
        self.logits(model, hidden, batch).flat_map(part).collect()
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
        let logits = self.of_classes(model, hidden, batch);
        let losses = cross_entropy(logits.clone(), &batch.targets).into_data();
        let classes = logits.argmax(1).into_data().convert::<i64>();
        let classes = classes.as_slice::<i64>().expect("converted to i64");
        let losses = losses.convert::<f32>();
        let losses = losses.as_slice::<f32>().expect("converted to f32");
        let pairs = losses.iter().zip(classes);
        pairs.map(|(&loss, &class)| (loss, class as u32)).collect()
    }

    /// The logits of classes, [targets, classes].
    fn of_classes(&self, model: &Model, hidden: Hidden, batch: &Batch) -> Tensor<2> {
        let output = model.head(hidden, &batch.input);
        match self {
            Self::Classes(head) => head.forward(output),
            _ => output,
        }
    }
}

/// By how much each row's target exceeds the greatest other logit, [rows, classes]; infinite where there is no other.
fn margins(logits: Tensor<2>, targets: &[u32]) -> Vec<f32> {
    let [_, classes] = logits.dims();
    let logits: Vec<f32> = logits.into_data().iter().collect();
    let margin = |(row, &target): (&[f32], &u32)| {
        let others = row.iter().enumerate();
        let others = others.filter(|(class, _)| *class != target as usize);
        row[target as usize] - others.fold(f32::NEG_INFINITY, |most, (_, &x)| most.max(x))
    };
    logits
        .chunks_exact(classes)
        .zip(targets)
        .map(margin)
        .collect()
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
