"""The list of work as a file, and what a folder looks like once it is done.

A person may change the file: strike lines, or write another action or value; what is left is what is applied. The folder itself is never
changed: a mended copy is written beside it, whole or not at all.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec

from isthmus.contracts.errors import FolderError, InputError, StorageError
from isthmus.contracts.quality import ACTIONS, WorkItem
from isthmus.sandbox.folder import LABELS_NAME, RECORDS_NAME, DataFolder, LabelledFile, read_labels
from isthmus.sandbox.rowfiles import rows_named, table_rows

FIELDS = ("path", "action", "chance", "gain", "check", "why", "column", "value", "twin")
WORDS = {-1: "good", 1: "defect"}
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet would take for a formula at the start of a field."""


def listed(work: Sequence[WorkItem], as_json: bool) -> str:
    """The file's text. In CSV, a field that a spreadsheet would run is quoted by a leading apostrophe, but for numbers."""
    if as_json:
        return msgspec.json.format(msgspec.json.encode(list(work)), indent=1).decode() + "\n"
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(FIELDS)
    for item in work:
        writer.writerow([_safe(getattr(item, name)) for name in FIELDS])
    return out.getvalue()


def _safe(value: object) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    try:
        float(text)
    except ValueError:
        return f"'{text}" if text.startswith(FORMULA) else text
    return text


def read_worklist(path: Path) -> list[WorkItem]:
    """A list as it was written, or as a person has changed it. Raises InputError with the line that cannot be used."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(f"the work list {path} cannot be read: {error.strerror}", "give the file that --worklist wrote") from error
    if path.suffix.lower() == ".json":
        try:
            return msgspec.json.decode(raw, type=list[WorkItem])
        except msgspec.DecodeError as error:
            raise InputError(f"the work list {path} is not one: {error}", "give the file that --worklist wrote") from error
    try:
        reader = csv.DictReader(io.StringIO(raw.decode("utf-8-sig"), newline=""), strict=True)
        rows = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"the work list {path} is no CSV: {error}", "give the file that --worklist wrote") from error
    if not {"path", "action"} <= set(reader.fieldnames or ()):
        raise InputError(f"the work list {path} has no columns path and action", "give the file that --worklist wrote")
    return [_item(path, line, row) for line, row in rows]


def _item(path: Path, line: int, row: dict[str, str | None]) -> WorkItem:
    given = {name: _bare((row.get(name) or "").strip()) for name in FIELDS}
    fields = {**given, **{name: _number(path, line, name, given[name]) for name in ("chance", "gain")}}
    try:
        return msgspec.convert(fields, WorkItem)
    except msgspec.ValidationError as error:
        what = f"the work list {path} line {line} cannot be used: {error}"
        raise InputError(what, f"use an action of {', '.join(ACTIONS)}") from error


def _bare(text: str) -> str:
    return text[1:] if text.startswith("'") and text[1:].startswith(FORMULA) else text


def _number(path: Path, line: int, name: str, text: str) -> float:
    try:
        return float(text or "0")
    except ValueError as error:
        raise InputError(f"the work list {path} line {line}: {name} is {text!r}", "write a number, or leave it empty") from error


def apply_worklist(folder: DataFolder, work: Sequence[WorkItem], target: Path) -> DataFolder:
    """A mended copy of the folder at `target`, which must not exist; returns it, read anew. `look` changes nothing.

    Raises InputError for an item that names no record, StorageError when the copy cannot be written.
    """
    if target.exists():
        raise StorageError(f"{target} exists already", "name a folder that does not")
    if target.resolve().is_relative_to(folder.root.resolve()):
        raise StorageError(f"{target} lies inside {folder.root}", "put the mended copy beside it")
    known = {file.path for file in folder.files}
    strange = next((item.path for item in work if item.path not in known), None)
    if strange is not None:
        raise InputError(f"the work list names {strange}, which is no record of {folder.root}", "use the list of this folder")
    gone = {item.path for item in work if item.action == "remove"}
    labels = {item.path: _label(item) for item in work if item.action == "relabel"}
    fixes = {(item.path, item.column): item.value for item in work if item.action == "fix" and item.column and item.value}
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        _write(folder, part, gone, labels, fixes)
        part.rename(target)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise StorageError(f"the mended copy {target} cannot be written: {error.strerror}", "check the disk") from error
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return read_labels(target, folder.targets)


def _label(item: WorkItem) -> int:
    for label, word in WORDS.items():
        if item.value.strip().lower() == word:
            return label
    raise InputError(f"the new label of {item.path} is {item.value!r}", "use good or defect")


def _write(folder: DataFolder, part: Path, gone: set[str], labels: dict[str, int], fixes: dict[tuple[str, str], str]) -> None:
    if (folder.root / LABELS_NAME).exists() or not (folder.root / RECORDS_NAME).exists():
        _write_listed(folder, part, gone, labels, fixes)
    else:
        _write_records(folder, part, gone, labels, fixes)


def _write_records(folder: DataFolder, part: Path, gone: set[str], labels: dict[str, int], fixes: dict[tuple[str, str], str]) -> None:
    """records.csv with its own columns; groups and splits that were inferred are written down, so that no record changes sides."""
    names, rows = table_rows(folder.root / RECORDS_NAME)
    by_path = {file.path: file for file in folder.files}
    added = [name for name in ("group", "split") if name not in names]
    header = [*names, *added]
    kept = []
    for number, row in enumerate(rows, start=1):
        path = f"{RECORDS_NAME}#{number}"
        if path in gone:
            continue
        fields = dict(zip(names, row, strict=True))
        fields |= {name: getattr(by_path[path], name) for name in added}
        fields |= {name: fixes[path, name] for name in names if (path, name) in fixes}
        if path in labels and "label" in names:
            fields["label"] = WORDS[labels[path]]
        kept.append([fields[name] for name in header])
    if not kept:
        raise FolderError(f"nothing of {folder.root} would be left", "strike lines of the work list")
    _write_csv(part / RECORDS_NAME, [header, *kept])


def _write_listed(folder: DataFolder, part: Path, gone: set[str], labels: dict[str, int], fixes: dict[tuple[str, str], str]) -> None:
    """labels.csv and the files beside it; rows of tables keep their places, so that paths go on naming them."""
    targets = [target.name for target in folder.targets]
    header = ["path", *(targets or ["label"]), "certainty", "group", "kind", "split"]
    kept = [file for file in folder.files if file.path not in gone]
    if not kept:
        raise FolderError(f"nothing of {folder.root} would be left", "strike lines of the work list")
    tables: dict[str, list[LabelledFile]] = {}
    rows: list[list[str]] = []
    for file in kept:
        ends = [f"{value!r}" for value in file.values] if targets else [WORDS[labels.get(file.path, file.label)]]
        rows.append([file.path, *ends, "sure" if file.sure else "unsure", file.group, file.kind, file.split])
        named = rows_named(file.path)
        if named is not None:
            tables.setdefault(named[0], []).append(file)
            continue
        (part / file.path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder.root / file.path, part / file.path)
    for table in tables:
        _write_table(folder.root, part, table, fixes)
    _write_csv(part / LABELS_NAME, [header, *rows])


def _write_table(root: Path, part: Path, table: str, fixes: dict[tuple[str, str], str]) -> None:
    names, rows = table_rows(root / table)
    for (path, column), value in fixes.items():
        named = rows_named(path)
        if named is not None and named[0] == table and named[1] == named[2] and column in names:
            rows[named[1] - 1][names.index(column)] = value
    (part / table).parent.mkdir(parents=True, exist_ok=True)
    _write_csv(part / table, [names, *rows])


def _write_csv(path: Path, rows: Sequence[Sequence[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
