"""A table in columns as an asset: walked once, so that what is wrong shows at once, and committed to block by block.

Kept of each row is one byte (its label, sureness and split), and of each group where it begins. Rows of a group stand together, so that
statistics that need whole groups meet them whole; a table that is not so is refused, with the row.
"""

from __future__ import annotations

import hashlib
import hmac
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.errors import FolderError, InputError
from isthmus.contracts.ports import Progress
from isthmus.contracts.schema import Schema
from isthmus.kit.canonical import canonical_bytes
from isthmus.sandbox.checkedfile import FileBlocks, hashed, untouched
from isthmus.sandbox.columnfiles import Batch, ColumnFiles
from isthmus.sandbox.columnlayout import ColumnLayout
from isthmus.sandbox.columnvalues import RowError, mapped, matrix_of, texts_of
from isthmus.sandbox.commitment import merkle_root
from isthmus.sandbox.folder import GROUP_RUN, HOLDOUT, HOLDOUT_EVERY, SPLITS, TEXT_CHARS_MAX, TRAIN, Groups

INDEX_NAME = "columns.npz"
GROUPS_MAX = 2_000_000
KINDS_MAX = 4096
DEFECT, UNSURE, SPLIT_SHIFT = 1, 2, 2
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class ColumnIndex:
    """What is kept of rows and groups. flags: (rows,) uint8 with DEFECT, UNSURE and, from SPLIT_SHIFT, the split's place in SPLITS. kinds:
    (rows,) place in kind_names, or empty where there are none. starts: split -> (groups,) first row of each of its groups, counted within
    the split. codes: split -> (groups,) place of the group in the order of the split's names, as those of a folder are."""

    flags: NDArray[np.uint8]
    kinds: NDArray[np.uint16]
    kind_names: tuple[str, ...]
    starts: dict[str, Ints]
    codes: dict[str, Ints]
    groups: Groups
    groups_inferred: bool
    splits_inferred: bool

    @property
    def rows(self) -> int:
        return int(self.flags.shape[0])

    def of_split(self, split: str) -> NDArray[np.bool_]:
        """(rows,) mask."""
        return np.asarray(self.flags >> SPLIT_SHIFT == SPLITS.index(split))

    def packed(self) -> bytes:
        """As the node keeps it: the same index, the same bytes."""
        arrays: dict[str, Any] = {"flags": self.flags, "kinds": self.kinds}
        for split in SPLITS:
            arrays[f"starts_{split}"], arrays[f"codes_{split}"] = self.starts[split], self.codes[split]
        head = {
            "kind_names": list(self.kind_names),
            "records_max": self.groups.records_max,
            "straddling": self.groups.straddling,
            "groups_inferred": self.groups_inferred,
            "splits_inferred": self.splits_inferred,
        }
        arrays["head"] = np.frombuffer(canonical_bytes(head), dtype=np.uint8)
        out = io.BytesIO()
        np.savez(out, **arrays)
        return out.getvalue()


def index_from(raw: bytes) -> ColumnIndex:
    """Inverse of `ColumnIndex.packed`."""
    with np.load(io.BytesIO(raw), allow_pickle=False) as arrays:
        head = msgspec.json.decode(arrays["head"].tobytes())
        starts, codes = ({split: arrays[f"{name}_{split}"] for split in SPLITS} for name in ("starts", "codes"))
        inferred = bool(head["groups_inferred"]), bool(head["splits_inferred"])
        groups = Groups(int(head["records_max"]), bool(head["straddling"]))
        return ColumnIndex(arrays["flags"], arrays["kinds"], tuple(head["kind_names"]), starts, codes, groups, *inferred)


class ColumnFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the node's store keeps of a table. layout: settled. index: sha256 hex of the packed index."""

    layout: ColumnLayout
    blocks: tuple[FileBlocks, ...]
    index: str


@dataclass(frozen=True)
class ColumnAsset:
    """A table in columns that the owner has committed to. files: reads it, checked (see ColumnFiles)."""

    files: ColumnFiles
    layout: ColumnLayout
    index: ColumnIndex
    facts: ColumnFacts

    def commitment(self, salt: bytes) -> str:
        """`sha256:<root>` over the files' blocks, the layout and what follows from both; each leaf under a salt of its own."""
        layout = {key: value for key, value in msgspec.to_builtins(self.layout).items() if key != "files"}
        entries = [canonical_bytes(["columns/1", layout, self.facts.index, len(self.facts.blocks)])]
        for file in self.facts.blocks:
            digests = [file.digests[32 * place : 32 * place + 32].hex() for place in range(file.count)]
            entries.append(canonical_bytes([file.name, file.size_bytes, file.count]))
            entries += [canonical_bytes([file.name, place, digest]) for place, digest in enumerate(digests)]
        salted = [hmac.new(salt, entry, hashlib.sha256).digest() + entry for entry in entries]
        return "sha256:" + merkle_root([hashlib.sha256(b"\x00" + entry).digest() for entry in salted]).hex()

    def changed_file(self) -> str | None:
        """The name of a file whose size or time of writing is no longer that of the asset. Reads nothing."""
        return next((known.name for known in self.facts.blocks if not untouched(self.files.root, known)), None)

    def count(self, split: str) -> int:
        return int(self.index.of_split(split).sum())

    def kinds_of(self, split: str) -> tuple[str, ...]:
        """Different texts of the split's kind column."""
        if not self.index.kind_names:
            return ()
        return tuple(self.index.kind_names[place] for place in np.unique(self.index.kinds[self.index.of_split(split)]).tolist())


def read_columns(
    root: Path, names: tuple[str, ...], layout: ColumnLayout, on_progress: Progress, schema: Schema | None = None
) -> tuple[ColumnAsset, bytes]:
    """(the asset, its packed index) of files that are hashed and then walked once. schema: also checks every value. Raises FolderError."""
    size, done = sum(_size_bytes(root / name) for name in names), 0

    def told(count: int) -> None:
        nonlocal done
        done += count
        on_progress(done >> 20, size >> 20, "hashing (MiB)")

    blocks = tuple(hashed(root, name, told) for name in names)
    files = ColumnFiles(root, blocks)
    settled = layout.settled(files.names(), str(root / names[0]))
    _check_columns(files, settled, schema)
    walked = _Walk(settled)
    for where, batch, count in _walked(files, settled, schema):
        walked.take(where, batch, count)
        on_progress(walked.rows, walked.rows, "reading")
    index = walked.index()
    raw = index.packed()
    facts = ColumnFacts(layout=msgspec.structs.replace(settled, files=()), blocks=blocks, index=hashlib.sha256(raw).hexdigest())
    return ColumnAsset(files, facts.layout, index, facts), raw


def reopened(root: Path, names: tuple[str, ...], facts: ColumnFacts, raw: bytes) -> ColumnAsset:
    """The asset as it was kept. A file that was written to since is read through once, and taken if it is still the same.

    Raises FolderError: a file is another, or the index is not the one that was kept.
    """
    if tuple(known.name for known in facts.blocks) != names or hashlib.sha256(raw).hexdigest() != facts.index:
        raise FolderError(f"the tables in {root} are not those that the asset commits to", "run isthmus node init, then agree anew")
    blocks = []
    for known in facts.blocks:
        now = known if untouched(root, known) else hashed(root, known.name)
        if (now.size_bytes, now.digests) != (known.size_bytes, known.digests):
            raise FolderError(f"{root / known.name} is not what the asset commits to", "run isthmus node init, then agree anew")
        blocks.append(now)
    fresh = msgspec.structs.replace(facts, blocks=tuple(blocks))
    return ColumnAsset(ColumnFiles(root, blocks), facts.layout, index_from(raw), fresh)


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise FolderError(f"{path} cannot be read: {error.strerror}", "check its path and permissions") from error


def answers_among(layout: ColumnLayout, schema: Schema) -> str | None:
    """A declared column that says of a record what no model may see, such as its label; a slice's may be seen."""
    kept = {layout.label, layout.group, layout.split, layout.certainty}
    return next((column.name for column in schema.columns if column.name in kept), None)


def _check_columns(files: ColumnFiles, layout: ColumnLayout, schema: Schema | None) -> None:
    if schema is None:
        return
    answer = answers_among(layout, schema)
    if answer is not None:
        what = f"the column {answer} is label, group, split or certainty here, and the scenario lets models see it"
        raise FolderError(what, "name another column, or use another scenario")
    if schema.written or schema.steps > 1:
        held = "texts" if schema.written else f"windows of {schema.steps} rows"
        raise FolderError(f"the scenario takes {held}, and a table in columns gives single rows", "give a folder with labels.csv")
    for column in schema.columns:
        if column.name not in files.names():
            there = ", ".join(files.names())
            raise FolderError(f"{files.root} has no column {column.name}", f"add it, empty where it was not measured; there are {there}")


def _walked(files: ColumnFiles, layout: ColumnLayout, schema: Schema | None) -> Iterator[tuple[str, Batch, int]]:
    """(file and first row, columns that say something of a record, rows). With a schema every value is looked at."""
    wanted = list(dict.fromkeys([*layout.role_columns, *(column.name for column in schema.columns)] if schema else layout.role_columns))
    for known in files.blocks:
        start = 0
        for batch in ColumnFiles(files.root, [known]).batches(wanted):
            count = len(batch[layout.label])
            try:
                if schema is not None:
                    matrix_of(schema, batch, count)
            except RowError as error:
                raise FolderError(f"{files.root / known.name} row {start + error.row + 1}: {error.message}", error.next_step) from error
            yield f"{files.root / known.name}|{start}", batch, count
            start += count


class _Walk:
    """Collects flags, groups and kinds while a table is walked."""

    def __init__(self, layout: ColumnLayout) -> None:
        self._layout, self.rows = layout, 0
        self._flags: list[NDArray[np.uint8]] = []
        self._kinds: list[NDArray[np.uint16]] = []
        self._kind_places: dict[str, int] = {}
        self._seen: set[str] = set()
        self._names: list[str] = []
        self._sizes: list[int] = []

    def take(self, where: str, batch: Batch, count: int) -> None:
        try:
            self._take(batch, count)
        except RowError as error:
            path, _, start = where.rpartition("|")
            raise FolderError(f"{path} row {int(start) + error.row + 1}: {error.message}", error.next_step) from error
        self.rows += count

    def _take(self, batch: Batch, count: int) -> None:
        layout = self._layout
        flags = mapped(batch[layout.label], self._label).astype(np.uint8)
        if layout.certainty:
            flags |= mapped(batch[layout.certainty], _certainty).astype(np.uint8)
        if layout.split:
            flags |= mapped(batch[layout.split], _split).astype(np.uint8) << SPLIT_SHIFT
        self._flags.append(flags)
        if layout.kind:
            self._kinds.append(mapped(batch[layout.kind], self._kind).astype(np.uint16))
        if layout.group:
            self._take_groups(batch[layout.group], count)

    def _label(self, text: str) -> float:
        if not text:
            raise InputError(f"column {self._layout.label} is empty", "label the record, or leave it out")
        if self._layout.good:
            return 0.0 if text in self._layout.good else float(DEFECT)
        if text.casefold() not in ("good", "defect"):
            raise InputError(f"column {self._layout.label} is {text!r}", "write good or defect, or say with --good which values are good")
        return 0.0 if text.casefold() == "good" else float(DEFECT)

    def _kind(self, text: str) -> float:
        if len(text) > TEXT_CHARS_MAX or (text not in self._kind_places and len(self._kind_places) >= KINDS_MAX):
            raise InputError("there are too many kinds, or one is too long", f"name up to {KINDS_MAX}, of {TEXT_CHARS_MAX} characters")
        return float(self._kind_places.setdefault(text, len(self._kind_places)))

    def _take_groups(self, values: NDArray[Any], count: int) -> None:
        texts, places = texts_of(values)
        begins = np.concatenate([[0], np.flatnonzero(np.diff(places)) + 1]) if count else np.zeros(0, dtype=np.int64)
        ends = np.append(begins[1:], count)
        for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
            name = texts[int(places[begin])]
            if not name or len(name) > TEXT_CHARS_MAX:
                raise RowError(begin, f"column {self._layout.group} is empty or too long", f"fill it, up to {TEXT_CHARS_MAX} characters")
            if self._names and self._names[-1] == name:
                self._sizes[-1] += end - begin
                continue
            if name in self._seen:
                raise RowError(begin, f"group {name} begins a second time", f"sort the table by {self._layout.group}")
            if len(self._names) >= GROUPS_MAX:
                raise RowError(begin, f"there are more than {GROUPS_MAX} groups", "name larger groups, or none")
            self._seen.add(name)
            self._names.append(name)
            self._sizes.append(end - begin)

    def index(self) -> ColumnIndex:
        """Raises FolderError when there are no rows, or defects only."""
        if not self.rows:
            raise FolderError("the table has no rows", "add a row for each record")
        flags = np.concatenate(self._flags)
        if bool((flags & DEFECT).all()):
            raise FolderError(f"all {self.rows} rows are labelled defect", "add good ones, or say with --good which values are good")
        names, sizes = self._names, self._sizes
        if not self._layout.group:
            whole, rest = divmod(self.rows, GROUP_RUN)
            sizes = [GROUP_RUN] * whole + ([rest] if rest else [])
            names = [f"run-{place:05d}" for place in range(len(sizes))]
        rows_of = np.array(sizes, dtype=np.int64)
        if not self._layout.split:
            held = np.zeros(len(sizes), dtype=bool)
            held[HOLDOUT_EVERY - 1 :: HOLDOUT_EVERY] = True
            if not held.any() and len(sizes) > 1:
                held[-1] = True
            flags |= np.repeat(np.where(held, SPLITS.index(HOLDOUT), SPLITS.index(TRAIN)).astype(np.uint8) << SPLIT_SHIFT, rows_of)
        kinds = np.concatenate(self._kinds) if self._kinds else np.zeros(0, dtype=np.uint16)
        starts, codes, first, splits_of = {}, {}, np.cumsum(rows_of) - rows_of, np.zeros(len(sizes), dtype=np.uint8)
        for place, split in enumerate(SPLITS):
            counts = np.add.reduceat(flags >> SPLIT_SHIFT == place, first, dtype=np.int64)
            there = np.flatnonzero(counts)
            splits_of[there] += 1
            starts[split], codes[split] = (np.cumsum(counts) - counts)[there], _name_ranks([names[group] for group in there.tolist()])
        kind_names = tuple(self._kind_places)
        groups = Groups(int(rows_of.max()), bool((splits_of > 1).any()))
        return ColumnIndex(flags, kinds, kind_names, starts, codes, groups, not self._layout.group, not self._layout.split)


def _name_ranks(names: list[str]) -> Ints:
    """(n,) place of each in the order of names."""
    ranks = np.zeros(len(names), dtype=np.int64)
    ranks[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))
    return ranks


def _certainty(text: str) -> float:
    if text not in ("", "sure", "unsure"):
        raise InputError(f"certainty is {text!r}", "use sure or unsure")
    return float(UNSURE) if text == "unsure" else 0.0


def _split(text: str) -> float:
    if text not in SPLITS:
        raise InputError(f"split is {text!r}", f"use {' or '.join(SPLITS)}")
    return float(SPLITS.index(text))
