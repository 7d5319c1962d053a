"""The book: double entry in integers, two-phase transfers, limits enforced in the one transaction.

Two-phase transfers as TigerBeetle defines them: a hold sets an amount aside; capture posts all or part of it; void and
expire give it back. Every call is idempotent by its client-made id: the same id with the same content gives the same
answer, the same id with other content raises ConflictError.

Each method is one durable transaction, or joins the one that its caller has open on the same database.
"""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from isthmus.contracts.errors import (
    AmountError,
    CaptureTooLargeError,
    ConflictError,
    HoldCapturedError,
    HoldExpiredError,
    HoldVoidedError,
    InsufficientFundsError,
    NotFoundError,
    UnknownHoldError,
)
from isthmus.contracts.money import AMOUNT_MAX, AccountName, Balance, Entry, Hold, HoldState, Transfer
from isthmus.contracts.ports import Clock
from isthmus.kit.canonical import sha256_hex
from isthmus.kit.database import Database, named_sql

_FOLDER = Path(__file__).parent / "sql"
_SQL = named_sql(_FOLDER / "book.sql")
SCHEMA = tuple((_FOLDER / f"schema_{number}.sql").read_text(encoding="utf-8") for number in (1, 2))
UNLIMITED_ROLES = frozenset({"issued", "made", "residue"})
"""Roles whose accounts may go below zero without limit; all others have the floor 0 until `set_floor`."""


def open_book(path: Path) -> Database:
    """Opens or makes the ledger's database file. Raises StorageError."""
    return Database(path, SCHEMA)


def micro_text(amount: int) -> str:
    """An amount of micro-units as decimal text: 1500000 -> '1.500000'."""
    sign = "-" if amount < 0 else ""
    return f"{sign}{abs(amount) // 1_000_000}.{abs(amount) % 1_000_000:06d}"


def check_amount(amount: int) -> None:
    """Raises AmountError unless 0 <= amount <= AMOUNT_MAX."""
    if not 0 <= amount <= AMOUNT_MAX:
        raise AmountError(f"an amount of {amount} is not possible", "use a whole number from 0 to 2^53 - 1")


def ended_error(hold: Hold) -> ConflictError:
    """The distinct error for a hold that has ended."""
    kind = {"captured": HoldCapturedError, "voided": HoldVoidedError, "expired": HoldExpiredError}[hold.state]
    return kind(f"the hold {hold.id} was {hold.state} before; a hold ends once", "open a new one under a new id")


def _hold_of(row: sqlite3.Row) -> Hold:
    return Hold(
        id=row["id"],
        account=AccountName(party=row["party"], role=row["role"], unit=row["unit"]),
        amount=row["amount"],
        state=row["state"],
        captured=row["captured"],
        opened_at_ms=row["opened_at_ms"],
        expires_at_ms=row["expires_at_ms"],
        ended_at_ms=row["ended_at_ms"],
    )


def _balance_of(row: sqlite3.Row) -> Balance:
    floor = row["floor"]
    return Balance(
        account=AccountName(party=row["party"], role=row["role"], unit=row["unit"]),
        balance=row["balance"],
        held=row["held"],
        floor=floor,
        available=None if floor is None else row["balance"] - row["held"] - floor,
    )


class Book:
    """Accounts, holds and transfers in one database."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self.db = db
        self.clock = clock

    def now_ms(self) -> int:
        return int(self.clock.now_s() * 1000)

    # Accounts.

    def _account_id(self, connection: sqlite3.Connection, account: AccountName) -> int:
        key = {"party": account.party, "role": account.role, "unit": account.unit}
        row = connection.execute(_SQL["account"], key).fetchone()
        if row is None:
            connection.execute(_SQL["account_add"], {**key, "floor": None if account.role in UNLIMITED_ROLES else 0})
            row = connection.execute(_SQL["account"], key).fetchone()
        return int(row["id"])

    def balance(self, account: AccountName) -> Balance:
        """An account's standing; zero for one that was never used."""
        row = self.db.row(_SQL["account"], {"party": account.party, "role": account.role, "unit": account.unit})
        if row is not None:
            return _balance_of(row)
        floor = None if account.role in UNLIMITED_ROLES else 0
        return Balance(account=account, balance=0, held=0, floor=floor, available=floor)

    def balances(self, party: str) -> tuple[Balance, ...]:
        """All accounts of a party."""
        return tuple(_balance_of(row) for row in self.db.rows(_SQL["accounts_of_party"], {"party": party}))

    def set_floor(self, account: AccountName, floor: int) -> Balance:
        """Sets how low balance - held may go: 0, or minus a credit line. Refuses a floor that is broken already."""
        check_amount(-floor)
        with self.db.transaction() as connection:
            number = self._account_id(connection, account)
            standing = connection.execute(_SQL["account_standing"], {"id": number}).fetchone()
            if standing["balance"] - standing["held"] < floor:
                raise ConflictError("the account stands below this limit already", "settle it first, or choose a lower limit")
            connection.execute(_SQL["account_floor"], {"id": number, "floor": floor})
            return self.balance(account)

    # Transfers.

    def transfer(self, transfer_id: str) -> Transfer | None:
        """A transfer by its id."""
        row = self.db.row(_SQL["transfer"], {"id": transfer_id})
        return None if row is None else self._transfer_of(row)

    def _transfer_of(self, row: sqlite3.Row) -> Transfer:
        entries = tuple(
            Entry(account=AccountName(party=e["party"], role=e["role"], unit=e["unit"]), amount=e["amount"])
            for e in self.db.rows(_SQL["entries_of_transfer"], {"transfer": row["seq"]})
        )
        return Transfer(id=row["id"], at_ms=row["at_ms"], reason=row["reason"], entries=entries, corrects=row["corrects"], hold=row["hold"])

    def post(self, transfer_id: str, entries: Iterable[Entry], reason: str, corrects: str | None = None) -> Transfer:
        """Posts linked entries at once: all or none.

        Raises AmountError (not zero in sum per unit), InsufficientFundsError, ConflictError, NotFoundError (corrects).
        """
        kept = tuple(entry for entry in entries if entry.amount)
        digest = _content_digest(reason, corrects, *_plain(kept))
        with self.db.transaction() as connection:
            known = self._known_transfer(transfer_id, digest)
            if known is not None:
                return known
            if corrects is not None and self.db.row(_SQL["transfer"], {"id": corrects}) is None:
                raise NotFoundError(f"there is no transfer {corrects} to correct", "name one that was posted")
            return self._write(connection, transfer_id, digest, kept, reason, corrects=corrects, hold=None, at_ms=self.now_ms())

    def _known_transfer(self, transfer_id: str, digest: str) -> Transfer | None:
        row = self.db.row(_SQL["transfer"], {"id": transfer_id})
        if row is None:
            return None
        if row["digest"] != digest:
            raise ConflictError(f"the transfer {transfer_id} was posted before with other content", "use a new id")
        return self._transfer_of(row)

    def _write(
        self,
        connection: sqlite3.Connection,
        transfer_id: str,
        digest: str,
        entries: tuple[Entry, ...],
        reason: str,
        corrects: str | None,
        hold: str | None,
        at_ms: int,
    ) -> Transfer:
        _check_zero_sum(entries)
        row = {"id": transfer_id, "digest": digest, "at_ms": at_ms, "reason": reason, "corrects": corrects, "hold": hold}
        seq = connection.execute(_SQL["transfer_add"], row).lastrowid
        for entry in entries:
            number = self._account_id(connection, entry.account)
            self._move(connection, number, entry)
            connection.execute(_SQL["entry_add"], {"transfer": seq, "account": number, "amount": entry.amount})
        return Transfer(id=transfer_id, at_ms=at_ms, reason=reason, entries=entries, corrects=corrects, hold=hold)

    def _move(self, connection: sqlite3.Connection, number: int, entry: Entry) -> None:
        standing = connection.execute(_SQL["account_standing"], {"id": number}).fetchone()
        after = standing["balance"] + entry.amount
        if abs(after) > AMOUNT_MAX:
            raise AmountError(f"the account of {entry.account.party} would leave the range of exact integers", "settle it first")
        if entry.amount < 0 and standing["floor"] is not None and after - standing["held"] < standing["floor"]:
            raise _insufficient(entry.account, -entry.amount, standing)
        connection.execute(_SQL["account_move"], {"id": number, "amount": entry.amount})

    # Holds.

    def find_hold(self, hold_id: str) -> Hold | None:
        """A hold by its id, in whatever state."""
        row = self.db.row(_SQL["hold"], {"id": hold_id})
        return None if row is None else _hold_of(row)

    def open_holds(self) -> tuple[Hold, ...]:
        """Holds that have not ended, the first to expire first."""
        return tuple(_hold_of(row) for row in self.db.rows(_SQL["holds_open"]))

    def hold(self, hold_id: str, account: AccountName, amount: int, expires_at_ms: int) -> Hold:
        """Sets an amount aside. Raises InsufficientFundsError with what is left, AmountError, ConflictError."""
        check_amount(amount)
        digest = _content_digest(account.party, account.role, account.unit, amount)
        with self.db.transaction() as connection:
            row = connection.execute(_SQL["hold"], {"id": hold_id}).fetchone()
            if row is not None:
                if row["digest"] != digest:
                    raise ConflictError(f"the hold {hold_id} was opened before with other content", "use a new id")
                return _hold_of(row)
            number = self._account_id(connection, account)
            standing = connection.execute(_SQL["account_standing"], {"id": number}).fetchone()
            if standing["floor"] is not None and standing["balance"] - standing["held"] - amount < standing["floor"]:
                raise _insufficient(account, amount, standing)
            if standing["held"] + amount > AMOUNT_MAX:
                raise AmountError(f"the holds of {account.party} would leave the range of exact integers", "end some first")
            connection.execute(_SQL["account_hold"], {"id": number, "amount": amount})
            now_ms = self.now_ms()
            new: dict[str, Any] = {"id": hold_id, "digest": digest, "account": number, "amount": amount}
            connection.execute(_SQL["hold_add"], {**new, "opened_at_ms": now_ms, "expires_at_ms": expires_at_ms})
            return Hold(
                id=hold_id, account=account, amount=amount, state="open", captured=0, opened_at_ms=now_ms, expires_at_ms=expires_at_ms
            )

    def capture(self, hold_id: str, amount: int, entries: Iterable[Entry], reason: str) -> Transfer:
        """Posts `amount` of a hold, gives the rest back, and posts the given entries with it, all at once.

        entries: who receives it, and anything linked to it; with the debit of `amount` they sum to zero in each unit.
        The transfer's id is `capture:` and the hold's. Raises CaptureTooLargeError, Hold*Error,
        UnknownHoldError, AmountError, ConflictError.
        """
        check_amount(amount)
        kept = tuple(entry for entry in entries if entry.amount)
        digest = _content_digest(amount, reason, *_plain(kept))
        transfer_id, at_ms = f"capture:{hold_id}", self.now_ms()
        with self.db.transaction() as connection:
            hold = self._hold_to_end(connection, hold_id)
            if hold.state == "captured":
                known = self._known_transfer(transfer_id, digest)
                if known is not None:
                    return known
            if hold.state != "open":
                raise ended_error(hold)
            if amount > hold.amount:
                raise CaptureTooLargeError(f"the capture of {amount} exceeds the {hold.amount} held as {hold_id}", "capture less")
            self._end(connection, hold, "captured", amount, at_ms)
            debit = (Entry(account=hold.account, amount=-amount),) if amount else ()
            return self._write(connection, transfer_id, digest, debit + kept, reason, corrects=None, hold=hold_id, at_ms=at_ms)

    def void(self, hold_id: str) -> Hold:
        """Gives the whole hold back. Raises HoldCapturedError, HoldExpiredError, UnknownHoldError."""
        return self._release(hold_id, "voided", self.now_ms())

    def expire(self, hold_id: str, now_ms: int) -> Hold:
        """Gives a hold back whose time has passed at now_ms. Raises ConflictError while it has time left, Hold*Error."""
        return self._release(hold_id, "expired", now_ms)

    def _release(self, hold_id: str, state: HoldState, now_ms: int) -> Hold:
        with self.db.transaction() as connection:
            hold = self._hold_to_end(connection, hold_id)
            if hold.state == state:
                return hold
            if hold.state != "open":
                raise ended_error(hold)
            if state == "expired" and now_ms < hold.expires_at_ms:
                raise ConflictError(f"the hold {hold_id} has time left", "void it, or wait until it expires")
            return self._end(connection, hold, state, 0, now_ms)

    def _hold_to_end(self, connection: sqlite3.Connection, hold_id: str) -> Hold:
        row = connection.execute(_SQL["hold"], {"id": hold_id}).fetchone()
        if row is None:
            raise UnknownHoldError(f"there is no hold {hold_id}", "open it first")
        return _hold_of(row)

    def _end(self, connection: sqlite3.Connection, hold: Hold, state: HoldState, captured: int, at_ms: int) -> Hold:
        number = self._account_id(connection, hold.account)
        connection.execute(_SQL["account_hold"], {"id": number, "amount": -hold.amount})
        ended = {"id": hold.id, "state": state, "captured": captured, "ended_at_ms": at_ms}
        connection.execute(_SQL["hold_end"], ended)
        row = connection.execute(_SQL["hold"], {"id": hold.id}).fetchone()
        return _hold_of(row)


def _plain(entries: tuple[Entry, ...]) -> list[list[str | int]]:
    return [[entry.account.party, entry.account.role, entry.account.unit, entry.amount] for entry in entries]


def _content_digest(*parts: Any) -> str:
    """Tells a retry from another call under the same id."""
    return sha256_hex(json.dumps(parts, separators=(",", ":")).encode())


def _check_zero_sum(entries: tuple[Entry, ...]) -> None:
    sums: dict[str, int] = defaultdict(int)
    for entry in entries:
        check_amount(abs(entry.amount))
        sums[entry.account.unit] += entry.amount
    for unit, total in sums.items():
        if total:
            raise AmountError(f"the entries in {unit} sum to {total}, not to zero", "balance them")


def _insufficient(account: AccountName, wanted: int, standing: sqlite3.Row) -> InsufficientFundsError:
    left = max(0, standing["balance"] - standing["held"] - standing["floor"])
    return InsufficientFundsError(
        f"{account.party} needs {micro_text(wanted)} {account.unit} for this and has {micro_text(left)} left",
        "add credit, send less, or wait until open requests end",
    )
