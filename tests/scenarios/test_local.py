"""Processes of one machine: started, watched, stopped; and what waiting for them says."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from isthmus.client.http import ExchangeClient
from isthmus.contracts.errors import ExchangeStateError, JobFailedError, StorageError
from isthmus.kit.clock import SetClock
from isthmus.sandbox.nodehome import open_home
from isthmus.scenarios import local
from isthmus.scenarios.local import LocalFleet, Terms, agree, ended_run, prepare_owner, wait_for_nodes
from tests.sandbox.world import write_folder


class Scripted(LocalFleet):
    """A fleet whose processes run a line of Python instead."""

    code = "import sys; sys.stdin.read()"

    def _spawn(self, name: str, arguments: list[str], capture: bool = False) -> subprocess.Popen[str]:
        with (self.logs / f"{name}.log").open("a", encoding="utf-8") as log:
            child = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", self.code],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if capture else subprocess.DEVNULL,
                stderr=log,
                text=True,
            )
        self.children[name] = child
        return child


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Scripted]:
    with Scripted(tmp_path / "logs of ü") as found:
        yield found


def test_leaving_stops_every_process(tmp_path: Path) -> None:
    with Scripted(tmp_path / "logs") as fleet:
        children = [fleet._spawn(name, []) for name in ("exchange", "alba")]
        fleet.check()
        assert all(child.poll() is None for child in children)
    assert all(child.poll() is not None for child in children) and fleet.children == {}


def test_a_process_that_ended_is_named_with_its_last_words(fleet: Scripted) -> None:
    fleet.code = "import sys; sys.stderr.write('first\\nthe folder is gone\\n'); sys.exit(3)"
    fleet._spawn("alba", []).wait(10)
    with pytest.raises(JobFailedError, match=r"alba ended \(3\): the folder is gone"):
        fleet.check()


@pytest.mark.parametrize("said", ["", "no JSON", "[]", '{"url": "x"}'])
def test_an_exchange_that_does_not_start_is_told(fleet: Scripted, said: str) -> None:
    fleet.code = f"import sys; print({said!r}); sys.stderr.write('the port is taken\\n')"
    with pytest.raises(ExchangeStateError, match="did not start"):
        fleet.start_exchange(fleet.logs)


def test_an_exchange_that_dies_before_it_answers_is_told_at_once(fleet: Scripted) -> None:
    fleet.code = f"import sys; print({json.dumps({'url': 'http://127.0.0.1:9', 'public_key': 'ab'})!r}); sys.exit(4)"
    began_s = time.monotonic()
    with pytest.raises(JobFailedError, match=r"exchange ended \(4\)"):
        fleet.start_exchange(fleet.logs)
    assert time.monotonic() - began_s < 10


def test_logs_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError), LocalFleet(tmp_path / "file" / "logs"):
        pass


def operator(answers: Callable[[httpx.Request], Any]) -> ExchangeClient:
    return ExchangeClient("http://exchange", transport=httpx.MockTransport(lambda asked: httpx.Response(200, json=answers(asked))))


def test_nodes_without_agreement_or_without_life_are_named(fleet: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "REGISTER_TIMEOUT_S", -1.0)
    nodes = [{"party": "alba", "alive": True}, {"party": "brio", "alive": False}, {"party": "cora", "alive": True}]
    told = {"/v1/nodes": nodes, "/v1/agreements": [{"owner": "alba"}, {"owner": "brio"}]}
    with pytest.raises(JobFailedError, match=r"did not register: brio, cora \("):
        wait_for_nodes(operator(lambda asked: told[asked.url.path]), fleet, {"alba", "brio", "cora"})
    wait_for_nodes(operator(lambda asked: told[asked.url.path]), fleet, {"alba"})


def view(state: str, **more: Any) -> dict[str, Any]:
    return {"id": "run_1", "scenario": "s", "state": state, "step": "moments", "steps": [], **more}


def test_a_run_is_waited_for_and_its_failure_raised(fleet: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "POLL_S", 0.0)
    states = ["running", "running"]
    told: list[tuple[str, int, int]] = []

    def answers(asked: httpx.Request) -> Any:
        if asked.url.path == "/v1/nodes":
            return [{"party": "alba", "alive": True, "seen_ago_s": 0, "phase": "features", "done": 3, "total": 9}]
        return view(states.pop() if states else "certified", result={"n": 1})

    found = ended_run(operator(answers), fleet, view("running"), "build", lambda *given: told.append(given))
    assert found.state == "certified" and found.result == {"n": 1} and told[0] == ("build: moments · features", 3, 9)
    error = {"code": "job-failed", "message": "brio refused", "next": "agree anew"}
    with pytest.raises(JobFailedError, match="brio refused"):
        ended_run(operator(answers), fleet, view("failed", error=error), "build", lambda *given: None)


def test_an_equal_agreement_is_kept_while_it_lasts(tmp_path: Path) -> None:
    clock = SetClock()
    owner = prepare_owner("alba", "Alba Süd", "owner", write_folder(tmp_path / "Daten ü", 1), tmp_path / "node state", "test", sample=True)
    assert owner.records_train + owner.records_holdout == 48 and len(owner.public_key) == 64
    keys = {"alba": owner.public_key, "brio": "b" * 64}
    terms = Terms(purpose="inspect", operations=("moments/1",))
    first = agree(owner, "e" * 64, keys, terms, clock)
    clock.advance(86_400)
    assert agree(owner, "e" * 64, dict(reversed(keys.items())), terms, clock) == first
    assert agree(owner, "e" * 64, keys, Terms(purpose="inspect", operations=("moments/1",), runs_max=9), clock) != first
    clock.advance(16 * 86_400)
    again = agree(owner, "e" * 64, keys, terms, clock)
    assert again != first
    home = open_home(owner.state)
    assert len(home.agreements()) == 3
    home.store.close()
