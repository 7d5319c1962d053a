"""HTTP routes of the data path: Open Inference Protocol v2. Blocking work runs in a bounded number of threads behind a bounded queue."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from isthmus.contracts.errors import BodyEncodingError, BodyTooLargeError, BodyTooSlowError, BusyError, InferenceRequestError, IsthmusError
from isthmus.gateway.limits import BODY_BYTES_MAX, BODY_READ_TIMEOUT_S, IN_FLIGHT_BYTES_MAX, QUEUE_MAX, RETRY_AFTER_S, WORKERS
from isthmus.gateway.service import Service
from isthmus.gateway.wire import HEADER_LENGTH, header_length

T = TypeVar("T")
Handler = Callable[[Request], Awaitable[Response]]

CLIENT_GONE_STATUS = 499
"""Logged for a client that left before its request was dispatched; nobody reads the answer."""

LOOKUP_THREADS = 4
"""Threads for key look-ups and metadata, so that they do not wait behind scoring."""


def gateway_routes(service: Service, workers: int = WORKERS, queue_max: int = QUEUE_MAX) -> list[Route]:
    """Routes under /v2. Put them at the root of the app: the protocol fixes the paths."""
    api = _Api(service, workers, queue_max)
    routes = [
        Route("/v2", _refusing(api.server), methods=["GET"]),
        Route("/v2/health/live", _refusing(api.live), methods=["GET"]),
        Route("/v2/health/ready", _refusing(api.ready), methods=["GET"]),
    ]
    for path in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
        routes += [
            Route(path, _refusing(api.model), methods=["GET"]),
            Route(path + "/ready", _refusing(api.model_ready), methods=["GET"]),
            Route(path + "/infer", _refusing(api.infer), methods=["POST"]),
        ]
    return routes


def _refusing(handler: Handler) -> Handler:
    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except IsthmusError as error:
            return refusal(error)
        except ClientDisconnect:
            return Response(status_code=CLIENT_GONE_STATUS)

    answer.__doc__ = handler.__doc__
    answer.__name__ = getattr(handler, "__name__", "answer")
    return answer


def refusal(error: IsthmusError) -> Response:
    """An error as the protocol wants it, `error`: text, beside the code, message and next step that all our errors have."""
    headers: dict[str, str] = {}
    if error.http_status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if error.http_status in (429, 503):
        headers["Retry-After"] = str(RETRY_AFTER_S)
    return _json({"error": str(error), **error.as_dict()}, error.http_status, headers)


def _json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(value), status, headers, "application/json")


class _Api:
    """Handlers. State of one event loop: who waits, and how many bytes of bodies are in memory."""

    def __init__(self, service: Service, workers: int, queue_max: int) -> None:
        self.service = service
        self.places = workers + queue_max
        self.taken = 0
        self.body_bytes = 0
        self.workers = anyio.CapacityLimiter(workers)
        self.threads = anyio.CapacityLimiter(workers)
        self.lookups = anyio.CapacityLimiter(LOOKUP_THREADS)

    async def _looked_up(self, call: Callable[[], T]) -> T:
        return await anyio.to_thread.run_sync(call, limiter=self.lookups)

    async def server(self, request: Request) -> Response:
        """Server metadata

        Name, version and extensions of this server. Needs no key.
        Answers: ServerMetadata
        """
        return _json(self.service.server())

    async def live(self, request: Request) -> Response:
        """Whether the process answers

        Needs no key.
        """
        return _json({"live": True})

    async def ready(self, request: Request) -> Response:
        """Whether every deployment would serve now

        200 if so, else 503. Certificates and artefacts are checked as for a request. Needs no key.
        """
        ready = await self._looked_up(self.service.ready)
        return _json({"live": True, "ready": ready}, 200 if ready else 503)

    async def model(self, request: Request) -> Response:
        """Metadata of a model

        Tensors, versions, and in `properties` its decoder, tier, certificate, price and limits.
        Answers: ModelMetadata
        """
        name, version = _named(request)
        authorization = _single(request, "authorization")
        await self._looked_up(lambda: self.service.caller(authorization))
        return _json(await self._looked_up(lambda: self.service.model(name, version)))

    async def model_ready(self, request: Request) -> Response:
        """Whether a model would serve now

        200 if so, else 503. Needs no key.
        """
        name, version = _named(request)
        ready = await self._looked_up(lambda: self.service.ready(name, version))
        return _json({"name": name, "ready": ready}, 200 if ready else 503)

    async def infer(self, request: Request) -> Response:
        """Judges images: scores and verdicts, with a receipt

        Input `image`: UINT8 [n, height, width, 3], or BYTES [n] holding image files; as JSON, or as binary data after the JSON
        (Inference-Header-Content-Length). With that header 0 the body is one image file. Outputs `score` FP32 [n] and
        `verdict` BYTES [n]: good, defect or person; of a logistic model also `probability` FP32 [n], of a defect. An `id` makes the
        request safe to repeat. The answer's parameters carry
        receipt, certificate and charge.
        Body: InferenceRequest
        Answers: InferenceResponse
        """
        name, version = _named(request)
        authorization = _single(request, "authorization")
        caller = await self._looked_up(lambda: self.service.caller(authorization))
        await self._looked_up(lambda: self.service.registry.find(name, version))
        if self.taken >= self.places:
            raise BusyError(f"{self.places} requests are being worked on or wait", "send it again after Retry-After, or send fewer at once")
        self.taken += 1
        counted = _Counted(self)
        try:
            body = await self._body(request, counted)
            header_bytes = header_length(_single(request, HEADER_LENGTH), len(body))
            async with self.workers:
                if await request.is_disconnected():
                    raise ClientDisconnect
                reply = await anyio.to_thread.run_sync(
                    lambda: self.service.infer(caller, name, version, body, header_bytes), limiter=self.threads
                )
        finally:
            self.taken -= 1
            counted.release()
        if reply.header_bytes is None:
            return Response(reply.body, media_type="application/json")
        return Response(reply.body, headers={HEADER_LENGTH: str(reply.header_bytes)}, media_type="application/octet-stream")

    async def _body(self, request: Request, counted: _Counted) -> bytes:
        encoding = _single(request, "content-encoding")
        if encoding not in (None, "identity"):
            raise BodyEncodingError(f"the body is encoded as {encoding[:20]!r}", "send it as it is")
        stated = _single(request, "content-length")
        if stated is not None and stated.isdecimal() and int(stated) > BODY_BYTES_MAX:
            raise _too_large()
        parts: list[bytes] = []
        size = 0
        try:
            with anyio.fail_after(BODY_READ_TIMEOUT_S):
                async for chunk in request.stream():
                    size += len(chunk)
                    if size > BODY_BYTES_MAX:
                        raise _too_large()
                    counted.add(len(chunk))
                    parts.append(chunk)
        except TimeoutError as error:
            raise BodyTooSlowError(f"the body did not arrive within {BODY_READ_TIMEOUT_S:g} s", "send fewer images at once") from error
        return b"".join(parts)


class _Counted:
    """One request's share of the bytes in memory."""

    def __init__(self, api: _Api) -> None:
        self.api = api
        self.size = 0

    def add(self, size: int) -> None:
        if self.api.body_bytes + size > IN_FLIGHT_BYTES_MAX:
            raise BusyError("the bodies of the requests under way fill the memory", "send it again after Retry-After")
        self.size += size
        self.api.body_bytes += size

    def release(self) -> None:
        self.api.body_bytes -= self.size
        self.size = 0


def _too_large() -> BodyTooLargeError:
    return BodyTooLargeError(f"the body has more than the {BODY_BYTES_MAX} bytes allowed", "send fewer images at once")


def _named(request: Request) -> tuple[str, str | None]:
    return request.path_params["name"], request.path_params.get("version")


def _single(request: Request, header: str) -> str | None:
    """The header's value, or None. Raises InferenceRequestError when it was sent twice: readers would differ on which counts."""
    values = request.headers.getlist(header)
    if len(values) > 1:
        raise InferenceRequestError(f"the header {header} was sent {len(values)} times", "send it once")
    return values[0] if values else None
