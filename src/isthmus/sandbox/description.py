"""Reads an owner's folder and says what of it may be told in public: see contracts.croissant."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.contracts.croissant import AssetFacts, FieldFact, FileKind, PublishedQuality, band_of
from isthmus.contracts.errors import FolderError
from isthmus.contracts.ports import Json
from isthmus.contracts.schema import MISSING, RESERVED, Column, Schema
from isthmus.contracts.targets import Target
from isthmus.sandbox.folder import RECORDS_NAME, DataFolder, is_text_file, read_folder
from isthmus.sandbox.personaldata import VALUES_LOOKED_AT_MAX, signs_in_names, signs_in_values, tells_place
from isthmus.sandbox.rowfiles import rows_named, table_rows

MOCK_RECORDS = 3
MOCK_SEED = 20_240_301
MOCK_VALUES_MAX = 4096
"""Values of the made-up sample; longer windows are told in fewer examples."""
NAME = re.compile(r"[^\W\d][\w .()/%°-]{0,63}")
LABEL = FieldFact("label", "sc:Text", "good or defect", levels=("good", "defect"))
PLACEHOLDERS: dict[str, Callable[[int], Any]] = {
    "sc:Integer": lambda n: n,
    "sc:Float": lambda n: n + 0.5,
    "sc:Date": lambda n: f"2000-01-0{n}",
    "sc:Boolean": lambda n: n % 2 == 0,
}
Tables = list[tuple[list[str], list[list[str]]]]


def described(
    root: Path,
    name: str,
    owner: str,
    licence: str,
    date: str,
    schema: Schema | None = None,
    targets: tuple[Target, ...] = (),
    commitment: str = "",
    quality: PublishedQuality | None = None,
    sample: bool = False,
) -> AssetFacts:
    """The facts of a data folder in any layout that `read_folder` knows. schema, targets: declared by a scenario; without one, fields have
    the names of the header and a type by how values parse, and no range. Raises FolderError."""
    folder = read_folder(root, targets)
    kind = _kind(folder)
    tables = _tables(folder) if kind == "table" else []
    fields = _fields(kind, schema, targets, tables)
    return AssetFacts(
        name=name,
        owner=owner,
        licence=licence,
        kind=kind,
        fields=fields,
        band=band_of(len(folder.files)),
        personal=tuple(_personal(folder, kind, tables)),
        mock=mock_sample(fields),
        date=date,
        commitment=commitment,
        quality=quality,
        sample=sample,
    )


def _kind(folder: DataFolder) -> FileKind:
    if any(rows_named(file.path) for file in folder.files):
        return "table"
    return "text" if any(is_text_file(file.path) for file in folder.files) else "image"


def _tables(folder: DataFolder) -> Tables:
    """Every CSV file that a record lies in. Raises FolderError when a first line cannot be names: it might be somebody's record."""
    names = dict.fromkeys(named[0] for file in folder.files if (named := rows_named(file.path)) is not None)
    found = []
    for name in names or [RECORDS_NAME]:
        header, rows = table_rows(folder.root / name)
        wrong = next((place for place, column in enumerate(header, start=1) if not names_column(column)), None)
        if wrong is not None:
            raise FolderError(
                f"the first line of {folder.root / name} is not names of columns: field {wrong} looks like data",
                "put a header above the rows: a name begins with a letter and has up to 64 letters, digits and signs",
            )
        found.append((header, rows))
    return found


def names_column(text: str) -> bool:
    """Whether a text may be the name of a column; else it may be somebody's record, in a table without a first line of names."""
    return bool(NAME.fullmatch(text)) and not signs_in_values([text])


def _fields(kind: FileKind, schema: Schema | None, targets: tuple[Target, ...], tables: Tables) -> tuple[FieldFact, ...]:
    outcomes = tuple(FieldFact(one.name, "sc:Float", f"{one.name}, which is foretold", one.unit, one.low, one.high) for one in targets) or (
        LABEL,
    )
    if kind == "image":
        return (FieldFact("content", "sc:ImageObject", "the picture", content=True), *outcomes)
    if kind == "text":
        return (FieldFact("content", "sc:Text", "the text", content=True), *outcomes)
    if schema is not None and not schema.written:
        return (*(declared_field(column, schema.steps) for column in schema.columns), *outcomes)
    known = {one.name for one in outcomes}
    found: dict[str, FieldFact] = {}
    for header, rows in tables:
        for place, name in enumerate(header):
            if name not in known and name not in RESERVED:
                found[name] = _inferred(name, (row[place] for row in rows), found.get(name))
    return (*found.values(), *outcomes)


def declared_field(column: Column, steps: int) -> FieldFact:
    """What a scenario declares of a column."""
    if column.kind == "category":
        return FieldFact(column.name, "sc:Text", f"{column.name}, one of its declared levels", levels=column.levels, steps=steps)
    return FieldFact(column.name, "sc:Float", column.name, column.unit, column.low, column.high, steps=steps)


def _inferred(name: str, values: Iterable[str], before: FieldFact | None) -> FieldFact:
    """The narrowest type that all values parse as; which values there are is not told."""
    present = [value.strip() for value in values if value.strip().casefold() not in MISSING]
    types = [type for type, parses in PARSERS.items() if present and all(parses(value) for value in present)]
    some = any(any(parses(value) for parses in PARSERS.values()) for value in present)
    type = types[0] if types else "sc:Text"
    if before is not None and before.type != type:
        type, types, some = "sc:Text", [], some or before.parses != "none"
    return FieldFact(name, type, name, parses="all" if types else "some" if some else "none")


def _is_whole(text: str) -> bool:
    return bool(re.fullmatch(r"[+-]?\d{1,18}", text, re.ASCII))


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False


def _is_date(text: str) -> bool:
    try:
        datetime.date.fromisoformat(text[:10])
    except ValueError:
        return False
    return True


PARSERS: dict[str, Callable[[str], bool]] = {
    "sc:Integer": _is_whole,
    "sc:Float": _is_number,
    "sc:Date": _is_date,
    "sc:Boolean": lambda text: text.casefold() in ("true", "false", "yes", "no"),
}


def _personal(folder: DataFolder, kind: FileKind, tables: Tables) -> list[str]:
    """Sentences about what looks personal, in the order of columns."""
    found: list[str] = []
    if kind == "table":
        columns = list(dict.fromkeys(name for header, _ in tables for name in header))
        found += signs_in_names(columns)
        for name in columns:
            values = (row[header.index(name)] for header, rows in tables if name in header for row in rows)
            found += [f"Some values of the column {name} have the shape of {sign} (heuristic)." for sign in sorted(signs_in_values(values))]
        return found
    raw = (_bytes_of(folder.root / file.path) for file in folder.files[:VALUES_LOOKED_AT_MAX])
    if kind == "text":
        signs = signs_in_values(one.decode("utf-8", errors="replace") for one in raw)
        return [f"Some texts hold what has the shape of {sign} (heuristic)." for sign in sorted(signs)]
    return ["Some pictures say in their EXIF where they were taken."] if any(tells_place(one) for one in raw) else []


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FolderError(f"{path} cannot be read: {error.strerror}", "check its permissions") from error


def mock_sample(fields: tuple[FieldFact, ...]) -> tuple[Json, ...]:
    """Made-up records that share only the declared schema: drawn evenly from declared ranges and levels, placeholders where nothing is
    declared. The same for every data set of the schema, because no data goes in."""
    steps = sum(field.steps for field in fields)
    rng = np.random.default_rng(MOCK_SEED)
    count = max(1, min(MOCK_RECORDS, MOCK_VALUES_MAX // max(1, steps)))
    return tuple({field.name: _mock(field, number, rng) for field in fields} for number in range(1, count + 1))


def _mock(field: FieldFact, number: int, rng: np.random.Generator) -> Any:
    if field.steps > 1:
        return [_mock_value(field, number, rng) for _ in range(field.steps)]
    return _mock_value(field, number, rng)


def _mock_value(field: FieldFact, number: int, rng: np.random.Generator) -> Any:
    if field.levels:
        return field.levels[int(rng.integers(len(field.levels)))]
    if field.low is not None and field.high is not None:
        return float(f"{rng.uniform(field.low, field.high):.4g}")
    if field.type in PLACEHOLDERS:
        return PLACEHOLDERS[field.type](number)
    return f"made-up-{number}.png" if field.type == "sc:ImageObject" else f"made-up text {number}"
