"""An exchange and owners' nodes of a small table scenario in one process: real agreements, jobs, sums, models and certificates."""

from __future__ import annotations

import io
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from isthmus.app.exchange import Exchange
from isthmus.app.nodetools import node_tools
from isthmus.app.overview import ExchangeOverview
from isthmus.console.pages import Overview
from isthmus.contracts.agreement import Agreement
from isthmus.contracts.build import ENDED, RunRequest, RunView
from isthmus.contracts.operations import fleet_operations, site_operations
from isthmus.contracts.scenario import Scenario
from isthmus.kit.clock import SetClock
from isthmus.kit.log import Log
from isthmus.kit.signing import Envelope
from isthmus.sandbox.leaving import leave
from isthmus.sandbox.node import Identity, Node
from isthmus.sandbox.nodehome import NodeHome, NodeSettings, init_home
from isthmus.sandbox.outlog import OutLog
from isthmus.scenarios.package import load_package
from tests.journeys.inspection import scenario_folder
from tests.journeys.test_tables import TABLE, rows, table_folder
from tests.sandbox.world import DirectUplink

PURPOSE = "plates"
WAIT_S = 60.0


class TownUplink(DirectUplink):
    """Tells the exchange of withdrawals too."""

    def __init__(self, exchange: Exchange, party: str, heard: list[str]) -> None:
        super().__init__(exchange.sandbox, party)
        self.exchange, self.heard = exchange, heard

    def post(self, path: str, body: bytes, content_type: str) -> None:
        super().post(path, body, content_type)
        if path == "/v1/withdrawals":
            try:
                self.exchange.departures.turn()
            finally:
                self.heard.append(self.party)


def small_scenario(root: Path, **recipe: Any) -> Scenario:
    """Pumps, at a promise that a few hundred rows prove."""
    changed = {**TABLE, "recipe": {**TABLE["recipe"], "parts": ["columns"], **recipe}}
    changed["certify"] = {
        **TABLE["certify"],
        "promises_ppm": [300_000],
        "recall_ppm_min": 450_000,
        "families": ["noise"],
        "severities": [1],
    }
    return load_package(scenario_folder(root, **changed))


@dataclass
class Town:
    """Use as a context manager. terms: over the agreements of all owners."""

    root: Path
    terms: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.clock = SetClock()
        self.scenario = small_scenario(self.root / "scenario", **self.recipe)
        self.homes: dict[str, NodeHome] = {}
        self.nodes: dict[str, Node] = {}
        self.events: dict[str, list[tuple[str, dict[str, Any]]]] = {}
        self.heard: list[str] = []
        self.stopping, self.stepping = threading.Event(), threading.Lock()
        self.tools = node_tools()
        self.open()

    def open(self) -> None:
        self.exchange = Exchange(self.root / "exchange", self.clock, Log(io.StringIO(), self.clock))

    def __enter__(self) -> Town:
        self.exchange.start()
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self.thread.join(WAIT_S)
        self.exchange.stop()
        self.exchange.close()
        for home in self.homes.values():
            home.store.close()

    def _work(self) -> None:
        while not self.stopping.is_set():
            with self.stepping:
                for node in list(self.nodes.values()):
                    node.step(0)
            time.sleep(0.003)

    def add(self, *names: str, seeds: dict[str, int] | None = None, counts: dict[str, int] | None = None, **terms: Any) -> None:
        """Owners who agree with each other on the purpose."""
        for place, name in enumerate(names):
            data = table_folder(self.root / "data" / name, (seeds or {}).get(name, place), (counts or {}).get(name, 150))
            settings = NodeSettings(id=name, name=name, kind="owner", data=str(data), licence="test", sample=True)
            self.homes[name] = init_home(self.root / "nodes" / name, settings, schema=self.scenario.interface.schema)
        keys = {name: home.key.public_hex for name, home in self.homes.items()}
        for name in names:
            self.agree(name, keys, PURPOSE, **terms)
            self.start(name)

    def agree(self, name: str, keys: dict[str, str], purpose: str, **terms: Any) -> str:
        home, now_s = self.homes[name], int(self.clock.now_s())
        values: dict[str, Any] = {
            "owner": name,
            "asset": home.asset_digest,
            "exchange": self.exchange.key.public_hex,
            "purposes": (purpose,),
            "operations": fleet_operations("ridge"),
            "participants": keys,
            "issued_at_s": now_s,
            "expires_at_s": now_s + 30 * 86_400,
            "runs_max": 50,
            "least_group_size": 5,
            "least_participants": 3,
            "allow_own_head": True,
        }
        return home.agree(Agreement(**{**values, **self.terms, **terms}))

    def add_site(self, name: str, fit: int = 40, proof: int = 110) -> None:
        """A site with labels drawn one by one."""
        lines = rows(77, fit + proof)
        parts = ["split", *(["train"] * fit + ["holdout"] * proof)]
        words = [line.split(",")[:-2] for line in lines]
        data = self.root / "data" / name
        data.mkdir(parents=True)
        groups = ["group", *(f"g{place}" for place in range(fit + proof))]
        text = "\n".join(",".join([*cells, group, part]) for cells, group, part in zip(words, groups, parts, strict=True))
        (data / "records.csv").write_text(text + "\n", encoding="utf-8")
        settings = NodeSettings(id=name, name=name, kind="site", data=str(data), licence="test", sample=True)
        self.homes[name] = init_home(self.root / "nodes" / name, settings, schema=self.scenario.interface.schema)
        terms = {"operations": site_operations("ridge"), "least_participants": 1, "least_group_size": 1, "visibility": "individual"}
        self.agree(name, {name: self.homes[name].key.public_hex}, PURPOSE + "/site", dimension_records_min_ratio=0, **terms)
        self.start(name)

    def start(self, name: str) -> None:
        with self.stepping:
            self._start(name)

    def _start(self, name: str) -> None:
        home = self.homes[name]
        events = self.events.setdefault(name, [])
        identity = Identity(name, home.key, home.party_envelope, home.asset_envelope)
        log = OutLog(home.log_path, home.key, self.clock)
        uplink = TownUplink(self.exchange, name, self.heard)
        node = Node(identity, home.owner_data(self.tools), home.store, log, uplink, self.clock, lambda e, f: events.append((e, f)))
        node.step(0)
        self.nodes[name] = node

    def leave(self, *names: str, purpose: str = PURPOSE) -> None:
        """They leave; returns once the exchange has done what it does at once."""
        for name in names:
            leave(self.root / "nodes" / name, purpose, "test", int(self.clock.now_s()))
        self.until(lambda: set(self.heard) >= set(names))

    def exchange_overview(self) -> Overview:
        found = self.exchange
        rooms = (found.catalogue, found.registry, found.meter, found.clock, found.lives, found.shadows, found.departures.told)
        return ExchangeOverview(*rooms).overview(10)

    def refusals(self, name: str) -> set[str]:
        return {fields["clause"] for event, fields in self.events[name] if event == "refused"}

    def request(self, *owners: str, **more: Any) -> RunRequest:
        return RunRequest(scenario=self.scenario, owners=owners, **more)

    def run(self, kind: str, request: Any) -> RunView:
        return self.ended(self.exchange._submitted(kind, request))

    def ended(self, run: str) -> RunView:
        self.until(lambda: self.exchange.catalogue.view(run, False).state in ENDED)
        return self.exchange.catalogue.view(run)

    def until(self, holds: Any) -> None:
        deadline = time.monotonic() + WAIT_S
        while not holds():
            assert time.monotonic() < deadline, "it takes too long"
            time.sleep(0.005)

    def agreement(self, name: str) -> Any:
        return msgspec.to_builtins(self.homes[name].store.agreements()[0][1])

    def envelope(self, name: str) -> Envelope:
        return self.homes[name].store.agreements()[0][1]
