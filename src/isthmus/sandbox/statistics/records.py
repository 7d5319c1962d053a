"""Records as arrays, in chunks: what every statistic is computed from.

A statistic walks its records in chunks of CHUNK_RECORDS, whether they lie in memory, in a cache of many files or in columns on the disk.
The chunks are the same wherever they come from, so the sums are the same, digit for digit, and nobody need hold all rows at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

CHUNK_RECORDS = 4096
"""Records of one chunk. It is part of what makes sums the same everywhere: floating-point parts of a statistic are added chunk by chunk."""
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
        known = {text: kind in kinds_in(text) for text in set(self.kinds)}
        return np.array([known[text] for text in self.kinds], dtype=bool)


class Training(Protocol):
    """Training records with features, wherever they lie."""

    @property
    def dimension(self) -> int:
        """Features of one row."""

    @property
    def size(self) -> int:
        """Records, not counting views."""

    @property
    def group_list(self) -> Ints:
        """Codes of all groups, ascending."""

    def chunks(self) -> Iterator[TrainingRecords]:
        """All records in order, CHUNK_RECORDS at a time, the last chunk shorter. May be walked again."""

    def parts(self) -> Iterator[tuple[GroupBlock, ...]]:
        """All records by whole groups: one block of several groups, or the slices of one group of more than CHUNK_RECORDS records."""

    def whole(self) -> TrainingRecords:
        """All at once, for statistics that need it. Raises RefusedError when they are too many to be held."""


def packed_places(groups: Ints) -> Iterator[list[Ints]]:
    """Places of records by whole groups, as `Training.parts` has them: groups ascending, their records in order. groups: (n,) codes."""
    order = np.argsort(groups, kind="stable")
    ends = [*(np.flatnonzero(np.diff(groups[order])) + 1).tolist(), len(order)] if len(order) else []
    begin = taken = 0
    for end in ends:
        if end - begin > CHUNK_RECORDS and taken > begin:
            yield [order[begin:taken]]
            begin = taken
        if end - begin > CHUNK_RECORDS:
            yield [order[start : min(start + CHUNK_RECORDS, end)] for start in range(begin, end, CHUNK_RECORDS)]
            begin = end
        taken = end
    if taken > begin:
        yield [order[begin:taken]]


class Placed:
    """Chunks and parts of records that can be taken by their places."""

    def take(self, places: Ints) -> TrainingRecords:
        """Some of the records, in the order of `places`."""
        raise NotImplementedError

    def group_codes(self) -> Ints:
        """(n,) group codes."""
        raise NotImplementedError

    def chunks(self) -> Iterator[TrainingRecords]:
        """See Training."""
        count = len(self.group_codes())
        for start in range(0, count, CHUNK_RECORDS):
            yield self.take(np.arange(start, min(start + CHUNK_RECORDS, count)))

    def parts(self) -> Iterator[tuple[GroupBlock, ...]]:
        """See Training."""
        for slices in packed_places(self.group_codes()):
            yield tuple(GroupBlock(self.take(places), places) for places in slices)

    @property
    def group_list(self) -> Ints:
        """See Training."""
        return np.unique(self.group_codes())


@dataclass(frozen=True)
class TrainingRecords(Placed):
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

    @property
    def size(self) -> int:
        return self.records.size

    def group_codes(self) -> Ints:
        return self.records.groups

    def whole(self) -> TrainingRecords:
        return self

    def cut(self, start: int, end: int) -> TrainingRecords:
        """Records that stand together, without copying them; of records without drawn defects."""
        of, own = self.records, slice(start, end)
        return TrainingRecords(Records(of.y[own], of.groups[own], of.kinds[own]), tuple(view[own] for view in self.views), self.w[own])

    def take(self, places: Ints) -> TrainingRecords:
        """Some of the records, in the order of `places`."""
        of = self.records
        kinds = tuple(of.kinds[place] for place in places.tolist()) if any(of.kinds) else ("",) * len(places)
        drawn = self.drawn
        if drawn is not None:
            good = of.y < 0
            drawn = drawn[(np.cumsum(good) - 1)[places][good[places]]]
        views = tuple(view[places] for view in self.views)
        return TrainingRecords(Records(of.y[places], of.groups[places], kinds), views, self.w[places], drawn, self.drawn_weight)

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


def joined(parts: list[TrainingRecords]) -> TrainingRecords:
    """Records one after the other, without drawn defects. parts: at least one."""
    if len(parts) == 1:
        return parts[0]
    y, groups = (np.concatenate([getattr(one.records, name) for one in parts]) for name in ("y", "groups"))
    kinds = tuple(kind for one in parts for kind in one.records.kinds)
    views = tuple(np.concatenate(views) for views in zip(*(one.views for one in parts), strict=True))
    return TrainingRecords(Records(y, groups, kinds), views, np.concatenate([one.w for one in parts]))


@dataclass(frozen=True)
class GroupBlock:
    """Some training records, all their groups whole, or a slice of one group. places: (n,) where they stand among all."""

    training: TrainingRecords
    places: Ints


class GroupTally:
    """Adds up whole numbers by group over chunks, and then squares and products over groups.

    contiguous: each group's records stand together, so that a group is done with when another begins, and its sums need not be kept.
    """

    def __init__(self, width: int, contiguous: bool = False) -> None:
        self._width, self._contiguous = width, contiguous
        self._open: dict[int, Ints] = {}
        self.groups, self.present = 0, np.zeros(width, dtype=np.int64)
        self.totals, self.products = np.zeros(width, dtype=np.int64), np.zeros((width, width), dtype=np.int64)

    def add(self, values: Ints, groups: Ints) -> None:
        """values: (n, width) integers of a chunk's records; groups: (n,) codes."""
        if not len(groups):
            return
        codes, inverse = np.unique(groups, return_inverse=True)
        sums = np.stack([np.bincount(inverse.reshape(-1), column.astype(np.float64), len(codes)) for column in values.T], axis=1)
        whole = np.rint(sums).astype(np.int64)
        last = int(groups[-1])
        if self._contiguous:
            done = ~np.isin(codes, [last, *self._open])
            self._close(whole[done])
            codes, whole = codes[~done], whole[~done]
        for code, row in zip(codes.tolist(), whole, strict=True):
            self._open[code] = self._open[code] + row if code in self._open else row
        if self._contiguous:
            for code in [code for code in self._open if code != last]:
                self._close(self._open.pop(code)[None])

    def finish(self) -> GroupTally:
        """Closes what is open. groups, and of each value: totals, how many groups have it above zero (`present`), products over groups."""
        if self._open:
            self._close(np.stack(list(self._open.values())))
            self._open.clear()
        return self

    def _close(self, sums: Ints) -> None:
        self.groups += len(sums)
        self.present += (sums > 0).sum(axis=0)
        self.totals += sums.sum(axis=0)
        self.products += sums.T @ sums


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
