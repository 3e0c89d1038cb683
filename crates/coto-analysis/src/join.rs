use coto_adapters::{AdapterSet, Base};
use coto_merge::{Options, Plan, Source, merge};
use coto_peft::Folder;

use crate::Error;

/// Fusion: every factor averaged with the weights over their sum, A = Σ wₖ Aₖ and B = Σ wₖ Bₖ. Cross terms Aⱼ Bₖ appear in ΔW.
///
/// Sets of every variant can be fused with others of that variant, by [`coto_merge::fuse()`] on their folders. There PiSSA and OLoRA
/// have the origin that they subtract beside their pair, and it is averaged with it.
///
/// # Errors
/// [`Error::Merge`] for sets that differ in variant, modules, ranks or scales; [`Error::Value`] for another number of weights.
pub fn fuse(base: &impl Base, sets: &[&AdapterSet], weights: &[f64]) -> Result<AdapterSet, Error> {
    let fused = on_folders(sets, weights, coto_merge::fuse)?;
    back(base, sets[0], &fused)
}

/// Mixture: ΔW = Σ wₖ ΔWₖ, exactly, as one LoRA of rank Σ rₖ, by [`coto_merge::merge()`]'s `concat`.
///
/// # Errors
/// [`Error::Merge`] for variants other than LoRA and rsLoRA; [`Error::Value`] for another number of weights.
pub fn mix(base: &impl Base, sets: &[&AdapterSet], weights: &[f64]) -> Result<AdapterSet, Error> {
    let plan = Plan::named("concat", &Options::default())?;
    let mixed = on_folders(sets, weights, |sources| merge(sources, &plan))?;
    back(base, sets[0], &mixed.folder)
}

/// LoRA Align: the sets with their factors turned near to the first one's, by [`coto_merge::aligned()`]. After that averaging the
/// factors is as a rule nearer to averaging the ΔW, which all stay as they are.
///
/// # Errors
/// [`Error::Merge`] for sets that differ in variant, modules, ranks or scales.
pub fn align(base: &impl Base, sets: &[&AdapterSet]) -> Result<Vec<AdapterSet>, Error> {
    let folders = on_folders(sets, &vec![1.0; sets.len()], coto_merge::aligned)?;
    let pairs = sets.iter().zip(&folders);
    pairs.map(|(set, folder)| back(base, set, folder)).collect()
}

/// What `join` makes of the sets' folders, which it knows by their numbers from 1.
fn on_folders<T>(
    sets: &[&AdapterSet],
    weights: &[f64],
    join: impl FnOnce(&[Source]) -> Result<T, coto_merge::Error>,
) -> Result<T, Error> {
    one_each(sets.len(), weights)?;
    let folders = sets.iter().map(|set| set.to_folder());
    let folders = folders.collect::<Result<Vec<_>, _>>()?;
    let numbered = folders.iter().zip(weights).zip(1..);
    let sources = numbered.map(|((folder, &weight), number)| Source {
        name: number.to_string(),
        folder,
        weight,
        statistics: None,
    });
    Ok(join(&sources.collect::<Vec<_>>())?)
}

/// A folder on its base, grouped as `like`.
fn back(base: &impl Base, like: &AdapterSet, folder: &Folder) -> Result<AdapterSet, Error> {
    Ok(AdapterSet::from_folder(base, folder, like.grouping())?)
}

/// [`Error::Value`] unless there is one weight for each adapter.
pub(crate) fn one_each(adapters: usize, weights: &[f64]) -> Result<(), Error> {
    if weights.len() == adapters {
        return Ok(());
    }
    Err(Error::Value {
        field: "weights",
        value: format!("{weights:?}"),
        reason: "one for each adapter",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Distribution, Tensor, Tolerance};
    use coto_adapters::{AdapterConfig, FrozenLinear, Init};
    use coto_coalition::{Grouping, Module};

    struct One(Vec<Module>, FrozenLinear);

    impl Base for One {
        fn modules(&self) -> &[Module] {
            &self.0
        }
        fn linear(&self, _: usize) -> &FrozenLinear {
            &self.1
        }
    }

    fn model() -> One {
        let weight = Tensor::random([5, 7], Distribution::Default, &Device::flex());
        One(
            vec![Module::new("l.0.q", Some(0), "q")],
            FrozenLinear::new(0, weight, None),
        )
    }

    fn adapter(model: &One, config: &AdapterConfig, seed: u64) -> AdapterSet {
        let mut set = AdapterSet::new(model, config, &Grouping::Kind, seed).unwrap();
        for factor in set.factors() {
            let noise =
                Tensor::random(factor.tensor.dims(), Distribution::Default, &Device::flex());
            *factor.tensor = factor.tensor.clone() + noise;
        }
        set
    }

    /// Of every variant and initialisation.
    fn configs() -> Vec<AdapterConfig> {
        let own = || AdapterConfig::lora(2, 4.0);
        let mut all: Vec<_> = ["lora", "rslora", "dora", "hira"]
            .map(|variant| own().variant(variant))
            .into();
        all.push(own().init(Init::Pissa));
        all.push(own().variant("rslora").init(Init::Olora));
        all
    }

    fn delta(set: &AdapterSet, model: &One) -> Tensor<2> {
        set.adapters()[0].delta(model.linear(0))
    }

    fn close(a: Tensor<2>, b: Tensor<2>) {
        a.into_data()
            .assert_approx_eq::<f32>(&b.into_data(), Tolerance::absolute(1e-5));
    }

    #[test]
    fn a_mixture_averages_the_weight_changes_whatever_ranks_and_scales() {
        let model = model();
        let a = adapter(&model, &AdapterConfig::lora(2, 4.0), 1);
        let b = adapter(&model, &AdapterConfig::lora(3, 9.0).variant("rslora"), 2);
        let c = adapter(&model, &AdapterConfig::lora(2, 4.0).init(Init::Pissa), 3);
        let weights = [0.3, 0.7, -0.5];
        let mixed = mix(&model, &[&a, &b, &c], &weights).unwrap();
        let parts = [&a, &b, &c].into_iter().zip(weights);
        let parts = parts.map(|(set, weight)| delta(set, &model).mul_scalar(weight));
        close(
            delta(&mixed, &model),
            parts.reduce(|sum, part| sum + part).unwrap(),
        );
        assert_eq!(mixed.adapters()[0].rank(), 2 + 3 + 2 * 2);
    }

    #[test]
    fn fusion_averages_every_tensor_and_what_is_subtracted() {
        let model = model();
        for config in configs() {
            let (a, b) = (adapter(&model, &config, 1), adapter(&model, &config, 2));
            let fused = fuse(&model, &[&a, &b], &[0.3, 0.7]).unwrap();
            let (one, two) = (a.state(), b.state());
            let mean = one.into_iter().map(|(name, tensor)| {
                let other = two[&name].clone().mul_scalar(0.7);
                (name, tensor.mul_scalar(0.3) + other)
            });
            let mut expected = a.clone();
            expected.restore(mean.collect()).unwrap();
            close(delta(&fused, &model), delta(&expected, &model));
            assert_eq!(fused.players().names(), ["q"]);
        }
    }

    #[test]
    fn of_weights_one_and_zero_the_first_adapter_comes_out() {
        let model = model();
        for config in configs() {
            let (a, b) = (adapter(&model, &config, 1), adapter(&model, &config, 2));
            let fused = fuse(&model, &[&a, &b], &[1.0, 0.0]).unwrap();
            close(delta(&fused, &model), delta(&a, &model));
            if config.variant.ends_with("lora") {
                let mixed = mix(&model, &[&a, &b], &[1.0, 0.0]).unwrap();
                close(delta(&mixed, &model), delta(&a, &model));
            }
        }
    }

    #[test]
    fn alignment_changes_no_weight_and_brings_the_factors_near() {
        let model = model();
        let distance = |one: &AdapterSet, other: &AdapterSet| -> f32 {
            let size = |x: Tensor<2>| x.square().sum().into_scalar::<f32>();
            let of = |i: usize| {
                let [a, b] = [one, other].map(|set| {
                    let (a, b) = set.adapters()[0].low_rank();
                    [a, b][i].clone()
                });
                size(a.clone() - b.clone()) / (size(a) * size(b)).sqrt()
            };
            of(0) + of(1)
        };
        for config in configs() {
            let (a, b) = (adapter(&model, &config, 1), adapter(&model, &config, 2));
            let aligned = align(&model, &[&a, &b]).unwrap();
            close(delta(&aligned[0], &model), delta(&a, &model));
            close(delta(&aligned[1], &model), delta(&b, &model));
            assert_eq!(distance(&a, &aligned[0]), 0.0);
            assert!(distance(&a, &aligned[1]) < distance(&a, &b), "{config:?}");
            let sets: Vec<&AdapterSet> = aligned.iter().collect();
            fuse(&model, &sets, &[0.5, 0.5]).unwrap();
        }
    }

    #[test]
    fn untrained_adapters_are_aligned_by_what_they_have() {
        let model = model();
        let config = AdapterConfig::lora(2, 4.0);
        let fresh = |seed| AdapterSet::new(&model, &config, &Default::default(), seed).unwrap();
        let aligned = align(&model, &[&fresh(1), &fresh(2)]).unwrap();
        let a = aligned[1].adapters()[0].factor(0).into_data();
        assert!(a.iter::<f32>().all(f32::is_finite));
    }

    #[test]
    fn what_cannot_be_joined_is_named() {
        let model = model();
        let of = |rank, alpha| adapter(&model, &AdapterConfig::lora(rank, alpha), 1);
        let dora = adapter(&model, &AdapterConfig::lora(2, 4.0).variant("dora"), 1);
        let (own, ranks, scales) = (of(2, 4.0), of(3, 6.0), of(2, 6.0));
        let told = |error: Error| {
            assert!(matches!(error, Error::Merge(_)), "{error}");
            error.to_string()
        };
        let error = told(mix(&model, &[&own, &dora], &[1.0, 1.0]).unwrap_err());
        assert!(error.contains("`2` is DoRA"), "{error}");
        for (other, reason) in [
            (&ranks, "module `l.0.q` is [3, 5]"),
            (&scales, "module `l.0.q` are 3 and 2"),
            (&dora, "DoRA"),
        ] {
            let fused = told(fuse(&model, &[&own, other], &[0.5, 0.5]).unwrap_err());
            let aligned = told(align(&model, &[&own, other]).unwrap_err());
            assert!(fused.contains(reason), "{fused}");
            assert_eq!(fused, aligned);
        }
        let error = fuse(&model, &[&own], &[]).unwrap_err().to_string();
        assert!(error.contains("one for each adapter"), "{error}");
        assert!(told(mix(&model, &[], &[]).unwrap_err()).contains("no adapter"));
    }
}
