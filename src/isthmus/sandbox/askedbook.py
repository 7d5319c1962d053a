"""What questions were answered exactly about an owner's records: the sets that were summed, kept for the data's lifetime.

A record is known by the digest of its own bytes, so the book holds across versions of the data: records that were added since, and
records that were taken away, count in what a difference of answers would show. Nothing here leaves the node.
"""

from __future__ import annotations

import hashlib
import io
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.errors import RefusedError
from isthmus.kit.database import Database, named_sql
from isthmus.sandbox.atoms import OUTSIDE, Labels

SQL = named_sql(Path(__file__).with_suffix(".sql"))
BOOK_NAME = "asked.sqlite"
QUESTIONS_MAX = 64
"""Different questions that are ever answered exactly about one owner's records: a further bound beside that of atoms."""
KEY_BYTES = 16
Keys = NDArray[np.void]


@dataclass(frozen=True)
class Answered:
    """The sets of one answer: the cell of each record, and for each histogrammed column the bin within its cell. columns: those whose
    values were summed. whole: digest of the condition when all records that fulfil it were told, in cells of `groups`; else empty.
    Arrays are (n,), OUTSIDE where a record was in no set."""

    cells: Labels
    bins: Mapping[str, Labels]
    columns: tuple[str, ...]
    whole: str = ""
    groups: tuple[str, ...] = ()


def record_keys(digests: Sequence[str]) -> Keys:
    """(n,) 16 bytes that stand for each record; records with the same bytes are told apart by their order."""
    seen: dict[str, int] = {}
    raw = bytearray()
    for digest in digests:
        number = seen.get(digest, 0)
        seen[digest] = number + 1
        raw += hashlib.sha256(f"{digest} {number}".encode()).digest()[:KEY_BYTES]
    return np.frombuffer(bytes(raw), dtype=f"V{KEY_BYTES}")


class AskedBook:
    """SQLite in the node's state folder; answers can only be added. Every write is durable before it returns. Raises StorageError."""

    def __init__(self, path: Path) -> None:
        self._database = Database(path, [SQL["schema_1"]])

    def close(self) -> None:
        self._database.close()

    def answered(self, question: str, version: str, least: int) -> Answered | None:
        """What was answered to the same question over the same records, or None."""
        found = [row for row in self._rows() if (row[0], row[1], row[2]) == (question, version, least)]
        return _opened(found[0][3]) if found else None

    def _rows(self) -> list[tuple[str, str, int, bytes]]:
        return [(r["question"], r["version"], r["least"], r["answer"]) for r in self._database.rows(SQL["asked"])]

    def world(self, keys: Keys, splits: Labels) -> World:
        """All records that are or ever were here, the present ones first, and every answer about them."""
        rows_of = self._database.rows(SQL["versions"])
        versions = {str(row["id"]): (np.frombuffer(row["keys"], dtype=keys.dtype), _array(row["splits"])) for row in rows_of}
        present = set(keys.tolist())
        gone: dict[bytes, int] = {}
        for known, known_splits in versions.values():
            for key, split in zip(known.tolist(), known_splits.tolist(), strict=True):
                if key not in present:
                    gone[key] = split
        every = np.concatenate([keys, np.array(list(gone), dtype=keys.dtype)]) if gone else keys
        places = {key: place for place, key in enumerate(every.tolist())}
        rows = {version: np.array([places[key] for key in known.tolist()], dtype=np.int64) for version, (known, _) in versions.items()}
        earlier = []
        for _, version, _, answer in self._rows():
            told = _opened(answer)
            spread = {name: _spread(labels, rows[version], every.size) for name, labels in told.bins.items()}
            earlier.append(Answered(_spread(told.cells, rows[version], every.size), spread, told.columns, told.whole, told.groups))
        return World(keys.size, np.concatenate([splits, np.array(list(gone.values()), dtype=np.int64)]), tuple(earlier))

    def keep(self, question: str, version: str, least: int, keys: Keys, splits: Labels, answer: Answered) -> None:
        """Notes an answer, before it can leave. Raises RefusedError, clause `questions`, when too many were given."""
        with self._database.transaction() as sql:
            if len({row[0] for row in self._rows()} | {question}) > QUESTIONS_MAX:
                message = f"{QUESTIONS_MAX} different questions about these records were answered exactly"
                raise RefusedError("questions", message, "use those answers, or ask the owner for a privacy budget")
            sql.execute(SQL["put_version"], {"id": version, "keys": keys.tobytes(), "splits": _packed(splits)})
            row = {"question": question, "version": version, "least": least, "answer": _closed(answer)}
            sql.execute(SQL["put_asked"], row)


@dataclass(frozen=True)
class World:
    """present: how many records are there now; those that were taken away stand behind them. splits: (m,) of each record. earlier: answers,
    over all m."""

    present: int
    splits: Labels
    earlier: tuple[Answered, ...]

    def widened(self, labels: Labels) -> Labels:
        """Labels of the present records, and OUTSIDE for those that are gone."""
        return np.concatenate([labels, np.full(self.splits.size - self.present, OUTSIDE, dtype=np.int64)])


def version_of(keys: Keys) -> str:
    """Names a version of the data by its records in their order."""
    return hashlib.sha256(keys.tobytes()).hexdigest()


def _spread(labels: Labels, rows: Labels, size: int) -> Labels:
    found = np.full(size, OUTSIDE, dtype=np.int64)
    found[rows] = labels
    return found


def _packed(values: Labels) -> bytes:
    return zlib.compress(values.astype("<i4").tobytes(), 6)


def _array(raw: bytes) -> Labels:
    return np.frombuffer(zlib.decompress(raw), dtype="<i4").astype(np.int64)


def _closed(answer: Answered) -> bytes:
    held = io.BytesIO()
    parts = {
        "cells": answer.cells,
        "columns": np.array(answer.columns, dtype=np.str_),
        "whole": np.array([answer.whole, *answer.groups], dtype=np.str_),
    }
    np.savez_compressed(held, **parts, **{f"bin {name}": labels for name, labels in answer.bins.items()})  # type: ignore[arg-type]
    return held.getvalue()


def _opened(raw: bytes) -> Answered:
    with np.load(io.BytesIO(raw), allow_pickle=False) as found:
        bins = {name.removeprefix("bin "): found[name] for name in found.files if name.startswith("bin ")}
        return Answered(found["cells"], bins, tuple(str(name) for name in found["columns"]), *_named(found["whole"]))


def _named(words: NDArray[np.str_]) -> tuple[str, tuple[str, ...]]:
    return str(words[0]), tuple(str(word) for word in words[1:])
