use serde_json::{Value, json};

/// How byte-level BPE splits a text before it joins bytes: no token reaches over a split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Split {
    /// Contractions, words, numbers and the rest, each with the space before it: the pattern of GPT-2.
    Gpt2,
    /// Digits one by one, then as GPT-2.
    Digits,
    /// Numbers of at most three digits, line ends apart: Llama 3. A piece that is a token needs no merges.
    Llama3,
    /// As Llama 3, but digits one by one, and of texts in the normal form C: Qwen 2.
    Qwen2,
}

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

impl Split {
    /// The values of `tokenizer.ggml.pre` that are known.
    pub(super) const NAMES: [(&'static str, Self); 14] = [
        ("default", Self::Gpt2),
        ("gpt-2", Self::Gpt2),
        ("smollm", Self::Digits),
        ("starcoder", Self::Digits),
        ("refact", Self::Digits),
        ("command-r", Self::Digits),
        ("codeshell", Self::Digits),
        ("llama-bpe", Self::Llama3),
        ("llama3", Self::Llama3),
        ("llama-v3", Self::Llama3),
        ("smaug-bpe", Self::Llama3),
        ("qwen2", Self::Qwen2),
        ("deepseek-r1-qwen", Self::Qwen2),
        ("megrez", Self::Qwen2),
    ];

    pub(super) fn named(name: &str) -> Option<Self> {
        let known = Self::NAMES.iter().find(|(known, _)| *known == name);
        known.map(|&(_, split)| split)
    }

    /// Whether a sequence begins with BOS where a file does not say.
    pub(super) fn begins_with_bos(self) -> bool {
        self == Self::Llama3
    }

    /// Whether a piece that is a token as a whole becomes that token even where merges would not lead to it.
    pub(super) fn ignores_merges(self) -> bool {
        self == Self::Llama3
    }

    /// The parts of a `tokenizer.json` around its model.
    pub(super) fn json(self) -> Vec<(&'static str, Value)> {
        let bytes = |use_regex| {
            json!({
                "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex,
            })
        };
        let sequence =
            |first, second| json!({"type": "Sequence", "pretokenizers": [first, second]});
        let pattern = |regex| {
            json!({
                "type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false,
            })
        };
        let splits = match self {
            Self::Gpt2 => bytes(true),
            Self::Digits => {
                let digits = json!({"type": "Digits", "individual_digits": true});
                sequence(digits, bytes(true))
            }
            Self::Llama3 => sequence(pattern(LLAMA3), bytes(false)),
            Self::Qwen2 => sequence(pattern(QWEN2), bytes(false)),
        };
        let normalizer = match self {
            Self::Qwen2 => json!({"type": "NFC"}),
            _ => Value::Null,
        };
        vec![
            ("normalizer", normalizer),
            ("pre_tokenizer", splits),
            ("decoder", bytes(true)),
        ]
    }
}
