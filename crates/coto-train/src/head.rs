use std::collections::BTreeMap;
use std::path::Path;

use burn::optim::{AdamWConfig, Optimizer};
use burn::tensor::{Device, Tensor, TensorData, activation};
use coto_models::{Model, Weights};
use safetensors::tensor::{Dtype, TensorView};

use crate::{Error, atomic};

/// A linear classifier on an encoder's features.
#[derive(Debug, Clone)]
pub struct Head {
    /// [d, classes].
    pub weight: Tensor<2>,
    /// [1, classes].
    pub bias: Tensor<2>,
}

impl Head {
    /// All zero: every class alike.
    pub fn zeros(d: usize, classes: usize, device: &Device) -> Self {
        Self {
            weight: Tensor::zeros([d, classes], device),
            bias: Tensor::zeros([1, classes], device),
        }
    }

    /// Logistic regression on features [n, d], with an L2 penalty on the weights of standardised features.
    ///
    /// Full-batch Adam with a falling rate: no draw is random, so the same features give the same head.
    pub fn fit(features: Tensor<2>, labels: &[u32], classes: usize, l2: f64) -> Self {
        const ROUNDS: usize = 400;
        let ([n, d], device) = (features.dims(), features.device());
        let mean = features.clone().mean_dim(0);
        let centred = features - mean.clone();
        let deviation = centred
            .clone()
            .square()
            .mean_dim(0)
            .add_scalar(1e-12)
            .sqrt();
        let x = centred / deviation.clone();
        let truth = one_hot(labels, classes, &device);
        let adam = AdamWConfig::new()
            .with_weight_decay(0.0)
            .with_epsilon(1e-8)
            .build();
        let Self {
            mut weight,
            mut bias,
        } = Self::zeros(d, classes, &device);
        let (mut weight_state, mut bias_state) = (None, None);
        for round in 0..ROUNDS {
            let lr = 0.1 * (1.0 - round as f64 / ROUNDS as f64);
            let logits = x.clone().matmul(weight.clone()) + bias.clone();
            let error = (activation::softmax(logits, 1) - truth.clone()).div_scalar(n as f64);
            let slope = x.clone().transpose().matmul(error.clone()) + weight.clone().mul_scalar(l2);
            (weight, weight_state) = adam.step(lr, weight, slope, weight_state);
            (bias, bias_state) = adam.step(lr, bias, error.sum_dim(0), bias_state);
        }
        let weight = weight / deviation.reshape([d, 1]);
        let bias = bias - mean.matmul(weight.clone());
        Self { weight, bias }
    }

    /// The checkpoint's own, its classes in the order of `labels`.
    ///
    /// # Errors
    /// [`Error::NoClassifier`] for a model without one, [`Error::NoClass`] for a label that it has no class for.
    pub fn of(model: &Model, labels: &[String]) -> Result<Self, Error> {
        let classifier = match model {
            Model::Vit(vit) => vit.classifier(),
            _ => None,
        };
        let classifier = classifier.ok_or(Error::NoClassifier)?;
        let place = |label: &String| {
            let place = classifier.labels.iter().position(|known| known == label);
            let nearest = || {
                let likeness = |known: &&String| strsim::damerau_levenshtein(known, label);
                let nearest = classifier.labels.iter().min_by_key(likeness);
                nearest.cloned().unwrap_or_default()
            };
            place
                .map(|place| place as i32)
                .ok_or_else(|| Error::NoClass {
                    label: label.clone(),
                    nearest: nearest(),
                })
        };
        let places = labels.iter().map(place).collect::<Result<Vec<_>, _>>()?;
        let (weight, bias) = (&classifier.weight, &classifier.bias);
        let places = || Tensor::from_data(places.as_slice(), &weight.device());
        Ok(Self {
            weight: weight.clone().select(1, places()),
            bias: bias.clone().select(0, places()).unsqueeze(),
        })
    }

    /// Logits, [rows, d] → [rows, classes].
    pub fn forward(&self, features: Tensor<2>) -> Tensor<2> {
        features.matmul(self.weight.clone()) + self.bias.clone()
    }

    /// The sum over rows of the cross-entropy of their labels, in nats, of features [rows, d].
    pub fn loss(&self, features: Tensor<2>, labels: &[u32]) -> Tensor<1> {
        cross_entropy(self.forward(features), labels).sum()
    }

    /// The number of parameters.
    pub fn parameters(&self) -> usize {
        self.weight.shape().num_elements() + self.bias.shape().num_elements()
    }

    /// A copy that records gradients.
    pub fn tracked(&self) -> Self {
        let track = |tensor: &Tensor<2>| tensor.clone().autodiff().require_grad();
        Self {
            weight: track(&self.weight),
            bias: track(&self.bias),
        }
    }

    /// Writes `weight` (classes × d) and `bias` (classes), as PyTorch's linear has them, with the labels' names.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save(&self, path: &Path, labels: &[String]) -> Result<(), Error> {
        let [d, classes] = self.weight.dims();
        let weight = bytes(self.weight.clone().transpose());
        let bias = bytes(self.bias.clone());
        let view =
            |shape, data| TensorView::new(Dtype::F32, shape, data).expect("four bytes an element");
        let tensors = [
            ("weight", view(vec![classes, d], &weight)),
            ("bias", view(vec![classes], &bias)),
        ];
        let labels = serde_json::to_string(labels).expect("strings");
        // One entry only: the bytes must not hang on the order of a hash map.
        let metadata = [("labels".to_owned(), labels)];
        let file = safetensors::serialize(tensors, Some(metadata.into())).expect("valid views");
        atomic::write(path, &file)
    }

    /// Reads what [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// [`Error::Model`], which names file and tensor.
    pub fn load(path: &Path, d: usize, classes: usize, device: &Device) -> Result<Self, Error> {
        let mut weights = Weights::open(path)?;
        let weight = weights.linear("weight", [d, classes], device)?.dense();
        let bias = weights.vector("bias", classes, device)?.unsqueeze();
        weights.finish(&[])?;
        Ok(Self { weight, bias })
    }

    pub(crate) fn state(&self) -> BTreeMap<String, Tensor<2>> {
        [("weight", &self.weight), ("bias", &self.bias)]
            .map(|(k, v)| (k.to_owned(), v.clone()))
            .into()
    }
}

/// -log softmax(logits)[label] of each row, [rows, classes] → [rows].
pub(crate) fn cross_entropy(logits: Tensor<2>, labels: &[u32]) -> Tensor<1> {
    let [_, classes] = logits.dims();
    let device = logits.device().without_autodiff();
    let log = activation::log_softmax(logits, 1);
    (log * one_hot(labels, classes, &device))
        .sum_dim(1)
        .squeeze_dim::<1>(1)
        .neg()
}

fn one_hot(labels: &[u32], classes: usize, device: &Device) -> Tensor<2> {
    let mut values = vec![0f32; labels.len() * classes];
    labels
        .iter()
        .enumerate()
        .for_each(|(row, &label)| values[row * classes + label as usize] = 1.0);
    Tensor::from_data(TensorData::new(values, [labels.len(), classes]), device)
}

pub(crate) fn bytes(tensor: Tensor<2>) -> Vec<u8> {
    tensor.into_data().convert::<f32>().as_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fitted_head_is_where_the_penalised_loss_is_flat() {
        let device = Device::flex();
        let features = Tensor::<2>::from_floats(
            [
                [1.0, 5.0],
                [2.0, 5.5],
                [3.0, 4.0],
                [4.0, 4.5],
                [2.5, 5.0],
                [3.5, 6.0],
            ],
            &device,
        );
        let labels = [0, 0, 1, 1, 1, 0];
        let head = Head::fit(features.clone(), &labels, 2, 0.1);
        let mean = features.clone().mean_dim(0);
        let deviation = (features.clone() - mean)
            .square()
            .mean_dim(0)
            .sqrt()
            .reshape([2, 1]);
        let tracked = head.tracked();
        let loss = tracked.loss(features, &labels);
        let penalty = (tracked.weight.clone() * deviation)
            .square()
            .sum()
            .mul_scalar(0.05);
        let grads = (loss.div_scalar(6.0) + penalty).backward();
        for tensor in [&tracked.weight, &tracked.bias] {
            let slope = tensor
                .grad(&grads)
                .expect("tracked")
                .abs()
                .max()
                .into_scalar::<f32>();
            assert!(slope < 2e-3, "slope {slope}");
        }
    }

    #[test]
    fn a_saved_head_reads_back_and_a_wrong_size_is_named() {
        let (device, dir) = (Device::flex(), tempfile::tempdir().unwrap());
        let weight = Tensor::from_floats([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], &device);
        let head = Head {
            weight,
            bias: Tensor::from_floats([[7.0, 8.0, 9.0]], &device),
        };
        let path = dir.path().join("head.safetensors");
        head.save(&path, &["a".into(), "b".into(), "c".into()])
            .unwrap();
        let read = Head::load(&path, 2, 3, &device).unwrap();
        read.weight
            .into_data()
            .assert_eq(&head.weight.into_data(), true);
        read.bias
            .into_data()
            .assert_eq(&head.bias.into_data(), true);
        let error = Head::load(&path, 2, 4, &device).unwrap_err().to_string();
        assert!(
            error.contains("weight") && error.contains("[3, 2]"),
            "{error}"
        );
    }
}
