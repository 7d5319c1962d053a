"""Layouts of the sums that may leave a node: what each integer of a payload means.

Everything is int64; under masks the same vectors are added modulo 2^64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

FEATURE_MAX = 32767
SCORE_LIMIT = 2.0
SCORE_BINS = 256
EVALUATION_BINS = 32
"""Held-out scores are told in few bins, and only where a ranking is needed: fine bins tell who was held out (bench/leak.py)."""
LOSS_UNIT = 1 << 24


@dataclass(frozen=True)
class Moments:
    """Raw weighted moments of quantised features q (int16) with labels y in {-1, +1} and integer weights w.

    records, groups: unweighted counts of records (not views) and of groups. sum_x, sum_yx: (d,). gram: (d, d), symmetric,
    sum of w q q^T. Every view of a record adds to the weighted sums. span: the largest y there may be: 1 for labels, more for a number that
    is foretold (contracts.targets); declared, so it is not packed.
    """

    records: int
    groups: int
    sum_w: int
    sum_wy: int
    sum_wx: Ints
    sum_wyx: Ints
    gram: Ints
    span: int = 1

    @property
    def dimension(self) -> int:
        return int(self.sum_wx.shape[0])

    def packed(self) -> Ints:
        """One int64 vector of `moments_size(d)` entries."""
        head = np.array([self.records, self.groups, self.sum_w, self.sum_wy], dtype=np.int64)
        return np.concatenate([head, self.sum_wx, self.sum_wyx, self.gram[np.triu_indices(self.dimension)]])


def moments_size(dimension: int) -> int:
    """Entries of a packed Moments with `dimension` features."""
    return 4 + 2 * dimension + dimension * (dimension + 1) // 2


def moments_from(vector: Ints, dimension: int) -> Moments:
    """Inverse of `Moments.packed`. Raises ValueError on a wrong size."""
    if vector.shape != (moments_size(dimension),):
        raise ValueError(f"moments of {dimension} features have {moments_size(dimension)} entries, not {vector.shape}")
    d = dimension
    gram = np.zeros((d, d), dtype=np.int64)
    gram[np.triu_indices(d)] = vector[4 + 2 * d :]
    gram = gram + gram.T - np.diag(np.diag(gram))
    records, groups, sum_w, sum_wy = (int(v) for v in vector[:4])
    return Moments(records, groups, sum_w, sum_wy, vector[4 : 4 + d].copy(), vector[4 + d : 4 + 2 * d].copy(), gram)


@dataclass(frozen=True)
class GoodMoments:
    """Raw weighted moments of quantised features of records labelled good, over all their positions and views, zone by zone.

    records, groups: unweighted counts of such records and of their groups. weight: (zones,) of all rows that were summed. sum_x:
    (zones, d). gram: (zones, d, d), symmetric.
    """

    records: int
    groups: int
    weight: Ints
    sum_x: Ints
    gram: Ints

    @property
    def sum_w(self) -> int:
        """Of all zones."""
        return int(self.weight.sum())

    @property
    def zones(self) -> int:
        return int(self.sum_x.shape[0])

    @property
    def dimension(self) -> int:
        return int(self.sum_x.shape[1])

    def packed(self) -> Ints:
        """One int64 vector of `good_moments_size(d, zones)` entries."""
        head = np.array([self.records, self.groups], dtype=np.int64)
        rows, columns = np.triu_indices(self.dimension)
        return np.concatenate([head, self.weight, self.sum_x.reshape(-1), self.gram[:, rows, columns].reshape(-1)])


def good_moments_size(dimension: int, zones: int = 1) -> int:
    """Entries of packed GoodMoments with `dimension` features in each of `zones`."""
    return 2 + zones * (1 + dimension + dimension * (dimension + 1) // 2)


def good_moments_from(vector: Ints, dimension: int, zones: int = 1) -> GoodMoments:
    """Inverse of `GoodMoments.packed`. Raises ValueError on a wrong size."""
    size = good_moments_size(dimension, zones)
    if vector.shape != (size,):
        raise ValueError(f"sums of good records with {dimension} features in {zones} zones have {size} entries, not {vector.shape}")
    d, first, second = dimension, 2 + zones, 2 + zones * (1 + dimension)
    rows, columns = np.triu_indices(d)
    gram = np.zeros((zones, d, d), dtype=np.int64)
    gram[:, rows, columns] = vector[second:].reshape(zones, -1)
    gram[:, columns, rows] = gram[:, rows, columns]
    return GoodMoments(int(vector[0]), int(vector[1]), vector[2:first].copy(), vector[first:second].reshape(zones, d).copy(), gram)


@dataclass(frozen=True)
class FoldOut:
    """Fold-out performance of each candidate head: row i belongs to candidate i.

    loss: (candidates,) sum of w (y - score)^2 in units of 1 / LOSS_UNIT; of a logistic candidate, of w (y - score / SCORE_LIMIT)^2.
    histogram: (candidates, 2, SCORE_BINS) unweighted counts of scores, class 0 = good (y = -1), class 1 = defect (y = +1), bins of equal
    width over [-SCORE_LIMIT, SCORE_LIMIT], scores beyond the ends counted in the end bins.
    """

    sum_w: int
    loss: Ints
    histogram: Ints

    def packed(self) -> Ints:
        return np.concatenate([np.array([self.sum_w], dtype=np.int64), self.loss, self.histogram.reshape(-1)])


def foldout_size(candidates: int) -> int:
    return 1 + candidates + candidates * 2 * SCORE_BINS


def foldout_from(vector: Ints, candidates: int) -> FoldOut:
    """Inverse of `FoldOut.packed`. Raises ValueError on a wrong size."""
    if vector.shape != (foldout_size(candidates),):
        raise ValueError(f"fold-out sums of {candidates} candidates have {foldout_size(candidates)} entries, not {vector.shape}")
    return FoldOut(int(vector[0]), vector[1 : 1 + candidates].copy(), vector[1 + candidates :].reshape(candidates, 2, SCORE_BINS).copy())


@dataclass(frozen=True)
class GroupSums:
    """Sums over groups (clusters) of a = answered records and e = errors among them; enough for a design effect.

    groups counts groups with at least one answered record.
    """

    groups: int
    a: int
    e: int
    aa: int
    ee: int
    ae: int

    FIELDS = ("groups", "a", "e", "aa", "ee", "ae")

    def packed(self) -> Ints:
        return np.array([self.groups, self.a, self.e, self.aa, self.ee, self.ae], dtype=np.int64)


def group_sums_from(vector: Ints) -> GroupSums:
    """Inverse of `GroupSums.packed`. Raises ValueError on a wrong size."""
    if vector.shape != (6,):
        raise ValueError(f"group sums have 6 entries, not {vector.shape}")
    return GroupSums(*(int(v) for v in vector))


EVALUATION_COUNTS = (
    "records",
    "groups",
    "defects",
    "answered",
    "errors",
    "answered_defects",
    "missed_defects",
    "answered_good",
    "false_alarms",
)


@dataclass(frozen=True)
class Evaluation:
    """Unweighted held-out counts of one artefact under one condition (clean, or one corruption and severity) in one slice.

    counts: one integer for each name in EVALUATION_COUNTS. clusters: GroupSums of answered and errors.
    histogram: (2, EVALUATION_BINS) scores by class, or zeros where it is not told.
    """

    counts: dict[str, int]
    clusters: GroupSums
    histogram: Ints

    def packed(self) -> Ints:
        head = np.array([self.counts[name] for name in EVALUATION_COUNTS], dtype=np.int64)
        return np.concatenate([head, self.clusters.packed(), self.histogram.reshape(-1)])


EVALUATION_SIZE = len(EVALUATION_COUNTS) + 6 + 2 * EVALUATION_BINS


def evaluation_from(vector: Ints) -> Evaluation:
    """Inverse of `Evaluation.packed`. Raises ValueError on a wrong size."""
    if vector.shape != (EVALUATION_SIZE,):
        raise ValueError(f"one evaluation has {EVALUATION_SIZE} entries, not {vector.shape}")
    n = len(EVALUATION_COUNTS)
    counts = {name: int(v) for name, v in zip(EVALUATION_COUNTS, vector[:n], strict=True)}
    return Evaluation(counts, group_sums_from(vector[n : n + 6]), vector[n + 6 :].reshape(2, EVALUATION_BINS).copy())


OUTCOMES = ("right", "wrong", "person")
"""What a model makes of a labelled record."""


@dataclass(frozen=True)
class PairSums:
    """Two models on the same labelled records. table: (3, 3) counts, the old model's outcome by the new one's, in the order of OUTCOMES.

    Over groups of size n, with w = wrong answers of the new model less those of the old, and r = right answers of the old less those of
    the new: nn, ww, wn, rr, rn are the sums of squares and products.
    """

    groups: int
    table: Ints
    nn: int
    ww: int
    wn: int
    rr: int
    rn: int

    @property
    def records(self) -> int:
        return int(self.table.sum())

    def packed(self) -> Ints:
        ends = np.array([self.nn, self.ww, self.wn, self.rr, self.rn], dtype=np.int64)
        return np.concatenate([np.array([self.groups], dtype=np.int64), self.table.reshape(-1), ends])


PAIR_SIZE = 1 + len(OUTCOMES) ** 2 + 5


def pair_from(vector: Ints) -> PairSums:
    """Inverse of `PairSums.packed`. Raises ValueError on a wrong size."""
    if vector.shape != (PAIR_SIZE,):
        raise ValueError(f"sums of a pair have {PAIR_SIZE} entries, not {vector.shape}")
    return PairSums(int(vector[0]), vector[1:10].reshape(3, 3).copy(), *(int(v) for v in vector[10:]))


def score_bins(scores: NDArray[Any], bins: int = SCORE_BINS) -> Ints:
    """Bin index of each score."""
    scaled = (np.asarray(scores, dtype=np.float64) + SCORE_LIMIT) * (bins / (2 * SCORE_LIMIT))
    return np.clip(np.floor(scaled), 0, bins - 1).astype(np.int64)


def bin_edge(index: int, bins: int = SCORE_BINS) -> float:
    """Lower edge of a bin; bin_edge(bins, bins) is the upper end."""
    return -SCORE_LIMIT + index * (2 * SCORE_LIMIT / bins)
