use coto_coalition::Players;
use serde::{Deserialize, Serialize};

/// Who is switched off more often than the others.
///
/// The CoTo paper's rebuttal names the variants CoTo-H and CoTo-L without their shape, so the shape is ours: a player at
/// height h is on with probability p^w, where w = ½ + h when the higher layers are dropped more and w = 3/2 - h when the
/// lower ones are, divided by the mean over all players. The geometric mean over the players is then p under every profile,
/// and all players reach 0 and 1 together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// Nobody: every player is on with probability p.
    #[default]
    Uniform,
    /// The players of the higher layers (CoTo-H).
    HigherDropped,
    /// The players of the lower layers (CoTo-L).
    LowerDropped,
}

impl Profile {
    /// The exponents w, one per player; their mean is 1.
    pub(crate) fn exponents(self, players: &Players) -> Vec<f64> {
        let heights = (0..players.len()).map(|player| players.height(player));
        let raw: Vec<f64> = match self {
            Self::Uniform => return vec![1.0; players.len()],
            Self::HigherDropped => heights.map(|height| 0.5 + height).collect(),
            Self::LowerDropped => heights.map(|height| 1.5 - height).collect(),
        };
        let mean = raw.iter().sum::<f64>() / raw.len() as f64;
        raw.into_iter().map(|weight| weight / mean).collect()
    }
}

#[cfg(test)]
mod tests {
    use coto_coalition::Module;

    use super::*;

    fn players(layers: &[usize]) -> Players {
        let modules = layers
            .iter()
            .map(|&layer| Module::new(format!("layer.{layer}"), Some(layer), "query"));
        Players::per_module(&modules.collect::<Vec<_>>())
    }

    #[test]
    fn exponents_of_three_layers_are_as_documented() {
        let three = players(&[0, 1, 2]);
        assert_eq!(Profile::Uniform.exponents(&three), [1.0, 1.0, 1.0]);
        assert_eq!(Profile::HigherDropped.exponents(&three), [0.5, 1.0, 1.5]);
        assert_eq!(Profile::LowerDropped.exponents(&three), [1.5, 1.0, 0.5]);
    }

    #[test]
    fn exponents_average_to_one_when_players_crowd_at_the_top() {
        for profile in [Profile::HigherDropped, Profile::LowerDropped] {
            let exponents = profile.exponents(&players(&[0, 9, 10, 10, 10]));
            assert!((exponents.iter().sum::<f64>() - 5.0).abs() < 1e-12);
            assert_eq!(
                exponents[0] < exponents[4],
                profile == Profile::HigherDropped
            );
        }
    }
}
