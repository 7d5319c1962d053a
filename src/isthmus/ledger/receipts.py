"""Receipts: making them from salted sections, storing them with their leaf, and showing each party its own sections."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from isthmus.contracts.errors import NotFoundError
from isthmus.contracts.receipt import RECEIPT_FORMAT, PartiesSection, Receipt, Section, ShareSection
from isthmus.kit.canonical import canonical_bytes, digest_of
from isthmus.kit.database import Database, named_sql
from isthmus.ledger.log import ReceiptLog

SALT_BYTES = 16
CALLER_SECTIONS = frozenset({"usage", "price", "split", "policy", "parties", "certificate", "outcome", "lot"})
MAKER_SECTIONS = frozenset({"usage", "certificate", "outcome"})
OWNER_SECTIONS = frozenset({"certificate", "outcome"})
_SQL = named_sql(Path(__file__).parent / "sql" / "receipts.sql")


def section_digest(name: str, section: Section) -> str:
    """`sha256:...` over the canonical JSON of {body, name, salt}."""
    return digest_of({"body": section.body, "name": name, "salt": section.salt})


def leaf_bytes(receipt_id: str, at_ms: int, digests: Mapping[str, str]) -> bytes:
    """What the log commits to for a receipt."""
    return canonical_bytes({"at_ms": at_ms, "digests": dict(digests), "format": RECEIPT_FORMAT, "id": receipt_id})


def salted(bodies: Mapping[str, Any], entropy: Callable[[int], bytes]) -> dict[str, Section]:
    """Sections with a fresh salt each. entropy: number of bytes -> that many unpredictable bytes."""
    return {name: Section(salt=entropy(SALT_BYTES).hex(), body=msgspec.to_builtins(body)) for name, body in sorted(bodies.items())}


def own_sections(receipt: Receipt, party: str) -> Receipt | None:
    """The receipt with only the sections that are this party's; None when it has no part in it.

    receipt: with all sections. The caller sees what it asked, paid and by which published split; compute provider and
    vendor see the usage; an owner sees the outcome; each sees its own line of the split and nobody else's.
    """
    parties = msgspec.convert(receipt.sections["parties"].body, PartiesSection)
    own = {
        name
        for name, section in receipt.sections.items()
        if name.startswith("share-") and msgspec.convert(section.body, ShareSection).line.party == party
    }
    if own:
        own |= OWNER_SECTIONS
    if party in (parties.compute, parties.vendor):
        own |= MAKER_SECTIONS
    if party == parties.caller:
        own |= CALLER_SECTIONS
    if not own:
        return None
    shown = {name: section for name, section in receipt.sections.items() if name in own}
    return msgspec.structs.replace(receipt, sections=shown)


class ReceiptStore:
    """Receipts in the book's database, each with its leaf in the log."""

    def __init__(self, db: Database, log: ReceiptLog) -> None:
        self.db = db
        self.log = log

    def add(
        self, receipt_id: str, at_ms: int, sections: Mapping[str, Section], parties: Iterable[str], index: Mapping[str, Any], digest: str
    ) -> Receipt:
        """Appends the leaf and stores the receipt. Call it inside the transaction that moves what it records.

        index: outcome, charge_micros, currency. digest: of the call that made it, so that a retry can be told from a conflict.
        """
        digests = {name: section_digest(name, section) for name, section in sections.items()}
        with self.db.transaction() as connection:
            place = self.log.append(leaf_bytes(receipt_id, at_ms, digests))
            receipt = Receipt(format=RECEIPT_FORMAT, id=receipt_id, at_ms=at_ms, digests=digests, sections=dict(sections), leaf_index=place)
            raw = msgspec.json.encode(receipt)
            row = {"leaf_index": place, "id": receipt_id, "digest": digest, "at_ms": at_ms, "document": raw}
            connection.execute(_SQL["receipt_add"], {**row, **index})
            for party in sorted(set(parties)):
                connection.execute(_SQL["receipt_party_add"], {"party": party, "at_ms": at_ms, "leaf_index": place})
        return msgspec.json.decode(raw, type=Receipt)

    def add_to_lot(self, party: str, lot: str, leaf_index: int) -> None:
        """Notes that a receipt belongs to a party's lot. Call it inside the transaction that adds the receipt."""
        with self.db.transaction() as connection:
            connection.execute(_SQL["lot_receipt_add"], {"party": party, "lot": lot, "leaf_index": leaf_index})

    def of_lot(self, party: str, lot: str, most: int) -> list[Receipt]:
        """The receipts of a party's lot in the log's order, all sections; at most so many."""
        return [receipt_of(row) for row in self.db.rows(_SQL["receipts_of_lot"], {"party": party, "lot": lot, "most": most})]

    def find(self, receipt_id: str) -> tuple[Receipt, str] | None:
        """A receipt with all its sections and the digest of the call that made it."""
        row = self.db.row(_SQL["receipt"], {"id": receipt_id})
        return None if row is None else (receipt_of(row), str(row["digest"]))

    def shown(self, receipt_id: str, party: str | None) -> Receipt:
        """A receipt with its proof, as one party may see it (None: the operator, who sees all).

        Raises NotFoundError alike when there is none and when the party has no part in it.
        """
        found = self.find(receipt_id)
        receipt = None if found is None else found[0] if party is None else own_sections(found[0], party)
        if receipt is None:
            raise NotFoundError(f"there is no receipt {receipt_id!r} of yours", "check the id and whose key you use")
        return msgspec.structs.replace(receipt, proof=self.log.inclusion(receipt.leaf_index))

    def latest(self, count: int) -> list[Receipt]:
        """The newest receipts with all sections, newest first; for the operator."""
        return [receipt_of(row) for row in self.db.rows(_SQL["receipts_latest"], {"count": count})]

    def of_party(self, party: str, from_ms: int, to_ms: int) -> Iterator[Receipt]:
        """A party's receipts in [from_ms, to_ms), in the log's order, its own sections only."""
        for row in self.db.rows(_SQL["receipts_of_party"], {"party": party, "from_ms": from_ms, "to_ms": to_ms}):
            own = own_sections(receipt_of(row), party)
            if own is not None:
                yield own


def receipt_of(row: sqlite3.Row) -> Receipt:
    """A stored row as a receipt with all sections."""
    return msgspec.json.decode(row["document"], type=Receipt)
