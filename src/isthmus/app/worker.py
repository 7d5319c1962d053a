"""Walks runs one after the other in a thread of its own; what was under way when the process ended is walked again."""

from __future__ import annotations

import queue
import threading
import traceback
from collections.abc import Callable
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
PREFIXES = {"build": "run_", "site": "site_", "comparison": "cmp_"}
LATER = ("candidate", "probes")
"""Fields that requests did not always have: left empty, they make no other run."""
Request = RunRequest | SiteRequest | ComparisonRequest

Walk = Callable[[str, Any], tuple[bool, Json]]


class RunCancelled(Exception):
    """The exchange is stopping; the run stays recorded as under way and goes on at the next start."""


class Worker:
    """walks: kind -> what walks a run of that kind; returns (certified, result)."""

    def __init__(self, catalogue: Catalogue, walks: dict[str, Walk], clock: Clock, log: Log) -> None:
        self._catalogue, self._walks, self._clock, self._log = catalogue, walks, clock, log
        self._waiting: queue.Queue[str | None] = queue.Queue()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="runs", daemon=True)

    def start(self) -> None:
        for run_id in self._catalogue.unfinished():
            self._waiting.put(run_id)
        self._thread.start()

    def stop(self) -> None:
        """Ends after the current step; the run goes on at the next start."""
        self._stopping.set()
        self._waiting.put(None)
        if self._thread.is_alive():
            self._thread.join(STOP_WAIT_S)

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
            self._waiting.put(run_id)
        return run_id

    def _work(self) -> None:
        while not self._stopping.is_set():
            run_id = self._waiting.get()
            if run_id is not None:
                self._one(run_id)

    def _one(self, run_id: str) -> None:
        try:
            kind, request = self._catalogue.request_of(run_id)
            certified, result = self._walks[kind](run_id, request)
            state: RunState = "certified" if certified else "refused"
            self._catalogue.end(run_id, state, result, None)
            self._log.info("run-ended", run=run_id, state=state)
        except RunCancelled:
            self._log.info("run-paused", run=run_id)
        except IsthmusError as error:
            self._failed(run_id, error.as_dict())
        except Exception as error:  # noqa: BLE001  the edge of the thread: a fault here must not end all later runs
            self._failed(
                run_id, {"code": "fault", "message": f"{type(error).__name__}: {error}", "next": "report this with the exchange's log"}
            )
            self._log.error("run-fault", run=run_id, trace="".join(traceback.format_exception(error)))

    def _failed(self, run_id: str, error: dict[str, str]) -> None:
        """Records the failure, so that whoever waits hears of it. Where even that cannot be stored, the run stays under way and is
        walked again after a pause: a full disk must neither end this thread nor leave a run that nobody walks."""
        self._log.error("run-failed", run=run_id, **error)
        try:
            self._catalogue.end(run_id, "failed", None, error)
        except StorageError as unstored:
            self._log.error("run-not-stored", run=run_id, message=str(unstored))
            if not self._stopping.wait(RETRY_S):
                self._waiting.put(run_id)
