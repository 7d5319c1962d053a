"""Measures the next site: does the fleet's model with a few local labels keep up with the better of fleet and local?

    .venv/bin/python bench/replicate.py [--json] [--draws 20] [--cache FOLDER] [--threads 2]

Two shifts on real solar cells. mono to poly: a fleet that only ever saw monocrystalline cells, and a site of polycrystalline ones.
unseen modules: the sample owners' fleet, and the twelve modules of line 4. At the site n labels are drawn at random, as
`isthmus replicate` does; the others only measure. Weightings and penalties are averaged over by exact leave-one-out on the n labels,
thresholds are not looked at: AUC says how well cells are ranked. Then a roll-out to a hundred sites (bench/rollout.py): how many get a
promise, and how many promises are broken. Images: ELPV data set, CC BY-NC-SA 4.0, for evaluation.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bench_command import BarRows, Figures, Say, run_bench
from elpv import sample_parts
from numpy.typing import NDArray
from rollout import rolled_out, rollout_bars, rollout_table
from rollout_sites import SITES, load_sites
from solar_cells import Cells, Mask, area, bar, columns, fit, interval, stacked

from isthmus.contracts.errors import InputError
from isthmus.contracts.scenario import Scenario
from isthmus.contracts.sums import Moments
from isthmus.foundry.foldout import moments_of
from isthmus.foundry.ridge import Candidate
from isthmus.foundry.site import LocalRows, combine
from isthmus.kit.hatmatrix import design

COUNTS = (10, 20, 40, 80, 160, 320, 400)
JUDGED_AT = 40
SLACK = 0.005
SECONDS = 20.0
ROLLOUT = "rollout"
MODELS = ("fleet", "local", "chosen")


@dataclass(frozen=True)
class Shift:
    """A fleet and a site that is unlike it. total: the fleet's sums. penalty: its own choice. rows: the site's cells."""

    name: str
    total: Moments
    penalty: float
    rows: NDArray[np.int64]


def shift(data: Cells, scenario: Scenario, name: str, fleet: Mask, site: Mask) -> Shift:
    """Sums of the fleet's cells in all views, as its owners would have sent them."""
    recipe, rows = scenario.recipe, np.flatnonzero(fleet)
    count = len(data.views)
    w, y, g = (np.tile(part[rows], count) for part in (data.w, data.y, data.groups))
    total = moments_of(stacked(data, rows, recipe.parts), w, y, g, records=len(rows))
    penalty = fit(data, fleet, recipe.parts, data.groups, recipe.lambdas).candidate.lam
    return Shift(name, total, penalty, np.flatnonzero(site))


def scored(data: Cells, scenario: Scenario, candidate: Candidate, rows: NDArray[np.int64]) -> float:
    """AUC of single, unflipped images."""
    q = data.views[0][rows][:, columns(scenario.recipe.parts)]
    return area(data.y[rows], np.asarray(design(q, candidate.mean, candidate.scale) @ candidate.coefficients))


def draw(data: Cells, scenario: Scenario, given: Shift, count: int, seed: int) -> dict[str, Any] | None:
    """One draw of `count` labels; None when they are of one class."""
    recipe = scenario.recipe
    order = np.random.default_rng(seed).permutation(given.rows)
    mine, rest = order[:count], order[count:]
    if len(np.unique(data.y[mine])) < 2:
        return None
    views = len(data.views)
    local = LocalRows(
        stacked(data, mine, recipe.parts), np.tile(data.w[mine], views), np.tile(data.y[mine], views), np.tile(np.arange(count), views)
    )
    began = time.monotonic()
    try:
        found = combine(given.total, local, given.penalty, scenario.replicate.weightings, recipe.lambdas)
    except InputError:
        return None
    wall_s = time.monotonic() - began
    heads = {"fleet": found.fleet, "local": found.local or found.fleet, "chosen": found.combined}
    result: dict[str, Any] = {name: scored(data, scenario, head.candidate, rest) for name, head in heads.items()}
    return {**result, "weights": found.weights, "wall_s": wall_s}


def curve(data: Cells, scenario: Scenario, given: Shift, draws: int, say: Say) -> list[dict[str, Any]]:
    """A row for each number of labels."""
    rows = []
    for count in COUNTS:
        say(f"{given.name}: {count} labels")
        found = [one for one in (draw(data, scenario, given, count, seed) for seed in range(draws)) if one is not None]
        gain = [one["chosen"] - max(one["fleet"], one["local"]) for one in found]
        means = {name: float(np.mean([one[name] for one in found])) for name in MODELS}
        over = [one["chosen"] - one["fleet"] for one in found], [one["chosen"] - one["local"] for one in found]
        error = 1.96 * float(np.std(gain, ddof=1)) / np.sqrt(len(found))
        rows.append(
            {
                "labels": count,
                "draws": len(found),
                **{name: interval([one[name] for one in found]) for name in MODELS},
                "chosen_less_better_of_means": round(means["chosen"] - max(means["fleet"], means["local"]), 4),
                "chosen_less_better": round(float(np.mean(gain)), 4),
                "chosen_less_better_error": round(error, 4),
                "chosen_less_fleet": interval(over[0]),
                "chosen_less_local": interval(over[1]),
                "weights": [round(float(np.mean([one["weights"][k] for one in found])), 3) for k in range(3)],
                "wall_s": round(float(np.median([one["wall_s"] for one in found])), 3),
            }
        )
    return rows


def shifts(data: Cells, scenario: Scenario) -> list[Shift]:
    kinds = np.array([cell.kind for cell in data.cells])
    owners, new = sample_parts(data)
    train = np.any([pair[0] for pair in owners.values()], axis=0)
    return [
        shift(data, scenario, "mono to poly", kinds == "mono", kinds == "poly"),
        shift(data, scenario, "unseen modules", train, new),
    ]


def bars_of(figures: dict[str, Any]) -> list[dict[str, Any]]:
    judged = {name: next(row for row in rows if row["labels"] == JUDGED_AT) for name, rows in figures.items()}
    found = [
        bar(f"{name}, {JUDGED_AT} labels: mean AUC less the better of fleet and local", row["chosen_less_better_of_means"], -SLACK, "AUC")
        for name, row in judged.items()
    ]
    best = max(row["chosen_less_better_of_means"] for row in judged.values())
    slowest = max(row["wall_s"] for rows in figures.values() for row in rows)
    return [
        *found,
        bar(f"{JUDGED_AT} labels: strictly above both on at least one shift, by", best, 1e-4, "AUC"),
        bar("fitting a site, features cached", slowest, SECONDS, "s", at_most=True),
    ]


def table(result: dict[str, Any]) -> str:
    """For people."""
    lines = []
    for name, rows in result["figures"].items():
        if name == ROLLOUT:
            continue
        lines.append(
            f"{name:18}{'fleet':>9}{'local':>9}{'chosen':>9}{'chosen less the better of both':>34}   weight of fleet / joined / local"
        )
        for row in rows:
            paired = f"(paired {row['chosen_less_better']:+.4f} ± {row['chosen_less_better_error']:.4f})"
            gap = f"{row['chosen_less_better_of_means']:+.4f} {paired}"
            chose = " / ".join(f"{share:.2f}" for share in row["weights"])
            figures = "".join(f"{row[model]['mean']:>9.3f}" for model in MODELS)
            lines.append(f"{row['labels']:>10} labels{figures}{gap:>34}   {chose}")
        lines.append("")
    lines += [*rollout_table(result["figures"][ROLLOUT]), ""]
    lines += [f"{'holds' if b['holds'] else 'FAILS':6} {b['name']}: {b['value']} (goal {b['goal']} {b['unit']})" for b in result["bars"]]
    return "\n".join(lines)


def measure(data: Cells, scenario: Scenario, draws: int, say: Say) -> tuple[Figures, BarRows]:
    figures = {one.name: curve(data, scenario, one, draws, say) for one in shifts(data, scenario)}
    return figures, bars_of(figures)


def roll_out(data: Cells, scenario: Scenario, cache: Path, threads: int, say: Say) -> tuple[Figures, BarRows]:
    """The section `rollout`."""
    sites = load_sites(data, scenario.recipe.parts, SITES, cache, threads, say)
    found = rolled_out(data, scenario, sites, say)
    return {ROLLOUT: found}, rollout_bars(found)


if __name__ == "__main__":
    raise SystemExit(run_bench("replicate", __doc__ or "", ("draws", 20, "random draws of labels"), measure, table, roll_out))
