"""Measures the verticals on series: floods, batteries and labelled series, beside persistence and the best tuned pooled model.

    .venv/bin/python bench/vertical_series.py [--json] [--jobs 2]

Data are read from pinned packages (bench/series_data.py says which, and under what licence). Error is the root of the mean squared error.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
from series_batteries import TASKS, battery_task
from series_data import labelled
from series_flood import LEADS, REGIONS, flood_lead
from series_leak import leak
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import RidgeClassifierCV
from sklearn.neighbors import KNeighborsClassifier
from solar_cells import bar, machine
from threadpoolctl import threadpool_limits

from isthmus.contracts.schema import Column, Schema
from isthmus.foundry.foldout import leave_one_group_out
from isthmus.foundry.regression import units
from isthmus.foundry.seriesfeatures import SeriesExtractor

SETS = {"GunPoint": (-3.0, 3.0), "ItalyPowerDemand": (-3.0, 4.0)}
"""Both are published in standard deviations; the ranges are wide enough for such."""
CLASS_PARTS = (("kernels/84",), ("kernels/336",), ("kernels/336", "summary", "changes/3"))
CLASS_LAMBDAS = (0.01, 0.1, 1.0, 10.0)
ERROR_RATIO = 1.1
HELD_SLACK = 0.02
LEAK_AUC = 0.6
Say = Callable[[str], None]


def classes(name: str, say: Say) -> dict[str, Any]:
    """Accuracy on the published test part; ours chosen by leaving each training series out."""
    say(f"labelled series: {name}")
    parts = labelled(name)
    (train, y), (test, truth) = parts["train"], parts["test"]
    low, high = SETS[name]
    schema = Schema(columns=(Column(name="signal", low=low, high=high),), steps=train.shape[1])
    ones, groups, tried = np.ones(len(y), dtype=np.int64), np.arange(len(y)), []
    for recipe in CLASS_PARTS:
        extractor = SeriesExtractor(schema, recipe)
        run = leave_one_group_out(extractor.quantised(train[:, :, None]), ones, y, groups, CLASS_LAMBDAS)
        best = int(np.argmin(run.sums.loss))
        tried.append((int(run.sums.loss[best]), recipe, extractor, run.candidates[best]))
    _, recipe, extractor, head = min(tried, key=lambda one: one[0])
    mine = np.where(units(head, extractor.quantised(test[:, :, None])) >= 0, 1, -1)
    models = {
        "ridge": RidgeClassifierCV(alphas=np.logspace(-2, 3, 6)),
        "nearest neighbour": KNeighborsClassifier(1),
        "random forest": RandomForestClassifier(300, random_state=0),
        "gradient boosting": HistGradientBoostingClassifier(random_state=0, min_samples_leaf=5),
    }
    theirs = {model: round(float((fit.fit(train, y).predict(test) == truth).mean()), 4) for model, fit in models.items()}
    accuracy = {"ours": round(float((mine == truth).mean()), 4), **theirs}
    return {"set": name, "train": len(y), "test": len(truth), "steps": int(train.shape[1]), "parts": list(recipe), "accuracy": accuracy}


def jobs() -> list[tuple[str, Callable[..., dict[str, Any]], tuple[Any, ...]]]:
    floods = [("flood", flood_lead, (region, lead)) for region in REGIONS for lead in LEADS]
    cells = [("battery", battery_task, (k,)) for k in range(len(TASKS))]
    return [*floods, *cells, *(("labelled series", classes, (name,)) for name in SETS), *(("leak", leak, (region,)) for region in REGIONS)]


def _said(text: str) -> None:
    print(f"\r{text:90}", end="", file=sys.stderr, flush=True)


def _silent(text: str) -> None:
    """Workers do not write over each other."""


def _worked(make: Callable[..., dict[str, Any]], given: tuple[Any, ...]) -> dict[str, Any]:
    with threadpool_limits(1):
        return make(*given, _silent)


def flood_bars(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for row in rows:
        name = f"{row['region']}, {row['lead_days']} days ahead"
        scores = row["nash_sutcliffe"]
        found += [
            bar(f"{name}: error over the best tuned pooled model's", row["error_over_pooled"], ERROR_RATIO, "ratio", at_most=True),
            bar(f"{name}: Nash-Sutcliffe above persistence by", scores["ours"] - scores["persistence"], 0.0, "of variance"),
            bar(f"{name}: 90 % bands hold on average over gauges, less 90 %", row["band_held"] - 0.9, -HELD_SLACK, "share"),
            bar(f"{name}: adaptive 90 % bands hold, off by", abs(row["band_held_adaptive"] - 0.9), HELD_SLACK, "share", at_most=True),
        ]
    return found


def battery_bars(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for row in rows:
        found += [
            bar(f"{row['task']}: error over the best tuned pooled model's", row["error_over_pooled"], ERROR_RATIO, "ratio", at_most=True),
            bar(f"{row['task']}: 80 % bands hold, less 80 %", row["band_held"] - row["band_rate"], -0.05, "share"),
        ]
    return found


def class_bars(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for row in rows:
        best = max(value for name, value in row["accuracy"].items() if name != "ours")
        name = f"{row['set']}: accuracy less the best of scikit-learn on raw values"
        found.append(bar(name, row["accuracy"]["ours"] - best, -0.01, "share"))
    return found


def leak_bars(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for row in rows:
        few = min(row["rows"], key=lambda one: one["features"])
        name = f"{row['region']}: worst attack on whole events behind {few['features']} features"
        found.append(bar(name, few["auc"]["mean"], LEAK_AUC, "AUC", at_most=True))
    return found


BARS = {"flood": flood_bars, "battery": battery_bars, "labelled series": class_bars, "leak": leak_bars}


def series_verticals(progress: Say, workers: int = 2) -> list[dict[str, Any]]:
    """A row a vertical: vertical, figures (one a region and lead, task or set), bars."""
    listed = jobs()
    progress(f"series: {len(listed)} measurements")
    with ProcessPoolExecutor(workers) as pool:
        waiting = [(vertical, given, pool.submit(_worked, make, given)) for vertical, make, given in listed]
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in BARS}
        for vertical, given, future in waiting:
            found[vertical].append(future.result())
            progress(f"series: {vertical} {', '.join(str(one) for one in given)} is measured")
    return [{"vertical": name, "figures": rows, "bars": BARS[name](rows)} for name, rows in found.items()]


def flood_lines(row: dict[str, Any]) -> list[str]:
    scores = row["nash_sutcliffe"]
    lines = [
        f"{row['region']}, {row['lead_days']} days ahead, {row['features']} features; pooled: {row['pooled_model']}",
        "  Nash-Sutcliffe: " + ", ".join(f"{name} {value:.3f}" for name, value in scores.items()),
        f"  error over pooled {row['error_over_pooled']:.3f}; 90 % bands: {row['band_held']:.1%}, adaptive {row['band_held_adaptive']:.1%}",
    ]
    for gauge in row["gauges"]:
        likely, cautious = gauge["warnings"]["likeliest"], gauge["warnings"]["cautious"]
        said = (
            f"{w['hits']} hits, {w['misses']} misses, {w['false_alarms']} false alarms, onsets {w['onset_hits']}/{w['onsets']}"
            for w in (likely, cautious)
        )
        lines.append(f"    {gauge['gauge']:10} warned when likely: {next(said)}; when possible: {next(said)}")
    for rule, proof in row["proof"].items():
        said_of = f"{proof['events']}, missed {proof['missed']}, recall proven {proof['recall_bound']:.1%}, tier {proof['granted']}"
        lines.append(f"    events ({rule}): {said_of}")
        lines += [f"      {tier} {text}" for tier, text in proof["refused"].items()]
    lines += [
        f"    new gauge {one['gauge']}: fleet {one['fleet']:.3f}, own year {one['own_year']:.3f}, both {one['both']:.3f}"
        for one in row["new_gauge"]
    ]
    return lines


def table(verticals: list[dict[str, Any]]) -> str:
    """For people."""
    lines: list[str] = []
    for vertical in verticals:
        for row in vertical["figures"]:
            if vertical["vertical"] == "flood":
                lines += flood_lines(row)
            else:
                lines.append(json.dumps(row, ensure_ascii=False))
        lines.append("")
    bars = [one for vertical in verticals for one in vertical["bars"]]
    lines += [f"{'holds' if b['holds'] else 'FAILS':6} {b['name']}: {b['value']} (goal {b['goal']} {b['unit']})" for b in bars]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    given = parser.parse_args()
    verticals = series_verticals(_said, given.jobs)
    print("\r", end="", file=sys.stderr)
    bars = [one for vertical in verticals for one in vertical["bars"]]
    figures = {vertical["vertical"]: vertical["figures"] for vertical in verticals}
    print(
        json.dumps({"bench": "vertical_series", "machine": machine(), "figures": figures, "bars": bars}) if given.json else table(verticals)
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
