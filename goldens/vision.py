"""Writes the goldens of the vision models beside it, as make.py does: tiny checkpoints, adapters, and what is computed from them.

    python vision.py     (needs torch, transformers and peft)

models/vit/, models/vit_bare/   checkpoints with a classifier and without, and expected.safetensors: `pixels`, the states at each
                                depth, `hidden.DEPTH`, the `features`, the number of `parameters`, the first one's `logits`
models/clip/, models/clip_gelu/ the same of two towers: `ids` and `mask`, `text.DEPTH`, `vision.DEPTH`, both towers' features
                                `texts` and `images`, and `logits`, [images, prompts]
adapters/vit_lora/, adapters/clip_lora/   adapters of models/vit and models/clip with random factors
vision_steps.safetensors        NAME/labels; NAME/logits, adapted; NAME/COALITION/loss and the gradient of each factor that took
                                part, NAME/COALITION/MODULE.FACTOR; character i of a coalition is 1 if layer i has its adapters,
                                and the text tower's layers come first
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

hf.logging.set_verbosity_error()
hf.logging.disable_progress_bar()
torch.set_num_threads(1)
HERE = pathlib.Path(__file__).parent
EAGER = dict(dtype=torch.float32, attn_implementation="eager")
EOS = 49  # of the prompts

VIT = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=8, patch_size=4)
TEXT = dict(vocab_size=50, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2)
TEXT |= dict(max_position_embeddings=10, eos_token_id=EOS)
VISION = dict(hidden_size=24, intermediate_size=32, num_hidden_layers=3, num_attention_heads=3, image_size=8, patch_size=4)

VITS = {
    "vit": lambda: hf.ViTForImageClassification(hf.ViTConfig(**VIT, id2label={0: "shirt", 1: "shoe", 2: "bag"})),
    # With a pooler, which is nobody's feature.
    "vit_bare": lambda: hf.ViTModel(hf.ViTConfig(**VIT | dict(image_size=6, patch_size=2, num_channels=1), qkv_bias=False)).half(),
}
CLIPS = {
    "clip": (TEXT, VISION, 12),
    # Its feature is the state of the largest token, as in the configurations that were published first.
    "clip_gelu": (
        TEXT | dict(hidden_size=24, num_hidden_layers=1, num_attention_heads=4, hidden_act="gelu", eos_token_id=2),
        VISION | dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, num_channels=1, patch_size=2, hidden_act="gelu"),
        20,
    ),
}

ADAPTERS = {
    "vit_lora": LoraConfig(r=3, lora_alpha=6, target_modules=["q_proj", "v_proj", "fc1"]),
    "clip_lora": LoraConfig(
        r=3,
        lora_alpha=6,
        target_modules=["q_proj", "k_proj", "v_proj"],
        rank_pattern={"vision_model.encoder.layers.0.self_attn.q_proj": 2},
        alpha_pattern={"text_model.encoder.layers.1.self_attn.v_proj": 4.5},
    ),
}


def clip(text, vision, projection):
    config = hf.CLIPConfig(text_config=text, vision_config=vision, projection_dim=projection)
    return hf.CLIPModel(config)


def pixels(config):
    torch.manual_seed(1)
    return torch.randn(4, config.num_channels, config.image_size, config.image_size)


def prompts():
    """Four prompts, the last without its end; the padding is the end token again, as CLIP's tokenizer has it."""
    torch.manual_seed(2)
    mask = torch.arange(7) < torch.tensor([[7], [4], [6], [7]])
    ids = torch.randint(3, EOS, mask.shape)
    ends = torch.arange(7) >= mask.sum(1, keepdim=True) - 1
    ends[3] = False
    return {"ids": ids.where(~ends, torch.tensor(EOS)).int(), "mask": mask.int()}


@torch.no_grad()
def save(make, name):
    torch.manual_seed(3)
    model = make()
    for path, parameter in model.named_parameters():
        if path != "logit_scale":  # norms too: they begin as ones and zeros
            parameter.add_(0.3 * torch.randn_like(parameter))
    shutil.rmtree(HERE / "models" / name, ignore_errors=True)
    model.save_pretrained(HERE / "models" / name)


def parameters(model):
    return torch.tensor([sum(parameter.numel() for parameter in model.parameters())], dtype=torch.int32)


def vit(name):
    return hf.ViTModel.from_pretrained(HERE / "models" / name, add_pooling_layer=False, **EAGER).eval()


def classifier(name):
    return hf.ViTForImageClassification.from_pretrained(HERE / "models" / name, **EAGER).eval().classifier


def features(model, images):
    return model(pixel_values=images).last_hidden_state[:, 0].contiguous()


def depths(name, states):
    return {f"{name}.{depth}": tensor.contiguous() for depth, tensor in enumerate(states)}


@torch.no_grad()
def make_vit(name):
    save(VITS[name], name)
    model = vit(name)
    images = pixels(model.config)
    states = model(pixel_values=images, output_hidden_states=True).hidden_states
    found = {"pixels": images, "features": features(model, images), "parameters": parameters(model)}
    if name == "vit":
        found["logits"] = classifier(name)(found["features"])
    save_file(found | depths("hidden", states), HERE / "models" / name / "expected.safetensors")


def run(model, batch, **how):
    return model(input_ids=batch["ids"].long(), attention_mask=batch["mask"].long(), pixel_values=batch["pixels"], **how)


@torch.no_grad()
def make_clip(name):
    save(lambda: clip(*CLIPS[name]), name)
    model = hf.CLIPModel.from_pretrained(HERE / "models" / name, **EAGER).eval()
    batch = prompts() | {"pixels": pixels(model.config.vision_config)}
    found = run(model, batch, output_hidden_states=True)
    outputs = {"texts": found.text_embeds, "images": found.image_embeds, "logits": found.logits_per_image.contiguous()}
    outputs |= depths("text", found.text_model_output.hidden_states) | depths("vision", found.vision_model_output.hidden_states)
    outputs["parameters"] = parameters(model)
    save_file(batch | outputs, HERE / "models" / name / "expected.safetensors")


def adapt(model, name, base):
    torch.manual_seed(4)
    model = get_peft_model(model, ADAPTERS[name]).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(0.2 * torch.randn_like(parameter))
    folder = HERE / "adapters" / name
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    (folder / "README.md").unlink()  # an empty form of 5 KB
    file = folder / "adapter_config.json"
    config = json.loads(file.read_text())
    config["base_model_name_or_path"] = f"models/{base}"  # not where it lies here
    config["target_modules"].sort()  # PEFT's order is another in each run
    file.write_text(json.dumps(config, indent=2) + "\n")
    return model


@contextlib.contextmanager
def only(layers, coalition):
    """Runs the model with the adapters of the layers that are 1 in the coalition's text; the others are not even entered."""
    pairs = zip(layers, coalition, strict=True)
    off = [m for layer, on in pairs if on == "0" for m in layer.modules() if isinstance(m, BaseTunerLayer)]
    for module in off:
        module.forward = module.base_layer.forward
    yield
    for module in off:
        del module.forward


def steps(model, layers, logits, labels, coalitions):
    """What the coalitions' steps compute, and the logits with all adapters."""
    found = {"labels": torch.tensor(labels, dtype=torch.int32), "logits": logits().detach().contiguous()}
    for coalition in coalitions:
        model.zero_grad()
        with only(layers, coalition):
            loss = torch.nn.functional.cross_entropy(logits(), found["labels"].long())
            loss.backward()
        found[f"{coalition}/loss"] = loss.detach().reshape(1)
        for path, parameter in model.named_parameters():
            if parameter.grad is not None:
                path = path.removeprefix("base_model.model.").replace(".default", "")
                found[f"{coalition}/{path}"] = parameter.grad.clone()
    return found


def vit_steps():
    model, head = adapt(vit("vit"), "vit_lora", "vit"), classifier("vit")
    head.requires_grad_(False)
    images = pixels(model.config)
    return steps(model, model.base_model.model.layers, lambda: head(features(model, images)), [2, 0, 1, 1], ["11", "10", "01"])


def clip_steps():
    model = hf.CLIPModel.from_pretrained(HERE / "models/clip", **EAGER)
    model = adapt(model, "clip_lora", "clip")
    towers = model.base_model.model
    batch = prompts() | {"pixels": pixels(towers.config.vision_config)}
    layers = [*towers.text_model.encoder.layers, *towers.vision_model.encoder.layers]
    # Everybody, some of both towers, and each tower alone.
    coalitions = ["11111", "01010", "00101", "10000"]
    return steps(model, layers, lambda: run(model, batch).logits_per_image, [1, 2, 0, 3], coalitions)


def main():
    for name in VITS:
        make_vit(name)
    for name in CLIPS:
        make_clip(name)
    found = {"vit": vit_steps(), "clip": clip_steps()}
    found = {f"{name}/{key}": tensor for name, steps in found.items() for key, tensor in steps.items()}
    save_file(found, HERE / "vision_steps.safetensors")


if __name__ == "__main__":
    main()
