"""Merges of LoRA folders in PyTorch, f32, two threads: PEFT's, and those of one module as the papers' repositories have them.

python merging.py DIR. The folders of DIR, in the order of their names, get the weights 0.3. Each line of standard input is a
question, each line of standard output its answer: milliseconds, the MiB that the merge took beyond what was there before it, and
the Frobenius norm of the merged update, over all modules.

| question | answer |
|---|---|
| `cat` | PEFT's `add_weighted_adapter`, all modules |
| `svd RANK [MODULE ...]` | the same, all modules or some |
| `dense-svd RANK` | ΔW formed and decomposed |
| `dense-knots` | KnOTS with TIES: all ΔW side by side, decomposed |
| `factors-core` | Core Space with TIES as its authors have it: the factors side by side, decomposed; then ΔW |
| `dense-core` | the same of all ΔW, side by side and stacked, decomposed: other bases of the same spaces, so TIES keeps others |

TIES keeps a fifth of the entries, elects signs by sums and takes means.
"""

import json
import pathlib
import re
import sys
import time
import warnings

import torch
from peft import PeftModel
from safetensors.torch import load_file

warnings.simplefilter("ignore")
torch.set_num_threads(2)
WEIGHT, DENSITY = 0.3, 0.2
FOLDERS = sorted(path for path in pathlib.Path(sys.argv[1]).iterdir() if path.is_dir())


def status(field):
    (kib,) = re.findall(rf"{field}:\s+(\d+) kB", pathlib.Path("/proc/self/status").read_text())
    return int(kib) / 1024


def measured(work):
    """Milliseconds, and the most memory over what was there before."""
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    before, start = status("VmRSS"), time.perf_counter()
    result = work()
    return result, [1e3 * (time.perf_counter() - start), status("VmHWM") - before]


def tensors(folder):
    """A and B with the scale in it, by module."""
    config = json.loads((folder / "adapter_config.json").read_text())
    found = {}
    for key, tensor in load_file(folder / "adapter_model.safetensors").items():
        path, factor = re.fullmatch(r"base_model\.model\.(.*)\.lora_([AB])\.weight", key).groups()
        found.setdefault(path, {})[factor] = tensor
    for factors in found.values():
        factors["B"] = factors["B"] * (config["lora_alpha"] / config["r"])
    return found


def model(modules):
    """Linear modules at these paths, whose weights are never touched and so take no memory."""
    root = torch.nn.Module()
    root.config = {"model_type": "custom"}
    for path, factors in modules.items():
        *parents, name = path.split(".")
        at = root
        for parent in parents:
            if not hasattr(at, parent):
                at.add_module(parent, torch.nn.Module())
            at = getattr(at, parent)
        linear = torch.nn.Linear(factors["A"].shape[1], factors["B"].shape[0], bias=False, device="meta")
        at.add_module(name, linear.to_empty(device="cpu"))
    return root


def peft(rank=None, only=(), **options):
    modules = {path: factors for path, factors in tensors(FOLDERS[0]).items() if not only or path in only}
    merged = PeftModel.from_pretrained(model(modules), FOLDERS[0], adapter_name="0")
    for index, folder in enumerate(FOLDERS[1:], 1):
        merged.load_adapter(folder, adapter_name=str(index))
    names = [str(index) for index in range(len(FOLDERS))]

    def work():
        merged.base_model.add_weighted_adapter(names, [WEIGHT] * len(names), "merged", svd_rank=rank, **options)

    _, answer = measured(work)
    square = 0.0
    for layer in merged.modules():
        if hasattr(layer, "lora_A") and "merged" in layer.lora_A:
            a, b = layer.lora_A["merged"].weight.double(), layer.lora_B["merged"].weight.double()
            square += ((b.T @ b) * (a @ a.T)).sum().item() * layer.scaling["merged"] ** 2
    return answer + [square**0.5]


def ties(tasks):
    """The sum of sums' signs, the mean of what agrees."""
    trimmed = []
    for task in tasks:
        least = task.abs().flatten().kthvalue(task.numel() - int(DENSITY * task.numel()) + 1).values
        trimmed.append(torch.where(task.abs() >= least, task, 0))
    tasks = torch.stack(trimmed)
    sign = torch.where(tasks.sum(0) >= 0, 1, -1)
    agree = tasks.sign() == sign
    return WEIGHT * (tasks * agree).sum(0) / agree.sum(0).clamp(min=1)


def dense(work):
    (factors,) = zip(*[tensors(folder).values() for folder in FOLDERS])
    merged, answer = measured(lambda: work(factors))
    return answer + [torch.linalg.matrix_norm(merged.double()).item()]


def dense_svd(factors, rank):
    delta = sum(WEIGHT * (each["B"] @ each["A"]) for each in factors)
    u, s, v = torch.linalg.svd(delta, full_matrices=False)
    return (u[:, :rank] * s[:rank]) @ v[:rank]


def dense_knots(factors):
    deltas = torch.cat([each["B"] @ each["A"] for each in factors], dim=1)
    u, s, v = torch.linalg.svd(deltas, full_matrices=False)
    kept = s > 1e-5 * s[0]
    tasks = (s[kept, None] * v[kept]).chunk(len(factors), dim=1)
    return u[:, kept] @ ties(tasks)


def factors_core(factors):
    u, _, _ = torch.linalg.svd(torch.cat([each["B"] for each in factors], dim=1), full_matrices=False)
    _, _, v = torch.linalg.svd(torch.cat([each["A"] for each in factors]), full_matrices=False)
    return u @ ties([(u.T @ each["B"]) @ (each["A"] @ v.T) for each in factors]) @ v


def dense_core(factors):
    deltas = [each["B"] @ each["A"] for each in factors]
    rank = sum(len(each["A"]) for each in factors)
    u, _, _ = torch.linalg.svd(torch.cat(deltas, dim=1), full_matrices=False)
    _, _, v = torch.linalg.svd(torch.cat(deltas), full_matrices=False)
    u, v = u[:, :rank], v[:rank]
    return u @ ties([u.T @ delta @ v.T for delta in deltas]) @ v


for line in sys.stdin:
    verb, *rest = line.split()
    answer = {
        "cat": lambda: peft(combination_type="cat"),
        "svd": lambda: peft(int(rest[0]), rest[1:], combination_type="svd"),
        "dense-svd": lambda: dense(lambda factors: dense_svd(factors, int(rest[0]))),
        "dense-knots": lambda: dense(dense_knots),
        "factors-core": lambda: dense(factors_core),
        "dense-core": lambda: dense(dense_core),
    }[verb]()
    print(*answer, flush=True)
