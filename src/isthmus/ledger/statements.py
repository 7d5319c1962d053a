"""Statements: what moved a party's accounts over a period, from the book's entries and, beside them, from its receipts."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import msgspec

from isthmus.contracts.errors import BookError, InputError
from isthmus.contracts.money import counted_unit
from isthmus.contracts.receipt import (
    CHARGED,
    STATEMENT_TYPE,
    CertificateSection,
    PartiesSection,
    PriceSection,
    Receipt,
    Statement,
    StatementLine,
    StatementTotal,
)
from isthmus.kit.database import named_sql
from isthmus.kit.signing import Envelope, SigningKey, seal
from isthmus.ledger.meter import Meter
from isthmus.ledger.receipts import receipt_of

_SQL = named_sql(Path(__file__).parent / "sql" / "statements.sql")
_RECEIPTS = named_sql(Path(__file__).parent / "sql" / "receipts.sql")


def moved_by(receipt: Receipt, party: str) -> Counter[tuple[str, str]]:
    """(role, unit) -> how a receipt (all sections) moved this party's accounts, by the receipt's own word."""
    moved: Counter[tuple[str, str]] = Counter()
    parties = msgspec.convert(receipt.sections["parties"].body, PartiesSection)
    priced = msgspec.convert(receipt.sections["price"].body, PriceSection)
    artefact = msgspec.convert(receipt.sections["certificate"].body, CertificateSection).artefact_digest
    if parties.caller == party:
        moved["balance", priced.price.currency] -= priced.charge_micros
    for line in receipt.lines:
        if line.party == party:
            moved["residue" if line.role == "residue" else "earned", priced.price.currency] += line.amount_micros
    if CHARGED[receipt.outcome]:
        for kind, count in receipt.usage.counts().items():
            if parties.caller == party:
                moved["used", counted_unit(kind, artefact)] += count
            if parties.compute == party:
                moved["made", counted_unit(kind, artefact)] -= count
    return moved


def statement(meter: Meter, party: str, from_ms: int, to_ms: int) -> Statement:
    """The party's statement for [from_ms, to_ms). Raises InputError (period), BookError (receipts and entries differ)."""
    if from_ms >= to_ms:
        raise InputError("the period ends before it begins", "give --from before --to")
    with meter.db.transaction():
        period = {"party": party, "from_ms": from_ms, "to_ms": to_ms}
        moves = meter.db.rows(_SQL["moves"], period)
        openings = meter.db.rows(_SQL["openings"], {"party": party, "from_ms": from_ms})
        receipts = [receipt_of(row) for row in meter.db.rows(_RECEIPTS["receipts_of_party"], period)]
    lines = tuple(
        StatementLine(
            at_ms=row["at_ms"],
            kind="receipt" if row["hold"] else "transfer",
            id=row["hold"] or row["id"],
            role=row["role"],
            unit=row["unit"],
            amount=row["amount"],
            reason=row["reason"],
        )
        for row in moves
        if row["amount"]
    )
    from_receipts: Counter[tuple[str, str]] = Counter()
    for receipt in receipts:
        from_receipts.update(moved_by(receipt, party))
    totals = _totals(lines, {(row["role"], row["unit"]): row["amount"] for row in openings}, from_receipts)
    return Statement(
        party=party,
        from_ms=from_ms,
        to_ms=to_ms,
        issued_at_ms=int(meter.clock.now_s() * 1000),
        receipts=len(receipts),
        lines=lines,
        totals=totals,
    )


def _totals(
    lines: tuple[StatementLine, ...], openings: dict[tuple[str, str], int], from_receipts: Counter[tuple[str, str]]
) -> tuple[StatementTotal, ...]:
    moved: dict[tuple[str, str], int] = defaultdict(int)
    by_receipts: dict[tuple[str, str], int] = defaultdict(int)
    for line in lines:
        moved[line.role, line.unit] += line.amount
        if line.kind == "receipt":
            by_receipts[line.role, line.unit] += line.amount
    for place in {*by_receipts, *from_receipts}:
        if by_receipts.get(place, 0) != from_receipts[place]:
            raise BookError(f"receipts and entries differ in {place[0]} {place[1]}", "run `isthmus book check`")
    totals = []
    for place in sorted({*openings, *moved}):
        opening = openings.get(place, 0)
        totals.append(
            StatementTotal(
                role=place[0],
                unit=place[1],
                opening=opening,
                moved=moved.get(place, 0),
                closing=opening + moved.get(place, 0),
                from_receipts=from_receipts[place],
            )
        )
    return tuple(totals)


def sealed(document: Statement, key: SigningKey) -> Envelope:
    """The statement, signed by the exchange."""
    return seal(key, STATEMENT_TYPE, document)
