"""Owners with synthetic records, and the sandbox's port in this process: sums are real, networks and pixels are not."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from isthmus.app.catalogue import Catalogue
from isthmus.app.nodetools import site_heads
from isthmus.app.workshop import Workshop
from isthmus.contracts.asset import Asset
from isthmus.contracts.build import RunRequest
from isthmus.contracts.errors import AgreementError, InputError, IsthmusError, RefusedError
from isthmus.contracts.head import Array, Head, Stage
from isthmus.contracts.job import JobRefusal, JobRequest, JobStatus
from isthmus.contracts.scenario import Scenario
from isthmus.contracts.statistic import Corruption, TrainingParams
from isthmus.foundry.export import artefact_digest, build_artefact
from isthmus.kit.canonical import digest_of
from isthmus.kit.clock import SetClock
from isthmus.kit.log import Log
from isthmus.kit.signing import SigningKey
from isthmus.kit.treewalk import head_scores
from isthmus.sandbox.ports import Artefact, Tools
from isthmus.sandbox.statistics.gaussian import gaussian_scores
from isthmus.sandbox.statistics.records import Ints, Records, TrainingRecords
from isthmus.sandbox.statistics.registry import computed, parsed_params
from isthmus.scenarios.package import load_package, shipped_folder

PURPOSE = "solar-cell-inspection"
OWNERS = ("alba", "brio", "cora")
LEAST_GROUP = 5


@cache
def shipped() -> Scenario:
    return load_package(shipped_folder() / "solar-cell-inspection")


def scenario(*promises_ppm: int, **certify: Any) -> Scenario:
    """The shipped scenario on stages so small that a fit takes milliseconds; bars differ as told."""
    known = shipped()
    recipe = msgspec.structs.replace(
        known.recipe,
        parts=("block/2",),
        parts_after_leaving=("block/0",),
        views=("identity",),
        lambdas=(0.01, 0.1, 1.0),
        records_per_feature=4,
    )
    values: dict[str, Any] = {"families": ("brightness",), "severities": (1, 2), "promises_ppm": promises_ppm or (100_000,), **certify}
    at_site = msgspec.structs.replace(known.replicate, families=None, severities=None)
    return msgspec.structs.replace(known, recipe=recipe, certify=msgspec.structs.replace(known.certify, **values), replicate=at_site)


def request(*promises_ppm: int, owners: tuple[str, ...] = OWNERS, **more: Any) -> RunRequest:
    return RunRequest(scenario=scenario(*promises_ppm), owners=owners, **more)


@cache
def digest_of_artefact(raw_head: bytes) -> str:
    return artefact_digest(build_artefact(msgspec.json.decode(raw_head, type=Head)))


@dataclass(frozen=True)
class Part:
    """Records of one split. y: (n,) in {-1, +1}. groups: (n,). noise: (n, 64) standard normal, the same for every stage."""

    y: Ints
    groups: Ints
    noise: NDArray[np.float64]
    kinds: tuple[str, ...]


def part(seed: int, records: int, group: int = 10, shuffled: bool = False) -> Part:
    rng = np.random.default_rng(seed)
    y = np.where(rng.random(records) < 0.35, 1, -1).astype(np.int64)
    noise = rng.normal(size=(records, 64)) + np.outer(0.0 if shuffled else 1.0 * y, (np.arange(64) % 3 == 0) * 0.8)
    groups = (np.arange(records) // group).astype(np.int64)
    return Part(y, groups, noise, tuple("mono" if g % 2 else "poly" for g in groups))


@dataclass
class SyntheticOwner:
    """What the statistics ask of an `OwnerData`, made of numbers. skill: how far apart the classes lie."""

    party: str
    parts: dict[str, Part]
    skill: float = 1.0
    asset_of: dict[str, Any] = field(default_factory=dict)
    begun: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    @property
    def tools(self) -> Tools:
        def artefact(head: Head) -> Artefact:
            return Artefact(digest_of_artefact(msgspec.json.encode(head)), lambda images: np.zeros(0))

        return Tools(lambda stage: None, artefact, lambda image, family, severity: image, site_heads)  # type: ignore[arg-type, return-value]

    def records(self, split: str) -> Records:
        found = self.parts[split]
        return Records(found.y, found.groups, found.kinds)

    def features(self, stage: Stage, split: str, view: str = "identity", corruption: Corruption | None = None) -> NDArray[np.int16]:
        found = self.parts[split]
        signal = found.noise[:, : stage.dimension] * self.skill
        shift = 0.0 if corruption is None else 0.05 * corruption.severity
        return np.asarray(np.clip(np.rint((signal + shift) * 2000), -32767, 32767).astype(np.int16))

    def training(self, stage: Stage, params: TrainingParams) -> TrainingRecords:
        w = np.full(self.parts["train"].y.size, params.sure_weight, dtype=np.int64)
        views = [self.features(stage, "train", v) for v in params.views]
        changed = [self.features(stage, "train", corruption=one) for one in params.augmentations]
        return TrainingRecords(self.records("train"), (*views, *changed), w)

    def artefact_scores(self, artefact: Artefact, stage: Stage, split: str) -> NDArray[np.float64]:
        return self.scores

    def scored(self, head: Head, split: str) -> None:
        """What the artefact itself would say: the same sum as its head."""
        if head.gaussian is not None:
            self.scores = gaussian_scores(self.features(head.stage, split), head.stage, head.gaussian)
            return
        self.scores = head_scores(head, self.features(head.stage, split))

    @property
    def asset(self) -> Asset:
        def count(split: str) -> int:
            return int(self.parts[split].y.size) if split in self.parts else 0

        def groups(split: str) -> int:
            return int(np.unique(self.parts[split].groups).size) if split in self.parts else 0

        values: dict[str, Any] = {
            "owner": self.party,
            "schema": "image-inspection/1",
            "licence": "test",
            "records_train": count("train"),
            "records_holdout": count("holdout"),
            "records_audit": count("audit"),
            "groups_train": groups("train"),
            "groups_holdout": groups("holdout"),
            "commitment": "c" * 64,
            "groups_inferred": False,
            "kinds_holdout": tuple(sorted(set(self.parts["holdout"].kinds))) if count("holdout") else (),
        }
        return Asset(**{**values, **self.asset_of})


def owner(party: str, seed: int, train: int = 200, holdout: int = 200, skill: float = 1.0, shuffled: bool = False) -> SyntheticOwner:
    parts = {"train": part(seed, train, shuffled=shuffled), "holdout": part(seed + 1000, holdout, shuffled=shuffled)}
    return SyntheticOwner(party, parts, skill)


def site(party: str, seed: int, fit: int = 40, proof: int = 0, audit: int = 200, **more: Any) -> SyntheticOwner:
    """Records drawn one by one: each is its own group."""
    sizes = {"train": fit, "holdout": proof, "audit": audit}
    parts = {name: part(seed + place, size, group=1) for place, (name, size) in enumerate(sizes.items()) if size}
    return SyntheticOwner(party, parts, **more)


def owners(**more: Any) -> dict[str, SyntheticOwner]:
    return {party: owner(party, seed, **more) for seed, party in enumerate(OWNERS)}


@dataclass
class SyntheticJobs:
    """Implements build.Jobs. terms: (party, purpose) -> digest of the agreement. refusing: statistic -> refusals.
    before: called with each request whose sum is about to be made."""

    owners: dict[str, SyntheticOwner]
    terms: dict[tuple[str, str], str] = field(default_factory=dict)
    refusing: dict[str, tuple[JobRefusal, ...]] = field(default_factory=dict)
    before: Callable[[JobRequest], None] = lambda asked: None
    asked: list[JobRequest] = field(default_factory=list)
    known: dict[str, JobStatus] = field(default_factory=dict)
    made: int = 0

    def agree(self, purpose: str, *parties: str, version: int = 1) -> None:
        for party in parties:
            self.terms[party, purpose] = digest_of({"party": party, "purpose": purpose, "version": version})

    def agreement_digest(self, party: str, purpose: str) -> str:
        try:
            return self.terms[party, purpose]
        except KeyError:
            raise AgreementError(f"{party} has no agreement for the purpose {purpose!r}", "ask it to agree") from None

    def singly(self, parties: tuple[str, ...], purpose: str) -> tuple[Any, ...]:
        return ()

    def owner(self, party: str, purpose: str) -> Asset:
        self.agreement_digest(party, purpose)
        return self.owners[party].asset

    def create(self, request: JobRequest) -> JobStatus:
        assert request.roster and all((party, request.purpose) in self.terms for party in request.roster), request.roster
        self.asked.append(request)
        job_id = "job_" + digest_of({"request": request, "assets": [self.owners[p].asset for p in request.roster]})[7:39]
        standing = self.known.get(job_id)
        if standing is None or standing.phase == "failed":
            try:
                parsed_params(request.statistic, request.params, request.stage)
            except IsthmusError as error:
                raise InputError(error.message, error.next_step) from error
            self.known[job_id] = self._status(job_id, request, phase="compute")
            self._requests[job_id] = request
        return self.known[job_id]

    def status(self, job_id: str) -> JobStatus:
        if self.known[job_id].phase == "compute":
            request = self._requests[job_id]
            self.before(request)
            self.known[job_id] = self._ended(job_id, request)
            self.made += 1
        return self.known[job_id]

    @property
    def _requests(self) -> dict[str, JobRequest]:
        return self.__dict__.setdefault("_asked_by_id", {})  # type: ignore[no-any-return]

    def _status(self, job_id: str, request: JobRequest, **more: Any) -> JobStatus:
        values: dict[str, Any] = {"attempt": 1, "missing": (), "refusals": (), "expires_at_s": 0, "bytes_received": {}, **more}
        return JobStatus(id=job_id, digest="", statistic=request.statistic, roster=request.roster, **values)

    def _ended(self, job_id: str, request: JobRequest) -> JobStatus:
        refusals = self.refusing.get(request.statistic, ())
        if refusals:
            return self._status(job_id, request, phase="failed", refusals=refusals)
        statistic, params = parsed_params(request.statistic, request.params, request.stage)
        shares = {}
        for party in request.roster:
            found = self.owners[party]
            if request.statistic == "evaluate/1":
                found.scored(params.head, params.records)
            try:
                shares[party] = computed(statistic, params, request.stage, found, LEAST_GROUP)  # type: ignore[arg-type]
            except RefusedError as error:
                refusal = JobRefusal(party=party, clause=error.clause, message=error.message, next=error.next_step)
                return self._status(job_id, request, phase="failed", refusals=(refusal,))
        if statistic.single:
            return self._status(job_id, request, phase="done", heads={p: Array.of(v) for p, v in shares.items()})
        return self._status(job_id, request, phase="done", total=Array.of(np.sum(list(shares.values()), axis=0)))


@dataclass
class House:
    """An exchange's workshop over a folder, without network."""

    root: Path
    jobs: SyntheticJobs
    clock: SetClock = field(default_factory=SetClock)
    key: SigningKey = field(default_factory=lambda: SigningKey.from_seed(b"k" * 32))

    def __post_init__(self) -> None:
        self.catalogue = Catalogue(self.root, self.clock)
        self.written = io.StringIO()
        self.log = Log(self.written, self.clock)

    @property
    def shop(self) -> Workshop:
        return Workshop(self.jobs, self.catalogue, self.key, self.clock, lambda seconds: None)

    def begun(self, run_id: str, wanted: Any) -> str:
        self.catalogue.begin(run_id, "build" if isinstance(wanted, RunRequest) else "site", wanted)
        return run_id


def house(root: Path, found: dict[str, SyntheticOwner] | None = None) -> House:
    """Three owners who agreed on the scenario's purpose and on the one after a leaver."""
    jobs = SyntheticJobs(owners() if found is None else found)
    jobs.agree(PURPOSE, *jobs.owners)
    jobs.agree(PURPOSE + "/after-leaving", *jobs.owners)
    return House(root, jobs)


def with_parts(found: SyntheticOwner, **parts: Part) -> SyntheticOwner:
    return replace(found, parts={**found.parts, **parts})
