"""Writes the goldens beside it: tiny checkpoints saved by transformers, adapters saved by PEFT, and what both compute from them.

    python make.py     (needs torch, transformers and peft)

inputs.safetensors     a padded batch for every model, with labels and a linear head for the training step
models/NAME/           a checkpoint, and expected.safetensors: the last hidden states and their mean over the tokens
adapters/NAME/         an adapter of models/bert with random factors
adapters.safetensors   NAME/features, and NAME/dropped: one module's output for the rows `x` with `dropped` in the place of dropout's
steps.safetensors      NAME/COALITION/loss and the gradient of each factor that took part, NAME/COALITION/MODULE.FACTOR
init.safetensors       INIT/MODULE: the product s B A [out, in] with which PiSSA and OLoRA begin
"""

import contextlib
import json
import pathlib
import shutil

import torch
import transformers as hf
from peft import HiraConfig, LoraConfig, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import save_file

hf.logging.set_verbosity_error()
hf.logging.disable_progress_bar()
HERE = pathlib.Path(__file__).parent
DROPPED = "encoder.layer.0.intermediate.dense"

SIZES = dict(vocab_size=64, type_vocab_size=2, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48)
BERT = hf.BertConfig(max_position_embeddings=16, **SIZES)
MODELS = {
    "bert": lambda: hf.BertModel(BERT),
    "bert_classifier": lambda: hf.BertForSequenceClassification(BERT),
    "bert_f16": lambda: hf.BertModel(BERT),
    "roberta": lambda: hf.RobertaModel(hf.RobertaConfig(max_position_embeddings=18, pad_token_id=1, **SIZES)),
    "distilbert": lambda: hf.DistilBertModel(
        hf.DistilBertConfig(vocab_size=64, max_position_embeddings=16, dim=32, n_layers=2, n_heads=4, hidden_dim=48)
    ),
}

ADAPTERS = {
    "lora": LoraConfig(r=3, lora_alpha=6, target_modules=["query", "value", "intermediate.dense"]),
    "rslora": LoraConfig(
        r=4,
        lora_alpha=8,
        use_rslora=True,
        target_modules=["query", "value", "dense"],
        rank_pattern={"layer.0.attention.self.query": 2, "intermediate.dense": 5},
        alpha_pattern={"layer.1.attention.self.value": 3, "output.dense": 6.5},
    ),
    "dora": LoraConfig(r=3, lora_alpha=4, use_dora=True, target_modules=["key", "dense"]),
    "hira": HiraConfig(r=3, target_modules=r"encoder\..*\.(query|key|value|dense)"),
}


def inputs():
    torch.manual_seed(1)
    mask = torch.arange(7) < torch.tensor([[7], [4], [5]])
    ids = torch.randint(2, 64, mask.shape).where(mask, torch.tensor(1))
    return {
        "ids": ids.int(),
        "types": (torch.arange(7) >= torch.tensor([[3], [2], [7]])).int(),
        "mask": mask.int(),
        "labels": torch.tensor([2, 0, 1], dtype=torch.int32),
        "head.weight": 0.3 * torch.randn(3, 32),
        "head.bias": 0.3 * torch.randn(3),
    }


def forward(model, batch):
    """The last hidden states [rows, width, d], and their mean over the tokens [rows, d]."""
    mask = batch["mask"]
    types = {} if model.config.model_type == "distilbert" else {"token_type_ids": batch["types"]}
    hidden = model(input_ids=batch["ids"].long(), attention_mask=mask.long(), **types).last_hidden_state
    return hidden, (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


@torch.no_grad()
def make_model(name, batch):
    torch.manual_seed(2)
    model = MODELS[name]().eval()
    for parameter in model.parameters():
        parameter.add_(0.3 * torch.randn_like(parameter))  # norms too: they begin as ones and zeros
    if name.endswith("f16"):
        model = model.half()
    model.save_pretrained(HERE / "models" / name)
    hidden, features = forward(getattr(model.float(), "bert", model), batch)
    save_file({"hidden": hidden, "features": features}, HERE / "models" / name / "expected.safetensors")


def bert():
    # The pooler is left out, for it is no part of a layered model and PEFT would adapt it too.
    return hf.BertModel.from_pretrained(HERE / "models/bert", add_pooling_layer=False).eval()


def adapted(model):
    """The adapted modules by path."""
    prefix = "base_model.model."
    return {p.removeprefix(prefix): m for p, m in model.named_modules() if isinstance(m, BaseTunerLayer)}


def make_adapter(name):
    torch.manual_seed(3)
    model = get_peft_model(bert(), ADAPTERS[name]).eval()
    with torch.no_grad():
        for path, parameter in model.named_parameters():
            if "magnitude" in path:
                parameter.mul_(1 + 0.3 * torch.randn_like(parameter))
            elif parameter.requires_grad:
                parameter.copy_(0.2 * torch.randn_like(parameter))
    save_adapter(model, HERE / "adapters" / name)
    return model


def save_adapter(model, folder):
    model.save_pretrained(folder)
    (folder / "README.md").unlink()  # an empty form of 5 KB
    file = folder / "adapter_config.json"
    config = json.loads(file.read_text())
    config["base_model_name_or_path"] = "models/bert"  # not where it lies here
    if isinstance(config["target_modules"], list):
        config["target_modules"].sort()  # PEFT's order is another in each run
    file.write_text(json.dumps(config, indent=2) + "\n")


class Instead(torch.nn.Module):
    """Dropout that drops what we say."""

    def __init__(self, dropped):
        super().__init__()
        self.dropped = dropped

    def forward(self, x):
        return self.dropped


@torch.no_grad()
def dropped(model, rows):
    module = adapted(model)[DROPPED]
    drops = module.hira_dropout if hasattr(module, "hira_dropout") else module.lora_dropout
    plain, drops["default"] = drops["default"], Instead(rows["dropped"])
    output = module.train()(rows["x"])
    drops["default"] = plain
    module.eval()
    return output


@contextlib.contextmanager
def only(model, coalition):
    """Runs the model with the adapters that are 1 in the coalition's text; the others are not even entered."""
    off = [module for module, on in zip(adapted(model).values(), coalition, strict=True) if on == "0"]
    for module in off:
        module.forward = module.base_layer.forward
    yield
    for module in off:
        del module.forward


def step(model, coalition, batch):
    model.zero_grad()
    with only(model, coalition):
        features = forward(model, batch)[1]
        logits = torch.nn.functional.linear(features, batch["head.weight"], batch["head.bias"])
        loss = torch.nn.functional.cross_entropy(logits, batch["labels"].long())
        loss.backward()
    found = {"loss": loss.detach().reshape(1)}
    for path, parameter in model.named_parameters():
        if parameter.grad is not None:
            path = path.removeprefix("base_model.model.").replace(".default", "")
            path = path.removesuffix(".weight") if "magnitude" in path else path  # as PEFT's files have it
            found[path] = parameter.grad.clone()
    return found


def coalitions(n):
    """Everybody, the upper layer, and a few of both layers."""
    return ["1" * n, "0" * (n // 2) + "1" * (n // 2), ("100110" * n)[:n]]


def begin(init):
    """What the initialisation subtracts from W and adds back as s B A."""
    torch.manual_seed(4)
    config = LoraConfig(r=3, lora_alpha=6, init_lora_weights=init, target_modules=["dense"])
    model = get_peft_model(bert(), config)
    return {f"{init}/{path}": module.get_delta_weight("default").detach() for path, module in adapted(model).items()}


def main():
    for folder in [*(f"models/{name}" for name in MODELS), *(f"adapters/{name}" for name in ADAPTERS)]:
        shutil.rmtree(HERE / folder, ignore_errors=True)
    batch = inputs()
    save_file(batch, HERE / "inputs.safetensors")
    for name in MODELS:
        make_model(name, batch)

    torch.manual_seed(5)
    x = torch.randn(5, 32)
    outputs = {"x": x, "dropped": torch.nn.functional.dropout(x, 0.4)}
    steps = {}
    for name in ADAPTERS:
        model = make_adapter(name)
        with torch.no_grad():
            outputs[f"{name}/features"] = forward(model, batch)[1]
        outputs[f"{name}/dropped"] = dropped(model, outputs)
        for coalition in coalitions(len(adapted(model))):
            found = step(model, coalition, batch)
            steps |= {f"{name}/{coalition}/{key}": tensor for key, tensor in found.items()}
    save_file(outputs, HERE / "adapters.safetensors")
    save_file(steps, HERE / "steps.safetensors")
    save_file({k: v.contiguous() for init in ["pissa", "olora"] for k, v in begin(init).items()}, HERE / "init.safetensors")


if __name__ == "__main__":
    main()
