"""Writes the goldens of the Llama family beside it, as make.py does: tiny checkpoints, an adapter, and what is computed from them.

    python llama.py     (needs torch, transformers and peft)

models/NAME/                a checkpoint, and expected.safetensors: a padded batch (`ids`, `mask`), its `logits` where the mask
                            is 1, and `greedy`: the first tokens of row 0, continued by the likeliest
models/llama3/config.old.json   the same configuration with the keys of transformers 4
adapters/llama_lora/        an adapter of models/llama3 with random factors
llama_steps.safetensors     the batch with `labels`, the adapted `logits`, COALITION/loss and the gradient of each factor that took
                            part, COALITION/MODULE.FACTOR; character i of a coalition is 1 if layer i has its adapters
packing.safetensors         SAMPLE/ids and SAMPLE/logits of two sequences, each run alone through models/llama3
llama_rope.safetensors      NAME: the inverse frequencies of published configurations, for models/llama3 is too small to have
                            one that its scaling leaves as it is
"""

import contextlib
import json
import pathlib
import shutil

import torch
import transformers as hf
from peft import LoraConfig, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import save_file
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

hf.logging.set_verbosity_error()
hf.logging.disable_progress_bar()
torch.set_num_threads(1)
HERE = pathlib.Path(__file__).parent

SIZES = dict(vocab_size=96, hidden_size=24, intermediate_size=36, max_position_embeddings=64)
SIZES |= dict(num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
LLAMA3 = dict(rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0)
DEFAULT = dict(rope_type="default")


def llama(**config):
    return hf.LlamaConfig(**SIZES | config)


CONFIGS = {
    "llama2": llama(num_key_value_heads=4),
    # Its head_dim is not hidden_size / num_attention_heads.
    "llama3": llama(head_dim=8, max_position_embeddings=128, rope_parameters=LLAMA3 | dict(original_max_position_embeddings=16)),
    "llama_linear": llama(rope_parameters=dict(rope_type="linear", rope_theta=10000.0, factor=2.0)),
    "smollm2": llama(tie_word_embeddings=True, rms_norm_eps=1e-5, rope_parameters=dict(DEFAULT, rope_theta=100000.0)),
    "mistral": hf.MistralConfig(**SIZES, head_dim=12, sliding_window=5),
    "qwen2": hf.Qwen2Config(**SIZES, tie_word_embeddings=True, rope_parameters=dict(DEFAULT, rope_theta=1000000.0)),
    "qwen3": hf.Qwen3Config(**SIZES, head_dim=16, rope_parameters=dict(DEFAULT, rope_theta=1000000.0)),
}

ROPES = {"Llama-3.1-8B": (128, 8.0), "Llama-3.2-1B": (64, 32.0)}  # the heads' dimensions, and the factor

ADAPTER = LoraConfig(
    task_type="CAUSAL_LM",
    r=3,
    lora_alpha=6,
    target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    rank_pattern={"layers.0.self_attn.q_proj": 2, "v_proj": 4, r"layers\.1\.mlp\.(gate|up)_proj": 1},
    alpha_pattern={"layers.1.self_attn.k_proj": 3, "down_proj": 6.5},
)


def inputs():
    torch.manual_seed(1)
    mask = torch.arange(12) < torch.tensor([[12], [9], [6]])
    ids = torch.randint(1, 96, mask.shape) * mask
    return {"ids": ids.int(), "mask": mask.int()}


def run(model, batch, **labels):
    return model(input_ids=batch["ids"].long(), attention_mask=batch["mask"].long(), **labels)


def greedy(model, row):
    """The first 4 tokens and 8 more, each surely the likeliest."""
    model.generation_config.eos_token_id = None
    rows = model.generate(row[None, :4].long(), do_sample=False, max_new_tokens=8)
    first, second = model(input_ids=rows).logits[0, 3:-1].topk(2).values.unbind(-1)
    assert rows.shape == (1, 12) and (first - second).min() > 0.005
    return rows[0].int()


def load(name):
    how = dict(dtype=torch.float32, attn_implementation="eager")
    return hf.AutoModelForCausalLM.from_pretrained(HERE / "models" / name, **how).eval()


@torch.no_grad()
def save_model(model, name, batch, **how):
    folder = HERE / "models" / name
    model.save_pretrained(folder, **how)
    (folder / "generation_config.json").unlink()  # nobody reads it
    model = load(name)
    expected = {"logits": run(model, batch).logits, "greedy": greedy(model, batch["ids"][0])}
    save_file(batch | expected, folder / "expected.safetensors")


@torch.no_grad()
def make_model(name, batch):
    torch.manual_seed(2)
    model = hf.AutoModelForCausalLM.from_config(CONFIGS[name])
    for path, parameter in model.named_parameters():
        parameter.copy_(0.3 * torch.randn_like(parameter) + ("norm" in path))
    save_model(model, name, batch)


def old_config():
    folder = HERE / "models/llama3"
    config = json.loads((folder / "config.json").read_text())
    del config["transformers_version"]
    config["torch_dtype"] = config.pop("dtype")
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = rope
    (folder / "config.old.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def make_adapter():
    torch.manual_seed(3)
    model = get_peft_model(load("llama3"), ADAPTER).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(0.2 * torch.randn_like(parameter))
    folder = HERE / "adapters/llama_lora"
    model.save_pretrained(folder)
    (folder / "README.md").unlink()  # an empty form of 5 KB
    file = folder / "adapter_config.json"
    config = json.loads(file.read_text())
    config["base_model_name_or_path"] = "models/llama3"  # not where it lies here
    config["target_modules"].sort()  # PEFT's order is another in each run
    file.write_text(json.dumps(config, indent=2) + "\n")
    return model


@contextlib.contextmanager
def only(model, coalition):
    """Runs the model with the adapters of the layers that are 1 in the coalition's text; the others are not even entered."""
    layers = zip(model.base_model.model.model.layers, coalition, strict=True)
    off = [m for layer, on in layers if on == "0" for m in layer.modules() if isinstance(m, BaseTunerLayer)]
    for module in off:
        module.forward = module.base_layer.forward
    yield
    for module in off:
        del module.forward


def step(model, coalition, batch):
    model.zero_grad()
    with only(model, coalition):
        # transformers shifts the labels, and takes the mean over all that count.
        loss = run(model, batch, labels=batch["labels"].long()).loss
        loss.backward()
    found = {"loss": loss.detach().reshape(1)}
    for path, parameter in model.named_parameters():
        if parameter.grad is not None:
            found[path.removeprefix("base_model.model.").replace(".default", "")] = parameter.grad.clone()
    return {f"{coalition}/{key}": tensor for key, tensor in found.items()}


def steps(batch):
    model = make_adapter()
    labels = batch["ids"].where(batch["mask"].bool(), torch.tensor(-100, dtype=torch.int32))
    labels[:, :3] = -100
    batch = batch | {"labels": labels}
    with torch.no_grad():
        found = batch | {"logits": run(model, batch).logits}
    for coalition in ["11", "10", "01"]:
        found |= step(model, coalition, batch)
    return found


@torch.no_grad()
def packing():
    torch.manual_seed(4)
    model, found = load("llama3"), {}
    for sample, length in enumerate([5, 7]):
        ids = torch.randint(1, 96, (length,))
        found |= {f"{sample}/ids": ids.int(), f"{sample}/logits": model(input_ids=ids[None]).logits[0]}
    return found


def rope(head_dim, factor):
    parameters = LLAMA3 | dict(factor=factor, original_max_position_embeddings=8192)
    config = llama(head_dim=head_dim, max_position_embeddings=131072, rope_parameters=parameters)
    return ROPE_INIT_FUNCTIONS["llama3"](config)[0]


def main():
    for folder in ["adapters/llama_lora", *(f"models/{name}" for name in [*CONFIGS, "smollm2_bf16", "llama_sharded"])]:
        shutil.rmtree(HERE / folder, ignore_errors=True)
    batch = inputs()
    for name in CONFIGS:
        make_model(name, batch)
    save_model(load("smollm2").bfloat16(), "smollm2_bf16", batch)
    save_model(load("llama3"), "llama_sharded", batch, max_shard_size="40KB")
    old_config()
    save_file(steps(batch), HERE / "llama_steps.safetensors")
    save_file(packing(), HERE / "packing.safetensors")
    save_file({name: rope(*how) for name, how in ROPES.items()}, HERE / "llama_rope.safetensors")


if __name__ == "__main__":
    main()
