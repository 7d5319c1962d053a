"""HTTP routes of the sandbox: /v1/parties, assets, agreements, terms and jobs (operator), nodes and tasks (the owners' nodes).

Parties, assets and agreements are signed documents and speak for themselves. Nodes sign every request; the operator shows a
bearer token, which `is_operator` judges.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from isthmus.contracts.errors import DocumentError, InputError, IsthmusError, SignatureError
from isthmus.contracts.job import JobRefusal, JobRequest
from isthmus.contracts.negotiation import TermsRequest
from isthmus.contracts.party import InviteRequest, Joining
from isthmus.kit.signing import Envelope
from isthmus.sandbox.notices import TAKEN
from isthmus.sandbox.requestsign import HEADER
from isthmus.sandbox.service import SandboxService

BODY_BYTES_MAX = 64 * 1024 * 1024
DOCUMENT_BYTES_MAX = 1024 * 1024
WAIT_S_MAX = 25.0
Operator = Callable[[str], bool]
Handler = Callable[[Request], Awaitable[Any]]
Noun = TypeVar("Noun")


class NodeProgress(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A status message: counts of work done, nothing else."""

    phase: str
    done: int
    total: int


class TermsEnding(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why the exchange ends a negotiation. id: of the negotiation."""

    id: str
    reason: str


def error_response(error: IsthmusError) -> Response:
    """An error as JSON {code, message, next}, with its own HTTP status."""
    return Response(msgspec.json.encode(error.as_dict()), error.http_status, media_type="application/json")


def answering(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """The handler as an endpoint: its value as JSON, or its error."""

    async def endpoint(request: Request) -> Response:
        try:
            found = await handler(request)
        except IsthmusError as error:
            return error_response(error)
        return Response(msgspec.json.encode(found), media_type="application/json")

    endpoint.__doc__ = handler.__doc__
    return endpoint


async def whole_body(request: Request, bytes_max: int) -> bytes:
    """Raises InputError when it is larger."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > bytes_max:
            raise InputError(f"the body has more than {bytes_max} bytes", "send less")
        parts.append(part)
    return b"".join(parts)


def decoded(raw: bytes, kind: type[Noun]) -> Noun:
    """The body as a noun. Raises DocumentError."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DocumentError(f"the body is not what was expected: {error}", "send what the schema says") from error


def _target(request: Request) -> str:
    """Path with query, as it came."""
    raw: bytes = request.scope.get("raw_path") or request.url.path.encode()
    query: bytes = request.scope.get("query_string", b"")
    return raw.split(b"?")[0].decode("latin-1") + (f"?{query.decode('latin-1')}" if query else "")


class Waiters:
    """Requests that wait for a change. `wake` may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}

    def wake(self) -> None:
        with self._lock:
            waiting = list(self._events.items())
        for event, loop in waiting:
            with contextlib.suppress(RuntimeError):  # a loop that has closed: nobody waits there any more
                loop.call_soon_threadsafe(event.set)

    async def changed(self, is_new: Callable[[], bool], deadline_s: float) -> bool:
        """Waits until is_new(), which is asked again at every wake; False when the time is over. deadline_s: monotonic."""
        event = asyncio.Event()
        with self._lock:
            self._events[event] = asyncio.get_running_loop()
        try:
            while not is_new():
                left_s = deadline_s - time.monotonic()
                if left_s <= 0:
                    return False
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(event.wait(), left_s)
                event.clear()
            return True
        finally:
            with self._lock:
                del self._events[event]


class SandboxRoutes:
    """The endpoints. service: the exchange's sandbox. is_operator: whether a bearer token is the operator's. left: called once somebody
    has left."""

    def __init__(self, service: SandboxService, is_operator: Operator, left: Callable[[], object] = lambda: None) -> None:
        self._service, self._is_operator, self._left = service, is_operator, left
        self._waiters = Waiters()
        service.listen(self._waiters.wake)

    def _operator(self, request: Request) -> None:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not self._is_operator(token):
            raise SignatureError("only the operator may do this", "send the operator's token as Authorization: Bearer")

    async def _party(self, request: Request, body: bytes) -> str:
        """The party that signed the request, which must be the one in its path."""
        header = request.headers.get(HEADER)
        party = await run_sync(self._service.authenticated, header, request.method, _target(request), body)
        if party != request.path_params["party"]:
            raise SignatureError(f"{party} may not speak for {request.path_params['party']}", "sign as the party in the path")
        return party

    async def exchange(self, request: Request) -> Any:
        """The exchange's public key; nodes pin it, and each job must be signed with it. Needs no key."""
        return {"public_key": self._service.public_key}

    async def put_party(self, request: Request) -> Any:
        """Registers a party: its own signed statement of id, name and public key.

        Body: Envelope
        """
        envelope = decoded(await whole_body(request, DOCUMENT_BYTES_MAX), Envelope)
        return await run_sync(self._service.register_party, envelope)

    async def put_asset(self, request: Request) -> Any:
        """Registers an asset: what an owner says of its data, signed; never the data.

        Body: Envelope
        """
        envelope = decoded(await whole_body(request, DOCUMENT_BYTES_MAX), Envelope)
        return {"digest": await run_sync(self._service.register_asset, envelope)}

    async def put_agreement(self, request: Request) -> Any:
        """Registers an agreement that an owner signed.

        Body: Envelope
        """
        envelope = decoded(await whole_body(request, DOCUMENT_BYTES_MAX), Envelope)
        return {"digest": await run_sync(self._service.register_agreement, envelope)}

    async def put_withdrawal(self, request: Request) -> Any:
        """Takes an owner's signed withdrawal of an agreement: what rests on its records lapses at once.

        Body: Envelope
        """
        envelope = decoded(await whole_body(request, DOCUMENT_BYTES_MAX), Envelope)
        word = await run_sync(self._service.register_withdrawal, envelope)
        await run_sync(self._left)
        return word

    async def put_rotation(self, request: Request) -> Any:
        """Changes a party's key: a statement that its old and its new key both signed.

        Body: Envelope
        """
        envelope = decoded(await whole_body(request, DOCUMENT_BYTES_MAX), Envelope)
        return await run_sync(self._service.rotate, envelope)

    async def invite(self, request: Request) -> Any:
        """Makes an invitation that one party may join by, once (operator).

        Body: InviteRequest
        Answers: Issued
        """
        self._operator(request)
        wanted = decoded(await whole_body(request, DOCUMENT_BYTES_MAX), InviteRequest)
        return await run_sync(self._service.guests.invite, wanted)

    async def invitations(self, request: Request) -> Any:
        """All invitations without their tokens, the newest first (operator)."""
        self._operator(request)
        return await run_sync(self._service.guests.guests)

    async def revoke_invitation(self, request: Request) -> Any:
        """Withdraws an invitation (operator)."""
        self._operator(request)
        await run_sync(self._service.guests.revoke, request.path_params["invitation"])
        return {"revoked": True}

    async def join(self, request: Request) -> Any:
        """Registers a party by its invitation, whose token speaks for it.

        Body: Joining
        Answers: Joined
        """
        return await run_sync(self._service.join, decoded(await whole_body(request, DOCUMENT_BYTES_MAX), Joining))

    async def parties(self, request: Request) -> Any:
        """All parties (operator)."""
        self._operator(request)
        return await run_sync(self._service.parties)

    async def assets(self, request: Request) -> Any:
        """All assets (operator)."""
        self._operator(request)
        return await run_sync(self._service.assets)

    async def agreements(self, request: Request) -> Any:
        """All agreements (operator)."""
        self._operator(request)
        found = await run_sync(self._service.agreements)
        return [{"digest": digest, "owner": owner, "envelope": envelope} for digest, owner, envelope in found]

    async def nodes(self, request: Request) -> Any:
        """Which nodes were heard of, and when (operator)."""
        self._operator(request)
        return await run_sync(self._service.nodes)

    async def create_job(self, request: Request) -> Any:
        """Begins a job: one statistic over one roster (operator). The same again gives the same job.

        Body: JobRequest
        """
        self._operator(request)
        wanted = decoded(await whole_body(request, BODY_BYTES_MAX), JobRequest)
        return await run_sync(self._service.create_job, wanted)

    async def jobs(self, request: Request) -> Any:
        """The jobs of a run, `run_id` in the query (operator)."""
        self._operator(request)
        return await run_sync(self._service.jobs_of_run, request.query_params.get("run_id", ""))

    async def job(self, request: Request) -> Any:
        """The job's status; with wait_s, once it is finished or that long has passed."""
        self._operator(request)
        job_id = request.path_params["job"]
        deadline_s = time.monotonic() + _wait_s(request)
        while True:
            seen = self._service.changes
            status = await run_sync(self._service.job, job_id)
            if status.phase in ("done", "failed") or not await self._changed(seen, deadline_s):
                return status

    async def job_document(self, request: Request) -> Any:
        """A job as the exchange signed it (operator)."""
        self._operator(request)
        return await run_sync(self._service.job_document, request.path_params["job"])

    async def tasks(self, request: Request) -> Any:
        """The node's tasks; with wait_s, once there are any or that long has passed."""
        party = await self._party(request, b"")
        deadline_s = time.monotonic() + _wait_s(request)
        while True:
            seen = self._service.changes
            found = await run_sync(self._service.tasks, party)
            if found or not await self._changed(seen, deadline_s):
                return found

    async def _changed(self, seen: int, deadline_s: float) -> bool:
        """Waits until something changed; False when the time is over."""
        return await self._waiters.changed(lambda: self._service.changes != seen, deadline_s)

    async def message(self, request: Request) -> Any:
        """What a node says about a job: countersign, vector, head, refusal or status; or of a notice, seen."""
        body = await whole_body(request, BODY_BYTES_MAX)
        party = await self._party(request, body)
        job_id, kind = request.path_params["job"], request.path_params["kind"]
        digest = request.query_params.get("job", "")
        if kind == "countersign":
            await run_sync(self._service.take_countersignature, job_id, party, digest, decoded(body, Envelope))
        elif kind in ("vector", "head"):
            await run_sync(self._service.take_share, job_id, party, digest, kind, body)
        elif kind == "refusal":
            await run_sync(self._service.take_refusal, job_id, party, digest, decoded(body, JobRefusal))
        elif kind == "status":
            progress = decoded(body, NodeProgress)
            await run_sync(self._service.take_status, party, progress.phase[:64], progress.done, progress.total)
        elif kind == TAKEN:
            await run_sync(self._service.take_notice, party, digest)
        else:
            raise InputError(f"{kind!r} is not something that a node says", "use countersign, vector, head, refusal, status or seen")
        return {"taken": True}

    # Negotiations.

    async def request_terms(self, request: Request) -> Any:
        """Asks owners for terms: an offer to each, which its node fetches and its owner signs or ends (operator).

        Body: TermsRequest
        """
        self._operator(request)
        wanted = decoded(await whole_body(request, DOCUMENT_BYTES_MAX), TermsRequest)
        return await run_sync(self._service.desk.request, wanted)

    async def terms(self, request: Request) -> Any:
        """Where every agreement and every offer of terms stands, with all messages (operator)."""
        self._operator(request)
        return await run_sync(self._service.desk.all)

    async def end_terms(self, request: Request) -> Any:
        """Ends an offer or an agreement (operator); its owner's node is told.

        Body: TermsEnding
        """
        self._operator(request)
        ending = decoded(await whole_body(request, DOCUMENT_BYTES_MAX), TermsEnding)
        return await run_sync(self._service.desk.terminate, ending.id, ending.reason)

    async def node_terms(self, request: Request) -> Any:
        """What an owner's node has to know of its agreements: offers that wait, verifications, endings, records of deletion."""
        party = await self._party(request, b"")
        return await run_sync(self._service.desk.of_party, party)

    async def node_event(self, request: Request) -> Any:
        """An owner's signed word that an agreement is final, or over.

        Body: Envelope
        """
        body = await whole_body(request, DOCUMENT_BYTES_MAX)
        party = await self._party(request, body)
        return {"state": await run_sync(self._service.desk.take_event, party, decoded(body, Envelope))}


def _wait_s(request: Request) -> float:
    try:
        wanted = float(request.query_params.get("wait_s", "0"))
    except ValueError as error:
        raise InputError("wait_s is not a number", "give seconds") from error
    return min(max(wanted, 0.0), WAIT_S_MAX) if wanted == wanted else 0.0


def sandbox_routes(service: SandboxService, is_operator: Operator, left: Callable[[], object] = lambda: None) -> list[Route]:
    """The sandbox's routes, to be mounted at the root."""
    r = SandboxRoutes(service, is_operator, left)
    table: list[tuple[str, str, Handler]] = [
        ("GET", "/v1/exchange", r.exchange),
        ("POST", "/v1/parties", r.put_party),
        ("GET", "/v1/parties", r.parties),
        ("POST", "/v1/rotations", r.put_rotation),
        ("POST", "/v1/invitations", r.invite),
        ("GET", "/v1/invitations", r.invitations),
        ("POST", "/v1/invitations/{invitation}/revocation", r.revoke_invitation),
        ("POST", "/v1/joinings", r.join),
        ("POST", "/v1/assets", r.put_asset),
        ("GET", "/v1/assets", r.assets),
        ("POST", "/v1/agreements", r.put_agreement),
        ("GET", "/v1/agreements", r.agreements),
        ("POST", "/v1/withdrawals", r.put_withdrawal),
        ("GET", "/v1/nodes", r.nodes),
        ("GET", "/v1/nodes/{party}/tasks", r.tasks),
        ("POST", "/v1/jobs", r.create_job),
        ("GET", "/v1/jobs", r.jobs),
        ("GET", "/v1/jobs/{job}", r.job),
        ("GET", "/v1/jobs/{job}/document", r.job_document),
        ("POST", "/v1/tasks/{job}/{party}/{kind}", r.message),
        ("POST", "/v1/terms", r.request_terms),
        ("GET", "/v1/terms", r.terms),
        ("POST", "/v1/terms/ending", r.end_terms),
        ("GET", "/v1/nodes/{party}/terms", r.node_terms),
        ("POST", "/v1/nodes/{party}/terms", r.node_event),
    ]
    return [Route(path, answering(handler), methods=[method]) for method, path, handler in table]
