"""A sandbox job: one statistic, asked of a fixed roster of owners, signed by the exchange."""

from __future__ import annotations

from typing import Literal

import msgspec

from isthmus.contracts.agreement import Output
from isthmus.contracts.head import Array, Stage
from isthmus.contracts.ports import Json

JOB_TYPE = "application/vnd.isthmus.job+json"
COUNTERSIGNATURE_TYPE = "application/vnd.isthmus.countersignature+json"

JobPhase = Literal["countersign", "compute", "done", "failed"]
FINAL_PHASES = ("done", "failed")
PAUSED = "paused"
"""The clause by which a node refuses while its owner has paused it, and the phase that it tells."""


class Noise(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is added to a sum before anybody sees it, so that no privacy unit shows in it.

    deviations: for each block of the statistic's entries (sandbox.statistics.sensitivity) the standard deviation of the noise that the
    shares of all but one voice of the roster add up to; a whole number, in the entries' own units. 0: the block is not told, zeros leave in
    its place. norm_max: each row of features is shortened to this Euclidean length before it is summed; 0 leaves it as long as declared
    ranges allow.
    """

    deviations: tuple[int, ...]
    norm_max: int = 0


class RosterMember(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One owner in a job. asset: the owner's own signed Asset envelope, as JSON, so that others can check its counts. credential: an
    issuer's signed word that this key is this party's, for owners whose agreements do not pin the key itself."""

    party: str
    public_key: str
    asset: Json
    credential: Json | None = None


class JobTerms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the exchange signs that it does with a job's result. What is not said counts as refused where an agreement restricts it.

    jurisdiction: where the exchange keeps the result, as a slug (`de`, `eu`). models_to: where models made of it may serve. output: what is
    made of it. owners_share_ppm: the owners' part of each charge. deletion_days: the result and what is made of it are deleted within so
    many days after an owner's agreement has ended.
    """

    jurisdiction: str = ""
    models_to: tuple[str, ...] = ()
    output: Output | None = None
    owners_share_ppm: int | None = None
    deletion_days: int | None = None


class Job(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the exchange asks. Members of the roster are sorted by party id.

    id: derived from all fields but attempt and times, so that the same request has the same id. attempt: 1, 2, ... when a
    failed or expired job is asked again. terms: what becomes of the result. noise: what every node adds; None: the exact sum. Times are
    whole seconds since the Unix epoch. seen_singly: signed agreements, as JSON, of owners outside the roster who let their sums be seen
    singly, so that a difference tells nothing of them that they keep.
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
    terms: JobTerms = JobTerms()
    noise: Noise | None = None
    seen_singly: tuple[Json, ...] = ()


class Countersignature(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An owner's word that it takes part in exactly this job with exactly this roster, under this one-round key.

    job: digest of the job document. mask_key: X25519 public key, 64 hex digits, used for this job only. asset, purpose, statistic: what of
    the owner's it commits to give, for what; kept and written into the owner's log before a mask is made.
    """

    job: str
    roster: str
    party: str
    mask_key: str
    asset: str = ""
    purpose: str = ""
    statistic: str = ""


class JobRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the operator asks the exchange for. roster: party ids, any order. ttl_s: seconds until the job expires.

    models_to, owners_share_ppm: as in JobTerms, from the scenario; the exchange adds where it stands, what kind of output the statistic is
    for, and when it deletes. seen_singly: as in Job.
    """

    run_id: str
    round: int
    purpose: str
    scenario: str
    statistic: str
    stage: Stage
    params: Json
    roster: tuple[str, ...]
    ttl_s: int = 900
    models_to: tuple[str, ...] = ()
    owners_share_ppm: int | None = None
    noise: Noise | None = None
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
    bytes_received: bytes of vectors or heads by party. countersigned: who has countersigned; while somebody has not, nothing
    that was computed has left an owner for this job.
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
    countersigned: tuple[str, ...] = ()


class NodeTask(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a node has to do next. job: the signed Job envelope; of a notice, the signed Notice. countersignatures: all of them, in the
    compute phase. rotations: signed Rotation envelopes of members whose keys have changed, which speak for themselves."""

    phase: Literal["countersign", "compute", "notice"]
    job: Json
    countersignatures: dict[str, Json] = {}
    rotations: tuple[Json, ...] = ()


class NodeState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A node as the exchange sees it. seen_ago_s: seconds since its last request; alive: below the limit."""

    party: str
    alive: bool
    seen_ago_s: int
    phase: str
    done: int
    total: int
