"""Measures what reviewed doubtful cases teach: the gain in AUC and in the share answered, for each hundred reviews.

    .venv/bin/python bench/learn.py [--json] [--draws 20] [--cache FOLDER] [--threads 2]

In each draw the solar-cell modules are split at random: a fifth trains the first version, 45 % are a stream of new parts, the others
measure. From the stream, in random order, the first version leaves its doubtful cells to a person; after 100, 200 and 300 judged ones
a new version is fitted on training plus reviews, as `isthmus scenario learn` does. Beside it stand as many cells of the stream taken
at random, and as many that were answered. Thresholds are planned anew, from fold-out scores, for an error of at most PROMISE_PPM.

Doubtful cells are harder than others, so fold-out scores that hold them make the plan too careful. `doubtful, plan without` plans on
the first training cells only: what could be had if the nodes left reviewed records out of the fold-out histograms, which they do not
do yet. Images: ELPV data set, CC BY-NC-SA 4.0, for evaluation.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from bench_command import BarRows, Figures, Say, run_bench
from elpv import planned
from numpy.typing import NDArray
from solar_cells import Cells, Fit, Mask, area, bar, fit, scores

from isthmus.contracts.scenario import Scenario
from isthmus.foundry.foldout import Thresholds, choose_thresholds
from isthmus.sandbox.statistics.foldout import score_histogram

FIRST = 0.2
STREAM = 0.45
COUNTS = (100, 200, 300)
PROMISE_PPM = 100_000
KINDS = ("doubtful", "random", "answered")
WITHOUT = "doubtful, plan without"
JUDGED = 200


def parts_of(data: Cells, seed: int) -> tuple[Mask, Mask, Mask]:
    """(first training, stream, measured) by whole modules."""
    modules = np.random.default_rng(seed).permutation(np.unique(data.groups))
    a, b = int(len(modules) * FIRST), int(len(modules) * (FIRST + STREAM))
    return tuple(np.isin(data.groups, part) for part in (modules[:a], modules[a:b], modules[b:]))  # type: ignore[return-value]


def version(data: Cells, scenario: Scenario, train: Mask, test: Mask, planning: Mask | None = None) -> tuple[Fit, Thresholds]:
    """A version as the exchange would fit it, with thresholds for the promise. planning: the training cells that the plan counts; all."""
    found = fit(data, train, scenario.recipe.parts, data.groups, scenario.recipe.lambdas)
    plan = planned(scenario, PROMISE_PPM, int(test.sum()), len(np.unique(data.groups[test])))
    if planning is None:
        return found, choose_thresholds(found.histogram, plan)
    counted = planning[np.flatnonzero(train)]
    return found, choose_thresholds(score_histogram(found.scores[counted], data.y[train][counted]), plan)


def measured(data: Cells, made: tuple[Fit, Thresholds], test: Mask) -> dict[str, float]:
    """AUC, share answered and error among answered on the measuring modules."""
    found, cut = made
    score, y = scores(data, found, test), data.y[test]
    good, defect = score <= cut.lo, score >= cut.hi
    answered = good | defect
    wrong = (good & (y > 0)) | (defect & (y < 0))
    return {
        "auc": area(y, score),
        "answered": float(answered.mean()),
        "error": float(wrong.sum() / max(1, answered.sum())),
    }


def doubted(data: Cells, made: tuple[Fit, Thresholds], rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of these cells the version leaves to a person."""
    mask = np.zeros(data.size, dtype=bool)
    mask[rows] = True
    score = np.zeros(data.size)
    score[mask] = scores(data, made[0], mask)
    return np.asarray((score[rows] > made[1].lo) & (score[rows] < made[1].hi))


def draw(data: Cells, scenario: Scenario, seed: int) -> dict[str, Any]:
    """One draw: the first version, and the later ones by kind and count."""
    first, stream, test = parts_of(data, seed)
    made = version(data, scenario, first, test)
    rows = np.random.default_rng(1000 + seed).permutation(np.flatnonzero(stream))
    unsure = doubted(data, made, rows)
    pools = {"doubtful": rows[unsure], "random": rows, "answered": rows[~unsure]}
    found: dict[str, Any] = {"first": measured(data, made, test), "doubtful_share": float(unsure.mean())}
    for kind in KINDS:
        for count in COUNTS:
            if len(pools[kind]) < count:
                continue
            train = first.copy()
            train[pools[kind][:count]] = True
            found[f"{kind} {count}"] = measured(data, version(data, scenario, train, test), test)
            if kind == "doubtful":
                found[f"{WITHOUT} {count}"] = measured(data, version(data, scenario, train, test, first), test)
    return found


def row_of(draws: list[dict[str, Any]], name: str, count: int) -> dict[str, Any] | None:
    """Gains of one kind and count over the first version, paired by draw, for each hundred reviews with 1.96 standard errors."""
    pairs = [(one["first"], one[name]) for one in draws if name in one]
    if len(pairs) < 2:
        return None
    found: dict[str, Any] = {"draws": len(pairs)}
    for figure in ("auc", "answered", "error"):
        gains = np.array([(after[figure] - before[figure]) * 100 / count for before, after in pairs])
        found[f"{figure}_after"] = round(float(np.mean([after[figure] for _, after in pairs])), 4)
        found[f"{figure}_gain_per_hundred"] = round(float(gains.mean()), 4)
        found[f"{figure}_gain_error"] = round(1.96 * float(gains.std(ddof=1)) / np.sqrt(len(gains)), 4)
    return found


def measure(data: Cells, scenario: Scenario, times: int, say: Say) -> tuple[Figures, BarRows]:
    draws = []
    for seed in range(times):
        say(f"draw {seed + 1} of {times}")
        draws.append(draw(data, scenario, seed))
    firsts = {name: round(float(np.mean([one["first"][name] for one in draws])), 4) for name in ("auc", "answered", "error")}
    rows = {f"{kind} {count}": row_of(draws, f"{kind} {count}", count) for kind in (KINDS[0], WITHOUT, *KINDS[1:]) for count in COUNTS}
    figures = {
        "promise_ppm": PROMISE_PPM,
        "first": firsts,
        "doubtful_share": round(float(np.mean([one["doubtful_share"] for one in draws])), 4),
        "reviews": {name: row for name, row in rows.items() if row is not None},
    }
    judged = figures["reviews"].get(f"doubtful {JUDGED}")
    if judged is None:
        return figures, []
    return figures, [
        bar(
            f"AUC gained for each 100 of {JUDGED} reviews of doubtful cells: lower end",
            judged["auc_gain_per_hundred"] - judged["auc_gain_error"],
            0.0,
            "AUC",
        ),
        bar(
            f"share answered gained for each 100 of {JUDGED} reviews: lower end",
            judged["answered_gain_per_hundred"] - judged["answered_gain_error"],
            0.0,
            "share",
        ),
    ]


def table(result: dict[str, Any]) -> str:
    """For people."""
    figures = result["figures"]
    first = figures["first"]
    lines = [
        f"first version: AUC {first['auc']:.3f}, answered {first['answered']:.1%} at {first['error']:.1%} error;"
        f" {figures['doubtful_share']:.0%} of the stream is doubtful",
        f"{'reviews':28}{'AUC':>8}{'answered':>10}{'error':>8}   for each 100 reviews: AUC, share answered (1.96 standard errors)",
    ]
    for name, row in figures["reviews"].items():
        gains = "   ".join(f"{row[f'{f}_gain_per_hundred']:+.4f} ± {row[f'{f}_gain_error']:.4f}" for f in ("auc", "answered"))
        after = f"{row['auc_after']:>8.3f}{row['answered_after']:>10.1%}{row['error_after']:>8.1%}"
        lines.append(f"{name:28}{after}   {gains}   {row['draws']} draws")
    lines += [f"{'holds' if b['holds'] else 'FAILS':6} {b['name']}: {b['value']} (goal {b['goal']} {b['unit']})" for b in result["bars"]]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(run_bench("learn", __doc__ or "", ("draws", 20, "random splits of the modules"), measure, table))
