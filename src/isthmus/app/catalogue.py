"""What the exchange has made and must not forget: runs and their steps, models, certificates, deployments."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

import msgspec

from isthmus.contracts.build import RunRequest, RunState, RunView, SiteRequest, StepRecord
from isthmus.contracts.deployment import Deployment
from isthmus.contracts.errors import NotFoundError, StorageError
from isthmus.contracts.head import Head
from isthmus.contracts.life import ComparisonRequest
from isthmus.contracts.ports import Clock, Json
from isthmus.kit.canonical import canonical_bytes
from isthmus.kit.database import Database, named_sql
from isthmus.kit.signing import Envelope

SQL = named_sql(Path(__file__).parent / "sql" / "catalogue.sql")
KINDS: dict[str, Any] = {"build": RunRequest, "site": SiteRequest, "comparison": ComparisonRequest}


def write_whole(path: Path, raw: bytes, mode: int = 0o666) -> None:
    """Writes a file so that it is there in full or not at all, and durable. mode: its permissions from the first moment on, less the
    process's mask. Raises StorageError.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        part.unlink(missing_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode), "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror}", "check the folder, its permissions and the disk") from error


def _sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable, where the system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _holds(path: Path, raw: bytes) -> bool:
    """Whether the file holds just these bytes."""
    try:
        return path.read_bytes() == raw
    except OSError:
        return False


def _named(request: RunRequest | SiteRequest | ComparisonRequest) -> str:
    """What a list of runs calls it."""
    if isinstance(request, ComparisonRequest):
        return f"{request.deployment}: versions {request.old} and {request.new}"
    return request.scenario.id if isinstance(request, RunRequest) else f"site of {request.run}"


class Catalogue:
    """The exchange's records in `folder`: one database, and artefacts as files named by digest."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.folder = folder
        self._clock = clock
        self._db = Database(folder / "catalogue.sqlite", [SQL["schema_1"], SQL["schema_2"], SQL["schema_3"]])

    def close(self) -> None:
        self._db.close()

    # Runs.

    def begin(self, run_id: str, kind: str, request: RunRequest | SiteRequest | ComparisonRequest) -> bool:
        """Records a run; False when it stands already and has not failed. A failed or refused run starts again."""
        with self._db.transaction() as db:
            added = db.execute(
                SQL["run_add"], {"id": run_id, "kind": kind, "request": msgspec.json.encode(request), "now": self._clock.now_s()}
            )
            again = db.execute(SQL["run_again"], {"id": run_id}) if added.rowcount == 0 else added
            return added.rowcount > 0 or again.rowcount > 0

    def request_of(self, run_id: str) -> tuple[str, Any]:
        """(kind, request) of a run."""
        row = self._run(run_id)
        return row["kind"], msgspec.json.decode(row["request"], type=KINDS[row["kind"]])

    def unfinished(self) -> list[str]:
        """Ids of runs that were under way when the process ended."""
        return [row["id"] for row in self._db.rows(SQL["runs_in_state"], {"state": "running"})]

    def certified(self) -> list[str]:
        """Ids of runs that ended with a certificate, revoked or not, the earliest first."""
        return [row["id"] for row in self._db.rows(SQL["runs_in_state"], {"state": "certified"})]

    def step_now(self, run_id: str, step: str) -> None:
        with self._db.transaction() as db:
            db.execute(SQL["run_step_now"], {"id": run_id, "step": step})

    def step_done(self, run_id: str, record: StepRecord) -> None:
        with self._db.transaction() as db:
            row = {"run_id": run_id, "name": record.name, "wall_s": record.wall_s, "reused": int(record.reused)}
            db.execute(SQL["step_put"], {**row, "detail": msgspec.json.encode(record.detail)})

    def end(self, run_id: str, state: RunState, result: Json | None, error: Json | None) -> None:
        with self._db.transaction() as db:
            raw = [None if value is None else msgspec.json.encode(value) for value in (result, error)]
            db.execute(SQL["run_end"], {"id": run_id, "state": state, "result": raw[0], "error": raw[1]})

    def _run(self, run_id: str) -> sqlite3.Row:
        row = self._db.row(SQL["run_get"], {"id": run_id})
        if row is None:
            raise NotFoundError(f"there is no run {run_id!r} here", "list them with GET /v1/runs")
        return row

    def view(self, run_id: str, with_result: bool = True) -> RunView:
        """A run with its steps. Raises NotFoundError."""
        row = self._run(run_id)
        steps = tuple(
            StepRecord(name=s["name"], wall_s=s["wall_s"], reused=bool(s["reused"]), detail=msgspec.json.decode(s["detail"]))
            for s in self._db.rows(SQL["steps_of"], {"run_id": run_id})
        )
        request = self.request_of(run_id)[1]
        return RunView(
            id=run_id,
            scenario=_named(request),
            state=row["state"],
            step=row["step"],
            steps=steps,
            result=msgspec.json.decode(row["result"]) if with_result and row["result"] is not None else None,
            error=None if row["error"] is None else msgspec.json.decode(row["error"]),
        )

    def runs(self) -> list[RunView]:
        """The latest runs, without results."""
        return [self.view(row["id"], with_result=False) for row in self._db.rows(SQL["runs_all"])]

    # Models.

    def artefact_path(self, digest: str) -> Path:
        return self.folder / "artefacts" / f"{digest.removeprefix('sha256:')}.onnx"

    def add_model(self, digest: str, head: Head, artefact: bytes) -> Path:
        """Keeps an artefact and its head; returns the file. One that stands already is left as it is, a damaged one is written anew."""
        path = self.artefact_path(digest)
        if not _holds(path, artefact):
            write_whole(path, artefact)
        with self._db.transaction() as db:
            row = {"digest": digest, "head": canonical_bytes(head), "path": path.name, "now": self._clock.now_s()}
            db.execute(SQL["model_add"], row)
        return path

    def head(self, digest: str) -> Head:
        """The head of a model. Raises NotFoundError."""
        row = self._db.row(SQL["model_get"], {"digest": digest})
        if row is None:
            raise NotFoundError(f"there is no model {digest[:24]} here", "name the digest that a run's result shows")
        return msgspec.json.decode(row["head"], type=Head)

    def artefact(self, digest: str) -> bytes:
        """The bytes of a model as they are on disk. Raises NotFoundError, StorageError."""
        self.head(digest)
        try:
            return self.artefact_path(digest).read_bytes()
        except OSError as error:
            raise StorageError(
                f"the model {digest[:24]} cannot be read: {error.strerror}", "restore the state folder, or run again"
            ) from error

    # Certificates.

    def add_certificate(self, digest: str, model: str, envelope: Envelope, run_id: str) -> None:
        """Keeps a certificate that a run issued for a model."""
        with self._db.transaction() as db:
            row = {"digest": digest, "model": model, "envelope": msgspec.json.encode(envelope), "run_id": run_id}
            db.execute(SQL["certificate_add"], row)

    def certificates_of(self, run_id: str, model: str) -> list[Envelope]:
        """What a run has issued for a model, revoked or not, latest first."""
        rows = self._db.rows(SQL["certificates_of_run"], {"run_id": run_id, "model": model})
        return [msgspec.json.decode(row["envelope"], type=Envelope) for row in rows]

    def certificate(self, digest: str) -> Envelope:
        """Raises NotFoundError."""
        row = self._db.row(SQL["certificate_get"], {"digest": digest})
        if row is None:
            raise NotFoundError(f"there is no certificate {digest[:24]} here", "list them with GET /v1/certificates")
        return msgspec.json.decode(row["envelope"], type=Envelope)

    def issued_by(self, run_id: str) -> list[str]:
        """Digests of all certificates that a run has issued, revoked or not."""
        return [row["digest"] for row in self._db.rows(SQL["certificates_by_run"], {"run_id": run_id})]

    def run_of_certificate(self, digest: str) -> str:
        """The run that issued a certificate. Raises NotFoundError."""
        self.certificate(digest)
        row = self._db.row(SQL["certificate_get"], {"digest": digest})
        return "" if row is None else str(row["run_id"])

    def certificates(self) -> list[tuple[str, Envelope, bool]]:
        """(digest, envelope, revoked), latest first."""
        rows = self._db.rows(SQL["certificates_all"])
        return [(r["digest"], msgspec.json.decode(r["envelope"], type=Envelope), r["revoked_s"] is not None) for r in rows]

    def revoke(self, digest: str, why: str) -> None:
        """Revokes a certificate for good. Raises NotFoundError."""
        self.certificate(digest)
        with self._db.transaction() as db:
            db.execute(SQL["certificate_revoke"], {"digest": digest, "now": self._clock.now_s(), "why": why})

    def revoked(self) -> frozenset[str]:
        """Digests of revoked certificates."""
        return frozenset(row["digest"] for row in self._db.rows(SQL["revoked"]))

    def keep_bars(self, digest: str, envelope: Envelope) -> None:
        """Keeps signed bars; those that stand already keep their first signature."""
        with self._db.transaction() as db:
            db.execute(SQL["bars_keep"], {"digest": digest, "envelope": msgspec.json.encode(envelope), "now": self._clock.now_s()})

    def bars(self, digest: str) -> Envelope:
        """Raises NotFoundError."""
        row = self._db.row(SQL["bars_get"], {"digest": digest})
        if row is None:
            raise NotFoundError(f"there are no bars {digest[:24]} here", "name the digest that a certificate shows")
        return msgspec.json.decode(row["envelope"], type=Envelope)

    # Deployments.

    def put_deployment(self, deployment: Deployment) -> None:
        with self._db.transaction() as db:
            row = {"name": deployment.name, "version": deployment.version, "state": deployment.state}
            db.execute(SQL["deployment_put"], {**row, "document": msgspec.json.encode(deployment)})

    def deployments(self) -> list[Deployment]:
        """All of them, the one put last at the end."""
        return [msgspec.json.decode(row["document"], type=Deployment) for row in self._db.rows(SQL["deployments_all"])]
