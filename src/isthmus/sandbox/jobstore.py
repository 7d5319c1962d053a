"""The exchange's memory of parties, assets, agreements and jobs."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from isthmus.contracts.agreement import AGREEMENT_TYPE
from isthmus.contracts.job import Job, JobRefusal
from isthmus.kit.canonical import canonical_bytes, parse_canonical, sha256_hex
from isthmus.kit.database import Database, named_sql
from isthmus.kit.signing import Envelope, payload_of
from isthmus.sandbox.coordinator import Delivery, JobState, Outcome
from isthmus.sandbox.negotiationstore import NEGOTIATIONS_NAME, NegotiationStore

SQL = named_sql(Path(__file__).with_suffix(".sql"))


def _envelope(raw: bytes) -> Envelope:
    return msgspec.json.decode(raw, type=Envelope)


class JobStore:
    """SQLite. Every write is durable before it returns. Raises StorageError."""

    def __init__(self, path: Path) -> None:
        self.negotiations = NegotiationStore(path.with_name(NEGOTIATIONS_NAME))
        self._database = Database(path, [SQL["schema_1"]])

    def close(self) -> None:
        self._database.close()
        self.negotiations.close()

    def put_party(self, party: str, public_key: str, envelope: Envelope) -> None:
        with self._database.transaction() as sql:
            sql.execute(SQL["put_party"], {"id": party, "public_key": public_key, "envelope": canonical_bytes(envelope)})

    def party_key(self, party: str) -> str | None:
        """The registered public key (hex), or None."""
        row = self._database.row(SQL["get_party"], {"id": party})
        return None if row is None else str(row["public_key"])

    def party_of_key(self, public_key: str) -> str | None:
        row = self._database.row(SQL["party_of_key"], {"public_key": public_key})
        return None if row is None else str(row["id"])

    def parties(self) -> dict[str, Envelope]:
        return {row["id"]: _envelope(row["envelope"]) for row in self._database.rows(SQL["parties"])}

    def put_asset(self, digest: str, owner: str, envelope: Envelope) -> None:
        with self._database.transaction() as sql:
            sql.execute(SQL["put_asset"], {"digest": digest, "owner": owner, "envelope": canonical_bytes(envelope)})

    def asset(self, digest: str) -> Envelope | None:
        row = self._database.row(SQL["get_asset"], {"digest": digest})
        return None if row is None else _envelope(row["envelope"])

    def assets(self) -> dict[str, Envelope]:
        """digest -> envelope, in order of arrival."""
        return {row["digest"]: _envelope(row["envelope"]) for row in self._database.rows(SQL["assets"])}

    def put_agreement(self, digest: str, owner: str, issued_at_s: int, envelope: Envelope) -> None:
        fields = {"digest": digest, "owner": owner, "issued_at_s": issued_at_s, "envelope": canonical_bytes(envelope)}
        with self._database.transaction() as sql:
            sql.execute(SQL["put_agreement"], fields)

    def agreements(self) -> list[tuple[str, str, Envelope]]:
        """(digest, owner, envelope), the newest first; without those of releases that signed another form."""
        found = [(row["digest"], row["owner"], _envelope(row["envelope"])) for row in self._database.rows(SQL["agreements"])]
        return [one for one in found if one[2].payload_type == AGREEMENT_TYPE]

    def put_job(self, state: JobState) -> None:
        """Keeps the whole state in one transaction; messages of an earlier attempt, and bodies that were forgotten, go."""
        outcome = state.outcome or Outcome()
        heads = {party: base64.b64encode(head.astype("<f8").tobytes()).decode() for party, head in outcome.heads.items()}
        fields = {
            "id": state.job.id,
            "run_id": state.job.run_id,
            "digest": state.digest,
            "envelope": canonical_bytes(state.envelope),
            "phase": state.phase,
            "reason": state.reason,
            "refusals": msgspec.json.encode(state.refusals),
            "total": None if outcome.total is None else outcome.total.astype("<i8").tobytes(),
            "heads": msgspec.json.encode(heads) if heads else None,
        }
        messages: list[dict[str, Any]] = []
        for party, envelope in state.countersignatures.items():
            body = canonical_bytes(envelope)
            messages.append({"party": party, "kind": "countersignature", "sha256": sha256_hex(body), "bytes": len(body), "body": body})
        for party, share in state.deliveries.items():
            messages.append({"party": party, "kind": "share", "sha256": share.sha256, "bytes": share.size, "body": share.body})
        with self._database.transaction() as sql:
            sql.execute(SQL["put_job"], fields)
            sql.execute(SQL["drop_messages"], {"job": state.job.id})
            sql.executemany(SQL["put_message"], [{"job": state.job.id, **message} for message in messages])

    def job(self, job_id: str) -> JobState | None:
        row = self._database.row(SQL["get_job"], {"id": job_id})
        return None if row is None else self._state(row)

    def open_jobs(self) -> list[JobState]:
        """Jobs that are neither done nor failed, in order of creation."""
        return [self._state(row) for row in self._database.rows(SQL["open_jobs"])]

    def jobs_of_run(self, run_id: str) -> list[JobState]:
        return [self._state(row) for row in self._database.rows(SQL["jobs_of_run"], {"run_id": run_id})]

    def all_jobs(self) -> list[JobState]:
        """In order of creation."""
        return [self._state(row) for row in self._database.rows(SQL["all_jobs"])]

    def forget_jobs(self, job_ids: Iterable[str]) -> None:
        """Deletes jobs with all that came for them, also out of the file."""
        with self._database.transaction() as sql:
            for job_id in job_ids:
                sql.execute(SQL["drop_messages"], {"job": job_id})
                sql.execute(SQL["drop_job"], {"id": job_id})
        self._database.scrub()

    def _state(self, row: Any) -> JobState:
        envelope = _envelope(row["envelope"])
        job = msgspec.convert(parse_canonical(payload_of(envelope)), Job)
        signed: dict[str, Envelope] = {}
        shares: dict[str, Delivery] = {}
        for message in self._database.rows(SQL["messages"], {"job": job.id}):
            if message["kind"] == "countersignature":
                signed[message["party"]] = _envelope(message["body"])
            else:
                shares[message["party"]] = Delivery(message["sha256"], message["bytes"], message["body"])
        outcome = None
        if row["total"] is not None:
            outcome = Outcome(total=np.frombuffer(row["total"], dtype="<i8").copy())
        elif row["heads"] is not None:
            heads = msgspec.json.decode(row["heads"], type=dict[str, bytes])
            outcome = Outcome(heads={party: np.frombuffer(raw, dtype="<f8").copy() for party, raw in heads.items()})
        refusals = msgspec.json.decode(row["refusals"], type=tuple[JobRefusal, ...])
        return JobState(job, row["digest"], envelope, row["phase"], signed, shares, refusals, row["reason"], outcome)
