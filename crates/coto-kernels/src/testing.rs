//! Fast forms against plain ones.

use burn::tensor::{Device, Distribution, Tensor, TensorData};

use crate::{Quantised, Scheme, Weight};

pub fn random(dims: [usize; 2]) -> Tensor<2> {
    Tensor::random(dims, Distribution::Normal(0.0, 1.0), &Device::flex())
}

/// A random quantised matrix.
pub fn quantised(scheme: Scheme, dims: [usize; 2]) -> Weight {
    let values = random([dims[1], dims[0]]).into_data();
    let groups = scheme.quantise(values.as_slice().expect("f32"), dims);
    Quantised::new(groups, &Device::flex()).into()
}

/// Panics unless the largest difference is within `tolerance` of the largest number: what rounding does to a sum is small
/// beside its terms, not beside a sum that happens to be near zero.
fn close(ours: &TensorData, theirs: &TensorData, tolerance: f32) {
    assert_eq!(ours.shape(), theirs.shape());
    let [a, b] = [ours, theirs].map(|data| data.as_slice::<f32>().expect("f32"));
    let size = b.iter().fold(1.0f32, |size, x| size.max(x.abs()));
    for (a, b) in a.iter().zip(b) {
        assert!(
            (a - b).abs() <= tolerance * size,
            "{a} for {b}, the largest {size}"
        );
    }
}

/// Panics unless two functions have the same values and gradients, on inputs that are shared and on inputs that are not.
pub fn agree<const N: usize>(
    inputs: [Tensor<2>; N],
    ours: impl Fn([Tensor<2>; N]) -> Tensor<2>,
    theirs: impl Fn([Tensor<2>; N]) -> Tensor<2>,
    tolerance: f32,
) {
    let expected = theirs(inputs.clone()).into_data();
    let before = inputs.clone().map(Tensor::into_data);
    close(&ours(inputs.clone()).into_data(), &expected, tolerance);
    assert_eq!(
        inputs.clone().map(Tensor::into_data),
        before,
        "an input was written to"
    );
    let alone = before
        .clone()
        .map(|data| Tensor::from_data(data, &Device::flex()));
    close(&ours(alone).into_data(), &expected, tolerance);

    let weights = random(expected.shape().dims());
    let gradients = |f: &dyn Fn([Tensor<2>; N]) -> Tensor<2>| {
        let leaves = inputs.clone().map(|x| x.autodiff().require_grad());
        let grads = (f(leaves.clone()) * weights.clone()).sum().backward();
        leaves.map(|leaf| leaf.grad(&grads).expect("a gradient").into_data())
    };
    let [ours, theirs] = [gradients(&ours), gradients(&theirs)];
    for (ours, theirs) in ours.iter().zip(&theirs) {
        close(ours, theirs, tolerance);
    }
}
