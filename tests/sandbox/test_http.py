"""Real exchange routes over loopback, real node processes: signatures, long polls, kill -9."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
import uvicorn
from starlette.applications import Starlette

from isthmus.app.sandbox_routes import sandbox_routes
from isthmus.contracts.errors import ConflictError, InputError, JobClosedError, SignatureError, UnreachableError
from isthmus.contracts.head import Array
from isthmus.contracts.sums import moments_from
from isthmus.kit.canonical import canonical_bytes
from isthmus.kit.clock import SystemClock
from isthmus.kit.signing import SigningKey
from isthmus.sandbox.outlog import verify_log
from isthmus.sandbox.requestsign import HEADER, signature_header
from isthmus.sandbox.uplink import HttpUplink
from tests.sandbox.world import D, World

OPERATOR = {"authorization": "Bearer sesame"}


class Server:
    def __init__(self, world: World) -> None:
        app = Starlette(routes=sandbox_routes(world.service, lambda token: token == "sesame"))
        self.server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", lifespan="off"))
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        self.url = f"http://127.0.0.1:{self.server.servers[0].sockets[0].getsockname()[1]}"
        self.client = httpx.Client(base_url=self.url, trust_env=False, timeout=30)

    def call(self, method: str, path: str, **given: Any) -> tuple[int, Any]:
        answer = self.client.request(method, path, **given)
        return answer.status_code, answer.json()

    def close(self) -> None:
        self.client.close()
        self.server.should_exit = True
        self.thread.join(10)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[World, Server]]:
    world = World(tmp_path, clock=SystemClock())  # type: ignore[arg-type]
    world.add("alfa", "bravo", "carol")
    server = Server(world)
    yield world, server
    server.close()


def spawn(world: World, server: Server, name: str, delay_s: float = 0.0) -> subprocess.Popen[bytes]:
    state = world.root / name / "state"
    return subprocess.Popen([sys.executable, "-m", "tests.sandbox.tiny_node", str(state), server.url, str(delay_s)])


def wait_for(server: Server, job: str, phase: str, timeout_s: float = 40) -> dict[str, Any]:
    end_s = time.monotonic() + timeout_s
    status: dict[str, Any] = {}
    while time.monotonic() < end_s:
        _, status = server.call("GET", f"/v1/jobs/{job}", params={"wait_s": "2"}, headers=OPERATOR)
        if status["phase"] in (phase, "failed"):
            break
    assert status["phase"] == phase, status
    return status


def create(world: World, server: Server, **changes: Any) -> dict[str, Any]:
    code, status = server.call("POST", "/v1/jobs", content=msgspec.json.encode(world.request(**changes)), headers=OPERATOR)
    assert code == 200, status
    found: dict[str, Any] = status
    return found


def test_three_processes_one_killed_in_the_middle(served: tuple[World, Server]) -> None:
    world, server = served
    for owner in world.owners.values():
        owner.node._register()
    processes = {"alfa": spawn(world, server, "alfa", 0.3), "bravo": spawn(world, server, "bravo"), "carol": spawn(world, server, "carol")}
    try:
        job = create(world, server)
        wait_for(server, job["id"], "compute")
        time.sleep(0.5)
        processes["alfa"].send_signal(signal.SIGKILL)
        processes["alfa"].wait()
        processes["alfa"] = spawn(world, server, "alfa")
        status = wait_for(server, job["id"], "done")
        total = moments_from(msgspec.convert(status["total"], Array).array(), D)
        assert total.records == sum(o.home.asset.records_train for o in world.owners.values())
        assert server.call("GET", "/v1/nodes", headers=OPERATOR)[1][0]["alive"]
        again = create(world, server)
        assert again["phase"] == "done" and again["total_digest"] == status["total_digest"]
    finally:
        for process in processes.values():
            process.kill()
            process.wait()
    for name, owner in world.owners.items():
        entries = verify_log(owner.log, owner.home.key.public_hex)
        vectors = [e for e in entries if e.kind == "vector"]
        assert len({e.sha256 for e in vectors}) == 1 and vectors[0].bytes == status["bytes_received"][name]
    assert np.array_equal(total.gram, total.gram.T)


def test_one_party_cannot_speak_for_another(served: tuple[World, Server]) -> None:
    world, server = served
    clock = SystemClock()
    for owner in world.owners.values():
        owner.node._register()
    job = create(world, server)
    alfa, bravo = world.owners["alfa"].home.key, world.owners["bravo"].home.key
    target = "/v1/nodes/alfa/tasks?wait_s=0"
    now_s = clock.now_s()

    def get(header: str | None) -> tuple[int, Any]:
        return server.call("GET", target, headers={HEADER: header} if header else {})

    assert get(signature_header(alfa, "alfa", "GET", target, b"", now_s))[1][0]["phase"] == "countersign"
    for bad in (
        None,
        "alfa",
        "alfa 12 zz",
        "nobody 12 00",
        signature_header(bravo, "alfa", "GET", target, b"", now_s),
        signature_header(bravo, "bravo", "GET", target, b"", now_s),
        signature_header(alfa, "alfa", "GET", "/v1/nodes/alfa/tasks?wait_s=1", b"", now_s),
        signature_header(alfa, "alfa", "POST", target, b"", now_s),
        signature_header(alfa, "alfa", "GET", target, b"x", now_s),
        signature_header(alfa, "alfa", "GET", target, b"", now_s - 301),
    ):
        code, error = get(bad)
        assert (code, error["code"]) == (403, "bad-signature") and error["message"] and error["next"]
    uplink = HttpUplink(server.url, "bravo", bravo, clock)
    refusal = canonical_bytes({"party": "alfa", "clause": "x", "message": "x", "next": ""})
    with pytest.raises(SignatureError):
        uplink.post(f"/v1/tasks/{job['id']}/alfa/refusal?job={job['digest']}", refusal, "application/json")
    with pytest.raises(SignatureError):
        uplink.post(f"/v1/tasks/{job['id']}/bravo/refusal?job={job['digest']}", refusal, "application/json")
    with pytest.raises(JobClosedError):
        uplink.post(f"/v1/tasks/{job['id']}/bravo/vector?job=sha256:0", b"", "application/octet-stream")
    with pytest.raises(JobClosedError):
        uplink.post(f"/v1/tasks/job_none/bravo/vector?job={job['digest']}", b"", "application/octet-stream")
    with pytest.raises(InputError):
        uplink.post(f"/v1/tasks/{job['id']}/bravo/gossip?job={job['digest']}", b"{}", "application/json")
    uplink.close()


def test_only_the_operator_asks(served: tuple[World, Server]) -> None:
    world, server = served
    body = msgspec.json.encode(world.request())
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic sesame"}):
        for method, path in (
            ("POST", "/v1/jobs"),
            ("GET", "/v1/jobs/x"),
            ("GET", "/v1/parties"),
            ("GET", "/v1/nodes"),
            ("GET", "/v1/assets"),
        ):
            assert server.call(method, path, headers=headers, content=body if method == "POST" else b"")[0] == 403
    assert server.call("GET", "/v1/jobs/x", headers=OPERATOR) == (
        404,
        {"code": "not-found", "message": "there is no job x", "next": "check its id"},
    )
    assert server.call("POST", "/v1/jobs", headers=OPERATOR, content=b"{")[0] == 400
    assert server.call("POST", "/v1/parties", content=b"{}")[1]["code"] == "bad-document"
    assert server.call("POST", "/v1/jobs", headers=OPERATOR, content=body)[1]["code"] == "not-found"
    assert server.call("GET", "/v1/exchange")[1] == {"public_key": world.service.public_key}


def test_refusals_come_to_the_operator(served: tuple[World, Server]) -> None:
    world, server = served
    uplinks = []
    for name, owner in world.owners.items():
        uplink = HttpUplink(server.url, name, owner.home.key, SystemClock())
        owner.node._uplink = uplink
        uplinks.append(uplink)
        owner.node._register()
    job = create(world, server, stage=msgspec.structs.replace(world.request().stage, dimension=50))
    world.owners["bravo"].node.step(0)
    status = wait_for(server, job["id"], "failed")
    assert status["refusals"][0]["party"] == "bravo" and status["refusals"][0]["clause"] == "dimension"
    assert "bravo refused (dimension)" in status["reason"] and status["missing"] == []
    for uplink in uplinks:
        uplink.close()


def test_exchange_that_is_away_is_waited_for(tmp_path: Path) -> None:
    uplink = HttpUplink("http://127.0.0.1:9", "alfa", SigningKey.generate(), SystemClock())
    with pytest.raises(UnreachableError):
        uplink.tasks(0)
    world = World(tmp_path)
    world.add("alfa", "bravo", "carol")
    owner = world.owners["alfa"]
    owner.node._uplink = uplink
    stop = threading.Event()
    thread = threading.Thread(target=owner.node.run, args=(stop, 0.1))
    thread.start()
    time.sleep(0.5)
    stop.set()
    thread.join(10)
    away = [fields for event, fields in owner.events if event == "exchange-away"]
    assert len(away) >= 1 and not thread.is_alive()
    assert not owner.log.exists(), "nothing left, so nothing is in the log"
    uplink.close()


def test_http_conflict_is_told_apart(served: tuple[World, Server]) -> None:
    world, server = served
    for owner in world.owners.values():
        owner.node._register()
    stranger = SigningKey.generate()
    from isthmus.contracts.party import PARTY_TYPE
    from isthmus.kit.signing import seal

    taken = seal(stranger, PARTY_TYPE, msgspec.structs.replace(world.owners["alfa"].home.party, public_key=stranger.public_hex))
    with pytest.raises(ConflictError):
        HttpUplink(server.url, "alfa", stranger, SystemClock()).post("/v1/parties", canonical_bytes(taken), "application/json")
