"""Attacks on the rounds of a logistic fit over tables: what do they tell of who is in them, beside the moments of one round?

    .venv/bin/python bench/rounds_leak.py [--json] [--seeds 10]

Membership AUC: 0.5 is a guess, 1 is certainty. Members, the attacker's reference records and those judged are drawn at random from one
table. `leverage` and `likelihood ratio` are the attacks of bench/membership.py, on moments and on each round's weighted products, summed
over rounds. `all sums` is one attack on everything together, whatever the sums are: with s(x) what a record adds to all of them, mu and
C its mean and covariance over the reference records, and S the sums of n members, the score is (s(x) - mu)' (C + ridge)^-1 (S / n - mu),
the likelihood ratio of a Gaussian S (Homer et al. 2008 and Dwork et al. 2015, for means, without C).

Sights. `total`: the exchange; `less the largest`: it and the largest owner together. `honest`: the rounds that a run asks for. `aimed`: as
many rounds as a node answers for one run, at coefficients of random directions, as far out as the node's rule on effective records lets
them be: what a dishonest exchange could ask. `coefficients`: what another owner sees, the coefficients of each round.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from bench_command import say
from datasets import table
from membership import Candidates, from_moments
from numpy.typing import NDArray
from solar_cells import area, bar, interval, machine

from isthmus.contracts.agreement import AGGREGATE_RATIO_MIN
from isthmus.contracts.logistic import LogisticSums, logistic_units
from isthmus.foundry.foldout import moments_of
from isthmus.foundry.logistic import ROUNDS_MAX, Rounds, path, settled
from isthmus.foundry.ridge import standard
from isthmus.foundry.tablefeatures import TableExtractor
from isthmus.kit.logits import curvature, effective_share, logistic_sums, probability

TABLES = {"credit": 561, "heart": 480}
"""Training records behind the total of the scenario's run."""
LARGEST = {"credit": 187, "heart": 202}
LAMBDAS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
RIDGES = (0.01, 0.1, 1.0)
MORE_MAX = 0.03
"""How much better all rounds together may tell members than the moments alone do."""
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Draw:
    """x: (n, d + 1) standardised rows (1, q) of all records. y: 0 or 1. member, known, judged: rows."""

    q: NDArray[np.int16]
    x: Floats
    y: Floats
    member: Ints
    known: Ints
    judged: Ints

    @property
    def truth(self) -> NDArray[np.bool_]:
        return np.isin(self.judged, self.member)


def drawn(name: str, records: int, seed: int) -> Draw:
    data = table(name)
    q = TableExtractor(data.schema, ("columns",)).quantised(data.records)
    order = np.random.default_rng(seed).permutation(len(q))
    member, others = order[:records], order[records:]
    known, rest = others[: len(others) // 2], others[len(others) // 2 :]
    spread = np.maximum(q[known].std(axis=0), 1.0)
    x = np.column_stack([np.ones(len(q)), (q - q[known].mean(axis=0)) / spread])
    return Draw(q, x, (data.y > 0).astype(np.float64), member, known, np.concatenate([member[: len(rest)], rest]))


def honest(draw: Draw) -> list[Floats]:
    """Coefficients on (1, q) of the rounds of a run, with its choice among penalties left out: the middle one."""
    q, y = draw.q[draw.member], np.where(draw.y[draw.member] > 0, 1, -1)
    w, asked = np.ones(len(q), np.int64), []
    moments = moments_of(q, w, y, np.arange(len(q)))
    units = logistic_units(moments.sum_w)

    def ask(at: Floats) -> LogisticSums:
        asked.append(at)
        return logistic_sums(q, w, y, at, units)

    rounds = Rounds(ask, moments)
    settled(rounds, path(rounds, LAMBDAS)[len(LAMBDAS) // 2])
    return asked


def aimed(draw: Draw, records: int, seed: int) -> list[Floats]:
    """Coefficients on (1, q) far out in random directions, kept just within the rule on effective records."""
    rng = np.random.default_rng(seed)
    least = min(0.95, (draw.q.shape[1] * AGGREGATE_RATIO_MIN) / records)
    rows = draw.q[draw.known].astype(np.float64)
    found = []
    for _ in range(ROUNDS_MAX):
        slopes = rng.normal(size=rows.shape[1]) / np.maximum(rows.std(axis=0), 1.0)
        start = -float(rows[rng.integers(len(rows))] @ slopes)
        low, high = 0.0, 1e3
        for _ in range(50):
            middle = (low + high) / 2
            share = effective_share(curvature(probability(middle * (start + rows @ slopes))))
            low, high = (middle, high) if share >= least else (low, middle)
        found.append(low * np.concatenate([[start], slopes]))
    return found


def _products(x: Floats) -> Floats:
    upper = np.triu_indices(x.shape[1])
    return x[:, upper[0]] * x[:, upper[1]]


def added(draw: Draw, rows: Ints, rounds: Sequence[Floats], moments: bool) -> Floats:
    """(rows, numbers): what each record adds to all sums that are seen."""
    x, y, q = draw.x[rows], draw.y[rows], draw.q[rows].astype(np.float64)
    products = _products(x)
    parts = [products, x * (2 * y - 1)[:, None]] if moments else []
    for at in rounds:
        chance = probability(at[0] + q @ at[1:])
        parts += [products * curvature(chance)[:, None], x * (y - chance)[:, None]]
    return np.concatenate(parts, axis=1)


def all_sums(draw: Draw, rounds: Sequence[Floats], moments: bool = True) -> dict[str, float]:
    """AUC of the attack on all sums together, for each ridge; C is inverted in the space of the reference records (Woodbury)."""
    known, judged = added(draw, draw.known, rounds, moments), added(draw, draw.judged, rounds, moments)
    mean = known.mean(axis=0)
    spread = np.maximum(known.std(axis=0), 1e-9 * np.abs(known).max())
    base = (known - mean) / spread
    away = (added(draw, draw.member, rounds, moments).mean(axis=0) - mean) / spread
    asked = (judged - mean) / spread
    gram, found = base @ base.T / len(base), {}
    for ridge in RIDGES:
        level = ridge * float(np.trace(gram)) / len(base)
        inner = np.linalg.solve(gram + level * np.eye(len(base)), base @ away / len(base))
        found[f"all sums, ridge {ridge:g}"] = area(draw.truth, asked @ (away - base.T @ inner))
    return found


def weighted(draw: Draw, rounds: Sequence[Floats]) -> dict[str, float]:
    """Leverage and likelihood ratio on each round's weighted products, summed over rounds."""
    low, ratio = np.zeros(len(draw.judged)), np.zeros(len(draw.judged))
    for at in rounds:
        weights = curvature(probability(at[0] + draw.q.astype(np.float64) @ at[1:]))
        seen, theirs = ((draw.x[rows] * weights[rows, None]).T @ draw.x[rows] / weights[rows].sum() for rows in (draw.member, draw.known))
        ridge = 0.01 * np.trace(theirs) / len(theirs) * np.eye(len(theirs))
        rows = draw.x[draw.judged]
        ours, known = (np.einsum("ij,jk,ik->i", rows, np.linalg.inv(part + ridge), rows) for part in (seen, theirs))
        own = weights[draw.judged]
        low -= own * ours / own.mean()
        ratio += np.log(known) - np.log(ours)
    return {"leverage, summed over rounds": area(draw.truth, low), "likelihood ratio, summed over rounds": area(draw.truth, ratio)}


def coefficients(draw: Draw, rounds: Sequence[Floats]) -> dict[str, float]:
    """An owner in the roster sees each round's coefficients: their distance from the reference's own, along each record's influence."""
    at = rounds[-1]
    chance = probability(at[0] + draw.q.astype(np.float64) @ at[1:])
    curve = (draw.x[draw.known] * curvature(chance)[draw.known, None]).T @ draw.x[draw.known] / len(draw.known)
    inverse = np.linalg.inv(curve + 0.1 * np.eye(len(curve)))
    influence = (draw.x * (draw.y - chance)[:, None]) @ inverse
    base = influence[draw.known]
    away = -base.mean(axis=0)  # at the total's optimum the total's own mean influence is the penalty's
    metric = np.linalg.inv(np.cov(base.T) + 0.1 * np.trace(np.cov(base.T)) / base.shape[1] * np.eye(base.shape[1]))
    return {"influence on the last coefficients": area(draw.truth, (influence[draw.judged] - base.mean(axis=0)) @ metric @ away)}


def plain(draw: Draw) -> dict[str, float]:
    """The attacks of bench/membership.py on moments alone."""
    y, ones = np.where(draw.y > 0, 1, -1), np.ones(len(draw.y), np.int64)
    total, known = (moments_of(draw.q[rows], ones[rows], y[rows], rows) for rows in (draw.member, draw.known))
    norm = standard(total)
    who = Candidates((draw.q[draw.judged],), y[draw.judged], ones[draw.judged], draw.truth)
    return {name: area(draw.truth, score) for name, score in from_moments(total, known, norm.mean, norm.scale, who).items()}


def attacked(name: str, records: int, behind: int, seed: int) -> dict[str, dict[str, float]]:
    """sight -> attack -> AUC. records: behind what is seen; behind: as the rule counts them."""
    draw = drawn(name, records, seed)
    own, far = honest(draw), aimed(draw, behind, seed)
    alone = {**plain(draw), **all_sums(draw, [])}
    rounds = [
        {**alone, **weighted(draw, some), **{f"{name}, with rounds": auc for name, auc in all_sums(draw, some).items()}}
        for some in (own, far)
    ]
    return {
        "moments alone": alone,
        "moments and honest rounds": rounds[0],
        "moments and aimed rounds": rounds[1],
        "coefficients": coefficients(draw, own),
    }


def best(runs: list[dict[str, dict[str, float]]], sight: str) -> dict[str, Any]:
    """The strongest attack on average, with its interval."""
    names = runs[0][sight]
    worst = max(names, key=lambda attack: float(np.mean([run[sight][attack] for run in runs])))
    return {"attack": worst, "auc": interval([run[sight][worst] for run in runs])}


def measured(seeds: int, say: Callable[[str], None]) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for name, records in TABLES.items():
        for sight, count in (("total", records), ("less the largest", records - LARGEST[name])):
            runs = []
            for seed in range(seeds):
                say(f"{name}, {sight}: {seed + 1} of {seeds}")
                runs.append(attacked(name, count, records - LARGEST[name], seed))
            rounds = len(honest(drawn(name, count, 0)))
            figures[f"{name}, {sight}"] = {"records": count, "rounds": rounds, **{part: best(runs, part) for part in runs[0]}}
    return figures


def bars_of(figures: dict[str, Any]) -> list[dict[str, Any]]:
    found = []
    for name, row in figures.items():
        if not name.endswith(", total"):
            continue
        more = row["moments and honest rounds"]["auc"]["mean"] - row["moments alone"]["auc"]["mean"]
        found.append(bar(f"{name}: AUC that honest rounds add to the moments", round(more, 3), MORE_MAX, "AUC", at_most=True))
    return found


def shown(result: dict[str, Any]) -> str:
    """For people."""
    lines = [f"{'who sees':26}{'records':>9}{'rounds':>8}  {'what':28}{'strongest attack':40}{'AUC':>7}"]
    for name, row in result["figures"].items():
        for part, found in row.items():
            if isinstance(found, dict):
                rounds = ROUNDS_MAX if "aimed" in part else row["rounds"] if part != "moments alone" else 0
                lines.append(f"{name:26}{row['records']:>9}{rounds:>8}  {part:28}{found['attack']:40}{found['auc']['mean']:>7.3f}")
    lines += [
        "",
        *(f"{'holds' if b['holds'] else 'FAILS':6} {b['name']}: {b['value']} (goal {b['goal']} {b['unit']})" for b in result["bars"]),
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--seeds", type=int, default=10, help="random draws of members")
    given = parser.parse_args()
    figures = measured(given.seeds, say)
    say("")
    print("\r", end="", file=sys.stderr)
    result = {"bench": "rounds_leak", "machine": machine(), "figures": figures, "bars": bars_of(figures)}
    print(json.dumps(result) if given.json else shown(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
