use coto_adapters::AdapterSet;
use coto_coalition::Module;
use coto_shapley::Estimate;
use serde::Serialize;

/// A player's Shapley value.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Share {
    /// The player.
    pub player: String,
    /// Its modules.
    pub modules: Vec<Module>,
    /// φ.
    pub value: f64,
    /// The standard error of φ; 0 if it is exact.
    pub standard_error: f64,
    /// The 95 % confidence interval.
    pub interval: (f64, f64),
}

/// The Shapley values of a layer's players together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LayerShare {
    /// The layer, from the bottom.
    pub layer: usize,
    /// Their sum.
    pub value: f64,
}

/// How evenly the layers share what the adapters are worth.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Evenness {
    /// The standard deviation of the layers' values over the size of their mean: 0 if all are alike.
    pub variation: f64,
    /// The entropy of the shares of the magnitudes |φ|, over that of equal shares: 1 if all are alike, 0 if one has all.
    pub entropy: f64,
    /// The share of the magnitudes |φ| that the upper third of the layers has.
    pub upper_third: f64,
}

/// Each player's share.
///
/// # Panics
/// If the estimate is of another number of players.
pub fn shares(adapters: &AdapterSet, estimate: &Estimate) -> Vec<Share> {
    let players = adapters.players();
    assert_eq!(players.len(), estimate.values.len(), "a value a player");
    let module = |&i: &usize| adapters.modules()[i].clone();
    (0..players.len())
        .map(|player| Share {
            player: players.name(player).to_owned(),
            modules: players.modules(player).iter().map(module).collect(),
            value: estimate.values[player],
            standard_error: estimate.standard_errors[player],
            interval: estimate.intervals[player],
        })
        .collect()
}

/// What each layer's players have together; none where a player is in several layers or outside of them.
pub fn layer_shares(shares: &[Share]) -> Vec<LayerShare> {
    let mut layers = std::collections::BTreeMap::<usize, f64>::new();
    for share in shares {
        let mut own = share.modules.iter().map(|module| module.layer);
        let Some(Some(layer)) = own.next() else {
            return Vec::new();
        };
        if own.any(|other| other != Some(layer)) {
            return Vec::new();
        }
        *layers.entry(layer).or_default() += share.value;
    }
    let share = |(layer, value)| LayerShare { layer, value };
    layers.into_iter().map(share).collect()
}

/// How even the layers' values are; `None` for fewer than two layers, or where all values are 0.
pub fn evenness(layers: &[LayerShare]) -> Option<Evenness> {
    let n = layers.len() as f64;
    let values = || layers.iter().map(|layer| layer.value);
    let mass: f64 = values().map(f64::abs).sum();
    let mean = values().sum::<f64>() / n;
    if layers.len() < 2 || mass == 0.0 || mean == 0.0 {
        return None;
    }
    let variance = values().map(|value| (value - mean).powi(2)).sum::<f64>() / n;
    let shares = || values().map(|value| value.abs() / mass);
    let bits = shares().filter(|&share| share > 0.0);
    let entropy: f64 = bits.map(|share| -share * share.ln()).sum();
    let upper = layers.len().div_ceil(3);
    Some(Evenness {
        variation: variance.sqrt() / mean.abs(),
        entropy: entropy / n.ln(),
        upper_third: shares().skip(layers.len() - upper).sum(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(values: &[f64]) -> Vec<LayerShare> {
        let share = |(layer, &value)| LayerShare { layer, value };
        values.iter().enumerate().map(share).collect()
    }

    #[test]
    fn equal_layers_are_even_and_one_that_has_all_is_not() {
        let even = evenness(&layers(&[0.25; 4])).unwrap();
        assert!(even.variation.abs() < 1e-12 && (even.entropy - 1.0).abs() < 1e-12);
        assert!((even.upper_third - 0.5).abs() < 1e-12);
        let one = evenness(&layers(&[0.0, 0.0, 0.0, 2.0])).unwrap();
        assert!((one.variation - 3f64.sqrt()).abs() < 1e-12);
        assert_eq!((one.entropy, one.upper_third), (0.0, 1.0));
    }

    #[test]
    fn of_one_layer_or_of_nothing_there_is_no_evenness() {
        assert_eq!(evenness(&layers(&[1.0])), None);
        assert_eq!(evenness(&layers(&[0.0, 0.0])), None);
    }

    #[test]
    fn players_of_one_layer_are_summed_and_those_of_several_have_no_layer() {
        let share = |layers: &[Option<usize>], value| Share {
            player: String::new(),
            modules: layers
                .iter()
                .map(|&layer| Module::new("m", layer, "m"))
                .collect(),
            value,
            standard_error: 0.0,
            interval: (value, value),
        };
        let own = [
            share(&[Some(1)], 1.0),
            share(&[Some(0)], 5.0),
            share(&[Some(1); 2], 2.0),
        ];
        let values: Vec<f64> = layer_shares(&own).iter().map(|layer| layer.value).collect();
        assert_eq!(values, [5.0, 3.0]);
        assert!(layer_shares(&[share(&[Some(0), Some(1)], 1.0)]).is_empty());
        assert!(layer_shares(&[share(&[None], 1.0)]).is_empty());
    }
}
