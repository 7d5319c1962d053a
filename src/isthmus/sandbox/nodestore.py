"""What a node remembers: its agreements, the jobs that it answered, and the exact bytes that it was about to send."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from isthmus.kit.canonical import sha256_hex
from isthmus.kit.database import Database, named_sql
from isthmus.kit.signing import Envelope, payload_of
from isthmus.sandbox.overlap import Roster
from isthmus.sandbox.terms import PastJob

SQL = named_sql(Path(__file__).with_suffix(".sql"))


@dataclass(frozen=True)
class StoredJob:
    """A job as this node stands to it. mask_key: one-round X25519 private key, dropped once `body` is there.

    countersignature, body, refusal: bytes to be sent, the same at every retry. payload: digest of the owner's share
    before masks. peers: digest of the countersignatures that the masks were made with.
    """

    digest: str
    agreement: str
    past: PastJob
    mask_key: bytes | None
    countersignature: bytes | None
    peers: str | None
    payload: str | None
    body: bytes | None
    refusal: bytes | None


def _past(row: Any) -> PastJob:
    roster: Roster = frozenset((party, asset) for party, asset in json.loads(row["roster"]))
    blocks = frozenset(json.loads(row["blocks"]))
    return PastJob(row["agreement"], row["run_id"], row["round"], row["statistic"], row["stage"], row["content"], roster, blocks)


class NodeStore:
    """SQLite in the node's state folder. Every write is durable before it returns. Raises StorageError."""

    def __init__(self, path: Path) -> None:
        self._database = Database(path, [SQL["schema_1"], SQL["schema_2"]])

    def close(self) -> None:
        self._database.close()

    def fact(self, name: str) -> bytes | None:
        """A named value, or None."""
        row = self._database.row(SQL["get_fact"], {"name": name})
        return None if row is None else bytes(row["value"])

    def put_fact(self, name: str, value: bytes) -> None:
        with self._database.transaction() as sql:
            sql.execute(SQL["put_fact"], {"name": name, "value": value})

    def put_agreement(self, digest: str, envelope: Envelope, signed_at_s: int) -> None:
        """Keeps a signed agreement; a second time changes nothing."""
        with self._database.transaction() as sql:
            sql.execute(SQL["put_agreement"], {"digest": digest, "envelope": msgspec.json.encode(envelope), "signed_at_s": signed_at_s})

    def agreements(self) -> list[tuple[str, Envelope]]:
        """(digest, envelope), the newest first."""
        return [(row["digest"], msgspec.json.decode(row["envelope"], type=Envelope)) for row in self._database.rows(SQL["agreements"])]

    def put_withdrawal(self, agreement: str, envelope: Envelope) -> None:
        """Keeps a signed withdrawal of an agreement, beside those of its other purposes."""
        name = f"withdrawal:{agreement}:{sha256_hex(payload_of(envelope))}"
        self.put_fact(name, msgspec.json.encode(envelope))

    def withdrawals(self) -> list[Envelope]:
        """Every signed withdrawal, in the order of their agreements' digests."""
        return [msgspec.json.decode(row["value"], type=Envelope) for row in self._database.rows(SQL["withdrawals"])]

    def job(self, digest: str) -> StoredJob | None:
        row = self._database.row(SQL["get_job"], {"digest": digest})
        if row is None:
            return None
        names = ("mask_key", "countersignature", "peers", "payload", "body", "refusal")
        return StoredJob(row["digest"], row["agreement"], _past(row), *(row[name] for name in names))

    def past_jobs(self) -> list[PastJob]:
        """Every job whose share left, or was about to. A share that never left reveals nothing, whatever was countersigned."""
        return [_past(row) for row in self._database.rows(SQL["past_jobs"])]

    def payload_of(self, content: str) -> str | None:
        """Digest of the share that was computed for the same content before, or None."""
        row = self._database.row(SQL["payload_of_content"], {"content": content})
        return None if row is None else str(row["payload"])

    def put_job(self, job: StoredJob) -> None:
        """Keeps a new job with its countersignature or refusal, before either is sent."""
        roster, blocks = json.dumps(sorted(job.past.roster)), json.dumps(sorted(job.past.blocks))
        fields = {name: getattr(job.past, name) for name in ("run_id", "round", "statistic", "stage", "content")}
        kept = {"mask_key": job.mask_key, "countersignature": job.countersignature, "refusal": job.refusal}
        with self._database.transaction() as sql:
            sql.execute(
                SQL["put_job"], {"digest": job.digest, "agreement": job.agreement, "roster": roster, "blocks": blocks, **fields, **kept}
            )

    def put_refusal(self, digest: str, refusal: bytes) -> None:
        """A job that was countersigned is refused after all; nothing changes when its share is already fixed."""
        with self._database.transaction() as sql:
            sql.execute(SQL["put_refusal"], {"digest": digest, "refusal": refusal})

    def put_body(self, digest: str, peers: str, payload: str, body: bytes) -> None:
        """Fixes the bytes to be sent, and forgets the one-round key."""
        with self._database.transaction() as sql:
            sql.execute(SQL["put_body"], {"digest": digest, "peers": peers, "payload": payload, "body": body})
