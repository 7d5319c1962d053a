"""The owner's view of its node, read from the node's state folder alone, also while the node runs.

It reads the log anew when the file has changed, and verifies every line of it with the owner's key each time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from isthmus.contracts.agreement import Agreement
from isthmus.contracts.asset import Asset
from isthmus.contracts.errors import IsthmusError
from isthmus.contracts.job import JobRefusal
from isthmus.contracts.owner import AgreedLine, AskedLine, AskedState, BudgetLine, LeftLine, OwnerView
from isthmus.contracts.ports import Clock
from isthmus.kit.canonical import digest_of
from isthmus.kit.filelock import held
from isthmus.kit.signing import SigningKey
from isthmus.sandbox import nodestate
from isthmus.sandbox.nodehome import KEY_NAME, LOCK_NAME, STORE_NAME, settings_of
from isthmus.sandbox.nodestore import AskedJob, NodeStore
from isthmus.sandbox.nodeterms import agreements_at
from isthmus.sandbox.outlog import LOG_NAME, LogEntry, undeclared, verify_log

LINES_MAX = 200
Budgets = Callable[[Path], tuple[BudgetLine, ...]]


def no_budgets(root: Path) -> tuple[BudgetLine, ...]:
    """A node without a privacy ledger."""
    return ()


class OwnerBook:
    """What the owner's page shows, and the one thing that it does: pause and resume. Safe to use from several threads.

    budgets: reads the privacy ledger of a state folder. here: the node works in this very process.
    """

    def __init__(self, root: Path, clock: Clock, budgets: Budgets = no_budgets, here: bool = False) -> None:
        self._root, self._clock, self._budgets, self._here = root, clock, budgets, here
        self._settings = settings_of(root)
        self._lock = threading.Lock()
        self._read: tuple[tuple[int, int], tuple[LogEntry, ...], str] = ((-1, -1), (), "")

    def view(self) -> OwnerView:
        """Raises InputError, StorageError."""
        entries, problem, key = self._log()
        paused, joined = nodestate.paused(self._root), nodestate.joined_exchange(self._root)
        store = NodeStore(self._root / STORE_NAME)
        try:
            raw = store.fact("asset")
            asset = "" if raw is None else digest_of(msgspec.json.decode(raw, type=Asset))
            asked = tuple(_asked(job) for job in store.asked(LINES_MAX))
            agreements = tuple(
                _agreed(digest, terms, "UNKNOWN" if known is None else known.state, store.runs_of(digest), asset)
                for digest, terms, known in agreements_at(store)
            )
        finally:
            store.close()
        kinds: dict[str, tuple[int, int]] = {}
        for entry in entries:
            count, size = kinds.get(entry.kind, (0, 0))
            kinds[entry.kind] = (count + 1, size + entry.bytes)
        return OwnerView(
            party=self._settings.id,
            name=self._settings.name,
            public_key=key,
            asset=asset,
            exchange=entries[-1].to if entries else joined.address.partition("#")[0] if joined is not None else "",
            now_s=int(self._clock.now_s()),
            paused_since_s=None if paused is None else paused.since_s,
            running=self._running(),
            log_problem=problem,
            messages=len(entries),
            bytes_left=sum(entry.bytes for entry in entries),
            images_left=len(undeclared(list(entries))),
            kinds=kinds,
            left=tuple(_left(entry) for entry in reversed(entries[-LINES_MAX:])),
            asked=asked,
            agreements=agreements,
            budgets=self._budgets(self._root),
        )

    def pause(self) -> OwnerView:
        """Pauses the node. Raises StorageError."""
        nodestate.pause(self._root, self._clock)
        return self.view()

    def resume(self) -> OwnerView:
        """Lets the node answer again. Raises StorageError."""
        nodestate.resume(self._root)
        return self.view()

    def _running(self) -> bool:
        if self._here:
            return True
        with held(self._root / LOCK_NAME) as free:
            return not free

    @staticmethod
    def _verified(path: Path, key: str, mark: tuple[int, int]) -> tuple[tuple[int, int], tuple[LogEntry, ...], str]:
        """What a look at the log finds; a second look where the node may have been writing a line in the middle of the first."""
        try:
            return mark, tuple(verify_log(path, key)), ""
        except IsthmusError:
            try:
                return mark, tuple(verify_log(path, key)), ""
            except IsthmusError as error:
                return (-1, -1), (), error.message

    def _log(self) -> tuple[tuple[LogEntry, ...], str, str]:
        """(entries, why they do not verify or nothing, the owner's key)."""
        key = SigningKey.load_or_create(self._root / KEY_NAME).public_hex
        path = self._root / LOG_NAME
        with self._lock:
            try:
                found = path.stat()
                mark = (found.st_size, found.st_mtime_ns)
            except FileNotFoundError:
                mark = (0, 0)
            if self._read[0] != mark:
                self._read = self._verified(path, key, mark)
            return self._read[1], self._read[2], key


def _left(entry: LogEntry) -> LeftLine:
    numbers = entry.shape[0] if entry.shape else 0
    return LeftLine(
        seq=entry.seq,
        at_ms=entry.at_ms,
        kind=entry.kind,
        statistic=entry.statistic,
        to=entry.to,
        numbers=numbers,
        bytes=entry.bytes,
        sha256=entry.sha256,
    )


def _asked(job: AskedJob) -> AskedLine:
    state: AskedState = "countersigned"
    clause = message = ""
    if job.refusal is not None:
        state, told = "refused", msgspec.json.decode(job.refusal, type=JobRefusal)
        clause, message = told.clause, told.message
    elif job.answered:
        state = "answered"
    return AskedLine(
        run=job.run_id, round=job.round, statistic=job.statistic, parties=job.parties, state=state, clause=clause, message=message
    )


def _agreed(digest: str, agreement: Agreement, state: str, runs: int, asset: str) -> AgreedLine:
    return AgreedLine(
        digest=digest,
        purposes=agreement.purposes,
        operations=agreement.operations,
        participants=tuple(sorted(agreement.participants)),
        visibility=agreement.visibility,
        least_participants=agreement.least_participants,
        issued_at_s=agreement.issued_at_s,
        expires_at_s=agreement.expires_at_s,
        runs_used=runs,
        runs_max=agreement.runs_max,
        present=agreement.asset == asset,
        state=state,
    )
