"""One round of a logistic fit: what its sums are, in which units, and how they are laid out.

Owners are given coefficients, and add up the weighted loss, its slope sum w (y - p) x and its curvature sum w p (1 - p) x x^T (Newton's
method as iteratively reweighted least squares: Nelder and Wedderburn 1972; McCullagh and Nelder 1989, section 2.5). Integers in fixed
point, so that they can be masked, and so that any way of dealing records to owners gives the same total, digit for digit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.sums import LOSS_UNIT

Ints = NDArray[np.int64]

SUM_BITS = 62
FEATURE_BITS = 15
SLOPE_BITS_MAX, CURVE_BITS_MAX = 30, 20
TOTAL_WEIGHT_MAX = 1 << 30
"""Of all rows: beyond it the units would be too coarse."""
LOSS_MAX = 1 << 8
"""A row's loss counts as at most so much."""


class Units(NamedTuple):
    """A slope is in 1 / slope, a curvature in 1 / curve."""

    slope: int
    curve: int


def logistic_units(total_weight: int) -> Units:
    """The finest units in which no sum over rows of so much weight can leave 62 bits. Raises ValueError for none or too much."""
    if not 0 < total_weight <= TOTAL_WEIGHT_MAX:
        raise ValueError(f"rows of weight {total_weight} cannot be summed; 1 to {TOTAL_WEIGHT_MAX} can")
    bits = total_weight.bit_length()
    slope = min(SLOPE_BITS_MAX, SUM_BITS - FEATURE_BITS - bits)
    curve = min(CURVE_BITS_MAX, SUM_BITS - 2 * FEATURE_BITS - bits + 2)  # p (1 - p) is at most a quarter
    return Units(1 << slope, 1 << curve)


@dataclass(frozen=True)
class LogisticSums:
    """One round over d features. loss: sum w log(1 + exp(-+ logit)), in 1 / LOSS_UNIT. slope: (d + 1,) of w (y - p) times (1, q); y is 0
    or 1 here. curve: (d + 1, d + 1) of w p (1 - p) times (1, q)(1, q)^T, symmetric. units: of slope and curve."""

    sum_w: int
    loss: int
    slope: Ints
    curve: Ints
    units: Units

    def packed(self) -> Ints:
        """One int64 vector of `logistic_size(d)` entries; sums of such vectors, in the same units, are the sums of all."""
        upper = np.triu_indices(self.slope.shape[0])
        return np.concatenate([np.array([self.sum_w, self.loss], dtype=np.int64), self.slope, self.curve[upper]])

    @property
    def mean_loss(self) -> float:
        return self.loss / LOSS_UNIT / self.sum_w

    @property
    def weight(self) -> float:
        """Sum of w p (1 - p)."""
        return float(self.curve[0, 0]) / self.units.curve

    def floats(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(slope, curve) in units of records."""
        return self.slope / self.units.slope, self.curve / self.units.curve


def logistic_size(dimension: int) -> int:
    """Entries of one round's packed sums with `dimension` features."""
    d = dimension + 1
    return 2 + d + d * (d + 1) // 2


def logistic_sums_from(vector: NDArray[Any], dimension: int, units: Units) -> LogisticSums:
    """Inverse of `LogisticSums.packed`. Raises ValueError on a wrong size."""
    if vector.shape != (logistic_size(dimension),):
        raise ValueError(f"a round over {dimension} features has {logistic_size(dimension)} entries, not {vector.shape}")
    d = dimension + 1
    curve = np.zeros((d, d), dtype=np.int64)
    curve[np.triu_indices(d)] = vector[2 + d :]
    return LogisticSums(int(vector[0]), int(vector[1]), vector[2 : 2 + d].copy(), curve + curve.T - np.diag(np.diag(curve)), units)
