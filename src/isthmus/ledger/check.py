"""Proves the book's invariants from its entries, holds, receipts and log, trusting no stored balance or hash."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec

from isthmus.contracts.errors import IsthmusError
from isthmus.contracts.money import BookCheck, BookLine
from isthmus.contracts.receipt import Receipt
from isthmus.kit.database import Database, named_sql
from isthmus.ledger.merkle import EMPTY_ROOT, leaf_hash, node_hash
from isthmus.ledger.receipts import leaf_bytes, receipt_of, section_digest
from isthmus.ledger.splits import divide
from isthmus.ledger.verify import tree_head

BROKEN_SHOWN_MAX = 10
"""Things named for each broken invariant."""
RECEIPTS_AT_ONCE = 1000

_SQL = named_sql(Path(__file__).parent / "sql" / "check.sql")
_LOG = named_sql(Path(__file__).parent / "sql" / "log.sql")
_QUERIES = (
    ("each transfer sums to zero in each unit", "unbalanced_transfers", "transfers"),
    ("each entry belongs to a transfer and an account", "orphan_entries", "entries"),
    ("each balance is the sum of its entries", "wrong_balances", "accounts"),
    ("each held amount is the sum of its open holds", "wrong_helds", "accounts"),
    ("no account is below its floor", "broken_floors", "accounts"),
    ("a hold ends once and captures at most what it held", "wrong_holds", "holds"),
    ("each captured hold has its one transfer of that amount", "wrong_captures", "holds"),
    ("each ended attempt has exactly one receipt, each open one none", "wrong_attempts", "attempts"),
    ("each attempt has a hold and each receipt an attempt", "orphan_attempts", "attempts"),
)


def unit_sums(db: Database) -> dict[str, int]:
    """unit -> sum of all entries in it; each must be 0."""
    return {str(row["unit"]): int(row["total"]) for row in db.rows(_SQL["unit_sums"])}


def check_book(db: Database, trusted: dict[str, str] | None = None) -> BookCheck:
    """Rebuilds balances, receipts and log, and reports each invariant of the book.

    trusted: key id -> public key, to check the stored tree heads' signatures too. Writers wait while it runs.
    Raises StorageError.
    """
    with db.transaction():
        counts = db.rows(_SQL["counts"])[0]
        sums = unit_sums(db)
        lines = [_line("entries sum to zero in each unit", len(sums), [unit for unit, total in sums.items() if total])]
        for rule, query, of in _QUERIES:
            found = [str(row["what"]) for row in db.rows(_SQL[query], {"most": BROKEN_SHOWN_MAX})]
            lines.append(_line(rule, int(counts[of]), found))
        lines += _receipt_lines(db)
        lines += _log_lines(db, trusted)
    return BookCheck(
        holds=all(line.holds for line in lines),
        lines=tuple(lines),
        sums=sums,
        receipts=int(counts["receipts"]),
        entries=int(counts["entries"]),
        open_holds=int(counts["open_holds"]),
    )


def _line(rule: str, checked: int, broken: list[str]) -> BookLine:
    return BookLine(rule=rule, holds=not broken, checked=checked, broken=tuple(broken[:BROKEN_SHOWN_MAX]))


def _all_receipts(db: Database) -> Iterator[tuple[Receipt, int, str]]:
    first = 0
    while True:
        rows = db.rows(_SQL["receipts_from"], {"first": first, "most": RECEIPTS_AT_ONCE})
        if not rows:
            return
        for row in rows:
            yield receipt_of(row), int(row["charge_micros"]), str(row["currency"])
        first = int(rows[-1]["leaf_index"]) + 1


def _receipt_lines(db: Database) -> list[BookLine]:
    unsplit: list[str] = []
    unpaid: list[str] = []
    altered: list[str] = []
    count = 0
    leaves = [bytes(row["hash"]) for row in db.rows(_LOG["leaves"])]
    for receipt, charge_micros, currency in _all_receipts(db):
        count += 1
        try:
            if not _split_fits(receipt, charge_micros):
                unsplit.append(receipt.id)
            paid = {
                (row["party"], row["role"]): row["amount"]
                for row in db.rows(_SQL["earned_by_transfer"], {"id": receipt.id, "unit": currency})
            }
            owed: Counter[tuple[str, str]] = Counter()
            for line in receipt.lines:
                owed[line.party, "residue" if line.role == "residue" else "earned"] += line.amount_micros
            if {place: amount for place, amount in owed.items() if amount} != paid:
                unpaid.append(receipt.id)
        except (KeyError, msgspec.ValidationError, IsthmusError):
            unsplit.append(receipt.id)
        if not _committed(receipt, leaves):
            altered.append(receipt.id)
    if len(leaves) != count:
        altered.append(f"{len(leaves)} leaves for {count} receipts")
    return [
        _line("each split sums to the charge, by its rule", count, unsplit),
        _line("each share was paid as the receipt says", count, unpaid),
        _line("each receipt gives its leaf in the log", count, altered),
    ]


def _split_fits(receipt: Receipt, charge_micros: int) -> bool:
    split = receipt.split
    ruled = divide(split.rule, charge_micros, split.compute)
    return receipt.charge_micros == charge_micros == split.charge_micros and split.lines == ruled


def _committed(receipt: Receipt, leaves: list[bytes]) -> bool:
    digests = {name: section_digest(name, section) for name, section in receipt.sections.items()}
    if digests != receipt.digests or receipt.leaf_index >= len(leaves):
        return False
    return leaves[receipt.leaf_index] == leaf_hash(leaf_bytes(receipt.id, receipt.at_ms, digests))


def _log_lines(db: Database, trusted: dict[str, str] | None) -> list[BookLine]:
    level = [bytes(row["hash"]) for row in db.rows(_LOG["leaves"])]
    size, height = len(level), 0
    levels = [level]
    wrong: list[str] = []
    while len(level) > 1:
        level = [node_hash(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
        levels.append(level)
        height += 1
    for number in range(height + 2):
        stored = [bytes(row["hash"]) for row in db.rows(_LOG["level"], {"level": number})]
        if stored != (levels[number] if number < len(levels) else []):
            wrong.append(f"level {number}")
    broken = []
    for row in db.rows(_LOG["heads"]):
        tree_size = int(row["tree_size"])
        root = _root(levels, tree_size).hex() if tree_size <= size else "beyond the log"
        try:
            signed = root if trusted is None else tree_head(msgspec.json.decode(row["envelope"]), trusted).root
        except IsthmusError as error:
            signed = error.message
        if not row["root"] == root == signed:
            broken.append(f"head of {tree_size} leaves")
    heads = int(db.rows(_SQL["counts"])[0]["heads"])
    return [
        _line("the log's nodes follow from its leaves", size, wrong),
        _line("each signed head is the root of its leaves", heads, broken),
    ]


def _root(levels: list[list[bytes]], size: int) -> bytes:
    """The root of the first `size` leaves from levels of complete subtrees: the peaks, joined from the right."""
    found: bytes | None = None
    end = size
    for height, level in enumerate(levels):
        if size >> height & 1:
            peak = level[(end >> height) - 1]
            found = peak if found is None else node_hash(peak, found)
            end -= 1 << height
    return EMPTY_ROOT if found is None else found
