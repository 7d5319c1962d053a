"""A small world: owners with tiny pictures, an extractor that needs no backbone, an exchange in this process."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.agreement import Agreement
from isthmus.contracts.head import Array, Head, Stage
from isthmus.contracts.job import JobRefusal, JobRequest, NodeTask
from isthmus.contracts.negotiation import OfferOfTerms
from isthmus.contracts.schema import Schema
from isthmus.contracts.statistic import CLUSTERS, EVALUATE, FOLD_OUT, MOMENTS, OWN_HEAD
from isthmus.contracts.treesums import TREE_OPERATIONS
from isthmus.kit.canonical import digest_of
from isthmus.kit.clock import SetClock
from isthmus.kit.pictures import DECODER, encode_png
from isthmus.kit.signing import Envelope, SigningKey
from isthmus.sandbox.jobstore import JobStore
from isthmus.sandbox.node import Identity, Node
from isthmus.sandbox.nodehome import NodeHome, NodeSettings, init_home, open_home
from isthmus.sandbox.outlog import OutLog
from isthmus.sandbox.ports import Artefact, Given, Tools
from isthmus.sandbox.service import NO_PROMISES, Promises, SandboxService
from isthmus.sandbox.withdrawals import Withdrawals

D = 4
OPERATIONS = (MOMENTS, FOLD_OUT, CLUSTERS, EVALUATE, OWN_HEAD, *TREE_OPERATIONS)
VIEWS = ["identity", "flip-left-right", "flip-up-down", "rotate-180"]


def quantised(images: Given) -> NDArray[np.int16]:
    """Four brightness features of quadrants: flips change them."""
    rows = []
    for image in images:
        h, w = image.shape[0] // 2, image.shape[1] // 2
        parts = [image[:h, :w], image[:h, w:], image[h:, :w], image[h:, w:]]
        rows.append([round((float(p.mean()) - 128) * 200) for p in parts])
    return np.array(rows, dtype=np.int16).reshape(len(images), D)


class TinyExtractor:
    """Implements ports.SharedExtractor."""

    def __init__(self, parts: tuple[str, ...]) -> None:
        self.digest = "sha256:" + hashlib.sha256(repr(parts).encode()).hexdigest()
        self.dimension = D
        self.calls = 0

    def rows(self, images: Given) -> NDArray[np.int16]:
        self.calls += len(images)
        return quantised(images)

    def select(self, rows: NDArray[np.int16]) -> NDArray[np.int16]:
        return rows


def tiny_stage(block: int = 1) -> Stage:
    parts = (f"block/{block}",)
    return Stage(backbone="tiny", parts=parts, dimension=D, digest=TinyExtractor(parts).digest)


def tiny_head(lo: float = -0.1, hi: float = 0.1, slope: float = 1e-4, block: int = 1) -> Head:
    return Head(stage=tiny_stage(block), coefficients=Array.of(np.full(D, slope)), bias=0.0, lo=lo, hi=hi, decoder=DECODER)


def tiny_artefact(head: Head) -> Artefact:
    coefficients = head.coefficients.array()

    def scores(images: Given) -> NDArray[np.float64]:
        return (quantised(images).astype(np.float64) @ coefficients + head.bias).astype(np.float32).astype(np.float64)

    return Artefact(digest_of(head), scores)


def tiny_corrupt(image: NDArray[np.uint8], family: str, severity: int, schema: Schema | None = None, /) -> NDArray[np.uint8]:
    return (image * (1 - 0.1 * severity)).astype(np.uint8)


def tiny_tools() -> Tools:
    return Tools(lambda stage: TinyExtractor(stage.parts), tiny_artefact, tiny_corrupt)


def write_folder(root: Path, seed: int, records: int = 48, group: int = 6) -> Path:
    """Defects are brighter; every fourth group is held out; kinds alternate by group."""
    rng = np.random.default_rng(seed)
    root.mkdir(parents=True)
    lines = ["path,label,certainty,group,kind,split"]
    for index in range(records):
        defect = bool(rng.random() < 0.4) if index > 1 else bool(index)
        level = 90 + 60 * defect
        pixels = np.clip(rng.normal(level + rng.normal(0, 30), 35, (8, 8, 3)), 0, 255).astype(np.uint8)
        (root / f"c{index:03d}.png").write_bytes(encode_png(pixels))
        g = index // group
        sure = "sure" if rng.random() < 0.7 else "unsure"
        kind, split = ("mono" if g % 2 else "poly"), ("holdout" if g % 4 == 3 else "train")
        lines.append(f"c{index:03d}.png,{'defect' if defect else 'good'},{sure},m{g},{kind},{split}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


class DirectUplink:
    """An uplink into a service of this process. before: called ahead of each post, may raise or note."""

    address = "direct"

    def __init__(self, service: SandboxService, party: str) -> None:
        self.service, self.party = service, party
        self.sent: list[tuple[str, bytes]] = []
        self.before: Callable[[str, bytes], None] = lambda path, body: None
        self.tampered_terms: Callable[[list[OfferOfTerms]], list[OfferOfTerms]] = lambda listed: listed
        self.tampered: Callable[[list[NodeTask]], list[NodeTask]] = lambda tasks: tasks

    def tasks(self, wait_s: float) -> list[NodeTask]:
        return self.tampered(self.service.tasks(self.party))

    def terms(self) -> list[OfferOfTerms]:
        return self.tampered_terms(self.service.desk.of_party(self.party))

    def post(self, path: str, body: bytes, content_type: str) -> None:
        import msgspec

        self.before(path, body)
        self.sent.append((path, body))
        if path == f"/v1/nodes/{self.party}/terms":
            self.service.desk.take_event(self.party, msgspec.json.decode(body, type=Envelope))
            return
        if not path.startswith("/v1/tasks/"):
            envelope = msgspec.json.decode(body, type=Envelope)
            {
                "/v1/parties": self.service.register_party,
                "/v1/assets": self.service.register_asset,
                "/v1/agreements": self.service.register_agreement,
                "/v1/withdrawals": self.service.register_withdrawal,
                "/v1/rotations": self.service.rotate,
            }[path](envelope)
            return
        target, _, query = path.partition("?job=")
        _, _, _, job, party, kind = target.split("/")
        if kind == "countersign":
            self.service.take_countersignature(job, party, query, msgspec.json.decode(body, type=Envelope))
        elif kind in ("vector", "head"):
            self.service.take_share(job, party, query, kind, body)
        elif kind == "refusal":
            self.service.take_refusal(job, party, query, msgspec.json.decode(body, type=JobRefusal))
        elif kind == "seen":
            self.service.take_notice(party, query)


@dataclass
class Owner:
    home: NodeHome
    uplink: DirectUplink
    node: Node
    events: list[tuple[str, dict[str, Any]]]

    @property
    def log(self) -> Path:
        return self.home.log_path

    def refusals(self) -> list[str]:
        return [fields["clause"] for event, fields in self.events if event == "refused"]


@dataclass
class World:
    root: Path
    clock: SetClock = field(default_factory=SetClock)
    exchange_key: SigningKey = field(default_factory=lambda: SigningKey.from_seed(b"x" * 32))
    owners: dict[str, Owner] = field(default_factory=dict)
    terms: dict[str, Any] = field(default_factory=dict)
    promises: Promises = NO_PROMISES

    def __post_init__(self) -> None:
        self.jobstore = JobStore(self.root / "exchange.sqlite")
        withdrawals = Withdrawals(self.root / "withdrawals.sqlite")
        self.service = SandboxService(self.jobstore, self.exchange_key, self.clock, promises=self.promises, withdrawals=withdrawals)

    def restart_exchange(self) -> None:
        self.__post_init__()
        for owner in self.owners.values():
            owner.uplink.service = self.service

    def add(self, *names: str, **terms: Any) -> None:
        """Owners with data, all agreeing with each other."""
        homes = {}
        for seed, name in enumerate(names):
            data = self.root / name / "data"
            if not data.exists():
                write_folder(data, seed + 10 * len(self.owners), records=48 + 12 * seed)
            settings = NodeSettings(id=name, name=name, kind="owner", data=str(data), licence="test", sample=True)
            homes[name] = init_home(self.root / name / "state", settings)
        keys = {name: home.key.public_hex for name, home in homes.items()} | {n: o.home.key.public_hex for n, o in self.owners.items()}
        for name, home in homes.items():
            home.agree(self.agreement(home, keys, **terms))
            self.owners[name] = self.owner(home)

    def agreement(self, home: NodeHome, keys: dict[str, str], **terms: Any) -> Agreement:
        now_s = int(self.clock.now_s())
        values: dict[str, Any] = {
            "owner": home.settings.id,
            "asset": home.asset_digest,
            "exchange": self.exchange_key.public_hex,
            "purposes": ("inspect",),
            "operations": OPERATIONS,
            "participants": keys,
            "issued_at_s": now_s,
            "expires_at_s": now_s + 3600,
            "runs_max": 5,
            "least_group_size": 3,
            "least_participants": 3,
            "allow_own_head": True,
        }
        return Agreement(**{**values, **self.terms, **terms})

    def owner(self, home: NodeHome) -> Owner:
        uplink = DirectUplink(self.service, home.settings.id)
        events: list[tuple[str, dict[str, Any]]] = []
        identity = Identity(home.settings.id, home.key, home.party_envelope, home.asset_envelope, home.rotations)
        log = OutLog(home.log_path, home.key, self.clock)
        node = Node(
            identity,
            home.owner_data(tiny_tools()),
            home.store,
            log,
            uplink,
            self.clock,
            lambda event, fields: events.append((event, fields)),
        )
        return Owner(home, uplink, node, events)

    def restart(self, name: str) -> Owner:
        """The node as a new process would find its state."""
        self.owners[name].home.store.close()
        self.owners[name] = self.owner(open_home(self.root / name / "state"))
        return self.owners[name]

    def steps(self, rounds: int = 4, only: tuple[str, ...] = ()) -> None:
        for _ in range(rounds):
            for name, owner in self.owners.items():
                if not only or name in only:
                    owner.node.step(0)

    def request(self, statistic: str = MOMENTS, params: Any = None, **changes: Any) -> JobRequest:
        values: dict[str, Any] = {
            "run_id": "run-1",
            "round": 1,
            "purpose": "inspect",
            "scenario": "test",
            "statistic": statistic,
            "stage": tiny_stage(),
            "params": {"views": VIEWS} if params is None else params,
            "roster": tuple(self.owners),
        }
        return JobRequest(**{**values, **changes})
