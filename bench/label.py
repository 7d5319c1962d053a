"""Measures which order of labelling teaches most: labels until an AUC is reached, in chosen order and in random order.

    .venv/bin/python bench/label.py [--json] [--draws 20] [--cache FOLDER] [--threads 2]

In each draw half of the solar-cell modules are a stock without labels, the others measure. The first START labels are drawn at random, from
then on each rule chooses (`foundry.labelling`), with a quarter of the questions drawn at random as at the labelling page, and without. The
goal of a draw is the AUC of its own model with the whole stock labelled, less a gap: so hard and easy draws ask the same. Images: ELPV data
set, CC BY-NC-SA 4.0, for evaluation.

The rule that ships was picked on draws 100 to 139 and 200 to 239, which this bench does not use.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from bench_command import BarRows, Figures, Say, run_bench
from numpy.typing import NDArray
from solar_cells import Cells, area, bar, columns

from isthmus.contracts.scenario import Scenario
from isthmus.foundry.labelling import RULES, SCALE_FLOOR, SURE_WEIGHT, UNSURE_WEIGHT, Given, LabelModel

START = 8
LABELS = 240
STEP = 4
DRAWN_EVERY = 4
RANDOM = "random"
ORDERS = (RANDOM, *RULES, *(f"{rule}, a quarter random" for rule in RULES))
SHIPPED = "change, a quarter random"
GAPS = (0.05, 0.03, 0.02)
JUDGED_GAP = 0.03
SPANS = ((12, 40), (44, 120), (124, 240))
RESAMPLES = 2000
LOOKS = (8, 20, 40, 80, 120, 160, 200, 240)
MS_GOAL = 20.0


@dataclass(frozen=True)
class Stock:
    """Pictures to label and pictures to measure on."""

    features: NDArray[np.int16]
    given: list[Given]
    test: NDArray[np.int16]
    truth: NDArray[np.int64]


def stock(data: Cells, scenario: Scenario, seed: int) -> Stock:
    """Half of the modules are asked, half measure."""
    rng = np.random.default_rng(seed)
    modules = rng.permutation(np.unique(data.groups))
    asked = np.isin(data.groups, modules[: len(modules) // 2])
    rows = rng.permutation(np.flatnonzero(asked))
    q = data.views[0][:, columns(scenario.recipe.parts)]
    given = [Given(float(data.y[row]), SURE_WEIGHT if data.w[row] == 2 else UNSURE_WEIGHT) for row in rows]
    return Stock(q[rows], given, q[~asked], data.y[~asked])


def next_row(model: LabelModel, order: str, asked: int, free: NDArray[np.bool_]) -> int:
    """The picture that this order asks next; rows are in random order already."""
    rule, _, mixed = order.partition(", ")
    drawn = order == RANDOM or asked < START or len({label.y for label in model.given.values()}) < 2
    if drawn or (mixed and asked % DRAWN_EVERY == 0):
        return int(np.flatnonzero(free)[0])
    best = model.best(free, rule)
    assert best is not None
    return best


def test_rows(given: Stock) -> NDArray[np.float64]:
    """The measuring pictures, standardised as the model does its own."""
    mean, scale = given.features.mean(axis=0), np.maximum(given.features.std(axis=0), SCALE_FLOOR)
    return np.concatenate([np.ones((len(given.test), 1)), (given.test - mean) / scale], axis=1)


def all_labelled(given: Stock) -> float:
    """AUC with the whole stock labelled."""
    model = LabelModel(given.features)
    model.learn(list(range(len(given.given))), given.given)
    return area(given.truth, test_rows(given) @ model.solution.coefficients)


def walk(given: Stock, order: str) -> tuple[list[float], list[float]]:
    """(AUC after every STEP labels, milliseconds of every answer: learning it and choosing the next)."""
    model, test = LabelModel(given.features), test_rows(given)
    free = np.ones(len(given.given), dtype=bool)
    areas, times = [], []
    row = next_row(model, order, 0, free)
    for asked in range(1, LABELS + 1):
        began = time.perf_counter()
        model.add(row, given.given[row])
        free[row] = False
        row = next_row(model, order, asked, free)
        times.append((time.perf_counter() - began) * 1000)
        if asked % STEP == 0:
            areas.append(area(given.truth, test @ model.solution.coefficients))
    return areas, times


def labels_to(areas: list[float], goal: float) -> int:
    """Labels until the AUC reached the goal and, on average of this and the next two looks, kept it; LABELS + STEP when it never did."""
    for place in range(len(areas)):
        if areas[place] >= goal and float(np.mean(areas[place : place + 3])) >= goal:
            return (place + 1) * STEP
    return LABELS + STEP


def gain(areas: NDArray[np.float64], random: NDArray[np.float64], span: tuple[int, int]) -> dict[str, float]:
    """Mean AUC over a span of labels less that of random order, paired by draw, with 1.96 standard errors."""
    looks = slice(span[0] // STEP - 1, span[1] // STEP)
    found = (areas[:, looks] - random[:, looks]).mean(axis=1)
    error = 1.96 * float(found.std(ddof=1)) / np.sqrt(len(found)) if len(found) > 1 else float("inf")
    return {"mean": round(float(found.mean()), 4), "error": round(error, 4)}


def ratio(chosen: list[int], random: list[int]) -> dict[str, float]:
    """Labels in random order over labels in chosen order, as a ratio of means, with the 95 % interval of paired resampling."""
    a, b = np.array(random, dtype=float), np.array(chosen, dtype=float)
    picks = np.random.default_rng(0).integers(0, len(a), (RESAMPLES, len(a)))
    low, high = np.quantile(a[picks].mean(axis=1) / b[picks].mean(axis=1), [0.025, 0.975])
    return {"ratio": round(float(a.mean() / b.mean()), 3), "low": round(float(low), 3), "high": round(float(high), 3)}


def goal_rows(curves: dict[str, list[list[float]]], full: list[float], gap: float) -> dict[str, Any]:
    """order -> labels until a draw's own goal."""
    needed = {o: [labels_to(areas, most - gap) for areas, most in zip(curves[o], full, strict=True)] for o in ORDERS}
    return {
        order: {
            "labels_mean": round(float(np.mean(needed[order])), 1),
            "labels_median": float(np.median(needed[order])),
            "never": sum(n > LABELS for n in needed[order]),
            **ratio(needed[order], needed[RANDOM]),
        }
        for order in ORDERS
    }


def measure(data: Cells, scenario: Scenario, draws: int, say: Say) -> tuple[Figures, BarRows]:
    curves: dict[str, list[list[float]]] = {order: [] for order in ORDERS}
    times: list[float] = []
    full: list[float] = []
    for seed in range(draws):
        given = stock(data, scenario, seed)
        full.append(all_labelled(given))
        for order in ORDERS:
            say(f"draw {seed + 1} of {draws}: {order}")
            areas, took = walk(given, order)
            curves[order].append(areas)
            times += took if order == SHIPPED else []
    random = np.array(curves[RANDOM])
    quantiles = np.quantile(times, [0.5, 0.95, 1.0])
    found: Figures = {
        "stock_all_labelled_auc": round(float(np.mean(full)), 4),
        "labels_to_goal": {str(gap): goal_rows(curves, full, gap) for gap in GAPS},
        "auc_less_random": {o: {f"{a} to {b}": gain(np.array(curves[o]), random, (a, b)) for a, b in SPANS} for o in ORDERS[1:]},
        "curves": {o: {str(n): round(float(np.mean(curves[o], axis=0)[n // STEP - 1]), 4) for n in LOOKS} for o in ORDERS},
        "ms_per_answer": {name: round(float(v), 2) for name, v in zip(("median", "p95", "most"), quantiles, strict=True)},
    }
    judged = found["labels_to_goal"][str(JUDGED_GAP)][SHIPPED]
    early = found["auc_less_random"][SHIPPED]["{} to {}".format(*SPANS[0])]
    return found, [
        bar(f"labels to the stock's AUC less {JUDGED_GAP}, random over chosen ({SHIPPED}): lower end", judged["low"], 1.0, "ratio"),
        bar("AUC with 12 to 40 labels, chosen less random order: lower end", early["mean"] - early["error"], 0.0, "AUC"),
        bar("an answer: learning it and choosing the next, 95 % of them", found["ms_per_answer"]["p95"], MS_GOAL, "ms", at_most=True),
    ]


def table(result: dict[str, Any]) -> str:
    """For people."""
    figures, lines = result["figures"], []
    lines.append(f"the whole stock labelled: AUC {figures['stock_all_labelled_auc']:.3f}")
    for gap, rows in figures["labels_to_goal"].items():
        lines.append(f"labels until that less {gap:5}  mean  median  never   random over this order (95 % interval)")
        for order, row in rows.items():
            span = f"{row['ratio']:.2f} ({row['low']:.2f} to {row['high']:.2f})"
            lines.append(f"  {order:26}{row['labels_mean']:>6.0f}{row['labels_median']:>8.0f}{row['never']:>7}   {span}")
    lines.append("AUC less that of random order, mean over a span of labels (1.96 standard errors)")
    for order, spans in figures["auc_less_random"].items():
        lines.append(f"  {order:26}" + "   ".join(f"{name}: {v['mean']:+.4f} ± {v['error']:.4f}" for name, v in spans.items()))
    lines.append(f"{'mean AUC after labels':28}" + "".join(f"{look:>7}" for look in LOOKS))
    lines += [f"  {order:26}" + "".join(f"{row[str(n)]:>7.3f}" for n in LOOKS) for order, row in figures["curves"].items()]
    lines.append(f"milliseconds an answer: {figures['ms_per_answer']}")
    lines += [f"{'holds' if b['holds'] else 'FAILS':6} {b['name']}: {b['value']} (goal {b['goal']} {b['unit']})" for b in result["bars"]]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(run_bench("label", __doc__ or "", ("draws", 20, "random halves of the modules"), measure, table))
