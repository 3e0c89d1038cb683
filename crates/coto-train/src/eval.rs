use burn::tensor::{Device, Tensor};
use coto_adapters::Pass;
use coto_models::{Input, Layered, Model};

use crate::{Error, Readout, Scores, Split, Task};

/// Scores of a split of a task. Nothing is tracked: give the pass adapters that are not.
///
/// # Errors
/// [`Error::NoSplit`]; for a sample that cannot be read.
pub fn evaluate(
    model: &Model,
    readout: &Readout,
    pass: &Pass,
    task: &dyn Task,
    split: Split,
    batch_size: usize,
    device: &Device,
) -> Result<Scores, Error> {
    if task.samples(split).is_none() {
        return Err(Error::NoSplit {
            split: split.name(),
        });
    }
    let (mut truth, mut guesses, mut loss) = (Vec::new(), Vec::new(), 0.0);
    let mut text = None;
    for rows in task.in_order(split, batch_size) {
        let mut batch = task.batch(split, &rows, device)?;
        if let (Model::Clip(clip), Input::Images(images)) = (model, &mut batch.input)
            && let Some(prompts) = &images.prompts
        {
            // The same for every image.
            let features = || clip.text_features(prompts, pass);
            images.text = Some(text.get_or_insert_with(features).clone());
        }
        let hidden = model.states(&batch.input, pass);
        for (nats, guess) in readout.judge(model, hidden, &batch) {
            loss += f64::from(nats);
            guesses.push(guess);
        }
        truth.extend(batch.targets);
    }
    let loss = loss / truth.len().max(1) as f64;
    Ok(match readout {
        Readout::Tokens => Scores::tokens(&truth, &guesses, loss),
        _ => Scores::classes(&truth, &guesses, task.labels().len(), loss),
    })
}

/// The frozen model's features of every training sample, [n, d], and their classes.
pub(crate) fn features(
    model: &Model,
    task: &dyn Task,
    batch_size: usize,
    device: &Device,
) -> Result<(Tensor<2>, Vec<u32>), Error> {
    let (mut parts, mut classes) = (Vec::new(), Vec::new());
    let mut order = Vec::new();
    for rows in task.in_order(Split::Train, batch_size) {
        let batch = task.batch(Split::Train, &rows, device)?;
        parts.push(model.forward(&batch.input, &Pass::base()));
        order.extend(rows.concat().into_iter().zip(batch.targets));
    }
    // In the samples' own order, whatever the batches were.
    let mut back: Vec<i32> = (0..order.len() as i32).collect();
    back.sort_by_key(|&at| order[at as usize].0);
    classes.extend(back.iter().map(|&at| order[at as usize].1));
    let features = Tensor::cat(parts, 0).select(0, Tensor::from_data(back.as_slice(), device));
    Ok((features, classes))
}
