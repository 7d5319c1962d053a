"""moments/1: exact weighted moments of integer features."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.errors import RefusedError
from isthmus.contracts.statistic import WEIGHT_MAX
from isthmus.contracts.sums import FEATURE_MAX, Moments
from isthmus.sandbox.statistics.records import Ints, TrainingRecords

CHUNK_ROWS = 4096
EXACT_MAX = 1 << 53


def exact_gram(q: NDArray[np.int16], w: Ints) -> Ints:
    """Sum of w q q^T as int64, (d, d), exact.

    A float64 product adds integers without rounding while no partial sum passes 2^53: by |q| <= FEATURE_MAX each partial
    sum of a chunk is at most sum(w) * FEATURE_MAX^2, which is checked before the product is taken.
    """
    gram = np.zeros((q.shape[1], q.shape[1]), dtype=np.int64)
    for start in range(0, q.shape[0], CHUNK_ROWS):
        rows = q[start : start + CHUNK_ROWS].astype(np.float64)
        weights = w[start : start + CHUNK_ROWS]
        if int(weights.sum()) * FEATURE_MAX**2 >= EXACT_MAX:
            raise RefusedError("overflow", "the weights are too large for exact sums", f"use weights up to {WEIGHT_MAX}")
        gram += ((rows * weights[:, None]).T @ rows).astype(np.int64)
    return gram


def moments(training: TrainingRecords) -> Moments:
    """Moments of all rows; `records` and `groups` count records, not views."""
    d = training.dimension
    blocks = [(q, training.records.y, training.w) for q in training.views]
    if training.drawn is not None:
        ones = np.ones(len(training.drawn), dtype=np.int64)
        blocks.append((training.drawn, ones, training.drawn_weight * ones))
    sum_wx, sum_wyx, gram = np.zeros(d, dtype=np.int64), np.zeros(d, dtype=np.int64), np.zeros((d, d), dtype=np.int64)
    for q, y, w in blocks:
        if q.size and (int(q.min()) < -FEATURE_MAX):
            raise RefusedError("overflow", f"a feature lies beyond {FEATURE_MAX}", "use an extractor of the declared range")
        whole = q.astype(np.int64)
        sum_wx += w @ whole
        sum_wyx += (w * y) @ whole
        gram += exact_gram(q, w)
    groups = int(np.unique(training.records.groups).size)
    sum_w, sum_wy = sum(int(w.sum()) for _, _, w in blocks), sum(int((w * y).sum()) for _, y, w in blocks)
    return Moments(training.records.size, groups, sum_w, sum_wy, sum_wx, sum_wyx, gram)
