use std::collections::BTreeMap;

use burn::tensor::Tensor;
use coto_adapters::{AdapterConfig, AdapterSet, Base, Init, Pass};
use coto_coalition::{Coalition, Grouping};
use coto_models::{Bert, Layered};
use safetensors::{Dtype, SafeTensors};

use crate::{Golden, VARIANTS, batch, bert, device, folder, peft, read, set};

fn features(name: &str) -> Golden {
    read("adapters.safetensors")
        .remove(&format!("{name}/features"))
        .unwrap()
}

#[test]
fn adapted_features_are_those_of_peft() {
    let model = bert("bert");
    for name in VARIANTS {
        let set = set(&model, name);
        let golden = features(name);
        let worst = golden.distance(model.forward(&batch(), &Pass::new(&set, &set.grand())));
        assert!(worst < 1e-5, "{name}: {worst:e}");
        let bare = golden.distance(model.forward(&batch(), &Pass::base()));
        assert!(bare > 0.1, "{name}: the adapter does next to nothing");
    }
}

#[test]
fn with_every_adapter_off_the_model_is_its_base() {
    let model = bert("bert");
    let base = model.forward(&batch(), &Pass::base()).into_data();
    for name in VARIANTS {
        let set = set(&model, name);
        let nobody = Coalition::empty(set.players().len());
        let features = model.forward(&batch(), &Pass::new(&set, &nobody));
        assert_eq!(features.into_data(), base, "{name}");
    }
}

#[test]
fn a_folder_read_and_written_is_the_same_to_the_byte() {
    let model = bert("bert");
    for name in VARIANTS {
        let folder = peft(name);
        let again = set(&model, name).to_folder().unwrap();
        assert_eq!(again.tensors, folder.tensors, "{name}");
        assert_eq!(again.config, folder.config, "{name}");
    }
}

#[test]
fn a_set_read_again_repeats_the_outputs_of_the_saved_one_bit_for_bit() {
    let model = bert("bert");
    for name in VARIANTS {
        let config = AdapterConfig::lora(3, 6.0).variant(name);
        let mut saved = AdapterSet::new(&model, &config, &Grouping::Layer, 1).unwrap();
        for factor in saved.factors() {
            *factor.tensor = factor.tensor.clone().add_scalar(0.1);
        }
        let folder = saved.to_folder().unwrap();
        let again = AdapterSet::from_folder(&model, &folder, &Grouping::Layer).unwrap();
        let [first, second] =
            [&saved, &again].map(|set| model.forward(&batch(), &Pass::new(set, &set.grand())));
        assert_eq!(first.into_data(), second.into_data(), "{name}");
    }
}

#[test]
fn a_checkpoint_with_the_deltas_folded_in_gives_the_same_features() {
    let model = bert("bert");
    for name in VARIANTS {
        let set = set(&model, name);
        let deltas = set.adapters().iter().map(|adapter| {
            let delta = adapter.delta(model.linear(adapter.module()));
            (format!("{}.weight", adapter.path()), delta)
        });
        let folded = with_deltas(deltas.collect());
        let worst = features(name).distance(folded.forward(&batch(), &Pass::base()));
        assert!(worst < 1e-5, "{name}: {worst:e}");
    }
}

/// The tiny BERT from a checkpoint to some of whose weights something was added.
fn with_deltas(mut deltas: BTreeMap<String, Tensor<2>>) -> Bert {
    let bytes = std::fs::read(folder("models/bert/model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let added = tensors.iter().map(|(key, view)| {
        assert_eq!(view.dtype(), Dtype::F32);
        let mut data = view.data().to_vec();
        if let Some(delta) = deltas.remove(key) {
            let delta = delta.transpose().into_data().convert::<f32>();
            let delta = delta.as_slice::<f32>().unwrap();
            for (word, delta) in data.as_chunks_mut::<4>().0.iter_mut().zip(delta) {
                *word = (f32::from_le_bytes(*word) + delta).to_le_bytes();
            }
        }
        (key.to_owned(), (view.dtype(), view.shape().to_vec(), data))
    });
    let added: BTreeMap<_, _> = added.collect();
    assert!(deltas.is_empty(), "weights that the checkpoint lacks");
    let views = added.iter().map(|(key, (dtype, shape, data))| {
        let view = safetensors::tensor::TensorView::new(*dtype, shape.clone(), data);
        (key, view.unwrap())
    });
    let folded = tempfile::tempdir().unwrap();
    let config = "config.json";
    std::fs::copy(
        folder("models/bert").join(config),
        folded.path().join(config),
    )
    .unwrap();
    let file = folded.path().join("model.safetensors");
    std::fs::write(file, safetensors::serialize(views, None).unwrap()).unwrap();
    Bert::load(folded.path(), &device()).unwrap()
}

#[test]
fn dropout_meets_the_parts_of_the_forward_pass_that_it_meets_in_peft() {
    let (model, golden) = (bert("bert"), read("adapters.safetensors"));
    for name in VARIANTS {
        let set = set(&model, name);
        let path = "encoder.layer.0.intermediate.dense";
        let mut adapters = set.adapters().iter();
        let adapter = adapters.find(|adapter| adapter.path() == path).unwrap();
        let base = model.linear(adapter.module());
        let (x, dropped) = (golden["x"].matrix(), golden["dropped"].matrix());
        let output = adapter.forward(x.clone(), Some(dropped), base);
        let worst = golden[&format!("{name}/dropped")].distance(output);
        assert!(worst < 1e-5, "{name}: {worst:e}");

        let undropped = adapter.forward(x.clone(), None, base).into_data();
        let through = adapter.forward(x.clone(), Some(x), base).into_data();
        through.assert_approx_eq::<f32>(&undropped, burn::tensor::Tolerance::absolute(1e-5));
    }
}

#[test]
fn pissa_and_olora_begin_with_the_products_of_peft() {
    let (model, golden) = (bert("bert"), read("init.safetensors"));
    for init in [Init::Pissa, Init::Olora] {
        let config = AdapterConfig::lora(3, 6.0).targets(["dense"]).init(init);
        let set = AdapterSet::new(&model, &config, &Grouping::Layer, 1).unwrap();
        assert_eq!(set.adapters().len(), 6);
        for adapter in set.adapters() {
            let product = adapter.factor(0).matmul(adapter.factor(1));
            let product = product.mul_scalar(adapter.scale()).transpose();
            let name = format!("{init}/{}", adapter.path());
            let worst = golden[&name].distance(product);
            assert!(worst < 1e-5, "{name}: {worst:e}");
        }
        let features = model.forward(&batch(), &Pass::new(&set, &set.grand()));
        let base = model.forward(&batch(), &Pass::base()).into_data();
        let close = burn::tensor::Tolerance::absolute(1e-5);
        features.into_data().assert_approx_eq::<f32>(&base, close);
    }
}
