"""Writes folders/: adapters of a toy model, saved by real PEFT, and folders/facts.json with what PEFT computes from them.

    python make_folders.py     (needs torch and peft)
"""

import json
import pathlib
import shutil

import torch
from peft import HiraConfig, LoraConfig, __version__, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer

HERE = pathlib.Path(__file__).parent / "folders"


class Layer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.query = torch.nn.Linear(6, 4)
        self.value = torch.nn.Linear(6, 5)

    def forward(self, x):
        return torch.cat([self.query(x), self.value(x)], dim=-1)[..., :6]


class Toy(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.ModuleList([Layer(), Layer()])
        self.head = torch.nn.Linear(6, 3)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


CONFIGS = {
    "lora": LoraConfig(r=2, lora_alpha=4, lora_dropout=0.1, target_modules=["query", "value"]),
    "lora_bf16": LoraConfig(r=2, lora_alpha=4, target_modules=["query", "value"]),
    "rslora": LoraConfig(
        r=4,
        lora_alpha=8,
        use_rslora=True,
        target_modules=["query", "value", "head"],
        rank_pattern={"layers.0.query": 2, "value": 3},
        alpha_pattern={"^layers.1.value": 5, "head": 6.5},
    ),
    "dora": LoraConfig(r=2, lora_alpha=3, use_dora=True, target_modules=r"layers\.\d+\.(query|value)"),
    "hira": HiraConfig(r=3, target_modules=["query", "value"]),
    # PEFT 0.21.2 looks up HiRA's rank pattern and then forgets it: every rank in this file is 3.
    "hira_rank_pattern": HiraConfig(r=3, target_modules=["query", "value"], rank_pattern={"layers.1.value": 2}),
}


def main():
    shutil.rmtree(HERE, ignore_errors=True)
    facts = {"peft": __version__, "modules": {}}
    for name, config in CONFIGS.items():
        torch.manual_seed(7)
        model = get_peft_model(Toy(), config)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.copy_(torch.randn_like(parameter))
        if name.endswith("bf16"):
            model = model.to(torch.bfloat16)
        model.save_pretrained(HERE / name)
        (HERE / name / "README.md").unlink()  # an empty form of 5 KB
        facts["modules"][name] = {
            path.removeprefix("base_model.model."): {
                "r": module.r["default"],
                "scaling": module.scaling["default"] if hasattr(module, "scaling") else 1.0,  # HiRA has none
            }
            for path, module in model.named_modules()
            if isinstance(module, BaseTunerLayer)
        }
    (HERE / "facts.json").write_text(json.dumps(facts) + "\n")


if __name__ == "__main__":
    main()
