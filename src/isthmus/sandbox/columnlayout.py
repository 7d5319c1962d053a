"""What the columns of a table's files mean: which one is the label, the group, the split; and which files they are.

It stands in `asset.yaml` beside the files, or is given to `isthmus node init`. What is not said has its usual name: `label`, and `group`,
`split`, `kind`, `certainty` where there are such columns.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import yaml

from isthmus.contracts.errors import FolderError
from isthmus.sandbox.columnfiles import ARROW_SUFFIXES, COLUMN_SUFFIXES, PARQUET_SUFFIXES, is_column_file
from isthmus.sandbox.folder import LABELS_NAME, RECORDS_NAME, name_order

LAYOUT_NAME = "asset.yaml"
LAYOUT_BYTES_MAX = 64 * 1024
FILES_MAX = 4096
ROLES = ("group", "split", "kind", "certainty")


class ColumnLayout(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """files: names beside asset.yaml, in order; empty for all there are, by name. label, group, split, kind, certainty: names of columns;
    empty for the usual one where it is there. good: what the label column says of a good record, all else being a defect; empty where it
    says good or defect itself."""

    files: tuple[str, ...] = ()
    label: str = ""
    good: tuple[str, ...] = ()
    group: str = ""
    split: str = ""
    kind: str = ""
    certainty: str = ""

    def over(self, other: ColumnLayout) -> ColumnLayout:
        """What is said here, and for the rest what `other` says."""
        names = [name for name in self.__struct_fields__ if getattr(self, name)]
        return msgspec.structs.replace(other, **{name: getattr(self, name) for name in names})

    def settled(self, columns: tuple[str, ...], where: str) -> ColumnLayout:
        """With every column that there is by its name. Raises FolderError for one that is named and not there."""
        said = {name: getattr(self, name).strip().lower() for name in ("label", *ROLES)}
        for name, column in said.items():
            if column and column not in columns:
                raise FolderError(f"{where} has no column {column}, which is named as {name}", f"the columns are {', '.join(columns)}")
        found = {name: column or (name if name in columns else "") for name, column in said.items()}
        if not found["label"]:
            raise FolderError(f"{where} has no column label", f"name it with --label-column; the columns are {', '.join(columns)}")
        twice = [column for column in found.values() if column and list(found.values()).count(column) > 1]
        if twice:
            raise FolderError(f"the column {twice[0]} is named for two things", "name each column once")
        return msgspec.structs.replace(self, **found, good=tuple(sorted({text.strip() for text in self.good})))

    @property
    def role_columns(self) -> tuple[str, ...]:
        """The columns that say something of a record, of a settled layout."""
        return tuple(column for column in (self.label, *(getattr(self, name) for name in ROLES)) if column)


def column_place(data: Path) -> tuple[Path, tuple[str, ...], ColumnLayout] | None:
    """(folder, files in order, layout) where an owner's data are a table in columns; None where they are a folder of records.

    They are, where the path is that of a Parquet, Arrow or CSV file, or of a folder with asset.yaml, or with Parquet or Arrow files and
    neither labels.csv nor records.csv. Raises FolderError.
    """
    try:
        if data.is_file() and is_column_file(data):
            return data.parent, (data.name,), ColumnLayout()
        if not data.is_dir():
            return None
        there = sorted((entry.name for entry in data.iterdir() if entry.is_file() and not entry.name.startswith(".")), key=name_order)
    except OSError as error:
        raise FolderError(f"{data} cannot be read: {error.strerror}", "check its permissions") from error
    binary = [name for name in there if name.lower().endswith((*PARQUET_SUFFIXES, *ARROW_SUFFIXES))]
    if LAYOUT_NAME not in there and (not binary or LABELS_NAME in there or RECORDS_NAME in there):
        return None
    layout = read_layout(data / LAYOUT_NAME) if LAYOUT_NAME in there else ColumnLayout()
    files = layout.files or tuple(name for name in there if is_column_file(Path(name)))
    absent = [name for name in files if name not in there or not is_column_file(Path(name))]
    if absent:
        raise FolderError(f"{data / LAYOUT_NAME} names {absent[0]}, which is no table there", f"name files that end in {_ENDINGS}")
    if not 1 <= len(files) <= FILES_MAX or len(set(files)) < len(files):
        raise FolderError(f"{data} has {len(files)} tables, or one is named twice", f"give 1 to {FILES_MAX}, each once")
    return data, files, layout


_ENDINGS = ", ".join(COLUMN_SUFFIXES)


def read_layout(path: Path) -> ColumnLayout:
    """Raises FolderError that says what is wrong."""
    try:
        raw = path.read_bytes()
        if len(raw) > LAYOUT_BYTES_MAX:
            raise FolderError(f"{path} has more than {LAYOUT_BYTES_MAX} bytes", "keep to the names of columns and files")
        found: Any = yaml.safe_load(raw)
    except OSError as error:
        raise FolderError(f"{path} cannot be read: {error.strerror}", "check its permissions") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise FolderError(f"{path} is not YAML: {error}", "write lines such as `label: quality`") from error
    try:
        return msgspec.convert({} if found is None else found, ColumnLayout)
    except msgspec.ValidationError as error:
        raise FolderError(f"{path}: {error}", f"it may say {', '.join(ColumnLayout.__struct_fields__)}") from error
