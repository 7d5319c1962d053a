"""Many sites side by side by the real command lines: one whose node is killed fails alone, and a roll-out that is killed goes on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.journeys.conftest import Walked
from tests.journeys.inspection import arguments_of, environment, isthmus, owner_folder
from tests.journeys.state import book_holds, nothing_half_written, rows, running_in

SITES = ("ash", "elm", "oak", "yew")
WAIT_S, LOOK_S = 240.0, 0.05

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds child processes in /proc")


@pytest.fixture
def words(walked: Walked, tmp_path: Path) -> tuple[list[object], Path]:
    """The roll-out's words, and a state folder of its own."""
    state = tmp_path / "state"
    shutil.copytree(walked.state, state)
    for place, name in enumerate(SITES):
        owner_folder(tmp_path / name, seed=300 + place, records=90)
    lines = ["site,samples,fit", *(f"{name},{name},30" for name in SITES)]
    (tmp_path / "sites.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return ["replicate", walked.scenario, "--all", tmp_path / "sites.csv", "--state", state, "--parallel", "2", "--json"], state


def until(holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline_s, "it never came to be"
        time.sleep(LOOK_S)


def ended_sites(state: Path) -> int:
    return len(rows(state, "catalogue", "SELECT id FROM run WHERE kind = 'site' AND state <> 'running'"))


def node_of(site: str, state: Path) -> int | None:
    """The process of a site's node, once it works on a job."""
    for pid in running_in(state):
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if f"/nodes/{site} " in line and rows(state, "catalogue", "SELECT id FROM run WHERE kind = 'site' AND state = 'running'"):
            return pid
    return None


def test_a_roll_out_that_is_killed_goes_on_and_a_killed_node_holds_up_only_itself(words: tuple[list[object], Path]) -> None:
    line, state = words
    with subprocess.Popen(arguments_of(*line), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment()) as command:
        until(lambda: ended_sites(state) >= 1)
        os.kill(command.pid, signal.SIGKILL)
    before = ended_sites(state)
    until(lambda: running_in(state) == [])
    kept = dict(rows(state, "catalogue", "SELECT id, result FROM run WHERE kind = 'site' AND state = 'certified'"))

    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(arguments_of(*line), text=True, env=environment(), **pipes) as command:  # type: ignore[call-overload]
        until(lambda: node_of(SITES[-1], state) is not None)
        os.kill(node_of(SITES[-1], state) or 0, signal.SIGKILL)
        out, _ = command.communicate(timeout=WAIT_S)
    assert f'"site": "{SITES[-1]}", "state": "failed"' in out and "was killed" in out
    assert out.count('"state": "failed"') == 1, "the others went on"

    last = isthmus(*line)
    found = {one["site"]: one for one in last.document["sites"]}
    assert list(found) == list(SITES), "in the order of the file"
    assert all(one["state"] in ("certified", "refused") and one["plan"]["proof"] == 60 for one in found.values()), last.out
    assert before >= 1 and running_in(state) == []
    again = dict(rows(state, "catalogue", "SELECT id, result FROM run WHERE kind = 'site' AND state = 'certified'"))
    assert kept.items() <= again.items(), "what was finished is kept"
    nothing_half_written(state)
    book_holds(state)
