"""A folder's records as a check reads them: leniently, so that a bad value is a finding and not the end.

What the node refuses later (a picture that is cut short, a word where a number belongs) is told here with all its likes at once.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from isthmus.contracts.errors import FolderError, InputError, PictureError
from isthmus.contracts.ports import Progress
from isthmus.contracts.schema import MISSING, Schema
from isthmus.kit.pictures import decode
from isthmus.kit.writing import decode_text
from isthmus.sandbox.folder import DataFolder, LabelledFile, is_text_file
from isthmus.sandbox.ownerdata import record_of
from isthmus.sandbox.personaldata import tells_place
from isthmus.sandbox.rowfiles import RowFiles, rows_named, table_rows

THUMB_SIDE = 32
Kind = Literal["image", "rows", "texts"]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Table:
    """The rows that the records name, each once. cells: column -> its text in each row. first, steps: (n,) where each record's rows begin
    and how many they are; -1 and 0 for a record that is none."""

    cells: dict[str, list[str]]
    rows: int
    first: NDArray[np.int64]
    steps: NDArray[np.int64]

    def of_record(self, row: int) -> int:
        """The record that a row belongs to; the first where windows overlap."""
        ends = self.first + self.steps
        return int(np.flatnonzero((self.first <= row) & (row < ends))[0])

    def record_of_rows(self) -> NDArray[np.int64]:
        """(rows,) the first record that names each row."""
        owner = np.full(self.rows, -1, dtype=np.int64)
        for record in range(len(self.first) - 1, -1, -1):
            if self.steps[record]:
                owner[self.first[record] : self.first[record] + self.steps[record]] = record
        return owner


@dataclass(frozen=True)
class Material:
    """Readable records in order. digests: of their bytes. unreadable: path -> reason. thumbs: (n, THUMB_SIDE, THUMB_SIDE) grey pictures.
    located: pictures that carry a position. texts: of records that are texts."""

    folder: DataFolder
    kind: Kind
    files: tuple[LabelledFile, ...]
    digests: tuple[str, ...]
    unreadable: dict[str, str] = field(default_factory=dict)
    table: Table | None = None
    thumbs: NDArray[np.uint8] | None = None
    located: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        return len(self.files)

    def readable(self) -> DataFolder:
        """The folder without what cannot be read."""
        return DataFolder(self.folder.root, self.files, self.folder.groups_inferred, self.folder.splits_inferred, self.folder.targets)

    def labels(self) -> NDArray[np.int64]:
        """(n,) -1 good, 1 defect, 0 where outcomes are numbers."""
        return np.array([file.label for file in self.files], dtype=np.int64)

    def rows_of(self, split: str) -> NDArray[np.int64]:
        """Places of one split's records."""
        return np.array([place for place, file in enumerate(self.files) if file.split == split], dtype=np.int64)


def number_of(text: str) -> float:
    """NaN where there is none, infinity where the text is no number."""
    stripped = text.strip()
    if stripped.casefold() in MISSING:
        return math.nan
    try:
        value = float(stripped)
    except ValueError:
        return math.inf
    return value if math.isfinite(value) else math.inf


def numbers_of(texts: Sequence[str]) -> Floats:
    """`number_of` each."""
    return np.array([number_of(text) for text in texts], dtype=np.float64)


def gather(folder: DataFolder, schema: Schema | None, progress: Progress) -> Material:
    """Reads every record once. schema: of the scenario, or None. Raises FolderError when nothing can be read."""
    named = [rows_named(file.path) for file in folder.files]
    if any(named):
        if not all(named):
            raise FolderError(f"{folder.root} mixes rows of tables with files", "keep pictures, texts and tables in folders of their own")
        found = _rows(folder, schema, progress)
    elif any(is_text_file(file.path) for file in folder.files):
        found = _texts(folder, progress)
    else:
        found = _pictures(folder, progress)
    if not found.files:
        path, why = next(iter(found.unreadable.items()))
        raise FolderError(f"none of the {len(folder.files)} records can be read, for example {path}: {why}", "replace the files")
    return found


def _rows(folder: DataFolder, schema: Schema | None, progress: Progress) -> Material:
    places: dict[str, int] = {}
    cells: dict[str, list[str]] = {}
    total = 0
    spans = [span for span in (rows_named(file.path) for file in folder.files) if span is not None]
    for file in dict.fromkeys(span[0] for span in spans):
        names, rows = table_rows(folder.root / file)
        places[file] = total
        for name in names:
            cells.setdefault(name, [""] * total)
        for name, column in cells.items():
            place = names.index(name) if name in names else -1
            column.extend([row[place] for row in rows] if place >= 0 else [""] * len(rows))
        total += len(rows)
        progress(total, total, "reading rows")
    first = np.array([places[file] + start - 1 for file, start, _ in spans], dtype=np.int64)
    steps = np.array([last - start + 1 for _, start, last in spans], dtype=np.int64)
    used, compact = _used(cells, total, first, steps)
    digests = _row_digests(used, compact, steps)
    table = Table(used, len(next(iter(used.values()))), compact, steps)
    texts: tuple[str, ...] = ()
    if schema is not None and schema.written:
        name = schema.columns[0].name
        if name not in used:
            raise FolderError(f"{folder.root} has no column {name}, where the scenario's text stands", "add it")
        texts = tuple(used[name][start] for start in compact)
    return Material(folder, "texts" if texts else "rows", folder.files, digests, table=table, texts=texts)


def _used(
    cells: dict[str, list[str]], total: int, first: NDArray[np.int64], steps: NDArray[np.int64]
) -> tuple[dict[str, list[str]], NDArray[np.int64]]:
    """Only the rows that records name, and where each record begins among them."""
    marks = np.zeros(total + 1, dtype=np.int64)
    np.add.at(marks, first, 1)
    np.add.at(marks, first + steps, -1)
    used = np.cumsum(marks[:-1]) > 0
    if bool(used.all()):
        return cells, first
    moved = np.cumsum(used) - 1
    return {name: [column[row] for row in np.flatnonzero(used)] for name, column in cells.items()}, moved[first]


def _row_digests(cells: dict[str, list[str]], first: NDArray[np.int64], steps: NDArray[np.int64]) -> tuple[str, ...]:
    """Of the values that a model may see, spelled alike: 1 and 1.0 are the same. Labels, groups and splits are not in it."""
    told = [name for name in sorted(cells) if name not in ("label", "certainty", "group", "kind", "split", "path")]
    plain = [[_spelled(text) for text in cells[name]] for name in told]
    rows = ["\x1f".join(values) for values in zip(*plain, strict=True)] if plain else [""] * len(next(iter(cells.values())))
    spans = zip(first.tolist(), steps.tolist(), strict=True)
    return tuple(hashlib.sha256("\x1e".join(rows[start : start + count]).encode()).hexdigest() for start, count in spans)


def _spelled(text: str) -> str:
    value = number_of(text)
    return repr(value) if math.isfinite(value) else "" if math.isnan(value) else text.strip().casefold()


def _texts(folder: DataFolder, progress: Progress) -> Material:
    files, digests, texts, unreadable = [], [], [], {}
    tables = RowFiles(folder.root)
    for place, file in enumerate(folder.files, start=1):
        try:
            raw = record_of(folder.root, file, tables)
            _ = decode_text(raw, file.path)
            text = raw.decode("utf-8-sig")
        except (FolderError, InputError, UnicodeDecodeError) as error:
            unreadable[file.path] = str(error)
            continue
        files.append(file)
        texts.append(text)
        digests.append(hashlib.sha256(" ".join(text.split()).encode()).hexdigest())
        progress(place, len(folder.files), "reading texts")
    return Material(folder, "texts", tuple(files), tuple(digests), unreadable, texts=tuple(texts))


def _pictures(folder: DataFolder, progress: Progress) -> Material:
    files, digests, thumbs, located, unreadable = [], [], [], [], {}
    tables = RowFiles(folder.root)
    for place, file in enumerate(folder.files, start=1):
        try:
            raw = record_of(folder.root, file, tables)
            pixels = decode(raw, file.path)
        except (FolderError, PictureError) as error:
            unreadable[file.path] = error.message
            continue
        files.append(file)
        digests.append(hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest())
        small = Image.fromarray(pixels).convert("L").resize((THUMB_SIDE, THUMB_SIDE), Image.Resampling.BOX)
        thumbs.append(np.asarray(small, dtype=np.uint8))
        if tells_place(raw):
            located.append(file.path)
        progress(place, len(folder.files), "looking at pictures")
    stack = np.stack(thumbs) if thumbs else np.zeros((0, THUMB_SIDE, THUMB_SIDE), dtype=np.uint8)
    return Material(folder, "image", tuple(files), tuple(digests), unreadable, thumbs=stack, located=tuple(located))
