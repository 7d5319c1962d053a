"""An exchange and owners' nodes as processes on this machine: what `isthmus run` starts and stops.

The processes are those that parties would start themselves (`isthmus up`, `isthmus node start`); they talk over loopback only.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import msgspec

from isthmus.client.address import standing
from isthmus.client.http import ExchangeClient
from isthmus.contracts.agreement import Agreement
from isthmus.contracts.asset import INSPECTION_SCHEMA, ROWS_SCHEMA
from isthmus.contracts.build import ENDED, RunView
from isthmus.contracts.errors import AgreementError, ExchangeStateError, FolderError, JobFailedError, StorageError, UnreachableError
from isthmus.contracts.ports import Clock
from isthmus.contracts.schema import Schema
from isthmus.contracts.targets import Target
from isthmus.kit.config import process_environment
from isthmus.sandbox.folder import read_folder
from isthmus.sandbox.leaving import withdrawn
from isthmus.sandbox.nodehome import NodeSettings, init_home, only_one, open_home

UP_TIMEOUT_S = 60.0
REGISTER_TIMEOUT_S = 90.0
POLL_S = 0.25
STOP_TIMEOUT_S = 15.0
SETTLE_S = 2.0
DAY_S = 86_400
LOG_TAIL_CHARS = 600
EXCHANGE = "exchange"
Child = subprocess.Popen[str]


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What an owner's agreement says, apart from names and keys; see contracts.agreement.Agreement."""

    purpose: str
    operations: tuple[str, ...]
    least_participants: int = 3
    visibility: str = "aggregate"
    allow_own_head: bool = False
    records_per_feature: int = 4
    stages: tuple[str, ...] = ("*",)
    least_group_size: int = 20
    runs_max: int = 50
    days: int = 30
    contribution: bool = False


@dataclass(frozen=True, kw_only=True)
class Owner:
    """One party with data. data: its folder; state: its node's state folder; public_key: hex."""

    party: str
    name: str
    data: Path
    state: Path
    public_key: str
    records_train: int
    records_holdout: int
    groups_train: int
    groups_holdout: int
    groups_inferred: bool


def prepare_owner(
    party: str,
    name: str,
    kind: str,
    data: Path,
    state: Path,
    licence: str,
    sample: bool,
    schema: Schema | None = None,
    targets: tuple[Target, ...] = (),
    good_alone: bool = False,
) -> Owner:
    """What `isthmus node init` does: makes the key, reads and checks the folder, by the schema of its records if given, and by the numbers
    that are foretold. good_alone: whether a folder of good records only is enough.

    Raises FolderError, PictureError, StorageError."""
    settings = NodeSettings(
        id=party,
        name=name,
        kind="site" if kind == "site" else "owner",
        data=str(data.absolute()),
        licence=licence,
        sample=sample,
        targets=targets,
    )
    files = () if targets or good_alone else read_folder(data).files
    if files and all(file.label < 0 for file in files):
        raise FolderError(f"all {len(files)} records in {data} are labelled good", "add records of the other class, or use head: gaussian")
    with only_one(state, make=True):
        home = init_home(state, settings, schema=schema)
        asset = home.asset
        home.store.close()
    if schema is None and asset.schema != INSPECTION_SCHEMA:
        held = "rows of tables" if asset.schema == ROWS_SCHEMA else "texts"
        raise FolderError(f"{data} holds {held}, and the scenario takes pictures", "give images, or name another scenario")
    return Owner(
        party=party,
        name=name,
        data=data,
        state=state,
        public_key=home.key.public_hex,
        records_train=asset.records_train,
        records_holdout=asset.records_holdout,
        groups_train=asset.groups_train,
        groups_holdout=asset.groups_holdout,
        groups_inferred=asset.groups_inferred,
    )


def agree(owner: Owner, exchange_key: str, participants: Mapping[str, str], terms: Terms, clock: Clock) -> str:
    """What `isthmus node agree` does; an equal agreement that still lasts for half its days is kept. Returns its digest."""
    now_s = int(clock.now_s())
    with only_one(owner.state):
        home = open_home(owner.state)
        try:
            wanted = Agreement(
                owner=owner.party,
                asset=home.asset_digest,
                exchange=exchange_key,
                purposes=(terms.purpose,),
                operations=terms.operations,
                participants=dict(sorted(participants.items())),
                issued_at_s=now_s,
                expires_at_s=now_s + terms.days * DAY_S,
                runs_max=terms.runs_max,
                least_group_size=terms.least_group_size,
                least_participants=terms.least_participants,
                visibility="individual" if terms.visibility == "individual" else "aggregate",
                stages=terms.stages,
                dimension_records_min_ratio=terms.records_per_feature,
                allow_own_head=terms.allow_own_head,
                contribution=terms.contribution,
                sample=home.settings.sample,
            )
            gone, kept = withdrawn(home.store), home.agreements()
            newest = next((digest for digest, agreement in kept if terms.purpose in agreement.purposes), "")
            if terms.purpose in gone.get(newest, frozenset()):
                what = f"{owner.party} has left {terms.purpose!r}, and nobody agrees anew in its place"
                raise AgreementError(what, "its owner may: isthmus node agree; or run with the other owners' --data")
            for digest, agreement in kept:
                if agreement.expires_at_s - now_s > terms.days * DAY_S // 2 and _same_terms(agreement, wanted):
                    return digest
            return home.agree(wanted)
        finally:
            home.store.close()


def _same_terms(one: Agreement, other: Agreement) -> bool:
    times = ("issued_at_s", "expires_at_s")
    return all(getattr(one, name) == getattr(other, name) for name in Agreement.__struct_fields__ if name not in times)


@dataclass
class LocalFleet:
    """Processes started here. logs: where their standard error goes. Use as a context manager: leaving stops them all.

    Each hangs on a pipe from this process, so that none outlives it, even when it is killed.
    """

    logs: Path
    children: dict[str, Child] = field(default_factory=dict)

    def __enter__(self) -> LocalFleet:
        try:
            self.logs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"the folder {self.logs} cannot be made: {error.strerror}", "choose another with --state") from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Stops all. An exchange that stopped answering because its process ended is told as that: raises JobFailedError."""
        try:
            if isinstance(error, UnreachableError):
                self._settle()
                self.check()
        finally:
            self.stop()

    def _spawn(self, name: str, arguments: list[str], capture: bool = False) -> Child:
        with (self.logs / f"{name}.log").open("a", encoding="utf-8") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", "isthmus", *arguments, "--leash"],
                stdout=subprocess.PIPE if capture else subprocess.DEVNULL,
                stderr=log,
                stdin=subprocess.PIPE,
                text=True,
                env=process_environment(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1"),
            )
        self.children[name] = child
        return child

    def start_exchange(self, state: Path, port: int = 0) -> tuple[str, str]:
        """(address, public key) once it listens; of the one that runs on `state` already, which is left as it is. Raises ExchangeStateError
        with what it said."""
        known = standing(state / "exchange")
        if known is not None:
            return known
        child = self._spawn(EXCHANGE, ["up", "--state", str(state), "--port", str(port), "--json"], capture=True)
        assert child.stdout is not None
        line = child.stdout.readline()
        try:
            told = json.loads(line)
            url, public_key = str(told["url"]), str(told["public_key"])
        except (ValueError, KeyError, TypeError) as error:
            raise _not_started(line, self.said(EXCHANGE)) from error
        deadline_s = time.monotonic() + UP_TIMEOUT_S
        while time.monotonic() < deadline_s:
            try:
                if httpx.get(f"{url}/v2/health/live", timeout=2.0, trust_env=False).status_code == 200:
                    return url, public_key
            except httpx.HTTPError:
                self.check()
            time.sleep(0.05)
        raise ExchangeStateError("the exchange listens but does not answer", f"see {self.logs / 'exchange.log'}")

    def start_node(self, owner: Owner, url: str) -> None:
        """Starts the owner's node; it works until the fleet is stopped."""
        self.start_home(owner.party, owner.state, url)

    def start_home(self, party: str, home: Path, url: str) -> None:
        """Starts the node whose state folder is `home`."""
        self._spawn(party, ["node", "start", "--state", str(home), "--exchange", url])

    def check(self, names: Collection[str] | None = None) -> None:
        """Raises JobFailedError when a process has ended by itself. names: the ones that matter to the asker; None for all."""
        for name, child in list(self.children.items()):
            code = child.poll()
            if code is None or (names is not None and name not in names):
                continue
            if code < 0:
                raise JobFailedError(f"the process of {name} was killed (signal {-code})", "run again: what was finished is kept")
            raise JobFailedError(f"the process of {name} ended ({code}): {self.said(name)}", "mend that, then run again")

    def _settle(self) -> None:
        """Waits a moment for a process that is ending to have ended."""
        deadline_s = time.monotonic() + SETTLE_S
        while time.monotonic() < deadline_s and all(child.poll() is None for child in self.children.values()):
            time.sleep(0.05)

    def said(self, name: str) -> str:
        """The last words of a process."""
        path = self.logs / f"{name}.log"
        text = path.read_text(encoding="utf-8", errors="replace").strip() if path.exists() else ""
        last = text.splitlines()[-1][-LOG_TAIL_CHARS:] if text else "it said nothing"
        return re.sub(r"^error \[[a-z-]+\]: ", "", last)

    def end(self, name: str) -> None:
        """Ends one process, if it is there."""
        child = self.children.pop(name, None)
        if child is not None:
            _signalled(child)
            _ended(child)

    def stop(self) -> None:
        """Ends nodes first, then the exchange; one that does not end in time is killed."""
        for name in reversed(self.children):
            _signalled(self.children[name])
        for child in self.children.values():
            _ended(child)
        self.children.clear()


def _signalled(child: Child) -> None:
    if child.poll() is None:
        child.send_signal(signal.SIGTERM)


def _ended(child: Child) -> None:
    """Waits for it, kills it when it takes too long, and closes its streams."""
    try:
        child.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    for stream in (child.stdin, child.stdout):
        if stream is not None:
            stream.close()


def _not_started(line: str, said: str) -> ExchangeStateError:
    """Why an exchange did not start: the error that it told, or its last words."""
    try:
        told = json.loads(line)["error"]
        return ExchangeStateError(f"the exchange did not start: {told['message']}", str(told["next"]))
    except (ValueError, KeyError, TypeError):
        return ExchangeStateError(f"the exchange did not start: {said}", "mend that, then run again")


Tell = Callable[[str, int, int], None]
"""Progress: (what, done, total); total 0 where it is not known."""


def wait_for_nodes(operator: ExchangeClient, fleet: LocalFleet, parties: set[str]) -> None:
    """Until every node has called and its agreements are known. Raises JobFailedError."""
    deadline_s = time.monotonic() + REGISTER_TIMEOUT_S
    while True:
        fleet.check({EXCHANGE, *parties})
        alive = {node["party"] for node in operator.get("/v1/nodes") if node["alive"]}
        known = alive & {a["owner"] for a in operator.get("/v1/agreements")}
        if parties <= known:
            return
        if time.monotonic() > deadline_s:
            raise JobFailedError(f"these nodes did not register: {', '.join(sorted(parties - known))}", f"see {fleet.logs}")
        time.sleep(POLL_S)


def ended_run(
    operator: ExchangeClient, fleet: LocalFleet, begun: Any, name: str, tell: Tell, only: Collection[str] | None = None
) -> RunView:
    """Waits for a run. only: the processes that it hangs on; None for all. Raises JobFailedError when it failed, or one of them ended."""
    view = msgspec.convert(begun, RunView)
    while view.state not in ENDED:
        time.sleep(POLL_S)
        fleet.check(only)
        view = msgspec.convert(operator.get(f"/v1/runs/{view.id}"), RunView)
        nodes = [node for node in operator.get("/v1/nodes") if node["total"] and (only is None or node["party"] in only)]
        label = f"{name}: {view.step}" + (f" · {nodes[0]['phase']}" if nodes else "")
        tell(label, sum(node["done"] for node in nodes), sum(node["total"] for node in nodes))
    if view.state == "failed":
        error = view.error or {}
        raise JobFailedError(str(error.get("message", "the run failed")), str(error.get("next", "")))
    return msgspec.convert(operator.get(f"/v1/runs/{view.id}"), RunView)
