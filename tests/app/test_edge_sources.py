"""Connectors against real servers on loopback: nothing is lost when either side stops, nothing is counted twice, and a full spool waits."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from amqtt.broker import Broker
from asyncua import Server, ua
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from isthmus.cli.edge.spool import Signals, Spool, commit_signals, read_signals, suffix_of
from isthmus.cli.listener import bound_socket
from isthmus.kit.pictures import encode_png
from tests.app.edge_world import EdgeWorld, picture, run_box

FILES = Path(__file__).parents[2] / "src" / "isthmus" / "cli" / "edge"
PATIENCE_S = 30.0
PASSWORD = "of the tests"


def until(holds: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.02)


def free_port() -> int:
    with bound_socket("127.0.0.1", 0) as found:
        return int(found.getsockname()[1])


class Loop:
    """An event loop in a thread, for servers that want one."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def run(self, call: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(call, self.loop).result(PATIENCE_S)

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(PATIENCE_S)


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    found = Loop()
    yield found
    found.stop()


@contextmanager
def running(name: str, *words: object) -> Iterator[subprocess.Popen[str]]:
    """One connector as a process of its own; killed at the end, as a power cut would."""
    child = subprocess.Popen([sys.executable, str(FILES / name), *map(str, words)], stderr=subprocess.PIPE, text=True)
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def shown(spool: Path) -> set[str]:
    return {path.name for path in spool.glob("*") if path.name[0] != "." and path.suffix == ".png"}


def names(first: int, last: int) -> set[str]:
    return {Spool.name_of(encode_png(picture(seed))) for seed in range(first, last)}


# MQTT.


@pytest.fixture(scope="module")
def broker(loop: Loop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """(port, file with the password of the user `box`): this broker keeps sessions for named users only."""
    folder, port = tmp_path_factory.mktemp("broker"), free_port()
    (folder / "users").write_text("box:" + PasswordHash((Argon2Hasher(),)).hash(PASSWORD) + "\n", encoding="utf-8")
    (folder / "password").write_text(PASSWORD + "\n", encoding="utf-8")
    plugins = {"amqtt.plugins.authentication.FileAuthPlugin": {"password_file": str(folder / "users")}}

    async def made() -> Broker:
        found = Broker({"listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}}, "plugins": plugins})
        await found.start()
        return found

    server = loop.run(made())
    yield port, folder / "password"
    loop.run(server.shutdown())


def subscribed(child: subprocess.Popen[str]) -> None:
    assert child.stderr is not None
    assert "takes what comes under" in child.stderr.readline()


@contextmanager
def publisher(broker: tuple[int, Path]) -> Iterator[Callable[[str, bytes], None]]:
    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    client.username_pw_set("box", PASSWORD)
    client.connect("127.0.0.1", broker[0])
    client.loop_start()

    def publish(topic: str, raw: bytes) -> None:
        client.publish(topic, raw, qos=1).wait_for_publish(PATIENCE_S)

    try:
        yield publish
    finally:
        client.disconnect()
        client.loop_stop()


def mqtt_words(broker: tuple[int, Path], spool: Path, *more: object) -> list[object]:
    name = spool.parent.name
    return [
        spool,
        "--port",
        broker[0],
        "--topic",
        f"{name}/+",
        "--client-id",
        name,
        "--username",
        "box",
        "--password-file",
        broker[1],
        *more,
    ]


def test_pictures_that_come_while_it_is_killed_are_there_afterwards(broker: tuple[int, Path], tmp_path: Path) -> None:
    spool, topic = tmp_path / "spool", f"{tmp_path.name}/camera"
    words = mqtt_words(broker, spool)
    with publisher(broker) as publish:
        with running("mqtt.py", *words) as child:
            subscribed(child)
            for seed in range(5):
                publish(topic, encode_png(picture(seed)))
            until(lambda: shown(spool) == names(0, 5), f"got {len(shown(spool))}")
        for seed in range(5, 12):
            publish(topic, encode_png(picture(seed)))
        assert shown(spool) == names(0, 5)
        with running("mqtt.py", *words):
            until(lambda: shown(spool) == names(0, 12), f"got {len(shown(spool))}")
            publish(topic, b"no picture")
            publish(topic, encode_png(picture(12)))
            until(lambda: shown(spool) == names(0, 13), "what is no picture held up the rest")
            assert len(list(spool.glob("*.unknown"))) == 1


@pytest.mark.parametrize("held_mb", [0, 128])
def test_while_the_spool_is_full_the_broker_waits(broker: tuple[int, Path], tmp_path: Path, held_mb: int) -> None:
    spool, topic = tmp_path / "spool", f"{tmp_path.name}/camera"
    with publisher(broker) as publish, running("mqtt.py", *mqtt_words(broker, spool, "--limit", 3, "--held-mb", held_mb)) as child:
        subscribed(child)
        for seed in range(40):
            publish(topic, encode_png(picture(seed)))
        until(lambda: len(shown(spool)) == 3, "the first did not come")
        time.sleep(1.0)
        assert len(shown(spool)) == 3
        taken: set[str] = set()

        def emptied() -> bool:
            for name in shown(spool):
                taken.add(name)
                (spool / name).unlink()
            return taken == names(0, 40)

        until(emptied, f"got {len(taken)} of 40")


def test_a_broker_that_is_not_there_yet_is_called_again_and_one_that_refuses_is_told(broker: tuple[int, Path], tmp_path: Path) -> None:
    with running("mqtt.py", *mqtt_words((free_port(), broker[1]), tmp_path / "spool")) as child:
        assert child.stderr is not None and "again in 0.5 s" in child.stderr.readline() and child.poll() is None
    (tmp_path / "wrong").write_text("another", encoding="utf-8")
    with running("mqtt.py", *mqtt_words((broker[0], tmp_path / "wrong"), tmp_path / "spool")) as child:
        assert child.wait(PATIENCE_S) == 1 and child.stderr is not None and "refused: the broker said" in child.stderr.read()


def test_from_the_broker_to_a_verdict(broker: tuple[int, Path], tmp_path: Path) -> None:
    world = EdgeWorld(tmp_path / "state")
    _, folder = world.folder(tmp_path / "box")
    spool = tmp_path / "spool"
    topic = f"{tmp_path.name}/camera"
    with running(str(folder / "mqtt.py"), *mqtt_words(broker, spool)) as child, publisher(broker) as publish:
        subscribed(child)
        for seed in range(3):
            publish(topic, encode_png(picture(seed)))
        until(lambda: shown(spool) == names(0, 3), "not all came")
    done = run_box(folder, spool, "--remove")
    assert done.returncode == 0 and {json.loads(line)["name"] for line in done.stdout.splitlines()} == names(0, 3), done.stderr
    assert shown(spool) == set()
    world.close()


# OPC UA.


class Site:
    """An OPC UA server on loopback."""

    def __init__(self, loop: Loop, port: int | None = None) -> None:
        self.loop, self.port = loop, port or free_port()
        self.url = f"opc.tcp://127.0.0.1:{self.port}/"
        loop.run(self._start())

    async def _start(self) -> None:
        self.server = Server()
        await self.server.init()
        self.server.set_endpoint(self.url)
        self.space = await self.server.register_namespace("urn:test")
        await self.server.start()

    def stop(self) -> None:
        self.loop.run(self.server.stop())


class Machine:
    """A temperature and a camera on a site. remembers: whether the server keeps their history."""

    def __init__(self, site: Site, name: str, remembers: bool = True) -> None:
        self.site, self.name, self.remembers = site, name, remembers
        self.nodes = [f"ns={site.space};s={name}.{what}" for what in ("Temperature", "Camera")]
        site.loop.run(self._start())

    async def _start(self) -> None:
        space, server = self.site.space, self.site.server
        room = await server.nodes.objects.add_object(space, self.name)
        self.temperature = await room.add_variable(ua.NodeId(f"{self.name}.Temperature", space), "Temperature", -1.0)
        self.camera = await room.add_variable(ua.NodeId(f"{self.name}.Camera", space), "Camera", b"", ua.VariantType.ByteString)
        for node in (self.temperature, self.camera) if self.remembers else ():
            await server.historize_node_data_change(node, period=None, count=10_000)

    def set(self, value: float) -> None:
        self.site.loop.run(self.temperature.write_value(value))

    def show(self, raw: bytes) -> None:
        self.site.loop.run(self.camera.write_value(raw, ua.VariantType.ByteString))


@pytest.fixture(scope="module")
def site(loop: Loop) -> Iterator[Site]:
    found = Site(loop)
    yield found
    found.stop()


@pytest.fixture
def machine(site: Site, tmp_path: Path) -> Machine:
    return Machine(site, tmp_path.name)


def opcua_words(machine: Machine, spool: Path, *more: object) -> list[object]:
    nodes = [word for node in machine.nodes for word in ("--node", node)]
    return [spool, "--server", machine.site.url, "--period-ms", 20, *nodes, *more]


def kept(spool: Path) -> list[dict[str, Any]]:
    path = spool / "signals.jsonl"
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]] if path.exists() else []


def values(spool: Path) -> list[float]:
    return [line["value"] for line in kept(spool) if "Temperature" in line["source"] and "value" in line]


def test_values_that_came_while_it_was_killed_are_read_from_the_history(machine: Machine, tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    with running("opcua.py", *opcua_words(machine, spool)):
        until(lambda: values(spool) == [-1.0], "the first value did not come")
        for value in range(5):
            machine.set(float(value))
        machine.show(encode_png(picture(1)))
        until(lambda: values(spool) == [-1.0, *map(float, range(5))] and shown(spool) == names(1, 2), f"{values(spool)}")
    for value in range(5, 40):
        machine.set(float(value))
    for seed in range(2, 6):
        machine.show(encode_png(picture(seed)))
    with running("opcua.py", *opcua_words(machine, spool)):
        machine.set(40.0)
        until(lambda: values(spool) == [-1.0, *map(float, range(41))] and shown(spool) == names(1, 6), f"{values(spool)}")
    assert not [line for line in kept(spool) if "gap" in line]


def test_while_there_is_no_room_it_waits_and_loses_nothing(machine: Machine, tmp_path: Path) -> None:
    spool, read = tmp_path / "spool", list[float]()
    with running("opcua.py", *opcua_words(machine, spool, "--lines", 10)):
        until(lambda: len(kept(spool)) >= 2, "it did not start")
        for value in range(60):
            machine.set(float(value))
        time.sleep(1.0)
        assert len(kept(spool)) < 40, "it took what had no room"

        def drained() -> bool:
            lines, offset = read_signals(spool, 4)
            read.extend(line["value"] for line in lines if "Temperature" in line["source"])
            commit_signals(spool, offset)
            return read[-1:] == [59.0]

        until(drained, f"{read}")
    assert read == [-1.0, *map(float, range(60))]


def test_a_server_without_a_history_leaves_a_gap_that_is_said(site: Site, tmp_path: Path) -> None:
    machine, spool = Machine(site, tmp_path.name, remembers=False), tmp_path / "spool"
    with running("opcua.py", *opcua_words(machine, spool)):
        machine.set(1.0)
        until(lambda: 1.0 in values(spool), "it did not start")
    machine.set(2.0)
    machine.set(3.0)
    with running("opcua.py", *opcua_words(machine, spool)):
        until(lambda: values(spool)[-1:] == [3.0], f"{values(spool)}")
    assert 2.0 not in values(spool) and any("Temperature" in line["source"] for line in kept(spool) if "gap" in line)


def test_a_server_that_went_away_is_called_again(loop: Loop, tmp_path: Path) -> None:
    first, spool = Site(loop), tmp_path / "spool"
    with running("opcua.py", *opcua_words(Machine(first, "m"), spool)) as child:
        until(lambda: values(spool) == [-1.0], "it did not start")
        first.stop()
        second = Site(loop, first.port)
        Machine(second, "m").set(7.0)
        until(lambda: 7.0 in values(spool), f"{values(spool)}")
        assert child.poll() is None
        second.stop()


# The spool itself.


def test_a_picture_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", limit=2)
    raw = encode_png(picture(1))
    assert spool.put(raw) == spool.put(raw) and shown(tmp_path / "spool") == {Spool.name_of(raw)}
    (tmp_path / "spool" / ".x.png.part").write_bytes(raw[:9])
    assert spool.room() == 1
    spool.put(b"no picture")
    assert spool.room() == 1
    spool.put(encode_png(picture(2)))
    assert spool.room() == 0


@pytest.mark.parametrize(
    ("begin", "suffix"), [(b"\xff\xd8\xff\xe0", ".jpg"), (b"\x93NUMPY", ".npy"), (b"P6 ", ".ppm"), (b"{}", ".unknown")]
)
def test_a_picture_is_named_by_what_it_is(begin: bytes, suffix: str) -> None:
    assert suffix_of(begin) == suffix


def said(at: int, value: float) -> dict[str, Any]:
    return {"source": "a", "at": f"2027-01-01T00:00:{at:02d}", "value": value}


def test_signals_come_again_until_they_are_committed(tmp_path: Path) -> None:
    signals = Signals(tmp_path, limit=5)
    assert signals.add([said(at, at) for at in range(4)]) == 4 and signals.add([said(2, 9)]) == 0 and signals.room() == 1
    first, offset = read_signals(tmp_path, 3)
    assert read_signals(tmp_path, 3) == (first, offset) and [line["value"] for line in first] == [0, 1, 2]
    commit_signals(tmp_path, offset)
    assert signals.room() == 4
    with (tmp_path / "signals.jsonl").open("ab") as file:
        file.write(b'{"source": "a", "at"')
    assert [line["value"] for line in read_signals(tmp_path, 9)[0]] == [3], "a line that is being written is not read"
    again = Signals(tmp_path, limit=5)
    assert again.room() == 4 and again.add([said(3, 3), said(5, 5)]) == 1
    assert [line["value"] for line in read_signals(tmp_path, 9)[0]] == [3, 5]
