use std::path::Path;

use tokenizers::{EncodeInput, Encoding, PostProcessor, Tokenizer, TruncationParams};

use crate::LanguageTokenizer;
use crate::dataset::{Dataset, Example};
use crate::error::{Error, shorten};

/// Examples encoded between two conversions: the tokenizer's own result is many times as large as the ids kept of it.
const AT_ONCE: usize = 1024;

/// The tokens of one example, special tokens included; both vectors have one entry a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// Token ids.
    pub ids: Vec<u32>,
    /// Segment ids: 1 for the second text of a pair, where the tokenizer tells them apart.
    pub types: Vec<u32>,
}

/// A Hugging Face tokenizer that truncates and leaves padding to [`collate`](crate::collate).
#[derive(Debug, Clone)]
pub struct Encoder {
    tokenizer: Tokenizer,
    pad_id: u32,
}

impl Encoder {
    /// Reads a `tokenizer.json`, or the tokenizer of a `.gguf` file. Longer examples are cut on the right to `max_length` tokens, special tokens included, from the
    /// longer text of a pair first; what the file says of truncation and padding does not count.
    ///
    /// # Errors
    /// If the file cannot be read, or `max_length` has no room for text.
    pub fn load(path: impl AsRef<Path>, max_length: usize) -> Result<Self, Error> {
        let path = path.as_ref();
        if path.extension().is_some_and(|end| end == "gguf") {
            let LanguageTokenizer {
                name, tokenizer, ..
            } = LanguageTokenizer::load(path)?;
            return Self::cutting(&name, tokenizer, max_length);
        }
        let bytes = std::fs::read(path).map_err(|reason| Error::Open {
            path: path.into(),
            reason,
        })?;
        Self::parse(&path.display().to_string(), &bytes, max_length)
    }

    /// Like [`Encoder::load`], from the content of a `tokenizer.json`.
    ///
    /// # Errors
    /// The same, with `tokenizer` in place of the path.
    pub fn from_bytes(bytes: &[u8], max_length: usize) -> Result<Self, Error> {
        Self::parse("tokenizer", bytes, max_length)
    }

    fn parse(name: &str, bytes: &[u8], max_length: usize) -> Result<Self, Error> {
        let tokenizer = Tokenizer::from_bytes(bytes).map_err(fault(name))?;
        Self::cutting(name, tokenizer, max_length)
    }

    fn cutting(name: &str, mut tokenizer: Tokenizer, max_length: usize) -> Result<Self, Error> {
        let special = tokenizer
            .get_post_processor()
            .map_or(0, |added| added.added_tokens(true));
        if max_length <= special {
            return Err(Error::MaxLength {
                max_length,
                special,
            });
        }
        let pad_id = padding(&tokenizer);
        tokenizer.with_padding(None);
        let truncation = TruncationParams {
            max_length,
            ..TruncationParams::default()
        };
        tokenizer
            .with_truncation(Some(truncation))
            .map_err(fault(name))?;
        Ok(Self { tokenizer, pad_id })
    }

    /// The token that fills up a batch: the one the file pads with, or `[PAD]`, `<pad>` or `<|endoftext|>` of its vocabulary, or
    /// 0, which a mask hides as well as any other.
    pub fn pad_id(&self) -> u32 {
        self.pad_id
    }

    /// Encodes all examples, in their order.
    ///
    /// # Errors
    /// If the tokenizer refuses an example, which those without a token for the unknown may do.
    pub fn encode(&self, data: &Dataset) -> Result<Vec<Tokens>, Error> {
        let mut tokens = Vec::with_capacity(data.examples.len());
        for (chunk, examples) in data.examples.chunks(AT_ONCE).enumerate() {
            let inputs = examples.iter().map(input).collect();
            let encodings = self
                .tokenizer
                .encode_batch_fast(inputs, true)
                .map_err(|fault| {
                    let culprit = examples.iter().position(|example| {
                        self.tokenizer.encode_fast(input(example), true).is_err()
                    });
                    Error::Encode {
                        example: chunk * AT_ONCE + culprit.unwrap_or(0),
                        reason: shorten(&fault.to_string()),
                    }
                })?;
            tokens.extend(encodings.iter().map(kept));
        }
        Ok(tokens)
    }
}

fn fault(name: &str) -> impl FnOnce(tokenizers::Error) -> Error {
    let name = name.to_owned();
    move |reason| Error::Tokenizer {
        name,
        reason: shorten(&reason.to_string()),
    }
}

fn input(example: &Example) -> EncodeInput<'_> {
    match &example.pair {
        Some(pair) => (example.text.as_str(), pair.as_str()).into(),
        None => example.text.as_str().into(),
    }
}

fn kept(encoding: &Encoding) -> Tokens {
    Tokens {
        ids: encoding.get_ids().to_vec(),
        types: encoding.get_type_ids().to_vec(),
    }
}

fn padding(tokenizer: &Tokenizer) -> u32 {
    let usual = ["[PAD]", "<pad>", "<|endoftext|>"];
    match tokenizer.get_padding() {
        Some(padding) => padding.pad_id,
        None => usual
            .iter()
            .find_map(|token| tokenizer.token_to_id(token))
            .unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words and pieces by id: [PAD] 0, [UNK] 1, [CLS] 2, [SEP] 3, a 4, good 5, film 6, ##s 7, bad 8.
    fn tokenizer(unknown: &str) -> String {
        r###"{
          "version": "1.0",
          "truncation": {"direction": "Left", "max_length": 4, "strategy": "OnlySecond", "stride": 1},
          "padding": {"strategy": {"Fixed": 12}, "direction": "Left", "pad_to_multiple_of": null,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"},
          "added_tokens": [],
          "normalizer": {"type": "Lowercase"},
          "pre_tokenizer": {"type": "Whitespace"},
          "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
          "decoder": null,
          "model": {"type": "WordPiece", "unk_token": "UNKNOWN", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "a": 4,
            "good": 5, "film": 6, "##s": 7, "bad": 8}}
        }"###
            .replace("UNKNOWN", unknown)
    }

    fn encoder(max_length: usize) -> Encoder {
        Encoder::from_bytes(tokenizer("[UNK]").as_bytes(), max_length).unwrap()
    }

    fn dataset(texts: &[(&str, Option<&str>)]) -> Dataset {
        let example = |&(text, pair): &(&str, Option<&str>)| Example {
            text: text.into(),
            pair: pair.map(String::from),
            label: 0,
        };
        Dataset {
            examples: texts.iter().map(example).collect(),
            labels: vec!["only".into()],
        }
    }

    #[test]
    fn pairs_get_segment_ids_and_nothing_is_padded() {
        let data = dataset(&[
            ("A good film", None),
            ("films", Some("bad odd")),
            ("", None),
        ]);
        let tokens = encoder(16).encode(&data).unwrap();
        assert_eq!(tokens[0].ids, [2, 4, 5, 6, 3]);
        assert_eq!(tokens[0].types, [0; 5]);
        assert_eq!(tokens[1].ids, [2, 6, 7, 3, 8, 1, 3]);
        assert_eq!(tokens[1].types, [0, 0, 0, 0, 1, 1, 1]);
        assert_eq!(tokens[2].ids, [2, 3]);
    }

    #[test]
    fn truncation_is_ours_on_the_right_and_from_the_longer_text() {
        let data = dataset(&[
            ("a good film a bad film", None),
            ("a good bad", Some("film")),
        ]);
        let tokens = encoder(5).encode(&data).unwrap();
        assert_eq!(tokens[0].ids, [2, 4, 5, 6, 3]);
        assert_eq!(tokens[1].ids, [2, 4, 3, 6, 3]);
    }

    #[test]
    fn the_order_holds_over_many_chunks() {
        let lengths: Vec<usize> = (0..3 * AT_ONCE + 5).map(|i| i * 31 % 13).collect();
        let texts: Vec<String> = lengths
            .iter()
            .map(|&length| "bad ".repeat(length))
            .collect();
        let data = dataset(
            &texts
                .iter()
                .map(|text| (text.as_str(), None))
                .collect::<Vec<_>>(),
        );
        let tokens = encoder(64).encode(&data).unwrap();
        assert!(tokens.iter().map(|tokens| tokens.ids.len() - 2).eq(lengths));
    }

    #[test]
    fn a_length_without_room_for_text_is_refused() {
        for max_length in [0, 2, 3] {
            let message = Encoder::from_bytes(tokenizer("[UNK]").as_bytes(), max_length)
                .unwrap_err()
                .to_string();
            assert!(
                message.contains(&format!("max_length {max_length} "))
                    && message.contains("3 special"),
                "{message}"
            );
        }
    }

    #[test]
    fn a_refused_text_is_named() {
        let encoder = Encoder::from_bytes(tokenizer("[MISSING]").as_bytes(), 16).unwrap();
        let mut texts = vec![("good", None); AT_ONCE + 10];
        texts[AT_ONCE + 3] = ("odd", None);
        let message = encoder.encode(&dataset(&texts)).unwrap_err().to_string();
        assert!(
            message.contains(&format!("example {} ", AT_ONCE + 3)),
            "{message}"
        );
    }

    #[test]
    fn an_unreadable_tokenizer_is_named() {
        let message = Encoder::from_bytes(b"{}", 16).unwrap_err().to_string();
        assert!(message.starts_with("tokenizer: unreadable"), "{message}");
        let message = Encoder::load("no/such/tokenizer.json", 16)
            .unwrap_err()
            .to_string();
        assert!(message.contains("no/such/tokenizer.json"), "{message}");
    }

    #[test]
    fn the_padding_token_comes_from_the_file_or_its_vocabulary() {
        assert_eq!(encoder(16).pad_id(), 0);
        let json =
            |name: &str| tokenizer("[UNK]").replace("\"film\": 6", &format!("\"{name}\": 6"));
        let file_says = json("<pad>").replace("\"pad_id\": 0", "\"pad_id\": 8");
        assert_eq!(
            Encoder::from_bytes(file_says.as_bytes(), 16)
                .unwrap()
                .pad_id(),
            8
        );

        let mut silent: serde_json::Value =
            serde_json::from_str(&json("<pad>").replace("\"[PAD]\": 0", "\"x\": 0")).unwrap();
        silent["padding"] = serde_json::Value::Null;
        assert_eq!(
            Encoder::from_bytes(silent.to_string().as_bytes(), 16)
                .unwrap()
                .pad_id(),
            6
        );
    }
}
