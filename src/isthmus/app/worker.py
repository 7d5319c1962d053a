"""Walks runs in threads of their own; what was under way when the process ended is walked again.

Each kind of run has its lanes. Builds are walked one after the other. Sites are walked side by side, because each mostly waits for its own
node: one that is gone holds up its own lane only, until its jobs expire.
"""

from __future__ import annotations

import queue
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from isthmus.app.catalogue import Catalogue
from isthmus.contracts.build import RunRequest, RunState, SiteRequest
from isthmus.contracts.errors import IsthmusError, StorageError
from isthmus.contracts.life import ComparisonRequest
from isthmus.contracts.ports import Clock, Json
from isthmus.kit.canonical import digest_of
from isthmus.kit.log import Log

STOP_WAIT_S = 10.0
RETRY_S = 5.0
ID_CHARS = 24
LANES: Mapping[str, int] = {"build": 1, "site": 32, "comparison": 1}
"""Runs of a kind that are walked at the same time."""
PREFIXES = {"build": "run_", "site": "site_", "comparison": "cmp_"}
LATER = ("candidate", "probes", "left", "contribution")
"""Fields that requests did not always have: left empty, they make no other run."""
Request = RunRequest | SiteRequest | ComparisonRequest

Walk = Callable[[str, Any], tuple[bool, Json]]


class RunCancelled(Exception):
    """The exchange is stopping; the run stays recorded as under way and goes on at the next start."""


class Worker:
    """walks: kind -> what walks a run of that kind; returns (certified, result). after: called once a run has ended and is recorded."""

    def __init__(
        self,
        catalogue: Catalogue,
        walks: dict[str, Walk],
        clock: Clock,
        log: Log,
        lanes: Mapping[str, int] = LANES,
        after: Callable[[], object] = lambda: None,
    ) -> None:
        self._catalogue, self._walks, self._clock, self._log, self._after = catalogue, walks, clock, log, after
        self._waiting: dict[str, queue.Queue[str | None]] = {kind: queue.Queue() for kind in walks}
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(kind,), name=f"{kind}-{lane}", daemon=True)
            for kind in walks
            for lane in range(lanes.get(kind, 1))
        ]

    def start(self) -> None:
        for run_id in self._catalogue.unfinished():
            self._waiting[self._catalogue.request_of(run_id)[0]].put(run_id)
        for thread in self._threads:
            thread.start()

    @property
    def alive(self) -> bool:
        """Whether any of its threads works."""
        return any(thread.is_alive() for thread in self._threads)

    def stop(self) -> None:
        """Ends after the current steps; the runs go on at the next start."""
        self._stopping.set()
        for waiting in self._waiting.values():
            for _ in self._threads:
                waiting.put(None)
        deadline_s = time.monotonic() + STOP_WAIT_S
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, deadline_s - time.monotonic()))

    def wait(self, seconds: float) -> None:
        """Sleeps, unless the exchange is stopping. Raises RunCancelled."""
        if self._stopping.wait(seconds):
            raise RunCancelled

    def submit(self, kind: str, request: Request, basis: Json) -> str:
        """The run's id; the same request on the same basis (assets, certificates) is the same run."""
        prefix = PREFIXES[kind]
        fields = msgspec.to_builtins(request)
        wanted = {name: value for name, value in fields.items() if name != "origin" and (name not in LATER or value)}
        run_id = prefix + digest_of({"request": wanted, "basis": basis}).removeprefix("sha256:")[:ID_CHARS]
        if self._catalogue.begin(run_id, kind, request):
            self._waiting[kind].put(run_id)
        return run_id

    def _work(self, kind: str) -> None:
        while not self._stopping.is_set():
            run_id = self._waiting[kind].get()
            if run_id is not None:
                self._one(run_id)

    def _one(self, run_id: str) -> None:
        try:
            kind, request = self._catalogue.request_of(run_id)
            certified, result = self._walks[kind](run_id, request)
            state: RunState = "certified" if certified else "refused"
            self._catalogue.end(run_id, state, result, None)
            self._log.info("run-ended", run=run_id, state=state)
            self._ended()
        except RunCancelled:
            self._log.info("run-paused", run=run_id)
        except IsthmusError as error:
            self._failed(run_id, error.as_dict())
        except Exception as error:  # noqa: BLE001  the edge of the thread: a fault here must not end all later runs
            self._failed(
                run_id, {"code": "fault", "message": f"{type(error).__name__}: {error}", "next": "report this with the exchange's log"}
            )
            self._log.error("run-fault", run=run_id, trace="".join(traceback.format_exception(error)))

    def _ended(self) -> None:
        """What follows from an ended run is not part of it: its failure is logged, and upkeep tries again."""
        try:
            self._after()
        except IsthmusError as error:
            self._log.error("after-run-failed", message=str(error))

    def _failed(self, run_id: str, error: dict[str, str]) -> None:
        """Records the failure, so that whoever waits hears of it. Where even that cannot be stored, the run stays under way and is
        walked again after a pause: a full disk must neither end this thread nor leave a run that nobody walks."""
        self._log.error("run-failed", run=run_id, **error)
        try:
            self._catalogue.end(run_id, "failed", None, error)
            self._ended()
        except StorageError as unstored:
            self._log.error("run-not-stored", run=run_id, message=str(unstored))
            if not self._stopping.wait(RETRY_S):
                self._waiting[self._catalogue.request_of(run_id)[0]].put(run_id)
