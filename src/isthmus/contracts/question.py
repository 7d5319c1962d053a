"""A question to the tables of several owners, as a tree: what `query/1` counts and sums, and the fixed shape of what it tells.

There is no text of SQL in it and no name of a function: a condition over declared columns, groups that the schema declares, and a few
kinds of sums. The shape follows from schema and tree alone, so it says nothing of anybody's records and masked sums of several owners
add up. A number counts in whole units of its column (`unit_exponent`), clipped to the declared range and taken from its middle, which
bounds what one record can add.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import msgspec

from isthmus.contracts.errors import InputError
from isthmus.contracts.schema import Column, Schema

QUESTION = "query/1"
UNITS_MAX = 100_000
"""Units in a column's declared range, at most: sums of squares of 1e7 records stay below 2^62."""
PLACES_MAX = 2**53
"""A value in units, by size; larger ones count as this."""
CONDITION_NODES_MAX, CONDITION_DEPTH_MAX, VALUES_MAX = 64, 8, 64
GROUPS_MAX, BINS_MAX, CELLS_MAX, MEASURES_MAX, ENTRIES_MAX = 4, 64, 4096, 32, 65_536
FLAGS = 2
"""Of each cell and each bin: owners that left fewer than their least group out, and owners that left a larger part out."""
LABEL = Column(name="label", kind="category", levels=("good", "defect"))
"""What a record is labelled; a column of every question, beside the schema's."""
MeasureKind = Literal["known", "sum", "squares", "histogram"]
Operator = Literal["=", "<>", "<", "<=", ">", ">="]


class _Node(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Compare(_Node, frozen=True, kw_only=True, tag="compare", forbid_unknown_fields=True):
    """A column against a number, or a category against one of its levels (= and <> only). A missing value makes it unknown, as in SQL."""

    column: str
    operator: Operator
    value: float | str


class Among(_Node, frozen=True, kw_only=True, tag="among", forbid_unknown_fields=True):
    """A column's value is one of these."""

    column: str
    values: tuple[float | str, ...]


class Missing(_Node, frozen=True, kw_only=True, tag="missing", forbid_unknown_fields=True):
    """A column's value is missing."""

    column: str


class Every(_Node, frozen=True, kw_only=True, tag="every", forbid_unknown_fields=True):
    """All parts hold."""

    parts: tuple[Condition, ...]


class Either(_Node, frozen=True, kw_only=True, tag="either", forbid_unknown_fields=True):
    """At least one part holds."""

    parts: tuple[Condition, ...]


class Negated(_Node, frozen=True, kw_only=True, tag="negated", forbid_unknown_fields=True):
    """The part does not hold."""

    part: Condition


Condition = Compare | Among | Missing | Every | Either | Negated


class Levels(_Node, frozen=True, kw_only=True, tag="levels", forbid_unknown_fields=True):
    """A group for each declared level of a category, and one for missing values where they are allowed."""

    column: str


class Bins(_Node, frozen=True, kw_only=True, tag="bins", forbid_unknown_fields=True):
    """A group for each of `count` equal parts of a number's declared range, what lies beyond counted in the end parts, and one for
    missing values where they are allowed."""

    column: str
    count: int


Group = Levels | Bins


class Measure(_Node, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One kind of sum over a column. known: how many records have a value. sum, squares: of values from the middle of the range, in units.
    histogram: counts in `bins` equal parts of the range."""

    kind: MeasureKind
    column: str
    bins: int = 0


class QuestionParams(_Node, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """query/1. First two flags of each cell (a combination of groups, the first slowest) and of each bin of each histogram: whether the
    owner left out fewer records than its least group, or more. Then the count of records of each cell, then each measure of each cell,
    bins innermost. Records are those of the whole asset. noisy: the job carries noise, so nothing is left out and no flag is told.
    """

    measures: tuple[Measure, ...] = ()
    where: Condition | None = None
    groups: tuple[Group, ...] = ()
    noisy: bool = False


AggregateKind = Literal["count", "sum", "mean", "variance", "deviation", "quantile"]


class Aggregate(_Node, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One column of the answer. column: empty for a count of records. share_ppm: of a quantile. sample: a variance by n - 1."""

    kind: AggregateKind
    name: str
    column: str = ""
    share_ppm: int = 0
    bins: int = 0
    sample: bool = True


class Question(_Node, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What somebody asks of a table."""

    select: tuple[Aggregate, ...]
    where: Condition | None = None
    groups: tuple[Group, ...] = ()


_WANTS: dict[AggregateKind, tuple[MeasureKind, ...]] = {
    "count": ("known",),
    "sum": ("known", "sum"),
    "mean": ("known", "sum"),
    "variance": ("known", "sum", "squares"),
    "deviation": ("known", "sum", "squares"),
    "quantile": ("histogram",),
}


def params_of(question: Question, schema: Schema, noisy: bool = False) -> QuestionParams:
    """What owners are asked for: the same for every order and naming of the same aggregates. How many records have a value is not asked of
    a column that always has one. Raises InputError for a column that there is not."""
    columns = table_columns(schema)
    wanted = {
        (one.column, kind, one.bins if kind == "histogram" else 0)
        for one in question.select
        if one.column
        for kind in _WANTS[one.kind]
        if kind != "known" or _known(one.column, columns).missing
    }
    measures = tuple(Measure(kind=kind, column=column, bins=bins) for column, kind, bins in sorted(wanted))
    return QuestionParams(measures=measures, where=question.where, groups=question.groups, noisy=noisy)


# Columns in units.


def table_columns(schema: Schema) -> dict[str, Column]:
    """Name -> column of what a question may name: the schema's, and the label."""
    return {column.name: column for column in (*schema.columns, LABEL)}


def unit_exponent(column: Column) -> int:
    """A number's unit is ten to this: the finest by which its range has at most UNITS_MAX units."""
    return math.ceil(math.log10((column.high - column.low) / UNITS_MAX) - 1e-9)


def in_units(column: Column, value: float) -> float:
    """A value in the column's units; whole where it differs from a whole number by rounding alone. At most PLACES_MAX by size."""
    exponent = unit_exponent(column)
    raw = value * 10.0**-exponent if exponent < 0 else value / 10.0**exponent
    near = float(round(max(-float(PLACES_MAX), min(float(PLACES_MAX), raw))))
    return near if abs(raw - near) < 1e-3 or abs(raw) >= PLACES_MAX else raw


def from_units(column: Column, units: float) -> float:
    """Inverse of `in_units`."""
    exponent = unit_exponent(column)
    return units / 10.0**-exponent if exponent < 0 else units * 10.0**exponent


class Span(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A number's declared range in units: values are clipped to low..high and counted from `middle`; none adds more than `half`."""

    low: int
    high: int

    @property
    def middle(self) -> int:
        return (self.low + self.high) // 2

    @property
    def half(self) -> int:
        return max(self.high - self.middle, self.middle - self.low)


def span_of(column: Column) -> Span:
    """Raises InputError when the range is too narrow for whole units."""
    low, high = math.ceil(in_units(column, column.low)), math.floor(in_units(column, column.high))
    if low >= high or max(abs(low), abs(high)) >= PLACES_MAX:
        raise InputError(f"the range of column {column.name} is too narrow to be summed", "declare a wider one, or another unit")
    return Span(low=low, high=high)


# The shape.


def group_size(group: Group, columns: dict[str, Column]) -> int:
    """Groups that a column makes."""
    column = columns[group.column]
    return (len(column.levels) if isinstance(group, Levels) else group.count) + column.missing


def cell_sizes(params: QuestionParams, schema: Schema) -> tuple[int, ...]:
    """Groups of each column; their product is how many cells there are."""
    columns = table_columns(schema)
    return tuple(group_size(group, columns) for group in params.groups)


def cell_count(params: QuestionParams, schema: Schema) -> int:
    """How many cells there are."""
    return math.prod(cell_sizes(params, schema))


def flags_size(params: QuestionParams, schema: Schema) -> int:
    """Entries that say what was left out."""
    return FLAGS * cell_count(params, schema) * (1 + sum(one.bins for one in params.measures))


def question_size(params: QuestionParams, schema: Schema) -> int:
    """Numbers that the statistic tells."""
    return flags_size(params, schema) + told_numbers(params, schema)


def told_numbers(params: QuestionParams, schema: Schema) -> int:
    """The same without flags: what the dimension rule counts."""
    return cell_count(params, schema) * (1 + sum(max(1, one.bins) for one in params.measures))


# What a tree may be.


def _wrong(message: str, next_step: str) -> InputError:
    return InputError(message, next_step)


def conditions(where: Condition | None, depth: int = 1) -> Iterator[tuple[Condition, int]]:
    """(node, depth) of each node. Raises InputError where it is nested too deeply."""
    if where is None:
        return
    if depth > CONDITION_DEPTH_MAX:
        raise _wrong(f"the condition is nested more than {CONDITION_DEPTH_MAX} deep", "ask something simpler")
    yield where, depth
    if isinstance(where, Every | Either):
        for part in where.parts:
            yield from conditions(part, depth + 1)
    elif isinstance(where, Negated):
        yield from conditions(where.part, depth + 1)


def check_params(params: QuestionParams, schema: Schema) -> None:
    """Raises InputError unless every name is declared, every value fits its column, and the shape is within limits."""
    if schema.steps != 1 or schema.written:
        raise _wrong("the records are series or texts", "questions are put to rows of tables")
    columns = table_columns(schema)
    for count, (node, _) in enumerate(conditions(params.where), start=1):
        if count > CONDITION_NODES_MAX:
            raise _wrong(f"the condition has more than {CONDITION_NODES_MAX} parts", "ask something simpler")
        _check_condition(node, columns)
    if len(params.groups) > GROUPS_MAX or len({group.column for group in params.groups}) < len(params.groups):
        raise _wrong("there are too many groups, or one column groups twice", f"group by up to {GROUPS_MAX} different columns")
    for group in params.groups:
        _check_group(group, columns)
    keys = [(one.column, one.kind, one.bins) for one in params.measures]
    if len(keys) > MEASURES_MAX or keys != sorted(set(keys)):
        raise _wrong(
            "the measures are too many, or not in order", f"ask for up to {MEASURES_MAX} different ones, sorted by column and kind"
        )
    for one in params.measures:
        _check_measure(one, columns)
    cells, size = cell_count(params, schema), question_size(params, schema)
    if cells > CELLS_MAX or size > ENTRIES_MAX:
        raise _wrong(
            f"the answer would have {cells} cells and {size} numbers",
            f"ask for at most {CELLS_MAX} cells and {ENTRIES_MAX} numbers",
        )


def _known(name: str, columns: dict[str, Column]) -> Column:
    if name not in columns:
        raise _wrong(f"there is no column {name[:80]!r}", f"use one of {', '.join(columns)}")
    return columns[name]


def _check_condition(node: Condition, columns: dict[str, Column]) -> None:
    if isinstance(node, Every | Either):
        if not 1 <= len(node.parts) <= CONDITION_NODES_MAX:
            raise _wrong("a condition has no parts, or too many", f"give 1 to {CONDITION_NODES_MAX}")
    elif isinstance(node, Compare):
        column = _known(node.column, columns)
        if column.kind == "category" and node.operator not in ("=", "<>"):
            raise _wrong(f"the levels of {column.name} have no order", "compare with = or <>")
        _check_value(column, node.value)
    elif isinstance(node, Among):
        column = _known(node.column, columns)
        if not 1 <= len(node.values) <= VALUES_MAX:
            raise _wrong(f"a list of {len(node.values)} values for {column.name}", f"give 1 to {VALUES_MAX}")
        for value in node.values:
            _check_value(column, value)
    elif isinstance(node, Missing):
        _known(node.column, columns)


def _check_value(column: Column, value: float | str) -> None:
    if column.kind == "category":
        if not isinstance(value, str) or value not in column.levels:
            raise _wrong(f"{str(value)[:80]!r} is no level of {column.name}", f"use one of {', '.join(column.levels)}")
    elif isinstance(value, str) or not math.isfinite(value):
        raise _wrong(f"{column.name} is a number and is compared with {str(value)[:80]!r}", "compare it with a finite number")


def _check_group(group: Group, columns: dict[str, Column]) -> None:
    column = _known(group.column, columns)
    if isinstance(group, Levels) != (column.kind == "category"):
        raise _wrong(f"{column.name} is a {column.kind}", f"group by a category, or by bins({column.name}, 10) of a number")
    if isinstance(group, Bins):
        span_of(column)
        if not 2 <= group.count <= BINS_MAX:
            raise _wrong(f"{group.count} bins of {column.name}", f"use 2 to {BINS_MAX}")


def _check_measure(one: Measure, columns: dict[str, Column]) -> None:
    column = _known(one.column, columns)
    if one.kind != "known":
        if column.kind != "number":
            raise _wrong(f"{column.name} is a category and has no {one.kind}", "count it, or group by it")
        span_of(column)
    if (one.kind == "histogram") != (2 <= one.bins <= BINS_MAX):
        raise _wrong(f"a measure {one.kind} of {one.bins} bins", f"a histogram has 2 to {BINS_MAX} bins, other measures none")
