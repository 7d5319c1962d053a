"""Between a node and the exchange stands a proxy that fails: refuses, hangs half-open, cuts answers, answers drop by drop or like a portal.
The node goes on by itself when the line is good again, and nothing is sent twice in two ways."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from isthmus.contracts.errors import UnreachableError
from isthmus.kit.clock import SystemClock
from isthmus.sandbox import uplink as lines
from isthmus.sandbox.outlog import verify_log
from isthmus.sandbox.uplink import HttpUplink
from tests.sandbox.test_http import Server, create, wait_for
from tests.sandbox.world import World

FAULTS = ("refuse", "hang", "cut", "portal", "drip", "late")
PORTAL = b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 13\r\nconnection: close\r\n\r\n<html></html>"
HUGE = b"HTTP/1.1 200 OK\r\ncontent-length: 999999999\r\n\r\n"
SHORT_S = 0.4


class FaultyProxy:
    """Forwards each connection to the exchange, or fails it in the present mode. mode: one of FAULTS, or good."""

    def __init__(self, port: int) -> None:
        self._port, self.mode, self.connections = port, "good", 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        mode = self.mode
        with contextlib.suppress(OSError):
            if mode == "refuse":
                client.close()
            elif mode == "portal":
                client.recv(65536)
                client.sendall(PORTAL)
                client.close()
            elif mode in ("good", "cut", "drip", "late"):
                self._forward(client, mode)

    def _forward(self, client: socket.socket, mode: str) -> None:
        server = socket.create_connection(("127.0.0.1", self._port))
        self._open.append(server)
        threading.Thread(target=self._pump, args=(client, server), daemon=True).start()
        if mode == "late":
            time.sleep(SHORT_S * 3)
        while raw := server.recv(65536):
            if mode == "cut":
                client.sendall(raw[: len(raw) // 2])
                break
            for place in range(0, len(raw), 8 if mode == "drip" else len(raw)):
                client.sendall(raw[place : place + (8 if mode == "drip" else len(raw))])
                time.sleep(0.05 if mode == "drip" else 0)
        client.close()
        server.close()

    def _pump(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while raw := client.recv(65536):
                server.sendall(raw)
            server.close()

    def close_all(self) -> None:
        """Pulls every open connection."""
        for one in self._open:
            with contextlib.suppress(OSError):
                one.close()
        self._open.clear()

    def close(self) -> None:
        self._listener.close()
        self.close_all()


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[World, Server, FaultyProxy]]:
    monkeypatch.setattr(lines, "ANSWER_TIMEOUT_S", SHORT_S)
    world = World(tmp_path, clock=SystemClock())  # type: ignore[arg-type]
    world.add("alfa", "bravo", "carol")
    server = Server(world)
    proxy = FaultyProxy(int(server.url.rsplit(":", 1)[1]))
    yield world, server, proxy
    proxy.close()
    server.close()


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_an_exchange_that_is_away(plant: tuple[World, Server, FaultyProxy], fault: str) -> None:
    world, _, proxy = plant
    uplink = HttpUplink(proxy.url, "alfa", world.owners["alfa"].home.key, SystemClock())
    proxy.mode, began_s = fault, time.monotonic()
    with pytest.raises(UnreachableError) as caught:
        uplink.post("/v1/parties", b'{"no":"party"}', "application/json")
    assert time.monotonic() - began_s < 4 * SHORT_S + 1 and proxy.url in caught.value.message and caught.value.next_step
    uplink.close()


def test_an_answer_without_end_is_cut(plant: tuple[World, Server, FaultyProxy], monkeypatch: pytest.MonkeyPatch) -> None:
    world, _, _ = plant
    monkeypatch.setattr(lines, "ANSWER_BYTES_MAX", 100_000)
    listener = socket.create_server(("127.0.0.1", 0))

    def flood() -> None:
        with contextlib.suppress(OSError):
            client, _ = listener.accept()
            client.recv(65536)
            client.sendall(HUGE)
            while True:
                client.sendall(b"x" * 65536)

    threading.Thread(target=flood, daemon=True).start()
    uplink = HttpUplink(f"http://127.0.0.1:{listener.getsockname()[1]}", "alfa", world.owners["alfa"].home.key, SystemClock())
    with pytest.raises(UnreachableError, match="more than 100000 bytes"):
        uplink.tasks(0)
    uplink.close()
    listener.close()


def test_a_job_is_done_over_a_line_that_fails_at_random(plant: tuple[World, Server, FaultyProxy]) -> None:
    world, server, proxy = plant
    for owner in world.owners.values():
        owner.node._register()
        owner.node._uplink = HttpUplink(proxy.url, owner.home.settings.id, owner.home.key, SystemClock())
    stop, rng = threading.Event(), random.Random(5)
    threads = [threading.Thread(target=owner.node.run, args=(stop, 0.1)) for owner in world.owners.values()]
    job = create(world, server)
    for thread in threads:
        thread.start()
    for _ in range(8):
        proxy.mode = rng.choice(FAULTS)
        proxy.close_all()
        time.sleep(rng.uniform(0.05, 0.3))
    proxy.mode = "good"
    proxy.close_all()
    status = wait_for(server, job["id"], "done")
    stop.set()
    for thread in threads:
        thread.join(10)
    for name, owner in world.owners.items():
        assert not any(thread.is_alive() for thread in threads)
        vectors = {entry.sha256 for entry in verify_log(owner.log, owner.home.key.public_hex) if entry.kind == "vector"}
        assert len(vectors) == 1 and status["bytes_received"][name] > 0
        owner.node._uplink.close()  # type: ignore[attr-defined]
    assert proxy.connections > 5
