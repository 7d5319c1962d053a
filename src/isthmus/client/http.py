"""Typed client of the exchange's own HTTP API."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

import httpx

from isthmus.contracts.errors import RemoteError, UnreachableError

TIMEOUT_S = 60.0


class ExchangeClient:
    """One connection pool to one exchange. Every method raises RemoteError (refused) or UnreachableError (no answer)."""

    def __init__(self, url: str, token: str = "", timeout_s: float = TIMEOUT_S, transport: httpx.BaseTransport | None = None) -> None:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self.url = url.rstrip("/")
        self._http = httpx.Client(base_url=self.url, headers=headers, timeout=timeout_s, transport=transport, trust_env=False)

    def __enter__(self) -> ExchangeClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def send(
        self, method: str, path: str, json: Any = None, content: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """One request; the response if its status is below 400."""
        try:
            response = self._http.request(method, path, json=json, content=content, headers=dict(headers or {}))
        except httpx.HTTPError as error:
            raise UnreachableError(
                f"the exchange at {self.url} does not answer: {error}", "start it with `isthmus up`, or check --url"
            ) from error
        if response.status_code >= 400:
            raise _refusal(response)
        return response

    def get(self, path: str) -> Any:
        return self.send("GET", path).json()

    def post(self, path: str, body: Any) -> Any:
        return self.send("POST", path, json=body).json()


def _refusal(response: httpx.Response) -> RemoteError:
    try:
        body = response.json()
        return RemoteError(response.status_code, str(body["code"]), str(body["message"]), str(body.get("next", "")))
    except (ValueError, KeyError, TypeError):
        return RemoteError(
            response.status_code, "bad-answer", f"the exchange answered {response.status_code}", "check that the URL is an Isthmus exchange"
        )
