use burn::tensor::Tensor;
use coto_kernels::Weight;

use crate::Hidden;

/// The start of a vision transformer (Dosovitskiy et al., arXiv 2010.11929, equation 1): patches, times a frozen matrix,
/// behind a token for the class, plus positions.
#[derive(Debug, Clone)]
pub(crate) struct Patches {
    /// [channels · patch · patch, d].
    weight: Weight,
    bias: Option<Tensor<1>>,
    /// [1, 1, d].
    class: Tensor<3>,
    /// [1, 1 + patches, d].
    positions: Tensor<3>,
    channels: usize,
    image: usize,
    patch: usize,
}

/// Patches of an image, and the class.
pub(crate) fn positions(image: usize, patch: usize) -> usize {
    (image / patch).saturating_pow(2).saturating_add(1)
}

impl Patches {
    /// Of a convolution's kernel [d, channels, patch, patch], whose stride is its size, the class token [1, 1, d] and the
    /// positions [1, 1 + patches, d].
    pub fn new(
        kernel: Tensor<4>,
        bias: Option<Tensor<1>>,
        class: Tensor<3>,
        positions: Tensor<3>,
        image: usize,
    ) -> Self {
        let [d, channels, patch, _] = kernel.dims();
        // No pixel is in two patches, so the convolution is one product.
        let weight = kernel.reshape([d, channels * patch * patch]).transpose();
        Self {
            weight: weight.into(),
            bias,
            class,
            positions,
            channels,
            image,
            patch,
        }
    }

    pub fn parameters(&self) -> usize {
        let bias = self.bias.as_ref().map_or(0, |bias| bias.dims()[0]);
        let weight: usize = self.weight.dims().iter().product();
        weight + bias + self.class.shape().num_elements() + self.positions.shape().num_elements()
    }

    /// The states of each image's class and patches.
    ///
    /// # Shapes
    /// [rows, channels, image, image] → [rows · (1 + patches), d].
    ///
    /// # Panics
    /// If the images are of another size.
    pub fn embed(&self, pixels: &Tensor<4>) -> Hidden {
        let [rows, channels, height, width] = pixels.dims();
        let (c, image, patch, side) = (
            self.channels,
            self.image,
            self.patch,
            self.image / self.patch,
        );
        assert!(
            [channels, height, width] == [c, image, image],
            "images of {channels} × {height} × {width}; the model takes {c} × {image} × {image}"
        );
        let flat = pixels
            .clone()
            .reshape([rows, c, side, patch, side, patch])
            .permute([0, 2, 4, 1, 3, 5])
            .reshape([rows * side * side, c * patch * patch]);
        let patches = coto_kernels::linear(flat, &self.weight, self.bias.clone());
        let [_, d] = patches.dims();
        let class = self.class.clone().repeat_dim(0, rows);
        let all = Tensor::cat(vec![class, patches.reshape([rows, side * side, d])], 1);
        let positions = 1 + side * side;
        let states = (all + self.positions.clone()).reshape([rows * positions, d]);
        Hidden::of(states, rows, positions)
    }
}

/// The class's state of each image, [rows, d].
pub(crate) fn first(hidden: Hidden) -> Tensor<2> {
    let (rows, width, [_, d]) = (hidden.rows, hidden.width, hidden.states.dims());
    let states = hidden.states.reshape([rows, width, d]);
    states.slice([0..rows, 0..1, 0..d]).reshape([rows, d])
}
