"""Writes the goldens of folding: tiny Llamas, adapters saved by PEFT, and what PEFT's merge_and_unload makes of both.

    python fold.py                   writes what is named below (needs torch, transformers and peft)
    python fold.py check PROGRAM     folds every adapter into every base with `PROGRAM BASE ADAPTER OUT` (examples/fold.rs), loads
                                     OUT with transformers and compares its logits with those of PEFT's merged model

fold/base_f32, fold/base_bf16    the same checkpoint, in one file and in several
fold/VARIANT/                    an adapter with random factors
fold/merged.safetensors          BASE/VARIANT/TENSOR, the tensors that merging changes
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile

import torch
import transformers as hf
from peft import HiraConfig, LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file

hf.logging.set_verbosity_error()
hf.logging.disable_progress_bar()
HERE = pathlib.Path(__file__).parent / "fold"
BASES = {"base_f32": (torch.float32, "1GB"), "base_bf16": (torch.bfloat16, "2KB")}
TARGETS = ["q_proj", "v_proj", "down_proj"]
ADAPTERS = {
    "lora": LoraConfig(r=3, lora_alpha=6, target_modules=TARGETS, rank_pattern={"v_proj": 2}, alpha_pattern={"down_proj": 5}),
    "rslora": LoraConfig(r=3, lora_alpha=4, use_rslora=True, target_modules=TARGETS),
    "dora": LoraConfig(r=3, lora_alpha=4, use_dora=True, target_modules=TARGETS),
    "hira": HiraConfig(r=3, target_modules=TARGETS),
}


def llama():
    torch.manual_seed(5)
    return hf.LlamaForCausalLM(
        hf.LlamaConfig(
            vocab_size=24, hidden_size=16, intermediate_size=20, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
            max_position_embeddings=16, initializer_range=0.3, tie_word_embeddings=False,
        )
    )


def load(base):
    return hf.AutoModelForCausalLM.from_pretrained(HERE / base, dtype=BASES[base][0]).eval()


def merged(base, variant):
    return PeftModel.from_pretrained(load(base), HERE / variant).merge_and_unload()


def make():
    shutil.rmtree(HERE, ignore_errors=True)
    for base, (dtype, size) in BASES.items():
        llama().to(dtype).save_pretrained(HERE / base, max_shard_size=size)
    for variant, config in ADAPTERS.items():
        torch.manual_seed(6)
        model = get_peft_model(load("base_f32"), config)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.2 * torch.randn_like(parameter))
        model.peft_config["default"].base_model_name_or_path = "base_f32"
        model.save_pretrained(HERE / variant)
        (HERE / variant / "README.md").unlink()
    tensors = {}
    for base in BASES:
        before = load(base).state_dict()
        for variant in ADAPTERS:
            for name, tensor in merged(base, variant).state_dict().items():
                if not torch.equal(tensor, before[name]):
                    tensors[f"{base}/{variant}/{name}"] = tensor.contiguous()
    save_file(tensors, HERE / "merged.safetensors")


def check(program):
    ids = torch.arange(2, 18).reshape(2, 8)
    for base, (dtype, _) in BASES.items():
        for variant in ADAPTERS:
            with tempfile.TemporaryDirectory() as folder, torch.no_grad():
                out = pathlib.Path(folder) / "folded"
                subprocess.run([program, HERE / base, HERE / variant, out], check=True, stdout=subprocess.DEVNULL)
                ours, notes = hf.AutoModelForCausalLM.from_pretrained(out, dtype="auto", output_loading_info=True)
                assert not any(notes.values()), notes
                assert ours.dtype == dtype, ours.dtype
                expected = merged(base, variant)
                plain = load(base)(ids).logits.float()
                theirs = expected(ids).logits.float()
                change = (theirs - plain).norm() / plain.norm()
                gap = (ours(ids).logits.float() - theirs).norm() / theirs.norm()
                print(f"{base} {variant}: logits change by {change:.3f}, differ from PEFT's by {gap:.1e}")
                assert change > 0.05 and gap < (1e-5 if dtype == torch.float32 else 2e-2)


if __name__ == "__main__":
    check(sys.argv[2]) if sys.argv[1:2] == ["check"] else make()
