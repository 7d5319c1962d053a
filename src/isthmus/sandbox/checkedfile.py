"""A file that is held against the digests of its blocks as it is read: a changed block never reaches whoever reads.

A big file is hashed once, in blocks of BLOCK_BYTES, when it becomes an asset. From then on no pass over it is spent on checking alone: each
block is hashed when it is read, and refused if it is another. So there is no moment between check and use.
"""

from __future__ import annotations

import hashlib
import io
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import msgspec

from isthmus.contracts.errors import FolderError, RefusedError

BLOCK_BYTES = 256 * 1024
"""Small, because a Parquet file is read at as many places at once as it has columns."""
HELD_BYTES_MAX = 16 * 1024 * 1024
"""Of checked blocks that are kept, so that readers of many columns need not have them checked again."""


class FileBlocks(msgspec.Struct, frozen=True, kw_only=True):
    """What a file was when it became part of an asset. name: relative path. digests: sha256 of each block, one after the other."""

    name: str
    size_bytes: int
    mtime_ns: int
    digests: bytes

    @property
    def count(self) -> int:
        return -(-self.size_bytes // BLOCK_BYTES)


def hashed(root: Path, name: str, on_bytes: Callable[[int], None] = lambda count: None) -> FileBlocks:
    """Reads a file once, in a stream. Raises FolderError when it cannot be read, or changes meanwhile."""
    path, found, size = root / name, [], 0
    try:
        before = path.stat()
        with path.open("rb") as stream:
            while block := stream.read(BLOCK_BYTES):
                found.append(hashlib.sha256(block).digest())
                size += len(block)
                on_bytes(len(block))
        after = path.stat()
    except OSError as error:
        raise FolderError(f"{path} cannot be read: {error.strerror}", "check its path and permissions") from error
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or size != after.st_size:
        raise FolderError(f"{path} was written to while it was read", "wait until it is whole, then try again")
    return FileBlocks(name=name, size_bytes=size, mtime_ns=after.st_mtime_ns, digests=b"".join(found))


def untouched(root: Path, known: FileBlocks) -> bool:
    """Whether size and time of writing are still those: nothing is read for it. What is read is checked anyhow."""
    try:
        now = (root / known.name).stat()
    except OSError:
        return False
    return (now.st_size, now.st_mtime_ns) == (known.size_bytes, known.mtime_ns)


class CheckedFile(io.RawIOBase):
    """A file whose every byte that is read was held against `known`. Seekable. Raises RefusedError for a block that is another."""

    def __init__(self, root: Path, known: FileBlocks) -> None:
        super().__init__()
        self._path, self._known, self._at = root / known.name, known, 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        try:
            self._file = self._path.open("rb", buffering=0)
        except OSError as error:
            raise RefusedError("data", "a file of the asset can no longer be read", "see the node's own log") from error

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._known.size_bytes}[whence]
        self._at = max(0, base + offset)
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """Up to `size` bytes from here, fewer only at the end."""
        left = max(0, self._known.size_bytes - self._at)
        wanted = left if size is None or size < 0 else min(size, left)
        parts = []
        while wanted > 0:
            place, offset = divmod(self._at, BLOCK_BYTES)
            part = self._block(place)[offset : offset + wanted]
            parts.append(part)
            self._at += len(part)
            wanted -= len(part)
        return b"".join(parts)

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        found = self.read(len(buffer))
        buffer[: len(found)] = found
        return len(found)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()

    def _block(self, place: int) -> bytes:
        if place in self._blocks:
            self._blocks.move_to_end(place)
            return self._blocks[place]
        try:
            self._file.seek(place * BLOCK_BYTES)
            length = min(BLOCK_BYTES, self._known.size_bytes - place * BLOCK_BYTES)
            block = b""
            while len(block) < length and (part := self._file.read(length - len(block))):
                block += part
        except OSError as error:
            raise RefusedError("data", "a file of the asset can no longer be read", "see the node's own log") from error
        if hashlib.sha256(block).digest() != self._known.digests[32 * place : 32 * place + 32]:
            raise RefusedError("data", "a block of rows is no longer the one that the asset commits to", "make a new asset and agreement")
        self._blocks[place] = block
        if len(self._blocks) > HELD_BYTES_MAX // BLOCK_BYTES:
            self._blocks.popitem(last=False)
        return block
