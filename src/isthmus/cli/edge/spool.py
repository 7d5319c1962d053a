"""Where connectors put what they receive, so that nothing is lost when either side stops: pictures as files, signals as lines.

A picture is written under a hidden name, brought to the disk, then renamed: whoever sees it sees all of it. It is named by its digest, so
that a second delivery is the same file. Run `runner.py SPOOL --watch --remove` beside it. Signals are appended to signals.jsonl; the
reader keeps its own offset in signals.offset. Both have a limit: a connector takes no more from its source while there is no room.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

KINDS = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"P6": ".ppm", b"P5": ".pgm", b"\x93NUMPY": ".npy", b"BM": ".bmp", b"GIF8": ".gif"}
KINDS |= {b"II*\0": ".tif", b"MM\0*": ".tif", b"RIFF": ".webp"}
UNKNOWN = ".unknown"


def suffix_of(raw: bytes) -> str:
    """What a picture file's name ends in, by its first bytes; UNKNOWN for what is none (the runner leaves such files alone)."""
    return next((suffix for begin, suffix in KINDS.items() if raw.startswith(begin)), UNKNOWN)


class Spool:
    """A folder of pictures that wait for the runner. limit: how many may wait."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        folder.mkdir(parents=True, exist_ok=True)

    def room(self) -> int:
        """How many more may come. What is no picture does not count: nobody takes it away by itself."""
        with os.scandir(self.folder) as found:
            return self.limit - sum(
                1 for entry in found if entry.name[0] != "." and not entry.name.endswith((UNKNOWN, ".jsonl", ".offset"))
            )

    @staticmethod
    def name_of(raw: bytes) -> str:
        return hashlib.sha256(raw).hexdigest()[:32] + suffix_of(raw)

    def put(self, raw: bytes) -> Path:
        """Keeps a picture; on return it is on the disk, under its name."""
        name = self.name_of(raw)
        part = self.folder / f".{name}.part"
        with part.open("wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        return part.replace(self.folder / name)


class Signals:
    """Values of a machine, one line each, in signals.jsonl. limit: lines that may wait for the reader. One writer, one reader."""

    def __init__(self, folder: Path, limit: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path, self.mark, self.limit = folder / "signals.jsonl", folder / "signals.offset", limit
        raw = self.path.read_bytes() if self.path.exists() else b""
        whole = raw.rfind(b"\n") + 1
        self.newest: dict[str, str] = {}
        for line in raw[:whole].splitlines():
            self._seen(json.loads(line))
        self.file = self.path.open("ab")
        self.file.truncate(whole)
        self.waiting = raw[min(self.offset(), whole) : whole].count(b"\n")
        self.counted = self.offset()

    def _seen(self, said: dict[str, Any]) -> None:
        self.newest[said["source"]] = max(said["at"], self.newest.get(said["source"], ""))

    def offset(self) -> int:
        """How many bytes the reader has taken."""
        return int(self.mark.read_text()) if self.mark.exists() else 0

    def room(self) -> int:
        """How many more lines may come."""
        taken = self.offset()
        if taken > self.counted:
            with self.path.open("rb") as file:
                file.seek(self.counted)
                self.waiting -= file.read(taken - self.counted).count(b"\n")
            self.counted = taken
        return self.limit - self.waiting

    def add(self, lines: list[dict[str, Any]]) -> int:
        """Keeps values, each with `source` (text) and `at` (ISO 8601, UTC, the source's own time); on return they are on the disk. A value
        that is not newer than its source's newest was kept before, and is left out. Returns how many were new."""
        new = 0
        for said in lines:
            if "gap" not in said and said["at"] <= self.newest.get(said["source"], ""):
                continue
            self._seen(said)
            self.file.write(json.dumps(said, sort_keys=True).encode() + b"\n")
            new += 1
        self.file.flush()
        os.fsync(self.file.fileno())
        self.waiting += new
        return new


def read_signals(folder: Path, count: int) -> tuple[list[dict[str, Any]], int]:
    """(the next lines, at most count; the offset behind them). They come again until `commit_signals` is called with that offset."""
    path, mark = folder / "signals.jsonl", folder / "signals.offset"
    offset, lines = int(mark.read_text()) if mark.exists() else 0, list[dict[str, Any]]()
    if not path.exists():
        return lines, offset
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if len(lines) == count or not line.endswith(b"\n"):
                break
            lines.append(json.loads(line))
            offset += len(line)
    return lines, offset


def commit_signals(folder: Path, offset: int) -> None:
    """Notes durably that the reader has taken all before offset."""
    part = folder / ".signals.offset.part"
    with part.open("w") as file:
        file.write(str(offset))
        file.flush()
        os.fsync(file.fileno())
    part.replace(folder / "signals.offset")
