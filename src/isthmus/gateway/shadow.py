"""A candidate beside what serves: it scores the same requests after they were answered. Its answers go nowhere and cost nothing; only how
the two verdicts differ is counted.

A shadow never slows a caller: what it cannot take at once it skips, and counts that it did.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.deployment import Engine
from isthmus.contracts.errors import IsthmusError
from isthmus.contracts.inference import VERDICTS

SHADOW_QUEUE_MAX = 8
"""Answered requests that wait for a shadow; the next one is skipped."""

SAVE_EVERY = 10
STOP_WAIT_S = 5.0
Images = list[NDArray[np.uint8]]


def _empty() -> list[list[int]]:
    return [[0] * len(VERDICTS) for _ in VERDICTS]


@dataclass
class ShadowCounts:
    """requests: compared. table: images by the verdict that was given (rows) and the shadow's, in the order of VERDICTS. failed: requests
    that the shadow could not score. skipped: requests that came while it was busy."""

    requests: int = 0
    failed: int = 0
    skipped: int = 0
    table: list[list[int]] = field(default_factory=_empty)


class Shadow:
    """One candidate's engine in a thread of its own. saved: called with the counts every SAVE_EVERY requests, and once when `wanted`
    requests have been compared; then the engine is closed."""

    def __init__(self, engine: Engine, counts: ShadowCounts, wanted: int, saved: Callable[[ShadowCounts, bool], None]) -> None:
        self._engine, self._wanted, self._saved = engine, wanted, saved
        self.counts = counts
        self._waiting: queue.Queue[tuple[Images, Sequence[str]] | None] = queue.Queue(SHADOW_QUEUE_MAX)
        self._stopping, self._done = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="shadow", daemon=True)
        self._thread.start()

    def offer(self, images: Images, verdicts: Sequence[str]) -> None:
        """One answered request. Never waits and never raises."""
        if self._done.is_set():
            return
        try:
            self._waiting.put_nowait((images, verdicts))
        except queue.Full:
            self.counts.skipped += 1

    def stop(self) -> None:
        """Ends it; what it has counted is saved."""
        self._stopping.set()
        try:
            self._waiting.put_nowait(None)
        except queue.Full:
            self._waiting.get_nowait()
            self._waiting.put_nowait(None)
        self._thread.join(STOP_WAIT_S)
        self._engine.close()

    def _work(self) -> None:
        counts = self.counts
        while not self._stopping.is_set() and counts.requests < self._wanted:
            given = self._waiting.get()
            if given is None:
                break
            self._compare(*given)
            if counts.requests % SAVE_EVERY == 0 or counts.requests >= self._wanted:
                self._keep()
        self._done.set()
        self._keep()
        self._engine.close()

    def _compare(self, images: Images, verdicts: Sequence[str]) -> None:
        try:
            found = self._engine.judged(images)[1]
            pairs = [(VERDICTS.index(given), int(made)) for given, made in zip(verdicts, found, strict=True)]
        except (IsthmusError, ValueError):
            self.counts.failed += 1
            return
        for given, made in pairs:
            self.counts.table[given][made] += 1
        self.counts.requests += 1

    def _keep(self) -> None:
        """A count that cannot be saved now is saved with the next one."""
        try:
            self._saved(self.counts, self.counts.requests >= self._wanted)
        except IsthmusError:
            return
