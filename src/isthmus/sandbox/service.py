"""The exchange's sandbox: takes in parties, assets and agreements, makes jobs of requests, and brings owners' shares together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import msgspec

from isthmus.contracts.agreement import Agreement
from isthmus.contracts.asset import ASSET_TYPE, Asset
from isthmus.contracts.errors import (
    AgreementError,
    ConflictError,
    DocumentError,
    ForbiddenError,
    InputError,
    IsthmusError,
    NotFoundError,
    SignatureError,
)
from isthmus.contracts.job import (
    FINAL_PHASES,
    JOB_TYPE,
    PAUSED,
    Job,
    JobRefusal,
    JobRequest,
    JobStatus,
    JobTerms,
    NodeState,
    NodeTask,
    RosterMember,
)
from isthmus.contracts.party import PARTY_TYPE, Joined, Joining, Party, Rotation
from isthmus.contracts.ports import Clock, Json
from isthmus.contracts.withdrawal import Withdrawal
from isthmus.kit.canonical import digest_of, parse_canonical
from isthmus.kit.ids import slug
from isthmus.kit.signing import Envelope, SigningKey, key_id, payload_of, seal, unseal
from isthmus.sandbox.agreements import agreement_digest, read_terms, unsealed_terms
from isthmus.sandbox.coordinator import (
    JobState,
    abandoned,
    at_time,
    countersigned,
    delivered,
    given_up,
    missing,
    refused,
    status_of,
    task_for,
)
from isthmus.sandbox.guestlist import GuestList
from isthmus.sandbox.jobstore import JobStore
from isthmus.sandbox.leaving import checked_withdrawal
from isthmus.sandbox.notices import NoticeBoard
from isthmus.sandbox.requestsign import check_request, claimed_party
from isthmus.sandbox.rotation import checked_rotation
from isthmus.sandbox.statistics.registry import STATISTICS, parsed_params
from isthmus.sandbox.terms import JOB_SECONDS_MAX, ROSTER_MAX, check_agreement, is_public_key
from isthmus.sandbox.termsdesk import EXPIRED, LEFT, TermsDesk
from isthmus.sandbox.withdrawals import Withdrawals

AGREE_ANEW = "go on without it; only its owner can agree anew"
NODE_ALIVE_S_MAX = 30.0
ASKABLE = ("VERIFIED", "FINALIZED")
"""States of an agreement under which jobs are made; a node that has not finalized yet does so before it looks at its tasks. One whose time
is over is asked too, so that its node says so and a run can go on without it."""
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


@dataclass(frozen=True)
class Promises:
    """What this exchange signs of itself in every job. jurisdiction: where it keeps results, a slug; empty: not said. deletion_days: see
    JobTerms; None: not said."""

    jurisdiction: str = ""
    deletion_days: int | None = None

    def terms_of(self, request: JobRequest) -> JobTerms:
        """The terms of a job. Models serve where the exchange stands, unless the request says otherwise."""
        return JobTerms(
            jurisdiction=self.jurisdiction,
            models_to=request.models_to or ((self.jurisdiction,) if self.jurisdiction else ()),
            output=STATISTICS[request.statistic].output,
            owners_share_ppm=request.owners_share_ppm,
            deletion_days=self.deletion_days,
        )


NO_PROMISES = Promises()


@dataclass
class _Seen:
    at_s: float
    phase: str = "waiting"
    done: int = 0
    total: int = 0


class SandboxService:
    """Thread-safe. key: the exchange's own, which agreements pin. invited_only: whether a new party needs an invitation. promises: what is
    signed in every job's terms. `changes` grows whenever a task may have appeared, and then everyone who listens is called, in the thread
    of the change."""

    def __init__(
        self,
        store: JobStore,
        key: SigningKey,
        clock: Clock,
        promises: Promises = NO_PROMISES,
        *,
        invited_only: bool = False,
        withdrawals: Withdrawals | None = None,
    ) -> None:
        self._store, self._key, self._clock, self._invited_only = store, key, clock, invited_only
        self._promises, self._withdrawals = promises, withdrawals
        self.guests = GuestList(store.guests, clock)
        self.desk = TermsDesk(store, key, clock)
        self._lock = threading.RLock()
        self._seen: dict[str, _Seen] = {}
        self._open = {state.job.id: state for state in store.open_jobs()}
        self.changes = 0
        self._listeners: list[Callable[[], None]] = []
        self.notices: NoticeBoard | None = None

    def listen(self, heard: Callable[[], None]) -> None:
        """heard: called after every change, from any thread; it must return at once and raise nothing."""
        self._listeners.append(heard)

    @property
    def public_key(self) -> str:
        """Hex."""
        return self._key.public_hex

    # Who is there.

    def register_party(self, envelope: Envelope, invited: bool = False) -> Party:
        """Binds an id to the key that signed. Raises ConflictError when id or key is bound otherwise; ForbiddenError when a new party needs
        an invitation and has none."""
        party = self._spoken_for(envelope)
        with self._lock:
            known, holder = self._store.party_key(party.id), self._store.party_of_key(party.public_key)
            if known not in (None, party.public_key):
                raise ConflictError(f"the party id {party.id} is bound to another key", "choose another id, or use that key")
            if holder not in (None, party.id):
                raise ConflictError(f"the key of {party.id} is bound to {holder}", "one key, one party")
            if known is None and holder is not None:
                raise ConflictError(f"the key of {party.id} was changed for another", "use the party's present key")
            if known is None and self._invited_only and not invited:
                raise ForbiddenError(f"{party.id} is not known here", "ask the exchange's operator for an invitation: isthmus party join")
            self._store.put_party(party.id, party.public_key, envelope)
        return party

    def _spoken_for(self, envelope: Envelope) -> Party:
        """The party that a document names and whose key signed it."""
        party = converted(parse_canonical(payload_of(envelope)), Party, "party")
        slug(party.id, "party id")
        if not is_public_key(party.public_key):
            raise DocumentError(f"the key of {party.id} is not 64 lower-case hex digits", "use the Ed25519 public key")
        unseal(envelope, PARTY_TYPE, {key_id(party.public_key): party.public_key})
        return party

    def join(self, joining: Joining) -> Joined:
        """Registers a party by its invitation. Raises ForbiddenError, ConflictError."""
        envelope = converted(joining.party, Envelope, "party")
        party = self._spoken_for(envelope)
        purposes = self.guests.take(joining.token, party, lambda: self.register_party(envelope, invited=True))
        return Joined(party=party.id, public_key=self.public_key, purposes=purposes, participants=self._agreed(purposes, party.id))

    def _agreed(self, purposes: tuple[str, ...], newcomer: str) -> dict[str, str]:
        """party -> key of those whose agreement allows one of the purposes."""
        found: dict[str, str] = {}
        for _, owner, envelope in self._store.agreements():
            agreement = read_terms(envelope)
            key = self._store.party_key(owner)
            if owner != newcomer and key is not None and set(purposes) & set(agreement.purposes):
                found[owner] = key
        return dict(sorted(found.items()))

    def rotate(self, envelope: Envelope) -> Rotation:
        """Binds a party's id to its next key, as its present key and the next one both say. The same again changes nothing.

        Raises SignatureError when either did not sign or the first is not the present key; ConflictError when the key is somebody's.
        """
        word = checked_rotation(envelope)
        with self._lock:
            present, known = self._key_of(word.party), self._store.rotations_of(word.party)
            if any(payload_of(one) == payload_of(envelope) for one in known):
                return word
            if word.old_key != present:
                raise SignatureError(f"the rotation of {word.party} is not signed by its present key", "use the key that is registered")
            if word.sequence != len(known) + 1:
                raise SignatureError(f"the rotation of {word.party} is not its next: {len(known) + 1}", "send rotations in their order")
            if self._store.party_of_key(word.new_key) is not None:
                raise ConflictError(f"the new key of {word.party} is or was a party's", "make a fresh key")
            self._store.put_rotation(word, envelope)
            self._tell()
        return word

    def register_asset(self, envelope: Envelope) -> str:
        """Digest of a signed asset. Raises SignatureError when its owner's registered key did not sign it."""
        document, asset = self._signed(envelope, ASSET_TYPE, Asset, "asset")
        self._store.put_asset(digest_of(document), asset.owner, envelope)
        return digest_of(document)

    def register_agreement(self, envelope: Envelope) -> str:
        """Digest of a signed agreement. Raises AgreementError when its terms cannot be kept."""
        public_key = self._key_of(read_terms(envelope).owner)
        agreement = unsealed_terms(envelope, {key_id(public_key): public_key})
        check_agreement(agreement)
        digest = agreement_digest(agreement)
        self._store.put_agreement(digest, agreement.owner, agreement.issued_at_s, envelope)
        self.desk.take_agreement(agreement)
        return digest

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
        agreed = None if signed is None else read_terms(signed)
        if agreed is None or owner != word.owner or not set(word.purposes) <= set(agreed.purposes):
            raise AgreementError(f"{word.owner} has no agreement {word.agreement[:19]} for {', '.join(word.purposes)} here", "register it")
        with self._lock:
            self._withdrawals.keep(word, envelope)
            if all(self.withdrawn(word.agreement, purpose) for purpose in agreed.purposes):
                self.desk.end(word.agreement, word.why or LEFT)
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
        left_out = ("ttl_s", "roster", "seen_singly", *(("noise",) if request.noise is None else ()))
        asked = {name: value for name, value in msgspec.to_builtins(request).items() if name not in left_out}
        job_id = "job_" + digest_of({**asked, "roster": roster}).removeprefix("sha256:")[:32]
        with self._lock:
            known = self._current(job_id)
            if known is not None and known.phase != "failed":
                return status_of(known)
            now_s = int(self._clock.now_s())
            fields = {
                name: getattr(request, name)
                for name in ("run_id", "round", "purpose", "scenario", "statistic", "stage", "params", "seen_singly", "noise")
            }
            attempt = 1 if known is None else known.job.attempt + 1
            times: dict[str, Any] = {"created_at_s": now_s, "expires_at_s": now_s + request.ttl_s}
            job = Job(id=job_id, roster=roster, attempt=attempt, terms=self._promises.terms_of(request), **times, **fields)
            state = JobState(job, digest_of(job), seal(self._key, JOB_TYPE, job))
            self._keep(state)
        return status_of(state)

    def _member(self, party: str, purpose: str) -> RosterMember:
        """An owner with the asset of its newest agreement for the purpose."""
        public_key = self._store.party_key(party)
        if public_key is None:
            raise NotFoundError(f"no party {party!r} is registered here", "start that owner's node, and wait until it has registered")
        digest, agreement = self.agreement_of(party, purpose)
        if self.withdrawn(digest, purpose):
            raise AgreementError(has_left(party, purpose), AGREE_ANEW)
        asset = self._store.asset(agreement.asset)
        if asset is None:
            raise AgreementError(f"the asset that {party} agreed on is not registered", "start that owner's node")
        if agreement.exchange != self.public_key:
            raise AgreementError(
                f"the newest agreement of {party} names another exchange", "ask the owner for one with this exchange's key"
            )
        state, reason = self.desk.standing(digest)
        if state not in ASKABLE and reason != EXPIRED:
            said = f"{state} ({reason})" if reason else state
            raise AgreementError(f"the agreement of {party} is {said}", "ask the owner for a new one, or wait until its node has called")
        return RosterMember(party=party, public_key=public_key, asset=msgspec.to_builtins(asset), credential=self._credential(party))

    def agreement_of(self, party: str, purpose: str) -> tuple[str, Agreement]:
        """(digest, terms) of a party's newest agreement for a purpose, wherever it stands. Raises AgreementError."""
        for digest, owner, envelope in self._store.agreements():
            if owner == party:
                agreement = read_terms(envelope)
                if purpose in agreement.purposes:
                    return digest, agreement
        raise AgreementError(f"{party} has no agreement for the purpose {purpose!r}", "start that owner's node, or ask it to agree")

    def _credential(self, party: str) -> Json | None:
        """The newest word of an issuer that the party registered with itself, or None."""
        known = self._store.parties().get(party)
        given = () if known is None else converted(parse_canonical(payload_of(known)), Party, "party").credentials
        return given[-1] if given else None

    def _current(self, job_id: str) -> JobState | None:
        """The stored state, brought to the present."""
        state = self._open.get(job_id) or self._store.job(job_id)
        return None if state is None else self._at_present(state)

    def _at_present(self, state: JobState) -> JobState:
        now = at_time(state, self._clock.now_s())
        if now is not state:
            now = replace(now, reason=f"{now.reason}{self._whereabouts(missing(state))}")
            self._keep(now)
        return now

    def _whereabouts(self, parties: Sequence[str]) -> str:
        """What is known of nodes that were waited for, to be put behind a sentence."""
        told = {node.party: node for node in self.nodes()}
        words = []
        for party in parties:
            node = told.get(party)
            if node is None or not node.alive:
                since = "since the exchange started" if node is None else f"for {node.seen_ago_s} s"
                words.append(f"{party}'s node has not called {since}")
            elif node.phase == PAUSED:
                words.append(f"{party}'s node is paused by its owner")
        return f" ({'; '.join(words)})" if words else ""

    def give_up(self, job_id: str, silent: Sequence[str]) -> JobStatus:
        """Ends a job that waits for countersignatures of owners who are silent, and says what is known of them. Raises NotFoundError."""
        with self._lock:
            state = self._existing(job_id)
            why = f"it was not waited for {', '.join(silent)} any longer{self._whereabouts(silent)}"
            self._keep(given_up(state, why))
            return status_of(self._existing(job_id))

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
            found = [self._with_rotations(state, task) for state in states if (task := task_for(state, party)) is not None]
            found += [] if self.notices is None else self.notices.tasks(party)
            if not found and party in self._seen:
                self._seen[party] = _Seen(self._seen[party].at_s)
            return found

    def _with_rotations(self, state: JobState, task: NodeTask) -> NodeTask:
        words = [msgspec.to_builtins(word) for party in state.parties for word in self._store.rotations_of(party)]
        return msgspec.structs.replace(task, rotations=tuple(words)) if words else task

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
        self._tell()

    def _tell(self) -> None:
        """Something changed that somebody may wait for."""
        self.changes += 1
        for heard in self._listeners:
            heard()
