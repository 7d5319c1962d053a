"""The one named decoder that turns JSON into records of a table or a series: at the owners' nodes and where it serves.

One record is a JSON object of column to value; a window of a series is a list of such objects, oldest first. Values are numbers, text or
null. Columns that the schema does not name are not read, so that an owner's folder may hold more than a scenario asks for.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from isthmus.contracts.errors import InputError
from isthmus.contracts.schema import Records, Schema, row_of

RECORD_DECODER = "isthmus-records/1"
RECORD_BYTES_MAX = 4 * 1024 * 1024
"""One record's JSON."""

_JSON = msgspec.json.Decoder(list[dict[str, Any]] | dict[str, Any])


def record_bytes(rows: list[dict[str, str]]) -> bytes:
    """Rows of a table, as text by column, as the JSON of one record: an object, or a list of objects where there are several."""
    return msgspec.json.encode(rows[0] if len(rows) == 1 else rows, order="sorted")


def decode_record(raw: bytes, name: str, schema: Schema) -> Records:
    """One record's JSON -> (columns,) float32, or (steps, columns) for a series. Raises InputError that names record, step and column."""
    if len(raw) > RECORD_BYTES_MAX:
        raise InputError(f"{name} has {len(raw)} bytes, more than the {RECORD_BYTES_MAX} allowed", "send a shorter one")
    try:
        found = _JSON.decode(raw)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise InputError(f"{name} is no JSON object of columns: {error}", 'write it as {"column": value}') from error
    rows = found if isinstance(found, list) else [found]
    if len(rows) != schema.steps:
        wanted = "one object" if schema.steps == 1 else f"a list of {schema.steps} objects, oldest first"
        raise InputError(f"{name} has {len(rows)} steps", f"send {wanted}")
    steps = []
    for place, row in enumerate(rows):
        where = f"{name}, step {place + 1}" if schema.steps > 1 else name
        try:
            steps.append(row_of(schema, {column: _text(column, value) for column, value in row.items()}))
        except InputError as error:
            raise InputError(f"{where}: {error.message}", error.next_step) from error
    return np.stack(steps) if schema.steps > 1 else steps[0]


def _text(column: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise InputError(f"column {column} holds {type(value).__name__}", "write a number, text or null")
    return value if isinstance(value, str) else repr(value)
