"""A relay between every node and the exchange records all bytes of whole builds, with records planted that nothing else in the world holds.

No record, picture, file name, group name, digest of a record, single record's features or sums ever passes; all that passes stands in the
node's signed log. A node that leaks one of them is caught by the same checks.
"""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest

from isthmus.app.nodetools import node_tools
from isthmus.contracts.errors import IsthmusError
from isthmus.contracts.logistic import logistic_units
from isthmus.contracts.scenario import Scenario
from isthmus.contracts.statistic import MomentsParams
from isthmus.contracts.sums import Moments
from isthmus.foundry.foldout import moments_of
from isthmus.foundry.stages import stage_of
from isthmus.kit.clock import SystemClock
from isthmus.kit.logits import logistic_sums
from isthmus.kit.pictures import decode, encode_png
from isthmus.sandbox.node import Identity, Node
from isthmus.sandbox.nodehome import open_home
from isthmus.sandbox.outlog import LOG_NAME, LogEntry, OutLog, undeclared, verify_log
from isthmus.sandbox.uplink import HttpUplink
from tests.journeys.inspection import OWNERS, SCENARIO, SIDE_PIXELS, arguments_of, environment, owner_folder, spoken
from tests.journeys.recorder import Asked, Forbidden, Recorder, beyond_the_protocol, block_tokens, hash_tokens, requests_in, unaccounted
from tests.journeys.state import exchange_up
from tests.journeys.test_tables import TABLE, table_folder

RECORDS = 60
END_WAIT_S = 120.0
BLOCK_PIXELS = 20
CANARY = "canary-7f3a9c51"
NUMBER = "41.7391826504"
IMAGE: dict[str, Any] = {
    **SCENARIO,
    "recipe": {**SCENARIO["recipe"], "parts": ["defects/max", "texture/8"], "views": ["identity"], "lambdas": [0.1, 1.0]},
    "certify": {**SCENARIO["certify"], "families": [], "severities": [], "promises_ppm": [300_000], "groups_min": 4},
}
ROWS: dict[str, Any] = {
    **SCENARIO,
    **TABLE,
    "recipe": {**TABLE["recipe"], "head": "logistic", "lambdas": [0.03, 0.3]},
    "certify": {**TABLE["certify"], "families": [], "severities": [], "promises_ppm": [300_000]},
}


def planted_images(root: Path, place: int) -> Path:
    """An owner's folder with pictures that carry a block of pixels found nowhere else, under names found nowhere else."""
    folder = owner_folder(root, 40 + place, RECORDS)
    rng = np.random.default_rng(900 + place)
    lines = (folder / "labels.csv").read_text(encoding="utf-8").splitlines()
    for record in range(3):
        pixels = rng.integers(0, 256, (SIDE_PIXELS, SIDE_PIXELS, 3), dtype=np.uint8)
        name = f"{CANARY}-{root.name}-{record}.png"
        (folder / name).write_bytes(encode_png(pixels))
        lines.append(f"{name},defect,sure,{CANARY}-lot-{place},bright,train")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def planted_rows(root: Path, place: int) -> Path:
    """A table with a number and a group found nowhere else."""
    folder = table_folder(root, place, 150)
    with (folder / "records.csv").open("a", encoding="utf-8") as file:
        file.write(f"{NUMBER}{place},1.25,idle,good,{CANARY}-day-{place},train\n")
    return folder


@dataclass(frozen=True)
class Recorded:
    """A build that ended, and what passed. relays, homes: by party."""

    url: str
    token: str
    view: dict[str, Any]
    relays: dict[str, Recorder]
    homes: dict[str, Path]

    def asked(self, party: str) -> list[Asked]:
        return [one for link in self.relays[party].links for one in requests_in(bytes(link.up))]

    def log(self, party: str) -> list[LogEntry]:
        return verify_log(self.homes[party] / LOG_NAME, open_key(self.homes[party]))


def open_key(state: Path) -> str:
    home = open_home(state)
    home.store.close()
    return home.key.public_hex


def joined(stack: ExitStack, root: Path, url: str, folders: dict[str, Path], purpose: str) -> tuple[dict[str, Recorder], dict[str, Path]]:
    """What each owner does by hand, with a relay in the place of the exchange's address."""
    homes = {party: root / "nodes" / party for party in folders}
    keys = {p: spoken("node", "init", f, "--state", homes[p], "--id", p, "--json").document["public_key"] for p, f in folders.items()}
    relays = {party: Recorder(int(url.rsplit(":", 1)[1])) for party in folders}
    for party, home in homes.items():
        others = [word for other, key in keys.items() if other != party for word in ("--participant", f"{other}={key}")]
        words = ("--purpose", purpose, "--exchange", url, "--allow-own-head", "--logistic", *others)
        assert spoken("node", "agree", "--state", home, *words, "--json").code == 0
        log = stack.enter_context((root / f"{party}.log").open("w", encoding="utf-8"))
        start = arguments_of("node", "start", "--state", home, "--exchange", relays[party].url)
        child = subprocess.Popen(start, stderr=log, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL, env=environment())
        stack.callback(child.wait, 30)
        stack.callback(child.terminate)
        stack.callback(relays[party].close)
    return relays, homes


def recorded(stack: ExitStack, root: Path, scenario: dict[str, Any], folders: dict[str, Path]) -> Recorded:
    url, token = stack.enter_context(exchange_up(root / "state"))
    nodes = stack.enter_context(ExitStack())
    relays, homes = joined(nodes, root, url, folders, scenario["purpose"])
    operator = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, trust_env=False, timeout=30)
    deadline_s = time.monotonic() + END_WAIT_S
    while len(operator.get("/v1/agreements").json()) < len(folders):
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    asked = operator.post("/v1/runs", json={"scenario": scenario, "owners": list(folders), "clean_only": True})
    assert asked.status_code == 200, asked.text
    while (view := operator.get(f"/v1/runs/{asked.json()['id']}").json())["state"] == "running":
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    operator.close()
    nodes.close()
    return Recorded(url, token, view, relays, homes)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    root = tmp_path_factory.mktemp("recorded")
    with ExitStack() as stack:
        yield recorded(stack, root, IMAGE, {p: planted_images(root / "data" / p, place) for place, p in enumerate(OWNERS)})


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    root = tmp_path_factory.mktemp("recorded-rows")
    with ExitStack() as stack:
        yield recorded(stack, root, ROWS, {p: planted_rows(root / "data" / p, place) for place, p in enumerate(OWNERS)})


def single_sums(q: Any, y: Any) -> Iterator[bytes]:
    """What one record alone adds to the sums of moments and of a logistic round at nought, as numbers on the wire would be."""
    one, total = np.ones(1, np.int64), logistic_units(400)
    moments: Moments = moments_of(q[None], one, np.array([y]), one)
    for packed in (moments.packed(), logistic_sums(q[None], one, np.array([y]), np.zeros(len(q) + 1), total).packed()):
        yield from block_tokens(packed[2:].astype("<i8").tobytes(), 32, "")


def forbidden_of(state: Path, scenario: dict[str, Any]) -> dict[bytes, str]:
    """Of one owner: every file's bytes, name, group and digests, pictures' pixels, each record's features and single sums."""
    home = open_home(state)
    tokens: dict[bytes, str] = {}
    for file in home.folder.files:
        raw = b""
        if "#" not in file.path:
            raw = (home.folder.root / file.path).read_bytes()
            tokens |= block_tokens(raw[48:], 16, "bytes of a picture's file")
            for line in decode(raw)[:, 4 : 4 + BLOCK_PIXELS]:
                tokens |= block_tokens(line.tobytes(), 3 * BLOCK_PIXELS, "pixels of a picture")
            tokens[file.path.encode()] = "a file's name"
        digest = bytes.fromhex(home.digests[file.path])
        tokens |= hash_tokens(raw, "a file") if raw else {}
        tokens[digest[:8]] = "a record's sha256"
        tokens |= {file.group.encode(): "a group's name"} if len(file.group) >= 8 else {}
    document = msgspec.convert(scenario, Scenario)
    schema, recipe = document.interface.schema, document.recipe
    stage = stage_of(recipe.backbone, recipe.parts, schema)
    rows = home.owner_data(node_tools()).training(stage, msgspec.convert(msgspec.to_builtins(recipe.training), MomentsParams))
    for q, y in zip(rows.views[0], rows.records.y, strict=True):
        tokens |= block_tokens(q.astype("<i2").tobytes(), 16, "a record's features")
        tokens |= block_tokens(q.astype("<f8").tobytes(), 32, "a record's features")
        tokens |= dict.fromkeys(single_sums(q, y), "what one record adds")
    if schema is not None:
        tokens[NUMBER.encode()] = "a number of a row"
        tokens[np.float64(NUMBER).tobytes()] = "a number of a row"
    home.store.close()
    return tokens


def everything(found: Recorded) -> Iterator[tuple[str, bytes]]:
    """(party, all bytes of one connection one way), both ways."""
    for party, relay in found.relays.items():
        for link in relay.links:
            yield from ((party, bytes(link.up)), (party, bytes(link.down)))


@pytest.mark.parametrize("kind", ["images", "tables"])
def test_nothing_of_any_record_passes_in_a_whole_build(kind: str, request: pytest.FixtureRequest) -> None:
    found: Recorded = request.getfixturevalue(kind)
    scenario = IMAGE if kind == "images" else ROWS
    assert found.view["state"] in ("certified", "refused") and found.view["result"]["jobs"]["evaluate/1"], found.view["error"]
    tokens: dict[bytes, str] = {}
    for owner, home in found.homes.items():
        of_owner = forbidden_of(home, scenario)
        assert len(of_owner) > 200
        tokens |= {token: f"{what} of {owner}" for token, what in of_owner.items()}
    forbidden = Forbidden(tokens)
    for party, raw in everything(found):
        assert forbidden.found_in(raw) == [], party


@pytest.mark.parametrize("kind", ["images", "tables"])
def test_all_that_passes_stands_in_the_owners_signed_log(kind: str, request: pytest.FixtureRequest) -> None:
    found: Recorded = request.getfixturevalue(kind)
    for party in OWNERS:
        asked, entries = found.asked(party), found.log(party)
        assert len(entries) > 8 and unaccounted(asked, entries) == []
        assert sum(len(one.body) for one in asked) == sum(entry.bytes for entry in entries)
        assert beyond_the_protocol(asked, party) == []
        assert undeclared(entries) == []


@dataclass
class LeakyUplink:
    """A node's uplink that lets one more thing out, where a program of somebody else might."""

    inner: HttpUplink
    leak: Callable[[HttpUplink], None]

    @property
    def address(self) -> str:
        return self.inner.address

    def tasks(self, wait_s: float) -> Any:
        self.leak(self.inner)
        return self.inner.tasks(0.0)

    def terms(self) -> Any:
        return self.inner.terms()

    def post(self, path: str, body: bytes, content_type: str) -> None:
        self.inner.post(path, body, content_type)


def status(body: bytes) -> Callable[[HttpUplink], None]:
    """As a status message, which a node sends as it likes."""
    job = f"/v1/tasks/job_{'0' * 32}/alder/status?job=sha256:{'0' * 64}"
    return lambda uplink: uplink.post(
        job, json.dumps({"phase": body.decode("latin-1"), "done": 0, "total": 1}).encode(), "application/json"
    )


def raw_body(body: bytes) -> Callable[[HttpUplink], None]:
    def sent(uplink: HttpUplink) -> None:
        httpx.post(uplink.address + "/v1/parties", content=body, trust_env=False)

    return sent


def in_header(value: str) -> Callable[[HttpUplink], None]:
    def sent(uplink: HttpUplink) -> None:
        httpx.get(uplink.address + "/v1/nodes/alder/tasks?wait_s=0", headers={"x-trace": value}, trust_env=False)

    return sent


def leaks(state: Path) -> dict[str, tuple[Callable[[HttpUplink], None], str]]:
    """name -> (the leak, what the check must call it)."""
    home = open_home(state)
    file = home.folder.files[11]
    raw, digest = (home.folder.root / file.path).read_bytes(), bytes.fromhex(home.digests[file.path])
    pixels = decode(raw)[9, 4 : 4 + BLOCK_PIXELS].tobytes()
    document = msgspec.convert(IMAGE, Scenario)
    stage = stage_of(document.recipe.backbone, document.recipe.parts)
    rows = home.owner_data(node_tools()).training(stage, msgspec.convert(msgspec.to_builtins(document.recipe.training), MomentsParams))
    home.store.close()
    q, y = rows.views[0][3], int(rows.records.y[3])
    one = np.ones(1, np.int64)
    packed = moments_of(q[None], one, np.array([y]), one).packed().astype("<i8").tobytes()
    return {
        "sha256 in hexadecimal": (status(digest.hex().encode()), "a record's sha256"),
        "its first eight bytes": (raw_body(b"x" + digest[:8] + b"y"), "a record's sha256"),
        "sha256 in base64, shifted": (status(base64.b64encode(b"ab" + digest)), "a record's sha256"),
        "sha256 compressed": (raw_body(zlib.compress(digest + bytes(64))), "a record's sha256"),
        "hexadecimal in base64": (status(base64.b64encode(digest.hex().encode())), "a record's sha256"),
        "a file's name in a header": (in_header(home.folder.files[0].path), "a file's name"),
        "a file's name in base64": (status(base64.b64encode(home.folder.files[0].path.encode())), "a file's name"),
        "pixels": (raw_body(pixels), "pixels of a picture"),
        "a part of a file": (raw_body(raw[32:160]), "bytes of a picture's file"),
        "features": (raw_body(q.astype("<i2").tobytes()), "a record's features"),
        "one record's sums": (raw_body(packed), "what one record adds"),
    }


def test_a_node_that_leaks_is_caught_by_the_same_checks(images: Recorded) -> None:
    """And what it sends beside its log does not add up."""
    state = images.homes["alder"]
    forbidden, clock = Forbidden(forbidden_of(state, IMAGE)), SystemClock()
    for name, (leak, said) in leaks(state).items():
        relay, home = Recorder(int(images.url.rsplit(":", 1)[1])), open_home(state)
        inner = HttpUplink(relay.url, "alder", home.key, clock)
        log = OutLog(state.parent / f"{name}.jsonl", home.key, clock)
        identity = Identity("alder", home.key, home.party_envelope, home.asset_envelope)
        node = Node(identity, home.owner_data(node_tools()), home.store, log, LeakyUplink(inner, quiet(leak)), clock)
        node.step(0.0)
        inner.close()
        home.store.close()
        relay.close()
        wrote = [bytes(link.up) for link in relay.links]
        assert said in {what for raw in wrote for what in forbidden.found_in(raw)}, name
        asked = [one for raw in wrote for one in requests_in(raw)]
        entries = verify_log(log.path, home.key.public_hex)
        assert unaccounted(asked, entries) or beyond_the_protocol(asked, "alder"), name


def quiet(leak: Callable[[HttpUplink], None]) -> Callable[[HttpUplink], None]:
    """The leak, whatever the exchange says of it."""

    def sent(uplink: HttpUplink) -> None:
        with contextlib.suppress(IsthmusError):
            leak(uplink)

    return sent
