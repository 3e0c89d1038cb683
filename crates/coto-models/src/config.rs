use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::Error;

/// A JSON file.
///
/// # Errors
/// [`Error::Io`], [`Error::Config`].
pub(crate) fn json<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let text = std::fs::read(path).map_err(Error::io(path))?;
    serde_json::from_slice(&text).map_err(|source| Error::Config {
        path: path.into(),
        source,
    })
}

/// Says whether a field is a multiple of another, and neither is 0.
///
/// # Errors
/// [`Error::Inconsistent`].
pub(crate) fn multiple(
    path: &Path,
    (whole, size): (&str, usize),
    (part, count): (&str, usize),
) -> Result<(), Error> {
    if size > 0 && count > 0 && size.is_multiple_of(count) {
        return Ok(());
    }
    Err(Error::Inconsistent {
        path: path.into(),
        reason: format!("{whole} {size} is not a multiple of {part} {count}"),
    })
}

/// The members of the BERT family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// BERT (Devlin et al., arXiv 1810.04805) and sentence encoders built as it is.
    Bert,
    /// RoBERTa and XLM-RoBERTa: positions count from behind the padding token's number.
    Roberta,
    /// DistilBERT: no segments, other names.
    DistilBert,
}

/// The `config.json` of a BERT-like model, in BERT's terms.
#[derive(Debug, Clone, Deserialize)]
pub struct BertConfig {
    /// The model type as the file has it.
    pub model_type: String,
    /// Tokens known.
    pub vocab_size: usize,
    /// d, the width of the states.
    #[serde(alias = "dim")]
    pub hidden_size: usize,
    /// Layers.
    #[serde(alias = "n_layers")]
    pub num_hidden_layers: usize,
    /// Attention heads.
    #[serde(alias = "n_heads")]
    pub num_attention_heads: usize,
    /// The width of the feed-forward network.
    #[serde(alias = "hidden_dim")]
    pub intermediate_size: usize,
    /// Positions known.
    pub max_position_embeddings: usize,
    /// Segments known.
    #[serde(default)]
    pub type_vocab_size: usize,
    /// ε of the layer norms.
    #[serde(default = "default_epsilon")]
    pub layer_norm_eps: f64,
    /// The activation of the feed-forward network.
    #[serde(alias = "activation")]
    pub hidden_act: String,
    /// The padding token.
    #[serde(default)]
    pub pad_token_id: u32,
    /// How positions are told.
    #[serde(default = "absolute")]
    pub position_embedding_type: String,
}

fn default_epsilon() -> f64 {
    1e-12
}

fn absolute() -> String {
    "absolute".to_owned()
}

impl BertConfig {
    /// Reads a `config.json`.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Config`], [`Error::Unsupported`], [`Error::Inconsistent`].
    pub fn load(path: &Path) -> Result<Self, Error> {
        let config: Self = json(path)?;
        let unsupported = |field, value: &str, known| {
            Err(Error::Unsupported {
                path: path.into(),
                field,
                value: value.to_owned(),
                known,
            })
        };
        if config.family().is_none() {
            let known = "`bert`, `roberta`, `xlm-roberta`, `distilbert`";
            return unsupported("model_type", &config.model_type, known);
        }
        if config.hidden_act != "gelu" {
            return unsupported("hidden_act", &config.hidden_act, "`gelu`");
        }
        if config.position_embedding_type != "absolute" {
            let value = &config.position_embedding_type;
            return unsupported("position_embedding_type", value, "`absolute`");
        }
        let (d, heads) = (config.hidden_size, config.num_attention_heads);
        multiple(path, ("hidden_size", d), ("num_attention_heads", heads))?;
        Ok(config)
    }

    pub(crate) fn family(&self) -> Option<Family> {
        match self.model_type.as_str() {
            "bert" => Some(Family::Bert),
            "roberta" | "xlm-roberta" => Some(Family::Roberta),
            "distilbert" => Some(Family::DistilBert),
            _ => None,
        }
    }

    /// The longest sequence that the positions suffice for.
    pub fn max_tokens(&self) -> usize {
        self.max_position_embeddings
            .saturating_sub(self.first_position())
    }

    /// The number of a sequence's first position.
    pub(crate) fn first_position(&self) -> usize {
        match self.family() {
            Some(Family::Roberta) => self.pad_token_id as usize + 1,
            _ => 0,
        }
    }
}
