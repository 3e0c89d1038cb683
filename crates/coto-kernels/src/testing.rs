//! Fast forms against plain ones.

use burn::tensor::{Device, Distribution, Tensor, Tolerance};

pub fn random(dims: [usize; 2]) -> Tensor<2> {
    Tensor::random(dims, Distribution::Normal(0.0, 1.0), &Device::flex())
}

/// Panics unless two functions have the same values and gradients, on inputs that are shared and on inputs that are not.
pub fn agree<const N: usize>(
    inputs: [Tensor<2>; N],
    ours: impl Fn([Tensor<2>; N]) -> Tensor<2>,
    theirs: impl Fn([Tensor<2>; N]) -> Tensor<2>,
    tolerance: f32,
) {
    let close = Tolerance::<f32>::rel_abs(tolerance, tolerance);
    let expected = theirs(inputs.clone()).into_data();
    let before = inputs.clone().map(Tensor::into_data);
    ours(inputs.clone())
        .into_data()
        .assert_approx_eq(&expected, close);
    assert_eq!(
        inputs.clone().map(Tensor::into_data),
        before,
        "an input was written to"
    );
    let alone = before
        .clone()
        .map(|data| Tensor::from_data(data, &Device::flex()));
    ours(alone).into_data().assert_approx_eq(&expected, close);

    let weights = random(expected.shape().dims());
    let gradients = |f: &dyn Fn([Tensor<2>; N]) -> Tensor<2>| {
        let leaves = inputs.clone().map(|x| x.autodiff().require_grad());
        let grads = (f(leaves.clone()) * weights.clone()).sum().backward();
        leaves.map(|leaf| leaf.grad(&grads).expect("a gradient").into_data())
    };
    let [ours, theirs] = [gradients(&ours), gradients(&theirs)];
    for (ours, theirs) in ours.iter().zip(&theirs) {
        ours.assert_approx_eq(theirs, close);
    }
}
