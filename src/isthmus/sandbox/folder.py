"""An owner's data folder: labelled records in the three layouts that are understood.

`labels.csv` (UTF-8; header path,label and, as wanted, certainty, group, kind, split) with image or text files beside it, or with
paths that name rows of CSV files beside it (sandbox.rowfiles); `records.csv`, a row a record, with a column `label` and those
of labels.csv that are wanted among its own; or sub-folders of images, or of .txt files where there is no image, whose names are the
classes. Without a group column,
groups are inferred as runs of GROUP_RUN records in name order; without a split column every HOLDOUT_EVERY-th group is held
out. Both are said in what is returned.

Where a model is to foretell numbers, each record has one column for each target instead of `label`, named as the target is.

Pictures without a label are left alone: those that `labels.csv` does not list, and, where there is none, those beside the sub-folders or
in a sub-folder named `unlabelled`.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from isthmus.contracts.errors import FolderError
from isthmus.contracts.schema import MISSING
from isthmus.contracts.targets import Target
from isthmus.kit.pictures import SUFFIXES
from isthmus.kit.writing import TEXT_SUFFIXES
from isthmus.sandbox.rowfiles import RowFiles, rows_named, table_rows

LABELS_NAME, RECORDS_NAME = "labels.csv", "records.csv"
UNLABELLED = "unlabelled"
NUMBERS_HINT = "; where numbers are foretold, name the scenario with --scenario"
COLUMNS = ("path", "label", "certainty", "group", "kind", "split")
GOOD_NAMES = frozenset({"good", "ok", "pass"})
GROUP_RUN = 60
HOLDOUT_EVERY = 4
RECORDS_MAX = 1_000_000
TEXT_CHARS_MAX = 200
TRAIN, HOLDOUT, AUDIT = "train", "holdout", "audit"
SPLITS = (TRAIN, HOLDOUT, AUDIT)


@dataclass(frozen=True)
class LabelledFile:
    """One record. path: relative, with forward slashes; of a file, or of rows in one. label: -1 good, +1 defect, 0 where numbers are
    foretold. sure: whether the label is certain. values: outcomes, one a target of the folder."""

    path: str
    label: int
    sure: bool
    group: str
    kind: str
    split: str
    values: tuple[float, ...] = ()


@dataclass(frozen=True)
class DataFolder:
    """Labelled files in name order. groups_inferred, splits_inferred: not named by the owner. targets: of records whose outcomes are
    numbers."""

    root: Path
    files: tuple[LabelledFile, ...]
    groups_inferred: bool
    splits_inferred: bool
    targets: tuple[Target, ...] = ()

    def of_split(self, split: str) -> tuple[LabelledFile, ...]:
        """The files of one split, in order."""
        return tuple(file for file in self.files if file.split == split)

    def groups(self, split: str) -> int:
        """Number of groups with a file in the split."""
        return len({file.group for file in self.files if file.split == split})


@dataclass(frozen=True)
class Groups:
    """Of all splits together. records_max: of the largest group. straddling: whether one stands in two splits."""

    records_max: int
    straddling: bool


def groups_of(folder: DataFolder) -> Groups:
    """How large an owner's groups are."""
    sizes = Counter(file.group for file in folder.files)
    parts = {(file.group, file.split) for file in folder.files}
    return Groups(max(sizes.values(), default=0), len(parts) > len(sizes))


def name_order(path: str) -> list[tuple[int, int, str]]:
    """Sort key: numbers inside names count as numbers; the file's own name before its folder's."""
    pure = PurePosixPath(path)
    text = f"{pure.name}/{pure.parent.as_posix()}"
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", text) if part]


def is_text_file(path: str) -> bool:
    """Whether a record's path names a file of text."""
    return PurePosixPath(path).suffix.lower() in TEXT_SUFFIXES


def is_unlabelled(name: str) -> bool:
    """Whether a sub-folder of this name holds pictures that have no label yet."""
    return name.strip().lower() == UNLABELLED


def read_folder(root: Path, targets: tuple[Target, ...] = ()) -> DataFolder:
    """Reads the layout and labels, not the images. targets: whose outcomes stand in place of labels. Good records alone are enough for what
    is fitted on good ones, and for a part of a roster's sums. Raises FolderError with the line or name that is wrong."""
    found = read_labels(root, targets)
    if not found.files:
        if (root / LABELS_NAME).exists():
            raise FolderError(f"{root / LABELS_NAME} lists no records", "add a line (path,label) for each record")
        raise FolderError(
            f"{root} has neither {LABELS_NAME}, {RECORDS_NAME} nor sub-folders with images",
            f"add {LABELS_NAME} (path,label), {RECORDS_NAME} (a row a record, with a column label), or a sub-folder for each class",
        )
    for place, target in enumerate(targets):
        if len({file.values[place] for file in found.files}) < 2:
            raise FolderError(f"all {len(found.files)} records in {root} have the same {target.name}", "add records that end otherwise")
    labels = Counter(file.label for file in found.files)
    if -1 not in labels and not targets:
        raise FolderError(f"all {len(found.files)} records in {root} are labelled defect", "add good ones")
    return found


def read_labels(root: Path, targets: tuple[Target, ...] = ()) -> DataFolder:
    """The same for a folder that has few labels yet: of one class, or none at all. Raises FolderError."""
    try:
        if not root.exists():
            raise FolderError(f"the folder {root} does not exist", "check the path")
        if not root.is_dir():
            raise FolderError(f"{root} is a file, not a folder", "give one with labels.csv, records.csv or sub-folders of images")
        listed = root / LABELS_NAME
        if listed.exists():
            found, has_groups, has_splits = _from_labels(root, listed, targets)
        elif (root / RECORDS_NAME).exists():
            found, has_groups, has_splits = _from_records(root, root / RECORDS_NAME, targets)
        elif targets:
            raise FolderError(f"{root} has no {LABELS_NAME} and no {RECORDS_NAME}", f"add one with a column {targets[0].name}")
        else:
            found, has_groups, has_splits = _from_subfolders(root), False, False
    except OSError as error:
        raise FolderError(f"the folder {root} cannot be read: {error.strerror}", "check its permissions") from error
    files = sorted(found, key=lambda file: (name_order(file.path), file.path))
    if not has_groups:
        files = [replace(file, group=f"run-{index // GROUP_RUN:05d}") for index, file in enumerate(files)]
    if not has_splits:
        files = _with_holdout(files)
    return DataFolder(root, tuple(files), not has_groups, not has_splits, targets)


def _with_holdout(files: list[LabelledFile]) -> list[LabelledFile]:
    groups = list(dict.fromkeys(file.group for file in files))
    held = set(groups[HOLDOUT_EVERY - 1 :: HOLDOUT_EVERY]) or (set(groups[-1:]) if len(groups) > 1 else set())
    return [replace(file, split=HOLDOUT if file.group in held else TRAIN) for file in files]


def _from_subfolders(root: Path) -> list[LabelledFile]:
    folders = sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    folders = [folder for folder in folders if not is_unlabelled(folder.name)]
    return _files_of(root, folders, SUFFIXES) or _files_of(root, folders, TEXT_SUFFIXES)


def _files_of(root: Path, folders: list[Path], suffixes: frozenset[str]) -> list[LabelledFile]:
    files = []
    for folder in folders:
        label = -1 if folder.name.strip().lower() in GOOD_NAMES else 1
        for file in sorted(folder.rglob("*")):
            if file.suffix.lower() in suffixes and file.is_file() and not file.name.startswith("."):
                files.append(LabelledFile(file.relative_to(root).as_posix(), label, True, "", "", ""))
    return files


def _from_labels(root: Path, listed: Path, targets: tuple[Target, ...]) -> tuple[list[LabelledFile], bool, bool]:
    raw = listed.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FolderError(f"{listed} is not UTF-8 text (byte {error.start})", "save it as UTF-8") from error
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        columns = [name.strip().lower() for name in reader.fieldnames or ()]
        _check_columns(listed, columns, targets)
        reader.fieldnames = columns
        files: dict[str, LabelledFile] = {}
        tables = RowFiles(root)
        for row in reader:
            file = _labelled(root, listed, reader.line_num, row, tables, targets)
            if file.path in files:
                raise FolderError(f"{listed} line {reader.line_num}: {file.path} is listed twice", "keep one line for each record")
            files[file.path] = file
            if len(files) > RECORDS_MAX:
                raise FolderError(f"{listed} lists more than {RECORDS_MAX} records", "split the folder")
    except csv.Error as error:
        raise FolderError(f"{listed} line {reader.line_num} is not CSV: {error}", "quote fields that hold commas") from error
    return list(files.values()), "group" in columns, "split" in columns


def _check_columns(listed: Path, columns: list[str], targets: tuple[Target, ...]) -> None:
    needed = ["path", *([target.name for target in targets] or ["label"])]
    known = [*needed, *(name for name in COLUMNS[2:])]
    missing = [name for name in needed if name not in columns]
    if missing:
        raise FolderError(
            f"{listed} has no column {' or '.join(missing)}", f"start it with the line {','.join(needed)}{'' if targets else NUMBERS_HINT}"
        )
    unknown = [name for name in columns if name not in known]
    if unknown or len(set(columns)) < len(columns):
        raise FolderError(f"{listed} has unknown or repeated columns: {', '.join(unknown or columns)}", f"use {', '.join(known)}")


def _labelled(
    root: Path, listed: Path, line: int, row: dict[str, str | None], tables: RowFiles, targets: tuple[Target, ...]
) -> LabelledFile:
    where = f"{listed} line {line}"
    extra = row.pop(None, None) if None in row else None  # type: ignore[call-overload]
    values = {name: (value or "").strip() for name, value in row.items()}
    if extra or any(len(value) > TEXT_CHARS_MAX for name, value in values.items() if name != "path"):
        raise FolderError(f"{where} has more fields than the header, or a field that is too long", "quote fields that hold commas")
    path = _inside(root, where, values["path"], tables)
    return _record(where, path, values, targets)


def _record(where: str, path: str, values: dict[str, str], targets: tuple[Target, ...]) -> LabelledFile:
    label = 0 if targets else -1 if _one_of(where, "label", values["label"].lower(), ("good", "defect")) == "good" else 1
    return LabelledFile(
        path=path,
        label=label,
        sure=_one_of(where, "certainty", values.get("certainty", "") or "sure", ("sure", "unsure")) == "sure",
        group=_given(where, values, "group"),
        kind=values.get("kind", ""),
        split=_one_of(where, "split", values["split"], SPLITS) if "split" in values else "",
        values=tuple(_outcome(where, target, values[target.name]) for target in targets),
    )


def _outcome(where: str, target: Target, text: str) -> float:
    """A record's outcome; one that is not known, or lies beyond the declared range, is told with its place."""
    if text.casefold() in MISSING:
        raise FolderError(f"{where}: {target.name} is empty", "leave a record out until its outcome is known")
    try:
        value = float(text)
    except ValueError as error:
        raise FolderError(f"{where}: {target.name} is {text!r}", "write a number with a decimal point") from error
    if not target.low <= value <= target.high:  # also what is no number
        said = f"{where}: {target.name} is {text}, beyond its range {target.low:g} to {target.high:g} {target.unit}".rstrip()
        raise FolderError(said, "correct it, or use a scenario that declares a wider range")
    return value


def _given(where: str, values: dict[str, str], name: str) -> str:
    if name in values and not values[name]:
        raise FolderError(f"{where} has no {name}", f"fill the column, or leave {name} out of the header")
    return values.get(name, "")


def _one_of(where: str, name: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise FolderError(f"{where}: {name} is {value!r}", f"use {' or '.join(allowed)}")
    return value


def _from_records(root: Path, listed: Path, targets: tuple[Target, ...]) -> tuple[list[LabelledFile], bool, bool]:
    """Rows of records.csv; a row's path is `records.csv#N`."""
    names, rows = table_rows(listed)
    if "label" not in names and not targets:
        raise FolderError(f"{listed} has no column label", "add one that says good or defect in each row")
    absent = [target.name for target in targets if target.name not in names]
    if absent:
        raise FolderError(f"{listed} has no column {' or '.join(absent)}", "add it, with each row's outcome")
    if not rows:
        raise FolderError(f"{listed} has no rows", "add a row for each record")
    if len(rows) > RECORDS_MAX:
        raise FolderError(f"{listed} has more than {RECORDS_MAX} rows", "split it")
    own = [name for name in (*(target.name for target in targets), *COLUMNS[2 if targets else 1 :]) if name in names]
    places = {name: names.index(name) for name in own}
    found = []
    for number, row in enumerate(rows, start=1):
        values = {name: row[place].strip() for name, place in places.items()}
        found.append(_record(f"{listed} row {number}", f"{RECORDS_NAME}#{number}", values, targets))
    return found, "group" in own, "split" in own


def _inside(root: Path, where: str, path: str, tables: RowFiles) -> str:
    named = rows_named(path)
    if named is not None:
        file, _, last = named
        _inside(root, where, file, tables)
        if last > tables.count(file):
            raise FolderError(f"{where} names row {last} of {file}, which has {tables.count(file)}", "count from 1, without the header")
        return path
    pure = PurePosixPath(path.replace("\\", "/"))
    if not path or pure.is_absolute() or ".." in pure.parts or "\0" in path:
        raise FolderError(f"{where}: {path!r} is not a path inside the folder", "write it relative to labels.csv")
    if not (root / pure).is_file():
        raise FolderError(f"{where} names {pure}, which is not there", "add the file or remove the line")
    return pure.as_posix()
