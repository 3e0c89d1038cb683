use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use coto_gguf::Gguf;
use tokenizers::Tokenizer;

use super::{ChatTemplate, DecodeStream, Message, folder, gguf};
use crate::error::{Error, shorten};

/// The tokenizer of a language model: a Hugging Face folder or a GGUF file read into text → ids → text, with the model's
/// special tokens and its chat template.
#[derive(Clone)]
pub struct LanguageTokenizer {
    pub(crate) name: String,
    pub(crate) tokenizer: Tokenizer,
    bos: Option<u32>,
    eos: Vec<u32>,
    pad: u32,
    size: usize,
    template: Option<ChatTemplate>,
}

/// What a folder or a GGUF file says, before it is checked.
pub(super) struct Parts {
    /// The path, for messages.
    pub(super) name: String,
    pub(super) tokenizer: Tokenizer,
    /// `bos_token`, `eos_token`, … by the names chat templates know them by.
    pub(super) special: BTreeMap<String, String>,
    /// Further tokens that end a turn or a text.
    pub(super) ends: Vec<u32>,
    /// The source of the chat template.
    pub(super) template: Option<String>,
}

impl LanguageTokenizer {
    /// Reads a `.gguf` file (see [`LanguageTokenizer::from_gguf`]) or a folder in the layout of Hugging Face:
    /// `tokenizer.json`, and where they are there `tokenizer_config.json`, `special_tokens_map.json`,
    /// `chat_template.jinja` and `generation_config.json`.
    ///
    /// What `tokenizer.json` says of truncation and padding does not count. Of a list of named chat templates `default` is
    /// taken.
    ///
    /// # Errors
    /// If a file cannot be read, names a token that the vocabulary lacks, or the chat template has a wrong syntax.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        match path
            .extension()
            .is_some_and(|extension| extension == "gguf")
        {
            true => Self::from_gguf(&Gguf::open(path)?),
            false => Self::build(folder::read(path)?),
        }
    }

    /// Builds the tokenizer that the metadata of a GGUF file describe: `gpt2`, byte-level BPE whose texts are split first as
    /// `tokenizer.ggml.pre` says, or `llama`, the BPE of SentencePiece, whose merges follow from the scores.
    ///
    /// Control tokens are found in texts and count as special, user-defined tokens are found and do not.
    ///
    /// # Errors
    /// If metadata are missing, do not fit together, or name a model or a split that is not known here.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self, Error> {
        Self::build(gguf::read(gguf)?)
    }

    fn build(parts: Parts) -> Result<Self, Error> {
        let Parts {
            name,
            mut tokenizer,
            special,
            ends,
            template,
        } = parts;
        tokenizer.with_padding(None);
        let fault = |reason: String| Error::Tokenizer {
            name: name.clone(),
            reason,
        };
        tokenizer
            .with_truncation(None)
            .map_err(|reason| fault(reason.to_string()))?;
        let id = |key: &str| match special.get(key) {
            None => Ok(None),
            Some(token) => tokenizer.token_to_id(token).map(Some).ok_or_else(|| {
                fault(format!(
                    "its {key} `{}` is not in the vocabulary",
                    shorten(token)
                ))
            }),
        };
        let (bos, end) = (id("bos_token")?, id("eos_token")?);
        let mut eos = Vec::new();
        for id in end.into_iter().chain(ends) {
            if !eos.contains(&id) {
                eos.push(id);
            }
        }
        if let Some(&id) = eos.iter().find(|&&id| tokenizer.id_to_token(id).is_none()) {
            return Err(Error::UnknownId { id, name });
        }
        let pad = id("pad_token")?.or(eos.first().copied()).unwrap_or(0);
        let ids = tokenizer.get_vocab(true).into_values();
        let size = ids.max().map_or(0, |id| id as usize + 1);
        let template = template
            .map(|source| ChatTemplate::new(&name, source, special))
            .transpose()?;
        Ok(Self {
            name,
            tokenizer,
            bos,
            eos,
            pad,
            size,
            template,
        })
    }

    /// The ids of a text; special tokens that it spells out become those tokens. With `special`, the beginning and the end
    /// of a sequence are marked as the model wants it, which a rendered chat has done already.
    ///
    /// # Errors
    /// If the tokenizer refuses the text.
    pub fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, Error> {
        let encoding = self.tokenizer.encode_fast(text, special);
        encoding
            .map(|encoding| encoding.get_ids().to_vec())
            .map_err(|reason| self.refused(&*reason))
    }

    /// The text of ids, without the special tokens if `skip_special`. Bytes that are no UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// If an id is not in the vocabulary.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, Error> {
        if let Some(&id) = ids.iter().find(|&&id| self.id_to_token(id).is_none()) {
            return Err(Error::UnknownId {
                id,
                name: self.name.clone(),
            });
        }
        self.tokenizer
            .decode(ids, skip_special)
            .map_err(|reason| self.refused(&*reason))
    }

    /// A decoder that takes one id at a time, for text that is shown while it is generated.
    pub fn stream(&self, skip_special: bool) -> DecodeStream<'_> {
        DecodeStream::new(self, skip_special)
    }

    /// The text of a conversation as the model's chat template has it, to be encoded without further special tokens; with
    /// `add_generation_prompt` it ends where the assistant's answer begins.
    ///
    /// # Errors
    /// If the model has no chat template, or the template refuses the conversation.
    pub fn chat(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String, Error> {
        match &self.template {
            Some(template) => template.render(messages, add_generation_prompt),
            None => Err(Error::NoChatTemplate {
                name: self.name.clone(),
            }),
        }
    }

    /// The chat template, if the model has one.
    pub fn template(&self) -> Option<&ChatTemplate> {
        self.template.as_ref()
    }

    /// Puts another chat template in the place of the model's own, or of none.
    #[must_use]
    pub fn with_template(mut self, template: ChatTemplate) -> Self {
        self.template = Some(template);
        self
    }

    /// The folder or file it was read from.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The token that begins a sequence, if the model has one; whether it is put there, [`LanguageTokenizer::encode`] knows.
    pub fn bos_id(&self) -> Option<u32> {
        self.bos
    }

    /// The tokens after which the model has nothing more to say, the proper one first; none if the files name none.
    pub fn eos_ids(&self) -> &[u32] {
        &self.eos
    }

    /// The token that fills up a batch: the one the files name, or else the first of the ends, or 0, which a mask hides as
    /// well as any other.
    pub fn pad_id(&self) -> u32 {
        self.pad
    }

    /// The id of a token, spelled as in the vocabulary.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    /// The token of an id, spelled as in the vocabulary.
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.tokenizer.id_to_token(id)
    }

    /// Whether an id is a special token, which a reader of the text does not see.
    pub fn is_special(&self, id: u32) -> bool {
        let added = self.tokenizer.get_added_vocabulary();
        self.tokenizer
            .id_to_token(id)
            .is_some_and(|token| added.is_special_token(&token))
    }

    /// One more than the largest id: the number of rows that an embedding must have at least.
    pub fn vocabulary_size(&self) -> usize {
        self.size
    }

    fn refused(&self, reason: &(dyn std::error::Error + 'static)) -> Error {
        Error::Tokenize {
            name: self.name.clone(),
            reason: shorten(&reason.to_string()),
        }
    }
}

impl fmt::Debug for LanguageTokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The vocabulary would fill a book.
        f.debug_struct("LanguageTokenizer")
            .field("name", &self.name)
            .field("bos", &self.bos)
            .field("eos", &self.eos)
            .field("pad", &self.pad)
            .finish_non_exhaustive()
    }
}
