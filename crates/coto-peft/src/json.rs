use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::nearest::nearest;
use crate::{Config, Error, PeftType, Targets};

/// What PEFT 0.21 writes for a LoRA besides the fields of [`Config`].
pub(crate) fn lora_defaults() -> Map<String, Value> {
    map(json!({
        "alora_invocation_tokens": null, "arrow_config": null, "auto_mapping": null, "corda_config": null,
        "ensure_weight_tying": false, "eva_config": null, "kasa_config": null, "layer_replication": null,
        "loftq_config": {}, "lora_bias": false, "lora_ga_config": null, "megatron_config": null,
        "megatron_core": "megatron.core", "monteclora_config": null, "qalora_group_size": 16, "revision": null,
        "target_parameters": null, "trainable_token_indices": null, "use_bdlora": null, "use_qalora": false,
        "velora_config": null,
    }))
}

/// What PEFT 0.21 writes for a HiRA besides the fields of [`Config`].
pub(crate) fn hira_defaults() -> Map<String, Value> {
    map(json!({ "auto_mapping": null, "revision": null }))
}

fn map(value: Value) -> Map<String, Value> {
    if let Value::Object(map) = value {
        map
    } else {
        Map::new()
    }
}

/// Reads a JSON file.
pub(crate) fn read(file: &Path) -> Result<Value, Error> {
    let bytes = std::fs::read(file).map_err(Error::io("read", file))?;
    let text = std::str::from_utf8(&bytes).map_err(|error| Error::NotUtf8 {
        path: file.to_owned(),
        offset: error.valid_up_to(),
    })?;
    serde_json::from_str(text).map_err(|cause| Error::Json {
        path: file.to_owned(),
        cause,
    })
}

/// The fields of a configuration that nobody has asked for yet.
struct Fields(Map<String, Value>);

impl Fields {
    fn take<T: DeserializeOwned>(
        &mut self,
        field: &str,
        expected: &str,
        default: T,
    ) -> Result<T, Error> {
        self.0
            .shift_remove(field)
            .map_or(Ok(default), |value| convert(field, value, expected))
    }

    fn pattern<T: DeserializeOwned>(
        &mut self,
        field: &str,
        expected: &str,
    ) -> Result<Vec<(String, T)>, Error> {
        let entries: Option<Map<String, Value>> = self.take(field, "an object or null", None)?;
        let entries = entries.into_iter().flatten();
        entries
            .map(|(key, value)| {
                Ok((
                    key.clone(),
                    convert(&format!("{field}.{key}"), value, expected)?,
                ))
            })
            .collect()
    }
}

fn convert<T: DeserializeOwned>(field: &str, value: Value, expected: &str) -> Result<T, Error> {
    let shown = value.to_string();
    let wrong = |_| Error::Field {
        field: field.to_owned(),
        value: shown,
        expected: expected.to_owned(),
    };
    serde_json::from_value(value).map_err(wrong)
}

const RANK: &str = "a whole number, 1 or more";
const NAMES: &str = "a string, a list of strings or null";

impl Config {
    /// A configuration from the JSON of an `adapter_config.json`; a missing field has PEFT's default.
    ///
    /// # Errors
    /// [`Error::PeftType`] for a type that is not understood, [`Error::Field`] for a value of the wrong JSON type.
    pub fn from_json(value: Value) -> Result<Self, Error> {
        let mut fields = Fields(convert("(the whole configuration)", value, "an object")?);
        let peft_type = peft_type(fields.0.shift_remove("peft_type").unwrap_or_default())?;
        let mut config = match peft_type {
            PeftType::Lora => Self::lora(8, 8.0),
            PeftType::Hira => Self::hira(32),
        };
        config.inference_mode = false;
        config.read_common(&mut fields)?;
        match peft_type {
            PeftType::Lora => config.read_lora(&mut fields)?,
            PeftType::Hira => {
                config.dropout = fields.take("hira_dropout", "a number", 0.0)?;
                config.init_weights =
                    fields.take("init_weights", "any value", config.init_weights)?;
            }
        }
        config.extra = fields.0;
        Ok(config)
    }

    fn read_common(&mut self, fields: &mut Fields) -> Result<(), Error> {
        self.task_type = fields.take("task_type", "a string or null", None)?;
        self.base_model_name_or_path =
            fields.take("base_model_name_or_path", "a string or null", None)?;
        self.inference_mode = fields.take("inference_mode", "true or false", false)?;
        self.r = fields.take("r", RANK, self.r)?;
        self.target_modules = targets(fields.0.shift_remove("target_modules").unwrap_or_default())?;
        self.exclude_modules = fields.take("exclude_modules", NAMES, None)?;
        self.fan_in_fan_out = fields.take("fan_in_fan_out", "true or false", false)?;
        self.modules_to_save = fields.take("modules_to_save", "a list of strings or null", None)?;
        self.layers_to_transform = fields.take(
            "layers_to_transform",
            "a whole number, a list of them or null",
            None,
        )?;
        self.layers_pattern = fields.take("layers_pattern", NAMES, None)?;
        self.rank_pattern = fields.pattern("rank_pattern", RANK)?;
        Ok(())
    }

    fn read_lora(&mut self, fields: &mut Fields) -> Result<(), Error> {
        self.lora_alpha = fields.take("lora_alpha", "a number", self.lora_alpha)?;
        self.dropout = fields.take("lora_dropout", "a number", 0.0)?;
        self.bias = fields.take("bias", "a string", "none".to_owned())?;
        self.use_rslora = fields.take("use_rslora", "true or false", false)?;
        self.use_dora = fields.take("use_dora", "true or false", false)?;
        self.alpha_pattern = fields.pattern("alpha_pattern", "a number")?;
        self.init_weights = fields.take("init_lora_weights", "any value", Value::Bool(true))?;
        Ok(())
    }

    /// The JSON of an `adapter_config.json`, its fields in alphabetical order as PEFT has them; patterns keep their order.
    pub fn to_json(&self) -> Value {
        let mut fields = map(json!({
            "peft_type": self.peft_type.name(),
            "task_type": self.task_type,
            "base_model_name_or_path": self.base_model_name_or_path,
            "inference_mode": self.inference_mode,
            "r": self.r,
            "target_modules": self.target_modules.as_ref().map(targets_json),
            "exclude_modules": self.exclude_modules,
            "fan_in_fan_out": self.fan_in_fan_out,
            "modules_to_save": self.modules_to_save,
            "layers_to_transform": self.layers_to_transform,
            "layers_pattern": self.layers_pattern,
            "rank_pattern": pattern_json(&self.rank_pattern, |&r| json!(r)),
        }));
        fields.extend(map(match self.peft_type {
            PeftType::Lora => json!({
                "lora_alpha": number(self.lora_alpha),
                "lora_dropout": self.dropout,
                "bias": self.bias,
                "use_rslora": self.use_rslora,
                "use_dora": self.use_dora,
                "alpha_pattern": pattern_json(&self.alpha_pattern, |&alpha| number(alpha)),
                "init_lora_weights": self.init_weights,
            }),
            PeftType::Hira => {
                json!({ "hira_dropout": self.dropout, "init_weights": self.init_weights })
            }
        }));
        for (field, value) in &self.extra {
            fields.entry(field).or_insert_with(|| value.clone());
        }
        fields.sort_keys();
        Value::Object(fields)
    }
}

fn peft_type(found: Value) -> Result<PeftType, Error> {
    let known = [PeftType::Lora, PeftType::Hira];
    let unknown = || Error::PeftType {
        found: found.to_string(),
        nearest: nearest(
            found.as_str().unwrap_or_default(),
            known.map(PeftType::name),
        ),
    };
    known
        .into_iter()
        .find(|known| found == known.name())
        .ok_or_else(unknown)
}

fn targets(value: Value) -> Result<Option<Targets>, Error> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.as_str().into())),
        list => convert("target_modules", list, NAMES).map(|names| Some(Targets::List(names))),
    }
}

pub(crate) fn targets_json(targets: &Targets) -> Value {
    match targets {
        Targets::List(names) => json!(names),
        Targets::Regex(pattern) => json!(pattern),
        Targets::AllLinear => json!("all-linear"),
    }
}

fn pattern_json<T>(pattern: &[(String, T)], value: impl Fn(&T) -> Value) -> Value {
    pattern
        .iter()
        .map(|(key, v)| (key.clone(), value(v)))
        .collect()
}

/// A whole number is written as one: PEFT's alphas are ints.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 1e15 {
        json!(value as i64)
    } else {
        json!(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_config_has_every_field_of_one_that_peft_saved() {
        for (new, saved) in [
            (
                Config::lora(2, 4.0),
                include_str!("../goldens/folders/lora/adapter_config.json"),
            ),
            (
                Config::hira(3),
                include_str!("../goldens/folders/hira/adapter_config.json"),
            ),
        ] {
            let mut saved: Value = serde_json::from_str(saved).unwrap();
            let mut new = new.targets(["query", "value"]).to_json();
            for json in [&mut saved, &mut new] {
                let fields = json.as_object_mut().unwrap();
                fields.retain(|field, _| {
                    ![
                        "peft_version",
                        "auto_mapping",
                        "target_modules",
                        "lora_dropout",
                    ]
                    .contains(&field.as_str())
                });
            }
            assert_eq!(new, saved);
        }
    }

    #[test]
    fn unknown_fields_odd_forms_and_pattern_order_survive() {
        let before = json!({
            "peft_type": "LORA", "r": 4, "lora_alpha": 11.313708498984761, "target_modules": r".*\.q",
            "layers_to_transform": 3, "layers_pattern": ["h"], "exclude_modules": "lm_head",
            "rank_pattern": { "z": 2, "a": 3 }, "alpha_pattern": { "z": 1, "a": 0.1 },
            "init_lora_weights": "gaussian", "from_the_future": { "b": [1, 0.30000000000000004], "a": null },
        });
        let after = Config::from_json(before.clone()).unwrap().to_json();
        for (field, value) in before.as_object().unwrap() {
            assert_eq!(&after[field], value, "{field}");
        }
        assert_eq!(after["rank_pattern"].to_string(), r#"{"z":2,"a":3}"#);
        assert_eq!(Config::from_json(after.clone()).unwrap().to_json(), after);
    }

    #[test]
    fn alpha_is_written_as_the_number_it_is() {
        for (alpha, text) in [(16.0, "16"), (6.5, "6.5"), (0.0, "0"), (1e300, "1e+300")] {
            assert_eq!(
                Config::lora(1, alpha).to_json()["lora_alpha"].to_string(),
                text
            );
        }
    }
}
