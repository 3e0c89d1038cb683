"""Writes prune.json: a module's factors A and B, inputs, and what Wanda and SparseGPT make of them, in f64.

    python prune.py     (needs torch)

SparseGPT is written as published (arXiv 2301.00774, algorithm 1): two Cholesky factorisations around an explicit inverse, and
the updates of later columns deferred to the end of each block.
"""

import json
import pathlib

import torch

torch.manual_seed(11)
torch.set_default_dtype(torch.float64)
BLOCK = 128


def lowest(scores, count):
    """A mask of the count lowest of a vector, of equals the earlier."""
    mask = torch.zeros(len(scores), dtype=torch.bool)
    mask[torch.argsort(scores, stable=True)[:count]] = True
    return mask


def wanda(w, x, share=None, pattern=None):
    score = w.abs() * x.norm(dim=0)
    rows, cols = w.shape
    if share is not None:
        mask = torch.stack([lowest(row, int(share * cols)) for row in score])
    else:
        kept, of = pattern
        groups = score.reshape(-1, of)
        mask = torch.stack([lowest(group, of - kept) for group in groups]).reshape(rows, cols)
    return w.masked_fill(mask, 0.0)


def sparsegpt(w, x, share=None, pattern=None):
    w = w.clone()
    rows, cols = w.shape
    h = 2 * x.T @ x
    h += 0.01 * h.diagonal().mean() * torch.eye(cols)
    inverse = torch.linalg.inv(h)
    u = torch.linalg.cholesky((inverse + inverse.T) / 2).T
    for start in range(0, cols, BLOCK):
        end = min(start + BLOCK, cols)
        block = w[:, start:end].clone()
        part = u[start:end, start:end]
        errors = torch.zeros_like(block)
        if share is not None:
            score = (block / part.diagonal()) ** 2
            mask = lowest(score.flatten(), int(share * score.numel())).reshape(score.shape)
        else:
            mask = torch.zeros(block.shape, dtype=torch.bool)
        for j in range(end - start):
            if pattern is not None and j % pattern[1] == 0:
                kept, of = pattern
                score = (block[:, j : j + of] / part.diagonal()[j : j + of]) ** 2
                mask[:, j : j + of] = torch.stack([lowest(group, of - kept) for group in score])
            pruned = torch.where(mask[:, j], 0.0, block[:, j])
            errors[:, j] = (block[:, j] - pruned) / part[j, j]
            block[:, j + 1 :] -= errors[:, j : j + 1] @ part[j : j + 1, j + 1 :]
            block[:, j] = pruned
        w[:, start:end] = block
        w[:, end:] -= errors @ u[start:end, end:]
    return w


def rounded(t):
    """Few digits, exact in f32."""
    return torch.round(t * 64) / 64


samples, inputs, rank, outputs = 24, 140, 4, 6
x = rounded(torch.randn(samples, 5) @ torch.randn(5, inputs) / 2 + torch.randn(samples, inputs) / 4)
a, b = rounded(torch.randn(rank, inputs)), rounded(torch.randn(outputs, rank))
cases = []
for rule, prune in [("wanda", wanda), ("sparsegpt", sparsegpt)]:
    for text, how in [("0.5", {"share": 0.5}), ("0.25", {"share": 0.25}), ("2:4", {"pattern": (2, 4)})]:
        made = {"a": prune(a, x, **how), "b": prune(b, x @ a.T, **how)}
        listed = {name: [float(f"{v:.8g}") for v in t.flatten().tolist()] for name, t in made.items()}
        cases.append({"rule": rule, "sparsity": text, **listed})
facts = {
    "sizes": {"samples": samples, "in": inputs, "rank": rank, "out": outputs},
    **{name: t.flatten().tolist() for name, t in [("x", x), ("a", a), ("b", b)]},
    "cases": cases,
}
text = json.dumps(facts, separators=(",", ":"))
(pathlib.Path(__file__).parent / "prune.json").write_text(text + "\n")
