"""One SQLite file in WAL mode, with numbered schema steps and SQL kept in named files."""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from isthmus.contracts.errors import StorageError

BUSY_TIMEOUT_MS = 10_000


def named_sql(path: Path) -> dict[str, str]:
    """Reads a .sql file of statements, each headed by `-- name: NAME`."""
    parts = re.split(r"^-- name: *([a-z0-9_]+) *$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {name: text.strip() for name, text in zip(parts[1::2], parts[2::2], strict=True)}


class Database:
    """A SQLite database. One connection, guarded by a lock: callers may be in several threads.

    schema: SQL scripts in order; script i brings the file from version i to i + 1. Commits are durable
    (synchronous=FULL). Every sqlite3 failure of the machine (disk full, read-only, locked) becomes StorageError.
    """

    def __init__(self, path: Path, schema: Sequence[str]) -> None:
        self.path = path
        self._lock = threading.RLock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        except (sqlite3.Error, OSError) as error:
            raise self._unopened(error) from error
        self._connection.row_factory = sqlite3.Row
        try:
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={BUSY_TIMEOUT_MS}"):
                self._connection.execute(f"PRAGMA {pragma}")
            self._migrate(schema)
        except (sqlite3.Error, StorageError) as error:
            self._connection.close()
            raise error if isinstance(error, StorageError) else self._unopened(error) from error

    def _unopened(self, error: Exception) -> StorageError:
        return StorageError(f"the database {self.path} cannot be opened: {error}", "check the folder, its permissions and the disk")

    def _migrate(self, schema: Sequence[str]) -> None:
        version = int(self._connection.execute("PRAGMA user_version").fetchone()[0])
        if version > len(schema):
            raise StorageError(f"{self.path} was written by a newer release (schema {version})", "install that release")
        for number, script in enumerate(schema[version:], start=version + 1):
            self._connection.executescript(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version={number};\nCOMMIT;")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """BEGIN IMMEDIATE ... COMMIT; any exception rolls back. Nested use joins the outer transaction."""
        with self._lock:
            if self._joined():
                yield self._connection
                return
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection
                self._connection.execute("COMMIT")
            except sqlite3.IntegrityError:
                self._rollback()
                raise
            except sqlite3.Error as error:
                self._rollback()
                raise StorageError(
                    f"the database {self.path.name} cannot be used now: {error}", "check the disk; nothing was half written"
                ) from error
            except BaseException:
                self._rollback()
                raise

    def _joined(self) -> bool:
        try:
            return self._connection.in_transaction
        except sqlite3.Error as error:
            raise StorageError(f"the database {self.path.name} cannot be used now: {error}", "open it again") from error

    def _rollback(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def rows(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> list[sqlite3.Row]:
        """All rows of a query."""
        with self._lock:
            try:
                return self._connection.execute(sql, parameters).fetchall()
            except sqlite3.Error as error:
                raise StorageError(f"the database {self.path.name} cannot be read now: {error}", "check the disk") from error

    def row(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> sqlite3.Row | None:
        """The first row of a query, or None."""
        found = self.rows(sql, parameters)
        return found[0] if found else None

    def scrub(self) -> None:
        """Rewrites the file, so that rows that were deleted are no longer anywhere in it or its log. Raises StorageError."""
        with self._lock:
            try:
                self._connection.execute("VACUUM")
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            except sqlite3.Error as error:
                raise StorageError(f"the database {self.path.name} cannot be rewritten now: {error}", "check the disk") from error

    def close(self) -> None:
        with self._lock:
            self._connection.close()
