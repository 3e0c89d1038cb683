use std::collections::BTreeMap;

use coto_peft::{Config, OneOrMany, Targets};
use serde::{Deserialize, Serialize};

use crate::{Error, Init, Variants};

/// Adapters as a run file describes them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdapterConfig {
    /// The variant's name: `lora`, `rslora`, `dora`, `hira`.
    pub variant: String,
    /// The rank r.
    pub rank: usize,
    /// α; the update is scaled by α/r (rsLoRA: α/√r). HiRA has none.
    pub alpha: f64,
    /// Dropout on the adapters' input, in [0, 1).
    pub dropout: f64,
    /// Which linears: a list of names, a regular expression, or `all-linear`.
    pub targets: TargetSpec,
    /// Which not, though targeted.
    pub exclude: Vec<String>,
    /// Only in these layers; none: in all.
    pub layers: Vec<i64>,
    /// Ranks of single modules, by PEFT's patterns.
    pub rank_pattern: BTreeMap<String, usize>,
    /// Alphas of single modules, by PEFT's patterns.
    pub alpha_pattern: BTreeMap<String, f64>,
    /// How the factors begin.
    pub init: Init,
}

/// Which linears are adapted, as PEFT's `target_modules`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TargetSpec {
    /// Names: a whole path, or its ending after a dot.
    List(Vec<String>),
    /// A regular expression for the whole path, or `all-linear`.
    Text(String),
}

impl Default for AdapterConfig {
    /// LoRA on every linear, r = 8, α = 16.
    fn default() -> Self {
        Self {
            variant: "lora".to_owned(),
            rank: 8,
            alpha: 16.0,
            dropout: 0.0,
            targets: TargetSpec::Text("all-linear".to_owned()),
            exclude: Vec::new(),
            layers: Vec::new(),
            rank_pattern: BTreeMap::new(),
            alpha_pattern: BTreeMap::new(),
            init: Init::default(),
        }
    }
}

impl AdapterConfig {
    /// LoRA on every linear.
    pub fn lora(rank: usize, alpha: f64) -> Self {
        Self {
            rank,
            alpha,
            ..Self::default()
        }
    }

    /// Another variant.
    pub fn variant(self, name: &str) -> Self {
        Self {
            variant: name.to_owned(),
            ..self
        }
    }

    /// On linears of these names only.
    pub fn targets<S: Into<String>>(self, names: impl IntoIterator<Item = S>) -> Self {
        let names = names.into_iter().map(Into::into).collect();
        Self {
            targets: TargetSpec::List(names),
            ..self
        }
    }

    /// With another initialisation.
    pub fn init(self, init: Init) -> Self {
        Self { init, ..self }
    }

    /// With dropout on the adapters' input.
    pub fn dropout(self, dropout: f64) -> Self {
        Self { dropout, ..self }
    }

    /// The PEFT configuration that says the same.
    ///
    /// # Errors
    /// [`Error::Variant`]; [`Error::Peft`] for values out of range.
    pub fn to_peft(&self, variants: &Variants) -> Result<Config, Error> {
        let some = |empty: bool| (!empty).then_some(());
        let mut config = variants
            .named(&self.variant)?
            .configure(self.rank, self.alpha);
        config.dropout = self.dropout;
        config.target_modules = Some(match &self.targets {
            TargetSpec::List(names) => Targets::List(names.clone()),
            TargetSpec::Text(text) => Targets::from(text.as_str()),
        });
        config.exclude_modules =
            some(self.exclude.is_empty()).map(|()| OneOrMany::Many(self.exclude.clone()));
        config.layers_to_transform =
            some(self.layers.is_empty()).map(|()| OneOrMany::Many(self.layers.clone()));
        config.rank_pattern = self.rank_pattern.clone().into_iter().collect();
        config.alpha_pattern = self.alpha_pattern.clone().into_iter().collect();
        config.check_supported()?;
        Ok(config)
    }
}
