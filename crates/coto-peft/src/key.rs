use std::fmt;
use std::str::FromStr;

use crate::Error;
use crate::nearest::nearest;

const PREFIX: &str = "base_model.model.";

/// An adapter's own parameters, by the names PEFT gives them in a tensor file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Param {
    /// `lora_A.weight`, [r, in].
    LoraA,
    /// `lora_B.weight`, [out, r].
    LoraB,
    /// `lora_magnitude_vector`, `[out]` (DoRA).
    Magnitude,
    /// `hira_A`, [r, in].
    HiraA,
    /// `hira_B`, [out, r].
    HiraB,
}

impl Param {
    const ALL: [Self; 5] = [
        Self::LoraA,
        Self::LoraB,
        Self::Magnitude,
        Self::HiraA,
        Self::HiraB,
    ];

    /// The name in a tensor file.
    pub fn name(self) -> &'static str {
        match self {
            Self::LoraA => "lora_A.weight",
            Self::LoraB => "lora_B.weight",
            Self::Magnitude => "lora_magnitude_vector",
            Self::HiraA => "hira_A",
            Self::HiraB => "hira_B",
        }
    }
}

impl fmt::Display for Param {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A key of a tensor file: `base_model.model.<module path>.<param>`.
///
/// ```
/// use coto_peft::{Param, ParamKey};
/// let key: ParamKey = "base_model.model.layers.0.query.lora_A.weight".parse()?;
/// assert_eq!((key.module.as_str(), key.param), ("layers.0.query", Param::LoraA));
/// # Ok::<(), coto_peft::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParamKey {
    /// The adapted module, by its path in the base model.
    pub module: String,
    /// Which of its parameters.
    pub param: Param,
}

impl fmt::Display for ParamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}.{}", self.module, self.param)
    }
}

impl FromStr for ParamKey {
    type Err = Error;

    /// Parses a key. `lora_magnitude_vector.weight`, DoRA's name inside a running model, is understood too.
    ///
    /// # Errors
    /// [`Error::Key`] for another prefix, no module path, or a parameter not known here.
    fn from_str(key: &str) -> Result<Self, Error> {
        let wrong = |reason, nearest| Error::Key {
            key: key.to_owned(),
            reason,
            nearest,
        };
        let rest = key
            .strip_prefix(PREFIX)
            .ok_or_else(|| wrong("it does not begin with `base_model.model.`", Vec::new()))?;
        // PEFT's DoRA magnitude is a module in memory (with `.weight`) and a bare vector on disk.
        let bare = rest
            .strip_suffix("lora_magnitude_vector.weight")
            .map(|head| format!("{head}lora_magnitude_vector"));
        let rest = bare.as_deref().unwrap_or(rest);
        for param in Param::ALL {
            if let Some(module) = rest
                .strip_suffix(param.name())
                .and_then(|head| head.strip_suffix('.'))
            {
                if module.is_empty() {
                    return Err(wrong("it names no module", Vec::new()));
                }
                return Ok(Self {
                    module: module.to_owned(),
                    param,
                });
            }
        }
        let start = rest
            .rfind("lora_")
            .or(rest.rfind("hira_"))
            .or(rest.rfind('.').map(|dot| dot + 1))
            .unwrap_or(0);
        let near = nearest(&rest[start..], Param::ALL.map(Param::name));
        Err(wrong("it ends in no parameter of LoRA, DoRA or HiRA", near))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_written_key_reads_back(module in "[a-z_]{1,6}(\\.[a-z0-9_]{1,6}){0,4}", which in 0..5usize) {
            let key = ParamKey { module, param: Param::ALL[which] };
            prop_assert_eq!(key.to_string().parse::<ParamKey>().unwrap(), key);
        }
    }

    #[test]
    fn both_names_of_a_magnitude_are_one() {
        let disk: ParamKey = "base_model.model.a.lora_magnitude_vector".parse().unwrap();
        assert_eq!(
            "base_model.model.a.lora_magnitude_vector.weight"
                .parse::<ParamKey>()
                .unwrap(),
            disk
        );
        assert_eq!(disk.to_string(), "base_model.model.a.lora_magnitude_vector");
    }

    #[test]
    fn wrong_keys_say_what_is_wrong() {
        for (key, says) in [
            ("layers.0.query.lora_A.weight", "base_model.model."),
            ("base_model.model.lora_A.weight", "no parameter"),
            ("base_model.model..lora_A.weight", "no module"),
            ("base_model.model.q.lora_C.weight", "`lora_A.weight`"),
            ("base_model.model.q.lora_embedding_A", "no parameter"),
            ("base_model.model.q.hira_a", "`hira_A`"),
            ("base_model.model.q.xlora_A.weight", "no parameter"),
        ] {
            let error = key.parse::<ParamKey>().unwrap_err().to_string();
            assert!(error.contains(key) && error.contains(says), "{error}");
        }
    }
}
