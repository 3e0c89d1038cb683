"""The same steps in PyTorch + PEFT: an encoder or, of the variant `smollm2-dense`, a decoder out of a GGUF file; r = 8 on queries and values,
f32, two threads.

python peer.py MODEL VARIANT ROWSxWIDTH. Questions and answers as `src/main.rs` has them. A layer that is off runs its base linears alone, as in
the published CoTo code.
"""

import json
import pathlib
import re
import resource
import sys
import time

import tokenizers
import torch
from peft import HiraConfig, LoraConfig, PeftModel, get_peft_model
from transformers import AutoModel, AutoModelForCausalLM, logging

CLASSES = 26
path, variant = pathlib.Path(sys.argv[1]), sys.argv[2]
decodes = variant == "smollm2-dense"
ROWS, WIDTH = map(int, sys.argv[3].split("x"))
torch.set_num_threads(2)
torch.manual_seed(1)
logging.disable_progress_bar()


def load():
    how = dict(attn_implementation="sdpa", dtype=torch.float32)
    if decodes:
        return AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, **how)
    return AutoModel.from_pretrained(path, **how)


def training(model):
    """Without dropout, and the parameters that are trained."""
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return [p for p in model.parameters() if p.requires_grad]


def optimise(parameters):
    return torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.0)


def update(loss, parameters, optimiser):
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimiser.step()


def timed(work):
    start = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - start)


class Steps:
    """Steps on a batch without padding."""

    def __init__(self):
        targets = ["q_proj", "v_proj"] if decodes else ["query", "value"]
        config = {
            "lora": lambda: LoraConfig(r=8, lora_alpha=16, target_modules=targets),
            "dora": lambda: LoraConfig(r=8, lora_alpha=16, target_modules=targets, use_dora=True),
            "hira": lambda: HiraConfig(r=8, target_modules=targets),
        }["lora" if decodes else variant]()
        self.model = get_peft_model(load(), config)
        self.parameters = training(self.model)
        self.optimiser = optimise(self.parameters)
        self.gate()
        self.ids = torch.tensor([1000 + (i * 7919) % 20000 for i in range(ROWS * WIDTH)]).reshape(ROWS, WIDTH)
        self.mask = torch.ones_like(self.ids)
        self.labels = self.ids.flatten().roll(-1) if decodes else torch.arange(ROWS) % CLASSES
        self.weight = torch.randn(CLASSES, 384) * 0.05

    def gate(self):
        """Layers that can be off."""
        layers = {}
        for name, module in self.model.named_modules():
            if hasattr(module, "base_layer") and hasattr(module, "disable_adapters"):
                layers.setdefault(int(re.search(r"layers?\.(\d+)\.", name)[1]), []).append(module)
        self.active = [True] * len(layers)
        for i, modules in layers.items():
            for module in modules:
                def forward(x, *args, module=module, i=i, original=module.forward, **kwargs):
                    return original(x, *args, **kwargs) if self.active[i] else module.base_layer(x)
                module.forward = forward

    def switch(self, on):
        self.active[:] = [i in on for i in range(len(self.active))]

    def loss(self):
        output = self.model(input_ids=self.ids, attention_mask=self.mask)
        logits = output.logits.flatten(0, 1) if decodes else output.last_hidden_state.mean(1) @ self.weight.T
        return torch.nn.functional.cross_entropy(logits, self.labels)

    @torch.no_grad()
    def forward(self):
        self.switch(range(len(self.active)))
        return timed(self.loss)

    def step(self, on):
        self.switch(on)
        return timed(lambda: update(self.loss(), self.parameters, self.optimiser))


def finetune(folder):
    """The run that ours has planned: milliseconds of the training alone, the test accuracy, and of how many rows that is."""
    plan = json.loads((folder / "plan.json").read_text())
    tokenizer = tokenizers.Tokenizer.from_file(str(path / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(plan["max_tokens"])
    splits = {}
    for split in ["train", "test"]:
        rows = [json.loads(line) for line in (folder / f"{split}.jsonl").read_text().split("\n") if line]
        encodings = tokenizer.encode_batch([row["text"] for row in rows])
        splits[split] = [encoding.ids for encoding in encodings], [plan["labels"].index(row["label"]) for row in rows]
    model = PeftModel.from_pretrained(load(), folder / "adapter", is_trainable=True)
    parameters = training(model)
    optimiser = optimise(parameters)
    weight, bias = torch.tensor(plan["weight"]).reshape(-1, len(plan["labels"])), torch.tensor(plan["bias"])

    def logits(tokens):
        width = max(map(len, tokens))
        ids = torch.tensor([row + [0] * (width - len(row)) for row in tokens])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in tokens])
        states = model(input_ids=ids, attention_mask=mask).last_hidden_state
        return (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True) @ weight + bias

    def train():
        tokens, labels = splits["train"]
        for rows, rate in zip(plan["batches"], plan["rates"], strict=True):
            optimiser.param_groups[0]["lr"] = rate
            truth = torch.tensor([labels[row] for row in rows])
            loss = torch.nn.functional.cross_entropy(logits([tokens[row] for row in rows]), truth)
            update(loss, parameters, optimiser)

    ms = timed(train)
    tokens, labels = splits["test"]
    order, right = sorted(range(len(labels)), key=lambda row: len(tokens[row])), 0
    with torch.no_grad():
        for start in range(0, len(order), plan["eval_rows"]):
            rows = order[start : start + plan["eval_rows"]]
            guesses = logits([tokens[row] for row in rows]).argmax(1).tolist()
            right += sum(guess == labels[row] for guess, row in zip(guesses, rows))
    return [ms, right / len(labels), len(labels)]


steps = Steps()
for line in sys.stdin:
    verb, _, rest = line.strip().partition(" ")
    answer = {
        "layers": lambda: [len(steps.active)],
        "forward": lambda: [steps.forward()],
        "step": lambda: [steps.step(set(map(int, rest.split())))],
        "memory": lambda: [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024],
        "finetune": lambda: [] if decodes else finetune(pathlib.Path(rest)),
    }[verb]()
    print(*answer, flush=True)
