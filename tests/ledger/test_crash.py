"""Killed at random moments, refused by the disk: nothing half-written, and every finished answer has its one receipt."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from isthmus.contracts.errors import StorageError
from isthmus.kit.clock import SetClock, SystemClock
from isthmus.ledger.book import open_book
from isthmus.ledger.check import check_book
from isthmus.ledger.meter import Meter
from isthmus.ledger.verify import tree_head, verify_growth
from tests.ledger.world import KEY, ONE, TRUSTED, money, new_meter, opened

ROOT = Path(__file__).parents[2]
KILLS = 5


def run_until_killed(folder: Path, name: str, after_s: float) -> list[str]:
    """What the child said before kill -9."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    command = [sys.executable, "-m", "tests.ledger.crash_child", str(folder), name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, cwd=ROOT, text=True) as child:
        assert child.stdout is not None
        first = child.stdout.readline()
        time.sleep(after_s)
        child.send_signal(signal.SIGKILL)
        rest = child.stdout.read()
    said = (first + rest).split("\n")
    return said[:-1]


def test_kill_9_at_random_moments(tmp_path: Path) -> None:
    import msgspec

    chance = random.Random(20)
    meter = new_meter(tmp_path, SystemClock(), amount=10_000_000)
    older = None
    meter.db.close()
    said: list[str] = []
    for number in range(KILLS):
        said += run_until_killed(tmp_path, f"k{number}", chance.uniform(0.0, 0.25))
        meter = new_meter(tmp_path, SystemClock(), amount=0)
        meter.recover(meter.clock.now_s())
        assert meter.open_holds() == ()
        checked = check_book(meter.db, TRUSTED)
        assert checked.holds, [line for line in checked.lines if not line.holds]
        assert set(checked.sums.values()) <= {0} and checked.open_holds == 0
        newer = tree_head(msgspec.to_builtins(meter.log.head()), TRUSTED)
        if older is not None:
            assert verify_growth(meter.log.consistency(older.tree_size, newer.tree_size), older, newer)
        older = newer
        outcomes = {row["id"]: row["outcome"] for row in meter.db.rows("SELECT id, outcome FROM receipts")}
        per_attempt = Counter(row["id"] for row in meter.db.rows("SELECT id FROM receipts"))
        assert set(per_attempt.values()) <= {1}
        for line in said:
            kind, _, request_id = line.partition(" ")
            assert request_id in outcomes
            if kind != "opened":
                assert outcomes[request_id] == ("reported" if kind == "finished" else "void")
        reported = sum(outcome == "reported" for outcome in outcomes.values())
        assert meter.book.balance(money("line")).available == 10_000_000 - 997 * reported
        finished = sum(line.startswith("finished") for line in said)
        assert finished <= reported <= finished + number + 1
        meter.db.close()
    assert len(said) >= KILLS


def test_a_full_disk_is_a_storage_error_and_nothing_is_half_written(tmp_path: Path) -> None:
    meter = new_meter(tmp_path)
    opened(meter, "first")
    pages = meter.db.rows("PRAGMA page_count")[0][0]
    failures = 0
    for room in range(1, 40):
        meter.db._connection.execute(f"PRAGMA max_page_count = {pages + room}")
        for number in range(6):
            request_id = f"r{room}-{number}"
            try:
                opened(meter, request_id)
                meter.close(request_id, ONE, "reported")
            except StorageError:
                failures += 1
                break
    assert failures > 5
    meter.db._connection.execute("PRAGMA max_page_count = 100000")
    checked = check_book(meter.db, TRUSTED)
    assert checked.holds, [line for line in checked.lines if not line.holds]
    for hold in meter.open_holds():
        meter.close(hold.id, ONE, "reported")
    assert check_book(meter.db, TRUSTED).holds and meter.open_holds() == ()
    assert meter.find("first") is not None


@pytest.mark.parametrize("at", ["entry_add", "receipt_add", "node_add", "hold_end"])
def test_a_failure_between_any_two_steps_undoes_them_all(tmp_path: Path, at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from isthmus.ledger import book, log, receipts

    meter = new_meter(tmp_path)
    opened(meter, "r")
    before = [
        tuple(row) for table in ("accounts", "entries", "holds", "receipts", "log_nodes") for row in meter.db.rows(f"SELECT * FROM {table}")
    ]
    for module in (book, log, receipts):
        if at in module._SQL:
            monkeypatch.setitem(module._SQL, at, "INSERT INTO no_such_table VALUES (1)")
    with pytest.raises(StorageError):
        meter.close("r", ONE, "reported")
    monkeypatch.undo()
    after = [
        tuple(row) for table in ("accounts", "entries", "holds", "receipts", "log_nodes") for row in meter.db.rows(f"SELECT * FROM {table}")
    ]
    assert after == before
    assert meter.close("r", ONE, "reported").charge_micros == 997
    assert check_book(meter.db, TRUSTED).holds


def test_a_database_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    meter = new_meter(tmp_path)
    opened(meter, "r")
    meter.db._connection.execute("PRAGMA query_only = ON")
    for call in (lambda: opened(meter, "r2"), lambda: meter.close("r", ONE, "reported"), lambda: meter.void("r", "")):
        with pytest.raises(StorageError):
            call()
    meter.db._connection.execute("PRAGMA query_only = OFF")
    assert meter.close("r", ONE, "reported").charge_micros == 997
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError):
        open_book(tmp_path / "file" / "book.db")
    (tmp_path / "garbage.db").write_bytes(b"no database" * 1000)
    with pytest.raises(StorageError):
        open_book(tmp_path / "garbage.db")


def test_a_clock_that_goes_back_breaks_nothing(tmp_path: Path) -> None:
    clock = SetClock()
    meter = Meter(new_meter(tmp_path, clock).db, clock, KEY)
    for number, step_s in enumerate((5.0, -3600.0, 2.0, -1.0)):
        clock.advance(step_s)
        opened(meter, f"r{number}")
        clock.advance(-step_s / 2)
        meter.close(f"r{number}", ONE, "reported")
    assert check_book(meter.db, TRUSTED).holds
