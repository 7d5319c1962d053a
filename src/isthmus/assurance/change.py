"""Whether a series has changed, from sums over blocks in time: a two-sided test with a stated rate of false alarms.

Values within a block (a day, a shift, an event) hang together, so a block counts once: each owner tells, of the means of its blocks, how
many there are, their sum and the sum of their squares, in whole numbers. Welch's t (Biometrika 34, 1947) with Satterthwaite's degrees of
freedom compares a reference with what came since; unlike spreads and counts are allowed. Several figures watched at once share the rate
(Bonferroni); looks repeated while data come in share it too, the k-th look taking 6 / (pi k)^2 of it, so that however long one watches an
unchanged series, the chance of ever raising a false alarm stays below the rate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from isthmus.contracts.errors import InputError

BLOCKS_MIN = 3
MEAN_UNIT = 16
"""Means are told in sixteenths of the values' unit, such as a feature's quantum."""
VALUE_MAX = 1 << 20


@dataclass(frozen=True)
class BlockSums:
    """Over means of blocks: how many, their sum in 1 / MEAN_UNIT, the sum of their squares in its square. Adds up over owners."""

    blocks: int
    total: int
    squares: int

    def __add__(self, other: BlockSums) -> BlockSums:
        return BlockSums(self.blocks + other.blocks, self.total + other.total, self.squares + other.squares)

    @property
    def mean(self) -> float:
        """In the values' unit."""
        return self.total / self.blocks / MEAN_UNIT

    @property
    def variance(self) -> float:
        """Of a block's mean, unbiased."""
        return max(self.squares * self.blocks - self.total**2, 0) / self.blocks / (self.blocks - 1) / MEAN_UNIT**2


def block_sums(values: NDArray[Any], blocks: NDArray[Any]) -> BlockSums:
    """values: (n,) within VALUE_MAX of 0, such as features; blocks: (n,) labels of any type. Raises InputError."""
    found = np.asarray(values, dtype=np.float64)
    if found.shape != np.shape(blocks) or found.ndim != 1 or not bool((np.abs(found) <= VALUE_MAX).all()):
        raise InputError(f"values and blocks do not belong together, or a value lies beyond {VALUE_MAX}", "give a value and a block a row")
    if not found.size:
        return BlockSums(0, 0, 0)
    _, places = np.unique(np.asarray(blocks), return_inverse=True)
    means = np.rint(np.bincount(places, found) / np.bincount(places) * MEAN_UNIT).astype(np.int64)
    return BlockSums(len(means), int(means.sum()), int((means**2).sum()))


@dataclass(frozen=True, kw_only=True)
class Change:
    """shift: recent less reference mean. statistic: Welch's t; limit: what it must exceed in size. p: chance of such a t without a change,
    before sharing. false_alarm_rate: that this look was given."""

    changed: bool
    shift: float
    statistic: float
    limit: float
    p: float
    false_alarm_rate: float
    degrees: float


def look_rate(rate: float, look: int) -> float:
    """The share of the rate for the look-th of any number of looks, from 1; the shares of all looks add up to the rate."""
    if look < 1:
        raise InputError(f"there is no look {look}", "count looks from 1")
    return rate * 6.0 / (math.pi * look) ** 2


def change(reference: BlockSums, recent: BlockSums, rate: float, figures: int = 1, look: int | None = None) -> Change:
    """Tests whether the means differ. rate: chance of a false alarm, over all `figures` watched and, with `look`, over all looks.

    Raises InputError when there are too few blocks, or the rate is no share.
    """
    if not 0.0 < rate < 1.0 or figures < 1:
        raise InputError(f"a rate of {rate:g} over {figures} figures cannot be kept", "give a share between 0 and 1, one figure or more")
    if min(reference.blocks, recent.blocks) < BLOCKS_MIN:
        raise InputError(
            f"a change cannot be told from {reference.blocks} blocks before and {recent.blocks} since", f"wait for {BLOCKS_MIN} of each"
        )
    own = (rate if look is None else look_rate(rate, look)) / figures
    shares = [sums.variance / sums.blocks for sums in (reference, recent)]
    noise, shift = sum(shares), recent.mean - reference.mean
    if noise <= 0.0:  # nothing ever varied: any difference is a change, no difference is none
        return Change(
            changed=shift != 0.0,
            shift=shift,
            statistic=math.copysign(math.inf, shift) if shift else 0.0,
            limit=0.0,
            p=0.0 if shift else 1.0,
            false_alarm_rate=own,
            degrees=float(reference.blocks + recent.blocks - 2),
        )
    degrees = noise**2 / sum(s**2 / (sums.blocks - 1) for s, sums in zip(shares, (reference, recent), strict=True))
    statistic = shift / math.sqrt(noise)
    limit = float(stdtrit(degrees, 1.0 - own / 2.0))
    p = 2.0 * float(stdtr(degrees, -abs(statistic)))
    return Change(changed=abs(statistic) > limit, shift=shift, statistic=statistic, limit=limit, p=p, false_alarm_rate=own, degrees=degrees)
