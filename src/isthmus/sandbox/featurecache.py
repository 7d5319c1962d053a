"""Numbers computed from images, kept on the node's own disk so that a second run need not compute them again.

One SQLite file rather than one file for each image and condition: a run keeps some 20,000 small arrays, and making that many
files took longer than computing what is in some of them. Losing the last rows in a power cut costs only their computation.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.kit.database import Database, named_sql

SQL = named_sql(Path(__file__).with_suffix(".sql"))


def _as_npy(value: NDArray[Any]) -> bytes:
    out = io.BytesIO()
    np.save(out, value, allow_pickle=False)
    return out.getvalue()


class FeatureCache:
    """Arrays in .npy form by what computed them (a digest), under which condition, of which image (sha256 of the file).

    Raises StorageError when the disk refuses.
    """

    def __init__(self, path: Path) -> None:
        self._database = Database(path, [SQL["schema_1"]])
        self._database.rows(SQL["relax"])

    def found(self, source: str, condition: str, images: Sequence[str] | None = None) -> dict[str, NDArray[Any]]:
        """image -> array, for those of `images` that are kept, default all; one that cannot be read counts as absent."""
        arrays: dict[str, NDArray[Any]] = {}
        for row in self._database.rows(
            SQL["get"], {"source": source, "condition": condition, "images": None if images is None else json.dumps(list(images))}
        ):
            try:
                arrays[row["image"]] = np.load(io.BytesIO(row["value"]), allow_pickle=False)
            except (ValueError, EOFError, OSError):
                continue
        return arrays

    def keep(self, source: str, condition: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Keeps the arrays, all or none."""
        rows = [{"source": source, "condition": condition, "image": image, "value": _as_npy(value)} for image, value in arrays.items()]
        with self._database.transaction() as sql:
            sql.executemany(SQL["put"], rows)

    def close(self) -> None:
        self._database.close()
