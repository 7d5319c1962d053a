"""What owners' contributions cost, how well drawn values agree with exact ones, whether they pay whom they should, and what brier/1 tells.

    .venv/bin/python bench/contribution.py [--json] [--seeds 5]

Real records: the patients of heart-screening's sample owners, dealt anew to as many owners as a figure asks for, as nothing else has
twelve. Four parts:

- time: all coalitions of 4, 8 and 12 owners solved and scored in this process, and drawn orders of 20 and 50;
- drawn: drawn orders, as many as a run takes, against exact values, with the same owners, and the bound that is stated beside them;
- fair: four owners with equal shares of the records; then the fourth brings a copy of the first's, or labels drawn by lot, or four
  times as many records. Means over seeds;
- leak: who was held out, guessed from brier/1's losses by an attacker who has reference records. Members are groups that were held out,
  others are groups that nobody holds. AUC 0.5 is a coin.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bench_command import say
from numpy.typing import NDArray
from solar_cells import area, bar, interval, machine
from table_leak import owned

from isthmus.contracts.brier import HEADS_MAX, BrierParams
from isthmus.contracts.contribution import PERMUTATIONS
from isthmus.contracts.head import Array
from isthmus.contracts.sums import LOSS_UNIT, Moments
from isthmus.foundry.coalitions import coalition_heads, summed
from isthmus.foundry.foldout import moments_of
from isthmus.sandbox.shapley import (
    Values,
    all_coalitions,
    drawn_coalitions,
    drawn_errors,
    drawn_orders,
    drawn_values,
    exact_values,
    weights_of,
)
from isthmus.sandbox.statistics.brier import brier
from isthmus.sandbox.statistics.records import Records
from isthmus.scenarios.package import find_package, load_package

PACKAGE = "heart-screening"
PENALTY = 0.03
HELD_OUT = 1 / 3
CONFIDENCE = 0.95
ORDERS = PERMUTATIONS
LEAK_GOAL = 0.58
SECONDS_GOAL = 30.0
FAIR_GOAL = 0.0
PARTS, PART_RECORDS = 4, 20
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Patients:
    """q: (n, d) features; y: labels; groups."""

    q: NDArray[np.int16]
    y: Ints
    groups: Ints

    def some(self, chosen: NDArray[Any]) -> Patients:
        return Patients(self.q[chosen], self.y[chosen], self.groups[chosen])

    def moments(self) -> Moments:
        return moments_of(self.q, np.ones_like(self.y), self.y, self.groups)


def patients() -> Patients:
    scenario = load_package(find_package(PACKAGE))
    with tempfile.TemporaryDirectory() as root:
        found = owned(scenario, Path(root))
    return Patients(found.q, found.y, found.groups)


def dealt(data: Patients, owners: int, seed: int) -> tuple[list[Patients], Patients]:
    """Training records by owner, of about equal number, and all held-out records."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(np.unique(data.groups))
    held, rest = np.split(order, [int(HELD_OUT * len(order))])
    return [data.some(np.isin(data.groups, part)) for part in np.array_split(rest, owners)], data.some(np.isin(data.groups, held))


def losses_of(owners: list[Patients], held: Patients, masks: list[int], parts: int = 1) -> tuple[dict[int, int], Ints, float, float]:
    """(mask -> loss with the prior's at 0, losses by part, seconds to solve, seconds to score)."""
    sums = [one.moments() for one in owners]
    total = summed(sums)
    began = time.perf_counter()
    heads = coalition_heads(sums, masks, PENALTY)
    solved = time.perf_counter()
    prior = np.zeros((1, total.dimension + 1))
    prior[0, 0] = total.sum_wy / total.sum_w
    params = BrierParams(heads=Array.of(np.concatenate([prior, heads.rows])), buckets=parts, bucket_records_min=PART_RECORDS)
    found = brier(Records(held.y, held.groups, ("",) * held.y.size), held.q, params).losses
    scored = time.perf_counter()
    known = np.concatenate([[True], heads.known])
    losses = np.where(known, found, found[:, :1])
    return dict(zip((0, *masks), (int(v) for v in losses.sum(axis=0)), strict=True)), losses, solved - began, scored - solved


def shares(owners: list[Patients], held: Patients) -> list[float]:
    losses, *_ = losses_of(owners, held, all_coalitions(len(owners)))
    weights, _ = weights_of(exact_values(losses, len(owners)), [one.y.size for one in owners])
    return [weight / 1e6 for weight in weights]


def times(data: Patients) -> list[dict[str, Any]]:
    rows = []
    for owners in (4, 8, 12, 20, 50):
        say(f"time: {owners} owners")
        exact = owners <= 12
        parts, held = dealt(data, owners, 0)
        orders = drawn_orders("time", owners, min(ORDERS, (HEADS_MAX - 1) // (owners - 1)))
        masks = all_coalitions(owners) if exact else drawn_coalitions(orders)
        losses, _, solve_s, score_s = losses_of(parts, held, masks)
        began = time.perf_counter()
        found: Values = exact_values(losses, owners) if exact else drawn_values(losses, orders, owners)
        value_s = time.perf_counter() - began
        size = 8 * (1 + len(masks))
        sent = 8 * (1 + len(masks)) * (data.q.shape[1] + 1)
        rows.append(
            {
                "owners": owners,
                "exact": exact,
                "coalitions": len(masks),
                "solve_s": solve_s,
                "score_s": score_s,
                "value_s": value_s,
                "bytes_from_owner_a_part": size,
                "bytes_to_owner": sent,
                "sums_to": sum(found.numerators) / found.denominator,
            }
        )
    return rows


def drawn(data: Patients, seeds: int) -> list[dict[str, Any]]:
    rows = []
    for owners in (8, 12):
        off, bounds, worth = [], [], []
        for seed in range(seeds):
            say(f"drawn: {owners} owners, seed {seed}")
            parts, held = dealt(data, owners, seed)
            losses, *_ = losses_of(parts, held, all_coalitions(owners))
            unit = held.y.size * LOSS_UNIT
            true = exact_values(losses, owners)
            orders = drawn_orders(f"drawn {seed}", owners, ORDERS)
            found = drawn_values(losses, orders, owners)
            errors = drawn_errors(losses, orders, owners, unit, CONFIDENCE)
            off += [max(abs(f / ORDERS - t / true.denominator) for f, t in zip(found.numerators, true.numerators, strict=True)) / unit]
            bounds += [max(errors) / unit]
            worth += [(losses[0] - losses[(1 << owners) - 1]) / unit]
        rows.append(
            {
                "owners": owners,
                "orders": ORDERS,
                "worst_error": max(off),
                "bound": float(np.mean(bounds)),
                "broken": sum(o > b for o, b in zip(off, bounds, strict=True)),
                "value_of_all": float(np.mean(worth)),
            }
        )
    return rows


def fair(data: Patients, seeds: int) -> list[dict[str, Any]]:
    found: dict[str, list[list[float]]] = {}
    for seed in range(seeds):
        say(f"fair: seed {seed}")
        rng = np.random.default_rng(seed + 1000)
        four, held = dealt(data, 4, seed)
        seven, more_held = dealt(data, 7, seed)
        noisy = Patients(four[3].q, np.where(rng.random(four[3].y.size) < 0.5, 1, -1), four[3].groups)
        large = [Patients(*(np.concatenate([getattr(one, name) for one in seven[3:]]) for name in ("q", "y", "groups")))]
        cases = {
            "four alike": (four, held),
            "the fourth copies the first": ([*four[:3], four[0]], held),
            "the fourth's labels are by lot": ([*four[:3], noisy], held),
            "the fourth has four times as many": ([*seven[:3], *large], more_held),
        }
        for name, (owners, held_out) in cases.items():
            found.setdefault(name, []).append(shares(owners, held_out))
    return [
        {"case": name, "shares": [float(v) for v in np.mean(rows, axis=0)], "fourth": interval([row[3] for row in rows])}
        for name, rows in found.items()
    ]


def leak(data: Patients, seeds: int, owners: int) -> dict[str, Any]:
    """The attacker knows the heads and the losses by part, and has a sixth of all patients. For each candidate it asks how much better the
    told losses fit when the candidate is added to what the reference predicts: its own losses' deviation, projected on the told ones'."""
    results = []
    for seed in range(seeds):
        say(f"leak: {owners} owners, seed {seed}")
        rng = np.random.default_rng(seed + 50)
        order = rng.permutation(np.unique(data.groups))
        known, others, rest = np.split(order, [len(order) // 6, len(order) // 3])
        reference, outside, inside = (data.some(np.isin(data.groups, part)) for part in (known, others, rest))
        parts, held = dealt(inside, owners, seed)
        masks = all_coalitions(owners)
        _, told, *_ = losses_of(parts, held, masks, PARTS)
        sums = [one.moments() for one in parts]
        heads = coalition_heads(sums, masks, PENALTY).rows
        total = summed(sums)
        rows = np.concatenate([np.eye(1, heads.shape[1]) * (total.sum_wy / total.sum_w), heads])

        def each(of: Patients, rows: NDArray[np.float64] = rows) -> NDArray[np.float64]:
            chance = np.clip((of.q @ rows[:, 1:].T + rows[:, 0] + 1) / 2, 0, 1)
            return (chance - (of.y > 0)[:, None]) ** 2

        usual = each(reference)
        mean, spread = usual.mean(axis=0), np.linalg.pinv(np.cov(usual.T) + 1e-9 * np.eye(len(rows)))
        counts = np.maximum(told.max(axis=1) * 0 + held.y.size / PARTS, 1)
        deviation = told / LOSS_UNIT - counts[:, None] * mean
        people = (held, outside)
        evidence = [max_over_parts((each(one) - mean) @ spread @ deviation.T) for one in people]
        truth = np.concatenate([np.ones(held.y.size, dtype=bool), np.zeros(outside.y.size, dtype=bool)])
        results.append(area(truth, np.concatenate(evidence)))
    return {
        "owners": owners,
        "heads": 1 << owners,
        "parts": PARTS,
        "held_out": int(HELD_OUT * 2 / 3 * len(np.unique(data.groups))),
        "auc": interval(results),
    }


def max_over_parts(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(scores.max(axis=1))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--seeds", type=int, default=5, help="deals of the records")
    given = parser.parse_args()
    data = patients()
    found = {
        "times": times(data),
        "drawn": drawn(data, given.seeds),
        "fair": fair(data, given.seeds),
        "leak": [leak(data, 4 * given.seeds, owners) for owners in (3, 4, 6)],
    }
    say("")
    twelve = next(row for row in found["times"] if row["owners"] == 12)
    spread = {row["case"]: row["shares"] for row in found["fair"]}
    alike, copied, lot, large = (spread[name] for name in spread)
    bars = [
        bar("12 owners, all coalitions", twelve["solve_s"] + twelve["score_s"] + twelve["value_s"], SECONDS_GOAL, "s", at_most=True),
        bar("deals whose drawn values break the bound", sum(row["broken"] for row in found["drawn"]), 0, "", at_most=True),
        bar("a copy of the first gets no more than alone, less", copied[3] - alike[3], FAIR_GOAL, "share", at_most=True),
        bar("labels by lot get less", lot[3] - alike[3], FAIR_GOAL, "share", at_most=True),
        bar("four times the records get more", large[3] - alike[3], FAIR_GOAL, "share"),
        *(
            bar(f"membership by brier/1, {row['owners']} owners", row["auc"]["mean"], LEAK_GOAL, "AUC", at_most=True)
            for row in found["leak"]
        ),
    ]
    result = {"bench": "contribution", "machine": machine(), "figures": found, "bars": bars}
    if given.json:
        print(json.dumps(result))
        return 0
    table(found)
    for one in bars:
        print(f"{'holds' if one['holds'] else 'FAILS':6} {one['name']:52} {one['value']:.4g} {one['unit']} (goal {one['goal']:g})")
    return 0


def table(found: dict[str, Any]) -> None:
    print(f"{'owners':>6} {'coalitions':>10} {'solve s':>8} {'score s':>8} {'value s':>8} {'to owner':>11} {'from owner':>11}")
    for row in found["times"]:
        seconds = f"{row['solve_s']:8.2f} {row['score_s']:8.2f} {row['value_s']:8.2f}"
        print(f"{row['owners']:6} {row['coalitions']:10,} {seconds} {row['bytes_to_owner']:11,} {row['bytes_from_owner_a_part']:11,}")
    for row in found["drawn"]:
        print(
            f"{row['owners']} owners, {row['orders']} drawn orders: worst error {row['worst_error']:.5f}, bound {row['bound']:.5f}, "
            f"value of all {row['value_of_all']:.4f}"
        )
    for row in found["fair"]:
        print(f"{row['case']:36} shares {' '.join(f'{v:.3f}' for v in row['shares'])}")
    for row in found["leak"]:
        print(f"brier/1, {row['owners']} owners, {row['heads']} heads, {row['held_out']} held out: AUC {row['auc']['mean']:.3f}")


if __name__ == "__main__":
    raise SystemExit(main())
