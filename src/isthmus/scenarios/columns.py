"""Reads what columns a table has, so that a new package begins with them: kinds, levels, and ranges rounded outwards.

A proposal for a person to look at: what stands in a package is public, and one owner's values are not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from isthmus.contracts.errors import FolderError
from isthmus.contracts.schema import COLUMN_NAME, LEVELS_MAX, MISSING, RESERVED, Column, Schema, checked_schema
from isthmus.sandbox.folder import RECORDS_NAME
from isthmus.sandbox.rowfiles import table_rows

NUMBERS_LEAST = 3
"""Different numbers that a column must hold to be one of numbers; with fewer they are levels."""

WIDE = 1000.0
"""Largest over least, all above 0, from which a range is proposed on a logarithmic scale."""

TEXT_NAMES = ("text", "sentence", "message", "comment", "review", "complaint")
TEXT_CHARACTERS_LEAST = 12
"""Mean length from which a column of ever different words is taken for texts."""

LOG_LEAST = 1e-300
"""Below it a power of ten is no number any more."""

STEPS = (1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True)
class Proposed:
    """columns: as they may be declared. left_out: name -> why it was not taken. records: how many rows were read."""

    columns: tuple[Column, ...]
    left_out: dict[str, str]
    records: int


def proposed_columns(folder: Path) -> Proposed:
    """From the folder's records.csv. Raises FolderError when there is none, or none of its columns can be used."""
    path = folder / RECORDS_NAME
    if not path.is_file():
        raise FolderError(f"{folder} has no {RECORDS_NAME}", "give a folder with a row a record in it, or one with images")
    names, rows = table_rows(path)
    written = _text_column(names, rows)
    if written is not None:
        others = {name: "a text is a record by itself" for name in names if name not in RESERVED | {written}}
        return Proposed((Column(name=written, kind="text"),), others, len(rows))
    columns: list[Column] = []
    left_out: dict[str, str] = {}
    for place, name in enumerate(names):
        if name in RESERVED:
            continue
        found = _proposed(name, [row[place].strip() for row in rows])
        if isinstance(found, Column):
            columns.append(found)
        else:
            left_out[name] = found
    if not columns:
        raise FolderError(f"{path} has no column that a model could see", "add columns of numbers, or of a few different words")
    checked_schema(Schema(columns=tuple(columns)))
    return Proposed(tuple(columns), left_out, len(rows))


def _proposed(name: str, values: Sequence[str]) -> Column | str:
    """The column, or why it is none."""
    if not COLUMN_NAME.fullmatch(name):
        return "its name must be a small letter, then small letters, digits and _"
    given = [value for value in values if value.casefold() not in MISSING]
    missing = len(given) < len(values)
    numbers = [number for value in given if (number := _number(value)) is not None]
    different = sorted(set(given), key=given.index)
    if len(numbers) == len(given) and len(set(numbers)) >= NUMBERS_LEAST:
        low, high, log = _range(min(numbers), max(numbers))
        return Column(name=name, low=low, high=high, log=log, missing=missing)
    if 2 <= len({value.casefold() for value in different}) <= LEVELS_MAX:
        levels = {value.casefold(): value for value in sorted(different, reverse=True)}
        return Column(name=name, kind="category", levels=tuple(sorted(levels.values())), missing=missing)
    if len(different) < 2:
        return "it says the same in every row"
    return f"it has {len(different)} different texts, more than {LEVELS_MAX}"


def _text_column(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str | None:
    """The column that holds texts: one of a name in TEXT_NAMES, else the wordiest where no column could be seen as numbers or levels."""
    candidates: dict[str, float] = {}
    for place, name in enumerate(names):
        values = [row[place].strip() for row in rows]
        if name in RESERVED or not COLUMN_NAME.fullmatch(name) or not values or not all(values):
            continue
        if sum(map(len, values)) >= TEXT_CHARACTERS_LEAST * len(values) and isinstance(_proposed(name, values), str):
            candidates[name] = sum(map(len, values)) / len(values)
        elif name not in TEXT_NAMES and isinstance(_proposed(name, values), Column):
            candidates[name] = 0.0
    named = [name for name, length in candidates.items() if length and name in TEXT_NAMES]
    if named or not candidates or not all(candidates.values()):
        return named[0] if named else None
    return max(candidates, key=lambda name: candidates[name])


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _range(least: float, largest: float) -> tuple[float, float, bool]:
    """Rounded outwards to 1, 2 or 5 times a power of ten of the span; logarithmic where it spans WIDE and more above 0."""
    if least >= LOG_LEAST and largest / least >= WIDE:
        return 10.0 ** math.floor(math.log10(least)), 10.0 ** math.ceil(math.log10(largest)), True
    span = largest - least
    power = 10.0 ** math.floor(math.log10(span / 5.0))
    step = power * next(s for s in STEPS if s * power >= span / 10.0)
    low, high = (float(f"{value * step:.12g}") for value in (math.floor(least / step), math.ceil(largest / step)))
    return (low, high, False) if low < high else (least, largest, False)
