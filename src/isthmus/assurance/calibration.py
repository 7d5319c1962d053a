"""Whether the probabilities that a model states are those that are found, from held-out scores in bins.

A score is 4 p - 2, so a bin of scores is a range of stated probabilities. What is known of a record is its bin and its class, so the
Brier score (Brier 1950) and the calibration error (mean distance between stated probability and found share, bin by bin; Naeini,
Cooper and Hauskrecht 2015) are known to lie between two values each, and both are told.

The Brier score is a mean of values between 0 and 1, so its bound is Hoeffding's (JASA 58 (1963), theorem 1): the largest mean m with
n kl(upper value, m) <= log(1 / (1 - confidence)), at the effective number of records as for all other bounds (`bounds`). Each range's share
has a Clopper-Pearson interval; all ranges together hold with the confidence (Bonferroni).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from isthmus.assurance.bounds import clopper_pearson_lower, clopper_pearson_upper, effective_n
from isthmus.contracts.sums import EVALUATION_BINS, Ints

BISECTIONS = 60


@dataclass(frozen=True)
class StatedRange:
    """Records whose stated probability lies between low and high. share: of defects among them, with its interval."""

    low: float
    high: float
    records: int
    defects: int
    share_low: float
    share_high: float

    @property
    def contradicted(self) -> bool:
        """Whether the share is shown to lie outside of the range."""
        return self.share_low > self.high or self.share_high < self.low


@dataclass(frozen=True)
class Calibration:
    """brier, error: (least, most) that the bins allow, of the held-out records. brier_bound: upper bound of what is expected of others.
    base: Brier score of stating the held-out share of defects for everybody."""

    records: int
    ranges: tuple[StatedRange, ...]
    brier: tuple[float, float]
    brier_bound: float
    error: tuple[float, float]
    base: float


def hoeffding_upper(mean: float, n: float, confidence: float) -> float:
    """Upper bound on the expectation of values in [0, 1] with this mean over n independent ones; 1 when n is not positive."""
    if n <= 0:
        return 1.0
    allowed = math.log(1.0 / (1.0 - confidence)) / n
    low, high = min(max(mean, 0.0), 1.0), 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2.0
        low, high = (middle, high) if _divergence(mean, middle) <= allowed else (low, middle)
    return high


def _divergence(found: float, expected: float) -> float:
    """Kullback-Leibler divergence of two coins; infinite where the second cannot give the first."""
    total = 0.0
    for a, b in ((found, expected), (1.0 - found, 1.0 - expected)):
        if a > 0:
            total += math.inf if b <= 0 else a * math.log(a / b)
    return total


def calibration(histogram: Ints, design_effect: float, groups: int, confidence: float) -> Calibration | None:
    """What a histogram (2, EVALUATION_BINS) of held-out scores 4 p - 2 says; None of no record."""
    counts, edges = np.asarray(histogram, dtype=np.int64), np.linspace(0.0, 1.0, EVALUATION_BINS + 1)
    size = int(counts.sum())
    if size == 0:
        return None
    low, high, sizes, defects = edges[:-1], edges[1:], counts.sum(axis=0), counts[1]
    brier = tuple(
        float(counts[0] @ good**2 + counts[1] @ (1.0 - bad) ** 2) / size
        for good, bad in ((low, high), (high, low))  # least, most
    )
    share = defects / np.maximum(sizes, 1)
    nearest = np.maximum(np.maximum(low - share, share - high), 0.0)
    farthest = np.maximum(np.abs(share - low), np.abs(share - high))
    scale = float(effective_n(size, design_effect, groups, confidence)) / size
    filled = np.flatnonzero(sizes)
    level = 1.0 - (1.0 - confidence) / (2 * len(filled))
    ranges = tuple(
        StatedRange(
            low=float(low[i]),
            high=float(high[i]),
            records=int(sizes[i]),
            defects=int(defects[i]),
            share_low=clopper_pearson_lower(defects[i] * scale, sizes[i] * scale, level),
            share_high=clopper_pearson_upper(defects[i] * scale, sizes[i] * scale, level),
        )
        for i in filled
    )
    rate = float(defects.sum()) / size
    return Calibration(
        records=size,
        ranges=ranges,
        brier=(brier[0], brier[1]),
        brier_bound=hoeffding_upper(brier[1], size * scale, confidence),
        error=(float(sizes @ nearest) / size, float(sizes @ farthest) / size),
        base=rate * (1.0 - rate),
    )
