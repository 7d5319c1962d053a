"""How well sums over windows of a series tell whose events are in them; attacks from bench/membership.py, units are whole events.

An attacker sees one owner's moments (or a roster's, when it is alone in it) and holds other events of the same river. It asks of an event
that it also holds whether it is in the sums. Windows of one event are alike, so an event is harder to hide than a window.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from membership import Candidates, from_moments
from series_data import FLOOD_COLUMNS, catchments, flood_windows, lahn
from solar_cells import area, interval

from isthmus.contracts.schema import Column, Schema
from isthmus.foundry.foldout import moments_of
from isthmus.foundry.ridge import standard
from isthmus.foundry.seriesfeatures import SeriesExtractor

FLOOD_SCHEMA = Schema(
    columns=(
        Column(name=FLOOD_COLUMNS[0], low=0.005, high=5.0, log=True),
        Column(name=FLOOD_COLUMNS[1], low=0.0, high=3.0),
        Column(name=FLOOD_COLUMNS[2], unit="mm", low=0.0, high=80.0),
        Column(name=FLOOD_COLUMNS[3], unit="°C", low=-30.0, high=30.0, missing=True),
        Column(name=FLOOD_COLUMNS[4], low=-1.0, high=1.0),
        Column(name=FLOOD_COLUMNS[5], low=-1.0, high=1.0),
    ),
    steps=30,
)
RECIPES = (
    ("last/3", "memory/3", "changes/2"),
    ("last/2", "memory/2"),
    ("summary", "kernels/24"),
    ("last/3", "summary", "memory/4", "hinges/200"),
)
DRAWS = 3
SINGLE = "au_saumon"
"""The catchment that stands alone for its region."""
Say = Callable[[str], None]


def attacked(q: np.ndarray[Any, Any], y: np.ndarray[Any, Any], events: np.ndarray[Any, Any], seed: int) -> dict[str, float]:
    """AUC by attack at telling member events: half of the events are in the sums, a quarter is the attacker's, the rest is asked about."""
    order = np.random.default_rng(seed).permutation(int(events.max()) + 1)
    half, three = len(order) // 2, 3 * len(order) // 4
    members, known, others = (np.isin(events, part) for part in (order[:half], order[half:three], order[three:]))
    asked = others | np.isin(events, order[: len(order) - three])
    ones = np.ones(len(y), dtype=np.int64)
    total, reference = (moments_of(q[m], ones[m], y[m], events[m]) for m in (members, known))
    norm = standard(total)
    who = Candidates((q[asked],), y[asked], ones[asked], members[asked])
    codes, places = np.unique(events[asked], return_inverse=True)
    truth = np.isin(codes, order[:half])
    found = from_moments(total, reference, norm.mean, norm.scale, who)
    return {name: area(truth, np.bincount(places, score) / np.bincount(places)) for name, score in found.items()}


def leak(region: str, say: Say) -> dict[str, Any]:
    """One owner's windows for a flood warning, for several choices of features."""
    basin = lahn()[:2] if region == "Lahn" else [next(g for g in catchments() if g.name == SINGLE)]
    say(f"leak: {region}")
    windows = flood_windows(basin)
    events = np.unique([one.group for one in windows], return_inverse=True)[1]
    y = np.array([1 if one.level else -1 for one in windows], dtype=np.int64)
    records = np.stack([one.window for one in windows])
    rows = []
    for parts in RECIPES:
        q = SeriesExtractor(FLOOD_SCHEMA, parts).quantised(records)
        draws = [attacked(q, y, events, seed) for seed in range(DRAWS)]
        means = {name: float(np.mean([one[name] for one in draws])) for name in draws[0]}
        worst = max(means, key=lambda name: means[name])
        rows.append(
            {"parts": list(parts), "features": int(q.shape[1]), "worst_attack": worst, "auc": interval([one[worst] for one in draws])}
        )
    return {"region": region, "events": int(events.max()) + 1, "windows": len(windows), "rows": rows}
