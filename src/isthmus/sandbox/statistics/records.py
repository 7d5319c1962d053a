"""Records as arrays: what every statistic is computed from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


KINDS_BETWEEN = ";"


def kinds_in(text: str) -> tuple[str, ...]:
    """The slices that a record's kind names: `women; under 30` belongs to two."""
    return tuple(part.strip() for part in text.split(KINDS_BETWEEN) if part.strip())


@dataclass(frozen=True)
class Records:
    """Labelled records in a fixed order. y: (n,) in {-1, +1}, +1 = defect. groups: (n,) group codes. kinds: n texts of `kinds_in`."""

    y: Ints
    groups: Ints
    kinds: tuple[str, ...]

    @property
    def size(self) -> int:
        return int(self.y.shape[0])

    def of_kind(self, kind: str) -> NDArray[np.bool_]:
        """(n,) mask of one slice."""
        return np.array([kind in kinds_in(text) for text in self.kinds], dtype=bool)


@dataclass(frozen=True)
class TrainingRecords:
    """Training records with features. views: one (n, d) int16 array a view, identity first, and an augmentation. w: (n,) weights >= 1.

    drawn: (good records, d) features of each good record with drawn defects, in order; none where `drawn_weight` is 0.
    """

    records: Records
    views: tuple[NDArray[np.int16], ...]
    w: Ints
    drawn: NDArray[np.int16] | None = None
    drawn_weight: int = 0

    @property
    def dimension(self) -> int:
        return int(self.views[0].shape[1])

    def stacked(self) -> tuple[NDArray[Any], Ints, Ints, Ints]:
        """(features of all views (n * views, d), y, w, groups), view after view; then the drawn defects, which are of class +1."""
        count, good = len(self.views), self.records.y < 0
        q, groups = list(self.views), np.tile(self.records.groups, count)
        y, w = np.tile(self.records.y, count), np.tile(self.w, count)
        if self.drawn is None:
            return np.concatenate(q), y, w, groups
        ones = np.ones(len(self.drawn), dtype=np.int64)
        return (
            np.concatenate([*q, self.drawn]),
            np.concatenate([y, ones]),
            np.concatenate([w, self.drawn_weight * ones]),
            np.concatenate([groups, self.records.groups[good]]),
        )


def group_codes(names: list[str]) -> Ints:
    """Group names -> codes 0, 1, ... in order of name."""
    return np.unique(np.array(names, dtype=object).astype(str), return_inverse=True)[1].reshape(-1).astype(np.int64)


def sums_by_group(values: NDArray[Any], groups: Ints) -> Ints:
    """Sum of integer values over each group that occurs."""
    codes = np.unique(groups, return_inverse=True)[1].reshape(-1)
    return np.bincount(codes, weights=values.astype(np.float64), minlength=0).astype(np.int64)


def shortened(q: NDArray[np.int16], norm_max: int) -> NDArray[np.int16]:
    """Rows no longer than norm_max, each in its own direction, cut off towards zero so that rounding lengthens none; 0: as they are."""
    if not norm_max or not q.size:
        return q
    rows = q.astype(np.float64)
    length = np.sqrt((rows**2).sum(axis=1))
    share = np.where(length > norm_max, norm_max / np.maximum(length, 1.0), 1.0)
    return np.asarray(np.trunc(rows * share[:, None]), dtype=np.int16)
