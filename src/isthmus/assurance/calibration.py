"""Whether the probabilities that a model states are those that are found, from held-out scores in bins.

A score is 4 p - 2, so a bin of scores is a range of stated probabilities. What is known of a record is its bin and its class, so the
Brier score (Brier 1950) and the calibration error (mean distance between stated probability and found share, bin by bin; Naeini,
Cooper and Hauskrecht 2015) are known to lie between two values each, and both are told.

The Brier score is a mean of values between 0 and 1, so its bound is Hoeffding's (JASA 58 (1963), theorem 1): the largest mean m with
n kl(upper value, m) <= log(1 / (1 - confidence)), at the effective number of records as for all other bounds (`bounds`). Calibration is
told in RANGES ranges, because finer ones would mostly tell chance; the mean that a range's records state is known to half a bin, and the
share found has a Clopper-Pearson interval; all ranges together hold with the confidence (Bonferroni).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.assurance.bounds import clopper_pearson_lower, clopper_pearson_upper, effective_n
from isthmus.contracts.sums import EVALUATION_BINS, Ints

BISECTIONS = 60
Floats = NDArray[np.float64]
RANGES = 8


@dataclass(frozen=True)
class StatedRange:
    """Records whose stated probability lies between low and high. stated_*: least and most that the bins allow of its mean. share: of
    defects among them, with its interval."""

    low: float
    high: float
    stated_low: float
    stated_high: float
    records: int
    defects: int
    share_low: float
    share_high: float

    @property
    def contradicted(self) -> bool:
        """Whether the share is shown not to be what is stated."""
        return self.share_low > self.stated_high or self.share_high < self.stated_low

    @property
    def nearest(self) -> float:
        """Least distance of the share found from the mean stated."""
        share = self.defects / self.records
        return max(self.stated_low - share, share - self.stated_high, 0.0)

    @property
    def farthest(self) -> float:
        """Most distance of the share found from the mean stated."""
        share = self.defects / self.records
        return max(abs(share - self.stated_low), abs(share - self.stated_high))


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
    low, high = edges[:-1], edges[1:]
    brier = tuple(
        float(counts[0] @ good**2 + counts[1] @ (1.0 - bad) ** 2) / size
        for good, bad in ((low, high), (high, low))  # least, most
    )
    scale = float(effective_n(size, design_effect, groups, confidence)) / size
    ranges = _ranges(counts, low, high, scale, confidence)
    rate = float(counts[1].sum()) / size
    return Calibration(
        records=size,
        ranges=ranges,
        brier=(brier[0], brier[1]),
        brier_bound=hoeffding_upper(brier[1], size * scale, confidence),
        error=(sum(part.nearest * part.records for part in ranges) / size, sum(part.farthest * part.records for part in ranges) / size),
        base=rate * (1.0 - rate),
    )


def _ranges(counts: Ints, low: Floats, high: Floats, scale: float, confidence: float) -> tuple[StatedRange, ...]:
    """The ranges that hold records. scale: effective records for each."""
    parts = [part for part in np.split(np.arange(len(low)), RANGES) if counts[:, part].sum()]
    level = 1.0 - (1.0 - confidence) / (2 * len(parts))
    found = []
    for part in parts:
        sizes = counts[:, part].sum(axis=0)
        size, defects = int(sizes.sum()), int(counts[1, part].sum())
        found.append(
            StatedRange(
                low=float(low[part[0]]),
                high=float(high[part[-1]]),
                stated_low=float(sizes @ low[part]) / size,
                stated_high=float(sizes @ high[part]) / size,
                records=size,
                defects=defects,
                share_low=clopper_pearson_lower(defects * scale, size * scale, level),
                share_high=clopper_pearson_upper(defects * scale, size * scale, level),
            )
        )
    return tuple(found)
