"""Batteries: cycles left until a cell's last, and its capacity ten cycles on; owners are cells, each left out in turn (simulated: one
laboratory measured them all).

The file's cells come in experiments of three or four that were aged alike, so a cell's siblings stay in training: a model that remembers
finds them. Whole experiments left out are told beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from series_data import batteries, windows
from series_peers import Peer, peers

from isthmus.assurance.conformal import ResidualBins, band, blocks_short
from isthmus.contracts.schema import Column, Schema
from isthmus.contracts.targets import TARGET_MAX, Target, units_of, values_of
from isthmus.foundry.regression import OwnerRows, fit_owners, units
from isthmus.foundry.seriesfeatures import SeriesExtractor

STEPS, CYCLES_MIN, AHEAD = 10, 20, 10
SCHEMA = Schema(
    columns=(
        Column(name="capacity", unit="Ah", low=0.0, high=2.5),
        Column(name="voltage", unit="V", low=2.5, high=4.2),
        Column(name="temperature", unit="°C", low=0.0, high=60.0),
    ),
    steps=STEPS,
)
RECIPES = (("last/1", "memory/2"), ("last/1", "hinges/30"), ("last/1", "summary", "hinges/30"))
PEER_PARTS = ("last/2", "summary", "memory/2")
LAMBDAS = (0.001, 0.01, 0.1, 0.3, 1.0, 3.0)
INNER = 2
ALPHA = 0.2
BINS = ResidualBins(limit=2.0 * TARGET_MAX, count=4096)
EXPERIMENTS = (
    (5, 6, 7, 18),
    (25, 26, 27, 28),
    (29, 30, 31, 32),
    (33, 34, 36),
    (38, 39, 40),
    (41, 42, 43, 44),
    (45, 46, 47, 48),
    (49, 50, 51, 52),
    (53, 54, 55, 56),
)
"""Cells that NASA aged together, by number."""
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Task:
    """What is foretold. relative: as a change from the newest capacity."""

    name: str
    target: Target


TASKS = (
    Task("cycles left", Target(name="cycles_left", unit="cycles", low=0.0, high=200.0)),
    Task("capacity in ten cycles", Target(name="capacity_ahead", unit="Ah", low=0.0, high=2.5, change_from="capacity")),
)


@dataclass(frozen=True)
class Cycles:
    """All cells' windows. q: by parts. cell, experiment: (n,) codes."""

    q: dict[tuple[str, ...], NDArray[np.int16]]
    outcome: Floats
    newest: Floats
    cell: Ints
    experiment: Ints
    names: list[str]


def cycles(task: Task) -> Cycles:
    known = [one for one in batteries() if len(one.left) >= CYCLES_MIN]
    extractors = {parts: SeriesExtractor(SCHEMA, parts) for parts in (*RECIPES, PEER_PARTS)}
    ahead = AHEAD if task.target.change_from else 0
    seen, outcome, newest, cell, experiment = [], [], [], [], []
    for place, one in enumerate(known):
        rows = windows(np.stack([one.capacity, one.voltage, one.temperature], axis=1), STEPS)
        count = len(rows) - ahead
        number = int(one.name[1:])
        seen.append(rows[:count])
        outcome.append(one.capacity[STEPS - 1 + ahead :] if ahead else one.left[STEPS - 1 :])
        newest.append(one.capacity[STEPS - 1 : STEPS - 1 + count])
        cell.append(np.full(count, place))
        experiment.append(np.full(count, next(k for k, group in enumerate(EXPERIMENTS) if number in group)))
    records = np.concatenate(seen)
    q = {parts: extractor.quantised(records) for parts, extractor in extractors.items()}
    return Cycles(q, *(np.concatenate(part) for part in (outcome, newest, cell, experiment)), [one.name for one in known])  # type: ignore[call-arg]


def cell_error(data: Cycles, foretold: Floats) -> float:
    """Root mean squared error of a cell, averaged over cells as squares: a long-lived cell does not count more."""
    return float(np.sqrt(np.mean([np.mean((foretold[data.cell == k] - data.outcome[data.cell == k]) ** 2) for k in np.unique(data.cell)])))


def ours(data: Cycles, task: Task, out: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats, tuple[str, ...]]:
    """(values, low, high) of the rows in `out` by the fit on all others, and its parts; recipe and penalty by cells left out inside."""
    kept = ~out
    newest = data.newest if task.target.change_from else None
    y = units_of(task.target, data.outcome, newest)
    count = np.bincount(data.cell[kept])
    w = np.clip(np.rint(100.0 / np.maximum(count, 1)), 1, 16).astype(np.int64)[data.cell[kept]]
    fits = [(fit_owners([OwnerRows(data.q[parts][kept], w, y[kept], data.cell[kept])], LAMBDAS), parts) for parts in RECIPES]
    fit, parts = min(fits, key=lambda one: one[0].loss)
    found = band(BINS.counted(y[kept] - fit.scores[0]), BINS, ALPHA)
    scores = units(fit.candidate, data.q[parts][out])
    now = data.newest[out] if task.target.change_from else None
    value, low, high = (values_of(task.target, scores + shift, now) for shift in (0.0, found.low, found.high))
    return value, low, high, parts


def peer_fit(data: Cycles, task: Task, peer: Peer, kept: NDArray[np.bool_], out: NDArray[np.bool_]) -> Floats:
    shift = data.newest if task.target.change_from else np.zeros_like(data.newest)
    x = data.q[PEER_PARTS].astype(np.float64)
    weight = 1.0 / np.bincount(data.cell)[data.cell]
    model = peer.fit(x[kept], (data.outcome - shift)[kept], weight[kept] / weight[kept].mean())
    return np.asarray(model.predict(x[out]) + shift[out])


def pooled(data: Cycles, task: Task, out: NDArray[np.bool_]) -> tuple[Floats, str]:
    """What the best tuned peer foretells: its setting is chosen by parts of cells left out inside."""
    best = (np.inf, peers(small=True)[0])
    for peer in peers(small=True):
        loss = 0.0
        for part in range(INNER):
            inner = ~out & (data.cell % INNER == part)
            error = (peer_fit(data, task, peer, ~out & ~inner, inner) - data.outcome[inner]) ** 2
            loss += float((error / np.bincount(data.cell)[data.cell[inner]]).sum())
        best = min(best, (loss, peer), key=lambda one: one[0])
    return peer_fit(data, task, best[1], ~out, out), best[1].name


def battery_task(index: int, say: Say) -> dict[str, Any]:
    """Each cell left out in turn, and each experiment."""
    task = TASKS[index]
    data = cycles(task)
    n = len(data.outcome)
    value, low, high, theirs = np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    chosen: list[str] = []
    used: list[tuple[str, ...]] = []
    for cell in np.unique(data.cell):
        say(f"battery: {task.name}, without {data.names[cell]}")
        out = data.cell == cell
        value[out], low[out], high[out], parts = ours(data, task, out)
        theirs[out], name = pooled(data, task, out)
        chosen.append(name)
        used.append(parts)
    apart = np.empty(n)
    for experiment in np.unique(data.experiment):
        out = data.experiment == experiment
        apart[out] = ours(data, task, out)[0]
    inside = (data.outcome >= low) & (data.outcome <= high)
    plain = data.newest if task.target.change_from else np.full(n, 0.0)
    if not task.target.change_from:
        for cell in np.unique(data.cell):
            plain[data.cell == cell] = data.outcome[data.cell != cell].mean()
    errors = {
        "ours": cell_error(data, value),
        "pooled": cell_error(data, theirs),
        "persistence" if task.target.change_from else "mean": cell_error(data, plain),
    }
    cells = len(np.unique(data.cell))
    return {
        "task": task.name,
        "unit": task.target.unit,
        "cells": cells,
        "windows": n,
        "error": {name: round(error, 4) for name, error in errors.items()},
        "error_over_pooled": round(errors["ours"] / errors["pooled"], 4),
        "error_whole_experiments_out": round(cell_error(data, apart), 4),
        "pooled_models": {name: chosen.count(name) for name in sorted(set(chosen))},
        "parts": {"+".join(parts): used.count(parts) for parts in sorted(set(used))},
        "band_rate": 1.0 - ALPHA,
        "band_held": round(float(np.mean([inside[data.cell == k].mean() for k in np.unique(data.cell)])), 4),
        "cells_held_throughout": int(sum(inside[data.cell == k].all() for k in np.unique(data.cell))),
        "blocks_short_for_90_percent": blocks_short(cells, 0.1),
    }
