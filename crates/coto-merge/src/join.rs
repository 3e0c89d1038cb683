use burn::tensor::Tensor;
use coto_adapters::{Adapter, AdapterSet};

/// Why adapters cannot be joined.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// Nothing to join.
    #[error("there is no adapter to join")]
    Empty,
    /// Not one weight an adapter.
    #[error("{adapters} adapters but {weights} weights")]
    Weights {
        /// Adapter sets given.
        adapters: usize,
        /// Weights given.
        weights: usize,
    },
    /// The sets adapt different modules.
    #[error("adapter {index} adapts other modules than the first: {what}")]
    Modules {
        /// Which set, from 0.
        index: usize,
        /// The first difference.
        what: String,
    },
    /// The sets' factors differ in a way that the method cannot bridge.
    #[error("module `{module}`: {reason}")]
    Unlike {
        /// The module's path.
        module: String,
        /// What differs.
        reason: String,
    },
}

/// Fusion: every factor averaged with the weights, A = Σ wₖ Aₖ and B = Σ wₖ Bₖ. Cross terms Aⱼ Bₖ appear in ΔW.
///
/// # Errors
/// [`Error`]; the sets must agree in modules, variant, rank and scale.
pub fn fuse(sets: &[&AdapterSet], weights: &[f64]) -> Result<AdapterSet, Error> {
    let first = check(sets, weights)?;
    for (i, adapter) in first.adapters().iter().enumerate() {
        for set in sets {
            let other = &set.adapters()[i];
            if other.rank() != adapter.rank() || other.scale() != adapter.scale() {
                return Err(unlike(adapter, "fusion needs one rank and one scale"));
            }
        }
    }
    let mut fused = (*first).clone();
    let parts: Vec<_> = sets.iter().map(|set| set.state()).collect();
    let mean = |name: &String| {
        sum(parts
            .iter()
            .zip(weights)
            .map(|(part, w)| part[name].clone().mul_scalar(*w)))
    };
    let state = parts[0]
        .keys()
        .map(|name| (name.clone(), mean(name)))
        .collect();
    fused
        .restore(state)
        .map_err(|error| unlike(&first.adapters()[0], &error.to_string()))?;
    Ok(fused)
}

/// Mixture: ΔW = Σ wₖ ΔWₖ, exactly, as one adapter of rank Σ rₖ: the A side by side, the weighted B one above the other.
///
/// # Errors
/// [`Error`]; the sets must agree in modules. Only variants whose ΔW is s·A B can be mixed so.
pub fn mix(sets: &[&AdapterSet], weights: &[f64]) -> Result<AdapterSet, Error> {
    let first = check(sets, weights)?;
    if let Some(adapter) = first
        .adapters()
        .iter()
        .find(|a| !matches!(a.variant().name(), "lora" | "rslora"))
    {
        let reason = format!("the ΔW of {} is not of low rank", adapter.variant().name());
        return Err(unlike(adapter, &reason));
    }
    Ok(first.with_pairs(|i| {
        let scale = first.adapters()[i].scale();
        let (a, b) = sets
            .iter()
            .zip(weights)
            .map(|(set, weight)| {
                let adapter = &set.adapters()[i];
                let (a, b) = adapter.low_rank();
                (a, b.mul_scalar(weight * adapter.scale() / scale))
            })
            .unzip();
        (Tensor::cat(a, 1), Tensor::cat(b, 0))
    }))
}

pub(crate) fn check<'a>(sets: &[&'a AdapterSet], weights: &[f64]) -> Result<&'a AdapterSet, Error> {
    let first = sets.first().ok_or(Error::Empty)?;
    if sets.len() != weights.len() {
        return Err(Error::Weights {
            adapters: sets.len(),
            weights: weights.len(),
        });
    }
    let outline = |set: &AdapterSet| -> Vec<(String, &'static str)> {
        set.adapters()
            .iter()
            .map(|a| (a.path().to_owned(), a.variant().name()))
            .collect()
    };
    let expected = outline(first);
    for (index, set) in sets.iter().enumerate() {
        let found = outline(set);
        if found != expected {
            let differs = expected.iter().zip(&found).find(|(a, b)| a != b);
            let what = match differs {
                Some((a, b)) => format!("`{}` ({}) against `{}` ({})", b.0, b.1, a.0, a.1),
                None => format!("{} modules against {}", found.len(), expected.len()),
            };
            return Err(Error::Modules { index, what });
        }
    }
    Ok(first)
}

fn sum(tensors: impl Iterator<Item = Tensor<2>>) -> Tensor<2> {
    tensors.reduce(|a, b| a + b).expect("at least one set")
}

pub(crate) fn unlike(adapter: &Adapter, reason: &str) -> Error {
    Error::Unlike {
        module: adapter.path().to_owned(),
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use burn::tensor::{Device, Distribution, Tolerance};
    use coto_adapters::{AdapterConfig, Base, FrozenLinear};
    use coto_coalition::{Grouping, Module};

    pub(crate) struct One(Vec<Module>, FrozenLinear);

    impl Base for One {
        fn modules(&self) -> &[Module] {
            &self.0
        }
        fn linear(&self, _: usize) -> &FrozenLinear {
            &self.1
        }
    }

    pub(crate) fn model() -> One {
        let weight = Tensor::random([5, 7], Distribution::Default, &Device::flex());
        One(
            vec![Module::new("l.0.q", Some(0), "q")],
            FrozenLinear::new(0, weight, None),
        )
    }

    pub(crate) fn adapter(model: &One, config: &AdapterConfig, seed: u64) -> AdapterSet {
        let mut set = AdapterSet::new(model, config, &Grouping::Layer, seed).unwrap();
        for factor in set.factors() {
            let noise =
                Tensor::random(factor.tensor.dims(), Distribution::Default, &Device::flex());
            *factor.tensor = factor.tensor.clone() + noise;
        }
        set
    }

    pub(crate) fn delta(set: &AdapterSet, model: &One) -> Tensor<2> {
        set.adapters()[0].delta(model.linear(0))
    }

    pub(crate) fn close(a: Tensor<2>, b: Tensor<2>) {
        a.into_data()
            .assert_approx_eq::<f32>(&b.into_data(), Tolerance::absolute(1e-5));
    }

    #[test]
    fn a_mixture_averages_the_weight_changes_whatever_the_ranks() {
        let model = model();
        let a = adapter(&model, &AdapterConfig::lora(2, 4.0), 1);
        let b = adapter(&model, &AdapterConfig::lora(3, 9.0).variant("rslora"), 2);
        assert!(matches!(
            mix(&[&a, &b], &[0.3, 0.7]),
            Err(Error::Modules { index: 1, .. })
        ));
        let b = adapter(&model, &AdapterConfig::lora(3, 9.0), 2);
        let expected = delta(&a, &model).mul_scalar(0.3) + delta(&b, &model).mul_scalar(0.7);
        let mixed = mix(&[&a, &b], &[0.3, 0.7]).unwrap();
        close(delta(&mixed, &model), expected.clone());
        let folder = mixed.to_folder().unwrap();
        let read = AdapterSet::from_folder(&model, &folder, &Grouping::Layer).unwrap();
        close(delta(&read, &model), expected);
    }

    #[test]
    fn one_adapter_at_weight_one_reproduces_itself() {
        let model = model();
        let set = adapter(&model, &AdapterConfig::lora(2, 4.0), 1);
        for joined in [
            fuse(&[&set], &[1.0]).unwrap(),
            mix(&[&set], &[1.0]).unwrap(),
        ] {
            close(delta(&joined, &model), delta(&set, &model));
        }
    }

    #[test]
    fn fusion_averages_the_factors() {
        let model = model();
        let config = AdapterConfig::lora(2, 4.0);
        let (a, b) = (adapter(&model, &config, 1), adapter(&model, &config, 2));
        let fused = fuse(&[&a, &b], &[0.5, 0.5]).unwrap();
        let half = |i| (a.adapters()[0].factor(i) + b.adapters()[0].factor(i)).mul_scalar(0.5);
        close(
            delta(&fused, &model),
            half(0).matmul(half(1)).mul_scalar(2.0),
        );
    }

    #[test]
    fn what_cannot_be_joined_is_named() {
        let model = model();
        let dora = adapter(&model, &AdapterConfig::lora(2, 4.0).variant("dora"), 1);
        let error = mix(&[&dora], &[1.0]).unwrap_err().to_string();
        assert!(error.contains("l.0.q") && error.contains("dora"), "{error}");
        let (two, three) = (AdapterConfig::lora(2, 4.0), AdapterConfig::lora(3, 4.0));
        let (a, b) = (adapter(&model, &two, 1), adapter(&model, &three, 1));
        assert!(matches!(
            fuse(&[&a, &b], &[0.5, 0.5]),
            Err(Error::Unlike { .. })
        ));
        assert_eq!(
            fuse(&[&a], &[]).unwrap_err(),
            Error::Weights {
                adapters: 1,
                weights: 0
            }
        );
        assert_eq!(mix(&[], &[]).unwrap_err(), Error::Empty);
    }
}
