use serde_json::Value;

use crate::nearest::nearest;
use crate::{Config, Error, OneOrMany, Targets};

/// Fields that, when truthy, change the mathematics in a way that is not implemented.
const REFUSED: [(&str, &str); 16] = [
    (
        "alora_invocation_tokens",
        "aLoRA adapts only the tokens after an invocation",
    ),
    ("arrow_config", "Arrow routes between several adapters"),
    ("bias", "biases of the base model are frozen"),
    (
        "kasa_config",
        "KaSA changes the base weight and adds a diagonal",
    ),
    ("layer_replication", "it builds a deeper model"),
    ("lora_bias", "adapters have no bias"),
    (
        "megatron_config",
        "Megatron's parallel layers are unknown here",
    ),
    ("modules_to_save", "no module is trained as a whole"),
    ("monteclora_config", "MonteCLoRA samples its weights"),
    (
        "target_parameters",
        "only modules are adapted, not bare parameters",
    ),
    ("trainable_token_indices", "token embeddings are frozen"),
    ("use_bdlora", "BD-LoRA's factors are block-diagonal"),
    ("use_qalora", "QA-LoRA pools the input"),
    ("velora_config", "VeLoRA compresses activations"),
    ("fan_in_fan_out", "base weights must be [out, in]"),
    ("loftq_config", "LoftQ changes the base weights"),
];

/// PEFT's task types.
const TASKS: [&str; 6] = [
    "SEQ_CLS",
    "SEQ_2_SEQ_LM",
    "CAUSAL_LM",
    "TOKEN_CLS",
    "QUESTION_ANS",
    "FEATURE_EXTRACTION",
];

impl Config {
    /// Checks that the configuration can be run here, with the mathematics it asks for.
    ///
    /// Refused are values out of range and a known list of fields that, when truthy in Python's sense, would change
    /// the result. A field that this crate has never heard of is let through, truthy or not.
    ///
    /// # Errors
    /// [`Error::Unsupported`] or [`Error::Field`], with the field's name and value.
    pub fn check_supported(&self) -> Result<(), Error> {
        self.check_numbers()?;
        self.check_names()?;
        let json = self.to_json();
        for (field, reason) in REFUSED {
            let value = &json[field];
            let harmless = match field {
                "bias" => value == "none" || value.is_null(),
                "loftq_config" => self.init_weights != "loftq",
                _ => false,
            };
            if truthy(value) && !harmless {
                return Err(Error::Unsupported {
                    field: field.to_owned(),
                    value: value.to_string(),
                    reason,
                });
            }
        }
        Ok(())
    }

    /// Checks that the stored tensors mean the same on the plain base model as in PEFT.
    ///
    /// With these initialisations PEFT subtracts the initial update from the base weights, again at every load.
    pub(crate) fn check_base_untouched(&self) -> Result<(), Error> {
        let init = self.init_weights.as_str().unwrap_or_default();
        if init.starts_with("pissa") || ["olora", "corda", "loftq", "lora_ga"].contains(&init) {
            let reason = "its tensors belong to a changed base model; in PEFT, save with \
                          `path_initial_model_for_weight_conversion` to get a plain LoRA";
            return Err(Error::Unsupported {
                field: "init_lora_weights".into(),
                value: format!("{init:?}"),
                reason,
            });
        }
        Ok(())
    }

    fn check_numbers(&self) -> Result<(), Error> {
        let ranks = self
            .rank_pattern
            .iter()
            .map(|(key, r)| (format!("rank_pattern.{key}"), *r));
        for (field, r) in std::iter::once(("r".to_owned(), self.r)).chain(ranks) {
            ensure(r >= 1, &field, r, "1 or more")?;
        }
        let alphas = self
            .alpha_pattern
            .iter()
            .map(|(key, alpha)| (format!("alpha_pattern.{key}"), *alpha));
        for (field, alpha) in
            std::iter::once(("lora_alpha".to_owned(), self.lora_alpha)).chain(alphas)
        {
            ensure(alpha.is_finite(), &field, alpha, "a finite number")?;
        }
        ensure(
            (0.0..1.0).contains(&self.dropout),
            self.dropout_field(),
            self.dropout,
            "at least 0 and below 1",
        )
    }

    fn check_names(&self) -> Result<(), Error> {
        if let Some(task) = self.task_type.as_deref() {
            let expected = || {
                format!(
                    "one of {} (nearest: {})",
                    TASKS.join(", "),
                    nearest(task, TASKS).join(", ")
                )
            };
            if !TASKS.contains(&task) {
                return Err(Error::Field {
                    field: "task_type".into(),
                    value: format!("{task:?}"),
                    expected: expected(),
                });
            }
        }
        let text_targets = matches!(
            self.target_modules,
            Some(Targets::Regex(_) | Targets::AllLinear)
        );
        let layers = self.layers_to_transform.as_ref();
        if let (true, Some(layers)) = (text_targets, layers) {
            ensure(
                false,
                "layers_to_transform",
                debug(layers),
                "null, since target_modules is no list",
            )?;
        }
        if let Some(pattern) = &self.layers_pattern {
            let empty = pattern.as_slice().iter().all(String::is_empty);
            let names = debug(pattern);
            ensure(
                !text_targets,
                "layers_pattern",
                &names,
                "null, since target_modules is no list",
            )?;
            ensure(
                empty || layers.is_some(),
                "layers_pattern",
                &names,
                "null, since layers_to_transform is null",
            )?;
        }
        Ok(())
    }

    fn dropout_field(&self) -> &'static str {
        match self.peft_type {
            crate::PeftType::Lora => "lora_dropout",
            crate::PeftType::Hira => "hira_dropout",
        }
    }
}

fn ensure(
    holds: bool,
    field: &str,
    value: impl std::fmt::Display,
    expected: &str,
) -> Result<(), Error> {
    let wrong = || Error::Field {
        field: field.to_owned(),
        value: value.to_string(),
        expected: expected.to_owned(),
    };
    holds.then_some(()).ok_or_else(wrong)
}

fn debug<T: std::fmt::Debug>(values: &OneOrMany<T>) -> String {
    match values {
        OneOrMany::One(value) => format!("{value:?}"),
        OneOrMany::Many(values) => format!("{values:?}"),
    }
}

/// What Python's `if value:` asks.
fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(value) => value.as_f64() != Some(0.0),
        Value::String(value) => !value.is_empty(),
        Value::Array(values) => !values.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn with(field: &str, value: Value) -> Config {
        let mut json = Config::lora(4, 8.0).to_json();
        json[field] = value;
        Config::from_json(json).unwrap()
    }

    #[test]
    fn every_refused_field_is_named_with_its_value() {
        for (field, _) in REFUSED {
            let value = match field {
                "bias" => json!("lora_only"),
                "modules_to_save" => json!(["classifier"]),
                "fan_in_fan_out" | "lora_bias" | "use_qalora" => json!(true),
                _ => json!({ "some": 1 }),
            };
            let mut config = with(field, value.clone());
            if field == "loftq_config" {
                config.check_supported().unwrap();
                config.init_weights = json!("loftq");
            }
            let error = config.check_supported().unwrap_err().to_string();
            assert!(error.contains(&format!("`{field}` is {value}")), "{error}");
        }
    }

    #[test]
    fn falsy_and_unheard_of_fields_pass() {
        for (field, value) in [
            ("use_bdlora", json!(null)),
            ("layer_replication", json!([])),
            ("kasa_config", json!({})),
            ("lora_bias", json!(0)),
            ("from_the_future", json!("yes")),
            ("auto_mapping", json!({ "base_model_class": "M" })),
        ] {
            with(field, value).check_supported().unwrap();
        }
        Config::hira(4).check_supported().unwrap();
    }

    #[test]
    fn numbers_out_of_range_are_named() {
        let mut hira = Config::hira(4);
        hira.dropout = f64::NAN;
        for (config, says) in [
            (Config::lora(0, 8.0), "`r` is 0"),
            (Config::lora(4, f64::INFINITY), "`lora_alpha` is inf"),
            (with("lora_dropout", json!(1.0)), "`lora_dropout` is 1"),
            (with("lora_dropout", json!(-0.1)), "`lora_dropout` is -0.1"),
            (
                with("rank_pattern", json!({ "query": 0 })),
                "`rank_pattern.query` is 0",
            ),
            (with("task_type", json!("CAUSAL")), "CAUSAL_LM"),
            (
                with("layers_pattern", json!("h")),
                "`layers_pattern` is \"h\"",
            ),
            (hira, "`hira_dropout` is NaN"),
        ] {
            let error = config.check_supported().unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        let mut regex = Config::lora(4, 8.0).targets(".*q");
        regex.layers_to_transform = Some(OneOrMany::Many(vec![1]));
        assert!(
            regex
                .check_supported()
                .unwrap_err()
                .to_string()
                .contains("`layers_to_transform` is [1]")
        );
    }
}
