"""A node's only way out: requests that it makes itself, signed. Nothing ever connects to a node."""

from __future__ import annotations

from typing import Any, Protocol

import httpx
import msgspec

from isthmus.contracts.errors import ConflictError, InputError, JobClosedError, SignatureError, UnreachableError
from isthmus.contracts.job import NodeTask
from isthmus.contracts.negotiation import OfferOfTerms
from isthmus.contracts.ports import Clock
from isthmus.kit.pinning import address_of, verification
from isthmus.kit.signing import SigningKey
from isthmus.sandbox.requestsign import HEADER, signature_header

ANSWER_TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 5.0
ANSWER_BYTES_MAX = 64 * 1024 * 1024


class Uplink(Protocol):
    """The exchange as a node sees it."""

    @property
    def address(self) -> str:
        """Where messages go, as the log names it."""

    def tasks(self, wait_s: float) -> list[NodeTask]:
        """What is to be done now; waits up to wait_s for the first. Raises UnreachableError."""

    def terms(self) -> list[OfferOfTerms]:
        """Where this node's agreements stand at the exchange, and what it asks for. Raises UnreachableError."""

    def post(self, path: str, body: bytes, content_type: str) -> None:
        """Delivers a message. Raises UnreachableError when it may be tried again, else JobClosedError or InputError."""


class HttpUplink:
    """Uplink over HTTP. address: of the exchange, with the pin of its key where it has one; see `kit.pinning`.

    An answer is whole within its time or it is none, however slowly its bytes come, and it has at most ANSWER_BYTES_MAX.
    """

    def __init__(self, address: str, party: str, key: SigningKey, clock: Clock, transport: httpx.BaseTransport | None = None) -> None:
        found = address_of(address)
        self._base_url, self._party, self._key, self._clock = found.base_url, party, key, clock
        timeout = httpx.Timeout(ANSWER_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        self._client = httpx.Client(timeout=timeout, transport=transport, trust_env=False, verify=verification(found))

    @property
    def address(self) -> str:
        return self._base_url

    def close(self) -> None:
        self._client.close()

    def tasks(self, wait_s: float) -> list[NodeTask]:
        target = f"/v1/nodes/{self._party}/tasks?wait_s={wait_s:g}"
        content = self._call("GET", target, b"", "", ANSWER_TIMEOUT_S + wait_s)
        try:
            return msgspec.json.decode(content, type=list[NodeTask])
        except msgspec.DecodeError as error:
            raise UnreachableError(f"{self._base_url} did not answer as an exchange does: {error}", "check the address") from error

    def terms(self) -> list[OfferOfTerms]:
        content = self._call("GET", f"/v1/nodes/{self._party}/terms", b"", "", ANSWER_TIMEOUT_S)
        try:
            return msgspec.json.decode(content, type=list[OfferOfTerms])
        except msgspec.DecodeError as error:
            raise UnreachableError(f"{self._base_url} did not answer as an exchange does: {error}", "check the address") from error

    def post(self, path: str, body: bytes, content_type: str) -> None:
        content = self._call("POST", path, body, content_type, ANSWER_TIMEOUT_S)
        try:
            msgspec.json.decode(content)
        except msgspec.DecodeError as error:
            raise UnreachableError(f"{self._base_url} did not answer as an exchange does: {error}", "check the address") from error

    def _call(self, method: str, target: str, body: bytes, content_type: str, timeout_s: float) -> bytes:
        headers = {HEADER: signature_header(self._key, self._party, method, target, body, self._clock.now_s())}
        if content_type:
            headers["content-type"] = content_type
        timeout = httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S)
        try:
            with self._client.stream(method, self._base_url + target, content=body, headers=headers, timeout=timeout) as answer:
                content = self._whole(answer, self._clock.monotonic_s() + timeout_s)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise UnreachableError(f"the exchange at {self._base_url} did not answer: {error}", "start it, or check the address") from error
        if answer.status_code >= 400:
            raise _error_of(answer.status_code, content, self._base_url)
        return content

    def _whole(self, answer: httpx.Response, until_s: float) -> bytes:
        """The answer's body. Raises UnreachableError when it takes too long or is too large."""
        parts, size = [], 0
        for part in answer.iter_bytes():
            parts.append(part)
            size += len(part)
            if size > ANSWER_BYTES_MAX or self._clock.monotonic_s() > until_s:
                what = f"more than {ANSWER_BYTES_MAX} bytes" if size > ANSWER_BYTES_MAX else "too slowly"
                raise UnreachableError(f"the exchange at {self._base_url} answered {what}", "it will be tried again")
        return b"".join(parts)


def _error_of(status: int, content: bytes, base_url: str) -> Exception:
    """The exchange's refusal as one of our errors."""
    try:
        fields: dict[str, Any] = msgspec.json.decode(content, type=dict[str, Any])
    except msgspec.DecodeError:
        fields = {}
    message = str(fields.get("message") or f"the exchange at {base_url} answered {status}")
    next_step = str(fields.get("next") or "")
    if status >= 500:
        return UnreachableError(message, next_step or "it will be tried again")
    if fields.get("code") == JobClosedError.code or status == 404:
        return JobClosedError(message, next_step)
    if status == 409:
        return ConflictError(message, next_step)
    return SignatureError(message, next_step) if status == 403 else InputError(message, next_step)
