"""The owner's node: fetches signed jobs, holds them against the owner's terms, computes, and says what it sent.

The order within a job is what makes it safe to be killed at any point: decide, store, write to the owner's log, send. A share
is computed once; what was stored is sent again, byte for byte, until the exchange has it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np

from isthmus.contracts.agreement import Agreement
from isthmus.contracts.errors import ConflictError, InputError, IsthmusError, JobClosedError, RefusedError, SignatureError, UnreachableError
from isthmus.contracts.job import COUNTERSIGNATURE_TYPE, JOB_TYPE, PAUSED, Countersignature, Job, JobRefusal, NodeTask
from isthmus.contracts.ports import Clock
from isthmus.contracts.question import QuestionParams
from isthmus.kit.canonical import canonical_bytes, digest_of, parse_canonical, sha256_hex
from isthmus.kit.signing import Envelope, SigningKey, key_id, payload_of, seal, unseal
from isthmus.sandbox.agreements import agreement_digest, read_terms, unsealed_terms
from isthmus.sandbox.held import Data
from isthmus.sandbox.history import PastJob, job_content, stage_blocks
from isthmus.sandbox.leaving import withdrawn
from isthmus.sandbox.masking import check_range, mask_public_hex, masked, new_mask_key
from isthmus.sandbox.nodestore import NodeStore, StoredJob
from isthmus.sandbox.nodeterms import NodeTerms
from isthmus.sandbox.notices import TAKEN, taken_notice
from isthmus.sandbox.outlog import Leaving, OutLog
from isthmus.sandbox.release import check_budget, noisy_share
from isthmus.sandbox.rotation import chain, checked_rotation, extended
from isthmus.sandbox.statistics.question import declared
from isthmus.sandbox.statistics.registry import STATISTICS, Statistic, computed
from isthmus.sandbox.terms import check_effective, check_job, roster_digest
from isthmus.sandbox.uplink import Uplink

JSON, OCTETS = "application/json", "application/octet-stream"
WAIT_S = 10.0
STATUS_EVERY_S = 2.0
HELD_EVERY_S = 30.0
TERMS_EVERY_S = 10.0
PAUSE_FIRST_S, PAUSE_LAST_S = 0.2, 5.0
ROTATIONS = "rotations"
"""The fact of the store that holds other owners' changes of keys."""
Report = Callable[[str, dict[str, Any]], None]


def unreported(event: str, fields: dict[str, Any]) -> None:
    """A Report that says nothing."""


@dataclass
class Identity:
    """Who this node is. party, asset: signed envelopes. rotations: signed words by which its key came from earlier ones, in order."""

    id: str
    key: SigningKey
    party: Envelope
    asset: Envelope
    rotations: tuple[Envelope, ...] = ()


@dataclass(frozen=True)
class Trusted:
    """A job that the pinned exchange signed, and the agreement that it is held against, with the keys that its participants have now.
    terms: digest of the agreement as the owner signed it, by which runs are counted."""

    job: Job
    agreement: Agreement
    terms: str


class Node:
    """One owner's node. Not thread-safe: one loop drives it.

    report: where events go locally (never to the exchange). on_progress of `data` is taken over to send status messages.
    """

    def __init__(
        self, identity: Identity, data: Data, store: NodeStore, log: OutLog, uplink: Uplink, clock: Clock, report: Report = unreported
    ) -> None:
        self._me, self._store, self._log, self._uplink, self._clock, self._report = identity, store, log, uplink, clock, report
        self._data = data.telling(self._progress)
        self._posted: set[str] = set()
        self._terms = NodeTerms(identity.id, identity.key, store)
        self._terms_at_s = float("-inf")
        self._job = ("", "")
        self._stuck = False
        self._status_at_s = float("-inf")
        self._told_paused = False
        self._held_at_s: dict[str, float] = {}

    # The loop.

    def run(self, stop: threading.Event, wait_s: float = WAIT_S) -> None:
        """Works until `stop` is set. An exchange that is away is tried again, ever more slowly, up to PAUSE_LAST_S."""
        pause_s = PAUSE_FIRST_S
        while not stop.is_set():
            try:
                self._stuck = False
                self.step(wait_s)
                pause_s = PAUSE_FIRST_S
                if self._stuck:
                    stop.wait(STATUS_EVERY_S)
            except UnreachableError as error:
                self._report("exchange-away", {"message": str(error), "pause_s": pause_s})
                self._posted.clear()
                stop.wait(pause_s)
                pause_s = min(PAUSE_LAST_S, pause_s * 2)

    def step(self, wait_s: float) -> int:
        """Registers what is new, then does the tasks there are; returns how many. Raises UnreachableError."""
        self._register()
        tasks = self._uplink.tasks(wait_s)
        for task in tasks:
            self._do(task)
        if not tasks:
            self._status_at_s = float("-inf")
        return len(tasks)

    def _reach(self) -> None:
        """Asks an exchange that is new, or was away, for something without a body first: what was never sent shall not fill the log."""
        with contextlib.suppress(SignatureError, JobClosedError, ConflictError, InputError):
            self._uplink.tasks(0)

    def _register(self) -> None:
        if not self._posted:
            self._reach()
        documents = [("rotation", "/v1/rotations", word) for word in self._me.rotations]
        documents += [("party", "/v1/parties", self._me.party), ("asset", "/v1/assets", self._me.asset)]
        documents += [("agreement", "/v1/agreements", envelope) for _, envelope in reversed(self._store.agreements())]
        new = False
        for kind, path, envelope in documents:
            new = self._say(kind, path, canonical_bytes(envelope)) or new
        for envelope in self._store.withdrawals():
            try:
                self._say("withdrawal", "/v1/withdrawals", canonical_bytes(envelope))
            except (ConflictError, InputError, SignatureError) as error:  # this node refuses all the same
                self._posted.add(sha256_hex(canonical_bytes(envelope)))
                self._report("withdrawal-not-taken", {"message": str(error)})
        now_s = self._clock.monotonic_s()
        if new or now_s >= self._terms_at_s:
            self._terms_at_s = now_s + TERMS_EVERY_S
            for word in self._terms.answers(self._uplink.terms(), int(self._clock.now_s())):
                self._send_word(word)

    def _say(self, kind: str, path: str, body: bytes) -> bool:
        """Sends a document, once for each time that the exchange was reached anew; whether it was sent now."""
        if sha256_hex(body) in self._posted:
            return False
        self._send(Leaving(kind, body, self._uplink.address), path, JSON)
        self._posted.add(sha256_hex(body))
        return True

    def _send_word(self, word: Envelope) -> None:
        """A word on an agreement. One that the exchange does not take is told again later, as the exchange still lists it."""
        body = canonical_bytes(word)
        try:
            self._send(Leaving("terms", body, self._uplink.address), f"/v1/nodes/{self._me.id}/terms", JSON)
        except (ConflictError, InputError, SignatureError, JobClosedError) as error:
            self._report("terms-not-taken", {"message": str(error)})

    def _paused(self) -> bool:
        """Whether the owner has paused this node; said in the log when it changes."""
        paused = self._store.fact(PAUSED) is not None
        if paused != self._told_paused:
            self._told_paused = paused
            self._report("paused" if paused else "resumed", {})
        return paused

    def _hold(self, job: Job, digest: str) -> None:
        """Leaves a job that was countersigned before the pause unanswered, and tells the exchange why, now and then."""
        self._stuck = True
        now_s = self._clock.monotonic_s()
        if now_s - self._held_at_s.get(digest, float("-inf")) < HELD_EVERY_S:
            return
        self._held_at_s[digest] = now_s
        body = canonical_bytes({"phase": PAUSED, "done": 0, "total": 0})
        try:
            self._send(Leaving("status", body, self._uplink.address, digest), f"/v1/tasks/{job.id}/{self._me.id}/status?job={digest}", JSON)
        except (ConflictError, InputError, SignatureError) as error:
            self._report("status-not-taken", {"message": str(error)})

    def _send(self, leaving: Leaving, path: str, content_type: str) -> None:
        """Log first, then send."""
        self._log.append(leaving)
        self._uplink.post(path, leaving.body, content_type)

    def _progress(self, done: int, total: int, label: str) -> None:
        """Counts of work done, to the local report and, at most every STATUS_EVERY_S, to the exchange."""
        now_s = self._clock.monotonic_s()
        if now_s - self._status_at_s < STATUS_EVERY_S and done < total:
            return
        self._status_at_s = now_s
        self._report("progress", {"label": label, "done": done, "total": total})
        job_id, digest = self._job
        body = canonical_bytes({"phase": label, "done": done, "total": total})
        try:
            self._send(Leaving("status", body, self._uplink.address, digest), f"/v1/tasks/{job_id}/{self._me.id}/status?job={digest}", JSON)
        except (UnreachableError, ConflictError, InputError, SignatureError) as error:
            self._report("status-not-taken", {"message": str(error)})

    # One task.

    def _do(self, task: NodeTask) -> None:
        if task.phase == "notice":
            return self._take_notice(task.job)
        try:
            envelope = msgspec.convert(task.job, Envelope)
            digest = "sha256:" + sha256_hex(payload_of(envelope))
            unverified = msgspec.convert(parse_canonical(payload_of(envelope)), Job)
        except (msgspec.ValidationError, InputError) as error:
            self._stuck = True
            self._report("task-malformed", {"message": str(error)})
            return
        self._job = (unverified.id, digest)
        try:
            stored = self._store.job(digest)
            if stored is not None and stored.refusal is not None:
                return self._deliver(stored, unverified, "refusal", stored.refusal)
            found = self._trusted(envelope, unverified, task.rotations)
            if task.phase == "countersign":
                self._countersign(stored, found, digest)
            else:
                self._answer(stored, found, digest, task.countersignatures)
        except RefusedError as error:
            self._refuse(unverified, digest, error)
        except (JobClosedError, ConflictError) as error:
            self._stuck = True
            self._report("not-taken", {"job": unverified.id, "message": str(error)})

    def _take_notice(self, document: Any) -> None:
        """Keeps what the exchange tells this owner, and says that it has it. Nothing else follows from it."""
        pinned = {read_terms(envelope).exchange for _, envelope in self._store.agreements()}
        try:
            digest, notice = taken_notice(self._store, document, self._me.id, pinned)
            self._report("notice", {"run": notice.run, "kind": notice.kind, "message": notice.says, "left_out": notice.left_out})
            self._send(Leaving(TAKEN, b"{}", self._uplink.address, digest), f"/v1/tasks/notice/{self._me.id}/{TAKEN}?job={digest}", JSON)
        except (RefusedError, ConflictError, InputError, SignatureError) as error:
            self._stuck = True
            self._report("notice-not-taken", {"message": str(error)})

    def _trusted(self, envelope: Envelope, unverified: Job, rotations: tuple[Any, ...]) -> Trusted:
        """The job, signed by the exchange that an agreement pins, and that agreement: the newest for asset and purpose."""
        agreements = [
            (digest, unsealed_terms(given, {self._me.key.key_id: self._me.key.public_hex})) for digest, given in self._store.agreements()
        ]
        if not agreements:
            raise RefusedError("agreement", f"{self._me.id} has no agreement", "ask the owner for one")
        asset = digest_of(msgspec.json.decode(payload_of(self._me.asset)))
        fitting = [a for a in agreements if a[1].asset == asset and unverified.purpose in a[1].purposes]
        terms, agreement = (fitting or [a for a in agreements if a[1].asset == asset] or agreements)[0]
        if unverified.purpose in withdrawn(self._store).get(terms, frozenset()):
            what = f"{self._me.id} has left: its agreement for the purpose {unverified.purpose!r} is withdrawn"
            raise RefusedError("withdrawn", what, "go on without it; only its owner can agree anew")
        self._terms.check_standing(terms)
        try:
            document = unseal(envelope, JOB_TYPE, {key_id(agreement.exchange): agreement.exchange})
        except SignatureError as error:
            raise RefusedError(
                "exchange-signature", "the job is not signed by the exchange that the agreement names", "use that exchange"
            ) from error
        return Trusted(msgspec.convert(document, Job), self._present(agreement, rotations), terms)

    def _present(self, agreement: Agreement, given: tuple[Any, ...]) -> Agreement:
        """The agreement with the keys that its participants have now. Links of their chains are kept, so that a key that was once seen to
        have been changed for another is refused for good, whatever an exchange tells later."""
        raw = self._store.fact(ROTATIONS)
        kept = () if raw is None else msgspec.json.decode(raw, type=tuple[Envelope, ...])
        known = extended(kept, [*self._me.rotations, *given])
        if not known:
            return agreement
        words = [checked_rotation(envelope) for envelope in known]
        chains = {party: chain(party, key, words) for party, key in agreement.participants.items()}
        issuers = {name: chain(None, key, words) for name, key in agreement.issuers.items()}
        held = {checked_rotation(envelope).old_key for envelope in kept}
        spent = held | {key for keys in (*chains.values(), *issuers.values()) for key in keys[:-1]}
        if spent > held:  # what hangs on no pinned key is not kept, so that nobody can fill this store
            fitting = tuple(envelope for envelope, word in zip(known, words, strict=True) if word.old_key in spent)
            self._store.put_fact(ROTATIONS, msgspec.json.encode(fitting))
        now = {"participants": {party: keys[-1] for party, keys in chains.items()}}
        # an issuer that takes part is one voice with itself, also when it has changed its key: the words it gave before need renewing
        now["issuers"] = {name: keys[-1] for name, keys in issuers.items()}
        return msgspec.structs.replace(agreement, **now)

    def _checked(self, found: Trusted) -> tuple[Statistic, Any, PastJob]:
        job, agreement, now_s = found.job, found.agreement, self._clock.now_s()
        present = agreement_digest(agreement)
        past = [replace(p, agreement=present) if p.agreement == found.terms else p for p in self._store.past_jobs()]
        statistic, params, roster = check_job(agreement, self._me.key.public_hex, job, past, now_s)
        check_budget(agreement, statistic, params, job, self._store.privacy, self._data.groups, now_s)
        if isinstance(params, QuestionParams):
            declared(job.stage, self._data)
        asked = (found.terms, job.run_id, job.round, job.statistic, job.stage.digest, job_content(job))
        return statistic, params, PastJob(*asked, roster, stage_blocks(job))

    def _countersign(self, stored: StoredJob | None, found: Trusted, digest: str) -> None:
        job = found.job
        if stored is None:
            if self._paused():
                raise RefusedError(PAUSED, f"the owner has paused {self._me.id}", "ask again when it has resumed")
            _, _, past = self._checked(found)
            private = new_mask_key()
            word = Countersignature(
                job=digest,
                roster=roster_digest(job),
                party=self._me.id,
                mask_key=mask_public_hex(private),
                asset=found.agreement.asset,
                purpose=job.purpose,
                statistic=job.statistic,
            )
            body = canonical_bytes(seal(self._me.key, COUNTERSIGNATURE_TYPE, word))
            stored = StoredJob(digest, past.agreement, past, private, body, None, None, None, None)
            self._store.put_job(stored)
            self._report("countersigned", {"job": job.id, "statistic": job.statistic})
        if stored.countersignature is None:
            raise RefusedError("countersignature", "this job was never countersigned here", "ask for it anew")
        self._deliver(stored, job, "countersign", stored.countersignature)

    def _answer(self, stored: StoredJob | None, found: Trusted, digest: str, given: dict[str, Any]) -> None:
        job, agreement = found.job, found.agreement
        if stored is None:
            raise RefusedError("countersignature", "this job was never countersigned here", "ask for it anew")
        if self._paused():
            return self._hold(job, digest)
        if stored.body is None:
            statistic, params, _ = self._checked(found)
            peers = self._peers(stored, job, agreement, digest, given)
            if statistic.effective is not None:
                check_effective(agreement, statistic, params, job, statistic.effective(params, job.stage, self._data))
            rows = self._data if job.noise is None else self._data.shortening(job.noise.norm_max)
            share = computed(statistic, params, job.stage, rows, agreement.least_group_size)
            if self._paused():
                return self._hold(job, digest)
            self._fix(stored, job, agreement, statistic, params, share, peers)
            stored = self._store.job(digest) or stored
            self._report("computed", {"job": job.id, "statistic": job.statistic, "entries": int(share.size)})
        if stored.body is None:
            raise RefusedError("countersignature", "this job was refused here", "ask for it anew")
        self._deliver(stored, job, "head" if STATISTICS[job.statistic].single else "vector", stored.body)

    def _peers(self, stored: StoredJob, job: Job, agreement: Agreement, digest: str, given: dict[str, Any]) -> dict[str, str]:
        """party -> one-round key of everybody else in the roster, each signed for this very job by the pinned key."""
        keys: dict[str, str] = {}
        roster = roster_digest(job)
        for member in job.roster:
            pinned = member.public_key  # held against the agreement by check_job
            try:
                envelope = msgspec.convert(given.get(member.party), Envelope)
                word = msgspec.convert(unseal(envelope, COUNTERSIGNATURE_TYPE, {key_id(pinned): pinned}), Countersignature)
            except (msgspec.ValidationError, IsthmusError) as error:
                raise RefusedError("countersignature", f"{member.party} did not countersign this job", "ask for it anew") from error
            asset = digest_of(msgspec.json.decode(payload_of(msgspec.convert(member.asset, Envelope))))
            commits = (word.asset, word.purpose, word.statistic) == (asset, job.purpose, job.statistic)
            if (word.job, word.roster, word.party) != (digest, roster, member.party) or not commits:
                raise RefusedError("countersignature", f"{member.party} countersigned another job", "ask for it anew")
            if member.party == self._me.id and canonical_bytes(envelope) != stored.countersignature:
                raise RefusedError("countersignature", "this node's own countersignature came back changed", "ask for it anew")
            keys[member.party] = word.mask_key
        if len(set(keys.values())) < len(keys):
            raise RefusedError("countersignature", "two owners use the same one-round key", "ask for the job anew")
        del keys[self._me.id]
        return keys

    def _fix(
        self, stored: StoredJob, job: Job, agreement: Agreement, statistic: Statistic, params: Any, share: Any, peers: dict[str, str]
    ) -> None:
        """Adds noise where it is asked for, masks the share and stores the very bytes that will leave."""
        if job.noise is not None:
            share = noisy_share(agreement, statistic, params, job, share, self._store.privacy, self._clock.now_s())
        plain = share.astype("<f8" if statistic.single else "<i8").tobytes()
        payload = "sha256:" + sha256_hex(plain)
        known = self._store.payload_of(stored.past.content)
        if known not in (None, payload):
            raise RefusedError(
                "payload", "the same job gives other numbers than before, so that the difference would show", "start a new run"
            )
        body = plain
        if not statistic.single:
            check_range(share, len(job.roster))
            if stored.mask_key is None:
                raise RefusedError("countersignature", "the one-round key of this job is gone", "ask for it anew")
            binding = {"job": stored.digest, "round": str(job.round), "roster": roster_digest(job), "statistic": job.statistic}
            body = np.ascontiguousarray(masked(share, self._me.id, stored.mask_key, peers, binding).astype("<u8")).tobytes()
        self._store.put_body(stored.digest, digest_of(peers), payload, body)

    def _refuse(self, job: Job, digest: str, error: RefusedError) -> None:
        refusal = canonical_bytes(JobRefusal(party=self._me.id, clause=error.clause, message=error.message, next=error.next_step))
        cause = f"{error.__cause__}" if error.__cause__ else ""
        self._report("refused", {"job": job.id, "clause": error.clause, "message": error.message, "cause": cause})
        stored = self._store.job(digest)
        if stored is None:
            past = PastJob("", job.run_id, job.round, job.statistic, job.stage.digest, job_content(job), frozenset())
            stored = StoredJob(digest, "", past, None, None, None, None, None, refusal)
            self._store.put_job(stored)
        elif stored.body is None:
            self._store.put_refusal(digest, refusal)
        try:
            self._deliver(stored, job, "refusal", refusal)
        except (JobClosedError, ConflictError) as closed:
            self._stuck = True
            self._report("not-taken", {"job": job.id, "message": str(closed)})

    def _deliver(self, stored: StoredJob, job: Job, kind: str, body: bytes) -> None:
        numbers = kind in ("vector", "head")
        shape = (len(body) // 8,) if numbers else ()
        dtype = {"vector": "uint64", "head": "float64"}.get(kind, "")
        leaving = Leaving(kind, body, self._uplink.address, stored.digest, job.statistic, shape, dtype)
        self._send(leaving, f"/v1/tasks/{job.id}/{self._me.id}/{kind}?job={stored.digest}", OCTETS if numbers else JSON)
