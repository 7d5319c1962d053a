"""The exchange's memory of who has left: signed withdrawals, and what became of the runs that rested on the leavers."""

from __future__ import annotations

from pathlib import Path

import msgspec

from isthmus.contracts.withdrawal import Departure, Withdrawal
from isthmus.kit.canonical import canonical_bytes, parse_canonical, sha256_hex
from isthmus.kit.database import Database, named_sql
from isthmus.kit.signing import Envelope, payload_of

SQL = named_sql(Path(__file__).with_suffix(".sql"))


def withdrawal_digest(envelope: Envelope) -> str:
    """A withdrawal's name: sha256 of its payload."""
    return "sha256:" + sha256_hex(payload_of(envelope))


class Withdrawals:
    """SQLite. Every write is durable before it returns. Raises StorageError."""

    def __init__(self, path: Path) -> None:
        self._database = Database(path, [SQL["schema_1"]])

    def close(self) -> None:
        self._database.close()

    def keep(self, word: Withdrawal, envelope: Envelope) -> bool:
        """Keeps a signed withdrawal; False when it stands already."""
        row = {"digest": withdrawal_digest(envelope), "owner": word.owner, "agreement": word.agreement, "at_s": word.at_s}
        with self._database.transaction() as sql:
            return sql.execute(SQL["withdrawal_add"], {**row, "envelope": canonical_bytes(envelope)}).rowcount > 0

    def all(self) -> list[tuple[str, Withdrawal, Envelope]]:
        """(digest, withdrawal, envelope), in order of arrival."""
        found = []
        for row in self._database.rows(SQL["withdrawals"]):
            envelope = msgspec.json.decode(row["envelope"], type=Envelope)
            found.append((row["digest"], msgspec.convert(parse_canonical(payload_of(envelope)), Withdrawal), envelope))
        return found

    def of(self, agreement: str) -> list[tuple[str, Withdrawal]]:
        """(digest, withdrawal) of one agreement."""
        return [(digest, word) for digest, word, _ in self.all() if word.agreement == agreement]

    def put(self, departure: Departure) -> None:
        """Keeps what became of a run, in place of what was kept of it before."""
        with self._database.transaction() as sql:
            sql.execute(SQL["departure_put"], {"run": departure.run, "document": msgspec.json.encode(departure)})

    def departure(self, run: str) -> Departure | None:
        row = self._database.row(SQL["departure_get"], {"run": run})
        return None if row is None else msgspec.json.decode(row["document"], type=Departure)

    def departures(self) -> list[Departure]:
        """In the order in which runs lapsed."""
        return [msgspec.json.decode(row["document"], type=Departure) for row in self._database.rows(SQL["departures"])]
