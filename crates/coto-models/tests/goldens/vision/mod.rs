mod broken;

use std::collections::{BTreeMap, BTreeSet};

use burn::tensor::{Tensor, TensorData, activation};
use coto_adapters::{AdapterSet, Base, Pass};
use coto_coalition::{Coalition, Grouping};
use coto_models::{Clip, Hidden, ImageBatch, Layered, TokenBatch, Vit};

use crate::{Golden, device, folder, largest, peft, read, set};

const VITS: [&str; 2] = ["vit", "vit_bare"];
const CLIPS: [&str; 2] = ["clip", "clip_gelu"];

type File = BTreeMap<String, Golden>;

fn vit(name: &str) -> Vit {
    Vit::load(folder("models").join(name), &device()).unwrap()
}

fn clip(name: &str) -> Clip {
    Clip::load(folder("models").join(name), &device()).unwrap()
}

fn expected(name: &str) -> File {
    read(&format!("models/{name}/expected.safetensors"))
}

/// The recorded images, and the prompts where there are any.
fn batch(file: &File) -> ImageBatch {
    let golden = &file["pixels"];
    let shape: [usize; 4] = golden.shape.as_slice().try_into().unwrap();
    let data = TensorData::new(golden.values.clone(), shape);
    let prompts = file.get("ids").map(|ids| {
        let (numbers, mask) = (ids.numbers(), &file["mask"].values);
        let mask: Vec<bool> = mask.iter().map(|&v| v != 0.0).collect();
        let types = vec![0; numbers.len()];
        TokenBatch::new(&numbers, &types, &mask, ids.shape[0], &device())
    });
    ImageBatch {
        pixels: Tensor::from_data(data, &device()),
        prompts,
        text: None,
    }
}

/// What is between the layers, from the first one's input to the last one's output.
fn depths(model: &impl Layered<Batch = ImageBatch>, batch: &ImageBatch) -> Vec<Hidden> {
    let mut found = vec![model.embed(batch)];
    for layer in 0..model.depth() {
        let below = found[layer].clone();
        found.push(model.layer(layer, below, &Pass::base()));
    }
    found
}

/// Compares the states where the mask, if there is one, has tokens.
fn assert_states(name: &str, hidden: &Hidden, golden: &Golden, mask: Option<&Golden>) {
    let d = golden.shape[2];
    assert_eq!(
        [hidden.rows, hidden.width, d],
        golden.shape.as_slice(),
        "{name}"
    );
    let states = hidden.states.clone().into_data().convert::<f32>();
    let states = states.as_slice::<f32>().unwrap();
    assert_eq!(states.len(), golden.values.len());
    let token = |i: usize| mask.is_none_or(|mask| mask.values[i / d] != 0.0);
    let pairs = states.iter().zip(&golden.values).enumerate();
    let worst = largest(pairs.filter(|(i, _)| token(*i)).map(|(_, (a, b))| a - b));
    assert!(worst < 1e-4, "{name}: {worst:e}");
}

fn assert_close(name: &str, golden: &Golden, found: Tensor<2>) {
    let worst = golden.distance(found);
    assert!(worst < 1e-4, "{name}: {worst:e}");
}

#[test]
fn a_vision_transformers_states_and_features_are_those_of_transformers() {
    for name in VITS {
        let (model, file) = (vit(name), expected(name));
        let batch = batch(&file);
        let states = depths(&model, &batch);
        for (depth, hidden) in states.iter().enumerate() {
            assert_states(name, hidden, &file[&format!("hidden.{depth}")], None);
        }
        assert_close(
            name,
            &file["features"],
            model.forward(&batch, &Pass::base()),
        );
        assert_eq!(file["parameters"].numbers(), [model.parameters() as u32]);
    }
}

#[test]
fn a_checkpoints_own_classifier_gives_the_logits_of_transformers() {
    assert!(vit("vit_bare").classifier().is_none());
    let (model, file) = (vit("vit"), expected("vit"));
    let classifier = model.classifier().unwrap();
    assert_eq!(classifier.labels, ["shirt", "shoe", "bag"]);
    let features = model.forward(&batch(&file), &Pass::base());
    let logits = features.matmul(classifier.weight.clone()) + classifier.bias.clone().unsqueeze();
    assert_close("logits", &file["logits"], logits);
}

#[test]
fn both_towers_states_features_and_logits_are_those_of_transformers() {
    for name in CLIPS {
        let (model, file) = (clip(name), expected(name));
        let batch = batch(&file);
        let states = depths(&model, &batch);
        let text = model.config().text.num_hidden_layers;
        for depth in 0..=text {
            let hidden = states[depth].beside.as_ref().unwrap();
            let golden = &file[&format!("text.{depth}")];
            assert_states(name, hidden, golden, Some(&file["mask"]));
        }
        for depth in 0..=model.depth() - text {
            let golden = &file[&format!("vision.{depth}")];
            assert_states(name, &states[text + depth], golden, None);
        }
        let base = Pass::base();
        assert_close(name, &file["logits"], model.forward(&batch, &base));
        let images = model.image_features(&batch.pixels, &base);
        assert_close(name, &file["images"], images);
        let texts = model.text_features(batch.prompts.as_ref().unwrap(), &base);
        assert_close(name, &file["texts"], texts);
        assert_eq!(file["parameters"].numbers(), [model.parameters() as u32]);
    }
}

#[test]
fn a_text_side_computed_before_takes_the_place_of_the_prompts() {
    let (model, file) = (clip("clip"), expected("clip"));
    let set = set(&model, "clip_lora");
    let grand = set.grand();
    let pass = Pass::new(&set, &grand);
    let whole = batch(&file);
    let split = ImageBatch {
        text: whole
            .prompts
            .as_ref()
            .map(|p| model.text_features(p, &pass)),
        ..whole.clone()
    };
    assert!(model.embed(&split).beside.is_none());
    let [first, second] = [&whole, &split].map(|batch| model.forward(batch, &pass));
    assert_eq!(first.into_data(), second.into_data());
    let images = ImageBatch {
        prompts: None,
        ..whole
    };
    let features = model.image_features(&images.pixels, &pass).into_data();
    assert_eq!(model.forward(&images, &pass).into_data(), features);
}

/// The steps of one model: each coalition's loss and gradients against those recorded.
fn assert_steps<M: Layered<Batch = ImageBatch>>(
    model: &M,
    name: &str,
    logits: impl Fn(Tensor<2>) -> Tensor<2>,
) {
    let mut steps = BTreeMap::<String, File>::new();
    let (mut labels, mut adapted) = (Vec::new(), None);
    for (key, golden) in read("vision_steps.safetensors") {
        let Some(key) = key.strip_prefix(&format!("{name}/")) else {
            continue;
        };
        match key.split_once('/') {
            None if key == "labels" => labels = golden.numbers(),
            None => adapted = Some(golden),
            Some((coalition, tensor)) => {
                let step = steps.entry(coalition.to_owned()).or_default();
                step.insert(tensor.to_owned(), golden);
            }
        }
    }
    let batch = batch(&expected(name));
    let folder = peft(&format!("{name}_lora"));
    let set = AdapterSet::from_folder(model, &folder, &Grouping::Layer).unwrap();
    let all = logits(model.forward(&batch, &Pass::new(&set, &set.grand())));
    assert_close(name, &adapted.unwrap(), all);
    assert!(steps.len() > 2);
    for (coalition, mut golden) in steps {
        let mut tracked = set.tracked();
        let on: Coalition = coalition.parse().unwrap();
        let rows = logits(model.forward(&batch, &Pass::new(&tracked, &on)));
        let rows = activation::log_softmax(rows, 1);
        let labels = labels.iter().map(|&label| label as usize).enumerate();
        let picked = labels.map(|(row, l)| rows.clone().slice([row..row + 1, l..l + 1]));
        let loss = Tensor::cat(picked.collect(), 0).mean().neg();
        let grads = loss.backward();
        let worst = golden.remove("loss").unwrap().distance(loss);
        assert!(
            worst < 1e-5,
            "{name}, {coalition}: loss differs by {worst:e}"
        );

        let gradients = tracked.gradients(&grads);
        let factors = tracked.factors();
        let found = factors.iter().zip(gradients);
        let found = found.filter_map(|(factor, grad)| Some((factor.name.clone(), grad?)));
        let found: BTreeMap<_, _> = found.collect();
        // Equal names: an adapter that is off has no gradient, neither there nor here.
        let names = found.keys().collect::<BTreeSet<_>>();
        assert_eq!(names, golden.keys().collect(), "{name}, {coalition}");
        for (factor, grad) in found {
            let golden = &golden[&factor];
            let worst = golden.distance(grad.transpose()) / golden.size();
            assert!(
                worst < 1e-4,
                "{name}, {coalition}: {factor} differs by {worst:e}"
            );
        }
    }
}

#[test]
fn loss_and_gradients_of_image_models_are_those_of_peft() {
    let model = vit("vit");
    let classifier = model.classifier().unwrap();
    assert_steps(&model, "vit", |features| {
        features.matmul(classifier.weight.clone()) + classifier.bias.clone().unsqueeze()
    });
    assert_steps(&clip("clip"), "clip", |logits| logits);
}

#[test]
fn folders_of_image_models_read_and_written_are_the_same_to_the_byte() {
    let same = |model: &dyn Fn(&str) -> AdapterSet, name: &str| {
        let (folder, again) = (peft(name), model(name).to_folder().unwrap());
        assert_eq!(again.tensors, folder.tensors, "{name}");
        assert_eq!(again.config, folder.config, "{name}");
    };
    same(&|name| set(&vit("vit"), name), "vit_lora");
    same(&|name| set(&clip("clip"), name), "clip_lora");
}

#[test]
fn a_tower_without_active_adapters_is_not_tracked() {
    let model = clip("clip");
    let folder = peft("clip_lora");
    let set = AdapterSet::from_folder(&model, &folder, &Grouping::Layer).unwrap();
    let tracked = set.tracked();
    let batch = batch(&expected("clip"));
    for (coalition, text, image) in [("00010", false, true), ("01000", true, false)] {
        let on: Coalition = coalition.parse().unwrap();
        let layers = |hidden, layer| model.layer(layer, hidden, &Pass::new(&tracked, &on));
        let hidden = (0..model.depth()).fold(model.embed(&batch), layers);
        let beside = hidden.beside.as_ref().unwrap();
        assert_eq!(hidden.states.is_tracked(), image, "{coalition}");
        assert_eq!(beside.states.is_tracked(), text, "{coalition}");
        assert!(model.head(hidden, &batch).is_tracked());
    }
}

#[test]
fn towers_and_their_layers_can_be_players() {
    let model = clip("clip");
    let groups = ["text_model", "vision_model"];
    let groups = groups.map(|tower| (tower.to_owned(), vec![tower.to_owned()]));
    let towers = Grouping::Groups(groups.into_iter().collect());
    let players = towers.players(model.modules()).unwrap();
    assert_eq!(players.names(), ["text_model", "vision_model"]);
    assert_eq!([0, 1].map(|player| players.modules(player).len()), [12, 18]);
    let layers = Grouping::Layer.players(model.modules()).unwrap();
    assert_eq!(layers.len(), 5);
    let path = |player: usize| &model.modules()[layers.modules(player)[0]].path;
    assert_eq!(path(1), "text_model.encoder.layers.1.self_attn.q_proj");
    assert_eq!(path(2), "vision_model.encoder.layers.0.self_attn.q_proj");
    let kinds = Grouping::Kind.players(model.modules()).unwrap();
    let names = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"];
    assert_eq!(kinds.names(), names);
}
