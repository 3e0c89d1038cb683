//! Training from scratch on Fashion-MNIST, with burn alone.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Device, Int, Tensor, TensorData};
use coto_lora::adapters::Pass;
use coto_lora::data::batches;
use coto_lora::image::{ImageColumns, ImageSet, Processor};
use coto_lora::models::{ImageBatch, Input, Layered, Model};
use coto_lora::train::{Decay, Head, Rate};

use super::folder;
use super::network::{Network, Sizes};

const SEED: u64 = 1;
const BATCH: usize = 64;
const LEARNING_RATE: f64 = 2e-3;
const WEIGHT_DECAY: f32 = 0.05;

/// What the numbers 0 to 9 stand for.
const CLASSES: [&str; 10] = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
];

/// What a pretraining came to.
#[derive(Debug)]
pub struct Pretrained {
    /// The share of the test images that are told rightly.
    pub accuracy: f64,
    /// The largest difference between a logit of the network and of the model that the library reads from its folder.
    pub difference: f32,
}

/// Trains a network on the images in `data` and writes it as a Hugging Face folder.
///
/// # Errors
/// For images that cannot be read; if the folder, read by the library, is not the network that was trained.
pub fn pretrain(
    data: &Path,
    out: &Path,
    sizes: &Sizes,
    steps: usize,
    device: &Device,
) -> Result<Pretrained> {
    let labels = CLASSES[..sizes.classes].iter().map(|&name| name.to_owned());
    let labels: Vec<String> = labels.collect();
    let set = |name: &str| {
        let path = data.join(format!("{name}-images-idx3-ubyte.gz"));
        ImageSet::load(path, &ImageColumns::default(), Some(&labels))
    };
    let (train, test) = (set("train")?, set("t10k")?);
    folder::write_processor(out, sizes)?;
    let processor = Processor::read(out.join("preprocessor_config.json"))?;
    let images = |set: &ImageSet, rows: &[usize]| pixels(set, rows, &processor, device);

    device.seed(SEED);
    let mut network = Network::new(sizes, &device.clone().autodiff());
    let mut optimiser = AdamWConfig::new()
        .with_weight_decay(WEIGHT_DECAY)
        .with_epsilon(1e-8)
        .init();
    let rate = Rate {
        peak: LEARNING_RATE,
        warmup: steps / 20,
        steps,
        decay: Decay::Cosine,
    };
    let entropy = CrossEntropyLossConfig::new().init(device);
    let (start, lengths) = (Instant::now(), vec![1; train.len()]);
    let mut order = (0..).flat_map(|epoch| batches(&lengths, BATCH, SEED, epoch));
    for step in 0..steps {
        let rows = order.next().expect("epochs without end");
        let classes: Vec<i32> = rows.iter().map(|&row| train.label(row) as i32).collect();
        let classes = Tensor::<1, Int>::from_data(classes.as_slice(), device);
        let loss = entropy.forward(network.forward(images(&train, &rows)?), classes);
        if step % 100 == 0 {
            let loss = loss.clone().into_scalar::<f32>();
            let seconds = start.elapsed().as_secs();
            println!("pretraining: step {step:5} of {steps}  loss {loss:.3}  {seconds} s");
        }
        let gradients = GradientsParams::from_grads(loss.backward(), &network);
        network = optimiser.step(rate.at(step), network, gradients);
    }
    folder::write_model(out, &network, sizes, &labels)?;

    let model = Model::load(out, device)?;
    let head = Head::of(&model, &labels)?;
    let (mut right, mut difference) = (0, 0f32);
    let rows: Vec<usize> = (0..test.len()).collect();
    for rows in rows.chunks(4 * BATCH) {
        let pixels = images(&test, rows)?;
        let ours = network.forward(pixels.clone()).into_data();
        let input = Input::Images(Box::new(ImageBatch {
            pixels,
            prompts: None,
            text: None,
        }));
        let theirs = head.forward(model.forward(&input, &Pass::base()));
        let (ours, theirs) = (values(ours), values(theirs.into_data()));
        let gaps = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs());
        difference = gaps.fold(difference, f32::max);
        let guesses = theirs.chunks(sizes.classes).map(largest);
        let truth = rows.iter().map(|&row| test.label(row));
        right += guesses.zip(truth).filter(|(a, b)| a == b).count();
    }
    ensure!(
        difference < 1e-3,
        "{}: the library's logits are {difference:e} away from those of the network that was trained",
        out.display()
    );
    Ok(Pretrained {
        accuracy: right as f64 / test.len() as f64,
        difference,
    })
}

/// The network's input, [rows, 1, image, image].
fn pixels(
    set: &ImageSet,
    rows: &[usize],
    processor: &Processor,
    device: &Device,
) -> Result<Tensor<4>> {
    let mut all = Vec::new();
    for &row in rows {
        all.extend(set.pixels(row, processor)?);
    }
    let [channels, height, width] = processor.shape();
    let data = TensorData::new(all, [rows.len(), channels, height, width]);
    Ok(Tensor::from_data(data, device))
}

fn values(data: TensorData) -> Vec<f32> {
    data.try_to_vec().expect("f32")
}

/// The place of the largest logit.
fn largest(logits: &[f32]) -> usize {
    let places = 0..logits.len();
    places
        .max_by(|&a, &b| logits[a].total_cmp(&logits[b]))
        .unwrap_or(0)
}
