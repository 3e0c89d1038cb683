use std::path::Path;

use burn::tensor::{Device, Tensor};
use coto_adapters::{Base, FrozenLinear, Pass};
use coto_coalition::Module;
use serde::Deserialize;

use crate::config::json;
use crate::llama::GgufBase;
use crate::{Bert, Error, Hidden, Layered, Llama, Pooling, TokenBatch, locate};

/// A model of text, of whichever family its `config.json` says.
#[derive(Debug, Clone)]
pub enum Model {
    /// An encoder.
    Bert(Box<Bert>),
    /// A decoder; its feature is the state of the last token.
    Llama(Box<Llama>),
}

#[derive(Deserialize)]
struct Kind {
    model_type: String,
}

impl Model {
    /// Loads a Hugging Face folder, a GGUF file, or a model of the hub by its id.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a family that is not known here; else as the family's own `load`.
    pub fn load(name: impl AsRef<Path>, device: &Device) -> Result<Self, Error> {
        let llama =
            |name: &Path| Llama::load(name, device).map(|model| Self::Llama(Box::new(model)));
        if GgufBase::is(name.as_ref()) {
            return llama(name.as_ref());
        }
        let folder = locate(name.as_ref())?;
        let path = folder.join("config.json");
        match json::<Kind>(&path)?.model_type.as_str() {
            "bert" | "roberta" | "xlm-roberta" | "distilbert" => {
                Bert::load(folder, device).map(|model| Self::Bert(Box::new(model)))
            }
            "llama" | "mistral" | "qwen2" | "qwen3" => llama(&folder),
            other => Err(Error::Unsupported {
                path,
                field: "model_type",
                value: other.to_owned(),
                known: "`bert`, `roberta`, `xlm-roberta`, `distilbert`, `llama`, `mistral`, `qwen2`, `qwen3`",
            }),
        }
    }

    /// With another pooling.
    ///
    /// # Errors
    /// [`Error::Pooling`] for one that the family does not have.
    pub fn with_pooling(self, pooling: Pooling) -> Result<Self, Error> {
        match (self, pooling) {
            (Self::Bert(model), Pooling::Mean | Pooling::Cls) => {
                Ok(Self::Bert(Box::new(model.with_pooling(pooling))))
            }
            (Self::Llama(model), Pooling::Last) => Ok(Self::Llama(model)),
            (Self::Bert(_), _) => Err(Error::Pooling {
                family: "an encoder",
                known: "`mean` and `cls`",
            }),
            (Self::Llama(_), _) => Err(Error::Pooling {
                family: "a decoder",
                known: "`last`",
            }),
        }
    }

    /// The longest sequence that the positions suffice for.
    pub fn max_tokens(&self) -> usize {
        match self {
            Self::Bert(model) => model.config().max_tokens(),
            Self::Llama(model) => model.config().max_position_embeddings,
        }
    }
}

impl Base for Model {
    fn modules(&self) -> &[Module] {
        match self {
            Self::Bert(model) => model.modules(),
            Self::Llama(model) => model.modules(),
        }
    }

    fn linear(&self, module: usize) -> &FrozenLinear {
        match self {
            Self::Bert(model) => model.linear(module),
            Self::Llama(model) => model.linear(module),
        }
    }
}

impl Layered for Model {
    type Batch = TokenBatch;

    fn depth(&self) -> usize {
        match self {
            Self::Bert(model) => model.depth(),
            Self::Llama(model) => model.depth(),
        }
    }

    fn parameters(&self) -> usize {
        match self {
            Self::Bert(model) => model.parameters(),
            Self::Llama(model) => model.parameters(),
        }
    }

    fn embed(&self, batch: &TokenBatch) -> Hidden {
        match self {
            Self::Bert(model) => model.embed(batch),
            Self::Llama(model) => model.embed(batch),
        }
    }

    fn layer(&self, layer: usize, hidden: Hidden, pass: &Pass) -> Hidden {
        match self {
            Self::Bert(model) => model.layer(layer, hidden, pass),
            Self::Llama(model) => model.layer(layer, hidden, pass),
        }
    }

    fn head(&self, hidden: Hidden, batch: &TokenBatch) -> Tensor<2> {
        match self {
            Self::Bert(model) => model.head(hidden, batch),
            Self::Llama(model) => model.head(hidden, batch),
        }
    }
}
