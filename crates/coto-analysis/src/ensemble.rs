use burn::tensor::activation::softmax;
use coto_adapters::Pass;
use coto_models::Layered;
use coto_train::Readout;

use crate::join::one_each;
use crate::{Blend, End, Error, Evaluation, Means};

/// How good the weighted mean of some adapters' outputs is, all their players on: of the probabilities p = Σ wₖ pₖ that each gives,
/// with its own readout, to the classes, or to the vocabulary's tokens. What every join of the adapters themselves is compared
/// with; it takes as many forward passes as there are adapters.
///
/// A class is told by its number, so that the adapters must be of one task, or of tasks whose classes are the same in order.
///
/// # Errors
/// [`Error::Value`] for another number of weights and for weights that are no mean's; [`Error::Outputs`] for adapters
/// that tell other classes than the evaluation's; for a sample that cannot be read.
pub fn ensemble(evaluation: &Evaluation, ends: &[End], weights: &[f64]) -> Result<Blend, Error> {
    check(evaluation, ends, weights)?;
    let (model, batches) = (evaluation.model(), &evaluation.batches);
    let (mut targets, mut loss, mut right) = (0, 0.0, 0);
    for (done, rows) in batches.iter().enumerate() {
        let batch = evaluation.batch(rows)?;
        let parts = ends.iter().map(|end| {
            let grand = end.adapters.grand();
            let hidden = model.states(&batch.input, &Pass::new(&end.adapters, &grand));
            end.readout.logits(model, hidden, &batch)
        });
        let mut parts: Vec<_> = parts.collect();
        let mut told = batch.targets.iter().copied();
        while let Some(logits) = parts
            .iter_mut()
            .map(Iterator::next)
            .collect::<Option<Vec<_>>>()
        {
            let weighted = logits.into_iter().zip(weights);
            let weighted = weighted.map(|(logits, &w)| softmax(logits, 1).mul_scalar(w));
            let p = weighted.reduce(|a, b| a + b).expect("at least one adapter");
            let [_, classes] = p.dims();
            let p: Vec<f32> = p.into_data().iter().collect();
            for (p, target) in p.chunks_exact(classes).zip(told.by_ref()) {
                let own = p[target as usize];
                loss -= f64::from(own.max(f32::MIN_POSITIVE)).ln();
                let before = &p[..target as usize];
                // Of equals the first is the likeliest.
                right +=
                    usize::from(before.iter().all(|&p| p < own) && p.iter().all(|&p| p <= own));
                targets += 1;
            }
        }
        if let Some(watch) = evaluation.watch {
            watch((done + 1) as f64 / batches.len() as f64);
        }
    }
    let n = f64::from(targets.max(1));
    Ok(Blend {
        weights: weights.to_vec(),
        means: Means {
            loss: loss / n,
            accuracy: right as f64 / n,
            margin: None,
        },
    })
}

fn check(evaluation: &Evaluation, ends: &[End], weights: &[f64]) -> Result<(), Error> {
    if ends.is_empty() {
        return Err(coto_merge::Error::Empty.into());
    }
    one_each(ends.len(), weights)?;
    let sum: f64 = weights.iter().sum();
    if weights.iter().any(|&w| w.is_nan() || w < 0.0) || (sum - 1.0).abs() > 1e-6 {
        return Err(Error::Value {
            field: "weights",
            value: format!("{weights:?}"),
            reason: "a mean's: none below 0, and 1 in sum",
        });
    }
    let expected = outputs(evaluation.readout());
    for (index, end) in ends.iter().enumerate() {
        let found = outputs(&end.readout);
        if found != expected {
            return Err(Error::Outputs {
                index,
                found,
                expected,
            });
        }
    }
    Ok(())
}

/// What a readout tells.
fn outputs(readout: &Readout) -> String {
    match readout {
        Readout::Classes(head) => format!("{} classes", head.bias.dims()[1]),
        Readout::Prompts => "the likeliest of the prompts".to_owned(),
        Readout::Tokens => "the tokens to come".to_owned(),
    }
}
