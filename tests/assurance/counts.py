"""Builds evaluations from scores, as a node would count them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.assurance.evidence import Evidence
from isthmus.contracts.sums import EVALUATION_BINS, Evaluation, GroupSums, score_bins

FAMILIES = ("brightness", "contrast", "noise", "blur")


def evaluation(scores: NDArray[Any], y: NDArray[Any], groups: NDArray[Any], lo: float, hi: float) -> Evaluation:
    """scores (n,), y in {-1, +1}, groups (n,) labels."""
    good, defect = scores <= lo, scores >= hi
    good &= ~defect
    answered, missed, alarms = good | defect, good & (y == 1), defect & (y == -1)
    errors = missed | alarms
    a = np.array([answered[groups == g].sum() for g in np.unique(groups)])
    e = np.array([errors[groups == g].sum() for g in np.unique(groups)])
    counts = {
        "records": len(y),
        "groups": len(a),
        "defects": int((y == 1).sum()),
        "answered": int(answered.sum()),
        "errors": int(errors.sum()),
        "answered_defects": int((answered & (y == 1)).sum()),
        "missed_defects": int(missed.sum()),
        "answered_good": int((answered & (y == -1)).sum()),
        "false_alarms": int(alarms.sum()),
    }
    clusters = GroupSums(*(int(v) for v in ((a > 0).sum(), a.sum(), e.sum(), (a * a).sum(), (e * e).sum(), (a * e).sum())))
    histogram = np.stack([np.bincount(score_bins(scores[y == side], EVALUATION_BINS), minlength=EVALUATION_BINS) for side in (-1, 1)])
    return Evaluation(counts, clusters, histogram.astype(np.int64))


def evidence(scores: NDArray[Any], y: NDArray[Any], groups: NDArray[Any], lo: float, hi: float, deff: float = 1.0, **more: Any) -> Evidence:
    """Two slices by parity of the group; corruptions flip a growing share of the scores' signs."""
    clean = evaluation(scores, y, groups, lo, hi)
    half = groups % 2 == 0
    slices = {
        "mono": evaluation(scores[half], y[half], groups[half], lo, hi),
        "poly": evaluation(scores[~half], y[~half], groups[~half], lo, hi),
    }
    corrupted = {}
    for family in FAMILIES:
        for severity in range(1, 6):
            worse = scores.copy()
            worse[: (severity - 1) * len(y) // 20] *= -1
            corrupted[family, severity] = evaluation(worse, y, groups, lo, hi)
    return Evidence(clean=clean, slices=slices, corrupted=corrupted, design_effect=deff, **more)


def line(seed: int, groups: int = 20, size: int = 50, defects: float = 0.3, skill: float = 0.7) -> tuple[NDArray[Any], ...]:
    """(scores, y, groups): normal scores around -skill and +skill with standard deviation 0.4."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(groups), size)
    y = np.where(rng.random(groups * size) < defects, 1, -1)
    return skill * y + rng.normal(0, 0.4, groups * size), y, labels
