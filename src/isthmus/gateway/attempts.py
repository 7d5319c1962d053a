"""Attempts in the book: one id for each try to answer a request, and exactly one end for each, also when the book was down."""

from __future__ import annotations

import threading

from isthmus.contracts.deployment import Deployment, Meter
from isthmus.contracts.errors import ConflictError, IsthmusError, NotFoundError, RequestReusedError, StorageError
from isthmus.contracts.lot import LotSection
from isthmus.contracts.ports import Json
from isthmus.contracts.price import Usage
from isthmus.contracts.receipt import Receipt
from isthmus.gateway.limits import ATTEMPTS_MAX, UNSETTLED_MAX
from isthmus.kit.canonical import digest_of


def attempt_id(party: str, request_id: str, number: int) -> str:
    """The id of the number-th attempt at a party's request; the same wherever and whenever it is computed."""
    return "rcp_" + digest_of([party, request_id, number]).removeprefix("sha256:")[:32]


class Attempts:
    """Opens and ends attempts. Safe to use from several threads."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._lock = threading.Lock()
        self._unsettled: dict[str, str] = {}

    @property
    def unsettled(self) -> int:
        """Attempts whose end could not be written yet."""
        return len(self._unsettled)

    def begin(self, deployment: Deployment, party: str, request_id: str, request_digest: str, images: int) -> tuple[str, Receipt | None]:
        """Holds the worst case. Returns the attempt's id, and the receipt if this very request was answered before.

        A request whose attempt ended without an answer is attempted anew under the next number. Raises RequestReusedError
        when the id stands for other content, and what `Meter.open` raises.
        """
        self.settle()
        for number in range(1, ATTEMPTS_MAX + 1):
            attempt = attempt_id(party, request_id, number)
            known = self._meter.find(attempt)
            if known is None:
                self._open(attempt, deployment, party, _decision(deployment, request_id, request_digest), images)
                return attempt, None
            if known.sections["policy"].body["decision"].get("request_digest") != request_digest:
                raise RequestReusedError(
                    f"the request id {request_id!r} was used before with other content", "use a new id for a new request"
                )
            if known.outcome != "void":
                return attempt, known
        raise RequestReusedError(f"the request id {request_id!r} failed {ATTEMPTS_MAX} times", "use a new id")

    def _open(self, attempt: str, deployment: Deployment, party: str, decision: Json, images: int) -> None:
        try:
            self._meter.open(
                attempt,
                party,
                f"{deployment.name}/{deployment.version}",
                deployment.artefact_digest,
                deployment.price_id,
                deployment.split_id,
                Usage(inferences=images),
                decision,
                certificate_digest=deployment.certificate_digest,
                compute=deployment.provider,
            )
        except StorageError:
            # the hold may have been written before the failure was seen
            self._owe(attempt, "the book was down when the attempt was opened")
            raise

    def close(self, attempt: str, images: int, lot: LotSection | None = None) -> Receipt:
        """Captures `images` inferences; the receipt is durable on return. If it cannot be written, the attempt is to be voided. lot: what
        the receipt says of their lot."""
        return self._meter.close(attempt, Usage(inferences=images), "reported", lot)

    def void(self, attempt: str, reason: str) -> None:
        """Ends an attempt without charge. If the book is down, it is remembered and ended by a later `settle`, or by the book's own
        recovery at the next start. Never raises IsthmusError: the failure that led here is the one to tell."""
        try:
            self._meter.void(attempt, reason)
        except (ConflictError, NotFoundError):
            return
        except IsthmusError:
            self._owe(attempt, reason)

    def _owe(self, attempt: str, reason: str) -> None:
        with self._lock:
            self._unsettled[attempt] = reason

    def settle(self) -> None:
        """Ends what could not be ended before. Raises StorageError while too much is open, so that nothing new is dispatched."""
        with self._lock:
            owed, self._unsettled = self._unsettled, {}
        for attempt, reason in owed.items():
            self.void(attempt, reason)
        if self.unsettled >= UNSETTLED_MAX:
            raise StorageError(f"{self.unsettled} attempts wait for the book to come back", "check the disk; nothing new is dispatched")


def _decision(deployment: Deployment, request_id: str, request_digest: str) -> Json:
    """What the receipt says about why this deployment answered."""
    return {
        "rule": "named deployment, certificate valid for its tier, artefact unchanged",
        "deployment": deployment.name,
        "version": deployment.version,
        "site": deployment.site,
        "tier": deployment.tier,
        "request_id": request_id,
        "request_digest": request_digest,
    }
