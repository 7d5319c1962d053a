"""Typed client of the exchange's own HTTP API."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

import httpx

from isthmus.contracts.errors import InputError, RemoteError, UnreachableError
from isthmus.kit.pinning import address_of, verification

TIMEOUT_S = 60.0


class ExchangeClient:
    """One connection pool to one exchange; a pin in its address is checked, see `kit.pinning`. Every method raises RemoteError
    (refused) or UnreachableError (no answer).

    url: without the pin, for requests and messages; address: with it, for another client. Raises InputError for a URL or key that cannot
    be one; the message never holds the key.
    """

    def __init__(self, url: str, token: str = "", timeout_s: float = TIMEOUT_S, transport: httpx.BaseTransport | None = None) -> None:
        if not token.isascii() or not token.isprintable() or " " in token:
            raise InputError("the key holds characters that no key has", "copy it whole, without spaces or line ends")
        headers = {"authorization": f"Bearer {token}"} if token else {}
        found = address_of(url)
        self.url, self.address, verify = found.base_url, str(found), verification(found)
        try:
            self._http = httpx.Client(
                base_url=self.url, headers=headers, timeout=timeout_s, transport=transport, trust_env=False, verify=verify
            )
        except httpx.InvalidURL as error:
            raise InputError(f"{url!r} is not a URL: {error}", "give one such as http://127.0.0.1:8080") from error

    def __enter__(self) -> ExchangeClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def send(
        self, method: str, path: str, json: Any = None, content: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """One request; the response if it was answered as asked (2xx)."""
        try:
            response = self._http.request(method, path, json=json, content=content, headers=dict(headers or {}))
        except httpx.HTTPError as error:
            raise UnreachableError(
                f"the exchange at {self.url} does not answer: {error}", "start it with `isthmus up`, or check --url"
            ) from error
        if not response.is_success:
            raise _refusal(response)
        return response

    def get(self, path: str) -> Any:
        return _document(self.send("GET", path))

    def post(self, path: str, body: Any) -> Any:
        return _document(self.send("POST", path, json=body))


def _document(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError as error:
        raise _bad_answer(response) from error


def _bad_answer(response: httpx.Response) -> RemoteError:
    kind = response.headers.get("content-type", "no type")[:40]
    message = f"the exchange answered {response.status_code} with {kind}, which is not what it was asked for"
    return RemoteError(response.status_code, "bad-answer", message, "check that the URL is an Isthmus exchange")


def _refusal(response: httpx.Response) -> RemoteError:
    try:
        body = response.json()
        return RemoteError(response.status_code, str(body["code"]), str(body["message"]), str(body.get("next", "")))
    except (ValueError, KeyError, TypeError):
        return _bad_answer(response)
