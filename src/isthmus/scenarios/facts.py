"""What a run of a scenario found, before it is told: the material of the closing table, of `--json` and of the report."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from isthmus.contracts.build import RunView
from isthmus.contracts.ports import Json
from isthmus.contracts.receipt import Receipt
from isthmus.contracts.scenario import Scenario
from isthmus.sandbox.outlog import LogEntry
from isthmus.scenarios.local import Owner


@dataclass(frozen=True, kw_only=True)
class OwnerFacts:
    """One owner and everything that left its node, from its verified log. images_left: entries of an undeclared kind; must be 0."""

    owner: Owner
    entries: tuple[LogEntry, ...]
    bytes_left: int
    images_left: int


@dataclass(frozen=True, kw_only=True)
class Served:
    """One answered request. score, verdict: of its one image. latency_s: at the client. path: the picture; label: what its owner
    says it is, where known. foretold, outcomes: where numbers are foretold: (value, low, high) of each target, and what came of it, as the
    caller's own folder has it."""

    path: Path
    label: str | None
    certainty: str | None
    kind: str
    score: float
    verdict: str
    latency_s: float
    receipt_id: str
    charge_micros: int
    foretold: tuple[tuple[float, float, float], ...] = ()
    outcomes: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ServingFacts:
    """served: in order. receipts: of every request, with proofs, as the exchange gave them to the operator. refusals: [code, message,
    next] of refusals that were really given. book: GET /v1/book/check. accounts: party -> GET /v1/accounts/PARTY, of
    those that were asked for."""

    served: tuple[Served, ...]
    receipts: tuple[Receipt, ...]
    refusals: tuple[tuple[str, str, str], ...]
    book: Json
    caller: str
    accounts: dict[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Reference:
    """An independent fit on the pooled sample files. Only for sample data; see reference.py. weights_max_rel_diff: None for trees."""

    auc_pooled: float
    weights_max_rel_diff: float | None
    membership_auc: float
    membership: dict[str, float]


@dataclass(kw_only=True)
class RunFacts:
    """Everything of one run. fleet, site, leave: RunViews whose `result` is the JSON that app/build.py and app/site.py document;
    None where the step was not reached. artefact: the certified bytes. timings: (step, wall_s, reused)."""

    scenario: Scenario
    sample: bool
    licence_note: str
    owners: tuple[OwnerFacts, ...] = ()
    line: OwnerFacts | None = None
    fleet: RunView | None = None
    site: RunView | None = None
    leave: RunView | None = None
    leaver: str | None = None
    leave_refusal: tuple[str, str, str] | None = None
    serving: ServingFacts | None = None
    reference: Reference | None = None
    artefact: bytes | None = None
    artefact_edit_refusal: tuple[str, str, str] | None = None
    exchange_key: str = ""
    at: str = ""
    wall_s: float = 0.0
    timings: list[tuple[str, float, bool]] = field(default_factory=list)
