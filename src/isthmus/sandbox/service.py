"""The exchange's sandbox: takes in parties, assets and agreements, makes jobs of requests, and brings owners' shares together."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from isthmus.contracts.agreement import AGREEMENT_TYPE, Agreement
from isthmus.contracts.asset import ASSET_TYPE, Asset
from isthmus.contracts.errors import AgreementError, ConflictError, DocumentError, InputError, IsthmusError, NotFoundError, SignatureError
from isthmus.contracts.job import FINAL_PHASES, JOB_TYPE, Job, JobRefusal, JobRequest, JobStatus, NodeState, NodeTask, RosterMember
from isthmus.contracts.party import PARTY_TYPE, Party
from isthmus.contracts.ports import Clock, Json
from isthmus.contracts.withdrawal import Withdrawal
from isthmus.kit.canonical import digest_of, parse_canonical
from isthmus.kit.ids import slug
from isthmus.kit.signing import Envelope, SigningKey, key_id, payload_of, seal, unseal
from isthmus.sandbox.coordinator import JobState, abandoned, at_time, countersigned, delivered, refused, status_of, task_for
from isthmus.sandbox.jobstore import JobStore
from isthmus.sandbox.leaving import checked_withdrawal
from isthmus.sandbox.notices import NoticeBoard
from isthmus.sandbox.requestsign import check_request, claimed_party
from isthmus.sandbox.statistics.registry import parsed_params
from isthmus.sandbox.terms import JOB_SECONDS_MAX, ROSTER_MAX, check_agreement, is_public_key
from isthmus.sandbox.withdrawals import Withdrawals

NODE_ALIVE_S_MAX = 30.0
AGREE_ANEW = "go on without it; only its owner can agree anew"
Noun = TypeVar("Noun")


def has_left(party: str, purpose: str) -> str:
    """What is said of an owner whose agreement is withdrawn."""
    return f"{party} has left: its agreement for the purpose {purpose!r} is withdrawn"


def converted(document: Any, kind: type[Noun], what: str) -> Noun:
    """A document as a contract noun. Raises DocumentError."""
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        raise DocumentError(f"the {what} is malformed: {error}", "send what its schema says") from error


@dataclass
class _Seen:
    at_s: float
    phase: str = "waiting"
    done: int = 0
    total: int = 0


class SandboxService:
    """Thread-safe. key: the exchange's own, which agreements pin. `changes` grows whenever a task may have appeared."""

    def __init__(self, store: JobStore, key: SigningKey, clock: Clock, withdrawals: Withdrawals | None = None) -> None:
        self._store, self._key, self._clock, self._withdrawals = store, key, clock, withdrawals
        self._lock = threading.RLock()
        self._seen: dict[str, _Seen] = {}
        self._open = {state.job.id: state for state in store.open_jobs()}
        self.changes = 0
        self.notices: NoticeBoard | None = None

    @property
    def public_key(self) -> str:
        """Hex."""
        return self._key.public_hex

    # Who is there.

    def register_party(self, envelope: Envelope) -> Party:
        """Binds an id to the key that signed. Raises ConflictError when id or key is bound otherwise."""
        party = converted(parse_canonical(payload_of(envelope)), Party, "party")
        slug(party.id, "party id")
        if not is_public_key(party.public_key):
            raise DocumentError(f"the key of {party.id} is not 64 lower-case hex digits", "use the Ed25519 public key")
        unseal(envelope, PARTY_TYPE, {key_id(party.public_key): party.public_key})
        with self._lock:
            known, holder = self._store.party_key(party.id), self._store.party_of_key(party.public_key)
            if known not in (None, party.public_key):
                raise ConflictError(f"the party id {party.id} is bound to another key", "choose another id, or use that key")
            if holder not in (None, party.id):
                raise ConflictError(f"the key of {party.id} is bound to {holder}", "one key, one party")
            self._store.put_party(party.id, party.public_key, envelope)
        return party

    def register_asset(self, envelope: Envelope) -> str:
        """Digest of a signed asset. Raises SignatureError when its owner's registered key did not sign it."""
        document, asset = self._signed(envelope, ASSET_TYPE, Asset, "asset")
        self._store.put_asset(digest_of(document), asset.owner, envelope)
        return digest_of(document)

    def register_agreement(self, envelope: Envelope) -> str:
        """Digest of a signed agreement. Raises AgreementError when its terms cannot be kept."""
        document, agreement = self._signed(envelope, AGREEMENT_TYPE, Agreement, "agreement")
        check_agreement(agreement)
        self._store.put_agreement(digest_of(document), agreement.owner, agreement.issued_at_s, envelope)
        return digest_of(document)

    def register_withdrawal(self, envelope: Envelope) -> Withdrawal:
        """Keeps an owner's signed withdrawal of a registered agreement of its own; jobs under way that need it end as failed.

        Raises SignatureError, DocumentError, AgreementError (no such agreement, or not its purposes), ConflictError (none are kept here).
        """
        unsaid = converted(parse_canonical(payload_of(envelope)), Withdrawal, "withdrawal")
        word = checked_withdrawal(envelope, self._key_of(unsaid.owner))
        if self._withdrawals is None:
            raise ConflictError("this exchange keeps no withdrawals", "the node refuses all the same")
        terms = {digest: (owner, signed) for digest, owner, signed in self._store.agreements()}
        owner, signed = terms.get(word.agreement, ("", None))
        agreed = None if signed is None else converted(parse_canonical(payload_of(signed)), Agreement, "agreement")
        if agreed is None or owner != word.owner or not set(word.purposes) <= set(agreed.purposes):
            raise AgreementError(f"{word.owner} has no agreement {word.agreement[:19]} for {', '.join(word.purposes)} here", "register it")
        with self._lock:
            self._withdrawals.keep(word, envelope)
            for state in list(self._open.values()):
                if word.owner in state.parties and state.job.purpose in word.purposes:
                    self._keep(abandoned(state, word.owner))
        return word

    def withdrawn(self, agreement: str, purpose: str) -> bool:
        """Whether an owner took an agreement back for a purpose."""
        return self._withdrawals is not None and any(purpose in word.purposes for _, word in self._withdrawals.of(agreement))

    def _signed(self, envelope: Envelope, payload_type: str, kind: type[Noun], what: str) -> tuple[Any, Noun]:
        noun = converted(parse_canonical(payload_of(envelope)), kind, what)
        owner = str(getattr(noun, "owner", ""))
        public_key = self._key_of(owner)
        return unseal(envelope, payload_type, {key_id(public_key): public_key}), noun

    def _key_of(self, party: str) -> str:
        found = self._store.party_key(party)
        if found is None:
            raise SignatureError(f"no party {party!r} is registered here", "register the party first")
        return found

    def parties(self) -> Mapping[str, Envelope]:
        return self._store.parties()

    def assets(self) -> Mapping[str, Envelope]:
        """digest -> envelope."""
        return self._store.assets()

    def agreements(self) -> list[tuple[str, str, Envelope]]:
        """(digest, owner, envelope), the newest first."""
        return self._store.agreements()

    def nodes(self) -> list[NodeState]:
        """Every node that called since this process began."""
        now_s = self._clock.monotonic_s()
        with self._lock:
            seen = sorted(self._seen.items())
        return [
            NodeState(
                party=party,
                alive=now_s - s.at_s < NODE_ALIVE_S_MAX,
                seen_ago_s=int(now_s - s.at_s),
                phase=s.phase,
                done=s.done,
                total=s.total,
            )
            for party, s in seen
        ]

    def authenticated(self, header: str | None, method: str, target: str, body: bytes) -> str:
        """The party that signed this request. Raises SignatureError."""
        party = claimed_party(header)
        check_request(header, self._key_of(party), method, target, body, self._clock.now_s())
        with self._lock:
            self._seen.setdefault(party, _Seen(0.0)).at_s = self._clock.monotonic_s()
        return party

    # Jobs.

    def create_job(self, request: JobRequest) -> JobStatus:
        """Makes the job, or finds it: the same request gives the same id and, once done, the same result.

        A failed job is asked anew as its next attempt. Raises InputError (parameters), AgreementError (an owner has no
        agreement for the purpose), NotFoundError (an unknown party).
        """
        if not 1 <= len(request.roster) <= ROSTER_MAX or not 1 <= request.ttl_s <= JOB_SECONDS_MAX:
            raise InputError(
                "the roster or the time to live is out of bounds", f"name 1 to {ROSTER_MAX} owners and up to {JOB_SECONDS_MAX} s"
            )
        try:
            parsed_params(request.statistic, request.params, request.stage)
        except IsthmusError as error:
            raise InputError(error.message, error.next_step) from error
        roster = tuple(self._member(party, request.purpose) for party in sorted(set(request.roster)))
        asked = {name: value for name, value in msgspec.to_builtins(request).items() if name not in ("ttl_s", "roster", "seen_singly")}
        job_id = "job_" + digest_of({**asked, "roster": roster}).removeprefix("sha256:")[:32]
        with self._lock:
            known = self._current(job_id)
            if known is not None and known.phase != "failed":
                return status_of(known)
            now_s = int(self._clock.now_s())
            names = ("run_id", "round", "purpose", "scenario", "statistic", "stage", "params", "seen_singly")
            fields = {name: getattr(request, name) for name in names}
            attempt = 1 if known is None else known.job.attempt + 1
            job = Job(id=job_id, roster=roster, attempt=attempt, created_at_s=now_s, expires_at_s=now_s + request.ttl_s, **fields)
            state = JobState(job, digest_of(job), seal(self._key, JOB_TYPE, job))
            self._keep(state)
        return status_of(state)

    def _member(self, party: str, purpose: str) -> RosterMember:
        """An owner with the asset of its newest agreement for the purpose."""
        public_key = self._store.party_key(party)
        if public_key is None:
            raise NotFoundError(f"no party {party!r} is registered here", "start that owner's node, and wait until it has registered")
        for digest, owner, envelope in self._store.agreements():
            agreement = converted(parse_canonical(payload_of(envelope)), Agreement, "agreement")
            if owner != party or purpose not in agreement.purposes:
                continue
            if self.withdrawn(digest, purpose):
                raise AgreementError(has_left(party, purpose), AGREE_ANEW)
            asset = self._store.asset(agreement.asset)
            if asset is None:
                raise AgreementError(f"the asset that {party} agreed on is not registered", "start that owner's node")
            if agreement.exchange != self.public_key:
                raise AgreementError(
                    f"the newest agreement of {party} names another exchange", "ask the owner for one with this exchange's key"
                )
            return RosterMember(party=party, public_key=public_key, asset=msgspec.to_builtins(asset))
        raise AgreementError(f"{party} has no agreement for the purpose {purpose!r}", "ask the owner for one")

    def _current(self, job_id: str) -> JobState | None:
        """The stored state, brought to the present."""
        state = self._open.get(job_id) or self._store.job(job_id)
        return None if state is None else self._at_present(state)

    def _at_present(self, state: JobState) -> JobState:
        now = at_time(state, self._clock.now_s())
        if now is not state:
            self._keep(now)
        return now

    def _existing(self, job_id: str) -> JobState:
        state = self._current(job_id)
        if state is None:
            raise NotFoundError(f"there is no job {job_id}", "check its id")
        return state

    def job(self, job_id: str) -> JobStatus:
        """Status and, once done, the result. Raises NotFoundError."""
        with self._lock:
            return status_of(self._existing(job_id))

    def jobs_of_run(self, run_id: str) -> list[JobStatus]:
        """Statuses without results, in order of creation."""
        with self._lock:
            return [status_of(self._at_present(state), with_outcome=False) for state in self._store.jobs_of_run(run_id)]

    def job_document(self, job_id: str) -> Json:
        """The signed envelope. Raises NotFoundError."""
        with self._lock:
            found: Json = msgspec.to_builtins(self._existing(job_id).envelope)
            return found

    # What nodes ask and say. `party` is whoever signed the request.

    def tasks(self, party: str) -> list[NodeTask]:
        with self._lock:
            states = [self._at_present(state) for state in list(self._open.values()) if party in state.parties]
            found = [task for state in states if (task := task_for(state, party)) is not None]
            found += [] if self.notices is None else self.notices.tasks(party)
            if not found and party in self._seen:
                self._seen[party] = _Seen(self._seen[party].at_s)
            return found

    def take_countersignature(self, job_id: str, party: str, digest: str, envelope: Envelope) -> None:
        with self._lock:
            self._keep(countersigned(self._existing(job_id), party, digest, envelope))

    def take_share(self, job_id: str, party: str, digest: str, kind: str, body: bytes) -> None:
        """kind: vector or head."""
        with self._lock:
            self._keep(delivered(self._existing(job_id), party, digest, kind, body))

    def take_refusal(self, job_id: str, party: str, digest: str, refusal: JobRefusal) -> None:
        if refusal.party != party:
            raise SignatureError(f"{party} cannot refuse for {refusal.party}", "sign as yourself")
        with self._lock:
            self._keep(refused(self._existing(job_id), digest, refusal))

    def take_notice(self, party: str, digest: str) -> None:
        """The party's node keeps what it was told."""
        if self.notices is not None:
            self.notices.take(digest, party)

    def take_status(self, party: str, phase: str, done: int, total: int) -> None:
        with self._lock:
            self._seen[party] = _Seen(self._clock.monotonic_s(), phase, done, total)

    def _keep(self, state: JobState) -> None:
        """Stores the state durably; open jobs are also held in memory, because every poll looks at them."""
        if self._open.get(state.job.id) is state:
            return
        self._store.put_job(state)
        if state.phase in FINAL_PHASES:
            self._open.pop(state.job.id, None)
        else:
            self._open[state.job.id] = state
        self.changes += 1
