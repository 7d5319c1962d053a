"""Accounts, entries, transfers and holds: integers only, one unit an entry, zero in sum.

A *unit* is a currency (`EUR`, amounts in micro-units) or a counted unit of one model version
(`inferences@sha256:...`, amounts in whole units). Nothing converts one unit into another.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from isthmus.contracts.errors import InputError

AMOUNT_MAX = 2**53 - 1
"""Largest amount and largest balance: the largest integer that every JSON reader keeps exact."""

CURRENCY = re.compile(r"[A-Z]{3}")

Role = Literal["balance", "earned", "issued", "residue", "used", "made"]
HoldState = Literal["open", "captured", "voided", "expired"]


class AccountName(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, order=True):
    """Whose, what for, and in what unit.

    balance: what a party can spend. earned: its shares of what others spent. issued: the exchange's account against
    which credit is given out (below zero by as much as was issued). residue: what a split leaves over.
    used, made: counted units on the caller's and on the provider's side.
    """

    party: str
    role: Role
    unit: str


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One signed amount on one account: micro-units of its currency, or whole counted units."""

    account: AccountName
    amount: int


class Transfer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Entries that stand together and sum to zero in each unit. Never edited; a correction names what it corrects."""

    id: str
    at_ms: int
    reason: str
    entries: tuple[Entry, ...]
    corrects: str | None = None
    hold: str | None = None


class Hold(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An amount set aside on one account. Ends once: captured (0 <= captured <= amount), voided or expired."""

    id: str
    account: AccountName
    amount: int
    state: HoldState
    captured: int
    opened_at_ms: int
    expires_at_ms: int
    ended_at_ms: int | None = None


class Balance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An account's standing. available = balance - held - floor; None where the account has no floor."""

    account: AccountName
    balance: int
    held: int
    floor: int | None
    available: int | None


def currency(value: str) -> str:
    """Returns value if it is three capital letters; raises InputError."""
    if not CURRENCY.fullmatch(value):
        raise InputError(f"{value!r} is not a currency", "use three capital letters such as EUR")
    return value


def counted_unit(kind: str, artefact_digest: str) -> str:
    """The name of a counted unit of one model version: kind is inferences, tokens-in or tokens-out."""
    return f"{kind}@{artefact_digest}"


class BookLine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One invariant of the book: over how many things it was checked, and the first that break it."""

    rule: str
    holds: bool
    checked: int
    broken: tuple[str, ...] = ()


class BookCheck(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All invariants, and the sum of all entries in each unit (each must be 0)."""

    holds: bool
    lines: tuple[BookLine, ...]
    sums: dict[str, int]
    receipts: int
    entries: int
    open_holds: int


class Account(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A party's accounts."""

    party: str
    balances: tuple[Balance, ...]


class Credit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Gives a party credit. id: made by who asks, so that asking again credits once."""

    id: str
    currency: str
    amount_micros: int
    reason: str = "credit"
