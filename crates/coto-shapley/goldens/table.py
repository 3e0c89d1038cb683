"""Gathers what shapiq_errors.py and the example `estimators` measured into errors.json, and prints it as Markdown.

    python table.py OURS.jsonl      gathers, then prints
    python table.py                 prints

What errors.json has and was not measured again stays.

errors.json: family -> players -> estimator -> [mean, spread, seeds] of the relative error at 5n, 10n, 20n, 50n and 100n evaluations.
"""

import json
import sys
from math import exp, log
from pathlib import Path
from statistics import mean, pstdev

HERE = Path(__file__).parent
TIMES = (5, 10, 20, 50, 100)
FAMILIES = ("unanimity", "concave", "sigmoid", "coverage", "adapter")


def gather(ours):
    rows = json.loads((HERE.parents[2] / "target/estimators/shapiq.json").read_text())
    rows = [{**r, "estimator": "shapiq " + r["estimator"], "errors": list(r["errors"].values())} for r in rows]
    rows += [json.loads(line) for line in Path(ours).read_text().splitlines()]
    found = json.loads((HERE / "errors.json").read_text())
    for r in rows:
        errors = [e for e in r["errors"] if e is not None]
        cells = found.setdefault(r["family"], {}).setdefault(str(r["players"]), {}).setdefault(r["estimator"], [None] * 5)
        if errors:
            digits = [float(f"{x:.3g}") for x in (mean(errors), pstdev(errors))]
            cells[TIMES.index(r["budget"] // r["players"])] = [*digits, len(errors)]
    lines = ",\n".join(
        f'"{family}": {{\n' + ",\n".join(f'"{n}": {{\n' + ",\n".join(f'"{e}": {json.dumps(c)}' for e, c in sorted(of.items())) + "}" for n, of in by.items()) + "}"
        for family, by in found.items()
    )
    (HERE / "errors.json").write_text(f"{{{lines}}}\n")


def number(x):
    return f"{x:.2g}" if x < 0.01 else f"{x:.3f}"


def compared(found):
    print("| family | n | " + " | ".join(f"{t}n" for t in TIMES) + " |\n|---|---|" + "---|" * 5)
    ratios = []
    for family in (f for f in FAMILIES if f in found):
        for n, of in found[family].items():
            cells = []
            for k in range(5):
                peers = {e: c[k][0] for e, c in of.items() if e.startswith("shapiq ") and c[k]}
                name, best = min(peers.items(), key=lambda item: item[1])
                ratios.append((of["auto"][k][0] / best, family, n, TIMES[k]))
                cells.append(f"**{number(of['auto'][k][0])}** / {number(best)} {name.removeprefix('shapiq ')} = {number(ratios[-1][0])}")
            print(f"| {family} | {n} | " + " | ".join(cells) + " |")
    total = exp(mean(log(r[0]) for r in ratios))
    print(f"\nGeometric mean of the {len(ratios)} ratios: {total:.3f}; the largest: {max(ratios)}; above 1.1: {sorted(r for r in ratios if r[0] > 1.1)}")
    for family in (f for f in FAMILIES if f in found):
        print(f"{family}: {exp(mean(log(r[0]) for r in ratios if r[1] == family)):.3f}")


def everything(found):
    for family in (f for f in FAMILIES if f in found):
        print(f"\n<details><summary>{family}</summary>\n\n| n | estimator | " + " | ".join(f"{t}n" for t in TIMES) + " |\n|---|---|" + "---|" * 5)
        for n, of in found[family].items():
            for estimator, cells in sorted(of.items()):
                shown = " | ".join(f"{number(c[0])} ± {number(c[1])}" if c else "–" for c in cells)
                print(f"| {n} | {estimator} | {shown} |")
        print("\n</details>")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        gather(sys.argv[1])
    found = json.loads((HERE / "errors.json").read_text())
    compared(found)
    everything(found)
