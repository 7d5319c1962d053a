"""Requests under way and answers kept, by caller and request id: a repeat gets the first one's answer, and works nothing twice."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from isthmus.contracts.errors import RequestOpenError, RequestReusedError
from isthmus.gateway.limits import ANSWERS_KEPT_MAX, REPEAT_WAIT_S

Key = tuple[str, str]


@dataclass(frozen=True)
class Reply:
    """A response: its body, and the length of the JSON in it where binary data follows (else None)."""

    body: bytes
    header_bytes: int | None


@dataclass(frozen=True)
class _Flight:
    digest: str
    future: Future[Reply] = field(default_factory=Future)


class Flights:
    """In-memory and per process. What it forgets (restart, ANSWERS_KEPT_MAX) the receipts remember; see `service`."""

    def __init__(self, kept_max: int = ANSWERS_KEPT_MAX, wait_s: float = REPEAT_WAIT_S) -> None:
        self._kept_max = kept_max
        self._wait_s = wait_s
        self._lock = threading.Lock()
        self._flying: dict[Key, _Flight] = {}
        self._kept: OrderedDict[Key, tuple[str, Reply]] = OrderedDict()

    def once(self, key: Key, digest: str, work: Callable[[], Reply]) -> Reply:
        """work()'s reply, done once for each key. A repeat meanwhile waits and gets the same reply, or the same error.

        digest: of the request's content. Raises RequestReusedError when the key was used with another one,
        RequestOpenError when the first is not done within the wait.
        """
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                _check_same(key, kept[0], digest)
                self._kept.move_to_end(key)
                return kept[1]
            flight = self._flying.get(key)
            leads = flight is None
            if flight is None:
                flight = self._flying[key] = _Flight(digest)
        if leads:
            return self._lead(key, flight, work)
        _check_same(key, flight.digest, digest)
        try:
            return flight.future.result(self._wait_s)
        except TimeoutError as error:
            raise RequestOpenError(f"the request {key[1]!r} is still being worked on", "ask again with the same id") from error

    def _lead(self, key: Key, flight: _Flight, work: Callable[[], Reply]) -> Reply:
        try:
            reply = work()
        except BaseException as error:
            with self._lock:
                del self._flying[key]
            flight.future.set_exception(error)
            raise
        with self._lock:
            del self._flying[key]
            self._kept[key] = (flight.digest, reply)
            while len(self._kept) > self._kept_max:
                self._kept.popitem(last=False)
        flight.future.set_result(reply)
        return reply


def _check_same(key: Key, before: str, now: str) -> None:
    if before != now:
        raise RequestReusedError(f"the request id {key[1]!r} was used before with other content", "use a new id for a new request")
