"""A modified exchange: it signs with the right key and looks at no agreement. Whatever it makes up, it asks of the real nodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from isthmus.contracts.agreement import Agreement
from isthmus.contracts.job import JOB_TYPE, Job, JobTerms, NodeTask, RosterMember
from isthmus.contracts.statistic import CLUSTERS, EVALUATE, FOLD_OUT, MOMENTS, OWN_HEAD
from isthmus.kit.canonical import digest_of
from isthmus.kit.signing import SigningKey, seal
from tests.sandbox.world import VIEWS, World, tiny_stage

Words = dict[str, Any]
STAGES = 400
STRICT: dict[str, Any] = {
    "operations": (MOMENTS, FOLD_OUT, CLUSTERS, EVALUATE, OWN_HEAD),
    "stages": tuple(tiny_stage(block).digest for block in range(1, STAGES)),
    "runs_max": 1000,
    "sums_to": ("de", "fr"),
    "models_to": ("de", "eu"),
    "outputs": ("model", "evaluation"),
    "owners_share_ppm_min": 400_000,
    "deletion_days": 30,
}
"""Terms that restrict whatever can be restricted."""
HONEST = JobTerms(jurisdiction="de", models_to=("de", "eu"), output="model", owners_share_ppm=400_000, deletion_days=30)
"""What an exchange signs that keeps them, each just so."""


@dataclass(frozen=True)
class Answer:
    """What alfa's node did. refused: clauses that it named. left: kinds of messages with numbers that left it for this job."""

    refused: tuple[str, ...]
    left: tuple[str, ...]


class ModifiedExchange:
    """Over a world of owners whose nodes run their real loops; what they post about jobs comes here."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._numbers = iter(range(1, STAGES))
        self._heard: list[tuple[str, bytes]] = []
        for owner in world.owners.values():
            self._tap(owner.uplink)

    def _tap(self, uplink: Any) -> None:
        post = uplink.post

        def tapped(path: str, body: bytes, content_type: str) -> None:
            if path.startswith("/v1/tasks/"):
                self._heard.append((path.partition("?")[0].rpartition("/")[2], body))
            else:
                post(path, body, content_type)

        uplink.post = tapped

    def member(self, name: str) -> RosterMember:
        home = self.world.owners[name].home
        return RosterMember(party=name, public_key=home.key.public_hex, asset=msgspec.to_builtins(home.asset_envelope))

    def job(self, *names: str, **changes: Any) -> Job:
        """A job that keeps the strict terms, over other features and in another run each time; then changed."""
        number, now_s = next(self._numbers), int(self.world.clock.now_s())
        values: dict[str, Any] = {
            "id": f"job_{number:032x}",
            "run_id": f"run-{number}",
            "round": 1,
            "purpose": "inspect",
            "scenario": "test",
            "statistic": MOMENTS,
            "stage": tiny_stage(number),
            "params": {"views": VIEWS},
            "roster": tuple(self.member(name) for name in names or ("alfa", "bravo", "carol")),
            "attempt": 1,
            "created_at_s": now_s,
            "expires_at_s": now_s + 900,
            "terms": HONEST,
        }
        return Job(**{**values, **changes})

    def ask(self, job: Job, key: SigningKey | None = None, change: Callable[[Words], Words] = lambda words: words) -> Answer:
        """Both rounds of a job: alfa and the roster countersign, then alfa computes. change: what becomes of the words on the way."""
        envelope = msgspec.to_builtins(seal(key or self.world.exchange_key, JOB_TYPE, job))
        before = len(self.world.owners["alfa"].refusals())
        words: Words = {}
        for name in dict.fromkeys(["alfa", *(member.party for member in job.roster if member.party in self.world.owners)]):
            for kind, body in self._step(name, NodeTask(phase="countersign", job=envelope)):
                if kind == "countersign":
                    words[name] = msgspec.json.decode(body)
        left: list[str] = []
        if "alfa" in words:
            task = NodeTask(phase="compute", job=envelope, countersignatures=change(words))
            left = [kind for kind, _ in self._step("alfa", task) if kind in ("vector", "head")]
        return Answer(tuple(self.world.owners["alfa"].refusals()[before:]), tuple(left))

    def _step(self, name: str, task: NodeTask) -> list[tuple[str, bytes]]:
        owner = self.world.owners[name]
        self._heard.clear()
        owner.uplink.tampered = lambda tasks: [task]
        try:
            owner.node.step(0)
        finally:
            owner.uplink.tampered = lambda tasks: tasks
        return list(self._heard)


def strict_world(root: Any, *names: str, **terms: Any) -> World:
    """Owners under the strict terms, changed, all of whose agreements are in force."""
    world = World(root, terms={**STRICT, **terms})
    world.add(*(names or ("alfa", "bravo", "carol")))
    world.steps(1)
    return world


def signed_anew(world: World, **terms: Any) -> Agreement:
    """Alfa signs further terms, and its node tells the exchange."""
    home = world.owners["alfa"].home
    keys = {name: owner.home.key.public_hex for name, owner in world.owners.items()}
    world.clock.advance(1)
    agreement = world.agreement(home, keys, **terms)
    home.agree(agreement)
    world.owners["alfa"].node.step(0)
    return agreement


def artefact_params(head: Any, artefact: str | None = None) -> dict[str, Any]:
    """Parameters of evaluate/1."""
    found: dict[str, Any] = msgspec.to_builtins({"artefact": artefact or digest_of(head), "head": head})
    return found
