"""An exchange and owners of small tables as real processes with state folders of their own, which can be killed and started again."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np

from isthmus.client.http import ExchangeClient
from isthmus.contracts.agreement import Agreement
from isthmus.contracts.errors import RemoteError, UnreachableError
from isthmus.contracts.schema import Schema
from isthmus.contracts.statistic import CLUSTERS, EVALUATE, FOLD_OUT, MOMENTS, OWN_HEAD, PAIR
from isthmus.foundry.stages import stage_of
from isthmus.kit.signing import SigningKey
from isthmus.sandbox.nodehome import NodeSettings, init_home, open_home
from tests.journeys.inspection import arguments_of, environment

OWNERS = ("alder", "birch", "cedar")
PURPOSE = "pumps"
OPERATIONS = (MOMENTS, FOLD_OUT, CLUSTERS, EVALUATE, OWN_HEAD, PAIR)
COLUMNS = [
    {"name": "heat", "unit": "degC", "low": 0, "high": 100},
    {"name": "flow", "unit": "L/s", "low": 0.1, "high": 10, "log": True, "missing": True},
    {"name": "mode", "kind": "category", "levels": ["idle", "running"]},
]
SCHEMA = msgspec.convert({"columns": COLUMNS}, Schema)
STAGE = stage_of("table", ("columns", "bins/4"), SCHEMA)
WAIT_S, LOOK_S = 60.0, 0.03


def until(condition: Callable[[], Any], what: str, wait_s: float = WAIT_S) -> Any:
    """The first truth of a condition."""
    deadline_s = time.monotonic() + wait_s
    while not (found := condition()):
        assert time.monotonic() < deadline_s, f"not within {wait_s:g} s: {what}"
        time.sleep(LOOK_S)
    return found


def pump_rows(root: Path, seed: int, count: int = 300) -> Path:
    """A folder with records.csv: a pump is faulty when it is hot, or runs with little flow."""
    rng = np.random.default_rng(seed)
    root.mkdir(parents=True)
    lines = ["heat,flow,mode,label,group,split"]
    for place in range(count):
        heat, flow, running = rng.uniform(10, 90), rng.lognormal(0.5, 0.8), bool(rng.random() < 0.6)
        faulty = heat > 60 or (running and flow < 1.0)
        split = "holdout" if place // 5 % 3 == 1 else "train"
        mode, label = ("running" if running else "idle"), ("defect" if faulty else "good")
        lines.append(f"{heat:.2f},{flow:.3f},{mode},{label},day-{place // 5},{split}")
    (root / "records.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@dataclass
class Plant:
    """Use as a context manager: whatever still runs at the end is killed. up: more words for `isthmus up`; extra: its environment."""

    root: Path
    parties: tuple[str, ...] = OWNERS
    up: tuple[str, ...] = ()
    extra: dict[str, str] = field(default_factory=dict)
    rows: int = 300
    children: dict[str, subprocess.Popen[str]] = field(default_factory=dict)
    url: str = ""
    token: str = ""
    key: str = ""

    def __enter__(self) -> Plant:
        self.port = free_port()
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self.children):
            self.kill(name)

    @property
    def state(self) -> Path:
        return self.root / "exchange"

    def home(self, party: str) -> Path:
        return self.root / f"{party}-node"

    def data(self, party: str) -> Path:
        folder = self.root / f"{party}-data"
        return folder if folder.is_dir() else pump_rows(folder, sorted([*self.parties, party]).index(party) + 11, self.rows)

    # Processes.

    def _start(self, name: str, *words: object, **extra: str) -> subprocess.Popen[str]:
        with (self.root / f"{name}.log").open("a", encoding="utf-8") as log:
            child = subprocess.Popen(
                arguments_of(*words), stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL, text=True, env=environment(**extra)
            )
        self.children[name] = child
        return child

    def start_exchange(self) -> None:
        child = self._start("exchange", "up", "--state", self.state, "--port", self.port, "--json", *self.up, **self.extra)
        assert child.stdout is not None
        told = json.loads(child.stdout.readline())
        self.url, self.key = told["url"], told["public_key"]
        self.token = (self.state / "exchange" / "operator.token").read_text(encoding="ascii").strip()

    def start_node(self, party: str, *words: object, exchange: str | None = None) -> subprocess.Popen[str]:
        named = ("--exchange", self.url if exchange is None else exchange) if exchange != "" else ()
        return self._start(party, "node", "start", "--state", self.home(party), *named, *words)

    def restart(self, name: str) -> None:
        self.start_exchange() if name == "exchange" else self.start_node(name)

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        child = self.children.pop(name)
        child.send_signal(number)
        child.wait(30)
        if child.stdout is not None:
            child.stdout.close()

    # What owners do by hand.

    def init(self, *parties: str) -> dict[str, str]:
        """Makes state folders; party -> public key."""
        keys = {}
        for party in parties:
            told = NodeSettings(id=party, name=party.title(), kind="owner", data=str(self.data(party)), licence="test", sample=True)
            home = init_home(self.home(party), told, schema=SCHEMA)
            keys[party] = home.key.public_hex
            home.store.close()
        return keys

    def agree(self, party: str, keys: dict[str, str], **terms: Any) -> str:
        home, now_s = open_home(self.home(party)), int(time.time())
        values: dict[str, Any] = {
            "owner": party,
            "asset": home.asset_digest,
            "exchange": self.key,
            "purposes": (PURPOSE,),
            "operations": OPERATIONS,
            "participants": keys,
            "issued_at_s": now_s,
            "expires_at_s": now_s + 3600,
            "runs_max": 10_000,
            "least_group_size": 5,
            "least_participants": 3,
            "allow_own_head": True,
        }
        try:
            return home.agree(Agreement(**{**values, **terms}))
        finally:
            home.store.close()

    def begin(self, **terms: Any) -> dict[str, str]:
        """Everybody agrees with everybody and starts; party -> public key."""
        self.start_exchange()
        keys = self.init(*self.parties)
        for party in self.parties:
            self.agree(party, keys, **terms)
            self.start_node(party)
        until(lambda: {a["owner"] for a in self.call("GET", "/v1/agreements")} >= set(self.parties), "all agreements")
        return keys

    # What the operator asks.

    def call(self, method: str, path: str, body: Any = None) -> Any:
        with ExchangeClient(self.url, self.token, timeout_s=20) as client:
            return client.get(path) if method == "GET" else client.post(path, body)

    def asked(
        self, run: str, ttl_s: int = 60, roster: tuple[str, ...] = (), statistic: str = MOMENTS, params: Any = None
    ) -> dict[str, Any]:
        """A job about all the plant's owners."""
        body = {
            "run_id": run,
            "round": 1,
            "purpose": PURPOSE,
            "scenario": "pump-check@1",
            "statistic": statistic,
            "stage": msgspec.to_builtins(STAGE),
            "params": params or {"views": ["identity"]},
            "roster": list(roster or self.parties),
            "ttl_s": ttl_s,
        }
        found: dict[str, Any] = self.call("POST", "/v1/jobs", body)
        return found

    def job(self, job_id: str) -> dict[str, Any] | None:
        """Its status; None while the exchange is away."""
        try:
            found: dict[str, Any] = self.call("GET", f"/v1/jobs/{job_id}")
            return found
        except (UnreachableError, RemoteError, httpx.HTTPError):
            return None

    def ended(self, job_id: str, wait_s: float = WAIT_S) -> dict[str, Any]:
        def over() -> dict[str, Any] | None:
            status = self.job(job_id)
            return status if status is not None and status["phase"] in ("done", "failed") else None

        found: dict[str, Any] = until(over, f"the end of {job_id}", wait_s)
        return found

    def said(self, name: str) -> str:
        return (self.root / f"{name}.log").read_text(encoding="utf-8")

    def public_key(self, party: str) -> str:
        return SigningKey.load_or_create(self.home(party) / "node.key").public_hex
