"""Three owners and the exchange as separate hosts, each in a network namespace of its own; a cable is pulled in the middle."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.hosts import Host, hosts, why_not
from tests.journeys.inspection import OPERATIONS, OWNERS, PURPOSE, SCENARIO, three_owners
from tests.journeys.state import artefacts, book_holds, document_of, nothing_half_written, rows

PORT = 8470
TTL_SHORT_S = 10
CUT_S = 3.0
STEP_WAIT_S = 120.0
END_WAIT_S = 180.0


def until(condition: Callable[[], Any], what: str, wait_s: float, look_s: float = 0.05) -> Any:
    """The first truth of a condition."""
    deadline_s = time.monotonic() + wait_s
    while not (found := condition()):
        assert time.monotonic() < deadline_s, f"not within {wait_s:g} s: {what}"
        time.sleep(look_s)
    return found


class Plant:
    """The hosts with what runs on them."""

    def __init__(self, root: Path, found: dict[str, Host], stack: ExitStack) -> None:
        self.root, self.hosts, self.stack = root, found, stack
        self.exchange = found["exchange"]
        self.state = root / "exchange-host"
        self.url = f"https://{self.exchange.address}:{PORT}"
        self.address = ""
        self.token = ""

    def _log(self, name: str) -> Any:
        return self.stack.enter_context((self.root / f"{name}.log").open("a", encoding="utf-8"))

    def node_state(self, party: str) -> Path:
        return self.root / f"{party}-host"

    def start_exchange(self, **extra: str) -> None:
        words = ("up", "--state", self.state, "--host", self.exchange.address, "--port", PORT, "--tls", "--json")
        child = self.exchange.start(self._log("exchange"), *words, **extra)
        assert child.stdout is not None
        self.address = json.loads(child.stdout.readline())["url"]
        assert self.address.startswith(f"{self.url}#sha256:")
        self.token = (self.state / "exchange" / "operator.token").read_text(encoding="ascii").strip()

    def join(self, folders: list[Path]) -> None:
        """What each owner does by hand: init, exchange public keys, agree, start."""
        keys = {}
        for party, folder in zip(OWNERS, folders, strict=True):
            words = ("node", "init", folder, "--state", self.node_state(party), "--id", party, "--json")
            keys[party] = document_of(self.hosts[party].run(*words))["public_key"]
        for party in OWNERS:
            others = [word for other, key in keys.items() if other != party for word in ("--participant", f"{other}={key}")]
            operations = [word for name in OPERATIONS for word in ("--operation", name)]
            words = ("node", "agree", "--state", self.node_state(party), "--purpose", PURPOSE, "--exchange", self.address)
            document_of(self.hosts[party].run(*words, *operations, *others, "--allow-own-head", "--json"))
            start = ("node", "start", "--state", self.node_state(party), "--exchange", self.address)
            self.hosts[party].start(self._log(party), *start)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        return self.exchange.call(method, self.url + path, self.token, self.state / "exchange" / "tls.crt", body)

    def alive(self, party: str) -> bool:
        """Whether the node has called within the last seconds."""
        return any(node["party"] == party and node["seen_ago_s"] <= 3 for node in self.call("GET", "/v1/nodes"))

    def all_agreed(self) -> bool:
        return {a["owner"] for a in self.call("GET", "/v1/agreements")} >= set(OWNERS) and all(map(self.alive, OWNERS))

    def begin(self, label: str) -> str:
        return str(self.call("POST", "/v1/runs", {"scenario": SCENARIO, "owners": list(OWNERS), "label": label})["id"])

    def at_step(self, run: str, step: str) -> bool:
        found = rows(self.state, "catalogue", f"SELECT step FROM run WHERE id = '{run}'")
        return bool(found) and str(found[0][0]).startswith(step)

    def messages(self, run: str, kind: str) -> int:
        """How many messages of a kind have come for the run's first job."""
        counted = f"SELECT count(*) FROM sandbox_messages JOIN sandbox_jobs ON job = id WHERE run_id = '{run}' AND kind = '{kind}'"
        found = rows(self.state, "sandbox", counted)
        return int(found[0][0]) if found else 0

    def ended(self, run: str) -> dict[str, Any]:
        states = f"SELECT state FROM run WHERE id = '{run}'"
        until(lambda: rows(self.state, "catalogue", states)[0][0] != "running", "the run's end", END_WAIT_S)
        found: dict[str, Any] = self.call("GET", f"/v1/runs/{run}")
        return found

    def logs_verify(self) -> None:
        for party in OWNERS:
            shown = document_of(self.hosts[party].run("node", "log", "--state", self.node_state(party), "--json"))
            assert shown["images_left"] == 0
            assert {entry["to"] for entry in shown["entries"]} == {self.url}


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    reason = why_not()
    if reason and os.environ.get("CI") == "true":
        pytest.fail(f"continuous integration must run the hosts: {reason}")
    if reason:
        pytest.skip(reason)
    root = tmp_path_factory.mktemp("hosts")
    with ExitStack() as stack:
        made = Plant(root, stack.enter_context(hosts("exchange", *OWNERS)), stack)
        made.start_exchange()
        made.join(three_owners(root / "data", 7))
        until(made.all_agreed, "all nodes have called", STEP_WAIT_S, 0.5)
        yield made


def test_a_cable_that_is_pulled_and_put_back_costs_only_time(plant: Plant) -> None:
    run = plant.begin("first")
    until(lambda: plant.messages(run, "countersignature") == len(OWNERS), "all countersignatures", STEP_WAIT_S)
    plant.hosts["birch"].link("down")
    until(lambda: plant.messages(run, "share") == len(OWNERS) - 1, "the others' shares", STEP_WAIT_S)
    time.sleep(CUT_S)
    assert plant.call("GET", f"/v1/runs/{run}")["state"] == "running"
    plant.hosts["birch"].link("up")
    view = plant.ended(run)
    assert view["state"] == "certified", view["error"] or view["result"]["failures"]
    nothing_half_written(plant.state)
    plant.logs_verify()


def test_a_cable_that_stays_out_fails_the_run_plainly_and_another_finishes(plant: Plant) -> None:
    before = artefacts(plant.state)
    plant.exchange.stop()
    plant.start_exchange(ISTHMUS_JOB_TTL_S=str(TTL_SHORT_S))
    until(plant.all_agreed, "all nodes have called again", STEP_WAIT_S, 0.5)
    run = plant.begin("second")
    until(lambda: plant.at_step(run, "fold-out"), "the fold-out sums", STEP_WAIT_S)
    plant.hosts["birch"].link("down")
    began_s = time.monotonic()
    view = plant.ended(run)
    assert view["state"] == "failed", view["state"]
    assert time.monotonic() - began_s < TTL_SHORT_S + 15
    assert view["error"]["code"] == "job-failed"
    assert "birch" in view["error"]["message"]
    assert "alder" not in view["error"]["message"]
    assert view["error"]["next"]
    nothing_half_written(plant.state)
    plant.hosts["birch"].link("up")
    until(lambda: plant.alive("birch"), "birch has called again", STEP_WAIT_S, 0.5)
    assert plant.begin("second") == run
    again = plant.ended(run)
    assert again["state"] == "certified", again["error"]
    assert artefacts(plant.state) == before, "the same data gives the same model, byte for byte"
    nothing_half_written(plant.state)
    plant.logs_verify()
    plant.exchange.stop()
    book_holds(plant.state)
