"""Writes two of the Llama goldens as GGUF files, gguf/NAME.gguf in f32, as llama.cpp's converter has them, and a quantised one.

    python gguf_files.py     (needs torch, transformers, gguf; llama.py first)

Rows of the queries' and keys' projections lie in pairs, and a llama3 scaling is a tensor of divisors. What must come of them is in
models/NAME/expected.safetensors. The file without scaling is read again by transformers and compared. gguf/quantised.gguf holds a
model of its own in several types; gguf/quantised.safetensors what transformers makes of it: `ids` and their `logits`.
"""

import json
import math
import pathlib

import gguf
import torch
import transformers as hf
from safetensors.torch import load_file, save_file

HERE = pathlib.Path(__file__).parent
PARTS = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
OTHERS = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight", "lm_head.weight": "output.weight"}


def paired(weight, heads):
    return weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


def divisors(rope, size):
    for i in range(0, size, 2):
        frequency = rope["rope_theta"] ** (-i / size)
        turns = rope["original_max_position_embeddings"] * frequency / (2 * math.pi)
        keep = (turns - rope["low_freq_factor"]) / (rope["high_freq_factor"] - rope["low_freq_factor"])
        keep = min(max(keep, 0.0), 1.0)
        yield 1.0 / ((1.0 - keep) / rope["factor"] + keep)


def write(name, config, tensors, type_of=lambda key: "F32"):
    rope, heads, kv_heads = config["rope_parameters"], config["num_attention_heads"], config["num_key_value_heads"]
    path = HERE / "gguf" / f"{name}.gguf"
    path.parent.mkdir(exist_ok=True)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_rope_dimension_count(config["head_dim"])
    if config["head_dim"] * heads != config["hidden_size"]:
        writer.add_key_length(config["head_dim"])
        writer.add_value_length(config["head_dim"])
    writer.add_vocab_size(config["vocab_size"])
    if rope["rope_type"] == "llama3":
        writer.add_tensor("rope_freqs.weight", torch.tensor(list(divisors(rope, config["head_dim"]))).float().numpy())
    for key, tensor in sorted(tensors.items()):
        if key not in OTHERS:
            layer, part = key.removeprefix("model.layers.").split(".", 1)
            part, kind = part.rsplit(".", 1)
            if part in ["self_attn.q_proj", "self_attn.k_proj"]:
                tensor = paired(tensor, heads if part.endswith("q_proj") else kv_heads)
            key = f"blk.{layer}.{PARTS[part]}.{kind}"
        key, numbers = OTHERS.get(key, key), tensor.float().contiguous().numpy()
        quant = gguf.GGMLQuantizationType[type_of(key) if numbers.ndim == 2 else "F32"]
        writer.add_tensor(key, gguf.quants.quantize(numbers, quant), raw_dtype=quant)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def golden(name):
    folder = HERE / "models" / name
    return write(name, json.loads((folder / "config.json").read_text()), load_file(folder / "model.safetensors"))


def read(path):
    return hf.AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32).eval()


@torch.no_grad()
def check(path, name):
    golden = load_file(HERE / "models" / name / "expected.safetensors")
    logits = read(path)(input_ids=golden["ids"].long(), attention_mask=golden["mask"].long()).logits
    worst = ((logits - golden["logits"]).abs() * golden["mask"][..., None]).max().item()
    print(f"{name}: transformers reads the file with logits {worst:.1e} off")
    assert worst < 1e-4


@torch.no_grad()
def quantised():
    torch.manual_seed(3)
    sizes = dict(vocab_size=96, hidden_size=64, intermediate_size=96, max_position_embeddings=64, num_hidden_layers=2)
    heads = dict(num_attention_heads=4, num_key_value_heads=2, head_dim=16, tie_word_embeddings=True)
    config = hf.LlamaConfig(**sizes, **heads, rope_parameters=dict(rope_type="default", rope_theta=10000.0))
    tensors = dict(hf.LlamaForCausalLM(config).named_parameters())
    tensors = {key: 0.3 * torch.randn_like(tensor) + ("norm" in key) for key, tensor in tensors.items()}
    kinds = {"attn_q": "Q4_0", "attn_k": "Q4_1", "ffn_gate": "Q4_0", "ffn_up": "Q4_1"}
    kind = lambda key: next((kind for part, kind in kinds.items() if part in key), "Q8_0")
    path = write("quantised", config.to_dict(), tensors, kind)
    ids = torch.randint(1, 96, (1, 12))
    expected = {"ids": ids[0].int(), "logits": read(path)(input_ids=ids).logits[0]}
    save_file(expected, path.with_suffix(".safetensors"))


golden("llama3")
check(golden("smollm2"), "smollm2")
quantised()
