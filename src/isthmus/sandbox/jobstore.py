"""The exchange's memory of parties, assets, agreements and jobs."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from isthmus.contracts.agreement import AGREEMENT_TYPE
from isthmus.contracts.errors import ConflictError
from isthmus.contracts.job import Job, JobRefusal
from isthmus.contracts.party import Rotation
from isthmus.kit.canonical import canonical_bytes, parse_canonical, sha256_hex
from isthmus.kit.database import Database, named_sql
from isthmus.kit.signing import Envelope, payload_of
from isthmus.sandbox.coordinator import Delivery, JobState, Outcome
from isthmus.sandbox.negotiationstore import NEGOTIATIONS_NAME, NegotiationStore

SQL = named_sql(Path(__file__).with_suffix(".sql"))


def _envelope(raw: bytes) -> Envelope:
    return msgspec.json.decode(raw, type=Envelope)


class GuestRows:
    """Rows of invitations. Only the digest of a token is kept."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, row: dict[str, Any]) -> None:
        with self._database.transaction() as sql:
            sql.execute(SQL["put_invitation"], row)

    def of_token(self, token_sha256: str) -> Any:
        """The row, or None."""
        return self._database.row(SQL["invitation_of"], {"token_sha256": token_sha256})

    def all(self) -> list[Any]:
        """The newest first."""
        return list(self._database.rows(SQL["invitations"]))

    def revoke(self, invitation: str, now_s: int) -> bool:
        with self._database.transaction() as sql:
            return bool(sql.execute(SQL["revoke_invitation"], {"id": invitation, "now_s": now_s}).rowcount)

    def use(self, token_sha256: str, party: str, public_key: str, now_s: int) -> bool:
        """Takes an invitation for a party, once; False when it is not open any more."""
        row = {"token_sha256": token_sha256, "party": party, "public_key": public_key, "now_s": now_s}
        with self._database.transaction() as sql:
            return bool(sql.execute(SQL["use_invitation"], row).rowcount)

    def give_back(self, token_sha256: str) -> None:
        """Opens an invitation again whose party could not be registered."""
        with self._database.transaction() as sql:
            sql.execute(SQL["give_back_invitation"], {"token_sha256": token_sha256})


class JobStore:
    """SQLite. Every write is durable before it returns. Raises StorageError."""

    def __init__(self, path: Path) -> None:
        self.negotiations = NegotiationStore(path.with_name(NEGOTIATIONS_NAME))
        self._database = Database(path, [SQL["schema_1"], SQL["schema_2"]])
        self.guests = GuestRows(self._database)

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
        """Whose key it is, or was before a rotation."""
        key = {"public_key": public_key}
        row = self._database.row(SQL["party_of_key"], key) or self._database.row(SQL["retired_key"], key)
        return None if row is None else str(row["id"])

    def put_rotation(self, word: Rotation, envelope: Envelope) -> None:
        """The party's new key takes the place of the old one, in one transaction with the word that says so."""
        fields = {name: getattr(word, name) for name in ("party", "sequence", "old_key", "new_key")}
        with self._database.transaction() as sql:
            sql.execute(SQL["put_rotation"], {**fields, "envelope": canonical_bytes(envelope)})
            turned = sql.execute(SQL["turn_key"], {name: fields[name] for name in ("party", "old_key", "new_key")})
            if turned.rowcount != 1:
                raise ConflictError(f"the key of {word.party} changed meanwhile", "ask for its present key")

    def rotations_of(self, party: str) -> list[Envelope]:
        """In order; empty for a party that never changed its key."""
        return [_envelope(row["envelope"]) for row in self._database.rows(SQL["rotations_of"], {"party": party})]

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
