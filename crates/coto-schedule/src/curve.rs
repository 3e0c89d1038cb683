use std::f64::consts::FRAC_PI_2;

use serde::{Deserialize, Serialize};

/// How activation rises over the first stage, from 0 at its begin to 1 at its end.
///
/// The CoTo paper (arXiv 2506.05713) compares the last three and trains with `Linear`; it does not publish the k of its
/// exponential curve. In TOML: `"linear"` or `{ exponential = { k = 3.0 } }`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Curve {
    /// 1 from the first step on: activation stays at `p1`.
    Constant,
    /// x.
    Linear,
    /// sin(π/2 · x): fast at first.
    Sine,
    /// (e^(k·x) - 1) / (e^k - 1): slow at first for k > 0, fast at first for k < 0, linear for k = 0.
    Exponential {
        /// The curvature.
        k: f64,
    },
}

impl Curve {
    /// The height of the curve at `x` between 0 and 1.
    pub fn at(self, x: f64) -> f64 {
        match self {
            Self::Constant => 1.0,
            Self::Linear => x,
            Self::Sine => (FRAC_PI_2 * x).sin(),
            Self::Exponential { k } if k.abs() < 1e-12 => x,
            // e^(kx) overflows for large k; with e^k taken out of the fraction, only negative exponents are left.
            Self::Exponential { k } if k > 0.0 => {
                (k * (x - 1.0)).exp() * (-k * x).exp_m1() / (-k).exp_m1()
            }
            Self::Exponential { k } => (k * x).exp_m1() / k.exp_m1(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn curves_have_their_hand_computed_values() {
        assert_eq!(Curve::Constant.at(0.0), 1.0);
        assert_eq!(Curve::Linear.at(0.3), 0.3);
        assert!((Curve::Sine.at(1.0 / 3.0) - 0.5).abs() < 1e-15);
        // k = 2 ln 2 at x = 1/2: (2 - 1) / (4 - 1); and mirrored, (1/2 - 1) / (1/4 - 1).
        let k = 4f64.ln();
        assert!((Curve::Exponential { k }.at(0.5) - 1.0 / 3.0).abs() < 1e-15);
        assert!((Curve::Exponential { k: -k }.at(0.5) - 2.0 / 3.0).abs() < 1e-15);
    }

    #[test]
    fn an_exponential_without_curvature_is_linear() {
        for k in [0.0, 1e-300, -1e-13, 1e-11, -1e-11] {
            assert!(
                (Curve::Exponential { k }.at(0.37) - 0.37).abs() < 1e-11,
                "k = {k}"
            );
        }
    }

    proptest! {
        #[test]
        fn curves_rise_from_0_to_1(k in -2000.0..2000.0, x in 0.0..1.0, step in 0.0..1.0) {
            for curve in [Curve::Linear, Curve::Sine, Curve::Exponential { k }] {
                prop_assert_eq!(curve.at(0.0), 0.0);
                prop_assert_eq!(curve.at(1.0), 1.0);
                let further: f64 = x + (1.0 - x) * step;
                prop_assert!(curve.at(x) <= curve.at(further) + 1e-15, "{:?} falls after {}", curve, x);
            }
        }
    }
}
