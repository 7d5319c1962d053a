"""SQLite as the house uses it: all or nothing, numbered schema steps, one error for a failing machine."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from isthmus.contracts.errors import StorageError
from isthmus.kit.database import Database, named_sql

STEP_1 = "CREATE TABLE coin (id INTEGER PRIMARY KEY, micros INTEGER NOT NULL CHECK (micros >= 0));"
STEP_2 = "ALTER TABLE coin ADD COLUMN note TEXT NOT NULL DEFAULT '';"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "book.sqlite", [STEP_1])
    yield opened
    opened.close()


def count(database: Database) -> int:
    row = database.row("SELECT count(*) AS n FROM coin")
    assert row is not None
    return int(row["n"])


def test_a_failure_in_the_middle_leaves_nothing(database: Database) -> None:
    with pytest.raises(ValueError), database.transaction() as connection:
        connection.execute("INSERT INTO coin (micros) VALUES (1)")
        raise ValueError("in the middle")
    assert count(database) == 0


def test_an_interrupt_in_the_middle_leaves_nothing(database: Database) -> None:
    with pytest.raises(KeyboardInterrupt), database.transaction() as connection:
        connection.execute("INSERT INTO coin (micros) VALUES (1)")
        raise KeyboardInterrupt
    assert count(database) == 0


def test_nested_transactions_are_one(database: Database) -> None:
    with pytest.raises(ValueError), database.transaction() as outer:
        outer.execute("INSERT INTO coin (micros) VALUES (1)")
        with database.transaction() as inner:
            inner.execute("INSERT INTO coin (micros) VALUES (2)")
        raise ValueError("after the inner one")
    assert count(database) == 0


def test_a_broken_rule_is_told_as_such_and_rolls_back(database: Database) -> None:
    with pytest.raises(sqlite3.IntegrityError), database.transaction() as connection:
        connection.execute("INSERT INTO coin (micros) VALUES (1)")
        connection.execute("INSERT INTO coin (micros) VALUES (-1)")
    assert count(database) == 0


def test_wrong_sql_is_a_storage_error_and_the_next_transaction_works(database: Database) -> None:
    with pytest.raises(StorageError), database.transaction() as connection:
        connection.execute("INSERT INTO nothing VALUES (1)")
    with pytest.raises(StorageError):
        database.rows("SELECT * FROM nothing")
    with database.transaction() as connection:
        connection.execute("INSERT INTO coin (micros) VALUES (1)")
    assert count(database) == 1


def test_steps_of_the_schema_run_once_and_in_order(tmp_path: Path) -> None:
    path = tmp_path / "book.sqlite"
    first = Database(path, [STEP_1])
    with first.transaction() as connection:
        connection.execute("INSERT INTO coin (micros) VALUES (7)")
    first.close()
    for _ in range(2):
        grown = Database(path, [STEP_1, STEP_2])
        row = grown.row("SELECT micros, note FROM coin")
        assert row is not None and tuple(row) == (7, "")
        grown.close()


def test_a_step_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "book.sqlite"
    Database(path, [STEP_1]).close()
    with pytest.raises(StorageError):
        Database(path, [STEP_1, "CREATE TABLE half (id INTEGER);\nCREATE TABLE coin (id INTEGER);"])
    again = Database(path, [STEP_1, STEP_2])
    assert again.rows("SELECT name FROM sqlite_master WHERE name = 'half'") == []
    again.close()


def test_a_file_of_a_newer_release_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "book.sqlite"
    Database(path, [STEP_1, STEP_2]).close()
    with pytest.raises(StorageError, match="newer release"):
        Database(path, [STEP_1])


@pytest.mark.parametrize("content", [b"this is no database" * 100, b"SQLite format 3\x00" + b"\xff" * 2000])
def test_a_file_that_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "book.sqlite"
    path.write_bytes(content)
    with pytest.raises(StorageError, match="cannot be opened"):
        Database(path, [STEP_1])


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError):
        Database(tmp_path / "file" / "book.sqlite", [STEP_1])


def test_a_read_only_database_is_a_storage_error_and_still_reads(database: Database) -> None:
    with database.transaction() as connection:
        connection.execute("INSERT INTO coin (micros) VALUES (1)")
    database.rows("PRAGMA query_only=ON")
    with pytest.raises(StorageError, match="cannot be used now"), database.transaction() as connection:
        connection.execute("INSERT INTO coin (micros) VALUES (2)")
    assert count(database) == 1


def test_threads_do_not_lose_each_others_work(database: Database) -> None:
    def add() -> None:
        for _ in range(25):
            with database.transaction() as connection:
                n = connection.execute("SELECT count(*) FROM coin").fetchone()[0]
                connection.execute("INSERT INTO coin (micros) VALUES (?)", (n,))

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [row["micros"] for row in database.rows("SELECT micros FROM coin ORDER BY id")] == list(range(100))


def test_what_was_committed_survives_a_killed_process(tmp_path: Path) -> None:
    path = tmp_path / "book.sqlite"
    program = (
        "import os, sys\nfrom pathlib import Path\nfrom isthmus.kit.database import Database\n"
        f"book = Database(Path(sys.argv[1]), [{STEP_1!r}])\n"
        "with book.transaction() as c:\n    c.execute('INSERT INTO coin (micros) VALUES (1)')\n"
        "with book.transaction() as c:\n    c.execute('INSERT INTO coin (micros) VALUES (2)')\n    os._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", program, str(path)], check=False).returncode == 9
    again = Database(path, [STEP_1])
    assert [row["micros"] for row in again.rows("SELECT micros FROM coin")] == [1]
    again.close()


def test_named_sql(tmp_path: Path) -> None:
    path = tmp_path / "coins.sql"
    path.write_text(
        "-- About coins.\n\n-- name: all_coins\nSELECT * FROM coin;\n\n-- name: one_coin\n-- by id\nSELECT 1;\n", encoding="utf-8"
    )
    assert named_sql(path) == {"all_coins": "SELECT * FROM coin;", "one_coin": "-- by id\nSELECT 1;"}
