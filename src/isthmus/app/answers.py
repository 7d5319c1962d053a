"""Rows of an answer from the roster's summed cells: numbers with bounds. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.answer import AnswerRow, Told
from isthmus.contracts.question import (
    FLAGS,
    Aggregate,
    Group,
    Levels,
    Question,
    QuestionParams,
    Span,
    cell_count,
    from_units,
    span_of,
    table_columns,
)
from isthmus.contracts.schema import Column, Schema

Z = 1.959963984540054
"""Of the normal distribution, for CONFIDENCE_PPM on both sides."""
NOTHING = Told(value=None, low=None, high=None)


@dataclass(frozen=True)
class Origin:
    """Where a total comes from. least: the largest least group size of the roster's agreements. deviations: (kind, column) -> standard
    deviation of the noise in the total, in units; empty where it is exact."""

    least: int
    deviations: Mapping[tuple[str, str], float]

    @property
    def exact(self) -> bool:
        return not self.deviations


@dataclass(frozen=True)
class Cell:
    """The numbers of one cell. few, more: owners that left out fewer than their least group, or a larger part. numbers: of plain measures.
    bins: (n, 3) of each histogram: few, more, count."""

    few: int
    more: int
    rows: int
    numbers: Mapping[tuple[str, str], int]
    bins: Mapping[tuple[str, int], NDArray[np.int64]]


def cells_from(total: NDArray[np.int64], params: QuestionParams, schema: Schema) -> list[Cell]:
    """The layout of contracts.question.QuestionParams, cell by cell. Raises ValueError on a wrong size."""
    count, at = cell_count(params, schema), 0

    def block(*shape: int) -> NDArray[np.int64]:
        nonlocal at
        size = math.prod(shape)
        at += size
        return total[at - size : at].reshape(shape)

    histograms = [one for one in params.measures if one.kind == "histogram"]
    flags = block(count, FLAGS)
    flags_of = {one: block(count, one.bins, FLAGS) for one in histograms}
    rows = block(count)
    measured = {one: block(count, max(1, one.bins)) for one in params.measures}
    found = []
    for place in range(count):
        numbers: dict[tuple[str, str], int] = {
            (one.column, one.kind): int(values[place, 0]) for one, values in measured.items() if not one.bins
        }
        bins = {(one.column, one.bins): np.concatenate([flags_of[one][place], measured[one][place][:, None]], axis=1) for one in histograms}
        found.append(Cell(int(flags[place, 0]), int(flags[place, 1]), int(rows[place]), numbers, bins))
    return found


def group_names(group: Group, columns: Mapping[str, Column], classes: Mapping[str, str]) -> list[str]:
    """What the groups of a column are called, in order."""
    column = columns[group.column]
    if isinstance(group, Levels):
        names = [classes.get(level, level) if column.name == "label" else level for level in column.levels]
    else:
        span = span_of(column)
        edges = [span.low + (span.high - span.low) * place / group.count for place in range(group.count + 1)]
        shown = [f"{from_units(column, edge):.6g}" for edge in edges]
        names = [f"{low} to {high}" for low, high in pairwise(shown)]
    return [*names, "missing"] if column.missing else names


def rows_of(
    question: Question, params: QuestionParams, schema: Schema, total: NDArray[np.int64], origin: Origin, classes: Mapping[str, str]
) -> tuple[AnswerRow, ...]:
    """One row a cell, in the declared order."""
    columns = table_columns(schema)
    names = product(*(group_names(group, columns, classes) for group in question.groups))
    cells = cells_from(total, params, schema)
    return tuple(_row(question, columns, cell, tuple(name), origin) for name, cell in zip(names, cells, strict=True))


def _row(question: Question, columns: Mapping[str, Column], cell: Cell, names: tuple[str, ...], origin: Origin) -> AnswerRow:
    withheld = cell.few + cell.more
    if cell.rows < origin.least:
        why = f"fewer than {origin.least} records" if not withheld else f"not told by {_owners(withheld)}"
        return AnswerRow(groups=names, told=(), withheld=withheld, shown=False, why=why)
    told = tuple(_told(one, columns, cell, origin) for one in question.select)
    parts = [f"without fewer than {origin.least} records at {_owners(cell.few)}"] * bool(cell.few)
    parts += [f"without a part at {_owners(cell.more)}"] * bool(cell.more)
    return AnswerRow(groups=names, told=told, withheld=withheld, shown=True, why="; ".join(parts))


def _owners(count: int) -> str:
    return "1 owner" if count == 1 else f"{count} owners"


def _told(one: Aggregate, columns: Mapping[str, Column], cell: Cell, origin: Origin) -> Told:
    if one.kind == "count":
        count, kind = _known(cell, columns[one.column]) if one.column else (cell.rows, ("rows", ""))
        return _count(count, cell, origin, kind)
    column = columns[one.column]
    if one.kind == "quantile":
        return _quantile(one, column, cell, origin)
    sums = _Sums(column, cell, origin)
    return {"sum": sums.sum, "mean": sums.mean}.get(one.kind, lambda: sums.variance(one.sample, one.kind == "deviation"))()


def _known(cell: Cell, column: Column) -> tuple[int, tuple[str, str]]:
    """How many records have a value of a column, and which kind of number says so: all have, where none may be missing."""
    return (cell.numbers[column.name, "known"], ("known", column.name)) if column.missing else (cell.rows, ("rows", ""))


def _left_out(cell: Cell, origin: Origin) -> int | None:
    """The most records that owners left out; None where it is not known."""
    return None if cell.more else cell.few * (origin.least - 1)


def _count(count: int, cell: Cell, origin: Origin, kind: tuple[str, str]) -> Told:
    if not origin.exact:
        error = Z * origin.deviations[kind]
        return Told(value=float(count), low=max(0.0, count - error), high=count + error)
    more = _left_out(cell, origin)
    return Told(value=float(count), low=float(count), high=None if more is None else float(count + more))


class _Sums:
    """Sum, mean and variance of one column in one cell."""

    def __init__(self, column: Column, cell: Cell, origin: Origin) -> None:
        self._column, self._cell, self._origin, self._span = column, cell, origin, span_of(column)
        self._known, self._count = _known(cell, column)
        self._sum = cell.numbers[column.name, "sum"]

    def _deviation(self, kind: str) -> float:
        return self._origin.deviations[self._count if kind == "known" else (kind, self._column.name)]

    def _units(self, value: float | None) -> float | None:
        return None if value is None else from_units(self._column, value)

    def _ends(self) -> tuple[int | None, Span]:
        return _left_out(self._cell, self._origin), self._span

    def sum(self) -> Told:
        middle, value = self._span.middle, self._sum + self._known * self._span.middle
        if not self._origin.exact:
            error = Z * math.hypot(self._deviation("sum"), middle * self._deviation("known"))
            return Told(value=self._units(value), low=self._units(value - error), high=self._units(value + error))
        more, span = self._ends()
        low, high = (None, None) if more is None else (value + more * min(0, span.low), value + more * max(0, span.high))
        return Told(value=self._units(value), low=self._units(low), high=self._units(high))

    def mean(self) -> Told:
        if self._known < 1:
            return NOTHING
        middle, off = self._span.middle, self._sum / self._known
        if not self._origin.exact:
            error = Z * math.hypot(self._deviation("sum"), off * self._deviation("known")) / self._known
            low, high = max(self._span.low, middle + off - error), min(self._span.high, middle + off + error)
            value = min(max(middle + off, self._span.low), self._span.high)
            return Told(value=self._units(value), low=self._units(low), high=self._units(high))
        whole, count = self._sum + self._known * middle, self._known
        more, span = self._ends()
        value = from_units(self._column, whole) / count
        if more is None:
            return Told(value=value, low=None, high=None)
        low, high = (from_units(self._column, whole + more * end) / (count + more) for end in (span.low, span.high))
        return Told(value=value, low=min(low, value), high=max(high, value))

    def variance(self, sample: bool, root: bool) -> Told:
        n, s, q = self._known, self._sum, self._cell.numbers[self._column.name, "squares"]
        if n < 1 + sample:
            return NOTHING
        value = (n * q - s * s) / (n * (n - sample))
        bounds: tuple[float | None, float | None] = (None, None)
        if not self._origin.exact:
            parts = (
                self._deviation("squares") / n,
                2 * s / n**2 * self._deviation("sum"),
                (2 * s * s / n**3 - q / n**2) * self._deviation("known"),
            )
            error = Z * math.hypot(*parts)
            value = max(0.0, value)
            bounds = (max(0.0, value - error), value + error)
        elif _left_out(self._cell, self._origin) == 0:
            bounds = (value, value)
        unit = from_units(self._column, 1.0)
        scaled = [None if one is None else (math.sqrt(one) * unit if root else one * unit * unit) for one in (value, *bounds)]
        return Told(value=scaled[0], low=scaled[1], high=scaled[2])


def _quantile(one: Aggregate, column: Column, cell: Cell, origin: Origin) -> Told:
    """The quantile, interpolated within its bin; its bounds are ends of bins. Values beyond the declared range count as its ends."""
    bins = cell.bins[column.name, one.bins]
    share, span = one.share_ppm / 1_000_000, span_of(column)
    counts = np.maximum(bins[:, FLAGS], 0)
    below = np.concatenate([[0], np.cumsum(counts)])
    size = int(below[-1])
    if size < 1:
        return NOTHING
    edges = [span.low + (span.high - span.low) * place / one.bins for place in range(one.bins + 1)]

    def bin_at(rank: float) -> int:
        return int(np.searchsorted(below, min(max(rank, 0.0), size - 1.0), side="right")) - 1

    rank = share * (size - 1)
    place = bin_at(rank)
    value = edges[place] + (rank + 0.5 - below[place]) / max(1, counts[place]) * (edges[place + 1] - edges[place])
    value = float(min(max(value, edges[place]), edges[place + 1]))
    left = cell.few + int(bins[:, 0].sum())
    if cell.more or bins[:, 1].any():
        return Told(value=from_units(column, value), low=None, high=None)
    if origin.exact:
        more = left * (origin.least - 1)
        first, last = math.floor(share * (size + more - 1) - more), math.ceil(share * (size + more - 1))
    else:
        slack = Z * origin.deviations["histogram", column.name] * math.sqrt(one.bins)
        first, last = math.floor(rank - slack), math.ceil(rank + slack)
    low = span.low if first < 0 else edges[bin_at(first)]
    high = span.high if last > size - 1 else edges[bin_at(last) + 1]
    return Told(value=from_units(column, value), low=from_units(column, low), high=from_units(column, high))
