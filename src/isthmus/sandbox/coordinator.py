"""The exchange's side of a job as a state machine: pure functions from one state to the next.

countersign -> compute -> done; failed from either, by a refusal or by expiry. The exchange sees masked vectors only; it
adds them up and forgets them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.errors import ConflictError, InputError, JobClosedError, SignatureError
from isthmus.contracts.head import Array
from isthmus.contracts.job import COUNTERSIGNATURE_TYPE, FINAL_PHASES, Countersignature, Job, JobPhase, JobRefusal, JobStatus, NodeTask
from isthmus.kit.canonical import sha256_hex
from isthmus.kit.signing import Envelope, key_id, unseal
from isthmus.sandbox.masking import unmasked_sum
from isthmus.sandbox.statistics.registry import parsed_params
from isthmus.sandbox.terms import roster_digest


@dataclass(frozen=True)
class Outcome:
    """What a finished job gave: the sum, or one head for each owner."""

    total: NDArray[np.int64] | None = None
    heads: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    @property
    def digest(self) -> str | None:
        """sha256 of the sum's little-endian bytes."""
        return None if self.total is None else "sha256:" + sha256_hex(self.total.astype("<i8").tobytes())


@dataclass(frozen=True)
class Delivery:
    """A vector or head as it came. size: in bytes. body is None once the sum is made."""

    sha256: str
    size: int
    body: bytes | None


@dataclass(frozen=True)
class JobState:
    """A job, its signed envelope, and what came for it so far."""

    job: Job
    digest: str
    envelope: Envelope
    phase: JobPhase = "countersign"
    countersignatures: Mapping[str, Envelope] = field(default_factory=dict)
    deliveries: Mapping[str, Delivery] = field(default_factory=dict)
    refusals: tuple[JobRefusal, ...] = ()
    reason: str | None = None
    outcome: Outcome | None = None

    @property
    def parties(self) -> tuple[str, ...]:
        return tuple(member.party for member in self.job.roster)


def missing(state: JobState) -> tuple[str, ...]:
    """Who is waited for now."""
    if state.phase in FINAL_PHASES:
        return ()
    have = state.countersignatures if state.phase == "countersign" else state.deliveries
    return tuple(party for party in state.parties if party not in have)


def at_time(state: JobState, now_s: float) -> JobState:
    """The state at a moment: a job past its expiry has failed."""
    if state.phase in FINAL_PHASES or now_s < state.job.expires_at_s:
        return state
    step = "countersign" if state.phase == "countersign" else "send its share"
    return _forgotten(replace(state, phase="failed", reason=f"it expired before {', '.join(missing(state))} could {step}"))


def _forgotten(state: JobState) -> JobState:
    """Drops the bodies of single owners' vectors."""
    return replace(state, deliveries={party: replace(d, body=None) for party, d in state.deliveries.items()})


def task_for(state: JobState, party: str) -> NodeTask | None:
    """What this party has to do, or None."""
    if party not in missing(state):
        return None
    signed = {p: msgspec.to_builtins(e) for p, e in state.countersignatures.items()} if state.phase == "compute" else {}
    phase = "countersign" if state.phase == "countersign" else "compute"
    return NodeTask(phase=phase, job=msgspec.to_builtins(state.envelope), countersignatures=signed)  # type: ignore[arg-type]


def _check_member(state: JobState, party: str, digest: str) -> None:
    if party not in state.parties:
        raise InputError(f"{party} is not in the roster of {state.job.id}", "post to your own jobs only")
    if digest != state.digest:
        raise JobClosedError(f"{state.job.id} was asked anew since", "fetch your tasks again")


def countersigned(state: JobState, party: str, digest: str, envelope: Envelope) -> JobState:
    """Takes one owner's countersignature. The same one again changes nothing."""
    _check_member(state, party, digest)
    if party in state.countersignatures:
        if state.countersignatures[party] != envelope:
            raise ConflictError(f"{party} countersigned {state.job.id} before, with other bytes", "send what was sent before")
        return state
    if state.phase != "countersign":
        raise JobClosedError(f"{state.job.id} takes no countersignatures: it is in phase {state.phase}", "fetch your tasks again")
    key = next(member.public_key for member in state.job.roster if member.party == party)
    try:
        word = msgspec.convert(unseal(envelope, COUNTERSIGNATURE_TYPE, {key_id(key): key}), Countersignature)
    except msgspec.ValidationError as error:
        raise InputError(f"the countersignature of {party} is malformed: {error}", "send what the schema says") from error
    if (word.job, word.party, word.roster) != (state.digest, party, roster_digest(state.job)):
        raise SignatureError(f"the countersignature of {party} is for another job or roster", "countersign this one")
    found = replace(state, countersignatures={**state.countersignatures, party: envelope})
    return found if missing(found) else replace(found, phase="compute")


def delivered(state: JobState, party: str, digest: str, kind: str, body: bytes) -> JobState:
    """Takes one owner's masked vector, or head. With the last one the sum is made and the parts are forgotten."""
    _check_member(state, party, digest)
    known = state.deliveries.get(party)
    if known is not None:
        if known.sha256 != sha256_hex(body):
            raise ConflictError(
                f"{party} sent other bytes for {state.job.id} before", "a share is computed once; send what was sent before"
            )
        return state
    if state.phase != "compute":
        raise JobClosedError(f"{state.job.id} takes no shares: it is in phase {state.phase}", "fetch your tasks again")
    statistic, params = parsed_params(state.job.statistic, state.job.params, state.job.stage)
    size = statistic.size(params, state.job.stage)
    if kind != ("head" if statistic.single else "vector") or len(body) != 8 * size:
        raise InputError(f"{party} sent a {kind} of {len(body)} bytes; {statistic.name} has {size} numbers", "use the same release")
    found = replace(state, deliveries={**state.deliveries, party: Delivery(sha256_hex(body), len(body), body)})
    return found if missing(found) else _forgotten(replace(found, phase="done", outcome=_outcome(found, statistic.single)))


def _outcome(state: JobState, single: bool) -> Outcome:
    bodies = {party: delivery.body or b"" for party, delivery in state.deliveries.items()}
    if single:
        return Outcome(heads={party: np.frombuffer(body, dtype="<f8").copy() for party, body in bodies.items()})
    return Outcome(total=unmasked_sum([np.frombuffer(body, dtype="<u8").astype(np.uint64) for body in bodies.values()]))


def refused(state: JobState, digest: str, refusal: JobRefusal) -> JobState:
    """Takes one owner's refusal: the job has failed, because masks of all are needed or none."""
    _check_member(state, refusal.party, digest)
    if state.phase == "done" or refusal in state.refusals:
        return state
    reason = state.reason or f"{refusal.party} refused ({refusal.clause}): {refusal.message}"
    return _forgotten(replace(state, phase="failed", refusals=(*state.refusals, refusal), reason=reason))


def abandoned(state: JobState, party: str) -> JobState:
    """The state once an owner of its roster has left: failed, unless it was finished."""
    if state.phase in FINAL_PHASES:
        return state
    return _forgotten(replace(state, phase="failed", reason=f"{party} has left: its agreement is withdrawn"))


def status_of(state: JobState, with_outcome: bool = True) -> JobStatus:
    """The state as the API shows it."""
    outcome = state.outcome if with_outcome else None
    found: dict[str, Any] = {}
    if outcome is not None and outcome.total is not None:
        found = {"total": Array.of(outcome.total), "total_digest": outcome.digest}
    elif outcome is not None:
        found = {"heads": {party: Array.of(head) for party, head in outcome.heads.items()}}
    return JobStatus(
        id=state.job.id,
        digest=state.digest,
        statistic=state.job.statistic,
        phase=state.phase,
        attempt=state.job.attempt,
        roster=state.parties,
        missing=missing(state),
        refusals=state.refusals,
        expires_at_s=state.job.expires_at_s,
        bytes_received={party: delivery.size for party, delivery in state.deliveries.items()},
        reason=state.reason,
        **found,
    )
