"""The named decoder isthmus-records/1 on a box: the same numbers as where the model was certified, with the same limits.

A CSV file with a header is one record a row, or for a series one a window of rows that follow each other. A JSON file is one record: an
object of column to value, for a series a list of them, oldest first. JSON Lines is one record a line. What a record's bytes are does not
depend on the file that it stood in, so that its digest is the same everywhere.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

FILE_BYTES_MAX, RECORD_BYTES_MAX = 512 * 1024 * 1024, 4 * 1024 * 1024
MISSING = {"", "na", "nan", "n/a", "null", "none", "?"}
FLOAT_MAX = float(np.finfo(np.float32).max)


class Rows:
    """Records of declared columns. schema: the certified head's. stride: rows from one window to the next; None, a window's length."""

    noun, input, suffixes = "records", "records", {".csv", ".json", ".jsonl"}

    def __init__(self, schema: dict[str, Any], stride: int | None = None) -> None:
        self.columns, self.steps = schema["columns"], int(schema.get("steps", 1))
        self.stride = self.steps if stride is None else max(1, stride)

    def records(self, path: Path) -> Iterator[tuple[str, bytes]]:
        """(name, bytes) of each record in a file. Raises ValueError, OSError for one that is not of its form."""
        if path.stat().st_size > FILE_BYTES_MAX:
            raise ValueError(f"more than {FILE_BYTES_MAX} bytes")
        suffix, raw = path.suffix.lower(), path.read_bytes()
        if suffix == ".json":
            yield path.name, raw
        elif suffix == ".jsonl":
            for number, line in enumerate(raw.split(b"\n"), start=1):
                if line.strip():
                    yield f"{path.name}#{number}", line.strip()
        else:
            rows = table(raw)
            if len(rows) < self.steps:
                raise ValueError(f"{len(rows)} rows, and one record is a window of {self.steps}")
            for first in range(0, len(rows) - self.steps + 1, self.stride):
                window = rows[first : first + self.steps]
                place = f"{first + 1}-{first + self.steps}" if self.steps > 1 else str(first + 1)
                yield f"{path.name}#{place}", plain(window if self.steps > 1 else window[0])

    def decoded(self, raw: bytes, suffix: str = ".json") -> Any:
        """One record's JSON -> (columns,) float32, or (steps, columns). Raises ValueError that names step and column."""
        if len(raw) > RECORD_BYTES_MAX:
            raise ValueError(f"more than {RECORD_BYTES_MAX} bytes")
        found = json.loads(raw.decode(), parse_constant=refuse)
        rows = found if isinstance(found, list) else [found]
        if any(not isinstance(row, dict) for row in rows) or len(rows) != self.steps:
            raise ValueError(
                "not one object of column to value" if self.steps == 1 else f"not a list of {self.steps} objects, oldest first"
            )
        json.dumps(found, ensure_ascii=False).encode()  # text that is no Unicode is refused, as where the model was certified
        steps = [self.row({name: text(name, value) for name, value in row.items()}) for row in rows]
        return np.stack(steps) if self.steps > 1 else steps[0]

    def row(self, fields: dict[str, str]) -> Any:
        absent = next((c["name"] for c in self.columns if c["name"] not in fields and not c.get("missing")), None)
        if absent is not None:
            raise ValueError(f"there is no column {absent}")
        return np.array([number(column, fields.get(column["name"], "")) for column in self.columns], dtype=np.float32)


def table(raw: bytes) -> list[dict[str, str]]:
    """The rows of a CSV file by column; names in small letters, empty lines left out."""
    reader = csv.reader(io.StringIO(raw.decode("utf-8-sig"), newline=""), strict=True)
    try:
        names = [name.strip().lower() for name in next(reader, [])]
        rows = [row for row in reader if row]
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num} is not CSV: {error}") from error
    if not any(names) or len(set(names)) < len(names):
        raise ValueError("no header, or a column twice")
    if odd := [place for place, row in enumerate(rows, start=1) if len(row) != len(names)]:
        raise ValueError(f"row {odd[0]} has {len(rows[odd[0] - 1])} fields, the header {len(names)}")
    return [dict(zip(names, row, strict=True)) for row in rows]


def plain(record: Any) -> bytes:
    """A record's JSON in its one form."""
    return json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def refuse(word: str) -> Any:
    raise ValueError(f"{word} is no number of JSON")


def text(name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"column {name} holds {type(value).__name__}")
    return value if isinstance(value, str) else repr(value)


def number(column: dict[str, Any], field: str) -> float:
    """A field as the number that a record holds: itself, the place of its level, or NaN where it is missing and may be."""
    said, name = field.strip(), column["name"]
    if said.casefold() in MISSING:
        if not column.get("missing"):
            raise ValueError(f"column {name} is empty")
        return math.nan
    if column.get("kind") == "category":
        levels = [level.strip().casefold() for level in column["levels"]]
        if said.casefold() not in levels:
            raise ValueError(f"column {name} is {said!r}, none of {', '.join(column['levels'])}")
        return float(levels.index(said.casefold()))
    value = float(said)
    if not math.isfinite(value) or abs(value) > FLOAT_MAX:
        raise ValueError(f"column {name} is {said!r}, no finite number")
    return value
