//! The Llama family from GGUF files, as llama.cpp writes them.

use std::path::Path;

use coto_gguf::{Gguf, Metadata, Tensor};
use coto_kernels::Groups;

use super::LlamaConfig;
use crate::Error;

/// A layer's parts: the checkpoint's names and the file's.
const PARTS: [(&str, &str); 11] = [
    ("input_layernorm", "attn_norm"),
    ("post_attention_layernorm", "ffn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];
/// The rest.
const OTHERS: [(&str, &str); 3] = [
    ("model.embed_tokens.weight", "token_embd.weight"),
    ("model.norm.weight", "output_norm.weight"),
    ("lm_head.weight", "output.weight"),
];
/// What llama3's scaling divides the frequencies by.
const ROPE_FACTORS: &str = "rope_freqs.weight";

/// A GGUF file whose tensors answer to the names of a Hugging Face checkpoint.
#[derive(Debug)]
pub(crate) struct GgufBase {
    file: Gguf,
    /// The width of a head whose rows lie in pairs, which for architecture `llama` they do.
    paired: Option<usize>,
}

impl GgufBase {
    /// Whether a name is that of such a file.
    pub fn is(name: &Path) -> bool {
        name.extension().is_some_and(|end| end == "gguf")
    }

    pub fn open(path: &Path) -> Result<(Self, LlamaConfig), Error> {
        let file = Gguf::open(path)?;
        let config = config(&file)?;
        let paired = (config.model_type == "llama").then(|| config.head_size());
        Ok((Self { file, paired }, config))
    }

    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// The tensors under their checkpoint names; what has none under its own.
    pub fn names(&self) -> Vec<String> {
        let names = self.file.tensors().map(|tensor| tensor.name().to_owned());
        names
            .filter(|name| name != ROPE_FACTORS)
            .map(|name| there(&name).unwrap_or(name))
            .collect()
    }

    pub fn take(&self, key: &str, expected: &[usize]) -> Result<Vec<f32>, Error> {
        let values = self.tensor(key, expected)?.dequantise()?;
        let cols = expected.iter().skip(1).product();
        Ok(match self.turned(key) {
            Some(size) => halved(&values, size, cols),
            None => values,
        })
    }

    /// A matrix that is quantised, [out, in] in the file, as it is.
    pub fn groups(&self, key: &str, shape: [usize; 2]) -> Result<Option<Groups>, Error> {
        let Some(stored) = self.tensor(key, &shape)?.groups()? else {
            return Ok(None);
        };
        let [outputs, inputs] = shape;
        let mut groups = Groups {
            dims: [inputs, outputs],
            bits: stored.bits,
            group: stored.group,
            codes: stored.codes,
            scales: stored.scales,
            offsets: stored.offsets,
            codebook: None,
        };
        if let Some(size) = self.turned(key) {
            let a_row = inputs / groups.group;
            groups.codes = halved(&groups.codes, size, inputs * usize::from(groups.bits) / 8);
            groups.scales = halved(&groups.scales, size, a_row);
            groups.offsets = halved(&groups.offsets, size, a_row);
        }
        Ok(Some(groups))
    }

    fn tensor(&self, key: &str, expected: &[usize]) -> Result<Tensor<'_>, Error> {
        let tensor = self.file.tensor(&here(key))?;
        if tensor.shape() == expected {
            return Ok(tensor);
        }
        Err(Error::Shape {
            path: self.path().into(),
            key: tensor.name().to_owned(),
            found: tensor.shape().to_vec(),
            expected: expected.to_vec(),
        })
    }

    /// The width of the heads whose rows are to be put in another order.
    fn turned(&self, key: &str) -> Option<usize> {
        let turns = key.contains(".q_proj.") || key.contains(".k_proj.");
        self.paired.filter(|_| turns)
    }
}

/// The rows of each head with the two of a pair half a head apart, as Hugging Face has them, from rows with pairs side by side.
fn halved<T: Copy>(values: &[T], size: usize, cols: usize) -> Vec<T> {
    let rows = values.len() / cols.max(1);
    let order = (0..rows).map(|row| {
        let (head, place) = (row / size, row % size);
        let (half, pair) = (place / (size / 2), place % (size / 2));
        head * size + 2 * pair + half
    });
    let rows = order.flat_map(|row| &values[row * cols..(row + 1) * cols]);
    rows.copied().collect()
}

/// The file's name of a checkpoint's tensor.
fn here(key: &str) -> String {
    let other = OTHERS.iter().find(|(there, _)| *there == key);
    if let Some((_, here)) = other {
        return (*here).to_owned();
    }
    let layer = key.strip_prefix("model.layers.").and_then(|rest| {
        let (number, rest) = rest.split_once('.')?;
        let (part, kind) = rest.rsplit_once('.')?;
        let (_, here) = PARTS.iter().find(|(there, _)| *there == part)?;
        Some(format!("blk.{number}.{here}.{kind}"))
    });
    layer.unwrap_or_else(|| key.to_owned())
}

/// The checkpoint's name of a file's tensor.
fn there(name: &str) -> Option<String> {
    if let Some((there, _)) = OTHERS.iter().find(|(_, here)| *here == name) {
        return Some((*there).to_owned());
    }
    let (number, rest) = name.strip_prefix("blk.")?.split_once('.')?;
    let (part, kind) = rest.rsplit_once('.')?;
    let (there, _) = PARTS.iter().find(|(_, here)| *here == part)?;
    Some(format!("model.layers.{number}.{there}.{kind}"))
}

fn config(file: &Gguf) -> Result<LlamaConfig, Error> {
    let meta = file.metadata();
    let architecture = meta.get_str("general.architecture")?;
    let known = ["llama", "qwen2", "qwen3"];
    if !known.contains(&architecture) {
        return Err(Error::Unsupported {
            path: file.path().into(),
            field: "general.architecture",
            value: architecture.to_owned(),
            known: "`llama`, `qwen2`, `qwen3`",
        });
    }
    let key = |name: &str| format!("{architecture}.{name}");
    let number = |name: &str| Ok::<_, Error>(meta.get_u64(&key(name))? as usize);
    let optional = |name: &str| match meta.get(&key(name)) {
        Some(_) => number(name).map(Some),
        None => Ok(None),
    };
    let config = LlamaConfig {
        model_type: architecture.to_owned(),
        vocab_size: file.tensor("token_embd.weight")?.shape()[0],
        hidden_size: number("embedding_length")?,
        intermediate_size: number("feed_forward_length")?,
        num_hidden_layers: number("block_count")?,
        num_attention_heads: number("attention.head_count")?,
        num_key_value_heads: optional("attention.head_count_kv")?,
        head_dim: optional("attention.key_length")?.or(optional("rope.dimension_count")?),
        max_position_embeddings: number("context_length")?,
        rms_norm_eps: f64::from(meta.get_f32(&key("attention.layer_norm_rms_epsilon"))?),
        hidden_act: "silu".to_owned(),
        tie_word_embeddings: file.tensor("output.weight").is_err(),
        rope_theta: match meta.get(&key("rope.freq_base")) {
            Some(_) => Some(f64::from(meta.get_f32(&key("rope.freq_base"))?)),
            None => None,
        },
        rope_divisors: match file.tensor(ROPE_FACTORS) {
            Ok(factors) => Some(factors.dequantise()?),
            Err(_) => None,
        },
        rope_scaling: scaling(meta, &key("rope.scaling"))?,
        ..LlamaConfig::default()
    };
    config.check(file.path())?;
    Ok(config)
}

/// The scaling that the metadata name; llama3's is in the tensor of factors.
fn scaling(meta: &Metadata, key: &str) -> Result<Option<super::config::RopeParameters>, Error> {
    let kind = format!("{key}.type");
    if meta.get(&kind).is_none() {
        return Ok(None);
    }
    let kind = meta.get_str(&kind)?;
    let factor = match kind {
        "none" => return Ok(None),
        _ => meta.get_f32(&format!("{key}.factor"))?,
    };
    Ok(Some(super::config::RopeParameters {
        rope_type: Some(kind.to_owned()),
        factor: Some(f64::from(factor)),
        ..Default::default()
    }))
}
