"""A lot: parts that were judged under one name, and the signed document that a buyer can check without the exchange.

Every receipt of a lot has a section of its own, `lot`, which counts the verdicts of that request. The document shows that section and the
one that names the certificate, of every receipt of the lot in the log, and nothing of what was paid or to whom.
"""

from __future__ import annotations

import re

import msgspec

from isthmus.contracts.errors import InputError
from isthmus.contracts.ports import Json
from isthmus.contracts.receipt import Section

LOT_TYPE = "application/vnd.isthmus.lot-certificate+json"
LOT_FORMAT = "isthmus-lot/1"
SHOWN_SECTIONS = frozenset({"lot", "certificate"})
"""Sections of a receipt that a buyer is shown."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)


def lot_name(text: str) -> str:
    """The name of a lot. Raises InputError when it is none."""
    if not _NAME.fullmatch(text):
        raise InputError(f"{text[:80]!r} is no name of a lot", "use 1 to 64 letters, digits, dots, hyphens and underscores")
    return text


UNBOUND_PPM = 1_000_000
"""An error bound that says nothing: of certificates that promise something else, such as few false alarms."""


class LotSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section `lot` of a receipt. counts: verdict -> records of this request. request: digest of what was sent."""

    lot: str
    counts: dict[str, int]
    request: str


class LotReceipt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A receipt as a buyer sees it: the digests of all its sections, two sections, its place in the log and path there (RFC 9162, hex)."""

    id: str
    at_ms: int
    digests: dict[str, str]
    sections: dict[str, Section]
    leaf_index: int
    path: tuple[str, ...]


class LotModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One certificate under which parts of the lot were judged, what it promises, and how many parts. classes: what the scenario calls good
    and defect. error_bound_ppm: of the answers, with confidence_ppm."""

    certificate_digest: str
    artefact_digest: str
    scenario: str
    site: str
    tier: str
    classes: tuple[str, str]
    error_bound_ppm: int
    confidence_ppm: int
    not_after_s: int
    parts: int


class LotCertificate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the exchange signs of a lot.

    All receipts of party and lot among the first tree_size leaves of its log are counted. counts: verdict -> parts; those of verdict person
    were left to one, the others were graded. error_bound_ppm: the greatest of the models'; confidence_ppm: the least. receipts_digest: over
    the receipts as they stand in the document. Times in milliseconds since the Unix epoch.
    """

    format: str
    lot: str
    party: str
    log: str
    tree_size: int
    issued_at_ms: int
    first_at_ms: int
    last_at_ms: int
    receipts: int
    receipts_digest: str
    parts: int
    counts: dict[str, int]
    graded: int
    error_bound_ppm: int
    confidence_ppm: int
    models: tuple[LotModel, ...]


class SignedLot(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole document: to read, the DSSE envelope over the same, the signed head of the log, and the receipts."""

    lot: LotCertificate
    envelope: Json
    head: Json
    receipts: tuple[LotReceipt, ...]
