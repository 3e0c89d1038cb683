"""The errors of shapiq's estimators on the games of games.json, added to target/estimators/shapiq.json.

    python shapiq_errors.py ESTIMATOR SEEDS [PLAYERS ...]

The error is |found - truth| / |truth| in Euclidean norm; the budget counts all evaluations, those of the empty and the
grand coalition included. Seed k plays instance k mod 5. ProxySPEX needs lightgbm.
"""

import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import shapiq
from games import value

warnings.filterwarnings("ignore")
HERE = Path(__file__).parent
BUDGETS = (5, 10, 20, 50, 100)
sv = lambda n, seed: {"n": n, "index": "SV", "random_state": seed}
ESTIMATORS = {
    "PermutationSamplingSV": lambda n, k: shapiq.PermutationSamplingSV(n, random_state=k),
    "StratifiedSamplingSV": lambda n, k: shapiq.StratifiedSamplingSV(n, random_state=k),
    "OwenSamplingSV": lambda n, k: shapiq.OwenSamplingSV(n, 10, random_state=k),
    "KernelSHAP": lambda n, k: shapiq.KernelSHAP(n, random_state=k),
    "KernelSHAP paired": lambda n, k: shapiq.KernelSHAP(n, pairing_trick=True, random_state=k),
    "UnbiasedKernelSHAP": lambda n, k: shapiq.UnbiasedKernelSHAP(n, random_state=k),
    "SVARM": lambda n, k: shapiq.SVARM(n, random_state=k),
    "kADDSHAP": lambda n, k: shapiq.kADDSHAP(n, max_order=2, pairing_trick=True, random_state=k),
    "SPEX": lambda n, k: shapiq.SPEX(**sv(n, k), max_order=1),
    "ProxySPEX": lambda n, k: shapiq.ProxySPEX(**sv(n, k), max_order=1),
}


def games(players):
    found = [game for game in json.loads((HERE / "games.json").read_text()) if game["players"] in players]
    if 12 in players:
        table = np.fromfile(HERE / "adapter_game.f64", "<f8")
        exact = shapiq.ExactComputer(value({"players": 12, "table": table}), 12)("SV")
        truth = [exact[(i,)] for i in range(12)]
        found.append({"family": "adapter", "players": 12, "instance": 0, "table": table, "truth": truth})
    return found


def main(name, seeds, players):
    path = HERE.parents[2] / "target/estimators/shapiq.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    results = json.loads(path.read_text()) if path.exists() else []
    for game in games(players):
        n, v, truth = game["players"], value(game), np.array(game["truth"])
        instances = 1 if game["family"] == "adapter" else 5
        mine = [k for k in range(seeds) if k % instances == game["instance"]]
        row = lambda budget: {"estimator": name, "family": game["family"], "players": n, "budget": budget}
        for budget in (times * n for times in BUDGETS):
            have = next((r for r in results if r.items() >= row(budget).items()), None)
            if have is None:
                results.append(have := {**row(budget), "errors": {}, "evaluations": 0, "seconds": 0.0})
            for k in mine:
                if str(k) in have["errors"]:
                    continue
                rows = []

                def counted(x):
                    rows.append(len(np.atleast_2d(x)))
                    return v(x)

                start = time.process_time()
                try:
                    found = ESTIMATORS[name](n, k).approximate(budget, counted)
                    phi = np.array([found[(i,)] for i in range(n)])
                    error = round(float(np.linalg.norm(phi - truth) / np.linalg.norm(truth)), 7)
                except Exception as problem:
                    print(name, n, budget, "failed:", type(problem).__name__, problem)
                    error = None
                have["errors"][str(k)] = error
                have["evaluations"] += sum(rows)
                have["seconds"] = round(have["seconds"] + time.process_time() - start, 4)
        lines = ",\n".join(json.dumps(r) for r in results)
        path.write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), [int(n) for n in sys.argv[3:]] or [12, 24, 32, 48])
