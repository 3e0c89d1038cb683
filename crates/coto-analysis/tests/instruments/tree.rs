use std::collections::{BTreeMap, HashSet};
use std::fmt::Debug;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Distribution, Tensor};
use coto_adapters::{AdapterConfig, AdapterSet, Base, FrozenLinear, Pass};
use coto_analysis::{CoalitionTree, LayerRuns};
use coto_coalition::{Coalition, Grouping, Module, stream};
use coto_models::{Bert, Clip, Hidden, ImageBatch, Layered, Llama, TokenBatch, Vit};
use rand::RngExt;

use crate::stirred;

fn model(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../goldens/models")
        .join(name)
}

/// Rows of different lengths.
fn tokens(rows: usize, width: usize) -> TokenBatch {
    let ids: Vec<u32> = (0..rows * width).map(|i| 4 + (i * 7 % 40) as u32).collect();
    let mask: Vec<bool> = (0..rows * width)
        .map(|i| i % width < width - i / width % 3)
        .collect();
    TokenBatch::new(&ids, &vec![0; ids.len()], &mask, rows, &Device::flex())
}

fn images(shape: [usize; 3], prompts: Option<TokenBatch>) -> ImageBatch {
    let [c, h, w] = shape;
    ImageBatch {
        pixels: Tensor::random([3, c, h, w], Distribution::Default, &Device::flex()),
        prompts,
        text: None,
    }
}

fn set(model: &impl Base, variant: &str, grouping: &Grouping) -> AdapterSet {
    let config = AdapterConfig::lora(2, 4.0).variant(variant);
    stirred(AdapterSet::new(model, &config, grouping, 5).unwrap())
}

fn bits(hidden: &Hidden) -> Vec<u32> {
    let mut bits: Vec<u32> = Vec::new();
    let towers = std::iter::successors(Some(hidden), |hidden| hidden.beside.as_deref());
    for tower in towers {
        let data = tower.states.clone().into_data().convert::<f32>();
        bits.extend(data.as_slice::<f32>().unwrap().iter().map(|x| x.to_bits()));
    }
    bits
}

/// Some coalitions, among them nobody, everybody and one twice.
fn coalitions(players: usize) -> Vec<Coalition> {
    let mut draws = stream(3, "coalitions");
    let mut drawn: Vec<Coalition> = (0..14)
        .map(|_| Coalition::from_players(players, (0..players).filter(|_| draws.random::<bool>())))
        .collect();
    drawn.extend([
        Coalition::empty(players),
        Coalition::grand(players),
        drawn[4].clone(),
    ]);
    drawn
}

/// The prefixes of layers in which coalitions differ by what is on in them, counted one by one.
fn distinct_prefixes<M: Layered>(model: &M, set: &AdapterSet, coalitions: &[Coalition]) -> usize {
    let below = |layer: usize, on: &Coalition| -> Vec<usize> {
        let modules = set.modules().iter().enumerate();
        modules
            .filter(|(_, module)| module.layer.unwrap_or(0) <= layer)
            .map(|(adapter, _)| adapter)
            .filter(|&adapter| on.contains(set.players().player_of(adapter)))
            .collect()
    };
    let distinct = |layer| {
        coalitions
            .iter()
            .map(|on| below(layer, on))
            .collect::<HashSet<_>>()
    };
    (0..model.depth()).map(|layer| distinct(layer).len()).sum()
}

fn assert_naive<M: Layered>(name: &str, model: &M, set: &AdapterSet, batch: &M::Batch) {
    let coalitions = coalitions(set.players().len());
    let mut found = BTreeMap::new();
    let tree = CoalitionTree::new(model, set);
    let runs = tree.walk(batch, &coalitions, &mut |places, hidden| {
        for &place in places {
            assert!(
                found.insert(place, bits(&hidden)).is_none(),
                "{name}: {place} twice"
            );
        }
    });
    let mut distinct = HashSet::new();
    for (place, on) in coalitions.iter().enumerate() {
        let naive = bits(&model.states(batch, &Pass::new(set, on)));
        assert!(
            found[&place] == naive,
            "{name}: {on} of {} players",
            on.players()
        );
        distinct.insert(naive);
    }
    assert!(distinct.len() > 2, "{name}: the adapters make a difference");
    let expected = LayerRuns {
        used: distinct_prefixes(model, set, &coalitions),
        naive: coalitions.len() * model.depth(),
    };
    assert_eq!(runs, expected, "{name}");
    assert!(runs.used < runs.naive);
}

/// Per layer, module and kind, in chunks that cut through layers, and by name with layers in another order than the model's.
fn groupings(upper: &str) -> Vec<Grouping> {
    let groups = |groups: &[(&str, &str)]| {
        let group = |&(name, pattern): &(&str, &str)| (name.to_owned(), vec![pattern.to_owned()]);
        Grouping::Groups(groups.iter().map(group).collect())
    };
    let lower = upper.replace('1', "0");
    vec![
        Grouping::Layer,
        Grouping::Module,
        Grouping::Kind,
        Grouping::Chunk(5),
        groups(&[("a", upper), ("b", &lower)]),
    ]
}

fn assert_all<M: Layered + Debug>(name: &str, model: &M, batch: &M::Batch, upper: &str) {
    for variant in ["lora", "dora"] {
        for grouping in groupings(upper) {
            let set = set(model, variant, &grouping);
            assert_naive(
                &format!("{name}, {variant}, {grouping:?}"),
                model,
                &set,
                batch,
            );
        }
    }
}

#[test]
fn on_encoders_the_tree_gives_the_bits_of_the_whole_model() {
    for name in ["bert", "roberta"] {
        let model = Bert::load(model(name), &Device::flex()).unwrap();
        assert_all(name, &model, &tokens(3, 7), "encoder.layer.1");
    }
}

#[test]
fn on_decoders_the_tree_gives_the_bits_of_the_whole_model() {
    for name in ["llama3", "mistral", "qwen3"] {
        let model = Llama::load(model(name), &Device::flex()).unwrap();
        assert_all(name, &model, &tokens(3, 7), "model.layers.1");
    }
}

#[test]
fn on_image_models_the_tree_gives_the_bits_of_the_whole_model() {
    let vit = Vit::load(model("vit"), &Device::flex()).unwrap();
    let batch = images(vit.config().image_shape(), None);
    let upper = vit
        .modules()
        .last()
        .unwrap()
        .path
        .split(".1.")
        .next()
        .unwrap()
        .to_owned()
        + ".1";
    assert_all("vit", &vit, &batch, &upper);
    let clip = Clip::load(model("clip"), &Device::flex()).unwrap();
    let batch = images(clip.config().vision.image_shape(), Some(tokens(4, 6)));
    for grouping in groupings("1")[..4]
        .iter()
        .chain([&Grouping::Groups(BTreeMap::from([
            ("text".to_owned(), vec!["text_model".to_owned()]),
            ("images".to_owned(), vec!["vision_model".to_owned()]),
        ]))])
    {
        let set = set(&clip, "lora", grouping);
        assert_naive(&format!("clip, {grouping:?}"), &clip, &set, &batch);
    }
}

/// A linear that every layer uses, and one of each layer's own.
#[derive(Debug)]
struct Shared(Vec<Module>, Vec<FrozenLinear>);

impl Base for Shared {
    fn modules(&self) -> &[Module] {
        &self.0
    }
    fn linear(&self, module: usize) -> &FrozenLinear {
        &self.1[module]
    }
}

impl Layered for Shared {
    type Batch = Tensor<2>;
    fn depth(&self) -> usize {
        3
    }
    fn parameters(&self) -> usize {
        4 * 25
    }
    fn embed(&self, batch: &Tensor<2>) -> Hidden {
        Hidden::of(batch.clone(), batch.dims()[0], 1)
    }
    fn layer(&self, layer: usize, hidden: Hidden, pass: &Pass) -> Hidden {
        let own = pass.linear(&self.1[1 + layer], hidden.states.clone());
        let states = own + pass.linear(&self.1[0], hidden.states.clone());
        Hidden { states, ..hidden }
    }
    fn head(&self, hidden: Hidden, _: &Tensor<2>) -> Tensor<2> {
        hidden.states
    }
}

#[test]
fn an_adapter_outside_of_the_layers_parts_coalitions_from_the_lowest_layer_on() {
    let linear = |module| {
        let weight = Tensor::random([5, 5], Distribution::Default, &Device::flex());
        FrozenLinear::new(module, weight, None)
    };
    let own = |layer| Module::new(format!("l.{layer}.own"), Some(layer), "own");
    let modules = [
        Module::new("shared", None, "shared"),
        own(0),
        own(1),
        own(2),
    ];
    let model = Shared(modules.into(), (0..4).map(linear).collect());
    let batch = Tensor::random([6, 5], Distribution::Default, &Device::flex());
    let set = set(&model, "lora", &Grouping::Layer);
    assert_eq!(set.players().names()[0], "shared");
    assert_naive("shared", &model, &set, &batch);
    let all: Vec<Coalition> = (0..16).map(|bits| Coalition::from_bits(4, bits)).collect();
    let runs = CoalitionTree::new(&model, &set).runs(&all);
    assert_eq!((runs.used, runs.naive), (4 + 8 + 16, 48));
}

#[test]
fn twelve_players_take_a_quarter_of_the_layer_runs_at_most() {
    // Query and value of six layers, and twelve layers whole: all 4,096 coalitions.
    for (depth, kinds, used) in [(6, &["q", "v"][..], 5460), (12, &["q"][..], 8190)] {
        let modules: Vec<Module> = (0..depth)
            .flat_map(|i| {
                kinds
                    .iter()
                    .map(move |k| Module::new(format!("l.{i}.{k}"), Some(i), *k))
            })
            .collect();
        let weight = Tensor::zeros([2, 2], &Device::flex());
        let linears = (0..12).map(|i| FrozenLinear::new(i, weight.clone(), None));
        let model = Deep(Shared(modules, linears.collect()), depth);
        let set = set(&model, "lora", &Grouping::Module);
        let all: Vec<Coalition> = (0..4096)
            .map(|bits| Coalition::from_bits(12, bits))
            .collect();
        let runs = CoalitionTree::new(&model, &set).runs(&all);
        assert_eq!((runs.used, runs.naive), (used, 4096 * depth));
        assert!(4 * runs.used <= runs.naive);
    }
}

/// A model of so many layers, to be counted and not run.
#[derive(Debug)]
struct Deep(Shared, usize);

impl Base for Deep {
    fn modules(&self) -> &[Module] {
        self.0.modules()
    }
    fn linear(&self, module: usize) -> &FrozenLinear {
        self.0.linear(module)
    }
}

impl Layered for Deep {
    type Batch = Tensor<2>;
    fn depth(&self) -> usize {
        self.1
    }
    fn parameters(&self) -> usize {
        0
    }
    fn embed(&self, batch: &Tensor<2>) -> Hidden {
        self.0.embed(batch)
    }
    fn layer(&self, layer: usize, hidden: Hidden, pass: &Pass) -> Hidden {
        self.0.layer(layer, hidden, pass)
    }
    fn head(&self, hidden: Hidden, batch: &Tensor<2>) -> Tensor<2> {
        self.0.head(hidden, batch)
    }
}
