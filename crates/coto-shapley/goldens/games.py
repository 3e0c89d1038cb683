"""The games that the estimators are compared on, and random games with the exact values that shapiq gives them.

    python games.py        writes games.json and exact.json beside itself

Families, each with 5 instances of n = 12, 24, 32 and 48 players:
* unanimity: v(S) is the sum of the coefficients of the terms T within S; 25 terms of each of 1, 2, 3 and 5 players;
* concave:   v(S) = 1 - exp(-w(S) / (0.25 w(N)));
* sigmoid:   v(S) = 1 / (1 + exp(-10 (w(S) / w(N) - 0.45)));
* coverage:  v(S) is the sum over 12 places of the best service that a member of S gives there (facility location).
The weights of concave and sigmoid are whole numbers, so that their Shapley values follow from counting the coalitions of each
size and weight; those of unanimity are each term's coefficient in equal shares, those of coverage a sum of airport games.
"""

import json
from math import comb
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
PLAYERS = (12, 24, 32, 48)
INSTANCES = 5
CURVES = {
    "concave": lambda u: 1 - np.exp(-u / 0.25),
    "sigmoid": lambda u: 1 / (1 + np.exp(-10 * (u - 0.45))),
}


def unanimity(n, rng):
    terms = []
    for order in (1, 2, 3, 5):
        for _ in range(25):
            members = sorted(int(i) for i in rng.choice(n, order, replace=False))
            terms.append([members, round(float(rng.uniform(-1, 1)), 4)])
    truth = np.zeros(n)
    for members, coefficient in terms:
        truth[members] += coefficient / len(members)
    return {"terms": terms, "truth": truth.tolist()}


def weighted(family, n, rng):
    weights = [1 + int(99 * u * u) for u in rng.uniform(size=n)]
    total = sum(weights)
    curve = CURVES[family](np.arange(total + 1) / total)
    truth = []
    for player in range(n):
        # counts[s, t]: coalitions of the other players of size s and weight t; below 2^53, so exact.
        counts = np.zeros((n, total + 1))
        counts[0, 0] = 1
        for other in range(n):
            if other != player:
                w = weights[other]
                counts[1:, w:] += counts[:-1, : total + 1 - w].copy()
        w = weights[player]
        gain = counts[:, : total + 1 - w] @ (curve[w:] - curve[: total + 1 - w])
        truth.append(float(sum(gain[s] / (n * comb(n - 1, s)) for s in range(n))))
    return {"weights": weights, "truth": truth}


def coverage(n, rng):
    service = np.round(rng.uniform(size=(12, n)) ** 4, 4)
    truth = np.zeros(n)
    for place in service:
        order, before, share = np.argsort(place), 0.0, 0.0
        for rank, player in enumerate(order):
            share += (place[player] - before) / (n - rank)
            before = place[player]
            truth[player] += share
    return {"service": service.tolist(), "truth": truth.tolist()}


def games():
    rng = np.random.default_rng(5)
    for n in PLAYERS:
        for family in ("unanimity", *CURVES):
            for instance in range(INSTANCES):
                made = unanimity(n, rng) if family == "unanimity" else weighted(family, n, rng)
                yield {"family": family, "players": n, "instance": instance, **made}
    for n in PLAYERS:
        for instance in range(INSTANCES):
            yield {"family": "coverage", "players": n, "instance": instance, **coverage(n, rng)}


def value(game):
    """v of rows of booleans, as a function."""
    n = game["players"]
    if "terms" in game:
        masks = np.zeros((len(game["terms"]), n))
        for row, (members, _) in zip(masks, game["terms"]):
            row[members] = 1
        sizes, coefficients = masks.sum(1), np.array([c for _, c in game["terms"]])
        return lambda rows: (np.atleast_2d(rows).astype(float) @ masks.T == sizes) @ coefficients
    if "weights" in game:
        weights, curve = np.array(game["weights"]), CURVES[game["family"]]
        return lambda rows: curve(np.atleast_2d(rows).astype(float) @ weights / weights.sum())
    if "service" in game:
        service = np.array(game["service"])
        return lambda rows: (np.atleast_2d(rows)[:, None, :] * service).max(2).sum(1)
    table, bits = np.array(game["table"]), 1 << np.arange(n)
    return lambda rows: table[np.atleast_2d(rows).astype(int) @ bits]


def exact():
    """Five random games of 10 players, all 1,024 values each, with shapiq's Shapley values, Banzhaf values and SII of order 2."""
    import shapiq

    rng, n, found = np.random.default_rng(10), 10, []
    for _ in range(5):
        table = np.round(rng.normal(size=1 << n), 3)
        computer = shapiq.ExactComputer(value({"players": n, "table": table}), n)
        indices = [computer("SV"), computer("BV"), computer("SII", order=2)]
        single = [[float(index[(i,)]) for i in range(n)] for index in indices[:2]]
        pairs = [[float(indices[2][(i, j)]) for j in range(i + 1, n)] for i in range(n)]
        found.append({"table": table.tolist(), "shapley": single[0], "banzhaf": single[1], "pairs": pairs})
    return found


if __name__ == "__main__":
    lines = ",\n".join(json.dumps(game) for game in games())
    (HERE / "games.json").write_text(f"[\n{lines}\n]\n")
    lines = ",\n".join(json.dumps(game) for game in exact())
    (HERE / "exact.json").write_text(f"[\n{lines}\n]\n")
