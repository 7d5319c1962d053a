"""What a build works with, and how it asks the owners for one job and waits."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from isthmus.app.catalogue import Catalogue
from isthmus.contracts.agreement import Agreement
from isthmus.contracts.asset import Asset
from isthmus.contracts.errors import JobFailedError, JobRefusedError
from isthmus.contracts.job import JobRequest, JobStatus
from isthmus.contracts.ports import Clock, Json
from isthmus.kit.signing import SigningKey

POLL_FIRST_S, POLL_LAST_S, POLL_SHARE = 0.005, 0.2, 0.05
"""A job is looked at after ever longer pauses, a twentieth of the time that it has taken: a run of hundreds of small sums hardly waits."""
JOB_TTL_S = 1800
SILENCE_S = 90


class Jobs(Protocol):
    """The sandbox, as a build needs it."""

    def create(self, request: JobRequest) -> JobStatus:
        """Asks for a job, or finds the one that was asked for before."""

    def status(self, job_id: str) -> JobStatus:
        """Where a job stands."""

    def owner(self, party: str, purpose: str) -> Asset:
        """The asset that a party's agreement for a purpose names."""

    def agreement(self, party: str, purpose: str) -> tuple[str, Agreement]:
        """(digest, the agreement that a party made for a purpose)."""

    def of_run(self, run_id: str) -> list[JobStatus]:
        """The jobs that were asked for under a run id, without their results."""

    def silent(self, parties: Sequence[str], silence_s: float) -> tuple[str, ...]:
        """Those of the parties whose nodes have not called for that long."""

    def give_up(self, job_id: str, silent: Sequence[str]) -> JobStatus:
        """Ends a job whose countersignatures are not waited for any longer."""

    def agreement_digest(self, party: str, purpose: str) -> str:
        """Digest of the agreement that a party made for a purpose."""

    def singly(self, parties: Collection[str], purpose: str) -> tuple[Json, ...]:
        """Signed agreements of those parties who let their sums be seen singly for the purpose."""


@dataclass(frozen=True)
class Failure:
    """A job that failed, and the error that it became."""

    error: JobFailedError
    status: JobStatus


def nobody(parties: Sequence[str]) -> bool:
    """Whether a run may go on without parties: never."""
    return False


@dataclass(frozen=True)
class Workshop:
    """What a build works with. job_ttl_s: how long the owners have for one job. silence_s: how long a node may be silent before a run goes
    on without it, if can_spare says that it may. run_suffix: sets the jobs of a smaller roster apart. failures: jobs that failed, with
    the errors that said so."""

    jobs: Jobs
    catalogue: Catalogue
    key: SigningKey
    clock: Clock
    wait: Callable[[float], None]
    job_ttl_s: int = JOB_TTL_S
    silence_s: int = SILENCE_S
    run_suffix: str = ""
    can_spare: Callable[[Sequence[str]], bool] = nobody
    failures: list[Failure] = field(default_factory=list)


FEWER_FEATURES = "bring more records, or take fewer features: recipe.parts, or a lower recipe.records_per_feature, in scenario.yaml"


def finished_job(shop: Workshop, request: JobRequest) -> JobStatus:
    """Asks and waits. Raises JobRefusedError naming who refused by which clause, JobFailedError naming who was missing."""
    status, began_s = shop.jobs.create(request), shop.clock.monotonic_s()
    while status.phase not in ("done", "failed"):
        if status.phase == "countersign" and shop.clock.monotonic_s() - began_s >= shop.silence_s:
            silent = shop.jobs.silent(status.missing, shop.silence_s)
            if silent and shop.can_spare(silent):
                status = shop.jobs.give_up(status.id, silent)
                continue
        shop.wait(min(POLL_LAST_S, POLL_FIRST_S + POLL_SHARE * (shop.clock.monotonic_s() - began_s)))
        status = shop.jobs.status(status.id)
    if status.phase == "failed":
        error = _error_of(status, request.statistic)
        shop.failures.append(Failure(error, status))
        raise error
    return status


def _error_of(status: JobStatus, statistic: str) -> JobFailedError:
    said = "; ".join(f"{r.party} refused by its clause {r.clause}: {r.message}" for r in status.refusals)
    next_step = "see the owner's node log, then run again"
    if not said:
        return JobFailedError(status.reason or f"{statistic} ended without an answer", next_step)
    return JobRefusedError(said, FEWER_FEATURES if any(r.clause == "dimension" for r in status.refusals) else next_step)


def unchanged_agreements(shop: Workshop, agreements: Mapping[str, str], purpose: str) -> None:
    """Raises JobFailedError when an owner has agreed anew since a run began: its records may be others now, and what was held out when
    the model was fitted may no longer be what it is judged on. agreements: party -> digest at the beginning.
    """
    for party, digest in agreements.items():
        if shop.jobs.agreement_digest(party, purpose) != digest:
            raise JobFailedError(f"{party} made a new agreement while the run was under way", "run again; it will rest on the new one")
