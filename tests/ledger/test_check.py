"""The check finds what it claims to find: each invariant is broken by hand, behind the triggers' back."""

from __future__ import annotations

from pathlib import Path

import pytest

from isthmus.kit.signing import SigningKey
from isthmus.ledger.check import check_book
from isthmus.ledger.meter import Meter
from tests.ledger.world import ONE, TRUSTED, new_meter, opened

NORTH, SOUTH = ("(SELECT id FROM accounts WHERE party = 'north')", "(SELECT id FROM accounts WHERE party = 'south')")
DAMAGE = {
    "UPDATE entries SET amount = amount + 1 WHERE seq = 3": {
        "entries sum to zero in each unit",
        "each transfer sums to zero in each unit",
        "each balance is the sum of its entries",
    },
    "UPDATE accounts SET balance = balance + 1 WHERE party = 'north'": {"each balance is the sum of its entries"},
    "UPDATE accounts SET held = held + 1 WHERE party = 'line' AND role = 'balance'": {"each held amount is the sum of its open holds"},
    "UPDATE accounts SET floor = 2000000 WHERE party = 'line' AND role = 'balance'": {"no account is below its floor"},
    "UPDATE holds SET captured = amount + 1 WHERE id = 'r0'": {
        "a hold ends once and captures at most what it held",
        "each captured hold has its one transfer of that amount",
    },
    "UPDATE holds SET state = 'voided', captured = 0 WHERE id = 'r0'": {
        "each captured hold has its one transfer of that amount",
        "each ended attempt has exactly one receipt, each open one none",
    },
    "DELETE FROM receipts WHERE id = 'r1'": {"each ended attempt has exactly one receipt, each open one none"},
    "DELETE FROM entries WHERE seq = 3": {"each transfer sums to zero in each unit"},
    "DELETE FROM transfers WHERE hold = 'r0'": {"each entry belongs to a transfer and an account"},
    "DELETE FROM attempts WHERE id = 'r0'": {"each attempt has a hold and each receipt an attempt"},
    "UPDATE receipts SET charge_micros = 996 WHERE id = 'r1'": {"each split sums to the charge, by its rule"},
    "UPDATE receipts SET document = CAST(REPLACE(CAST(document AS TEXT), 'cheapest', 'dearest') AS BLOB)": {
        "each receipt gives its leaf in the log"
    },
    'UPDATE receipts SET document = CAST(REPLACE(CAST(document AS TEXT), \'"party":"south"\', \'"party":"sooth"\') AS BLOB)': {
        "each share was paid as the receipt says",
        "each receipt gives its leaf in the log",
    },
    "UPDATE log_nodes SET hash = zeroblob(32) WHERE level = 1 AND place = 0": {"the log's nodes follow from its leaves"},
    "UPDATE log_nodes SET hash = zeroblob(32) WHERE level = 0 AND place = 0": {
        "each receipt gives its leaf in the log",
        "each signed head is the root of its leaves",
    },
    "DELETE FROM log_nodes WHERE level = 0 AND place = 3": {"the log's nodes follow from its leaves"},
    "UPDATE log_heads SET root = 'aa'": {"each signed head is the root of its leaves"},
    f"UPDATE entries SET account = {NORTH} WHERE account = {SOUTH}": {"each share was paid as the receipt says"},
}


@pytest.fixture
def meter(tmp_path: Path) -> Meter:
    meter = new_meter(tmp_path)
    for number in range(3):
        opened(meter, f"r{number}")
        meter.close(f"r{number}", ONE, "reported")
    opened(meter, "v")
    meter.void("v", "engine failed")
    meter.log.head()
    opened(meter, "open")
    return meter


def test_an_honest_book_holds(meter: Meter) -> None:
    checked = check_book(meter.db, TRUSTED)
    assert checked.holds and (checked.receipts, checked.open_holds) == (4, 1)
    assert set(checked.sums.values()) == {0} and len(checked.sums) == 2
    assert all(line.checked for line in checked.lines)


@pytest.mark.parametrize("damage", DAMAGE)
def test_each_damage_is_found(meter: Meter, damage: str) -> None:
    connection = meter.db._connection
    connection.execute("PRAGMA ignore_check_constraints = ON")
    connection.execute("PRAGMA foreign_keys = OFF")
    for row in meter.db.rows("SELECT name FROM sqlite_master WHERE type = 'trigger'"):
        connection.execute(f"DROP TRIGGER {row['name']}")
    connection.execute(damage)
    checked = check_book(meter.db, TRUSTED)
    assert not checked.holds
    assert {line.rule for line in checked.lines if not line.holds} >= DAMAGE[damage]


def test_a_head_signed_by_another_key_is_found(meter: Meter) -> None:
    other = SigningKey.generate()
    assert not check_book(meter.db, {other.key_id: other.public_hex}).holds
    assert check_book(meter.db).holds
