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

fn check<'a>(sets: &[&'a AdapterSet], weights: &[f64]) -> Result<&'a AdapterSet, Error> {
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

fn unlike(adapter: &Adapter, reason: &str) -> Error {
    Error::Unlike {
        module: adapter.path().to_owned(),
        reason: reason.to_owned(),
    }
}
