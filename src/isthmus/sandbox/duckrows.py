"""A process of the node's that runs DuckDB on arrays that it is handed, and nothing else (sandbox.duckworker).

The node writes every statement itself, from a question's tree (sandbox.questionsql). Should one still do more than it must, it finds
no files, no network and no extensions: DuckDB is told so before the first statement and its settings are locked; the process has limits of
memory and time set by the system, and the node kills it when its time is over. A frame is 8 bytes of length, then an `.npz`: arrays named
`table.column` and one array `statements`, JSON; the answer holds `number.column` for each statement, or `error`.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
from importlib.util import find_spec
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.errors import RefusedError
from isthmus.kit.config import process_environment

TIME_S_MAX = 60.0
"""One frame of statements."""
MEMORY_MB = 512
"""DuckDB's own limit; the process may use OVERHEAD_MB more of address space for what it was handed and for its program."""
OVERHEAD_MB = 4096
CPU_S_MAX = 120
FRAME_BYTES_MAX = 4 * 1024**3
Arrays = dict[str, NDArray[Any]]
Statement = tuple[str, list[Any]]


def framed(arrays: Arrays) -> bytes:
    """One frame."""
    held = io.BytesIO()
    np.savez(held, **arrays)  # type: ignore[arg-type]
    raw = held.getvalue()
    return len(raw).to_bytes(8, "little") + raw


def read_frame(source: BinaryIO) -> Arrays | None:
    """The next frame; None at the end, or when it is cut short."""
    head = source.read(8)
    size = int.from_bytes(head, "little")
    if len(head) < 8 or size > FRAME_BYTES_MAX:
        return None
    raw = source.read(size)
    if len(raw) < size:
        return None
    with np.load(io.BytesIO(raw), allow_pickle=False) as found:
        return {name: found[name] for name in found.files}


class DuckRows:
    """One such process, seen from the node. Use as a context manager; leaving ends it. Raises RefusedError where it cannot answer."""

    def __init__(self, time_s: float = TIME_S_MAX, memory_mb: int = MEMORY_MB) -> None:
        if find_spec("duckdb") is None:
            raise RefusedError("statistic", "this node has no DuckDB, which counts questions", "the owner installs isthmus[questions]")
        self._time_s = time_s
        words = [sys.executable, "-m", "isthmus.sandbox.duckworker", str(memory_mb)]
        self._child = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=process_environment(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1"),
        )

    def __enter__(self) -> DuckRows:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._child.kill()
        self._child.wait()
        for stream in (self._child.stdin, self._child.stdout):
            if stream is not None:
                stream.close()

    def run(self, tables: dict[str, Arrays], statements: list[Statement]) -> list[Arrays]:
        """Registers the tables, beside those handed over before, and runs the statements: column -> values of each."""
        arrays: Arrays = {f"{table}.{name}": values for table, columns in tables.items() for name, values in columns.items()}
        arrays["statements"] = np.frombuffer(json.dumps(statements).encode(), dtype=np.uint8)
        late = threading.Timer(self._time_s, self._child.kill)
        late.start()
        try:
            found = self._asked(arrays)
        finally:
            late.cancel()
        if found is None:
            raise RefusedError("limits", "the question took too much time or memory at this node", "ask something smaller")
        if "error" in found:
            raise RefusedError("limits", "the question could not be counted at this node", "see the node's own log") from RuntimeError(
                bytes(found["error"]).decode(errors="replace")
            )
        count = len(statements)
        split = [(int(key.partition(".")[0]), key.partition(".")[2], value) for key, value in found.items()]
        return [{name: value for number, name, value in split if number == place} for place in range(count)]

    def _asked(self, arrays: Arrays) -> Arrays | None:
        assert self._child.stdin is not None and self._child.stdout is not None
        try:
            self._child.stdin.write(framed(arrays))
            self._child.stdin.flush()
            return read_frame(self._child.stdout)  # type: ignore[arg-type]
        except (OSError, ValueError):
            return None
