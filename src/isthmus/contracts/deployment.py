"""A certified artefact bound to a site and a serving policy, and what the data path asks of the other rooms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.head import Link
from isthmus.contracts.lot import LotSection
from isthmus.contracts.money import Hold
from isthmus.contracts.ports import Json
from isthmus.contracts.price import Usage
from isthmus.contracts.receipt import Outcome, Receipt
from isthmus.contracts.schema import Schema
from isthmus.contracts.targets import Target

State = Literal["serving", "withdrawn"]


class Deployment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What serves under `name` and `version`.

    artefact_digest, certificate_digest: `sha256:...`. tier: the least risk tier that the certificate must cover (T1, T2, T3).
    price_id: a price version; split_id: a version of a split rule. decoder: the named image decoder of the certified
    subject. schema: of its records, where they are not pictures.
    lo, hi: thresholds on the score, for information: the artefact itself applies its own. provider: the party whose
    compute serves it. targets: the numbers that it foretells, each with a band that held_ppm of outcomes are promised to lie in; none, and
    0, of one that gives verdicts. heat: whether it also gives maps of where in a picture. link: of its head; a logistic one's score tells
    a probability too.
    """

    name: str
    version: str
    artefact_digest: str
    certificate_digest: str
    site: str
    tier: str
    price_id: str
    split_id: str
    provider: str
    decoder: str
    lo: float
    hi: float
    state: State = "serving"
    schema: Schema | None = None
    targets: tuple[Target, ...] = ()
    held_ppm: int = 0
    heat: bool = False
    link: Link = "linear"


class Certified(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a valid certificate says of its subject, as far as serving needs to know."""

    certificate_digest: str
    artefact_digest: str
    decoder: str
    expires_s: float


class CertificateGate(Protocol):
    """Whether a certificate holds now: signed by a trusted issuer, begun, not expired, not revoked, tier high enough."""

    def check(self, deployment: Deployment, tier: str, now_s: float) -> Certified:
        """What the deployment's certificate covers. Raises a CertificateError that names the reason; StorageError if it cannot tell."""


class Engine(Protocol):
    """One artefact, loaded. Calls may come from several threads at once."""

    def judged(self, given: list[NDArray[Any]], /) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Decoded records, pictures (each H x W x 3 uint8, any size) or rows and windows (float32) -> scores (n,), verdicts (n,) as
        indices of VERDICTS. In bounded time."""

    def foretold(self, given: list[NDArray[Any]], /) -> NDArray[np.float32]:
        """Decoded rows and windows -> (n, 3, targets): value, low and high of each target, of an artefact that foretells numbers."""

    def heats(self, given: list[NDArray[Any]], /) -> NDArray[np.float32]:
        """Decoded pictures -> (n, h, w) distances of their places. Raises InputError where the artefact gives none."""

    def close(self) -> None:
        """Ends it; running calls may fail."""


EngineMaker = Callable[[bytes], Engine]
"""Starts an engine from an artefact's bytes, which have just been verified. Raises IsthmusError."""


@dataclass(frozen=True)
class Caller:
    """Who calls: the party that is charged, and the id (never the secret) of the key it used."""

    party: str
    key_id: str = ""


class KeyRing(Protocol):
    """Who owns a bearer key."""

    def caller(self, bearer: str) -> Caller:
        """The key's owner. Raises a 401 for a key that is unknown, expired or revoked; StorageError when it cannot tell."""


class Meter(Protocol):
    """The book around each attempt: open, then exactly one of close or void. Each call is durable when it returns."""

    def open(
        self,
        request_id: str,
        caller: str,
        model: str,
        artefact_digest: str,
        price_id: str,
        split_id: str,
        worst_case: Usage,
        policy: Json,
        *,
        certificate_digest: str | None = None,
        compute: str | None = None,
    ) -> Hold:
        """Holds the worst case under an attempt's id. Raises what forbids it: no funds, unknown price or rule, storage down."""

    def close(self, request_id: str, usage: Usage, outcome: Outcome, lot: LotSection | None = None) -> Receipt:
        """Captures what was used and writes the receipt, with the lot's section; again with the same content gives the same receipt."""

    def void(self, request_id: str, reason: str) -> Receipt:
        """Gives the hold back and records why; HoldCapturedError if the attempt was closed."""

    def find(self, request_id: str) -> Receipt | None:
        """An attempt's terminal record, or None while it is open or unknown."""
