"""Records that are rows of CSV files: `machines.csv#12` is one row, `gauges.csv#91-120` a window of thirty, oldest first.

Rows are counted from 1, the header not counted. A file is read once a process; what a record's bytes are is its own rows as JSON
(kit.records), so that a change of one row changes one record's digest.
"""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

from isthmus.contracts.errors import FolderError
from isthmus.contracts.schema import STEPS_MAX
from isthmus.kit.records import record_bytes

ROWS_NAME = re.compile(r"(?P<file>[^#\0]+\.csv)#(?P<first>[1-9][0-9]{0,8})(?:-(?P<last>[1-9][0-9]{0,8}))?", re.ASCII | re.IGNORECASE)
FILE_BYTES_MAX = 512 * 1024 * 1024
"""A CSV file of records; a larger one is not read."""


def rows_named(path: str) -> tuple[str, int, int] | None:
    """(file, first row, last row) that a record's path names; None where it names a file of its own. Raises FolderError."""
    found = ROWS_NAME.fullmatch(path)
    if found is None:
        return None
    first, last = int(found["first"]), int(found["last"] or found["first"])
    if not first <= last < first + STEPS_MAX:
        raise FolderError(f"{path} names rows {first} to {last}", f"write FIRST-LAST, at most {STEPS_MAX} rows")
    return found["file"], first, last


def table_rows(path: Path) -> tuple[list[str], list[list[str]]]:
    """(column names, rows) of a CSV file, as text; names in small letters. Raises FolderError with the line that is wrong."""
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise FolderError(f"{path} has more than the {FILE_BYTES_MAX} bytes allowed", "split it")
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise FolderError(f"{path} cannot be read: {error.strerror}", "check its permissions") from error
    except UnicodeDecodeError as error:
        raise FolderError(f"{path} is not UTF-8 text (byte {error.start})", "save it as UTF-8") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        names = [name.strip().lower() for name in next(reader, [])]
        if not any(names) or len(set(names)) < len(names):
            raise FolderError(f"{path} has no header, or a column twice", "name each column once in the first line")
        rows = []
        for row in reader:
            if not row:
                continue
            if len(row) != len(names):
                what = f"{path} line {reader.line_num} has {len(row)} fields, the header {len(names)}"
                raise FolderError(what, "quote fields that hold commas")
            rows.append(row)
    except csv.Error as error:
        raise FolderError(f"{path} line {reader.line_num} is not CSV: {error}", "quote fields that hold commas") from error
    return names, rows


class RowFiles:
    """The CSV files of one folder, each parsed when it is first asked for."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._files: dict[str, tuple[list[str], list[list[str]]]] = {}

    def count(self, file: str) -> int:
        """How many rows a file has. Raises FolderError."""
        return len(self._table(file)[1])

    def columns(self, file: str) -> list[str]:
        """The names in a file's header, in small letters. Raises FolderError."""
        return self._table(file)[0]

    def record(self, file: str, first: int, last: int) -> bytes:
        """The rows as one record's JSON. Raises FolderError when there are fewer."""
        names, rows = self._table(file)
        if last > len(rows):
            raise FolderError(f"{self._root / file} has {len(rows)} rows, row {last} is asked for", "count rows from 1, without the header")
        return record_bytes([dict(zip(names, row, strict=True)) for row in rows[first - 1 : last]])

    def _table(self, file: str) -> tuple[list[str], list[list[str]]]:
        if file not in self._files:
            self._files[file] = table_rows(self._root / file)
        return self._files[file]
