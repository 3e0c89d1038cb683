use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Error, Param, json, pattern};

/// The adapter types that are understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PeftType {
    /// LoRA, rsLoRA (`use_rslora`) and DoRA (`use_dora`).
    Lora,
    /// HiRA: ΔW = W ⊙ (B A).
    Hira,
}

impl PeftType {
    /// The name in `adapter_config.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lora => "LORA",
            Self::Hira => "HIRA",
        }
    }

    /// The tensors A and B of a module.
    pub fn factors(self) -> [Param; 2] {
        match self {
            Self::Lora => [Param::LoraA, Param::LoraB],
            Self::Hira => [Param::HiraA, Param::HiraB],
        }
    }
}

/// One value or a list of them, as several fields of PEFT allow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany<T> {
    /// A bare value. For `exclude_modules` this is a regular expression.
    One(T),
    /// A list.
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    /// The values, one or many.
    pub fn as_slice(&self) -> &[T] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Many(values) => values,
        }
    }
}

/// Which modules are adapted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Targets {
    /// Module names: a whole path, or its ending after a dot.
    List(Vec<String>),
    /// A regular expression that matches the whole path.
    Regex(String),
    /// Every linear module but the output head.
    AllLinear,
}

impl<S: Into<String>, const N: usize> From<[S; N]> for Targets {
    fn from(names: [S; N]) -> Self {
        Self::List(names.map(Into::into).into())
    }
}

impl<S: Into<String>> From<Vec<S>> for Targets {
    fn from(names: Vec<S>) -> Self {
        Self::List(names.into_iter().map(Into::into).collect())
    }
}

impl From<&str> for Targets {
    /// `"all-linear"`, in any case, or else a regular expression.
    fn from(text: &str) -> Self {
        if text.eq_ignore_ascii_case("all-linear") {
            Self::AllLinear
        } else {
            Self::Regex(text.to_owned())
        }
    }
}

/// The contents of an `adapter_config.json`.
///
/// A field has PEFT's name and meaning unless its text says otherwise. Fields that are not understood
/// lie in [`extra`](Self::extra) and are written back as they were.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The adapter's type.
    pub peft_type: PeftType,
    /// PEFT's task, such as `SEQ_CLS` or `CAUSAL_LM`.
    pub task_type: Option<String>,
    /// Name or path of the model that is adapted.
    pub base_model_name_or_path: Option<String>,
    /// Whether Python loads the adapter frozen; PEFT writes true into every saved folder.
    pub inference_mode: bool,
    /// Rank of modules that no pattern names.
    pub r: usize,
    /// Alpha of modules that no pattern names. HiRA has none and does not write it.
    pub lora_alpha: f64,
    /// Dropout on the adapter's input, in [0, 1): `lora_dropout`, or `hira_dropout`.
    pub dropout: f64,
    /// Which modules are adapted.
    pub target_modules: Option<Targets>,
    /// Which are not, though targeted: names, or one regular expression.
    pub exclude_modules: Option<OneOrMany<String>>,
    /// Which biases are trained; only `none` is supported. HiRA does not write it.
    pub bias: String,
    /// Whether base weights are [in, out]; only false is supported.
    pub fan_in_fan_out: bool,
    /// Whether the scale is α/√r in place of α/r (rsLoRA). HiRA does not write it.
    pub use_rslora: bool,
    /// Whether the adapter has a magnitude (DoRA). HiRA does not write it.
    pub use_dora: bool,
    /// Modules trained as a whole; only none are supported.
    pub modules_to_save: Option<Vec<String>>,
    /// Layer numbers to which a list of targets is confined.
    pub layers_to_transform: Option<OneOrMany<i64>>,
    /// Name of the path segment before the layer number; a regular expression, or several.
    pub layers_pattern: Option<OneOrMany<String>>,
    /// Ranks of single modules: pattern and rank, the first match counts.
    pub rank_pattern: Vec<(String, usize)>,
    /// Alphas of single modules: pattern and alpha, the first match counts. HiRA does not write it.
    pub alpha_pattern: Vec<(String, f64)>,
    /// `init_lora_weights`, or HiRA's `init_weights`.
    pub init_weights: Value,
    /// All other fields.
    pub extra: Map<String, Value>,
}

impl Config {
    /// A LoRA configuration with PEFT's defaults.
    pub fn lora(r: usize, alpha: f64) -> Self {
        Self {
            lora_alpha: alpha,
            ..Self::new(PeftType::Lora, r, json::lora_defaults())
        }
    }

    /// A HiRA configuration with PEFT's defaults.
    pub fn hira(r: usize) -> Self {
        Self::new(PeftType::Hira, r, json::hira_defaults())
    }

    fn new(peft_type: PeftType, r: usize, extra: Map<String, Value>) -> Self {
        Self {
            peft_type,
            task_type: None,
            base_model_name_or_path: None,
            inference_mode: true,
            r,
            lora_alpha: 8.0,
            dropout: 0.0,
            target_modules: None,
            exclude_modules: None,
            bias: "none".to_owned(),
            fan_in_fan_out: false,
            use_rslora: false,
            use_dora: false,
            modules_to_save: None,
            layers_to_transform: None,
            layers_pattern: None,
            rank_pattern: Vec::new(),
            alpha_pattern: Vec::new(),
            init_weights: Value::Bool(true),
            extra,
        }
    }

    /// Sets [`target_modules`](Self::target_modules): names, a regular expression, or `"all-linear"`.
    pub fn targets(self, targets: impl Into<Targets>) -> Self {
        Self {
            target_modules: Some(targets.into()),
            ..self
        }
    }

    /// Reads an `adapter_config.json`.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::NotUtf8`], [`Error::Json`], or what [`from_json`](Self::from_json) says, inside [`Error::In`].
    pub fn load(file: impl AsRef<Path>) -> Result<Self, Error> {
        let file = file.as_ref();
        Self::from_json(json::read(file)?).map_err(|error| error.at(file.display()))
    }

    /// The rank of a module: [`r`](Self::r), or what [`rank_pattern`](Self::rank_pattern) has for it.
    ///
    /// PEFT 0.21.2 ignores the pattern of a HiRA adapter: it cannot load one whose ranks differ.
    ///
    /// # Errors
    /// [`Error::Regex`] when a pattern cannot be used.
    pub fn rank(&self, path: &str) -> Result<usize, Error> {
        Ok(*pattern::first_match("rank_pattern", &self.rank_pattern, path)?.unwrap_or(&self.r))
    }

    /// The alpha of a module: [`lora_alpha`](Self::lora_alpha), or what [`alpha_pattern`](Self::alpha_pattern) has for it.
    ///
    /// # Errors
    /// [`Error::Regex`] when a pattern cannot be used.
    pub fn alpha(&self, path: &str) -> Result<f64, Error> {
        Ok(
            *pattern::first_match("alpha_pattern", &self.alpha_pattern, path)?
                .unwrap_or(&self.lora_alpha),
        )
    }

    /// The scale s of a module's update: α/r (LoRA, arXiv 2106.09685), α/√r (rsLoRA, arXiv 2312.03732), or 1 (HiRA).
    ///
    /// # Errors
    /// [`Error::Regex`] when a pattern cannot be used.
    pub fn scaling(&self, path: &str) -> Result<f64, Error> {
        if self.peft_type == PeftType::Hira {
            return Ok(1.0);
        }
        let r = self.rank(path)? as f64;
        Ok(self.alpha(path)? / if self.use_rslora { r.sqrt() } else { r })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_change_rank_alpha_and_scale() {
        let mut config = Config::lora(4, 8.0);
        config.rank_pattern = vec![("value".into(), 16)];
        config.alpha_pattern = vec![("layers.1.value".into(), 2.0)];
        assert_eq!(config.scaling("layers.0.query").unwrap(), 2.0);
        assert_eq!(config.scaling("layers.0.value").unwrap(), 0.5);
        assert_eq!(config.scaling("layers.1.value").unwrap(), 0.125);
        config.use_rslora = true;
        assert_eq!(config.scaling("layers.1.value").unwrap(), 0.5);
        config.rank_pattern = vec![("(?=x)".into(), 1)];
        assert!(
            config
                .scaling("a")
                .unwrap_err()
                .to_string()
                .contains("rank_pattern")
        );
    }

    #[test]
    fn hira_has_no_scale() {
        assert_eq!(Config::hira(32).scaling("a").unwrap(), 1.0);
    }
}
