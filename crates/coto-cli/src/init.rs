use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};

/// What `coto init` writes; also a test of the defaults it tells of.
pub const RUN_FILE: &str = r#"# A run of coto. Train with `coto train run.toml`; check first with `coto validate run.toml`.
# Any value can be set from outside: `coto train run.toml --set optim.lr=1e-3`.

out = "runs/first"            # adapter folder, metrics and checkpoints go here
seed = 1
device = "cpu"                # cpu, wgpu[:n], cuda[:n]
players = "layer"             # who is switched on and off: layer, module, kind, { chunk = 2 }, { groups = { name = ["query"] } }

[model]
name = "all-MiniLM-L6-v2"     # a Hugging Face folder, a GGUF file, the embedded model, or a hub id
quant = "stored"              # the frozen matrices: as stored, or none, q8, q4, nf4
pooling = "mean"              # mean, cls; of a decoder: last

[data]                        # .jsonl, .csv, .tsv (also .gz) or .parquet
train = "wordnet-nouns/train.jsonl.gz"
validation = "wordnet-nouns/validation.jsonl.gz"
test = "wordnet-nouns/test.jsonl.gz"
text = "text"                 # names of the columns; `pair = "..."` for a second text
label = "label"
max_tokens = 64
few_shot = 20                 # rows a class; leave out to train on all of them

# [language]                  # instead of labels: texts to continue, for decoders
# packing = true
# [images]                    # instead of texts: images, for ViT and CLIP
# template = "a photo of a {}."

[head]
kind = "probe"                # probe: fitted on frozen features, then frozen; trained: learned with the adapters; checkpoint: its own
l2 = 0.03

[adapter]
variant = "lora"              # lora, rslora, dora, hira
rank = 8
alpha = 16.0
dropout = 0.0
targets = "all-linear"        # or names, as in ["query", "value"], or a regular expression for the whole path
init = "kaiming"              # kaiming, gaussian, orthogonal, pissa, olora

[schedule]
preset = "coto"               # coto, coto-reference, copra, stochastic-depth, none
# curve = "linear"            # linear, sine, constant, { exponential = { k = 3.0 } }
# p0 = 0.0                    # the share of players that is on at the start
# stage_ratio = 0.75          # the part of the run after which all are on
# profile = "uniform"         # uniform, higher-dropped, lower-dropped

[optim]
steps = 960
batch_size = 16
accumulation = 1
gradient_checkpointing = false # less memory, more time
prefix_cache_mib = 0          # MiB for the frozen layers' states below the lowest active layer: more memory, less time
lr = 1e-3
lora_plus_ratio = 1.0         # above 1: B learns faster than A (LoRA+)
weight_decay = 0.0
warmup = 48
decay = "linear"              # constant, linear, cosine
clip = 1.0

[eval]
every = 240                   # steps between evaluations on the validation rows
batch_size = 64
patience = 0                  # stop after so many evaluations without a better loss; 0: never
checkpoint_every = 200
"#;

pub fn run(path: &Path) -> Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .with_context(|| format!("{}", path.display()))?;
    file.write_all(RUN_FILE.as_bytes())
        .with_context(|| format!("{}", path.display()))?;
    eprintln!("wrote {}; next: coto train {0}", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use coto_train::RunConfig;

    #[test]
    fn the_commented_run_file_is_a_run_file() {
        let config = RunConfig::parse(super::RUN_FILE, "run.toml".as_ref(), &[]).unwrap();
        assert_eq!(config.data.few_shot, Some(20));
    }
}
