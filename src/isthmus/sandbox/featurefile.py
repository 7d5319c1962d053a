"""Features of a big table, in the node's own state: 16-bit integers, row after row, in one file for each stage and condition.

The file is written whole or not at all, read from front to back, and never held in memory. Losing it costs only its computation; where the
disk has no room, features are computed anew each time.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isthmus.kit.canonical import digest_of

FILES_MAX = 8
"""Feature files that are kept; the ones used longest ago go first."""
ENDING, UNFINISHED = ".features", ".part"
Features = NDArray[np.int16]


class FeatureFiles:
    """Feature files of one asset. folder: made when it is first needed; what a killed process left unfinished there goes. asset: its
    commitment."""

    def __init__(self, folder: Path, asset: str) -> None:
        self._folder, self._asset = folder, asset
        with suppress(OSError):
            for part in folder.glob(f"*{UNFINISHED}"):
                part.unlink(missing_ok=True)

    def chunks(self, key: dict[str, str], rows: int, width: int, chunk: int, computed: Iterable[Features]) -> Iterator[Features]:
        """`rows` rows of `width` features, `chunk` at a time: out of the file, or of `computed`, which is then kept. key: what they are."""
        path = self._folder / f"{digest_of({**key, 'asset': self._asset}).removeprefix('sha256:')}{ENDING}"
        if self._whole(path, rows * width * 2):
            yield from _read(path, rows, width, chunk)
        else:
            yield from self._kept(path, computed, rows * width * 2)

    def _whole(self, path: Path, size_bytes: int) -> bool:
        try:
            if path.stat().st_size != size_bytes:
                return False
            os.utime(path)
        except OSError:
            return False
        return True

    def _kept(self, path: Path, computed: Iterable[Features], size_bytes: int) -> Iterator[Features]:
        """Passes on what is computed, and writes it to a file of another name, which gets its own when all is there."""
        part = path.with_suffix(UNFINISHED)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._make_room()
            stream = part.open("wb")
        except OSError:
            yield from computed
            return
        writing = True
        try:
            for rows in computed:
                if writing:
                    try:
                        stream.write(np.ascontiguousarray(rows, dtype="<i2").data)
                    except OSError:
                        writing = False
                yield rows
            if writing:
                try:
                    stream.flush()
                    os.fsync(stream.fileno())
                    if part.stat().st_size == size_bytes:
                        part.replace(path)
                except OSError:
                    writing = False
        finally:
            stream.close()
            part.unlink(missing_ok=True)

    def _make_room(self) -> None:
        kept = sorted(self._folder.glob(f"*{ENDING}"), key=lambda path: path.stat().st_mtime_ns)
        for path in kept[: max(0, len(kept) - FILES_MAX + 1)]:
            path.unlink(missing_ok=True)


def _read(path: Path, rows: int, width: int, chunk: int) -> Iterator[Features]:
    with path.open("rb") as stream:
        for start in range(0, rows, chunk):
            count = min(chunk, rows - start)
            raw = stream.read(count * width * 2)
            yield np.frombuffer(raw, dtype="<i2").astype(np.int16, copy=False).reshape(count, width)
