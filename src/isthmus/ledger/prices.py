"""Price versions and split rules as the book knows them: added once, never changed, unknown ones refused."""

from __future__ import annotations

from pathlib import Path

import msgspec

from isthmus.contracts.errors import AmountError, ConflictError, InputError, UnknownPriceError, UnknownSplitError
from isthmus.contracts.money import AMOUNT_MAX, currency
from isthmus.contracts.price import OWNERS_MAX, PPM, Price, Split
from isthmus.kit.canonical import canonical_bytes, sha256_hex
from isthmus.kit.database import Database, named_sql
from isthmus.kit.ids import slug

_SQL = named_sql(Path(__file__).parent / "sql" / "prices.sql")


def checked_price(price: Price) -> Price:
    """Itself; raises InputError or AmountError when a field cannot be."""
    slug(price.id, "the price id")
    slug(price.series, "the price series")
    currency(price.currency)
    for rate in (price.inference_micros, price.million_tokens_in_micros, price.million_tokens_out_micros):
        if not 0 <= rate <= AMOUNT_MAX:
            raise AmountError(f"a rate of {rate} micro-units is not possible", "use a whole number from 0 to 2^53 - 1")
    return price


def checked_split(rule: Split) -> Split:
    """Itself; raises InputError or AmountError when shares or weights cannot be."""
    slug(rule.id, "the split id")
    for party in (rule.compute, rule.vendor, rule.exchange, rule.residue, *(owner.party for owner in rule.owners)):
        slug(party, "the party")
    shares = (rule.compute_ppm, rule.vendor_ppm, rule.exchange_ppm, rule.owners_ppm)
    if any(share < 0 for share in shares) or sum(shares) > PPM:
        raise AmountError(f"the shares sum to {sum(shares)} parts per million", f"use shares from 0 that sum to at most {PPM}")
    names = [owner.party for owner in rule.owners]
    if len(set(names)) != len(names) or len(names) > OWNERS_MAX:
        raise InputError("an owner is named twice, or there are too many", f"name each owner once, at most {OWNERS_MAX}")
    if any(not 0 <= owner.weight <= 2**40 for owner in rule.owners):
        raise AmountError("an owner's weight is not possible", "use whole numbers from 0 to 2^40")
    return rule


class PriceList:
    """Price versions and split rules in the book's database."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self._prices: dict[str, Price] = {}
        self._splits: dict[str, Split] = {}

    def add_price(self, price: Price) -> Price:
        """Adds a version. The same id and content again is the same answer; other content raises ConflictError."""
        raw = canonical_bytes(checked_price(price))
        digest = sha256_hex(raw)
        with self.db.transaction() as connection:
            row = connection.execute(_SQL["price"], {"id": price.id}).fetchone()
            if row is None:
                named = {"id": price.id, "series": price.series, "effective_at_s": price.effective_at_s}
                connection.execute(_SQL["price_add"], {**named, "digest": digest, "document": raw})
            elif row["digest"] != digest:
                raise ConflictError(f"the price {price.id} exists with other content", "add a new version under a new id")
        return price

    def price(self, price_id: str) -> Price:
        """A version by its id. Raises UnknownPriceError."""
        known = self._prices.get(price_id)
        if known is not None:
            return known
        row = self.db.row(_SQL["price"], {"id": price_id})
        if row is None:
            raise UnknownPriceError(f"there is no price {price_id!r}", "add the price version, or name one that exists")
        found = msgspec.json.decode(row["document"], type=Price)
        self._prices[price_id] = found
        return found

    def in_effect(self, price_id: str, now_s: float) -> Price:
        """A version that applies now. Raises UnknownPriceError also when it begins later."""
        price = self.price(price_id)
        if price.effective_at_s > now_s:
            raise UnknownPriceError(f"the price {price_id!r} is not in effect yet", "use the version in effect now")
        return price

    def current(self, series: str, now_s: float) -> Price:
        """The series' latest version in effect. Raises UnknownPriceError."""
        row = self.db.row(_SQL["price_current"], {"series": series, "now_s": int(now_s)})
        if row is None:
            raise UnknownPriceError(f"no price of the series {series!r} is in effect", "add a version that is")
        return msgspec.json.decode(row["document"], type=Price)

    def prices(self) -> tuple[Price, ...]:
        """All versions, by series and time."""
        return tuple(msgspec.json.decode(row["document"], type=Price) for row in self.db.rows(_SQL["prices"]))

    def add_split(self, rule: Split) -> Split:
        """Adds a rule's version. The same id and content again is the same answer; other content raises ConflictError."""
        raw = canonical_bytes(checked_split(rule))
        digest = sha256_hex(raw)
        with self.db.transaction() as connection:
            row = connection.execute(_SQL["split"], {"id": rule.id}).fetchone()
            if row is None:
                connection.execute(_SQL["split_add"], {"id": rule.id, "digest": digest, "document": raw})
            elif row["digest"] != digest:
                raise ConflictError(f"the split {rule.id} exists with other content", "add a new version under a new id")
        return rule

    def split(self, split_id: str) -> Split:
        """A rule's version by its id. Raises UnknownSplitError."""
        known = self._splits.get(split_id)
        if known is not None:
            return known
        row = self.db.row(_SQL["split"], {"id": split_id})
        if row is None:
            raise UnknownSplitError(f"there is no split {split_id!r}", "add the rule's version, or name one that exists")
        found = msgspec.json.decode(row["document"], type=Split)
        self._splits[split_id] = found
        return found
