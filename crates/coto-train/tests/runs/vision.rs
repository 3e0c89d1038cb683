//! The harness on images: a tiny ViT, and a tiny CLIP whose classes are prompts.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use coto_adapters::Pass;
use coto_models::{Clip, TokenBatch, Vit};
use coto_train::{Outcome, Readout, Run, Split};
use tempfile::TempDir;

use super::{checkpoint, config, go, losses, values};

/// The folders of the classes, sorted. The checkpoint's own order is another.
const CLASSES: [&str; 3] = ["bag", "shirt", "shoe"];
/// Of the prompt of each class, with its start and its end.
const PROMPTS: [&[u32]; 3] = [
    &[1, 2, 3, 4, 2, 5, 8, 49],
    &[1, 2, 3, 4, 2, 6, 8, 49],
    &[1, 2, 3, 4, 2, 7, 8, 49],
];
const SIDE: usize = 8;

/// A folder with the recorded model `name`, images of three classes, and a run file.
pub fn scene(name: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens/models");
    fs::create_dir(root.join("model")).unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(golden.join(name).join(file), root.join("model").join(file)).unwrap();
    }
    let processor =
        r#"{"image_processor_type": "ViTImageProcessor", "size": {"height": 8, "width": 8}}"#;
    fs::write(root.join("model/preprocessor_config.json"), processor).unwrap();
    fs::write(root.join("model/tokenizer.json"), tokenizer()).unwrap();
    for (split, count, seed) in [("train", 8, 0), ("test", 4, 100)] {
        for (class, label) in CLASSES.iter().enumerate() {
            let folder = root.join(split).join(label);
            fs::create_dir_all(&folder).unwrap();
            for i in 0..count {
                let image = bmp(&pixels(class, seed + i));
                fs::write(folder.join(format!("{i}.bmp")), image).unwrap();
            }
        }
    }
    fs::write(root.join("run.toml"), run_file(root)).unwrap();
    dir
}

/// RGB, row by row: noise, and the class's colour in the class's rows.
fn pixels(class: usize, seed: usize) -> Vec<u8> {
    let value = |i: usize| {
        let (y, colour) = (i / (3 * SIDE), i % 3);
        let noise = (seed * 31 + i * i * 7 + i * 13) % 80;
        let bright = colour == class || y / 3 == class;
        (noise + if bright { 150 } else { 0 }) as u8
    };
    (0..SIDE * SIDE * 3).map(value).collect()
}

/// A BMP of 24 bits a pixel: BGR, the lowest row first.
fn bmp(rgb: &[u8]) -> Vec<u8> {
    let number = |n: usize| (n as u32).to_le_bytes();
    let (header, size) = (54, rgb.len());
    let mut bytes = b"BM".to_vec();
    for n in [header + size, 0, header, 40, SIDE, SIDE] {
        bytes.extend(number(n));
    }
    bytes.extend([1, 0, 24, 0]);
    for n in [0, size, 2835, 2835, 0, 0] {
        bytes.extend(number(n));
    }
    for row in rgb.chunks(3 * SIDE).rev() {
        bytes.extend(row.chunks(3).flat_map(|pixel| pixel.iter().rev()));
    }
    bytes
}

/// A number for each word, between a start and an end.
fn tokenizer() -> String {
    let words = ["?", "<s>", "a", "photo", "of", "bag", "shirt", "shoe", "."];
    let numbers = words.iter().enumerate();
    let mut vocab: Vec<String> = numbers.map(|(i, word)| format!("{word:?}:{i}")).collect();
    vocab.push(r#""</s>":49"#.to_owned());
    let special = |name: &str| format!(r#"{{"SpecialToken":{{"id":"{name}","type_id":0}}}}"#);
    let token = |name: &str, id: u8| {
        format!(r#""{name}":{{"id":"{name}","ids":[{id}],"tokens":["{name}"]}}"#)
    };
    let text = r#"{"Sequence":{"id":"A","type_id":0}}"#;
    let single = [special("<s>"), text.to_owned(), special("</s>")].join(",");
    format!(
        r#"{{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,
        "pre_tokenizer":{{"type":"Whitespace"}},"decoder":null,
        "post_processor":{{"type":"TemplateProcessing","single":[{single}],"pair":[{text}],
        "special_tokens":{{{},{}}}}},
        "model":{{"type":"WordLevel","unk_token":"?","vocab":{{{}}}}}}}"#,
        token("<s>", 1),
        token("</s>", 49),
        vocab.join(",")
    )
}

fn run_file(dir: &Path) -> String {
    let path = |name: &str| dir.join(name).display().to_string();
    format!(
        r#"
out = {:?}
seed = 3
[model]
name = {:?}
[data]
train = {:?}
validation = {:?}
test = {:?}
[images]
[adapter]
rank = 2
alpha = 4.0
dropout = 0.1
[schedule]
preset = "coto"
[optim]
steps = 24
batch_size = 6
lr = 1e-2
warmup = 3
[eval]
batch_size = 5
every = 8
checkpoint_every = 4
"#,
        path("out"),
        path("model"),
        path("train"),
        path("test"),
        path("test"),
    )
}

/// The test images as the processor makes them, [12, 3, 8, 8], and their classes.
fn test_images() -> (Tensor<4>, Vec<usize>) {
    let (mut all, mut classes) = (Vec::new(), Vec::new());
    for class in 0..CLASSES.len() {
        for i in 0..4 {
            let rgb = pixels(class, 100 + i);
            for colour in 0..3 {
                let plane = rgb.iter().skip(colour).step_by(3);
                all.extend(plane.map(|&value| (f32::from(value) / 255.0 - 0.5) / 0.5));
            }
            classes.push(class);
        }
    }
    let data = TensorData::new(all, [classes.len(), 3, SIDE, SIDE]);
    (Tensor::from_data(data, &Device::flex()), classes)
}

fn rows(tensor: Tensor<2>) -> Vec<Vec<f64>> {
    let [_, width] = tensor.dims();
    let data = tensor.into_data().try_to_vec::<f32>().unwrap();
    let row = |row: &[f32]| row.iter().map(|&v| f64::from(v)).collect();
    data.chunks(width).map(row).collect()
}

/// Accuracy and mean cross-entropy.
fn scores(logits: &[Vec<f64>], classes: &[usize]) -> (f64, f64) {
    let (mut right, mut loss) = (0, 0.0);
    for (row, &class) in logits.iter().zip(classes) {
        let sum: f64 = row.iter().map(|v| v.exp()).sum();
        loss += sum.ln() - row[class];
        let higher = |&&v: &&f64| v > row[class];
        right += usize::from(row.iter().filter(higher).count() == 0);
    }
    let n = classes.len() as f64;
    (right as f64 / n, loss / n)
}

fn assert_scores(run: &Run, expected: (f64, f64)) {
    let found = run.evaluate(Split::Test, &Pass::base()).unwrap();
    assert_eq!(found.accuracy, expected.0);
    let gap = (found.loss - expected.1).abs();
    assert!(gap < 1e-5, "{found:?} {expected:?}");
}

#[test]
fn clip_tells_images_by_prompts_before_any_training() {
    let dir = scene("clip");
    let run = Run::prepare(&config(&dir, &[])).unwrap();
    assert!(matches!(run.readout(), Readout::Prompts));
    let clip = Clip::load(dir.path().join("model"), &Device::flex()).unwrap();
    let (images, classes) = test_images();
    let images = rows(clip.image_features(&images, &Pass::base()));
    let texts = PROMPTS.map(|ids| {
        let (types, mask) = (vec![0; ids.len()], vec![true; ids.len()]);
        let prompt = TokenBatch::new(ids, &types, &mask, 1, &Device::flex());
        rows(clip.text_features(&prompt, &Pass::base())).remove(0)
    });
    // The scale of the file, as its configuration initialises it and the goldens leave it.
    let scale = f64::exp(2.6592);
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let logits: Vec<Vec<f64>> = images
        .iter()
        .map(|image| texts.iter().map(|text| scale * dot(image, text)).collect())
        .collect();
    assert_scores(&run, scores(&logits, &classes));

    // Another template makes other prompts, of other lengths too.
    let other = Run::prepare(&config(&dir, &["images.template=\"a {}\""])).unwrap();
    let of = |run: &Run| run.evaluate(Split::Test, &Pass::base()).unwrap().loss;
    assert_ne!(of(&run), of(&other));
}

#[test]
fn a_checkpoints_classifier_tells_classes_in_the_datas_order() {
    let dir = scene("vit");
    let run = Run::prepare(&config(&dir, &["head.kind=checkpoint"])).unwrap();
    let vit = Vit::load(dir.path().join("model"), &Device::flex()).unwrap();
    let (images, classes) = test_images();
    let batch = coto_models::ImageBatch {
        pixels: images,
        prompts: None,
        text: None,
    };
    let classifier = vit.classifier().unwrap();
    assert_eq!(classifier.labels, ["shirt", "shoe", "bag"]);
    let features = coto_models::Layered::forward(&vit, &batch, &Pass::base());
    let logits = features.matmul(classifier.weight.clone()) + classifier.bias.clone().unsqueeze();
    let sorted = rows(logits).into_iter().map(|v| vec![v[2], v[0], v[1]]);
    assert_scores(&run, scores(&sorted.collect::<Vec<_>>(), &classes));

    for split in ["train", "test"] {
        let folder = |name: &str| dir.path().join(split).join(name);
        fs::rename(folder("shoe"), folder("shoes")).unwrap();
    }
    let error = Run::prepare(&config(&dir, &["head.kind=checkpoint"])).err();
    let error = error.unwrap().to_string();
    assert!(
        error.contains("`shoes`") && error.contains("`shoe`"),
        "{error}"
    );
}

#[test]
fn a_vision_transformer_trains_under_each_head() {
    for kind in ["probe", "trained", "checkpoint"] {
        let dir = scene("vit");
        let set = [&*format!("head.kind={kind}"), "optim.steps=60"];
        let mut run = Run::prepare(&config(&dir, &set)).unwrap();
        let head = values(&run.readout().head().unwrap().weight);
        if kind == "trained" {
            assert_scores(&run, (1.0 / 3.0, f64::ln(3.0)));
        }
        let before = run.evaluate_test().unwrap();
        let (outcome, _) = go(&mut run, usize::MAX);
        assert_eq!(outcome, Outcome::Finished);
        let after = run.evaluate_test().unwrap();
        assert!(
            after.loss < 0.7 * before.loss,
            "{kind}: {before:?} {after:?}"
        );
        let same = head == values(&run.readout().head().unwrap().weight);
        assert_eq!(same, kind != "trained", "{kind}");

        run.load_result().unwrap();
        let loaded = run.evaluate_test().unwrap();
        assert!(
            (after.loss - loaded.loss).abs() < 1e-5,
            "{kind}: {loaded:?}"
        );
    }
}

#[test]
fn the_folders_of_vision_models_have_the_paths_of_transformers() {
    let sets = [
        (
            "vit",
            2 * 6,
            vec!["layers.0.attention.q_proj", "layers.1.mlp.fc2"],
        ),
        (
            "clip",
            (2 + 3) * 6,
            vec![
                "text_model.encoder.layers.1.self_attn.out_proj",
                "vision_model.encoder.layers.2.mlp.fc1",
            ],
        ),
    ];
    for (name, count, paths) in sets {
        let dir = scene(name);
        let mut run = Run::prepare(&config(&dir, &["optim.steps=2"])).unwrap();
        go(&mut run, usize::MAX);
        let folder = coto_peft::Folder::load(dir.path().join("out/adapter")).unwrap();
        let modules = folder.modules().unwrap();
        assert_eq!(modules.len(), count, "{name}");
        for path in paths {
            assert!(modules.contains_key(path), "{name}: {path}");
        }
        let head = dir.path().join("out/head.safetensors").exists();
        assert_eq!(head, name == "vit", "prompts are no head");
    }
}

#[test]
fn a_resumed_run_on_images_ends_with_the_bits_of_an_uninterrupted_one() {
    for name in ["vit", "clip"] {
        let (a, b) = (scene(name), scene(name));
        let mut whole = Run::prepare(&config(&a, &[])).unwrap();
        let (_, expected) = go(&mut whole, usize::MAX);
        let mut events = Vec::new();
        for stop in [5, 14, usize::MAX] {
            let mut part = Run::prepare(&config(&b, &[])).unwrap();
            assert_eq!(part.resume().unwrap(), stop != 5);
            events.extend(go(&mut part, stop).1);
        }
        assert_eq!(losses(&events), losses(&expected), "{name}");
        let file = "out/adapter/adapter_model.safetensors";
        let bytes = |dir: &TempDir| fs::read(dir.path().join(file)).unwrap();
        assert!(bytes(&a) == bytes(&b), "{name}");
    }
}

#[test]
fn a_changed_image_is_another_task() {
    let dir = scene("vit");
    go(&mut Run::prepare(&config(&dir, &[])).unwrap(), 5);
    let image = dir.path().join("train/bag/3.bmp");
    fs::write(&image, bmp(&pixels(0, 55))).unwrap();
    let error = Run::prepare(&config(&dir, &[])).unwrap().resume();
    let error = error.unwrap_err().to_string();
    assert!(error.contains("training data"), "{error}");
}

#[test]
fn towers_are_players_and_the_one_that_is_off_keeps_its_weights() {
    let dir = scene("clip");
    let set = [
        "players={ groups = { text = [\"text_model\"], vision = [\"vision_model\"] } }",
        "schedule.preset=stochastic-depth",
        "schedule.p1=0.5",
    ];
    let mut run = Run::prepare(&config(&dir, &set)).unwrap();
    assert_eq!(run.plan().players, ["text", "vision"]);
    // A does not move while B is zero, so some steps go before.
    go(&mut run, 6);
    let mut before = checkpoint(&dir.path().join("out")).tensors;
    let mut seen = BTreeSet::new();
    for step in 7..20 {
        let (_, events) = go(&mut run, step);
        let after = checkpoint(&dir.path().join("out")).tensors;
        let active: Vec<bool> = losses(&events)[0].2.chars().map(|c| c == '1').collect();
        for (name, tensor) in &after {
            let tower = usize::from(name.contains("vision_model"));
            let same = before.get(name).map(values) == Some(values(tensor));
            assert_eq!(same, !active[tower], "{name} at step {step}, {active:?}");
        }
        seen.insert(active);
        before = after;
    }
    assert!(seen.len() == 3, "each tower alone, and both: {seen:?}");
}

#[test]
fn clip_learns_and_checkpointing_by_layers_computes_the_same() {
    let runs = [false, true].map(|layers| {
        let dir = scene("clip");
        let layers = format!("optim.gradient_checkpointing={layers}");
        let set = [&*layers, "adapter.dropout=0.0", "optim.lr=3e-3"];
        let mut run = Run::prepare(&config(&dir, &set)).unwrap();
        let before = run.evaluate_test().unwrap();
        let (_, events) = go(&mut run, usize::MAX);
        let after = run.evaluate_test().unwrap();
        assert!(after.loss < 0.8 * before.loss, "{before:?} {after:?}");
        run.load_result().unwrap();
        let loaded = run.evaluate_test().unwrap();
        assert!((after.loss - loaded.loss).abs() < 1e-5, "{loaded:?}");
        losses(&events)
    });
    for (plain, layers) in runs[0].iter().zip(&runs[1]) {
        assert_eq!(plain.2, layers.2);
        let gap = (f32::from_bits(plain.1) - f32::from_bits(layers.1)).abs();
        assert!(gap < 1e-4, "step {}: {gap:e}", plain.0);
    }
}

#[test]
fn few_shots_are_so_many_images_a_class() {
    let dir = scene("vit");
    let run = Run::prepare(&config(&dir, &["data.few_shot=2"])).unwrap();
    assert_eq!(run.plan().rows, [6, 12, 12]);
    assert_eq!(run.plan().labels, CLASSES);
}

#[test]
fn what_does_not_fit_together_is_named() {
    let refused = |dir: &TempDir, set: &[&str]| {
        let run = Run::prepare(&config(dir, set));
        run.err().expect("an error").to_string()
    };
    let dir = scene("vit");
    let processor = dir.path().join("model/preprocessor_config.json");
    let small =
        r#"{"image_processor_type": "ViTImageProcessor", "size": {"height": 4, "width": 4}}"#;
    fs::write(&processor, small).unwrap();
    let error = refused(&dir, &[]);
    assert!(
        error.contains("[3, 4, 4]") && error.contains("[3, 8, 8]"),
        "{error}"
    );
    fs::remove_file(&processor).unwrap();
    let error = refused(&dir, &[]);
    assert!(error.contains("preprocessor_config.json"), "{error}");

    let error = refused(&super::scene(), &["images.image=image"]);
    assert!(
        error.contains("images (`images`)") && error.contains("an encoder"),
        "{error}"
    );

    let dir = scene("clip");
    let error = refused(&dir, &["images.template=a photo"]);
    assert!(error.contains("`a photo`"), "{error}");
    fs::remove_file(dir.path().join("model/tokenizer.json")).unwrap();
    let error = refused(&dir, &[]);
    assert!(error.contains("tokenizer.json"), "{error}");

    let dir = scene("vit");
    fs::write(dir.path().join("test/shoe/2.bmp"), b"BM and no more").unwrap();
    let error = Run::prepare(&config(&dir, &[])).unwrap().evaluate_test();
    let error = error.unwrap_err().to_string();
    assert!(error.contains("2.bmp"), "{error}");
}
