"""The thread that walks runs: what ends a run, what pauses it, and what may not end the thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from isthmus.app import worker as worker_module
from isthmus.app.worker import RunCancelled, Worker
from isthmus.contracts.build import SiteRequest
from isthmus.contracts.errors import JobFailedError, StorageError
from tests.app.world import House, house, request

WAIT_S = 10.0


def until(holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline_s, "it never came to be"
        time.sleep(0.005)


@pytest.fixture
def ready(tmp_path: Path) -> House:
    return house(tmp_path)


def worker(of: House, walk: Any) -> Worker:
    return Worker(of.catalogue, {"build": walk}, of.clock, of.log)


def state(of: House, run_id: str) -> str:
    return of.catalogue.view(run_id).state


def ended_as(of: House, run_id: str, wanted: str) -> bool:
    return state(of, run_id) == wanted


def test_the_same_request_on_the_same_basis_is_the_same_run(ready: House) -> None:
    walked: list[str] = []

    def walk(run_id: str, wanted: Any) -> tuple[bool, dict[str, Any]]:
        walked.append(run_id)
        return True, {"n": len(walked)}

    works = worker(ready, walk)
    works.start()
    one = works.submit("build", request(), {"agreements": ["a"]})
    until(lambda: state(ready, one) == "certified")
    assert works.submit("build", request(), {"agreements": ["a"]}) == one
    other = works.submit("build", request(), {"agreements": ["b"]})
    until(lambda: state(ready, other) == "certified")
    works.stop()
    assert walked == [one, other], "a finished run is not walked again"
    assert ready.catalogue.view(one).result == {"n": 1}


def test_a_refused_or_failed_run_is_walked_again(ready: House) -> None:
    ends: list[Any] = [(False, {"n": 1}), JobFailedError("brio refused by its clause expiry", "agree anew"), (True, {"n": 3})]

    def walk(run_id: str, wanted: Any) -> tuple[bool, dict[str, Any]]:
        end = ends.pop(0)
        if isinstance(end, Exception):
            raise end
        return end  # type: ignore[no-any-return]

    works = worker(ready, walk)
    works.start()
    for expected in ("refused", "failed", "certified"):
        run_id = works.submit("build", request(), {})
        until(partial(ended_as, ready, run_id, expected))
        if expected == "failed":
            error = ready.catalogue.view(run_id).error
            assert error is not None and error["code"] == "job-failed" and "clause expiry" in error["message"]
    works.stop()
    assert ready.catalogue.view(run_id).error is None


def test_a_fault_fails_its_run_and_not_the_thread(ready: House) -> None:
    def walk(run_id: str, wanted: Any) -> tuple[bool, dict[str, Any]]:
        if wanted.label == "bad":
            raise ZeroDivisionError("division by zero")
        return True, {}

    works = worker(ready, walk)
    works.start()
    bad = works.submit("build", request(label="bad"), {})
    good = works.submit("build", request(), {})
    until(lambda: state(ready, good) == "certified")
    works.stop()
    error = ready.catalogue.view(bad).error
    assert error is not None and error["code"] == "fault" and "ZeroDivisionError" in error["message"]
    assert "Traceback" in ready.written.getvalue()


def test_stopping_leaves_the_run_under_way_and_the_next_start_goes_on(ready: House) -> None:
    entered = threading.Event()

    def waits(run_id: str, wanted: Any) -> tuple[bool, dict[str, Any]]:
        entered.set()
        while True:
            first.wait(0.01)

    first = worker(ready, waits)
    first.start()
    run_id = first.submit("build", request(), {})
    assert entered.wait(WAIT_S)
    first.stop()
    assert state(ready, run_id) == "running" and ready.catalogue.unfinished() == [run_id]
    assert first.submit("build", request(), {}) == run_id
    second = worker(ready, lambda run, wanted: (True, {"wanted": wanted.label}))
    second.start()
    until(lambda: state(ready, run_id) == "certified")
    second.stop()
    with pytest.raises(RunCancelled):
        second.wait(0)


def test_a_store_that_fails_fails_the_run_and_the_run_can_be_asked_again(ready: House) -> None:
    def walk(run_id: str, wanted: Any) -> tuple[bool, dict[str, Any]]:
        if not ready.written.getvalue():
            raise StorageError("the model cannot be written: no space left", "free some")
        return True, {}

    works = worker(ready, walk)
    works.start()
    run_id = works.submit("build", request(), {})
    until(lambda: state(ready, run_id) == "failed")
    assert works.submit("build", request(), {}) == run_id
    until(lambda: state(ready, run_id) == "certified")
    works.stop()


def test_a_failure_that_cannot_even_be_recorded_does_not_end_the_thread(ready: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "RETRY_S", 0.01)
    original, broken = ready.catalogue.end, [True, True]

    def end(*given: Any) -> None:
        if broken:
            broken.pop()
            raise StorageError("the database cannot be used now", "check the disk")
        original(*given)

    monkeypatch.setattr(ready.catalogue, "end", end)
    works = worker(ready, lambda run, wanted: (True, {}))
    works.start()
    run_id = works.submit("build", request(), {})
    until(lambda: state(ready, run_id) == "certified")
    works.stop()
    assert "run-not-stored" in ready.written.getvalue()


def test_many_submits_at_once_walk_once(ready: House) -> None:
    walked: list[str] = []
    works = worker(ready, lambda run, wanted: (walked.append(run) is None, {}))
    works.start()
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(works.submit("build", request(), {}))) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    until(lambda: state(ready, found[0]) == "certified")
    works.stop()
    assert len(set(found)) == 1 and walked == found[:1]


def test_stopping_before_starting_is_harmless(ready: House) -> None:
    worker(ready, None).stop()


def test_a_site_that_is_stuck_holds_up_neither_other_sites_nor_builds(ready: House) -> None:
    going, ended = threading.Event(), threading.Event()

    def walk(run_id: str, wanted: Any) -> tuple[bool, dict[str, Any]]:
        if getattr(wanted, "site", "") == "stuck":
            going.set()
            assert ended.wait(WAIT_S)
        return True, {}

    works = Worker(ready.catalogue, {"build": walk, "site": walk}, ready.clock, ready.log, {"build": 1, "site": 2})
    works.start()
    fleet = works.submit("build", request(), {})
    until(partial(ended_as, ready, fleet, "certified"))
    stuck = works.submit("site", SiteRequest(run=fleet, site="stuck", fit=8, proof=0), {})
    assert going.wait(WAIT_S)
    free = works.submit("site", SiteRequest(run=fleet, site="free", fit=8, proof=0), {})
    build = works.submit("build", request(label="again"), {})
    until(partial(ended_as, ready, free, "certified"))
    until(partial(ended_as, ready, build, "certified"))
    assert state(ready, stuck) == "running" and works.alive
    ended.set()
    until(partial(ended_as, ready, stuck, "certified"))
    works.stop()
    assert not works.alive
