use std::collections::{BTreeMap, BTreeSet};

use burn::tensor::{Gradients, Tensor, activation};
use coto_adapters::{AdapterSet, Pass};
use coto_coalition::Coalition;
use coto_models::{Bert, Layered};

use crate::{Golden, VARIANTS, batch, bert, device, read, set};

/// What was recorded of one variant: by coalition, by tensor.
fn steps(variant: &str) -> BTreeMap<String, BTreeMap<String, Golden>> {
    let mut steps = BTreeMap::<_, BTreeMap<_, _>>::new();
    for (key, golden) in read("steps.safetensors") {
        let (name, rest) = key.split_once('/').unwrap();
        let (coalition, tensor) = rest.split_once('/').unwrap();
        if name == variant {
            let step = steps.entry(coalition.to_owned()).or_default();
            step.insert(tensor.to_owned(), golden);
        }
    }
    steps
}

/// Cross-entropy of a fixed linear head on the features, [1], and the gradients.
fn step(model: &Bert, tracked: &AdapterSet, on: &Coalition) -> (Tensor<1>, Gradients) {
    let inputs = read("inputs.safetensors");
    let features = model.forward(&batch(), &Pass::new(tracked, on));
    let bias = &inputs["head.bias"];
    let bias = Tensor::<1>::from_floats(bias.values.as_slice(), &device());
    let logits = features.matmul(inputs["head.weight"].matrix().transpose()) + bias.unsqueeze();
    let rows = activation::log_softmax(logits, 1);
    let labels = inputs["labels"].numbers().into_iter().map(|l| l as usize);
    let picked = labels
        .enumerate()
        .map(|(row, label)| rows.clone().slice([row..row + 1, label..label + 1]));
    let loss = Tensor::cat(picked.collect(), 0).mean().neg();
    let grads = loss.backward();
    (loss, grads)
}

#[test]
fn loss_and_gradients_of_a_step_are_those_of_peft() {
    let model = bert("bert");
    for variant in VARIANTS {
        let set = set(&model, variant);
        let steps = steps(variant);
        assert_eq!(steps.len(), 3);
        for (coalition, mut golden) in steps {
            let mut tracked = set.tracked();
            let on = coalition.parse().unwrap();
            let (loss, grads) = step(&model, &tracked, &on);
            let worst = golden.remove("loss").unwrap().distance(loss);
            assert!(
                worst < 1e-5,
                "{variant}, {coalition}: loss differs by {worst:e}"
            );

            let gradients = tracked.gradients(&grads);
            let factors = tracked.factors();
            assert_eq!(gradients.len(), factors.len());
            let found = factors.iter().zip(gradients);
            let found = found.filter_map(|(f, grad)| Some((f.name.clone(), (f.spec.name, grad?))));
            let found: BTreeMap<_, _> = found.collect();
            // Equal names: an adapter that is off has no gradient, neither there nor here.
            let names = found.keys().collect::<BTreeSet<_>>();
            assert_eq!(names, golden.keys().collect(), "{variant}, {coalition}");
            for (name, (factor, grad)) in &found {
                let (golden, grad) = (&golden[name], grad.clone());
                let worst = if *factor == "lora_magnitude_vector" {
                    golden.distance(grad.squeeze_dim::<1>(0))
                } else {
                    golden.distance(grad.transpose())
                };
                let worst = worst / golden.size();
                assert!(
                    worst < 1e-4,
                    "{variant}, {coalition}: {name} differs by {worst:e}"
                );
            }
        }
    }
}

#[test]
fn an_adapter_that_is_off_is_not_computed_with() {
    let model = bert("bert");
    for variant in VARIANTS {
        let mut set = set(&model, variant);
        let n = set.players().len();
        let on = Coalition::from_players(n, (0..n).filter(|player| player % 3 == 1));
        let features = |set: &AdapterSet| {
            let features = model.forward(&batch(), &Pass::new(set, &on));
            features.into_data().iter::<f32>().collect::<Vec<_>>()
        };
        let before = features(&set);
        let adapters = set.adapters().iter().enumerate();
        let off = adapters.filter(|(i, _)| !on.contains(set.players().player_of(*i)));
        let off: BTreeSet<String> = off.map(|(_, adapter)| adapter.path().to_owned()).collect();
        let mut poisoned = 0;
        for factor in set.factors() {
            let path = factor.name.strip_suffix(factor.spec.name).unwrap();
            if off.contains(path.trim_end_matches('.')) {
                *factor.tensor = factor.tensor.clone().mul_scalar(f32::NAN);
                poisoned += 1;
            }
        }
        assert!(poisoned >= 2 * off.len() && off.len() == n - on.len());
        assert_eq!(before, features(&set), "{variant}");
        assert!(before.iter().all(|value| value.is_finite()), "{variant}");
    }
}

#[test]
fn nothing_below_the_lowest_active_adapter_is_tracked() {
    let model = bert("bert");
    for variant in VARIANTS {
        let set = set(&model, variant).tracked();
        let players = set.players().len();
        let upper = Coalition::from_players(players, players / 2..players);
        let pass = Pass::new(&set, &upper);
        let hidden = model.embed(&batch());
        assert!(!hidden.states.is_tracked(), "{variant}");
        let hidden = model.layer(0, hidden, &pass);
        assert!(!hidden.states.is_tracked(), "{variant}");
        let hidden = model.layer(1, hidden, &pass);
        assert!(hidden.states.is_tracked(), "{variant}");
    }
}

#[test]
fn with_every_adapter_off_nothing_is_tracked() {
    let model = bert("bert");
    let set = set(&model, "lora").tracked();
    let nobody = Coalition::empty(set.players().len());
    let features = model.forward(&batch(), &Pass::new(&set, &nobody));
    assert!(!features.is_tracked());
}
