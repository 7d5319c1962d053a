"""What a build works with, and how it asks the owners for one job and waits."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from isthmus.app.catalogue import Catalogue
from isthmus.contracts.asset import Asset
from isthmus.contracts.errors import JobFailedError, JobRefusedError
from isthmus.contracts.job import JobRequest, JobStatus
from isthmus.contracts.ports import Clock, Json
from isthmus.contracts.treesums import HISTOGRAMS
from isthmus.kit.signing import SigningKey

POLL_S = 0.2
ROUND_POLL_S = 0.02
"""Where a run asks for hundreds of small sums one after the other."""
JOB_TTL_S = 1800


class Jobs(Protocol):
    """The sandbox, as a build needs it."""

    def create(self, request: JobRequest) -> JobStatus:
        """Asks for a job, or finds the one that was asked for before."""

    def status(self, job_id: str) -> JobStatus:
        """Where a job stands."""

    def owner(self, party: str, purpose: str) -> Asset:
        """The asset that a party's agreement for a purpose names."""

    def agreement_digest(self, party: str, purpose: str) -> str:
        """Digest of the agreement that a party made for a purpose."""

    def singly(self, parties: Collection[str], purpose: str) -> tuple[Json, ...]:
        """Signed agreements of those parties who let their sums be seen singly for the purpose."""


@dataclass(frozen=True)
class Workshop:
    """What a build works with. job_ttl_s: how long the owners have for one job."""

    jobs: Jobs
    catalogue: Catalogue
    key: SigningKey
    clock: Clock
    wait: Callable[[float], None]
    job_ttl_s: int = JOB_TTL_S


FEWER_FEATURES = "bring more records, or take fewer features: recipe.parts, or a lower recipe.records_per_feature, in scenario.yaml"


def finished_job(shop: Workshop, request: JobRequest) -> JobStatus:
    """Asks and waits. Raises JobRefusedError naming who refused by which clause, JobFailedError naming who was missing."""
    status = shop.jobs.create(request)
    while status.phase not in ("done", "failed"):
        shop.wait(ROUND_POLL_S if request.statistic == HISTOGRAMS else POLL_S)
        status = shop.jobs.status(status.id)
    if status.phase == "failed":
        said = "; ".join(f"{r.party} refused by its clause {r.clause}: {r.message}" for r in status.refusals)
        next_step = "see the owner's node log, then run again"
        if said:
            if any(r.clause == "dimension" for r in status.refusals):
                next_step = FEWER_FEATURES
            raise JobRefusedError(said, next_step)
        raise JobFailedError(status.reason or f"{request.statistic} ended without an answer", next_step)
    return status


def unchanged_agreements(shop: Workshop, agreements: Mapping[str, str], purpose: str) -> None:
    """Raises JobFailedError when an owner has agreed anew since a run began: its records may be others now, and what was held out when
    the model was fitted may no longer be what it is judged on. agreements: party -> digest at the beginning.
    """
    for party, digest in agreements.items():
        if shop.jobs.agreement_digest(party, purpose) != digest:
            raise JobFailedError(f"{party} made a new agreement while the run was under way", "run again; it will rest on the new one")
