"""Columns of a file as a record's numbers: the same numbers, bit for bit, as when each row is read as a record of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.errors import InputError
from isthmus.contracts.schema import FLOAT_MAX, Column, Records, Schema, value_of

Batch = Mapping[str, NDArray[Any]]


class RowError(Exception):
    """A value of one row that cannot be used: whoever knows the file makes a sentence of it. row: its place in the batch."""

    def __init__(self, row: int, message: str, next_step: str) -> None:
        super().__init__(message)
        self.row, self.message, self.next_step = row, message, next_step


def texts_of(values: NDArray[Any]) -> tuple[list[str], NDArray[np.int64]]:
    """(distinct texts, (n,) place of each row's own) of a column as a table would write it: whole numbers without a point, "" for null."""
    if values.dtype == object:
        known: dict[Any, int] = {}
        places = np.fromiter((known.setdefault(value, len(known)) for value in values.tolist()), dtype=np.int64, count=len(values))
        return ["" if value is None else _number_text(value) if isinstance(value, bool) else str(value).strip() for value in known], places
    distinct, places = np.unique(values, return_inverse=True)
    return [_number_text(value) for value in distinct.tolist()], places.reshape(-1).astype(np.int64)


def _number_text(value: float) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return "" if math.isnan(value) else str(int(value)) if value.is_integer() else repr(value)
    return str(value)


def mapped(values: NDArray[Any], meaning: Callable[[str], float]) -> NDArray[np.float64]:
    """(n,) what each row's text means. Raises RowError with the first row whose text means nothing."""
    texts, places = texts_of(values)
    found = np.zeros(len(texts))
    for place, text in enumerate(texts):
        try:
            found[place] = meaning(text)
        except InputError as error:
            raise RowError(int(np.argmax(places == place)), error.message, error.next_step) from error
    return found[places]


def numbers_of(column: Column, values: NDArray[Any]) -> NDArray[np.float64]:
    """(n,) values of a declared column, NaN where one is missing: contracts.schema.value_of of each row. Raises RowError."""
    if column.kind == "category":
        return mapped(values, lambda text: value_of(column, _level(column, text)))
    if values.dtype == object and not _of_truth(values):
        return _parsed(column, values)
    found = values.astype(np.float64)
    wrong = np.isinf(found) | (np.abs(found) > FLOAT_MAX)
    if bool(wrong.any()):
        said = f"column {column.name} is {found[wrong][0]!r}, which is no finite number"
        raise RowError(int(np.argmax(wrong)), said, "leave the field empty if it is missing")
    missing = np.isnan(found)
    if not column.missing and bool(missing.any()):
        what = f"column {column.name} is empty"
        raise RowError(int(np.argmax(missing)), what, "fill it, or declare the column as one that may be missing")
    return found


def _parsed(column: Column, values: NDArray[Any]) -> NDArray[np.float64]:
    """Numbers that are written as text: at once where all are plain ones, else each different text by itself."""
    try:
        found = values.astype(np.float64)
    except (ValueError, TypeError):
        return mapped(values, lambda text: value_of(column, text))
    if bool(np.isfinite(found).all()) and float(np.abs(found).max(initial=0.0)) <= FLOAT_MAX:
        return np.asarray(found)
    return mapped(values, lambda text: value_of(column, text))


def _of_truth(values: NDArray[Any]) -> bool:
    """Whether an object array holds truth values with gaps, which as numbers are 1 and 0."""
    return isinstance(next((value for value in values.tolist() if value is not None), None), bool)


def _level(column: Column, text: str) -> str:
    """Truth values by the words that a category has for them: true and false, or 1 and 0."""
    folded = {level.strip().casefold() for level in column.levels}
    if text in ("true", "false") and text not in folded and {"1", "0"} <= folded:
        return "1" if text == "true" else "0"
    return text


def matrix_of(schema: Schema, batch: Batch, count: int) -> Records:
    """(count, columns) float32 records of a batch. A column that is not there counts as missing where it may be. Raises RowError."""
    found = np.full((count, len(schema.columns)), np.nan, dtype=np.float32)
    for place, column in enumerate(schema.columns):
        if column.name in batch:
            found[:, place] = numbers_of(column, batch[column.name])
        elif not column.missing:
            raise RowError(0, f"there is no column {column.name}", f"the record needs {', '.join(c.name for c in schema.columns)}")
    return found
