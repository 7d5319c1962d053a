"""HTTP routes of the sandbox: /v1/parties, assets, agreements, jobs (operator), nodes and tasks (the owners' nodes).

Parties, assets and agreements are signed documents and speak for themselves. Nodes sign every request; the operator shows a
bearer token, which `is_operator` judges.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio
import msgspec
from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from isthmus.contracts.errors import DocumentError, InputError, IsthmusError, SignatureError
from isthmus.contracts.job import JobRefusal, JobRequest
from isthmus.kit.signing import Envelope
from isthmus.sandbox.notices import TAKEN
from isthmus.sandbox.requestsign import HEADER
from isthmus.sandbox.service import SandboxService

BODY_BYTES_MAX = 64 * 1024 * 1024
DOCUMENT_BYTES_MAX = 1024 * 1024
WAIT_S_MAX = 25.0
LOOK_EVERY_S = 0.05
Operator = Callable[[str], bool]
Handler = Callable[[Request], Awaitable[Any]]
Noun = TypeVar("Noun")


class NodeProgress(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A status message: counts of work done, nothing else."""

    phase: str
    done: int
    total: int


def error_response(error: IsthmusError) -> Response:
    """An error as JSON {code, message, next}, with its own HTTP status."""
    return Response(msgspec.json.encode(error.as_dict()), error.http_status, media_type="application/json")


def _answering(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            found = await handler(request)
        except IsthmusError as error:
            return error_response(error)
        return Response(msgspec.json.encode(found), media_type="application/json")

    endpoint.__doc__ = handler.__doc__
    return endpoint


async def _body(request: Request, bytes_max: int) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > bytes_max:
            raise InputError(f"the body has more than {bytes_max} bytes", "send less")
        parts.append(part)
    return b"".join(parts)


def _decoded(raw: bytes, kind: type[Noun]) -> Noun:
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DocumentError(f"the body is not what was expected: {error}", "send what the schema says") from error


def _target(request: Request) -> str:
    """Path with query, as it came."""
    raw: bytes = request.scope.get("raw_path") or request.url.path.encode()
    query: bytes = request.scope.get("query_string", b"")
    return raw.split(b"?")[0].decode("latin-1") + (f"?{query.decode('latin-1')}" if query else "")


class SandboxRoutes:
    """The endpoints. service: the exchange's sandbox. is_operator: whether a bearer token is the operator's. left: called once somebody
    has left."""

    def __init__(self, service: SandboxService, is_operator: Operator, left: Callable[[], object] = lambda: None) -> None:
        self._service, self._is_operator, self._left = service, is_operator, left

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
        envelope = _decoded(await _body(request, DOCUMENT_BYTES_MAX), Envelope)
        return await run_sync(self._service.register_party, envelope)

    async def put_asset(self, request: Request) -> Any:
        """Registers an asset: what an owner says of its data, signed; never the data.

        Body: Envelope
        """
        envelope = _decoded(await _body(request, DOCUMENT_BYTES_MAX), Envelope)
        return {"digest": await run_sync(self._service.register_asset, envelope)}

    async def put_agreement(self, request: Request) -> Any:
        """Registers an agreement that an owner signed.

        Body: Envelope
        """
        envelope = _decoded(await _body(request, DOCUMENT_BYTES_MAX), Envelope)
        return {"digest": await run_sync(self._service.register_agreement, envelope)}

    async def put_withdrawal(self, request: Request) -> Any:
        """Takes an owner's signed withdrawal of an agreement: what rests on its records lapses at once.

        Body: Envelope
        """
        envelope = _decoded(await _body(request, DOCUMENT_BYTES_MAX), Envelope)
        word = await run_sync(self._service.register_withdrawal, envelope)
        await run_sync(self._left)
        return word

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
        wanted = _decoded(await _body(request, BODY_BYTES_MAX), JobRequest)
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
        while self._service.changes == seen:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                return False
            await anyio.sleep(min(LOOK_EVERY_S, left_s))
        return True

    async def message(self, request: Request) -> Any:
        """What a node says about a job: countersign, vector, head, refusal or status; or of a notice, seen."""
        body = await _body(request, BODY_BYTES_MAX)
        party = await self._party(request, body)
        job_id, kind = request.path_params["job"], request.path_params["kind"]
        digest = request.query_params.get("job", "")
        if kind == "countersign":
            await run_sync(self._service.take_countersignature, job_id, party, digest, _decoded(body, Envelope))
        elif kind in ("vector", "head"):
            await run_sync(self._service.take_share, job_id, party, digest, kind, body)
        elif kind == "refusal":
            await run_sync(self._service.take_refusal, job_id, party, digest, _decoded(body, JobRefusal))
        elif kind == "status":
            progress = _decoded(body, NodeProgress)
            await run_sync(self._service.take_status, party, progress.phase[:64], progress.done, progress.total)
        elif kind == TAKEN:
            await run_sync(self._service.take_notice, party, digest)
        else:
            raise InputError(f"{kind!r} is not something that a node says", "use countersign, vector, head, refusal, status or seen")
        return {"taken": True}


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
    ]
    return [Route(path, _answering(handler), methods=[method]) for method, path, handler in table]
