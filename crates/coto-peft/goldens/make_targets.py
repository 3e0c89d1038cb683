"""Writes targets.json: which module paths real PEFT's own matching functions choose.

    python make_targets.py     (needs torch and peft)
"""

import json
import pathlib

import torch
from peft import LoraConfig, __version__
from peft.tuners.tuners_utils import _maybe_include_all_linear_layers, check_target_module_exists
from peft.utils.other import get_pattern_key

BERT = [
    f"encoder.layer.{i}.{m}"
    for i in (0, 1, 10)
    for m in ("attention.self.query", "attention.self.value", "attention.output.dense", "intermediate.dense", "output.dense")
] + ["pooler.dense", "classifier"]
LLAMA = [f"model.layers.{i}.{m}" for i in (0, 1, 2, 11) for m in ("self_attn.q_proj", "self_attn.v_proj", "mlp.up_proj")] + ["lm_head"]
MOE = [f"model.layers.{i}.experts.{e}.w1" for i in (0, 1) for e in (0, 1, 2)] + ["model.layers.1.gate"]
SHORT = ["layers.0.query", "layers.1.query", "query", "subquery", "h.3.query", "a.h.3.query", "a.b.h.3.query.1.x"]
PATHS = {"bert": BERT, "llama": LLAMA, "moe": MOE, "short": SHORT}

# (paths, target_modules, exclude_modules, layers_to_transform, layers_pattern)
TARGETS = [
    ("bert", ["query"], None, None, None),
    ("bert", ["query", "value"], None, None, None),
    ("bert", ["dense"], None, None, None),
    ("bert", ["output.dense"], None, None, None),
    ("bert", ["attention.output.dense"], None, None, None),
    ("bert", ["ense", "classifier"], None, None, None),
    ("bert", ["encoder.layer.1.output.dense"], None, None, None),
    ("bert", ["dense"], ["pooler.dense"], None, None),
    ("bert", ["dense"], ["output.dense"], None, None),
    ("bert", ["dense"], [".dense"], None, None),
    ("bert", ["dense"], r".*\.attention\..*", None, None),
    ("bert", ["dense"], "pooler", None, None),
    ("bert", ["dense"], "", None, None),
    ("bert", ["dense"], [], None, None),
    ("bert", ["query"], None, [0], None),
    ("bert", ["query", "value"], None, [0, 10], None),
    ("bert", ["query"], None, 1, None),
    ("bert", ["query"], None, [], None),
    ("bert", ["query", "pooler.dense"], None, [1], None),
    ("bert", ["query", "classifier"], None, [1], None),
    ("bert", ["dense"], None, [1], "layer"),
    ("bert", ["dense"], None, [1], ["layers", "layer"]),
    ("bert", ["dense"], None, [1], "layers"),
    ("bert", ["dense"], None, [1], []),
    ("bert", ["dense"], None, 10, ""),
    ("bert", ["dense"], ["output.dense"], [0, 1], ["layer"]),
    ("bert", r".*\.(query|value)", None, None, None),
    ("bert", r".*query", ["encoder.layer.0.attention.self.query"], None, None),
    ("bert", r"query", None, None, None),
    ("bert", r"encoder\.layer\.\d\..*dense", None, None, None),
    ("bert", r"encoder.*|pooler", None, None, None),
    ("bert", r"pooler|pooler.dense", None, None, None),
    ("bert", "all-linear", None, None, None),
    ("bert", "All-Linear", ["classifier"], None, None),
    ("bert", "all-linear", r".*self.*", None, None),
    ("llama", ["q_proj", "v_proj"], None, [1, 2], None),
    ("llama", ["q_proj", "model.layers.11.mlp.up_proj"], None, [1], None),
    ("llama", ["q_proj", "v_proj"], None, [1, 11], "layers"),
    ("llama", r"model\.layers\.(1|11)\.self_attn\.[qv]_proj", None, None, None),
    ("llama", ["_proj", "lm_head"], None, None, None),
    ("moe", ["w1"], None, [1], None),
    ("moe", ["w1"], None, [1], "experts"),
    ("moe", ["w1"], None, [1], "layers"),
    ("moe", ["w1", "gate"], None, [0], "layers|experts"),
    ("moe", ["w1"], ["experts.0.w1"], 1, ["experts", "layers"]),
    ("short", ["query"], None, None, None),
    ("short", ["query"], None, [0, 1], None),
    ("short", ["query"], None, [0, 3], None),
    ("short", ["query"], None, [0, 3], ["h", "layers"]),
    ("short", ["x", "query"], None, [3], "h"),
    ("short", ["x", "query"], None, [1], None),
    ("short", ["query"], ["query"], None, None),
    ("short", r"(?:.*\.)?h\.(?P<n>[0-9]+)\.query", None, None, None),
]

# (patterns in order, module path)
PATTERNS = [
    (["query"], "encoder.layer.0.attention.self.query"),
    (["query"], "encoder.subquery"),
    (["query"], "query"),
    (["self.query", "query"], "encoder.layer.0.attention.self.query"),
    (["query", "self.query"], "encoder.layer.0.attention.self.query"),
    (["value", "self.query"], "encoder.layer.0.attention.self.query"),
    (["value"], "encoder.layer.0.attention.self.query"),
    ([r"^encoder.layer.0.attention.self.query"], "encoder.layer.0.attention.self.query"),
    ([r"^attention.self.query"], "encoder.layer.0.attention.self.query"),
    ([r".*query"], "encoder.layer.0.attention.self.query"),
    ([r"layer\.[0-5]\..*\.query", "query"], "encoder.layer.10.attention.self.query"),
    ([r"layer\.[0-5]\..*\.query", "query"], "encoder.layer.5.attention.self.query"),
    (["query|value"], "a.value"),
    (["a.c"], "x.abc"),
    (["a.c"], "x.a.c"),
    ([r"quer"], "x.query"),
    ([r"x.query$"], "x.query"),
    (["layer.1.query", "layer.11.query"], "layer.11.query"),
]


def tree(paths):
    """A model whose named modules are `paths`, each an nn.Linear, and their parents."""
    root = torch.nn.Module()
    for path in paths:
        *parents, leaf = path.split(".")
        at = root
        for name in parents:
            if not hasattr(at, name):
                at.add_module(name, torch.nn.Module())
            at = getattr(at, name)
        if not hasattr(at, leaf):
            at.add_module(leaf, torch.nn.Linear(1, 1))
    return root


def chosen(paths, targets, exclude, layers, pattern):
    if pattern is not None and layers is None:
        raise ValueError("PEFT refuses a pattern without layers")
    config = LoraConfig(target_modules=targets, exclude_modules=exclude, layers_to_transform=layers, layers_pattern=pattern)
    config = _maybe_include_all_linear_layers(config, tree(paths))
    return [i for i, path in enumerate(paths) if check_target_module_exists(config, path)]


def main():
    targets = [
        {
            "paths": paths,
            "target_modules": target,
            "exclude_modules": exclude,
            "layers_to_transform": layers,
            "layers_pattern": pattern,
            "chosen": chosen(PATHS[paths], target, exclude, layers, pattern),
        }
        for paths, target, exclude, layers, pattern in TARGETS
    ]
    patterns = []
    for keys, path in PATTERNS:
        key = get_pattern_key(keys, path)
        patterns.append({"patterns": keys, "path": path, "first": keys.index(key) if key in keys else None})
    out = {"peft": __version__, "paths": PATHS, "targets": targets, "patterns": patterns}
    lines = json.dumps(out).replace('{"paths": "', '\n{"paths": "').replace('{"patterns"', '\n{"patterns"')
    pathlib.Path(__file__).with_name("targets.json").write_text(lines + "\n")
    print(len(targets), "targets,", len(patterns), "patterns")


if __name__ == "__main__":
    main()
