"""The real service process, with requests in flight: rolled back, retired, and killed at any moment."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isthmus.client.http import ExchangeClient
from isthmus.contracts.errors import RemoteError, UnreachableError
from isthmus.gateway.wire import HEADER_LENGTH, format_request, parse_answer
from isthmus.kit.clock import SetClock
from isthmus.kit.pictures import encode_png
from isthmus.kit.signing import SigningKey
from tests.app.versions import Versions
from tests.app.world import scenario
from tests.journeys.inspection import Ended, arguments_of, environment, isthmus
from tests.journeys.state import document_of

NAME = scenario().id
ROLLBACK_S_MAX = 5.0
CALLERS = 3
KILLS = 3
USER = "test-user"


@dataclass
class Site:
    """A state folder with two certified versions of one deployment. names: versions at the data path, oldest first."""

    state: Path
    names: list[str]
    url: str = ""
    token: str = ""
    child: Any = None
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def command(self, *words: object) -> Ended:
        return isthmus("deployment", *words, "--url", self.url, "--state", self.state, "--json")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    home = tmp_path / "state" / "exchange"
    made = Versions(home, SigningKey.load_or_create(home / "exchange.key"), SetClock(time.time() - 60))
    names = [made.put("run_1", 100_000).version, made.put("run_2", 200_000).version]
    made.close()
    return Site(tmp_path / "state", names)


@contextmanager
def up(site: Site) -> Iterator[Site]:
    """`isthmus up` on the site's state; ended, also when it was killed in between."""
    words = arguments_of("up", "--state", site.state, "--port", "0", "--json")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment()) as child:
        try:
            assert child.stdout is not None
            told = json.loads(child.stdout.readline())
            site.url, site.child = told["url"], child
            site.token = (site.state / "exchange" / "operator.token").read_text(encoding="ascii").strip()
            yield site
        finally:
            child.terminate()
            child.wait(30)


def user_key(site: Site) -> str:
    with ExchangeClient(site.url, site.token) as operator:
        operator.post(f"/v1/accounts/{USER}/credit", {"id": "credit-1", "currency": "EUR", "amount_micros": 10**9, "reason": "test"})
        return str(operator.post("/v1/keys", {"party": USER})["bearer"])


def asked(client: ExchangeClient, number: int) -> tuple[str, str]:
    """(version that answered, receipt id) of one request."""
    rng = np.random.default_rng(number)
    png = encode_png(rng.integers(0, 255, (48, 48, 3), dtype=np.uint8))
    body, header_bytes = format_request([png], request_id=f"request-{number}")
    headers = {"content-type": "application/octet-stream", HEADER_LENGTH: str(header_bytes)}
    response = client.send("POST", f"/v2/models/{NAME}/infer", content=body, headers=headers)
    length = response.headers.get(HEADER_LENGTH)
    answer = parse_answer(response.content, None if length is None else int(length))
    return answer.version, str(answer.parameters["receipt"])


class Traffic:
    """Callers that ask without a pause until told to stop. answered: (when, version, receipt). refused: (when, code)."""

    def __init__(self, site: Site, bearer: str) -> None:
        self._site, self._bearer = site, bearer
        self._stop = threading.Event()
        self.answered: list[tuple[float, str, str]] = []
        self.refused: list[tuple[float, str]] = []

    def __enter__(self) -> Traffic:
        self._pool = ThreadPoolExecutor(CALLERS)
        self._calls = [self._pool.submit(self._ask) for _ in range(CALLERS)]
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._pool.shutdown()
        for call in self._calls:
            call.result()

    def _ask(self) -> None:
        with ExchangeClient(self._site.url, self._bearer) as client:
            while not self._stop.is_set():
                try:
                    version, receipt = asked(client, next(self._site.numbers))
                    self.answered.append((time.monotonic(), version, receipt))
                except (RemoteError, UnreachableError) as error:
                    self.refused.append((time.monotonic(), error.as_dict()["code"]))
                    time.sleep(0.02)

    def wait_for(self, count: int) -> None:
        deadline_s = time.monotonic() + 60
        while len(self.answered) < count:
            assert time.monotonic() < deadline_s and not (self.refused and not self.answered), self.refused
            time.sleep(0.01)


def check_receipts(site: Site, traffic: Traffic) -> None:
    """Each answer has one receipt, which names the version that gave it; nothing is left open."""
    receipts = [receipt for _, _, receipt in traffic.answered]
    assert len(set(receipts)) == len(receipts)
    with ExchangeClient(site.url, site.token) as operator:
        for _, version, receipt in traffic.answered:
            found = operator.get(f"/v1/receipts/{receipt}")["sections"]
            assert found["usage"]["body"]["model"] == f"{NAME}/{version}" and found["outcome"]["body"]["outcome"] == "reported"
        book = operator.get("/v1/book/check")
    assert book["holds"] and book["open_holds"] == 0


def test_rollback_and_retire_under_load(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    with up(site):
        bearer = user_key(site)
        with Traffic(site, bearer) as traffic:
            traffic.wait_for(12)
            began_s = time.monotonic()
            with ExchangeClient(site.url, site.token) as operator:
                order = {"id": "ticket-1", "why": "more false alarms"}
                step = operator.post(f"/v1/deployments/{NAME}/rollback", order)
            seen = len(traffic.answered)
            traffic.wait_for(seen + 12)
        took_s = next(at for at, version, _ in traffic.answered if version == site.names[0]) - began_s
        with capsys.disabled():
            told = f"first answer of the old version after {took_s:.2f} s, {len(traffic.answered)} answers, {len(traffic.refused)} lost"
            sys.stdout.write(f"\nrollback under load: {told}\n")
        assert (step["before"], step["after"]) == (2, 1) and took_s <= ROLLBACK_S_MAX
        assert traffic.refused == [], "no request is lost"
        versions = [version for _, version, _ in traffic.answered]
        assert set(versions) == set(site.names) and set(versions[seen + CALLERS :]) == {site.names[0]}
        check_receipts(site, traffic)
        assert document_of(site.command("rollback", NAME, "--why", "more false alarms", "--id", "ticket-1")) == step
        with Traffic(site, bearer) as traffic:
            traffic.wait_for(5)
            document_of(site.command("retire", NAME, "--why", "the line was sold"))
            ended_s = time.monotonic()
            time.sleep(0.3)
        assert {code for _, code in traffic.refused} == {"deployment-retired"}
        assert all(at <= ended_s + 1.0 for at, _, _ in traffic.answered)
        check_receipts(site, traffic)
        history = document_of(site.command("history", NAME))
        assert [one["action"] for one in history["steps"]] == ["deploy", "deploy", "rollback", "retire"]
        assert history["deployment"]["state"] == "retired" and len(history["deployment"]["versions"]) == 2
        assert engines_of(site.child.pid) == [], "the engines' processes have ended"
    with up(site):  # nothing is loaded now: the engine has to start, which takes what the machine takes
        began_s = time.monotonic()
        document_of(site.command("rollback", NAME, "--why", "it was not sold", "--id", "ticket-2"))
        with ExchangeClient(site.url, bearer) as client:
            assert asked(client, next(site.numbers))[0] == site.names[0]
        took_s = time.monotonic() - began_s
        with capsys.disabled():
            sys.stdout.write(f"taken back from nothing loaded, command line and first answer: {took_s:.2f} s\n")


def engines_of(parent: int) -> list[int]:
    """Worker processes of engines below a process: those that multiprocessing spawned, its resource tracker apart."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                stat, words = (entry / "stat").read_text(), (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if int(stat.rpartition(")")[2].split()[1]) == parent and b"spawn_main" in words:
                found.append(int(entry.name))
    return found


def shot(site: Site, number: int, target: int, after_s: float) -> None:
    """Orders a rollback and kills the exchange a moment later."""

    def order() -> None:
        with ExchangeClient(site.url, site.token) as operator, contextlib.suppress(UnreachableError, RemoteError):
            operator.post(f"/v1/deployments/{NAME}/rollback", {"id": f"o{number}", "why": "x", "to": target})

    asking = threading.Thread(target=order)
    asking.start()
    time.sleep(after_s)
    os.kill(site.child.pid, signal.SIGKILL)
    asking.join()


def check_after(site: Site, bearer: str, number: int, before: int, target: int) -> None:
    """After a kill: one of the two versions serves, the book holds, and the same order finishes what was begun."""
    with ExchangeClient(site.url, site.token) as operator:
        found = operator.get(f"/v1/deployments/{NAME}")["deployment"]
        assert operator.get("/v1/book/check")["holds"]
        assert found["current"] in (before, target) and found["ready"], found
        with ExchangeClient(site.url, bearer) as client:
            assert asked(client, next(site.numbers))[0] == site.names[found["current"] - 1]
        again = operator.post(f"/v1/deployments/{NAME}/rollback", {"id": f"o{number}", "why": "x", "to": target})
    assert again["after"] == target


def test_killed_at_any_moment_it_is_before_or_after(site: Site) -> None:
    chance = random.Random(11)
    bearer, before, target = "", 1, 2
    for kill in range(KILLS + 1):
        with up(site):
            bearer = bearer or user_key(site)
            if kill:
                check_after(site, bearer, kill, before, target)
            if kill == KILLS:
                history = document_of(site.command("history", NAME))
                break
            before, target = target, before
            shot(site, kill + 1, target, chance.uniform(0.0, 0.02) if kill % 2 else chance.uniform(0.02, 0.2))
    assert [one["action"] for one in history["steps"]] == ["deploy", "deploy"] + ["rollback"] * KILLS
