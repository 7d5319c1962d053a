"""The typed columns of a record that is not a picture: one row of a table, or a window of a series with the same columns at each step.

A record is a float32 matrix (steps, columns). Numbers stand as they are, in the column's unit; a category stands as the index of its
level; what is missing is NaN. Ranges and levels are declared by the scenario, so they are public and tell nothing of anybody's data.
A record of a text is something else: its one column is of kind text, and the record is the text itself (kit.writing).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.errors import InputError

COLUMNS_MAX = 256
STEPS_MAX = 4096
LEVELS_MAX = 64
COLUMN_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)
RESERVED = frozenset({"path", "label", "certainty", "group", "kind", "split"})
"""What a folder says of a record beside its values; no column of a record, or a model would see the answer."""

MISSING = frozenset({"", "na", "nan", "n/a", "null", "none", "?"})
FLOAT_MAX = float(np.finfo(np.float32).max)
Records = NDArray[np.float32]


class Column(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One column. text: written language, alone in its schema. number: `low` to `high` is the range that values are expected in, in
    `unit`; beyond it they count as its end. Where `log` is set the range is seen on a logarithmic scale (low above 0). category: one of
    `levels`. missing: whether it may be absent.
    """

    name: str
    kind: Literal["number", "category", "text"] = "number"
    unit: str = ""
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    levels: tuple[str, ...] = ()
    missing: bool = False


class Schema(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a record holds. steps: 1 for a row of a table, more for a window of a series, oldest first."""

    columns: tuple[Column, ...]
    steps: int = 1

    @property
    def written(self) -> bool:
        """Whether its records are texts."""
        return any(column.kind == "text" for column in self.columns)


def checked_schema(schema: Schema) -> Schema:
    """The schema if records can be read by it. Raises InputError that names the column."""
    names = [column.name for column in schema.columns]
    if not 1 <= len(names) <= COLUMNS_MAX:
        raise InputError(f"a record has {len(names)} columns", f"declare 1 to {COLUMNS_MAX}")
    if not 1 <= schema.steps <= STEPS_MAX:
        raise InputError(f"a record has {schema.steps} steps", f"declare 1 to {STEPS_MAX}")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"the column {twice} is declared twice", "give each column a name of its own")
    for column in schema.columns:
        _check_column(column)
    if schema.written and (len(schema.columns) > 1 or schema.steps > 1):
        raise InputError("a column of text stands beside others, or in a series", "declare it alone: a text is one record by itself")
    return schema


def _check_column(column: Column) -> None:
    name = column.name
    if not COLUMN_NAME.fullmatch(name):
        raise InputError(f"the column name {name!r} cannot be used", "use a small letter, then small letters, digits and _")
    if name in RESERVED:
        kept = ", ".join(sorted(RESERVED))
        raise InputError(f"the column {name} says of a record what no model may see", f"name it otherwise; {kept} are kept")
    if column.kind == "text":
        if column.levels or column.low or column.high or column.log or column.unit or column.missing:
            raise InputError(f"column {name} is a text with a range, unit or levels, or may be missing", "declare its name and kind only")
        return
    if column.kind == "category":
        folded = [level.strip().casefold() for level in column.levels]
        if not 2 <= len(folded) <= LEVELS_MAX or len(set(folded)) < len(folded) or any(level in MISSING for level in folded):
            raise InputError(
                f"the levels of column {name} cannot be used", f"name 2 to {LEVELS_MAX} different ones; an empty field is `missing`"
            )
        if column.low or column.high or column.log or column.unit:
            raise InputError(f"column {name} is a category with a range or unit", "leave low, high, log and unit out")
        return
    if column.levels:
        raise InputError(f"column {name} is a number with levels", "make it a category, or leave levels out")
    if not (math.isfinite(column.low) and math.isfinite(column.high) and column.low < column.high):
        raise InputError(
            f"column {name} has no range: low {column.low:g}, high {column.high:g}", "declare the range that values are expected in"
        )
    if column.log and column.low <= 0:
        raise InputError(f"column {name} is seen on a logarithmic scale from {column.low:g}", "give a low above 0, or leave log out")


def value_of(column: Column, text: str) -> float:
    """A field of a table as the number that a record holds. Raises InputError that says what the column takes."""
    stripped = text.strip()
    if stripped.casefold() in MISSING:
        if not column.missing:
            raise InputError(f"column {column.name} is empty", "fill it, or declare the column as one that may be missing")
        return math.nan
    if column.kind == "category":
        folded = [level.strip().casefold() for level in column.levels]
        if stripped.casefold() in folded:
            return float(folded.index(stripped.casefold()))
        raise InputError(f"column {column.name} is {stripped!r}", f"use one of {', '.join(column.levels)}")
    try:
        value = float(stripped)
    except ValueError as error:
        raise InputError(f"column {column.name} is {stripped!r}, which is no number", "write it with a point, without its unit") from error
    if not math.isfinite(value) or abs(value) > FLOAT_MAX:
        raise InputError(f"column {column.name} is {stripped!r}, which is no finite number", "leave the field empty if it is missing")
    return value


def checked_record(schema: Schema, record: Records, name: str = "the record") -> Records:
    """A record that came as numbers, if its schema allows each of them. Raises InputError that names the column."""
    for place, column in enumerate(schema.columns):
        values = record[..., place]
        if bool(np.isinf(values).any()):
            raise InputError(f"{name}: column {column.name} is infinite", "send numbers, or NaN where a value is missing")
        if not column.missing and bool(np.isnan(values).any()):
            raise InputError(f"{name}: column {column.name} is missing", "fill it, or declare the column as one that may be missing")
        known = values[~np.isnan(values)]
        if column.kind == "category" and bool(((known != np.floor(known)) | (known < 0) | (known >= len(column.levels))).any()):
            raise InputError(f"{name}: column {column.name} is none of its levels", f"send 0 to {len(column.levels) - 1}")
    return record


def row_of(schema: Schema, fields: Mapping[str, str]) -> Records:
    """Named fields -> (columns,) float32. Fields that the schema does not name are not read. Raises InputError."""
    absent = next((column.name for column in schema.columns if column.name not in fields and not column.missing), None)
    if absent is not None:
        raise InputError(f"there is no column {absent}", f"the record needs {', '.join(c.name for c in schema.columns)}")
    return np.array([value_of(column, fields.get(column.name, "")) for column in schema.columns], dtype=np.float32)
