"""Processes are killed in the middle, without a chance to clean up: the command ends plainly, nothing is lost, another run finishes.

One state folder goes through a seeded chain of kills, one after the other, at a step of the build and a moment within it. Then a run
is left alone, and must find what an undisturbed run found.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.journeys.conftest import Walked
from tests.journeys.inspection import OWNERS, SCENARIO, Ended, arguments_of, environment, isthmus, run_words
from tests.journeys.state import (
    artefacts,
    book_holds,
    charged_micros,
    document_of,
    logs_hold,
    nothing_half_written,
    owners_logs_verify,
    rows,
    running_in,
    sum_digests,
)

STEP_WAIT_S = 120.0
END_WAIT_S = 60.0
GONE_WAIT_S = 20.0
LOOK_S = 0.02
WITHIN_S_MAX = 0.8
CHARGED_MICROS = SCENARIO["serve"]["sample_requests"] * SCENARIO["serve"]["micros_per_inference"]

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds child processes in /proc")


@dataclass(frozen=True)
class Kill:
    """What is killed and when. victim: `exchange`, `command` or a party. step: the build's; `serve` is the first receipt."""

    victim: str
    step: str


CHAIN = (
    Kill("birch", "moments"),
    Kill("exchange", "moments"),
    Kill("command", "own-heads"),
    Kill("alder", "evaluate"),
    Kill("exchange", "evaluate"),
    Kill("exchange", "serve"),
)


def children(pid: int) -> dict[int, str]:
    """Process id -> command line, of the direct children."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return {int(one): Path(f"/proc/{one}/cmdline").read_bytes().replace(b"\0", b" ").decode() for one in listed}


def child_of(command: subprocess.Popen[str], victim: str) -> int:
    """The process that plays this part in the run."""
    if victim == "command":
        return command.pid
    mark = " up --state " if victim == "exchange" else f"/nodes/{victim} "
    found = [pid for pid, line in children(command.pid).items() if mark in line]
    assert len(found) == 1, children(command.pid)
    return found[0]


def until(condition: Callable[[], bool], command: subprocess.Popen[str], wait_s: float) -> bool:
    """Waits for a condition; False when the command ended first."""
    deadline_s = time.monotonic() + wait_s
    while not condition():
        if command.poll() is not None:
            return False
        assert time.monotonic() < deadline_s, "the run did not come to that step"
        time.sleep(LOOK_S)
    return True


def spoken(state: Path) -> dict[str, int]:
    """party -> bytes in its log of what left; it grows when a node that was started has called."""
    logs = {party: state / "nodes" / party / "left.jsonl" for party in OWNERS}
    return {party: log.stat().st_size if log.exists() else 0 for party, log in logs.items()}


def reached(state: Path, step: str, before: dict[str, int]) -> bool:
    """Whether this run's own nodes are all at work, and its build is at the step."""
    now_spoken = spoken(state)
    if any(now_spoken[party] <= before[party] for party in OWNERS):
        return False
    if step == "serve":
        return bool(rows(state, "book", "SELECT 1 FROM attempts LIMIT 1"))
    now = rows(state, "catalogue", "SELECT step FROM run WHERE state = 'running' AND step <> ''")
    return any(str(name).startswith(step) for (name,) in now)


def disturbed(words: list[object], state: Path, kill: Kill, within_s: float) -> Ended:
    """Runs the command, and kills its victim within_s seconds after the step has begun."""
    before = spoken(state)
    command = subprocess.Popen(
        arguments_of(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(), cwd=state.parent
    )
    try:
        if until(lambda: reached(state, kill.step, before), command, STEP_WAIT_S):
            time.sleep(within_s)
            if command.poll() is None:
                os.kill(child_of(command, kill.victim), signal.SIGKILL)
        out, err = command.communicate(timeout=END_WAIT_S)
    finally:
        command.kill()
        command.wait()
    return Ended(command.returncode, out, err)


def all_gone(state: Path) -> None:
    """No process is left on the state folder."""
    deadline_s = time.monotonic() + GONE_WAIT_S
    while left := running_in(state):
        assert time.monotonic() < deadline_s, f"still running: {left}"
        time.sleep(0.1)


def test_kills_in_the_middle_lose_nothing(walked: Walked, tmp_path: Path) -> None:
    undisturbed = document_of(walked.ended)
    state, rng = tmp_path / "state", random.Random(20)
    words = run_words(walked.scenario, walked.folders, state)
    killed = []
    for kill in CHAIN:
        ended = disturbed(words, state, kill, 0 if kill.step == "serve" else rng.uniform(0, WITHIN_S_MAX))
        assert "Traceback" not in ended.err, (kill, ended.err)
        if ended.code == -signal.SIGKILL:
            assert kill.victim == "command"
        elif ended.code:
            error = ended.refused()
            assert kill.victim == "exchange" or kill.victim in error["message"], (kill, error)
        killed.append(ended.code != 0)
        all_gone(state)
        nothing_half_written(state)
        logs_hold(state)
    assert sum(killed) >= len(CHAIN) - 2, f"most kills must hit a run that is under way: {killed}"
    document = document_of(isthmus(*words, cwd=state.parent))
    assert sum_digests(state) == walked.sums
    assert artefacts(state) == walked.models
    for name in ("auc", "answered_share", "answered_error_bound", "promises", "leave", "requests", "receipts", "split", "images_left"):
        assert document[name] == undisturbed[name], name
    assert document["entries_sum_micros"] == 0
    book = book_holds(state)
    assert book["receipts"] >= document["requests"]
    assert charged_micros(state) == CHARGED_MICROS
    nothing_half_written(state)
    assert set(owners_logs_verify(state)) == set(OWNERS)
