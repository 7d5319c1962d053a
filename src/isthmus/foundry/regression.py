"""Ridge regression on a number, from the same exact integer sums as a head for labels (foundry.ridge), and fold-out sums to choose by.

One round for the sums, one for the fold-out losses: each owner finds the scores of its own records as by a fit that never saw their group
(kit.hatmatrix, as in sandbox.statistics.foldout), and tells one loss a penalty and histograms of residuals. Groups of a series are blocks
in time, a year or an event: neighbouring windows hold the same days, and are not independent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.errors import InputError
from isthmus.contracts.sums import Ints
from isthmus.contracts.targets import TARGET_MAX, TargetMoments, target_moments_from
from isthmus.foundry.foldout import moments_of
from isthmus.foundry.ridge import LAMBDAS, SCALE_FLOOR, Candidate, candidates
from isthmus.kit.hatmatrix import design, leave_group_out, scaled_inverse

RESIDUAL_MAX = 4 * TARGET_MAX
"""A larger miss counts as this one, so that losses stay within 64 bits: 2^34 a record."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class OwnerRows:
    """An owner's training records: q (n, d) int16, w (n,) positive integers, y (n,) units (contracts.targets), groups (n,) labels of
    blocks in time."""

    q: NDArray[np.int16]
    w: NDArray[Any]
    y: NDArray[Any]
    groups: NDArray[Any]

    def moments(self) -> TargetMoments:
        """Exact sums. Raises InputError when a target lies beyond its range."""
        units = np.asarray(self.y, dtype=np.int64)
        if units.size and int(np.abs(units).max()) > TARGET_MAX:
            raise InputError(f"a target lies beyond {TARGET_MAX} units", "make units with contracts.targets.units_of")
        squares = int((np.asarray(self.w, dtype=np.int64) * units**2).sum())
        return TargetMoments(moments_of(self.q, self.w, units, self.groups, span=TARGET_MAX), squares)


def added(parts: Sequence[TargetMoments]) -> TargetMoments:
    """The total of several owners', as a secure sum gives it. Raises InputError when there is none, or dimensions differ."""
    if not parts or len({part.moments.dimension for part in parts}) > 1:
        raise InputError("there are no sums, or of unlike features", "add sums of one stage")
    total = np.sum([part.packed() for part in parts], axis=0)
    dimension = parts[0].moments.dimension
    return target_total(total, dimension)


def target_total(vector: Ints, dimension: int) -> TargetMoments:
    """Unpacked, and refused where 64 bits may have run over. Raises InputError."""
    found = target_moments_from(vector, dimension)
    if found.sum_wyy < 0 or bool((np.diag(found.moments.gram) < 0).any()):
        raise InputError("the sums ran over 64 bits, or belong to no records", "use smaller weights")
    return found


def fold_out_units(rows: OwnerRows, candidate: Candidate, total_weight: int) -> Floats:
    """(n,) scores in units, each as by the fit that saw no record of its group; from the owner's rows and the fit's coefficients alone.

    The roster's Gram matrix is estimated from the owner's own (kit.hatmatrix.scaled_inverse); exact where the rows are all there is.
    Raises InputError when a group cannot be left out.
    """
    raw, w = candidate.raw(), np.asarray(rows.w, dtype=np.float64)
    if total_weight < int(w.sum()):
        raise InputError("the roster's weight is less than this owner's", "give the total's weight")
    q = rows.q.astype(np.float64)
    mean = w @ q / w.sum()
    scale = np.maximum(np.sqrt(np.maximum(w @ q**2 / w.sum() - mean**2, 0.0)), SCALE_FLOOR)
    z = design(rows.q, mean, scale)
    turned = np.concatenate([[raw[0] + float(raw[1:] @ mean)], raw[1:] * scale])
    inverse = scaled_inverse(z, rows.w, candidate.lam, float(total_weight))
    return leave_group_out(z, rows.w, rows.y, rows.groups, inverse, turned)


def squared_loss(scores: Floats, y: NDArray[Any], w: NDArray[Any]) -> int:
    """Sum of w (y - score)^2 in whole square units."""
    residuals = np.clip(np.asarray(y, dtype=np.float64) - scores, -RESIDUAL_MAX, RESIDUAL_MAX)
    return int((np.asarray(w, dtype=np.int64) * np.rint(residuals**2).astype(np.int64)).sum())


@dataclass(frozen=True)
class RegressionFit:
    """The chosen head. scores: each owner's fold-out scores, which in a fleet stay with the owner. loss: summed, in square units.
    explained: share of the targets' variance, fold-out; below 0 when the mean foretells better."""

    candidate: Candidate
    total: TargetMoments
    scores: tuple[Floats, ...]
    loss: int
    explained: float


def variance_units(total: TargetMoments) -> float:
    """Weighted variance of the target in square units."""
    weight = total.moments.sum_w
    return (total.sum_wyy * weight - total.moments.sum_wy**2) / weight**2


def fit_owners(owners: Sequence[OwnerRows], lambdas: Sequence[float] = LAMBDAS) -> RegressionFit:
    """What the exchange would solve for owners in this process: the total, one fit a penalty, fold-out losses summed, the least chosen
    (ties to the larger penalty). Raises InputError."""
    total = added([rows.moments() for rows in owners])
    weight = total.moments.sum_w
    tried = []
    for candidate in candidates(total.moments, lambdas):
        scores = tuple(fold_out_units(rows, candidate, weight) for rows in owners)
        loss = sum(squared_loss(score, rows.y, rows.w) for score, rows in zip(scores, owners, strict=True))
        tried.append((loss, -candidate.lam, candidate, scores))
    loss, _, candidate, scores = min(tried, key=lambda one: one[:2])
    spread = variance_units(total)
    return RegressionFit(candidate, total, scores, loss, 1.0 - loss / weight / spread if spread > 0 else 0.0)


def units(candidate: Candidate, q: NDArray[np.int16]) -> Floats:
    """(n,) scores of a fit."""
    raw = candidate.raw()
    return np.asarray(q.astype(np.float64) @ raw[1:] + raw[0])
