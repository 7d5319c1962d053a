"""A lock on a state folder: held by one process, released by the system when it ends, however it ends."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from isthmus.contracts.errors import StorageError

if sys.platform == "win32":
    import msvcrt

    def _locked(handle: IO[str]) -> bool:
        try:
            msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:
    import fcntl

    def _locked(handle: IO[str]) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # what POSIX lets a system say of a lock that another holds
            return False
        return True


@contextmanager
def held(path: Path) -> Iterator[bool]:
    """Whether this process got the lock at `path`; released on leaving. Raises StorageError when the file cannot be made or locked."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = path.open("a", encoding="ascii")
    except OSError as error:
        raise StorageError(f"the state folder {path.parent} cannot be written: {error.strerror}", "check its permissions") from error
    with handle:
        try:
            mine = _locked(handle)
        except OSError as error:
            raise StorageError(f"{path} cannot be locked: {error.strerror}", "use a state folder on a local disk") from error
        yield mine
