use std::collections::{BTreeMap, HashMap};

use coto_gguf::{Gguf, Metadata};
use serde_json::{Value, json};
use tokenizers::Tokenizer;

use super::split::Split;
use super::tokenizer::Parts;
use crate::error::{Error, Nearest, shorten};

/// What chat templates call the tokens, and the keys that have their ids.
const SPECIAL: [(&str, &str); 4] = [
    ("bos_token", "tokenizer.ggml.bos_token_id"),
    ("eos_token", "tokenizer.ggml.eos_token_id"),
    ("unk_token", "tokenizer.ggml.unknown_token_id"),
    ("pad_token", "tokenizer.ggml.padding_token_id"),
];
/// Tokens that end a turn where a file names no more than the end of a text, as llama.cpp knows them.
const TURN_ENDS: [&str; 4] = ["<|eot_id|>", "<|im_end|>", "<end_of_turn>", "<|end|>"];

/// No piece of SentencePiece is longer, in bytes: it would take too long to cut it.
const LONGEST_PIECE: usize = 4096;

// The values of `tokenizer.ggml.token_type`.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const BYTE: i32 = 6;

/// The tokenizer that the metadata of a GGUF file describe, by way of the `tokenizer.json` it would have.
pub(super) fn read(gguf: &Gguf) -> Result<Parts, Error> {
    let vocabulary = Vocabulary::read(gguf)?;
    let json = vocabulary.json()?;
    let tokenizer = Tokenizer::from_bytes(json.to_string().as_bytes())
        .map_err(|reason| vocabulary.fault(&reason.to_string()))?;
    let mut special = BTreeMap::new();
    for (name, key) in SPECIAL {
        if let Some(id) = vocabulary.id(key)? {
            special.insert(name.to_owned(), vocabulary.tokens[id as usize].clone());
        }
    }
    let template = "tokenizer.chat_template";
    Ok(Parts {
        ends: vocabulary.ends()?,
        template: match gguf.metadata().get(template) {
            Some(_) => Some(gguf.metadata().get_str(template)?.to_owned()),
            None => None,
        },
        name: vocabulary.name,
        tokenizer,
        special,
    })
}

struct Vocabulary<'a> {
    name: String,
    metadata: &'a Metadata,
    tokens: &'a [String],
    types: Vec<i32>,
    /// The split of byte-level BPE; none for SentencePiece.
    split: Option<Split>,
}

impl<'a> Vocabulary<'a> {
    fn read(gguf: &'a Gguf) -> Result<Self, Error> {
        let (name, metadata) = (gguf.path().display().to_string(), gguf.metadata());
        let tokens = metadata.get_strings("tokenizer.ggml.tokens")?;
        let key = "tokenizer.ggml.token_type";
        let mut vocabulary = Self {
            types: match metadata.get(key) {
                Some(_) => metadata.get_i32s(key)?,
                None => vec![NORMAL; tokens.len()],
            },
            split: None,
            name,
            metadata,
            tokens,
        };
        vocabulary.same_length(key, vocabulary.types.len())?;
        let pre = "tokenizer.ggml.pre";
        vocabulary.split = match metadata.get_str("tokenizer.ggml.model")? {
            "llama" => None,
            "gpt2" => Some(match metadata.get(pre) {
                Some(_) => vocabulary.named(pre, metadata.get_str(pre)?)?,
                None => Split::Gpt2,
            }),
            other => {
                return Err(vocabulary.unknown("tokenizer.ggml.model", other, &["gpt2", "llama"]));
            }
        };
        Ok(vocabulary)
    }

    fn named(&self, key: &str, name: &str) -> Result<Split, Error> {
        Split::named(name).ok_or_else(|| {
            let known: Vec<&str> = Split::NAMES.iter().map(|(name, _)| *name).collect();
            self.unknown(key, name, &known)
        })
    }

    fn unknown(&self, key: &str, found: &str, known: &[&str]) -> Error {
        Error::UnknownTokenizer {
            name: self.name.clone(),
            key: key.to_owned(),
            found: shorten(found),
            nearest: Nearest::of(found, known.iter().copied()),
        }
    }

    fn fault(&self, reason: &str) -> Error {
        Error::Tokenizer {
            name: self.name.clone(),
            reason: shorten(reason),
        }
    }

    fn same_length(&self, key: &str, length: usize) -> Result<(), Error> {
        let tokens = self.tokens.len();
        match length == tokens {
            true => Ok(()),
            false => Err(self.fault(&format!("{key} has {length} entries for {tokens} tokens"))),
        }
    }

    /// The id under a key, if the key is there.
    fn id(&self, key: &str) -> Result<Option<u32>, Error> {
        if self.metadata.get(key).is_none() {
            return Ok(None);
        }
        let (id, tokens) = (self.metadata.get_u32(key)?, self.tokens.len());
        match (id as usize) < tokens {
            true => Ok(Some(id)),
            false => Err(self.fault(&format!("{key} is {id}, but there are {tokens} tokens"))),
        }
    }

    fn flag(&self, key: &str, default: bool) -> Result<bool, Error> {
        match self.metadata.get(key) {
            Some(_) => Ok(self.metadata.get_bool(key)?),
            None => Ok(default),
        }
    }

    fn ends(&self) -> Result<Vec<u32>, Error> {
        let mut ends = Vec::new();
        for key in ["tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"] {
            ends.extend(self.id(key)?);
        }
        let named = |id: &usize| {
            self.types[*id] == CONTROL && TURN_ENDS.contains(&self.tokens[*id].as_str())
        };
        ends.extend((0..self.tokens.len()).filter(named).map(|id| id as u32));
        Ok(ends)
    }

    /// The whole as a `tokenizer.json`.
    fn json(&self) -> Result<Value, Error> {
        // Of a token that is there twice the last counts, as in llama.cpp.
        let ids: HashMap<&str, usize> = self.ids().collect();
        let vocab: serde_json::Map<String, Value> = ids
            .iter()
            .map(|(&token, &id)| (token.to_owned(), id.into()))
            .collect();
        let (mut model, rest) = match self.split {
            Some(split) => (self.byte_level(split)?, split.json()),
            None => (self.sentence_piece(&ids)?, self.spaces()?),
        };
        model["type"] = "BPE".into();
        model["vocab"] = Value::Object(vocab);
        let mut json = json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": self.added(&ids),
            "post_processor": self.ends_of_sequence()?,
            "model": model,
        });
        for (key, value) in rest {
            json[key] = value;
        }
        Ok(json)
    }

    fn ids(&self) -> impl Iterator<Item = (&'a str, usize)> {
        self.tokens.iter().map(String::as_str).zip(0..)
    }

    /// The tokens that are found in a text before anything else.
    fn added(&self, ids: &HashMap<&str, usize>) -> Vec<Value> {
        let added = self.ids().filter_map(|(token, id)| {
            let special = matches!(self.types[id], CONTROL | UNKNOWN);
            let wanted = (special || self.types[id] == USER_DEFINED) && ids[token] == id;
            (wanted && !token.is_empty()).then(|| {
                json!({
                    "id": id, "content": token, "special": special, "normalized": false,
                    "single_word": false, "lstrip": false, "rstrip": false,
                })
            })
        });
        added.collect()
    }

    /// BOS and EOS around a sequence, where the file wants them.
    fn ends_of_sequence(&self) -> Result<Value, Error> {
        let begins = self.split.is_none_or(Split::begins_with_bos);
        let mut single = vec![json!({"Sequence": {"id": "A", "type_id": 0}})];
        let mut special = serde_json::Map::new();
        for (name, default, first) in [("bos", begins, true), ("eos", false, false)] {
            if !self.flag(&format!("tokenizer.ggml.add_{name}_token"), default)? {
                continue;
            }
            let key = format!("tokenizer.ggml.{name}_token_id");
            let Some(id) = self.id(&key)? else {
                return Err(self.fault(&format!("{key} is missing, but the token is to be added")));
            };
            let token = &self.tokens[id as usize];
            let piece = json!({"SpecialToken": {"id": token, "type_id": 0}});
            single.insert(if first { 0 } else { single.len() }, piece);
            special.insert(
                token.clone(),
                json!({"id": token, "ids": [id], "tokens": [token]}),
            );
        }
        // Nobody encodes pairs.
        let pair = json!([{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}]);
        Ok(json!({
            "type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special,
        }))
    }

    fn byte_level(&self, split: Split) -> Result<Value, Error> {
        let pair = |merge: &String| {
            // A token may begin with a space.
            let start = merge.chars().next().map_or(0, char::len_utf8);
            match merge[start..].split_once(' ') {
                Some((_, right)) => Ok(json!([merge[..merge.len() - right.len() - 1], right])),
                None => Err(self.fault(&format!("the merge `{merge}` is no pair of tokens"))),
            }
        };
        let merges = self.metadata.get_strings("tokenizer.ggml.merges")?;
        let merges: Vec<Value> = merges.iter().map(pair).collect::<Result<_, _>>()?;
        Ok(json!({"merges": merges, "ignore_merges": split.ignores_merges()}))
    }

    /// The BPE of SentencePiece joins the two neighbours whose union has the best score: each way to cut a piece in two
    /// pieces is a merge, of the rank of the whole.
    fn sentence_piece(&self, ids: &HashMap<&str, usize>) -> Result<Value, Error> {
        let scores = self.metadata.get_f32s("tokenizer.ggml.scores")?;
        self.same_length("tokenizer.ggml.scores", scores.len())?;
        let normal = |id: usize| self.types[id] == NORMAL;
        let mut pieces: Vec<(&str, usize)> = self
            .ids()
            .filter(|&(token, id)| normal(id) && ids[token] == id)
            .collect();
        if let Some((_, id)) = pieces.iter().find(|(piece, _)| piece.len() > LONGEST_PIECE) {
            return Err(self.fault(&format!("token {id} is longer than {LONGEST_PIECE} bytes")));
        }
        pieces.sort_by(|a, b| scores[b.1].total_cmp(&scores[a.1]));
        let known = |piece: &str| ids.get(piece).is_some_and(|&id| normal(id));
        let mut merges = Vec::new();
        for (piece, _) in pieces {
            for (cut, _) in piece.char_indices().skip(1) {
                let (left, right) = piece.split_at(cut);
                if known(left) && known(right) {
                    merges.push(json!([left, right]));
                }
            }
        }
        let unknown = self.types.iter().position(|&kind| kind == UNKNOWN);
        Ok(json!({
            "merges": merges,
            "unk_token": unknown.map(|id| &self.tokens[id]),
            "fuse_unk": true,
            "byte_fallback": self.types.contains(&BYTE),
        }))
    }

    /// The parts of a `tokenizer.json` around the model of SentencePiece, which writes `▁` for a space, and one before each
    /// text.
    fn spaces(&self) -> Result<Vec<(&'static str, Value)>, Error> {
        let space = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
        let mut normalizers = vec![space];
        let mut decoders = vec![
            json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
            json!({"type": "ByteFallback"}),
            json!({"type": "Fuse"}),
        ];
        if self.flag("tokenizer.ggml.add_space_prefix", true)? {
            normalizers.insert(0, json!({"type": "Prepend", "prepend": "▁"}));
            decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
        }
        Ok(vec![
            (
                "normalizer",
                json!({"type": "Sequence", "normalizers": normalizers}),
            ),
            ("pre_tokenizer", Value::Null),
            ("decoder", json!({"type": "Sequence", "decoders": decoders})),
        ])
    }
}
