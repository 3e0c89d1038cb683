//! Gradient checkpointing (Chen et al., arXiv 1604.06174), a layer a segment.

use burn::tensor::{Gradients, Tensor};
use coto_adapters::Pass;

use crate::{Hidden, Layered};

/// The loss of a batch and its gradients, with nothing kept between the two but the states that go into each layer.
///
/// The layers run once without gradients, under `plain`, and once more on the way back, each by itself, under `tracked`: the
/// same pass on adapters that record gradients. The price is a second forward pass of the layers above the lowest that has an
/// adapter on; what is saved are the activations of all layers but one. `loss` makes a loss of the last layer's states;
/// `take` is given the gradients, part by part: those of the loss first, then of each layer from the top to that lowest one.
pub fn backward_by_layers<M: Layered>(
    model: &M,
    batch: &M::Batch,
    passes: [&Pass; 2],
    loss: impl FnOnce(Hidden) -> Tensor<1>,
    take: &mut dyn FnMut(&Gradients),
) -> Tensor<1> {
    backward_from(model, 0, model.embed(batch), passes, loss, take)
}

/// [`backward_by_layers`] of states that go into layer number `first`, below which no adapter is on.
pub fn backward_from<M: Layered>(
    model: &M,
    first: usize,
    mut hidden: Hidden,
    [plain, tracked]: [&Pass; 2],
    loss: impl FnOnce(Hidden) -> Tensor<1>,
    take: &mut dyn FnMut(&Gradients),
) -> Tensor<1> {
    let lowest = tracked.lowest_layer().unwrap_or(model.depth());
    let mut inputs = Vec::with_capacity(model.depth());
    for layer in first..model.depth() {
        if layer >= lowest {
            inputs.push(hidden.clone());
        }
        hidden = model.layer(layer, hidden, plain);
    }
    let top = leaf(hidden);
    let loss = loss(top.clone());
    let grads = loss.backward();
    take(&grads);
    let mut slopes = states(&top).map(|states| states.and_then(|states| states.grad(&grads)));
    for (layer, input) in (lowest..model.depth()).zip(inputs).rev() {
        // Nothing below the lowest has to be told anything.
        let input = if layer > lowest { leaf(input) } else { input };
        let output = model.layer(layer, input.clone(), tracked);
        let pairs = states(&output).into_iter().zip(slopes);
        let products = pairs.filter_map(|(states, slope)| Some((states? * slope?).sum()));
        let Some(sum) = products.reduce(|a, b| a + b) else {
            break;
        };
        let grads = sum.backward();
        take(&grads);
        slopes = states(&input).map(|states| states.and_then(|states| states.grad(&grads)));
    }
    loss.without_autodiff()
}

/// The states of the model, and of its other tower where it has one.
fn states(hidden: &Hidden) -> [Option<Tensor<2>>; 2] {
    let beside = hidden.beside.as_ref().map(|beside| beside.states.clone());
    [Some(hidden.states.clone()), beside]
}

/// The same states as leaves of a new graph.
fn leaf(hidden: Hidden) -> Hidden {
    let track = |states: Tensor<2>| states.without_autodiff().autodiff().require_grad();
    Hidden {
        states: track(hidden.states),
        beside: hidden.beside.map(|beside| {
            Box::new(Hidden {
                states: track(beside.states),
                ..*beside
            })
        }),
        ..hidden
    }
}
