"""Tables in columns: Parquet, Arrow (IPC or Feather) and large CSV files, read in batches of rows with bounded memory.

CSV needs nothing beyond Python; the others need the extra `columns`. What is read is checked block by block (sandbox.checkedfile).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.errors import FolderError, RefusedError
from isthmus.sandbox.checkedfile import CheckedFile, FileBlocks

PARQUET_SUFFIXES, ARROW_SUFFIXES, CSV_SUFFIXES = (".parquet", ".pq"), (".arrow", ".feather", ".ipc"), (".csv",)
COLUMN_SUFFIXES = (*PARQUET_SUFFIXES, *ARROW_SUFFIXES, *CSV_SUFFIXES)
BATCH_ROWS = 8192
"""Rows that are read at once: of 256 columns, 16 MB as doubles."""
READ_BYTES = 64 * 1024
"""What a Parquet reader asks for at a time, in each column."""
Batch = Mapping[str, NDArray[Any]]


class ColumnFiles:
    """One or several files with the same columns, as one table: their rows in the order of `blocks`, each file's own order kept.

    A node finds its own as `NodeHome.columns.files` (None where the asset is a folder of records): `open_home(state).columns`. Column names
    are as in the file, but stripped and in small letters, as those of folders are.
    """

    def __init__(self, root: Path, blocks: Sequence[FileBlocks]) -> None:
        self.root, self.blocks = root, tuple(blocks)
        self._names: tuple[str, ...] | None = None

    def names(self) -> tuple[str, ...]:
        """The columns' names. Raises FolderError when the files differ in them, or name one twice."""
        if self._names is None:
            found = [(known.name, self._header(known)) for known in self.blocks]
            for name, columns in found:
                if not any(columns) or len(set(columns)) < len(columns):
                    raise FolderError(f"{self.root / name} has no column names, or one twice", "name each column once")
                if set(columns) != set(found[0][1]):
                    what = f"{self.root / name} has other columns than {found[0][0]}"
                    raise FolderError(what, "give files of one table, with the same columns")
            self._names = tuple(found[0][1]) if found else ()
        return self._names

    def batches(self, columns: Sequence[str], rows: int = BATCH_ROWS) -> Iterator[Batch]:
        """Up to `rows` rows at a time: column name -> array, all of one length; a batch never spans two files.

        Whole numbers without a gap come as int64, other numbers as float64 with NaN for null; truth values as bool, or as an object array
        of True, False and None; text, and every column of a CSV file, as an object array of str, None for null ("" in a CSV file).

        Raises FolderError for a column that is not there, or is neither number nor text; RefusedError when a block is not the one that the
        asset commits to.
        """
        there = self.names()
        absent = [name for name in columns if name not in there]
        if absent:
            raise FolderError(f"there is no column {absent[0]} in {self.root}", f"the columns are {', '.join(there)}")
        for known in self.blocks:
            if known.name.lower().endswith(CSV_SUFFIXES):
                yield from self._csv_batches(known, list(columns), rows)
            else:
                yield from self._arrow_batches(known, list(columns), rows)

    def _header(self, known: FileBlocks) -> list[str]:
        if known.name.lower().endswith(CSV_SUFFIXES):
            with _csv_rows(self.root, known) as reader:
                return _csv_header(self.root / known.name, reader)
        with _arrow_file(self.root, known) as opened:
            schema = opened.schema_arrow if hasattr(opened, "schema_arrow") else opened.schema
            return [_plain(name) for name in schema.names]

    def _csv_batches(self, known: FileBlocks, columns: list[str], rows: int) -> Iterator[Batch]:
        path = self.root / known.name
        with _csv_rows(self.root, known) as reader:
            names = _csv_header(path, reader)
            places = [names.index(name) for name in columns]
            held: list[list[str]] = []
            try:
                for row in reader:
                    if not row:
                        continue
                    if len(row) != len(names):
                        what = f"{path} line {reader.line_num} has {len(row)} fields, the header {len(names)}"
                        raise FolderError(what, "quote fields that hold commas")
                    held.append(row)
                    if len(held) == rows:
                        yield _transposed(held, columns, places)
                        held = []
            except csv.Error as error:
                raise FolderError(f"{path} line {reader.line_num} is not CSV: {error}", "quote fields that hold commas") from error
            except UnicodeDecodeError as error:
                raise FolderError(f"{path} is not UTF-8 text", "save it as UTF-8") from error
            if held:
                yield _transposed(held, columns, places)

    def _arrow_batches(self, known: FileBlocks, columns: list[str], rows: int) -> Iterator[Batch]:
        path, arrow = self.root / known.name, _pyarrow(known.name)
        with _arrow_file(self.root, known) as opened:
            try:
                for batch in _record_batches(opened, columns, rows):
                    yield {
                        _plain(name): _array_of(path, name, column, arrow) for name, column in zip(batch.schema.names, batch, strict=True)
                    }
            except (arrow.ArrowException, OSError) as error:
                raise _damaged(path, error) from error


def is_column_file(path: Path) -> bool:
    """Whether a path's name is that of a file in columns."""
    return path.name.lower().endswith(COLUMN_SUFFIXES)


def _plain(name: str) -> str:
    return name.strip().lower()


def _transposed(rows: list[list[str]], columns: list[str], places: list[int]) -> Batch:
    return {name: np.array([row[place] for row in rows], dtype=object) for name, place in zip(columns, places, strict=True)}


@contextmanager
def _csv_rows(root: Path, known: FileBlocks) -> Iterator[Any]:
    with io.TextIOWrapper(io.BufferedReader(CheckedFile(root, known), 1 << 18), "utf-8-sig", newline="") as text:
        yield csv.reader(text, strict=True)


def _csv_header(path: Path, reader: Any) -> list[str]:
    try:
        return [_plain(name) for name in next(reader, [])]
    except (csv.Error, UnicodeDecodeError) as error:
        raise FolderError(f"{path} has no header that can be read: {error}", "save it as UTF-8 CSV with column names first") from error


def _pyarrow(name: str) -> Any:
    """pyarrow, with what the file of this name needs. It comes with an extra, and is 50 MB of memory that nodes without such files do not
    have, so that it is loaded here and nowhere else. Raises FolderError."""
    try:
        import pyarrow

        if name.lower().endswith(PARQUET_SUFFIXES):
            import pyarrow.parquet
        return pyarrow
    except ImportError as error:
        what = f"{name} is a Parquet or Arrow file, and pyarrow is not installed here"
        raise FolderError(what, "pip install 'isthmus[columns]', or save the table as CSV") from error


@contextmanager
def _arrow_file(root: Path, known: FileBlocks) -> Iterator[Any]:
    """An opened ParquetFile or RecordBatchFileReader over checked bytes."""
    path, arrow = root / known.name, _pyarrow(known.name)
    with CheckedFile(root, known) as raw:
        try:
            if path.name.lower().endswith(PARQUET_SUFFIXES):
                opened = arrow.parquet.ParquetFile(raw, buffer_size=READ_BYTES, pre_buffer=False)
            else:
                opened = arrow.ipc.open_file(raw)
        except (arrow.ArrowException, OSError) as error:
            raise _damaged(path, error) from error
        yield opened


def _damaged(path: Path, error: Exception) -> FolderError | RefusedError:
    """What a reader's failure comes from: our own refusal of a changed block, or a file that is none."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, RefusedError):
            return cause
        cause = cause.__cause__ or cause.__context__
    return FolderError(f"{path} cannot be read as a table: {error}", "write it again; Parquet, Arrow IPC (Feather 2) and CSV are read")


def _record_batches(opened: Any, columns: list[str], rows: int) -> Iterator[Any]:
    """Record batches with the asked columns, of at most so many rows."""
    if hasattr(opened, "iter_batches"):
        own = {_plain(name): name for name in opened.schema_arrow.names}
        yield from opened.iter_batches(batch_size=rows, columns=[own[name] for name in columns], use_threads=False)
        return
    own = {_plain(name): name for name in opened.schema.names}
    for place in range(opened.num_record_batches):
        batch = opened.get_batch(place).select([own[name] for name in columns])
        for start in range(0, batch.num_rows, rows):
            yield batch.slice(start, rows)


def _array_of(path: Path, name: str, column: Any, arrow: Any) -> NDArray[Any]:
    kind, types = column.type, arrow.types
    if types.is_dictionary(kind):
        column = column.dictionary_decode()
        kind = column.type
    if types.is_null(kind):
        return np.full(len(column), np.nan)
    if types.is_boolean(kind):
        return np.asarray(column.to_numpy(zero_copy_only=False), dtype=object if column.null_count else bool)
    if types.is_integer(kind):
        found = column.to_numpy(zero_copy_only=False)
        return np.asarray(found, dtype=np.float64 if column.null_count or types.is_uint64(kind) else np.int64)
    if types.is_floating(kind):
        return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.float64)
    if types.is_string(kind) or types.is_large_string(kind):
        return np.asarray(column.to_numpy(zero_copy_only=False), dtype=object)
    raise FolderError(f"column {name} of {path} is of the type {kind}", "write it as a number or as text")
