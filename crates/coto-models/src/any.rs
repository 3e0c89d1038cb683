use std::path::Path;

use burn::tensor::{Device, Tensor};
use coto_adapters::{Base, FrozenLinear, Pass};
use coto_coalition::Module;
use serde::Deserialize;

use crate::config::json;
use crate::llama::GgufBase;
use crate::{
    BaseQuant, Bert, Clip, Error, Hidden, ImageBatch, Layered, Llama, Pooling, TokenBatch, Vit,
    locate,
};

/// A model of whichever family its `config.json` says.
#[derive(Debug, Clone)]
pub enum Model {
    /// An encoder of text.
    Bert(Box<Bert>),
    /// A decoder of text; its feature is the state of the last token.
    Llama(Box<Llama>),
    /// An encoder of images.
    Vit(Box<Vit>),
    /// An encoder of images and one of texts; what comes out is a logit for each image and text.
    Clip(Box<Clip>),
}

/// What goes into a [`Model`].
#[derive(Debug, Clone)]
pub enum Input {
    /// Tokens, for encoders and decoders of text.
    Tokens(Box<TokenBatch>),
    /// Images, for encoders of images.
    Images(Box<ImageBatch>),
}

impl Input {
    /// Some of the rows, in the order given.
    pub fn select(&self, rows: &[usize]) -> Self {
        match self {
            Self::Tokens(batch) => Self::Tokens(Box::new(batch.select(rows))),
            Self::Images(batch) => Self::Images(Box::new(batch.select(rows))),
        }
    }

    /// Which rows of what goes into a linear, [rows · width, in], stand for tokens and not for padding; `None` where all do.
    pub fn tokens(&self, module: &Module) -> Option<Vec<bool>> {
        let batch = match self {
            Self::Tokens(batch) => Some(batch.as_ref()),
            // The prompts are seen by the tower of texts alone.
            Self::Images(batch) if module.path.starts_with("text_model.") => batch.prompts.as_ref(),
            Self::Images(_) => None,
        };
        let mask = batch?.mask.as_ref()?;
        Some(mask.to_data().iter().collect())
    }

    /// The device on which it lies.
    pub fn device(&self) -> Device {
        match self {
            Self::Tokens(batch) => batch.ids.device(),
            Self::Images(batch) => batch.pixels.device(),
        }
    }
}

#[derive(Deserialize)]
struct Kind {
    model_type: String,
}

/// One expression for the model of every family.
macro_rules! each {
    ($self:expr, $model:ident => $do:expr) => {
        match $self {
            Model::Bert($model) => $do,
            Model::Llama($model) => $do,
            Model::Vit($model) => $do,
            Model::Clip($model) => $do,
        }
    };
}

/// One expression for the model of every family and the batch that it takes.
macro_rules! fed {
    ($self:expr, $input:expr, $model:ident, $batch:ident => $do:expr) => {
        match ($self, $input) {
            (Model::Bert($model), Input::Tokens($batch)) => $do,
            (Model::Llama($model), Input::Tokens($batch)) => $do,
            (Model::Vit($model), Input::Images($batch)) => $do,
            (Model::Clip($model), Input::Images($batch)) => $do,
            (model, _) => panic!("{} takes no such input", model.family()),
        }
    };
}

impl Model {
    /// Loads a Hugging Face folder, a GGUF file, or a model of the hub by its id.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a family that is not known here; else as the family's own `load`.
    pub fn load(name: impl AsRef<Path>, device: &Device) -> Result<Self, Error> {
        Self::load_as(name, BaseQuant::Stored, device)
    }

    /// [`load`](Self::load), with the matrices of its linears dense or quantised as is said.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_as(
        name: impl AsRef<Path>,
        quant: BaseQuant,
        device: &Device,
    ) -> Result<Self, Error> {
        let llama = |name: &Path| {
            Llama::load_as(name, quant, device).map(|model| Self::Llama(Box::new(model)))
        };
        if GgufBase::is(name.as_ref()) {
            return llama(name.as_ref());
        }
        let folder = locate(name.as_ref())?;
        let path = folder.join("config.json");
        match json::<Kind>(&path)?.model_type.as_str() {
            "bert" | "roberta" | "xlm-roberta" | "distilbert" => {
                Bert::load_as(folder, quant, device).map(|model| Self::Bert(Box::new(model)))
            }
            "llama" | "mistral" | "qwen2" | "qwen3" => llama(&folder),
            "vit" => Vit::load_as(folder, quant, device).map(|model| Self::Vit(Box::new(model))),
            "clip" => Clip::load_as(folder, quant, device).map(|model| Self::Clip(Box::new(model))),
            other => Err(Error::Unsupported {
                path,
                field: "model_type",
                value: other.to_owned(),
                known: "`bert`, `roberta`, `xlm-roberta`, `distilbert`, `llama`, `mistral`, `qwen2`, `qwen3`, `vit`, `clip`",
            }),
        }
    }

    /// What kind of model it is, for messages.
    pub fn family(&self) -> &'static str {
        match self {
            Self::Bert(_) => "an encoder",
            Self::Llama(_) => "a decoder",
            Self::Vit(_) => "an image encoder",
            Self::Clip(_) => "a model of images and texts",
        }
    }

    /// With another pooling.
    ///
    /// # Errors
    /// [`Error::Pooling`] for one that the family does not have.
    pub fn with_pooling(self, pooling: Pooling) -> Result<Self, Error> {
        let known = match (self, pooling) {
            (Self::Bert(model), Pooling::Mean | Pooling::Cls) => {
                return Ok(Self::Bert(Box::new(model.with_pooling(pooling))));
            }
            (model @ Self::Llama(_), Pooling::Last) | (model @ Self::Vit(_), Pooling::Cls) => {
                return Ok(model);
            }
            (model, _) => (
                model.family(),
                match model {
                    Self::Bert(_) => "`mean` and `cls`",
                    Self::Llama(_) => "`last`",
                    Self::Vit(_) => "`cls`",
                    Self::Clip(_) => "none",
                },
            ),
        };
        let (family, known) = known;
        Err(Error::Pooling { family, known })
    }

    /// The longest sequence that the positions suffice for, of a model of text.
    pub fn max_tokens(&self) -> Option<usize> {
        match self {
            Self::Bert(model) => Some(model.config().max_tokens()),
            Self::Llama(model) => Some(model.config().max_position_embeddings),
            Self::Vit(_) | Self::Clip(_) => None,
        }
    }

    /// The shape of the images that it takes, [channels, height, width], if it takes any.
    pub fn image_shape(&self) -> Option<[usize; 3]> {
        match self {
            Self::Bert(_) | Self::Llama(_) => None,
            Self::Vit(model) => Some(model.config().image_shape()),
            Self::Clip(model) => Some(model.config().vision.image_shape()),
        }
    }
}

impl Base for Model {
    fn modules(&self) -> &[Module] {
        each!(self, model => model.modules())
    }

    fn linear(&self, module: usize) -> &FrozenLinear {
        each!(self, model => model.linear(module))
    }
}

/// Embedding and head panic for an input that is not of the model's kind.
impl Layered for Model {
    type Batch = Input;

    fn depth(&self) -> usize {
        each!(self, model => model.depth())
    }

    fn parameters(&self) -> usize {
        each!(self, model => model.parameters())
    }

    fn bytes(&self) -> usize {
        each!(self, model => model.bytes())
    }

    fn embed(&self, input: &Input) -> Hidden {
        fed!(self, input, model, batch => model.embed(batch))
    }

    fn resume(&self, states: Tensor<2>, input: &Input) -> Option<Hidden> {
        fed!(self, input, model, batch => model.resume(states, batch))
    }

    fn layer(&self, layer: usize, hidden: Hidden, pass: &Pass) -> Hidden {
        each!(self, model => model.layer(layer, hidden, pass))
    }

    fn head(&self, hidden: Hidden, input: &Input) -> Tensor<2> {
        fed!(self, input, model, batch => model.head(hidden, batch))
    }
}
