"""One chain of kills over a plant, and what must hold after each."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from isthmus.contracts.errors import RemoteError, UnreachableError
from isthmus.contracts.job import COUNTERSIGNATURE_TYPE, Countersignature
from isthmus.kit.canonical import sha256_hex
from isthmus.kit.signing import Envelope, key_id, unseal
from isthmus.sandbox.outlog import LOG_NAME, undeclared, verify_log
from tests.journeys.plant import Plant, until

BEYOND = 1.3
"""Kills fall within this many times what an undisturbed job takes."""
TTL_S = 40
SECOND = 0.25
"""How often a second victim falls while the first starts again."""
Spent = Callable[[Path], float]


def released(home: Path) -> float:
    """Shares that a node's own store knows to have left, or to have been about to: what overlap rules and ledgers are counted by."""
    return float(rows(home / "node.sqlite", "SELECT count(*) FROM jobs WHERE body IS NOT NULL")[0][0])


def rows(path: Path, asked: str) -> list[Any]:
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10) as database:
        return database.execute(asked).fetchall()


@dataclass(frozen=True)
class Kill:
    """One moment. at_s: after the job was asked for. wall_s: until the job had ended."""

    number: int
    victims: tuple[str, ...]
    at_s: float
    phase: str
    reason: str
    wall_s: float


class Chain:
    """Begins the plant, and takes an undisturbed job's time and sum. spent: reads an owner's ledger from its state folder; what it gives
    must never become less."""

    def __init__(self, plant: Plant, seed: int, spent: Spent = released) -> None:
        self._plant, self._rng, self._spent = plant, random.Random(seed), spent
        self.found: list[Kill] = []
        self._keys = plant.begin()
        began_s = time.monotonic()
        status = plant.ended(plant.asked("undisturbed")["id"])
        self.job_s = time.monotonic() - began_s
        assert status["phase"] == "done", status
        self._digest = status["total_digest"]
        self._before = {party: spent(plant.home(party)) for party in plant.parties}

    @property
    def done(self) -> int:
        return sum(kill.phase == "done" for kill in self.found)

    def disturb(self, number: int) -> None:
        """Asks for a job, kills at a moment, starts the victim again, waits for the end, and checks."""
        plant, rng = self._plant, self._rng
        victims = [rng.choice([*plant.parties, "exchange"])]
        if rng.random() < SECOND:
            victims.append(rng.choice([name for name in (*plant.parties, "exchange") if name not in victims]))
        at_s, began_s = rng.uniform(0, BEYOND * self.job_s), time.monotonic()
        job = plant.asked(f"run-{number}", TTL_S)["id"]
        time.sleep(max(0.0, at_s - (time.monotonic() - began_s)))
        for victim in victims:
            plant.kill(victim)
        for victim in reversed(victims):
            plant.restart(victim)
        status = plant.ended(job, 2 * TTL_S)
        self.found.append(Kill(number, tuple(victims), at_s, status["phase"], status["reason"] or "", time.monotonic() - began_s))
        self._check(status)
        until(self._answers, "the exchange answers")

    def _answers(self) -> bool:
        try:
            return bool(self._plant.call("GET", "/v1/nodes") is not None)
        except (UnreachableError, RemoteError):
            return False

    def _check(self, status: dict[str, Any]) -> None:
        plant = self._plant
        store = plant.state / "exchange" / "sandbox.sqlite"
        messages = rows(store, f"SELECT party, kind, sha256, body FROM sandbox_messages WHERE job = '{status['id']}'")
        if status["phase"] == "done":
            assert status["total_digest"] == self._digest, "another sum than of an undisturbed job"
            signed = {party: body for party, kind, _, body in messages if kind == "countersignature"}
            assert set(signed) == set(plant.parties)
            for party, body in signed.items():
                pinned = {key_id(self._keys[party]): self._keys[party]}
                word = msgspec.convert(unseal(msgspec.json.decode(body, type=Envelope), COUNTERSIGNATURE_TYPE, pinned), Countersignature)
                assert (word.job, word.party) == (status["digest"], party)
            assert {party for party, kind, _, _ in messages if kind == "share"} == set(plant.parties)
        else:
            assert status["phase"] == "failed" and status["reason"] and "total" not in {k for k, v in status.items() if v is not None}
        for party in plant.parties:
            self._check_node(party, {sha for who, kind, sha, _ in messages if who == party and kind == "share"})

    def _check_node(self, party: str, came: set[str]) -> None:
        home = self._plant.home(party)
        entries = until(lambda: _whole(home, self._keys[party]), f"the log of {party} verifies", 5)
        assert undeclared(entries) == []
        vectors = [(entry.job, entry.sha256) for entry in entries if entry.kind == "vector"]
        assert len(set(vectors)) == len({job for job, _ in vectors}), "two different shares left for one job"
        assert came <= {sha for _, sha in vectors}, "a share came that the owner's log does not have"
        stored = rows(home / "node.sqlite", "SELECT digest, content, payload, body FROM jobs WHERE body IS NOT NULL")
        payloads: dict[str, set[str]] = {}
        for _, content, payload, _ in stored:
            payloads.setdefault(content, set()).add(payload)
        assert all(len(found) == 1 for found in payloads.values()), "two different sums for the same content"
        fixed = {digest: sha256_hex(body) for digest, _, _, body in stored}
        assert all(fixed.get(job) == sha for job, sha in vectors), "something left that was not fixed before"
        now = self._spent(home)
        assert now >= self._before[party], "the ledger forgot a release"
        self._before[party] = now


def _whole(home: Path, key: str) -> Any:
    """The entries, or None when the node was just writing."""
    try:
        return verify_log(home / LOG_NAME, key)
    except Exception:  # noqa: BLE001  asked again until the time is over
        return None
