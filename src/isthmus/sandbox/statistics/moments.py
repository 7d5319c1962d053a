"""moments/1: exact weighted moments of integer features."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.errors import RefusedError
from isthmus.contracts.statistic import WEIGHT_MAX
from isthmus.contracts.sums import FEATURE_MAX, Moments
from isthmus.sandbox.statistics.records import Ints, Training, TrainingRecords

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


def moments(training: Training) -> Moments:
    """Moments of all rows; `records` and `groups` count records, not views."""
    d = training.dimension
    sum_wx, sum_wyx, gram = np.zeros(d, dtype=np.int64), np.zeros(d, dtype=np.int64), np.zeros((d, d), dtype=np.int64)
    sum_w = sum_wy = 0
    for chunk in training.chunks():
        for q, y, w in _blocks(chunk):
            if q.size and (int(q.min()) < -FEATURE_MAX):
                raise RefusedError("overflow", f"a feature lies beyond {FEATURE_MAX}", "use an extractor of the declared range")
            weighted = np.stack([w, w * y])
            first = _weighted_sums(q, weighted)
            sum_wx, sum_wyx, gram = sum_wx + first[0], sum_wyx + first[1], gram + exact_gram(q, w)
            sum_w, sum_wy = sum_w + int(w.sum()), sum_wy + int((w * y).sum())
    return Moments(training.size, len(training.group_list), sum_w, sum_wy, sum_wx, sum_wyx, gram)


def _blocks(chunk: TrainingRecords) -> list[tuple[NDArray[np.int16], Ints, Ints]]:
    """(features, labels, weights) of a chunk's views, and of its drawn defects."""
    blocks = [(q, chunk.records.y, chunk.w) for q in chunk.views]
    if chunk.drawn is not None:
        ones = np.ones(len(chunk.drawn), dtype=np.int64)
        blocks.append((chunk.drawn, ones, chunk.drawn_weight * ones))
    return blocks


def _weighted_sums(q: NDArray[np.int16], weights: Ints) -> Ints:
    """(k, n) integer weights times (n, d) features, exactly: as doubles where these hold every partial sum."""
    most = int(np.abs(weights).max(initial=0)) * FEATURE_MAX * max(1, len(q))
    if most < EXACT_MAX:
        return np.asarray(weights.astype(np.float64) @ q.astype(np.float64)).astype(np.int64)
    return weights @ q.astype(np.int64)
