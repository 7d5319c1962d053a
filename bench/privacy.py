"""What a privacy budget costs in accuracy: real tables dealt to five owners, noisy sums and the head made of them, for each epsilon.

    .venv/bin/python bench/privacy.py [--json] [--seeds 20] [--picture curve.svg]

Each seed deals three quarters of the records to OWNERS owners by chance and keeps the rest for the test; records that are alike stay
together. Every owner's share, its noise and the head are the product's own functions, and all parts of the budget are those of a run: 85 %
of rho goes to the moments, the rest would buy thresholds. Without noise the penalty is chosen from fold-out scores, as a run does; under
noise nothing is chosen by data. The pictures are ELPV's cells through the shipped scenario's projected features, too few for a small
epsilon; their loss is told as it is.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bench_command import say
from datasets import table
from membership import Candidates, from_moments
from numpy.typing import NDArray
from solar_cells import BACKBONE, area, bar, columns, default_cache, interval, load_cells, machine
from table_models import features

from isthmus.app.privatebuild import MOMENTS_PART, moments_noise
from isthmus.contracts.head import Stage
from isthmus.contracts.statistic import MomentsParams
from isthmus.contracts.sums import moments_from
from isthmus.foundry.foldout import choose_lambda, leave_one_group_out, moments_of
from isthmus.foundry.noisysums import believed, noisy_fit
from isthmus.foundry.ridge import LAMBDAS, standard
from isthmus.sandbox.accounting import rho_for
from isthmus.sandbox.privacy import noise_of, told_only
from isthmus.sandbox.statistics.moments import moments
from isthmus.sandbox.statistics.records import Records, TrainingRecords, shortened
from isthmus.sandbox.statistics.sensitivity import Unit, moments_blocks
from isthmus.scenarios.package import find_package, load_package

OWNERS, DELTA, TRAIN_SHARE = 5, 1e-5, 0.75
EPSILONS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
TABLES = ("wines", "power", "shuttle")
PENALTY, NORM = 0.001, 0.5
LOSS_GOAL_POINTS = 3.0
MEMBERS, ATTACKED = 300, (1.0, 10.0)
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Data:
    """q: (n, d) features. groups: whose records stay on one side of the split."""

    name: str
    q: NDArray[np.int16]
    y: Ints
    groups: Ints


def tables(names: list[str]) -> list[Data]:
    """The tables with each column as one feature, or one a level."""
    found = []
    for name in names:
        data = table(name)
        found.append(Data(name, features(name, ("columns",)), data.y, data.groups))
    return found


def pictures(threads: int) -> Data:
    """ELPV's cells as the shipped scenario sees them."""
    cells = load_cells(default_cache(), threads, say)
    parts = load_package(find_package("solar-cell-inspection")).recipe.parts
    return Data("solar cells", cells.views[0][:, columns(parts)], cells.y, cells.groups)


def dealt(data: Data, seed: int) -> tuple[NDArray[np.bool_], Ints]:
    """(n,) whether a record trains, and which owner has it; whole groups by chance."""
    rng = np.random.default_rng(seed)
    codes = np.unique(data.groups, return_inverse=True)[1].reshape(-1)
    drawn = rng.random(int(codes.max()) + 1)
    return (drawn < TRAIN_SHARE)[codes], rng.integers(0, OWNERS, drawn.size)[codes]


def noisy_head(data: Data, train: NDArray[np.bool_], owner: Ints, epsilon: float) -> tuple[NDArray[np.float64], float]:
    """(d + 1,) bias and coefficients of the head of noisy sums, and its penalty."""
    d = data.q.shape[1]
    params, stage = (
        MomentsParams(views=("identity",), sure_weight=1, unsure_weight=1),
        Stage(backbone="bench", parts=(), dimension=d, digest=""),
    )
    noise = moments_noise(params, stage, Unit(), rho_for(epsilon, DELTA) * MOMENTS_PART, NORM)
    blocks = moments_blocks(params, stage, Unit(), noise.norm_max)
    total = np.zeros(sum(block.entries for block in blocks), dtype=np.int64)
    for place in range(OWNERS):
        rows = train & (owner == place)
        records = Records(data.y[rows], data.groups[rows], ("",) * int(rows.sum()))
        share = moments(TrainingRecords(records, (shortened(data.q[rows], noise.norm_max),), np.ones(records.size, dtype=np.int64)))
        total += told_only(share.packed(), blocks, noise) + noise_of(blocks, noise, OWNERS)
    found = believed(moments_from(total, d), int(train.sum()), int(train.sum()), int(train.sum()))
    fit = noisy_fit(found, noise.deviations[-1] * (OWNERS / (OWNERS - 1)) ** 0.5, PENALTY)
    return fit.raw(), fit.lam


def exact_head(data: Data, train: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The same without noise: the penalty by fold-out loss."""
    run = leave_one_group_out(data.q[train], np.ones(int(train.sum()), dtype=np.int64), data.y[train], data.groups[train], LAMBDAS)
    return run.candidates[choose_lambda(run.sums, LAMBDAS)].raw()


def judged(data: Data, test: NDArray[np.bool_], raw: NDArray[np.float64]) -> tuple[float, float]:
    """Accuracy at a score of zero, and area under the ROC curve."""
    score = raw[0] + data.q[test].astype(np.float64) @ raw[1:]
    return float((np.where(score >= 0, 1, -1) == data.y[test]).mean()), area(data.y[test], score)


def curve(data: Data, seeds: int) -> dict[str, Any]:
    """Accuracy and area at each epsilon, and what is lost against no noise on the same split, in points."""
    exact: list[tuple[float, float]] = []
    noisy: dict[float, list[tuple[float, float]]] = {epsilon: [] for epsilon in EPSILONS}
    for seed in range(seeds):
        say(f"{data.name}, seed {seed + 1} of {seeds}")
        train, owner = dealt(data, seed)
        exact.append(judged(data, ~train, exact_head(data, train)))
        for epsilon in EPSILONS:
            noisy[epsilon].append(judged(data, ~train, noisy_head(data, train, owner, epsilon)[0]))
    rows = []
    for epsilon, found in noisy.items():
        lost = [100 * (plain[0] - with_noise[0]) for plain, with_noise in zip(exact, found, strict=True)]
        ranks = {"accuracy": interval([one[0] for one in found]), "area": interval([one[1] for one in found])}
        rows.append({"epsilon": epsilon, **ranks, "points_lost": interval(lost)})
    plain = {"accuracy": interval([one[0] for one in exact]), "area": interval([one[1] for one in exact])}
    share = float(max((data.y > 0).mean(), (data.y < 0).mean()))
    about = {"records": len(data.y), "features": int(data.q.shape[1]), "majority": round(share, 4)}
    return {"data": data.name, **about, "owners": OWNERS, "delta": DELTA, "no_noise": plain, "curve": rows}


def membership(data: Data, seeds: int) -> list[dict[str, Any]]:
    """How well the best of bench/membership.py's attacks tells MEMBERS records in the sums from as many that are not, of the exact total
    and of noisy ones; the attacker has reference records of the same population. AUC 0.5 is a coin."""
    found: dict[str, list[float]] = {name: [] for name in ("exact", *(f"epsilon {e:g}" for e in ATTACKED))}
    ones = np.ones(MEMBERS, dtype=np.int64)
    params, d = MomentsParams(views=("identity",), sure_weight=1, unsure_weight=1), data.q.shape[1]
    stage = Stage(backbone="bench", parts=(), dimension=d, digest="")
    for seed in range(seeds):
        say(f"{data.name}, members, seed {seed + 1} of {seeds}")
        inside, outside, known = np.split(np.random.default_rng(1000 + seed).permutation(len(data.y))[: 3 * MEMBERS], 3)
        reference = moments_of(data.q[known], ones, data.y[known], data.groups[known])
        seen = standard(reference)
        asked = np.concatenate([inside, outside])
        who = Candidates((data.q[asked],), data.y[asked], np.ones(2 * MEMBERS, dtype=np.int64), np.arange(2 * MEMBERS) < MEMBERS)
        truth = np.where(who.member, 1, -1)
        for name, areas in found.items():
            noise = None if name == "exact" else moments_noise(params, stage, Unit(), rho_for(float(name.split()[1]), DELTA), NORM)
            rows = data.q[inside] if noise is None else shortened(data.q[inside], noise.norm_max)
            total = moments_of(rows, ones, data.y[inside], data.groups[inside])
            if noise is not None:
                blocks = moments_blocks(params, stage, Unit(), noise.norm_max)
                shares = sum(noise_of(blocks, noise, OWNERS) for _ in range(OWNERS))
                total = believed(moments_from(told_only(total.packed(), blocks, noise) + shares, d), MEMBERS, MEMBERS, MEMBERS)
            attacks = from_moments(total, reference, seen.mean, seen.scale, who)
            areas.append(max(area(truth, score) for score in attacks.values()))
    return [{"sums": name, "best_attack_auc": interval(values)} for name, values in found.items()]


def lost_at_one(found: dict[str, Any]) -> float:
    return float(next(row["points_lost"]["mean"] for row in found["curve"] if row["epsilon"] == 1.0))


def bars_of(figures: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        bar(f"accuracy lost at epsilon 1 on {one['data']}", lost_at_one(one), LOSS_GOAL_POINTS, "points", at_most=True)
        for one in figures
        if one["data"] in TABLES
    ]


def told(result: dict[str, Any]) -> str:
    lines = []
    for one in result["figures"]["curves"]:
        plain = one["no_noise"]["accuracy"]
        lines.append(
            f"{one['data']}: {one['records']:,} records, {one['features']} features, {one['owners']} owners, delta {one['delta']:g}"
        )
        lines.append(f"  {'epsilon':>8} {'accuracy':>9} {'95 % of seeds':>17} {'area':>7} {'points lost':>12}")
        for row in one["curve"]:
            found = row["accuracy"]
            seen = f"{found['mean']:>9.4f} {found['low']:>8.4f}-{found['high']:.4f} {row['area']['mean']:>8.4f}"
            lines.append(f"  {row['epsilon']:>8g} {seen} {row['points_lost']['mean']:>12.2f}")
        lines.append(
            f"  {'no noise':>8} {plain['mean']:>9.4f} {plain['low']:>8.4f}-{plain['high']:.4f} {one['no_noise']['area']['mean']:>8.4f}"
        )
        lines.append(f"  always the commoner class: {one['majority']:.4f}")
    for name, rows in result["figures"]["membership"].items():
        seen = ", ".join(f"{row['sums']} {row['best_attack_auc']['mean']:.3f}" for row in rows)
        lines.append(f"{name}: best attack on who is among {MEMBERS} in the sums, AUC: {seen}")
    lines += [
        f"{b['name']}: {b['value']:.2f} {b['unit']}, at most {b['goal']:g}: {'holds' if b['holds'] else 'FAILS'}" for b in result["bars"]
    ]
    return "\n".join(lines)


def picture(curves: list[dict[str, Any]]) -> str:
    """Points lost against epsilon, as SVG."""
    wide, high, left, top = 640, 360, 60, 34
    lost_most = max(row["points_lost"]["mean"] for one in curves for row in one["curve"])
    most = 3 * max(1, math.ceil(lost_most / 3))
    colours = ("#0b6e4f", "#b5651d", "#3454d1", "#8a1c7c")

    def place(epsilon: float, lost: float) -> str:
        x = left + (np.log10(epsilon) + 1) / 2 * (wide - left - 150)
        return f"{x:.1f},{top + min(max(lost, 0.0), most) / most * (high - top - 40):.1f}"

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" font-family="sans-serif" font-size="12">']
    parts.append(f'<text x="{left}" y="{high - 6}">epsilon (delta {DELTA:g}), {OWNERS} owners</text><text x="4" y="14">points lost</text>')
    for lost in range(0, most + 1, 3):
        x, y = place(0.1, lost).split(",")
        parts.append(f'<text x="{left - 24}" y="{y}">{lost}</text><line x1="{x}" x2="{wide - 150}" y1="{y}" y2="{y}" stroke="#ddd"/>')
    for epsilon in EPSILONS:
        parts.append(f'<text x="{place(epsilon, 0).split(",")[0]}" y="{high - 24}">{epsilon:g}</text>')
    for colour, one in zip(colours, curves, strict=False):
        points = " ".join(place(row["epsilon"], row["points_lost"]["mean"]) for row in one["curve"])
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{wide - 140}" y="{top + 16 * (1 + curves.index(one))}" fill="{colour}">{one["data"]}</text>')
    return "\n".join([*parts, "</svg>"])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--seeds", type=int, default=20, help="splits and dealings")
    parser.add_argument("--threads", type=int, default=2, help="processor threads for extraction of pictures")
    parser.add_argument("--only", choices=[*TABLES, "cells"], default=None, help="one data set")
    parser.add_argument("--picture", type=Path, default=None, help="an SVG file for the curve")
    given = parser.parse_args()
    sets = tables([given.only] if given.only in TABLES else [] if given.only else list(TABLES))
    sets += [pictures(given.threads)] if given.only in (None, "cells") else []
    curves = [curve(data, given.seeds) for data in sets]
    attacked = {data.name: membership(data, given.seeds) for data in sets}
    figures = {"curves": curves, "membership": attacked, "members": MEMBERS, "backbone": BACKBONE}
    result = {"bench": "privacy", "machine": machine(), "figures": figures, "bars": bars_of(curves)}
    print("\r", end="", file=sys.stderr)
    if given.picture is not None:
        given.picture.write_text(picture(curves), encoding="utf-8")
    print(json.dumps(result) if given.json else told(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
