"""The same step in PyTorch + PEFT: an encoder or, of the variant `smollm2-dense`, a decoder out of a GGUF file; r = 8 on queries and values,
f32, two threads.

python peer.py MODEL VARIANT ROWSxWIDTH ROUNDS -> milliseconds and MiB as JSON. A layer that is off runs its base linears alone, as in the
published CoTo code.
"""

import json
import pathlib
import random
import re
import resource
import sys
import time

import torch
from peft import HiraConfig, LoraConfig, get_peft_model
from transformers import AutoModel, AutoModelForCausalLM, logging

CLASSES, COTO_STEPS = 26, 8
path, variant = pathlib.Path(sys.argv[1]), sys.argv[2]
decodes = variant == "smollm2-dense"
ROWS, WIDTH = map(int, sys.argv[3].split("x"))
rounds = int(sys.argv[4])
torch.set_num_threads(2)
torch.manual_seed(1)
random.seed(1)

logging.disable_progress_bar()
how = dict(attn_implementation="sdpa", dtype=torch.float32)
if decodes:
    base = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, **how)
else:
    base = AutoModel.from_pretrained(path, **how)
targets = ["q_proj", "v_proj"] if decodes else ["query", "value"]
config = {
    "lora": lambda: LoraConfig(r=8, lora_alpha=16, target_modules=targets),
    "dora": lambda: LoraConfig(r=8, lora_alpha=16, target_modules=targets, use_dora=True),
    "hira": lambda: HiraConfig(r=8, target_modules=targets),
}["lora" if decodes else variant]()
model = get_peft_model(base, config)
model.train()
for module in model.modules():
    if isinstance(module, torch.nn.Dropout):
        module.p = 0.0
layers = {}
for name, module in model.named_modules():
    if hasattr(module, "base_layer") and hasattr(module, "disable_adapters"):
        layers.setdefault(int(re.search(r"layers?\.(\d+)\.", name)[1]), []).append(module)
L = len(layers)
active = dict.fromkeys(range(L), True)
for i, modules in layers.items():
    for module in modules:
        def forward(x, *args, module=module, i=i, original=module.forward, **kwargs):
            return original(x, *args, **kwargs) if active[i] else module.base_layer(x)
        module.forward = forward

ids = torch.tensor([1000 + (i * 7919) % 20000 for i in range(ROWS * WIDTH)]).reshape(ROWS, WIDTH)
mask = torch.ones_like(ids)
labels = ids.flatten().roll(-1) if decodes else torch.arange(ROWS) % CLASSES
weight = torch.randn(CLASSES, 384) * 0.05
optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3, weight_decay=0.0)


def loss():
    output = model(input_ids=ids, attention_mask=mask)
    logits = output.logits.flatten(0, 1) if decodes else output.last_hidden_state.mean(1) @ weight.T
    return torch.nn.functional.cross_entropy(logits, labels)


@torch.no_grad()
def forward():
    loss()


def step(on):
    for i in range(L):
        active[i] = i in on
    optimiser.zero_grad(set_to_none=True)
    loss().backward()
    torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 1.0)
    optimiser.step()


def draw(t, total=1000):
    p = min(t / (0.75 * total), 1.0)
    while True:
        on = {i for i in range(L) if random.random() < p}
        if on:
            return on
        if p == 0.0:
            return {random.randrange(L)}


def timed(work):
    start = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - start)


times = {}
every = set(range(L))
for round in range(rounds + 1):
    some = -(-L // 4)
    quarter = {(round + k * L // some) % L for k in range(some)}
    draws = [draw(k * 1000 // COTO_STEPS + round) for k in range(COTO_STEPS)]
    measures = {"step_all": timed(lambda: step(every))}
    if round:
        measures["forward"] = timed(forward)
        measures["step_quarter"] = timed(lambda: step(quarter))
        measures["coto_run"] = timed(lambda: [step(on) for on in draws]) / COTO_STEPS
    if round or not rounds:
        for name, ms in measures.items():
            times.setdefault(name, []).append(ms)
times["peak_memory"] = [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]
print(json.dumps(times))
