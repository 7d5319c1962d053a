"""What a run leaves in its state folder, and the checks that it must always pass: nothing half written, logs and book whole."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from isthmus.kit.signing import Envelope, SigningKey, payload_of
from isthmus.sandbox.nodehome import KEY_NAME
from isthmus.sandbox.outlog import LOG_NAME, undeclared, verify_log
from tests.journeys.inspection import OWNERS, Ended, arguments_of, environment, isthmus

STOP_S = 30


def document_of(ended: Ended) -> dict[str, Any]:
    assert ended.code == 0, ended.err
    return ended.document


def sum_digests(state: Path) -> set[str]:
    """Digests of the totals of all finished jobs, with their statistic."""
    with sqlite3.connect(state / "exchange" / "sandbox.sqlite") as connection:
        rows = connection.execute("SELECT envelope, total FROM sandbox_jobs WHERE phase = 'done' AND total IS NOT NULL").fetchall()
    found = set()
    for envelope, total in rows:
        job = json.loads(payload_of(msgspec.json.decode(envelope, type=Envelope)))
        found.add(f"{job['statistic']} {len(job['roster'])} sha256:{hashlib.sha256(total).hexdigest()}")
    return found


def whole_databases(state: Path) -> list[Path]:
    """Every database below, each checked by SQLite itself."""
    found = sorted(state.rglob("*.sqlite"))
    for path in found:
        with sqlite3.connect(path) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok", path
    return found


def nothing_half_written(state: Path) -> None:
    """No part files in the place of whole ones: artefacts' names are their digests, documents parse, databases are sound."""
    assert whole_databases(state)
    for artefact in (state / "exchange" / "artefacts").glob("*.onnx"):
        assert hashlib.sha256(artefact.read_bytes()).hexdigest() == artefact.stem, artefact


def owners_logs_verify(state: Path, owners: tuple[str, ...] = OWNERS) -> dict[str, dict[str, Any]]:
    """party -> its verified log, by the command that an owner would use."""
    found = {}
    for party in owners:
        shown = document_of(isthmus("node", "log", "--state", state / "nodes" / party, "--json"))
        assert shown["images_left"] == 0
        found[party] = shown
    return found


def logs_hold(state: Path, owners: tuple[str, ...] = OWNERS) -> None:
    """The same check within this process, for moments when a node may not have written anything yet."""
    for party in owners:
        home = state / "nodes" / party
        if (home / KEY_NAME).exists():
            entries = verify_log(home / LOG_NAME, SigningKey.load_or_create(home / KEY_NAME).public_hex)
            assert undeclared(entries) == []


@contextmanager
def exchange_up(state: Path, **extra: str) -> Iterator[tuple[str, str]]:
    """(address, operator's token) of an exchange over this state, by `isthmus up`."""
    words = arguments_of("up", "--state", state, "--port", "0", "--json")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment(**extra)) as child:
        try:
            assert child.stdout is not None
            told = json.loads(child.stdout.readline())
            yield told["url"], (state / "exchange" / "operator.token").read_text(encoding="ascii").strip()
        finally:
            child.terminate()
            child.wait(STOP_S)


def book_holds(state: Path) -> dict[str, Any]:
    """What `isthmus book check` says of this state's book."""
    with exchange_up(state) as (url, token):
        found = document_of(isthmus("book", "check", "--url", url, "--key", token, "--json"))
    assert found["holds"] is True
    assert found["open_holds"] == 0
    assert all(line["holds"] for line in found["lines"])
    return found


def rows(state: Path, database: str, sql: str) -> list[tuple[Any, ...]]:
    """What a query finds in one of the exchange's databases, or nothing while the database is not there yet."""
    path = state / "exchange" / f"{database}.sqlite"
    if not path.exists():
        return []
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=1.0)) as connection:
            return connection.execute(sql).fetchall()
    except sqlite3.OperationalError:
        return []


def charged_micros(state: Path) -> int:
    """All that receipts charged so far."""
    return int(rows(state, "book", "SELECT coalesce(sum(charge_micros), 0) FROM receipts")[0][0])


def artefacts(state: Path) -> set[str]:
    """Digests of the models that stand."""
    return {f"sha256:{path.stem}" for path in (state / "exchange" / "artefacts").glob("*.onnx")}


def running_in(state: Path) -> list[int]:
    """Process ids whose command line names this state folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if str(state).encode() in words:
                found.append(int(entry.name))
    return found
