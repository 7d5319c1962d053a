"""The duty to delete: once an agreement has ended and its time is up, what rests on it goes, and the exchange signs that it went.

Deleted are the sums and heads of jobs that ran under the agreement and the documents that carry them, other jobs that carry these sums,
results of the runs that asked for them and of site runs made of those, and their models; certificates are revoked, deployments retired.
Receipts and the book keep their history. Copies that left the exchange, such as models on boxes at the edge, are beyond its reach: they
lapse with their certificates.

What is signed is a word, not a proof: nobody can prove that no copy was kept. It can be held against whoever signed it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from isthmus.app.catalogue import Catalogue
from isthmus.app.lives import Lives
from isthmus.contracts.agreement import Agreement
from isthmus.contracts.build import SiteRequest
from isthmus.contracts.errors import ConflictError, NotFoundError
from isthmus.contracts.head import Array
from isthmus.contracts.job import FINAL_PHASES, Job
from isthmus.contracts.life import RetireOrder
from isthmus.contracts.negotiation import DELETION_TYPE, DeletionRecord, Negotiation
from isthmus.contracts.ports import Clock, Json
from isthmus.kit.signing import SigningKey, payload_of, seal
from isthmus.sandbox.agreements import read_terms
from isthmus.sandbox.coordinator import JobState
from isthmus.sandbox.jobstore import JobStore
from isthmus.sandbox.negotiationstore import Kept
from isthmus.sandbox.service import SandboxService

DAY_S = 24 * 3600
WHY = "deleted as an owner's agreement asks after its end"


@dataclass
class Found:
    """What rests on an agreement."""

    jobs: dict[str, JobState] = field(default_factory=dict)
    runs: list[str] = field(default_factory=list)
    artefacts: list[str] = field(default_factory=list)
    certificates: list[str] = field(default_factory=list)

    @property
    def totals(self) -> tuple[str, ...]:
        digests = [state.outcome.digest for state in self.jobs.values() if state.outcome is not None]
        return tuple(sorted(digest for digest in digests if digest is not None))


def ended_at_s(negotiation: Negotiation) -> int:
    """When the terms ended: with their time, or with the word that ended them before."""
    return min(negotiation.expires_at_s, negotiation.messages[-1].at_s)


class Deletions:
    """Runs under the exchange's upkeep. key: the exchange's own, which signs the records."""

    def __init__(self, service: SandboxService, jobs: JobStore, catalogue: Catalogue, lives: Lives, key: SigningKey, clock: Clock) -> None:
        self._service, self._jobs, self._catalogue, self._lives, self._key, self._clock = service, jobs, catalogue, lives, key, clock

    def turn(self) -> list[DeletionRecord]:
        """Deletes what is due; returns the records, which owners' nodes fetch. A turn that was cut off is done again by the next."""
        return [self._deleted(kept, agreement) for kept, agreement in list(self._due())]

    def _due(self) -> Iterator[tuple[Kept, Agreement]]:
        """Ended agreements with a duty that is to be done now: within the last day that they leave, and not while a renewal is in force."""
        terms = {digest: read_terms(envelope) for digest, _, envelope in self._service.agreements()}
        for kept in self._jobs.negotiations.all():
            agreement = terms.get(kept.negotiation.agreement or "")
            if kept.negotiation.state != "TERMINATED" or kept.deletion is not None or agreement is None or agreement.deletion_days is None:
                continue
            begin_s = ended_at_s(kept.negotiation) + max(0, agreement.deletion_days - 1) * DAY_S
            if self._clock.now_s() >= begin_s and not self._renewed(agreement, terms):
                yield kept, agreement

    def _renewed(self, agreement: Agreement, terms: dict[str, Agreement]) -> bool:
        """Whether the owner agreed to the same use of the same asset anew, in force now."""
        same = [
            digest
            for digest, other in terms.items()
            if (other.owner, other.asset) == (agreement.owner, agreement.asset) and set(agreement.purposes) <= set(other.purposes)
        ]
        return any(self._service.desk.standing(digest)[0] == "FINALIZED" for digest in same)

    def _deleted(self, kept: Kept, agreement: Agreement) -> DeletionRecord:
        """Plan, deed, record: in this order, each durable, so that after a crash the record still names all that went."""
        plan = self._planned(kept, agreement)
        for digest in plan.certificates:
            self._catalogue.revoke(digest, WHY)
        self._retire(plan.artefacts, plan.agreement)
        for run_id in plan.runs:
            self._catalogue.end(run_id, "failed", None, {"code": "deleted", "message": WHY, "next": "run again without that owner"})
        for digest in plan.artefacts:
            self._catalogue.forget_model(digest)
        self._jobs.forget_jobs(plan.jobs)
        self._catalogue.scrub()
        record = msgspec.structs.replace(plan, deleted_at_s=int(self._clock.now_s()))
        self._jobs.negotiations.put(kept.negotiation, deletion=seal(self._key, DELETION_TYPE, record))
        return record

    def _planned(self, kept: Kept, agreement: Agreement) -> DeletionRecord:
        if kept.plan is not None:
            return msgspec.json.decode(payload_of(kept.plan), type=DeletionRecord)
        digest, ended_s = kept.negotiation.agreement or "", ended_at_s(kept.negotiation)
        found = self._resting(digest, agreement)
        plan = DeletionRecord(
            agreement=digest,
            owner=agreement.owner,
            ended_at_s=ended_s,
            due_at_s=ended_s + (agreement.deletion_days or 0) * DAY_S,
            deleted_at_s=0,
            jobs=tuple(sorted(found.jobs)),
            totals=found.totals,
            artefacts=tuple(found.artefacts),
            certificates=tuple(found.certificates),
            runs=tuple(found.runs),
        )
        self._jobs.negotiations.put(kept.negotiation, plan=seal(self._key, DELETION_TYPE, plan))
        return plan

    def _retire(self, artefacts: tuple[str, ...], agreement: str) -> None:
        for name in self._lives.names():
            life = self._lives.life(name)
            if life.serving is not None and not life.retired and life.serving.deployment.artefact_digest in artefacts:
                order = RetireOrder(id=f"deletion-{agreement.removeprefix('sha256:')[:32]}-{name}"[:64], why=WHY)
                with contextlib.suppress(ConflictError):
                    self._lives.retire(name, order, "exchange")

    # What rests on an agreement.

    def _resting(self, digest: str, agreement: Agreement) -> Found:
        found = Found()
        states = [self._settled(state) for state in self._jobs.all_jobs()]
        for state in states:
            if state.phase in FINAL_PHASES and self._governs(digest, agreement, state.job):
                found.jobs[state.job.id] = state
        carried = [Array.of(s.outcome.total).data for s in found.jobs.values() if s.outcome is not None and s.outcome.total is not None]
        for state in states:
            payload = payload_of(state.envelope)
            if state.phase in FINAL_PHASES and any(data.encode() in payload for data in carried):
                found.jobs.setdefault(state.job.id, state)
        self._add_models(found, digest)
        return found

    def _settled(self, state: JobState) -> JobState:
        """An open job whose time is over, brought to its end."""
        if state.phase not in FINAL_PHASES:
            with contextlib.suppress(NotFoundError):
                self._service.job(state.job.id)
                return self._jobs.job(state.job.id) or state
        return state

    def _governs(self, digest: str, agreement: Agreement, job: Job) -> bool:
        """Whether a job ran under the agreement: its owner is in the roster, and it was the newest for the purpose at that time."""
        if agreement.owner not in {member.party for member in job.roster} or job.purpose not in agreement.purposes:
            return False
        for known, owner, envelope in self._service.agreements():
            if owner == agreement.owner:
                terms = read_terms(envelope)
                if job.purpose in terms.purposes and terms.issued_at_s <= job.created_at_s:
                    return known == digest
        return False

    def _add_models(self, found: Found, digest: str) -> None:
        asked = {state.job.run_id.partition("/")[0] for state in found.jobs.values()}
        known = dict(self._catalogue.every_run())
        runs = {run_id for run_id in known if run_id in asked}
        runs |= {run_id for run_id, request in known.items() if isinstance(request, SiteRequest) and request.run in runs}
        for certificate, run_id, model, agreements in self._catalogue.every_certificate():
            if digest in agreements or run_id in runs:
                found.certificates.append(certificate)
                found.artefacts.append(model)
                runs |= {run_id} & set(known)
        for run_id in sorted(runs):
            with contextlib.suppress(NotFoundError):
                found.artefacts += sorted(_artefacts_in(self._catalogue.view(run_id).result or {}))
        found.runs = sorted(runs)
        found.artefacts = list(dict.fromkeys(found.artefacts))


def _artefacts_in(result: Json) -> set[str]:
    """Digests of the models that a run's result names: the one that was certified, and those of rungs that were not."""
    named = {result.get("artefact_digest"), *(rung.get("artefact_digest") for rung in result.get("rungs", ()))}
    return {digest for digest in named if isinstance(digest, str)}


def records_of(jobs: JobStore) -> list[DeletionRecord]:
    """Every record that was signed here, in order."""
    raw = [kept.deletion for kept in jobs.negotiations.all() if kept.deletion is not None]
    return [msgspec.json.decode(payload_of(envelope), type=DeletionRecord) for envelope in raw]
