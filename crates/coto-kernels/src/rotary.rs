//! Rotary position embedding (Su et al., arXiv 2104.09864), a head's halves as the two coordinates of its planes.

use burn::tensor::Tensor;

#[cfg(feature = "flex")]
pub(crate) use flex::{tracked, turn};

/// Turns each head of each token: halves (a, b) become (a cos - b sin, b cos + a sin); differentiable in x, the angles are
/// constants.
///
/// # Shapes
/// `x` [tokens, heads · size]; `cos`, `sin` [tokens, size / 2] → [tokens, heads · size].
///
/// # Panics
/// If x is no whole number of heads.
pub fn rotate(x: Tensor<2>, cos: Tensor<2>, sin: Tensor<2>) -> Tensor<2> {
    let ([tokens, d], [angles, half]) = (x.dims(), cos.dims());
    assert!(
        tokens == angles && half > 0 && d.is_multiple_of(2 * half) && sin.dims() == cos.dims(),
        "{tokens} tokens of {d} numbers by {angles} rows of {half} angles"
    );
    #[cfg(feature = "flex")]
    if [&x, &cos, &sin].into_iter().all(crate::fast) {
        use crate::ops::KernelOps;
        use burn::backend::Dispatch;
        let [x, cos, sin] = [x, cos, sin].map(Tensor::into_dispatch);
        return Tensor::from_dispatch(Dispatch::rotate(x, cos, sin));
    }
    plain(x, cos, sin)
}

fn plain(x: Tensor<2>, cos: Tensor<2>, sin: Tensor<2>) -> Tensor<2> {
    let ([tokens, d], half) = (x.dims(), cos.dims()[1]);
    let heads = d / (2 * half);
    let x = x.reshape([tokens, heads, 2 * half]);
    let [a, b] = [0, half].map(|at| {
        let x = x.clone();
        x.slice([0..tokens, 0..heads, at..at + half])
    });
    let [cos, sin] = [cos, sin].map(|angles| angles.reshape([tokens, 1, half]));
    let turned = vec![
        a.clone() * cos.clone() - b.clone() * sin.clone(),
        b * cos + a * sin,
    ];
    Tensor::cat(turned, 2).reshape([tokens, d])
}

#[cfg(feature = "flex")]
mod flex {
    use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
    use burn::backend::autodiff::grads::Gradients;
    use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
    use burn::backend::tensor::FloatTensor;
    use burn::backend::{Autodiff, Flex};

    use crate::memory::{dense, rows, slice};

    type Primitive = FloatTensor<Flex>;

    /// By the angles, or back where `sign` is -1.
    pub(crate) fn turn(x: Primitive, cos: &Primitive, sin: &Primitive, sign: f32) -> Primitive {
        let (d, half) = (x.layout().shape()[1], cos.layout().shape()[1]);
        let (cos, sin) = (slice(cos), slice(sin));
        rows(
            x,
            d,
            #[inline(always)]
            |token, row| {
                let [cos, sin] = [cos, sin].map(|x| &x[token * half..(token + 1) * half]);
                for head in row.chunks_exact_mut(2 * half) {
                    let (a, b) = head.split_at_mut(half);
                    let pairs = a.iter_mut().zip(b).zip(cos.iter().zip(sin));
                    pairs.for_each(|((a, b), (cos, sin))| {
                        let sin = sign * sin;
                        (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
                    });
                }
            },
        )
    }

    #[derive(Debug)]
    struct Rotate;

    impl Backward<Flex, 1> for Rotate {
        /// Cosines and sines.
        type State = [Primitive; 2];

        fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
            let [parent] = ops.parents;
            let grad = grads.consume::<Flex>(&ops.node);
            if let Some(x) = parent {
                let [cos, sin] = &ops.state;
                grads.register::<Flex>(x.id, turn(grad, cos, sin, -1.0));
            }
        }
    }

    pub(crate) fn tracked<C: CheckpointStrategy>(
        x: FloatTensor<Autodiff<Flex, C>>,
        cos: FloatTensor<Autodiff<Flex, C>>,
        sin: FloatTensor<Autodiff<Flex, C>>,
    ) -> FloatTensor<Autodiff<Flex, C>> {
        let prep = Rotate.prepare::<C>([x.node()]).compute_bound().stateful();
        let [cos, sin] = [cos, sin].map(|tensor| dense(tensor.into_primitive()));
        let turned = turn(x.into_primitive(), &cos, &sin, 1.0);
        match prep {
            OpsKind::Tracked(prep) => prep.finish([cos, sin], turned),
            OpsKind::UnTracked(prep) => prep.finish(turned),
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::testing::{agree, random};

    fn both(x: Tensor<2>, half: usize) {
        let angles = random([half, x.dims()[0]]).mul_scalar(3.0).transpose();
        let [ours, theirs] = [rotate, plain].map(|form| {
            let (cos, sin) = (angles.clone().cos(), angles.clone().sin());
            move |[x]: [Tensor<2>; 1]| form(x, cos.clone(), sin.clone())
        });
        agree([x], ours, theirs, 2e-6);
    }

    proptest::proptest! {
        #[test]
        fn turns_and_their_gradients_are_the_primitive_ones(
            tokens in 1usize..70, heads in 1usize..7, half in 1usize..40,
        ) {
            let d = 2 * heads * half;
            both(random([tokens, d]), half);
            both(random([d, tokens]).transpose(), half);
            both(random([tokens + 2, d + 1]).slice([2..tokens + 2, 1..d + 1]), half);
        }
    }

    #[test]
    #[should_panic(expected = "2 tokens of 6 numbers by 2 rows of 2 angles")]
    fn heads_are_whole() {
        rotate(random([2, 6]), random([2, 2]), random([2, 2]));
    }
}
