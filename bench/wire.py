"""What crosses between an owner and the other side, and how much memory processes hold: measured alike for every system.

`Counter` is a TCP relay on loopback: an owner's process is given its port for the server's. It counts bytes of TCP payload both ways, TLS
or not, and keeps nothing. `Watch` samples the memory of process trees, shared pages divided among those who share them (PSS).
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

PIECE_BYTES = 1 << 16
SAMPLE_EVERY_S = 0.2


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Counter:
    """Relays one owner's connections to a port of this machine. up: bytes from the owner; down: bytes to it."""

    def __init__(self, target_port: int, port: int = 0) -> None:
        self.up = self.down = 0
        self._target = target_port
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", port), backlog=64)
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self._target), timeout=10)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            for one in (near, far):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._relay, args=(near, far, True), daemon=True).start()
            threading.Thread(target=self._relay, args=(far, near, False), daemon=True).start()

    def _relay(self, source: socket.socket, sink: socket.socket, up: bool) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(PIECE_BYTES):
                with self._lock:
                    self.up += len(piece) if up else 0
                    self.down += 0 if up else len(piece)
                sink.sendall(piece)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        if up:
            return
        for one in (source, sink):
            one.close()

    def close(self) -> None:
        self._listener.close()


def tree_of(roots: Iterable[int]) -> set[int]:
    """These processes and all below them."""
    below: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError):
                parent = int(re.sub(r"^.*\) ", "", (entry / "stat").read_text(), flags=re.S).split()[1])
                below.setdefault(parent, []).append(int(entry.name))
    found: set[int] = set()
    waiting = list(roots)
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting += below.get(one, [])
    return found


def held_bytes(process: int) -> int:
    """Proportional set size of one process; 0 when it has gone."""
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:
        return 0
    said = re.search(r"^Pss:\s+(\d+) kB", text, flags=re.M)
    return int(said.group(1)) * 1024 if said else 0


class Watch:
    """Peak memory of groups of process trees while it is entered. groups: name -> process ids at their roots; the ids may grow.

    Needs Linux's /proc; elsewhere peaks stay 0. Processes that a daemon adopted are found by `marks`: name -> text in their command line.
    """

    def __init__(self, groups: dict[str, list[int]], marks: dict[str, str] | None = None) -> None:
        self.groups, self._marks = groups, marks or {}
        self.peaks = dict.fromkeys(groups, 0)
        self.peak_whole = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _marked(self, mark: str) -> list[int]:
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                with contextlib.suppress(OSError):
                    if mark.encode() in (entry / "cmdline").read_bytes():
                        found.append(int(entry.name))
        return found

    def _run(self) -> None:
        while not self._stop.wait(SAMPLE_EVERY_S):
            whole = 0
            for name, roots in list(self.groups.items()):
                marked = self._marked(self._marks[name]) if name in self._marks else []
                held = sum(held_bytes(one) for one in tree_of([*roots, *marked]))
                self.peaks[name] = max(self.peaks.get(name, 0), held)
                whole += held
            self.peak_whole = max(self.peak_whole, whole)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()


def waited(ready: object, within_s: float, every_s: float = 0.02) -> float:
    """Seconds until ready() was true. Raises SystemExit when it is not in time."""
    began = time.monotonic()
    assert callable(ready)
    while not ready():
        if time.monotonic() - began > within_s:
            raise SystemExit(f"not ready within {within_s:g} s")
        time.sleep(every_s)
    return time.monotonic() - began
