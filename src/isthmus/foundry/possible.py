"""What sums of real records obey, whatever the records: who breaks it has damaged or made up its sums.

All are exact statements on integers, so an honest owner breaks none of them. With weights w, features q in [-FEATURE_MAX, FEATURE_MAX] and
labels y in {-1, +1}: the matrix of all second moments of (1, y, q) is positive semidefinite (Cauchy and Schwarz for each two of them);
every sum is at most FEATURE_MAX times the weight; q and q squared are odd together, and so are q and y q; a flag is 0 or FEATURE_MAX.
What obeys all of this may still be made up: sums of records that nobody has seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from math import gcd

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.statistic import TrainingParams
from isthmus.contracts.sums import FEATURE_MAX, Moments

EIGENVALUE_TOLERANCE = 1e-9
"""Of a matrix with ones on its diagonal, for each of its rows: what rounding to doubles may make negative."""
REPEAT_ENTRIES_MIN = 16
"""So many sums must have a divisor in common before it counts: by chance each has the divisor 2 with one half."""


@dataclass(frozen=True)
class Declared:
    """What is publicly known of one owner's sums. records, groups: of its signed asset; None where it is not known. rows: how often a
    record stands in the sums. weights: of sure and of unsure labels. flags: places of features that are 0 or FEATURE_MAX. drawn_weight: of
    a good picture's copy with drawn defects."""

    records: int | None = None
    groups: int | None = None
    rows: int = 1
    weights: tuple[int, int] = (1, 1)
    flags: tuple[int, ...] = ()
    drawn_weight: int = 0

    @classmethod
    def of(cls, training: TrainingParams, records: int | None, groups: int | None, flags: tuple[int, ...] = ()) -> Declared:
        """By how records enter."""
        weights = (training.sure_weight, training.unsure_weight)
        return cls(records, groups, training.rows_per_record, weights, flags, training.drawn_weight)


def broken_rules(sums: Moments, declared: Declared) -> tuple[str, ...]:
    """Sentences on what no records can have as their sums; none for real ones."""
    found = [*_counts(sums, declared)]
    if sums.sum_w <= 0:
        return tuple(found) or ("the sums hold no weight",)
    found += _bounds(sums, declared)
    lowest = _lowest(sums)
    if lowest < -EIGENVALUE_TOLERANCE * (sums.dimension + 2):
        found.append(f"the second moments are not positive semidefinite (lowest eigenvalue {lowest:.2g} of a matrix of correlations)")
    return tuple(found)


def _counts(sums: Moments, declared: Declared) -> list[str]:
    found = []
    if declared.records is not None and sums.records != declared.records:
        found.append(f"the sums are of {sums.records} records, the asset has {declared.records}")
    if declared.groups is not None and sums.groups != declared.groups:
        found.append(f"the sums are of {sums.groups} groups, the asset has {declared.groups}")
    if not 0 < sums.groups <= sums.records:
        found.append(f"{sums.groups} groups cannot hold {sums.records} records")
    least = sums.records * declared.rows * min(declared.weights)
    most = sums.records * (declared.rows * max(declared.weights) + declared.drawn_weight)
    if not least <= sums.sum_w <= most:
        found.append(f"{sums.records} records weigh {least} to {most}, the sums say {sums.sum_w}")
    return found


def _bounds(sums: Moments, declared: Declared) -> list[str]:
    weight, found = sums.sum_w, []
    diagonal = np.diag(sums.gram)
    if abs(sums.sum_wy) > weight or (sums.span == 1 and (weight - sums.sum_wy) % 2):
        found.append(f"labels of weight {weight} cannot sum to {sums.sum_wy}")
    limit = FEATURE_MAX * weight
    if bool((np.abs(sums.sum_wx) > limit).any() or (np.abs(sums.sum_wyx) > limit * sums.span).any()):
        found.append("a sum is larger than the range of its feature allows")
    if bool((diagonal > FEATURE_MAX * limit).any() or (diagonal < np.abs(sums.sum_wx)).any()):
        found.append("a sum of squares is not between what whole numbers in the range allow")
    odd = (diagonal - sums.sum_wx) % 2
    crossed = (sums.sum_wyx - sums.sum_wx) % 2 if sums.span == 1 else np.zeros_like(odd)
    if bool(odd.any() or crossed.any()):
        found.append(f"{int(odd.sum() + crossed.sum())} sums are odd where whole numbers make them even")
    flags = np.array(declared.flags, dtype=np.int64)
    if flags.size and bool((diagonal[flags] != FEATURE_MAX * sums.sum_wx[flags]).any()):
        found.append("the squares of a flag are not those of a feature that is there or not")
    return found


def joined(sums: Moments) -> NDArray[np.float64]:
    """(d + 2, d + 2) second moments of (1, y, q) per unit of weight; y squared is 1 where labels are verdicts."""
    d, weight = sums.dimension, float(sums.sum_w)
    matrix = np.empty((d + 2, d + 2))
    matrix[0, 0] = 1.0
    matrix[1, 1] = 1.0 if sums.span == 1 else float(sums.span) ** 2
    matrix[0, 1] = matrix[1, 0] = sums.sum_wy / weight
    matrix[0, 2:] = matrix[2:, 0] = sums.sum_wx / weight
    matrix[1, 2:] = matrix[2:, 1] = sums.sum_wyx / weight
    matrix[2:, 2:] = sums.gram / weight
    return matrix


def _lowest(sums: Moments) -> float:
    """The lowest eigenvalue of the second moments, each variable brought to a mean square of 1."""
    matrix = joined(sums)
    size = np.sqrt(np.maximum(np.diag(matrix), 1e-12))
    return float(np.linalg.eigvalsh(matrix / np.outer(size, size))[0])


def repeats(sums: Moments, declared: Declared) -> int:
    """How often each record is counted: the greatest divisor that all sums share, beyond the weights' own; 1 where there is none."""
    entries = [sums.sum_w, sums.sum_wy, *sums.sum_wx.tolist(), *sums.sum_wyx.tolist()]
    entries += sums.gram[np.triu_indices(sums.dimension)].tolist()
    if len(entries) < REPEAT_ENTRIES_MIN or sums.sum_w <= 0:
        return 1
    shared = reduce(gcd, (int(abs(v)) for v in entries))
    own = reduce(gcd, (*declared.weights, *([declared.drawn_weight] if declared.drawn_weight else [])))
    alone = [w for w in declared.weights if not declared.drawn_weight and sums.sum_w == sums.records * declared.rows * w]
    return max(1, shared // max([own, *alone]))  # where all labels are equally sure, their weight is in all sums


def same_records(one: Moments, other: Moments) -> bool:
    """Whether two owners' sums are equal but for a factor: they hold the same records, once or several times."""
    if one.dimension != other.dimension or min(one.sum_w, other.sum_w) <= 0:
        return False
    pairs = ((one.sum_wx, other.sum_wx), (one.sum_wyx, other.sum_wyx), (one.gram, other.gram))
    crossed = all(bool((a.astype(object) * other.sum_w == b.astype(object) * one.sum_w).all()) for a, b in pairs)
    return crossed and one.sum_wy * other.sum_w == other.sum_wy * one.sum_w
