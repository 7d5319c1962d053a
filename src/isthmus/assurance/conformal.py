"""Bands that hold the outcome at a stated rate, from a summed histogram of residuals.

Split conformal prediction (Papadopoulos et al. 2002; Lei et al., JASA 113, 2018): with n residuals of records that the fit never saw, the
k-th smallest with k = ceil((n + 1)(1 - alpha)) holds the next one with a chance of at least 1 - alpha, if all are exchangeable. A histogram
that is summed over owners tells in which bin it lies; the bin's outer edge is taken, so the rate is kept and the band is at most a
bin wider. Signed residuals give each side alpha / 2. Where k > n no finite band can be promised: the band is then infinite, and says so.

By group (Vovk's Mondrian predictor): a histogram a group, a band a group, the rate kept in each. Where residuals of one block in time
hang together, the promise stands on blocks, not on records: `blocks_short` says how many blocks a band needs.

For a series that drifts: adaptive conformal inference (Gibbs and Candès, NeurIPS 2021). After each outcome alpha moves by
gamma (alpha - missed). Whatever the series does, the share missed over T steps is within (max(alpha, 1 - alpha) + gamma) / (gamma T)
of alpha.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.errors import InputError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class ResidualBins:
    """Equal bins of residuals over [-limit, limit], in units; what lies beyond counts in the bins at the ends, whose outer edges are
    infinite. limit and count are declared, never found in data."""

    limit: float
    count: int = 256

    def __post_init__(self) -> None:
        if not (0 < self.limit < math.inf) or not 2 <= self.count <= 65536:
            raise InputError(
                f"residuals cannot be counted in {self.count} bins up to {self.limit:g}", "give a limit above 0, 2 bins or more"
            )

    @property
    def width(self) -> float:
        return 2.0 * self.limit / self.count

    def counted(self, residuals: NDArray[Any]) -> Ints:
        """(n,) outcome less score -> (count,) counts: an owner's share of the sum. Raises InputError on what is no number."""
        values = np.asarray(residuals, dtype=np.float64)
        if bool(np.isnan(values).any()):
            raise InputError("a residual is no number", "leave out records whose outcome is not known")
        places = np.clip(np.floor((values + self.limit) / self.width), 0, self.count - 1).astype(np.int64)
        return np.bincount(places, minlength=self.count).astype(np.int64)

    def lower_edge(self, place: int) -> float:
        return -math.inf if place <= 0 else -self.limit + place * self.width

    def upper_edge(self, place: int) -> float:
        return math.inf if place >= self.count - 1 else -self.limit + (place + 1) * self.width


@dataclass(frozen=True)
class Band:
    """What is added to a score to hold the outcome. low <= high; infinite where records are too few. records: that it rests on."""

    low: float
    high: float
    records: int

    @property
    def finite(self) -> bool:
        return math.isfinite(self.low) and math.isfinite(self.high)

    def holds(self, residuals: NDArray[Any]) -> NDArray[np.bool_]:
        """Whether each outcome less score lies in the band."""
        values = np.asarray(residuals)
        return np.asarray((values >= self.low) & (values <= self.high))


def _checked_alpha(alpha: float) -> float:
    if not 0.0 < alpha < 1.0:
        raise InputError(f"a band cannot miss {alpha:g} of outcomes", "give a share between 0 and 1, such as 0.1")
    return alpha


def _checked_counts(histogram: NDArray[Any], bins: ResidualBins) -> Ints:
    counts = np.asarray(histogram, dtype=np.int64)
    if counts.shape != (bins.count,) or bool((counts < 0).any()):
        raise InputError(f"a histogram of residuals has shape {counts.shape}, or a negative count", f"give {bins.count} counts")
    return counts


def records_needed(alpha: float) -> int:
    """Fewest calibration records for a finite two-sided band: 19 at 10 %, 39 at 5 %."""
    return math.ceil(2.0 / _checked_alpha(alpha) - 1e-9) - 1


def _side(counts: Ints, rank: int) -> int | None:
    """Place of the bin that holds the rank-th smallest, or None beyond the last."""
    cumulated = np.cumsum(counts)
    return None if rank > int(cumulated[-1]) else int(np.searchsorted(cumulated, rank))


def band(histogram: NDArray[Any], bins: ResidualBins, alpha: float) -> Band:
    """Two-sided, alpha / 2 on each side. histogram: (count,) summed. Raises InputError."""
    counts = _checked_counts(histogram, bins)
    n = int(counts.sum())
    rank = math.ceil((n + 1) * (1.0 - _checked_alpha(alpha) / 2.0) - 1e-9)
    high, low = _side(counts, rank), _side(counts[::-1], rank)
    return Band(
        low=-math.inf if low is None else bins.lower_edge(bins.count - 1 - low),
        high=math.inf if high is None else bins.upper_edge(high),
        records=n,
    )


def group_bands(histograms: Mapping[str, NDArray[Any]], bins: ResidualBins, alpha: float) -> dict[str, Band]:
    """A band a group, each from its own histogram; a group with too few records has an infinite one."""
    return {name: band(histogram, bins, alpha) for name, histogram in histograms.items()}


def blocks_short(blocks: int, alpha: float) -> str | None:
    """None where blocks in time, each counted once, suffice for a finite band; else the sentence that says how many are missing."""
    needed = records_needed(alpha)
    if blocks >= needed:
        return None
    return f"{blocks} independent blocks cannot carry a {1.0 - alpha:.0%} band by themselves: {needed - blocks} more would"


@dataclass(frozen=True)
class Adaptive:
    """Adaptive conformal inference, one step an outcome. alpha: wanted share missed. gamma: how far one outcome moves it. current: alpha
    that the next band is made with; at or below 0 the band is infinite, at or above 1 empty. steps, missed: so far."""

    alpha: float
    gamma: float
    current: float
    steps: int = 0
    missed: int = 0

    @classmethod
    def begin(cls, alpha: float, gamma: float = 0.01) -> Adaptive:
        """Raises InputError."""
        if not 0.0 < gamma < 1.0:
            raise InputError(f"a step of {gamma:g} cannot be used", "give a gamma between 0 and 1, such as 0.01")
        return cls(_checked_alpha(alpha), gamma, alpha)

    def band(self, histogram: NDArray[Any], bins: ResidualBins) -> Band | None:
        """The next band; None when it is empty, which counts as a miss."""
        if self.current >= 1.0:
            return None
        counts = _checked_counts(histogram, bins)
        return Band(-math.inf, math.inf, int(counts.sum())) if self.current <= 0.0 else band(counts, bins, self.current)

    def after(self, held: bool) -> Adaptive:
        """The state when it is known whether the outcome lay in the band."""
        missed = int(not held)
        return replace(self, current=self.current + self.gamma * (self.alpha - missed), steps=self.steps + 1, missed=self.missed + missed)

    @property
    def excess_limit(self) -> float:
        """Greatest |share missed - alpha| that is possible after so many steps."""
        return (max(self.alpha, 1.0 - self.alpha) + self.gamma) / (self.gamma * self.steps) if self.steps else 1.0
