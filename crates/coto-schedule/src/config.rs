use serde::{Deserialize, Serialize};

use crate::{Curve, Error, Profile};

/// A published schedule, by name.
///
/// | name in a configuration | `curve` | `p0` | `p1` | `stage_ratio` |
/// |---|---|---|---|---|
/// | `coto` (arXiv 2506.05713) | linear | 0 | 1 | 0.75 |
/// | `coto-reference` (its authors' code) | linear | 0.1 | 1 | 0.75 |
/// | `copra` (arXiv 2410.22911) | linear | 0 | 1 | 0.75 |
/// | `stochastic-depth` | constant | – | 0.75 | – |
/// | `none`: everybody always on | constant | – | 1 | – |
///
/// All have a uniform profile and never switch all players off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// CoTo as its paper gives it.
    #[default]
    Coto,
    /// CoTo as its authors' code has it: activation begins at 0.1.
    CotoReference,
    /// CopRA: CoTo's numbers, with layers as the players.
    Copra,
    /// Activation that never changes; the papers' baseline.
    StochasticDepth,
    /// Plain training: the grand coalition at every step. Takes no overrides.
    None,
}

impl Preset {
    /// `curve`, `p0`, `p1` and `stage_ratio`.
    fn numbers(self) -> (Curve, f64, f64, f64) {
        match self {
            Self::Coto | Self::Copra => (Curve::Linear, 0.0, 1.0, 0.75),
            Self::CotoReference => (Curve::Linear, 0.1, 1.0, 0.75),
            Self::StochasticDepth => (Curve::Constant, 0.0, 0.75, 0.75),
            Self::None => (Curve::Constant, 0.0, 1.0, 0.75),
        }
    }
}

/// A preset and what differs from it.
///
/// In TOML: `preset = "coto"`, then any of `curve = "sine"`, `p0 = 0.2`, `p1 = 0.9`, `stage_ratio = 0.5`,
/// `profile = "higher-dropped"` and `never_all_off = false`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScheduleConfig {
    /// Where the values come from that are not given below.
    pub preset: Preset,
    /// How activation rises from `p0` to `p1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub curve: Option<Curve>,
    /// The probability of being on at the first step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p0: Option<f64>,
    /// The probability of being on once the first stage is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p1: Option<f64>,
    /// The first stage as a part of the run, above 0 and at most 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage_ratio: Option<f64>,
    /// Who is switched off more often.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
    /// Whether at least one player is on at every step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub never_all_off: Option<bool>,
}

impl ScheduleConfig {
    /// `curve`, `p0`, `p1` and `stage_ratio` with the overrides in place, checked.
    pub(crate) fn resolve(&self) -> Result<(Curve, f64, f64, f64), Error> {
        let (curve, p0, p1, ratio) = self.preset.numbers();
        let curve = self.curve.unwrap_or(curve);
        self.refuse_void_keys(curve)?;
        let (p0, p1) = (self.p0.unwrap_or(p0), self.p1.unwrap_or(p1));
        for (key, value) in [("p0", p0), ("p1", p1)] {
            if !(0.0..=1.0).contains(&value) {
                return Err(Error::Probability { key, value });
            }
        }
        if p0 > p1 {
            return Err(Error::Falling { p0, p1 });
        }
        match (curve, self.stage_ratio.unwrap_or(ratio)) {
            (Curve::Exponential { k: value }, _) if !value.is_finite() => {
                Err(Error::Curvature { value })
            }
            (_, value) if !(value > 0.0 && value <= 1.0) => Err(Error::StageRatio { value }),
            (curve, ratio) => Ok((curve, p0, p1, ratio)),
        }
    }

    fn refuse_void_keys(&self, curve: Curve) -> Result<(), Error> {
        let rising = [
            ("p0", self.p0.is_some()),
            ("stage_ratio", self.stage_ratio.is_some()),
        ];
        let others = [
            ("curve", self.curve.is_some()),
            ("p1", self.p1.is_some()),
            ("profile", self.profile.is_some()),
            ("never_all_off", self.never_all_off.is_some()),
        ];
        let (under, void) = match (self.preset, curve) {
            (Preset::None, _) => ("the preset `none`", [&rising[..], &others].concat()),
            (_, Curve::Constant) => ("the curve `constant`", rising.to_vec()),
            _ => return Ok(()),
        };
        match void.into_iter().find(|(_, given)| *given) {
            Some((key, _)) => Err(Error::NoEffect { key, under }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> ScheduleConfig {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn an_empty_configuration_is_coto() {
        assert_eq!(read("{}"), ScheduleConfig::default());
        assert_eq!(
            ScheduleConfig::default().resolve(),
            Ok((Curve::Linear, 0.0, 1.0, 0.75))
        );
    }

    #[test]
    fn every_key_is_read_written_and_used() {
        let text = r#"{"preset":"coto-reference","curve":{"exponential":{"k":3.0}},"p0":0.2,"p1":0.9,"stage_ratio":0.5,"profile":"higher-dropped","never_all_off":false}"#;
        let config = read(text);
        assert_eq!(serde_json::to_string(&config).unwrap(), text);
        assert_eq!(
            config.resolve(),
            Ok((Curve::Exponential { k: 3.0 }, 0.2, 0.9, 0.5))
        );
    }

    #[test]
    fn unknown_keys_and_presets_are_refused_with_the_known_ones() {
        let error = |json| {
            serde_json::from_str::<ScheduleConfig>(json)
                .unwrap_err()
                .to_string()
        };
        assert!(error(r#"{"stage-ratio":0.5}"#).contains("`stage_ratio`"));
        assert!(error(r#"{"preset":"cotto"}"#).contains("`coto`"));
        assert!(error(r#"{"curve":{"exponential":{"k":1.0,"kk":1.0}}}"#).contains("`kk`"));
    }

    #[test]
    fn values_out_of_range_are_named() {
        let error = |json| read(json).resolve().unwrap_err();
        assert_eq!(
            error(r#"{"p0":-0.1}"#),
            Error::Probability {
                key: "p0",
                value: -0.1
            }
        );
        assert_eq!(
            error(r#"{"p1":1.5}"#),
            Error::Probability {
                key: "p1",
                value: 1.5
            }
        );
        assert_eq!(
            error(r#"{"p0":0.5,"p1":0.4}"#),
            Error::Falling { p0: 0.5, p1: 0.4 }
        );
        assert_eq!(
            error(r#"{"stage_ratio":0}"#),
            Error::StageRatio { value: 0.0 }
        );
        assert_eq!(
            error(r#"{"stage_ratio":1.01}"#),
            Error::StageRatio { value: 1.01 }
        );
        let with = |curve| ScheduleConfig {
            curve: Some(curve),
            ..Default::default()
        };
        let endless = with(Curve::Exponential { k: f64::INFINITY });
        assert_eq!(
            endless.resolve(),
            Err(Error::Curvature {
                value: f64::INFINITY
            })
        );
        let nan = ScheduleConfig {
            p1: Some(f64::NAN),
            ..Default::default()
        };
        assert!(matches!(
            nan.resolve(),
            Err(Error::Probability { key: "p1", .. })
        ));
    }

    #[test]
    fn keys_that_would_be_ignored_are_refused() {
        let key = |json| match read(json).resolve() {
            Err(Error::NoEffect { key, .. }) => key,
            other => panic!("{other:?}"),
        };
        assert_eq!(key(r#"{"preset":"stochastic-depth","p0":0.5}"#), "p0");
        assert_eq!(
            key(r#"{"curve":"constant","stage_ratio":0.5}"#),
            "stage_ratio"
        );
        assert_eq!(key(r#"{"preset":"none","p1":0.5}"#), "p1");
        assert_eq!(
            key(r#"{"preset":"none","never_all_off":true}"#),
            "never_all_off"
        );
        assert!(
            read(r#"{"preset":"stochastic-depth","p0":0.5,"curve":"linear"}"#)
                .resolve()
                .is_ok()
        );
    }
}
