"""The same step in PyTorch + PEFT: MiniLM, 32 x 64 tokens, r = 8 on query and value, f32, two threads.

python peer.py MODEL_FOLDER ROUNDS -> milliseconds as JSON. A layer that is off runs its base linears alone, as in the
published CoTo code.
"""

import json
import random
import sys
import time

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModel

ROWS, WIDTH, CLASSES, COTO_STEPS = 32, 64, 26, 8
torch.set_num_threads(2)
torch.manual_seed(1)
random.seed(1)

folder, rounds = sys.argv[1], int(sys.argv[2])
base = AutoModel.from_pretrained(folder, attn_implementation="sdpa")
model = get_peft_model(base, LoraConfig(r=8, lora_alpha=16, target_modules=["query", "value"]))
model.train()
for module in model.modules():
    if isinstance(module, torch.nn.Dropout):
        module.p = 0.0
layers = {}
for name, module in model.named_modules():
    if hasattr(module, "lora_A") and hasattr(module, "disable_adapters"):
        layers.setdefault(int(name.split("layer.")[1].split(".")[0]), []).append(module)
L = len(layers)
active = dict.fromkeys(range(L), True)
for i, modules in layers.items():
    for module in modules:
        def forward(x, *args, module=module, i=i, original=module.forward, **kwargs):
            return original(x, *args, **kwargs) if active[i] else module.base_layer(x)
        module.forward = forward

ids = torch.tensor([1000 + (i * 7919) % 20000 for i in range(ROWS * WIDTH)]).reshape(ROWS, WIDTH)
mask = torch.ones_like(ids)
labels = torch.arange(ROWS) % CLASSES
weight = torch.randn(CLASSES, 384) * 0.05
optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3, weight_decay=0.0)


def forward():
    with torch.no_grad():
        model(input_ids=ids, attention_mask=mask)


def step(on):
    for i in range(L):
        active[i] = i in on
    optimiser.zero_grad(set_to_none=True)
    features = model(input_ids=ids, attention_mask=mask).last_hidden_state.mean(1)
    torch.nn.functional.cross_entropy(features @ weight.T, labels).backward()
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
for round in range(rounds + 1):
    every = set(range(L))
    quarter = {round % L, (round + 3) % L}
    draws = [draw(k * 1000 // COTO_STEPS + round) for k in range(COTO_STEPS)]
    measures = {
        "forward": timed(forward),
        "step_all": timed(lambda: step(every)),
        "step_quarter": timed(lambda: step(quarter)),
        "coto_run": timed(lambda: [step(on) for on in draws]) / COTO_STEPS,
    }
    if round:
        for name, ms in measures.items():
            times.setdefault(name, []).append(ms)
print(json.dumps(times))
