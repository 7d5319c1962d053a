"""The parts that features of a window are made of, as documents name them; how many features each has, and what each of them is.

    last/N         values of the last N steps, newest first
    summary        of each column: mean, standard deviation, least, largest, rise (fitted line), last less mean
    memory/N       means that forget: half-lives of 1, 2, 4 … steps, N of them
    changes/N      at widths of 1, 2, 4 … steps, N of them: newest mean less the one before it, and the largest such jump in the window
    kernels/COUNT  how often fixed kernels of length 9 respond (MiniRocket), column by column in turn
    hinges/COUNT   what exceeds nothing in fixed mixtures of the columns' recent values and memories: bends in straight lines
    levels         share of steps at each level, of columns that are categories

Each `family/N` begins with the features of `family/(N - 1)`. All but `levels` see number columns only.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from isthmus.contracts.errors import InputError
from isthmus.contracts.schema import Column, Schema, checked_schema

LAST, SUMMARY, MEMORY, CHANGES, KERNELS, HINGES, LEVELS = "last", "summary", "memory", "changes", "kernels", "hinges", "levels"
COUNTED, PLAIN = (LAST, MEMORY, CHANGES, KERNELS, HINGES), (SUMMARY, LEVELS)
SUMMARIES = ("mean", "deviation", "least", "largest", "rise", "last less mean")
KERNEL_STEPS = 9
KERNELS_MAX, HINGES_MAX, MEMORIES_MAX, CHANGES_MAX = 1024, 1024, 12, 9
SERIES_FEATURES_MAX = 4096
DEFAULT_SERIES_PARTS = ("last/3", "summary", "memory/3", "changes/2", "kernels/28")
NUMBER = re.compile(r"[1-9][0-9]{0,3}", re.ASCII)
KNOWN = f"{', '.join(f'{family}/N' for family in COUNTED)}, {SUMMARY} or {LEVELS}"


class SeriesPart(NamedTuple):
    """family: one of COUNTED or PLAIN. number: how many; 0 where the family has none."""

    family: str
    number: int

    @property
    def text(self) -> str:
        return f"{self.family}/{self.number}" if self.number else self.family


def parsed_series_part(text: str) -> SeriesPart:
    """Raises InputError when it is no part's name."""
    family, slash, detail = text.partition("/")
    if family in PLAIN and not slash:
        return SeriesPart(family, 0)
    if family in COUNTED and NUMBER.fullmatch(detail):
        return SeriesPart(family, int(detail))
    raise InputError(f"{text!r} names no features of a series", f"use {KNOWN}, N from 1")


def numbers_of(schema: Schema) -> tuple[Column, ...]:
    """Its number columns, in order."""
    return tuple(column for column in schema.columns if column.kind == "number")


def checked_series_parts(schema: Schema, parts: tuple[str, ...]) -> tuple[SeriesPart, ...]:
    """The parts if a window of this schema has them and none is named twice; raises InputError that says what to change."""
    checked_schema(schema)
    found = tuple(parsed_series_part(text) for text in parts)
    if not found or len({part.family for part in found}) < len(found):
        raise InputError(f"the features {list(parts)} cannot be used together", "name at least one part, and none twice")
    if schema.steps < 2:
        raise InputError(
            "features of a series were asked of a record of one step", "declare the window's steps, or use features of a table"
        )
    for part in found:
        _check_reach(schema, part)
    count = sum(series_part_size(schema, part) for part in found)
    if count > SERIES_FEATURES_MAX:
        raise InputError(f"the parts give {count} features", f"ask for at most {SERIES_FEATURES_MAX}; a few dozen tell least of anybody")
    return found


def _check_reach(schema: Schema, part: SeriesPart) -> None:
    numbers = numbers_of(schema)
    if part.family == LEVELS and len(numbers) == len(schema.columns):
        raise InputError("`levels` was asked of a window without categories", "leave it out, or declare a category")
    if part.family != LEVELS and not numbers:
        raise InputError(f"{part.text} was asked of a window without numbers", f"use `{LEVELS}`, or declare a number")
    if part.family == KERNELS and schema.steps < KERNEL_STEPS:
        raise InputError(
            f"{part.text} needs {KERNEL_STEPS} steps, the window has {schema.steps}", "use a longer window, or leave kernels out"
        )
    most = {
        LAST: schema.steps,
        MEMORY: MEMORIES_MAX,
        CHANGES: min(CHANGES_MAX, schema.steps.bit_length() - 1),
        KERNELS: KERNELS_MAX,
        HINGES: HINGES_MAX,
    }.get(part.family, 0)
    if part.number > most:
        raise InputError(f"{part.text} is out of reach of {schema.steps} steps", f"use {part.family}/1 to {part.family}/{most}")


def series_part_size(schema: Schema, part: SeriesPart) -> int:
    """How many features it has."""
    numbers = len(numbers_of(schema))
    if part.family == LEVELS:
        return sum(len(column.levels) for column in schema.columns)
    sizes = {
        SUMMARY: len(SUMMARIES) * numbers,
        LAST: part.number * numbers,
        MEMORY: part.number * numbers,
        CHANGES: 2 * part.number * numbers,
    }
    return sizes.get(part.family, part.number)


def series_part_names(schema: Schema, part: SeriesPart) -> list[str]:
    """What each of its features is, for people."""
    names = [column.name for column in numbers_of(schema)]
    if part.family == LEVELS:
        return [f"{column.name}: {level}, share of steps" for column in schema.columns for level in column.levels]
    if part.family == SUMMARY:
        return [f"{name}: {word}" for word in SUMMARIES for name in names]
    if part.family == LAST:
        return [f"{name}: newest" if lag == 0 else f"{name}: {lag} before the newest" for lag in range(part.number) for name in names]
    if part.family == MEMORY:
        return [f"{name}: mean with a half-life of {2**k}" for k in range(part.number) for name in names]
    if part.family == CHANGES:
        words = ("newest change", "largest change")
        return [f"{name}: {word} of means of {2**k}" for k in range(part.number) for word in words for name in names]
    if part.family == KERNELS:
        return [f"{names[place % len(names)]}: kernel {place}" for place in range(part.number)]
    return [f"mixture {place}, above nothing" for place in range(part.number)]
