"""A question's tree as statements for DuckDB, written from numbered fragments; every value of the tree is a parameter."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from isthmus.contracts.question import (
    Among,
    Compare,
    Condition,
    Every,
    Group,
    Levels,
    Measure,
    Missing,
    Negated,
    QuestionParams,
    group_size,
    in_units,
    span_of,
    table_columns,
)
from isthmus.contracts.schema import Column, Schema
from isthmus.kit.database import named_sql

SQL = named_sql(Path(__file__).with_name("duckrows.sql"))
NULL = -(2**62)
"""Stands for a missing value in the arrays that are handed over."""
OPERATORS = {"=": "=", "<>": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">="}


@dataclass
class Writer:
    """Fragments over the question's columns. used: names of those that it needs, in order; column i is c{i}."""

    schema: Schema
    used: list[str] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.columns = table_columns(self.schema)

    def name(self, column: str) -> str:
        """The column's number as a name."""
        if column not in self.used:
            self.used.append(column)
        return f"c{self.used.index(column)}"

    def value(self, column: Column, given: float | str) -> str:
        """A parameter: a level's number, or a number in units."""
        self.values.append(column.levels.index(given) if isinstance(given, str) else _whole(in_units(column, given)))
        return f"${len(self.values)}"

    def condition(self, node: Condition) -> str:
        """An expression that is true, false or unknown."""
        if isinstance(node, Negated):
            return f"(NOT {self.condition(node.part)})"
        if isinstance(node, Compare):
            return f"({self.name(node.column)} {OPERATORS[node.operator]} {self.value(self.columns[node.column], node.value)})"
        if isinstance(node, Among):
            listed = ", ".join(self.value(self.columns[node.column], value) for value in node.values)
            return f"({self.name(node.column)} IN ({listed}))"
        if isinstance(node, Missing):
            return f"({self.name(node.column)} IS NULL)"
        word = " AND " if isinstance(node, Every) else " OR "
        return "(" + word.join(self.condition(part) for part in node.parts) + ")"

    def bin(self, column: Column, count: int) -> str:
        """Which of `count` equal parts of the range a value is in; NULL where it is missing."""
        span, name = span_of(column), self.name(column.name)
        width = span.high - span.low
        inner = f"least(((least(greatest({name}, {span.low}), {span.high}) - {span.low}) * {count}) // {width}, {count - 1})"
        return f"CASE WHEN {name} IS NULL THEN NULL ELSE {inner} END"  # least and greatest pass over NULL

    def group(self, group: Group) -> str:
        """The number of a record's group."""
        column = self.columns[group.column]
        last = group_size(group, self.columns) - 1
        inner = self.name(group.column) if isinstance(group, Levels) else self.bin(column, group.count)
        return f"coalesce({inner}, {last})" if column.missing else inner

    def cell(self, params: QuestionParams) -> str:
        """The number of a record's cell; -1 where the condition is not true."""
        found = "0"
        for group in params.groups:
            found = f"({found} * {group_size(group, self.columns)} + {self.group(group)})"
        return found if params.where is None else f"CASE WHEN {self.condition(params.where)} THEN {found} ELSE -1 END"

    def sum_of(self, measure: Measure) -> str:
        """The aggregate of one measure that is no histogram."""
        column = self.columns[measure.column]
        name = self.name(measure.column)
        if measure.kind == "known":
            return f"count({name})"
        span = span_of(column)
        value = f"(CASE WHEN {name} IS NULL THEN NULL ELSE least(greatest({name}, {span.low}), {span.high}) - {span.middle} END)"
        return f"CAST(coalesce(sum({value}{f' * {value}' if measure.kind == 'squares' else ''}), 0) AS BIGINT)"

    def listed(self) -> str:
        """The columns, with missing values as NULL."""
        return ", ".join(f"nullif(c{place}, {NULL}) AS c{place}" for place in range(len(self.used))) or "0 AS none"


def _whole(value: float) -> int | float:
    return int(value) if value == int(value) else value


def cells_statement(writer: Writer, params: QuestionParams) -> tuple[str, list[Any]]:
    """Columns cell, and b0, b1, ... of each histogram (-1 where a value is missing), a row a record in order."""
    cell = writer.cell(params)
    histograms = [one for one in params.measures if one.kind == "histogram"]
    bins = "".join(
        f", coalesce({writer.bin(writer.columns[one.column], one.bins)}, -1) AS b{place}" for place, one in enumerate(histograms)
    )
    for one in params.measures:
        writer.name(one.column)
    return SQL["cells"].rstrip(";").format(cell=cell, bins=bins, columns=writer.listed()), writer.values


def sums_statement(writer: Writer, params: QuestionParams) -> tuple[str, list[Any]]:
    """Columns cell, rows and m0, m1, ... of each measure that is no histogram."""
    parts = [f"{writer.sum_of(one)} AS m{place}" for place, one in enumerate(_plain(params))]
    return SQL["sums"].rstrip(";").format(sums=", ".join(["count(*) AS rows", *parts]), columns=writer.listed()), []


def _plain(params: QuestionParams) -> list[Measure]:
    return [one for one in params.measures if one.kind != "histogram"]
