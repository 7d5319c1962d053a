"""Where agreements stand, kept on either side: states, every message so far, and the signed documents that moved them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from isthmus.contracts.negotiation import Negotiation
from isthmus.kit.canonical import canonical_bytes
from isthmus.kit.database import Database, named_sql
from isthmus.kit.signing import Envelope

SQL = named_sql(Path(__file__).with_suffix(".sql"))
NEGOTIATIONS_NAME = "negotiations.sqlite"
DOCUMENTS = ("offer", "verification", "termination", "deletion", "plan")


@dataclass(frozen=True)
class Kept:
    """A negotiation with its documents: the exchange's offer of terms, its verification, the word that ended it, and the exchange's record
    of what it deleted afterwards. plan: that record before anything is deleted, so that a turn that is cut off is ended by the next."""

    negotiation: Negotiation
    offer: Envelope | None = None
    verification: Envelope | None = None
    termination: Envelope | None = None
    deletion: Envelope | None = None
    plan: Envelope | None = None


def _envelope(raw: bytes | None) -> Envelope | None:
    return None if raw is None else msgspec.json.decode(raw, type=Envelope)


def _kept(row: Any) -> Kept:
    found = msgspec.json.decode(row["document"], type=Negotiation)
    return Kept(found, *(_envelope(row[name]) for name in DOCUMENTS))


class NegotiationStore:
    """SQLite. Every write is durable before it returns. Raises StorageError."""

    def __init__(self, path: Path) -> None:
        self._database = Database(path, [SQL["schema_1"]])

    def close(self) -> None:
        self._database.close()

    def put(self, found: Negotiation, **given: Envelope | None) -> None:
        """Keeps the state, and those of DOCUMENTS that are given; the others stay as they were."""
        documents = {name: None if (one := given.get(name)) is None else canonical_bytes(one) for name in DOCUMENTS}
        fields = {name: getattr(found, name) for name in ("id", "owner", "agreement", "state", "expires_at_s")}
        with self._database.transaction() as sql:
            sql.execute(SQL["put"], {**fields, "document": msgspec.json.encode(found), **documents})

    def get(self, id: str) -> Kept | None:
        row = self._database.row(SQL["get"], {"id": id})
        return None if row is None else _kept(row)

    def of_agreement(self, digest: str) -> Kept | None:
        row = self._database.row(SQL["of_agreement"], {"agreement": digest})
        return None if row is None else _kept(row)

    def all(self) -> list[Kept]:
        """In order of beginning."""
        return [_kept(row) for row in self._database.rows(SQL["all"])]

    def of_owner(self, owner: str) -> list[Kept]:
        """In order of beginning."""
        return [_kept(row) for row in self._database.rows(SQL["of_owner"], {"owner": owner})]

    def over(self, now_s: float) -> list[Kept]:
        """Those whose terms have ended and that are not terminated yet."""
        return [_kept(row) for row in self._database.rows(SQL["over"], {"now_s": int(now_s)})]
