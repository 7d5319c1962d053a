"""Notices on both sides: the exchange keeps them until their owner's node has taken them; the node keeps them for its owner.

A node takes a notice only where an exchange signed it that one of its own agreements pins, and it changes nothing that the node does.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import msgspec

from isthmus.contracts.errors import IsthmusError, RefusedError
from isthmus.contracts.job import NodeTask
from isthmus.contracts.notice import NOTICE_TYPE, NOTICES_KEPT_MAX, Notice
from isthmus.kit.canonical import canonical_bytes, parse_canonical, sha256_hex
from isthmus.kit.database import Database, named_sql
from isthmus.kit.signing import Envelope, SigningKey, key_id, payload_of, seal, unseal
from isthmus.sandbox.nodestore import NodeStore

SQL = named_sql(Path(__file__).with_suffix(".sql"))
NOTICES = "notices"
"""The fact of a node's store that holds them, the oldest first."""
TAKEN = "seen"
"""What a node says of a notice: as a kind of message, its name is the notice's digest."""


class NoticeBoard:
    """The exchange's. SQLite; every write is durable before it returns. Raises StorageError."""

    def __init__(self, path: Path, key: SigningKey) -> None:
        self._database, self._key = Database(path, [SQL["schema_1"]]), key

    def close(self) -> None:
        self._database.close()

    def put(self, notice: Notice) -> bool:
        """Signs and keeps a notice, one of a kind for each owner and run; False where it is there already."""
        envelope = seal(self._key, NOTICE_TYPE, notice)
        fields = {"digest": sha256_hex(payload_of(envelope)), "party": notice.party, "run": notice.run, "kind": notice.kind}
        with self._database.transaction() as sql:
            return sql.execute(SQL["notice_add"], {**fields, "envelope": canonical_bytes(envelope)}).rowcount > 0

    def tasks(self, party: str) -> list[NodeTask]:
        """What the party's node has not taken yet."""
        rows = self._database.rows(SQL["notices_unseen"], {"party": party})
        found = [msgspec.json.decode(row["envelope"], type=Envelope) for row in rows]
        return [NodeTask(phase="notice", job=msgspec.to_builtins(envelope)) for envelope in found]

    def take(self, digest: str, party: str) -> None:
        """The party's node has it."""
        with self._database.transaction() as sql:
            sql.execute(SQL["notice_seen"], {"digest": digest, "party": party})

    def of_run(self, run: str) -> list[tuple[Notice, bool]]:
        """(notice, whether its owner's node has taken it) of one run, the oldest first."""
        found = []
        for row in self._database.rows(SQL["notices_of_run"], {"run": run}):
            envelope = msgspec.json.decode(row["envelope"], type=Envelope)
            found.append((msgspec.convert(parse_canonical(payload_of(envelope)), Notice), bool(row["seen"])))
        return found


def taken_notice(store: NodeStore, document: object, party: str, exchanges: Collection[str]) -> tuple[str, Notice]:
    """(digest, notice), kept in the node's store. exchanges: public keys that its agreements pin. Raises RefusedError for what none of them
    signed for this party."""
    try:
        envelope = msgspec.convert(document, Envelope)
        found = unseal(envelope, NOTICE_TYPE, {key_id(key): key for key in exchanges})
        notice = msgspec.convert(found, Notice)
    except (msgspec.ValidationError, IsthmusError) as error:
        raise RefusedError("notice", "a notice is not signed by an exchange that an agreement names", "nothing was kept") from error
    if notice.party != party:
        raise RefusedError("notice", f"a notice for {notice.party} came to {party}", "nothing was kept")
    kept = notices_of(store)
    if notice not in kept:
        store.put_fact(NOTICES, msgspec.json.encode([*kept, notice][-NOTICES_KEPT_MAX:]))
    return sha256_hex(payload_of(envelope)), notice


def notices_of(store: NodeStore) -> list[Notice]:
    """All that a node keeps, the oldest first."""
    raw = store.fact(NOTICES)
    return [] if raw is None else msgspec.json.decode(raw, type=list[Notice])
