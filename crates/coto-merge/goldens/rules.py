"""Merges of three random matrices by PEFT 0.21.2 and mergekit 0.1.5, as they are computed there.

    python rules.py        writes rules.json beside itself
"""

import json
from pathlib import Path

import torch
from mergekit.merge_methods.base import TensorGroup
from mergekit.merge_methods.model_stock import model_stock_merge_method
from mergekit.merge_methods.sce import sce_merge
from mergekit.merge_methods.slerp import slerp
from mergekit.merge_methods import registry
from peft.utils import merge_utils

ROWS, COLS = 5, 7
WEIGHTS = [1.0, 0.5, 2.0]

torch.manual_seed(3)
taus = [torch.randn(ROWS, COLS) for _ in range(3)]
weights = torch.tensor(WEIGHTS)
results = {}

for density in (0.3, 1.0):
    results[f"peft magnitude {density}"] = merge_utils.magnitude_prune(taus, weights, density)
    for majority in ("total", "frequency"):
        results[f"peft ties {majority} {density}"] = merge_utils.ties(taus, weights, density, majority)

group = TensorGroup.from_tensors([torch.zeros(ROWS, COLS), *taus], base_index=0)
ids = [entry.id for entry in group.non_base]
for name in ("task_arithmetic", "ties", "breadcrumbs", "breadcrumbs_ties"):
    method = registry.get(name)
    for normalize in (False, True):
        parameters = {
            "weight": dict(zip(ids, WEIGHTS)),
            "density": dict.fromkeys(ids, 0.3),
            "normalize": normalize,
            "rescale": False,
            "int8_mask": False,
            "lambda": 1.0,
        }
        if "breadcrumbs" in name:
            parameters["gamma"] = dict.fromkeys(ids, 0.1)
        results[f"mergekit {name} {str(normalize).lower()}"] = method.merge_group(group, **parameters)
for topk in (0.3, 1.0):
    results[f"mergekit sce {topk}"] = sce_merge([group], parameters={"select_topk": topk})[0]
results["mergekit model_stock"] = model_stock_merge_method([group])[0]
flat = [tau.reshape(1, -1) for tau in taus]
results["mergekit slerp"] = slerp(torch.tensor([0.3]), flat[0], flat[1])

golden = {
    "rows": ROWS,
    "cols": COLS,
    "weights": WEIGHTS,
    "matrices": [tau.flatten().tolist() for tau in taus],
    "results": {name: value.flatten().tolist() for name, value in results.items()},
}
Path(__file__).with_name("rules.json").write_text(json.dumps(golden) + "\n")
