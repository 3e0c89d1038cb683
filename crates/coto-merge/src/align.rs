use burn::linalg;
use burn::tensor::Tensor;
use coto_adapters::{Adapter, AdapterSet};

use crate::Error;
use crate::join::{check, unlike};

/// LoRA Align (CopRA, arXiv 2410.22911): the set with its factors turned near to the reference's, after which averaging the factors
/// is as a rule nearer to averaging the ΔW. Every ΔW stays as it is.
///
/// With R orthogonal, (A R)(Rᵀ B) is A B, and fusion half and half differs from mixture by -s/4 (A₁ - A₂R)(B₁ - RᵀB₂). R is the
/// orthogonal Procrustes solution that brings both factors near: the polar factor of A₂ᵀA₁ + B₂B₁ᵀ, each product over the norms
/// of its factors, so that it does not matter how scale is shared between A and B.
///
/// # Errors
/// [`Error`]; the sets must agree in modules, variant, rank and scale.
pub fn align(reference: &AdapterSet, set: &AdapterSet) -> Result<AdapterSet, Error> {
    check(&[reference, set], &[1.0, 1.0])?;
    let mut state = set.state();
    for (first, second) in reference.adapters().iter().zip(set.adapters()) {
        if first.rank() != second.rank() || first.scale() != second.scale() {
            return Err(unlike(second, "alignment needs one rank and one scale"));
        }
        let turn = rotation(first, second);
        let names = second.variant().factors();
        let mut put = |i: usize, tensor| {
            state.insert(format!("{}.{}", second.path(), names[i].name), tensor);
        };
        put(0, second.factor(0).matmul(turn.clone()));
        put(1, turn.transpose().matmul(second.factor(1)));
    }
    let mut aligned = set.clone();
    aligned
        .restore(state)
        .map_err(|error| unlike(&set.adapters()[0], &error.to_string()))?;
    Ok(aligned)
}

/// The orthogonal R, [r, r], that brings A₂R near A₁ and RᵀB₂ near B₁.
fn rotation(first: &Adapter, second: &Adapter) -> Tensor<2> {
    let near = |a: Tensor<2>, b: Tensor<2>| {
        let size = |x: &Tensor<2>| x.clone().square().sum().sqrt().into_scalar::<f32>();
        let norm = size(&a) * size(&b);
        let product = a.matmul(b);
        // A factor of zeros says nothing.
        if norm > 0.0 {
            product.div_scalar(norm)
        } else {
            product.zeros_like()
        }
    };
    let a = near(second.factor(0).transpose(), first.factor(0));
    let b = near(second.factor(1), first.factor(1).transpose());
    let (u, _, vt) = linalg::svd::<2, 1>(a + b, SWEEPS);
    u.matmul(vt)
}

/// The most iterations for each singular value.
const SWEEPS: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::join::tests::{adapter, close, delta, model};
    use crate::{fuse, mix};
    use burn::tensor::{Device, Distribution};
    use coto_adapters::AdapterConfig;

    fn gap(a: &AdapterSet, b: &AdapterSet, model: &impl coto_adapters::Base) -> f32 {
        let [fused, mixed] = [fuse, mix].map(|join| join(&[a, b], &[0.5, 0.5]).unwrap());
        let delta = |set: &AdapterSet| set.adapters()[0].delta(model.linear(0));
        (delta(&fused) - delta(&mixed))
            .square()
            .sum()
            .sqrt()
            .into_scalar::<f32>()
    }

    #[test]
    fn alignment_changes_no_weight_and_brings_the_factors_near() {
        let model = model();
        let distance = |one: &AdapterSet, other: &AdapterSet| -> f32 {
            let size = |x: Tensor<2>| x.square().sum().into_scalar::<f32>();
            let of = |i| {
                let [a, b] = [one, other].map(|set| set.adapters()[0].factor(i));
                size(a.clone() - b.clone()) / (size(a) * size(b)).sqrt()
            };
            of(0) + of(1)
        };
        for variant in ["lora", "rslora"] {
            let config = AdapterConfig::lora(3, 6.0).variant(variant);
            let (a, b) = (adapter(&model, &config, 1), adapter(&model, &config, 2));
            let aligned = align(&a, &b).unwrap();
            close(delta(&aligned, &model), delta(&b, &model));
            assert!(distance(&a, &aligned) < distance(&a, &b));
        }
    }

    #[test]
    fn an_adapter_that_is_only_turned_is_turned_back() {
        let model = model();
        let set = adapter(&model, &AdapterConfig::lora(3, 6.0), 1);
        let noise = Tensor::<2>::random([3, 3], Distribution::Default, &Device::flex());
        let (turn, _) = linalg::qr(noise, true);
        let turned = set.with_pairs(|i| {
            let own = &set.adapters()[i];
            (
                own.factor(0).matmul(turn.clone()),
                turn.clone().transpose().matmul(own.factor(1)),
            )
        });
        assert!(gap(&set, &turned, &model) > 0.1);
        let back = align(&set, &turned).unwrap();
        for i in 0..2 {
            close(back.adapters()[0].factor(i), set.adapters()[0].factor(i));
        }
    }

    #[test]
    fn untrained_adapters_are_aligned_by_what_they_have() {
        let model = model();
        let config = AdapterConfig::lora(2, 4.0);
        let fresh = |seed| AdapterSet::new(&model, &config, &Default::default(), seed).unwrap();
        let aligned = align(&fresh(1), &fresh(2)).unwrap();
        let a = aligned.adapters()[0].factor(0).into_data();
        assert!(a.iter::<f32>().all(f32::is_finite));
    }

    #[test]
    fn other_ranks_and_modules_are_refused() {
        let model = model();
        let of = |rank| adapter(&model, &AdapterConfig::lora(rank, 4.0), 1);
        assert!(matches!(align(&of(2), &of(3)), Err(Error::Unlike { .. })));
        let dora = adapter(&model, &AdapterConfig::lora(2, 4.0).variant("dora"), 1);
        assert!(matches!(align(&of(2), &dora), Err(Error::Modules { .. })));
    }
}
