"""Offers on the market: checked, stored, replaced by their own party, withdrawn."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from isthmus.contracts.errors import ForbiddenError, NotFoundError, OfferError
from isthmus.contracts.money import AMOUNT_MAX
from isthmus.contracts.offer import Offer
from isthmus.kit.canonical import canonical_bytes
from isthmus.kit.database import Database, named_sql
from isthmus.kit.ids import slug

REQUESTS_AT_ONCE_MAX = 100_000
"""Requests that one offer may say it serves at once."""
NAMES_MAX = 256
"""Jurisdictions, capabilities or artefacts that one offer lists."""
_FOLDER = Path(__file__).parent / "sql"
_SQL = named_sql(_FOLDER / "offers.sql")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
SCHEMA = ((_FOLDER / "schema_1.sql").read_text(encoding="utf-8"),)


def open_offers(path: Path) -> Database:
    """Opens or makes the database of offers. Raises StorageError."""
    return Database(path, SCHEMA)


def checked_offer(offer: Offer) -> Offer:
    """Itself; raises OfferError or InputError when a field cannot be."""
    for what, value in (
        ("the offer id", offer.id),
        ("the party", offer.party),
        ("the price id", offer.price_id),
        ("the region", offer.region),
    ):
        slug(value, what)
    for name in (*offer.residency, *offer.capabilities):
        slug(name, "the residency or capability")
    if not offer.engine or not offer.accelerator:
        raise OfferError(f"the offer {offer.id} names no engine or accelerator", "say what computes, such as onnxruntime on cpu")
    if not 1 <= offer.requests_max <= REQUESTS_AT_ONCE_MAX:
        raise OfferError(f"the offer {offer.id} serves {offer.requests_max} requests at once", f"use 1 to {REQUESTS_AT_ONCE_MAX}")
    if max(len(offer.residency), len(offer.capabilities), len(offer.artefacts)) > NAMES_MAX:
        raise OfferError(f"the offer {offer.id} lists too many names", f"use at most {NAMES_MAX} of each")
    if any(not _DIGEST.fullmatch(digest) for digest in offer.artefacts):
        raise OfferError(f"the offer {offer.id} names an artefact that is no digest", "use sha256: and 64 hex digits")
    if not 0 <= offer.energy_kwh_micros <= AMOUNT_MAX or not 0 <= offer.carbon_kwh_grams <= AMOUNT_MAX:
        raise OfferError(f"the offer {offer.id} has an impossible energy price or carbon", "use whole numbers from 0")
    return offer


class OfferBook:
    """Offers in a database."""

    def __init__(self, db: Database) -> None:
        self.db = db

    def put(self, offer: Offer, by: str) -> Offer:
        """Adds an offer, or replaces the party's own of this id. by: who asks. Raises OfferError, ForbiddenError, StorageError."""
        checked_offer(offer)
        with self.db.transaction() as connection:
            row = connection.execute(_SQL["offer"], {"id": offer.id}).fetchone()
            if by != offer.party or (row is not None and row["party"] != by):
                raise ForbiddenError(f"{by} cannot make the offer {offer.id}", "make offers in your own name, under an id of your own")
            connection.execute(_SQL["offer_put"], {"id": offer.id, "party": offer.party, "document": canonical_bytes(offer)})
        return offer

    def offers(self) -> tuple[Offer, ...]:
        """Offers that stand, by id."""
        return tuple(msgspec.json.decode(row["document"], type=Offer) for row in self.db.rows(_SQL["offers"]))

    def withdraw(self, offer_id: str, by: str) -> None:
        """Takes the party's own offer off the market; again is no error. Raises NotFoundError, ForbiddenError."""
        with self.db.transaction() as connection:
            row = connection.execute(_SQL["offer"], {"id": offer_id}).fetchone()
            if row is None:
                raise NotFoundError(f"there is no offer {offer_id!r}", "list the offers")
            if row["party"] != by:
                raise ForbiddenError(f"{by} cannot withdraw the offer {offer_id}", "only its party can")
            connection.execute(_SQL["offer_withdraw"], {"id": offer_id})
