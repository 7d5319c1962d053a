"""A sandbox job: one statistic, asked of a fixed roster of owners, signed by the exchange."""

from __future__ import annotations

from typing import Literal

import msgspec

from isthmus.contracts.head import Array, Stage
from isthmus.contracts.ports import Json

JOB_TYPE = "application/vnd.isthmus.job+json"
COUNTERSIGNATURE_TYPE = "application/vnd.isthmus.countersignature+json"

JobPhase = Literal["countersign", "compute", "done", "failed"]
FINAL_PHASES = ("done", "failed")


class RosterMember(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One owner in a job. asset: the owner's own signed Asset envelope, as JSON, so that others can check its counts."""

    party: str
    public_key: str
    asset: Json


class Job(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the exchange asks. Members of the roster are sorted by party id.

    id: derived from all fields but attempt and times, so that the same request has the same id. attempt: 1, 2, ... when a
    failed or expired job is asked again. Times are whole seconds since the Unix epoch. seen_singly: signed Agreement envelopes, as JSON, of
    owners outside the roster who let their sums be seen singly, so that a difference tells nothing of them that they keep.
    """

    id: str
    run_id: str
    round: int
    purpose: str
    scenario: str
    statistic: str
    stage: Stage
    params: Json
    roster: tuple[RosterMember, ...]
    attempt: int
    created_at_s: int
    expires_at_s: int
    seen_singly: tuple[Json, ...] = ()


class Countersignature(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An owner's word that it takes part in exactly this job with exactly this roster, under this one-round key.

    job: digest of the job document. mask_key: X25519 public key, 64 hex digits, used for this job only.
    """

    job: str
    roster: str
    party: str
    mask_key: str


class JobRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the operator asks the exchange for. roster: party ids, any order. ttl_s: seconds until the job expires. seen_singly: as in
    Job."""

    run_id: str
    round: int
    purpose: str
    scenario: str
    statistic: str
    stage: Stage
    params: Json
    roster: tuple[str, ...]
    ttl_s: int = 900
    seen_singly: tuple[Json, ...] = ()


class JobRefusal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why a node will not take part: the clause that forbids it, and what to do next. Holds nothing about records."""

    party: str
    clause: str
    message: str
    next: str


class JobStatus(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a job stands.

    missing: parties that are waited for now. total, total_digest: the sum over the roster as int64 and the sha256 of its
    little-endian bytes, once done. heads: for own-head/1, one array (bias, coefficients...) for each party.
    bytes_received: bytes of vectors or heads by party.
    """

    id: str
    digest: str
    statistic: str
    phase: JobPhase
    attempt: int
    roster: tuple[str, ...]
    missing: tuple[str, ...]
    refusals: tuple[JobRefusal, ...]
    expires_at_s: int
    bytes_received: dict[str, int]
    total: Array | None = None
    total_digest: str | None = None
    heads: dict[str, Array] | None = None
    reason: str | None = None


class NodeTask(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a node has to do next. job: the signed Job envelope; of a notice, the signed Notice. countersignatures: all of them, in the
    compute phase."""

    phase: Literal["countersign", "compute", "notice"]
    job: Json
    countersignatures: dict[str, Json] = {}


class NodeState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A node as the exchange sees it. seen_ago_s: seconds since its last request; alive: below the limit."""

    party: str
    alive: bool
    seen_ago_s: int
    phase: str
    done: int
    total: int
