"""Ranking quality from binned scores: ROC points, area, and its bound.

Variance after DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988), from placements; ties within a bin count one half. The
bound takes records as independent; `design_effect` widens it for clusters. Binning costs less than one bin's width of ties.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from isthmus.assurance.bounds import clopper_pearson_lower
from isthmus.contracts.sums import bin_edge

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Area:
    """AUC (0.5 when a class is empty) with one-sided bounds at the confidence asked for."""

    value: float
    lower: float
    upper: float


@dataclass(frozen=True)
class RocPoint:
    """Rates when every score at or above `threshold` is called a defect."""

    threshold: float
    false_alarm_rate: float
    recall: float


def _placements(of: Floats, against: Floats) -> Floats:
    """For each bin, the share of `against` in lower bins plus half of the same bin."""
    below = np.cumsum(against) - against
    return np.asarray((below + 0.5 * against) / against.sum() + 0.0 * of)


def auc(histogram: NDArray[Any]) -> float:
    """Chance that a random defect scores above a random good one. histogram: (2, bins), class 0 good. 0.5 when a class is empty."""
    good, defect = np.asarray(histogram, dtype=np.float64)
    if good.sum() <= 0 or defect.sum() <= 0:
        return 0.5
    return float(defect @ _placements(defect, good) / defect.sum())


def auc_area(histogram: NDArray[Any], confidence: float, design_effect: float = 1.0) -> Area:
    """AUC with one-sided DeLong bounds. With an empty class the bounds are 0 and 1; with no spread at all (perfect or
    reversed order) they fall back to Clopper-Pearson at the smaller class."""
    good, defect = np.asarray(histogram, dtype=np.float64)
    smaller = min(good.sum(), defect.sum())
    if smaller <= 0:
        return Area(0.5, 0.0, 1.0)
    value = auc(histogram)
    if smaller < 2:
        return Area(value, 0.0, 1.0)
    spread = _variance(defect, _placements(defect, good)) + _variance(good, 1.0 - _placements(good, defect))
    margin = float(ndtri(confidence)) * float(np.sqrt(spread * max(1.0, design_effect)))
    sure = 1.0 - clopper_pearson_lower(smaller / max(1.0, design_effect), smaller / max(1.0, design_effect), confidence)
    if spread <= 0:
        margin = sure
    return Area(value, max(0.0, value - margin), min(1.0, value + margin))


def _variance(counts: Floats, placements: Floats) -> float:
    total = float(counts.sum())
    mean = float(counts @ placements) / total
    return float(counts @ (placements - mean) ** 2) / (total - 1.0) / total


def roc_points(histogram: NDArray[Any]) -> list[RocPoint]:
    """The ROC curve from (1, 1) to (0, 0), one point at each edge where a count changes. Empty when a class is empty."""
    counts = np.asarray(histogram, dtype=np.float64)
    totals = counts.sum(axis=1)
    if min(totals) <= 0:
        return []
    above = np.concatenate([np.cumsum(counts[:, ::-1], axis=1)[:, ::-1], np.zeros((2, 1))], axis=1) / totals[:, None]
    edges = [0, *(int(i) for i in np.flatnonzero(counts.sum(axis=0)) + 1)]
    return [RocPoint(bin_edge(i, counts.shape[1]), float(above[0, i]), float(above[1, i])) for i in edges]
