"""The seeded simulator of the book: random clients, retries, faults of the disk and restarts, against a twin in memory.

`make sim SEEDS=n` runs n seeds. A failing seed fails again: nothing here depends on anything but the seed.
"""

from __future__ import annotations

import contextlib
import random
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path

from isthmus.contracts.errors import ConflictError, InsufficientFundsError, StorageError
from isthmus.contracts.money import AccountName, Entry
from isthmus.kit.clock import SetClock
from isthmus.ledger.book import Book, open_book
from isthmus.ledger.check import check_book

STEPS = 150
PARTIES = ("line-1", "line-2", "edge")
ISSUED = AccountName(party="exchange", role="issued", unit="EUR")


def purse(party: str) -> AccountName:
    return AccountName(party=party, role="balance", unit="EUR")


@dataclass
class Twin:
    """What the book should say, kept as plainly as possible."""

    balances: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PARTIES, 0))
    holds: dict[str, tuple[str, int]] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)

    def left(self, party: str) -> int:
        return self.balances[party] - sum(amount for owner, amount in self.holds.values() if owner == party)


class World:
    """One book in a folder, its twin, and the seed's chance."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.chance = random.Random(seed)
        self.clock = SetClock()
        self.path = folder / "book.sqlite"
        self.twin = Twin()
        self.number = 0
        self.reopen()

    def reopen(self) -> None:
        self.db = open_book(self.path)
        self.book = Book(self.db, self.clock)

    def now_ms(self) -> int:
        return int(self.clock.now_s() * 1000)

    def name(self, kind: str) -> str:
        self.number += 1
        return f"{kind}-{self.number}"

    def credit(self) -> None:
        party, amount, name = self.chance.choice(PARTIES), self.chance.randrange(5_000), self.name("credit")
        entries = (Entry(account=ISSUED, amount=-amount), Entry(account=purse(party), amount=amount))
        for _ in range(self.chance.randrange(1, 3)):
            self.book.post(name, entries, "credit")
        self.twin.balances[party] += amount

    def hold(self) -> None:
        party, amount, name = self.chance.choice(PARTIES), self.chance.randrange(4_000), self.name("hold")
        expires = self.now_ms() + self.chance.randrange(1, 60_000)
        try:
            for _ in range(self.chance.randrange(1, 3)):
                self.book.hold(name, purse(party), amount, expires)
        except InsufficientFundsError:
            assert amount > self.twin.left(party), "refused although there was enough"
        else:
            assert amount <= self.twin.left(party), "allowed although there was too little"
            self.twin.holds[name] = (party, amount)

    def capture(self) -> None:
        if not self.twin.holds:
            return
        name = self.chance.choice(sorted(self.twin.holds))
        party, held = self.twin.holds.pop(name)
        used, payee = self.chance.randrange(held + 1), self.chance.choice(PARTIES)
        for _ in range(self.chance.randrange(1, 3)):
            self.book.capture(name, used, (Entry(account=purse(payee), amount=used),), "served")
        self.twin.balances[party] -= used
        self.twin.balances[payee] += used
        self.twin.ended[name] = "captured"

    def void(self) -> None:
        if self.twin.holds:
            name = self.chance.choice(sorted(self.twin.holds))
            self.book.void(name)
            del self.twin.holds[name]
            self.twin.ended[name] = "voided"

    def expire(self) -> None:
        self.clock.advance(self.chance.random() * 30)
        for hold in self.book.open_holds():
            if hold.expires_at_ms <= self.now_ms():
                self.book.expire(hold.id, self.now_ms())
                del self.twin.holds[hold.id]
                self.twin.ended[hold.id] = "expired"

    def end_twice(self) -> None:
        """A hold that ended one way does not end another way."""
        if self.twin.ended:
            name = self.chance.choice(sorted(self.twin.ended))
            ends = {"captured": lambda: self.book.capture(name, 0, (), "again"), "voided": lambda: self.book.void(name)}
            for state, end in ends.items():
                if state != self.twin.ended[name]:
                    try:
                        end()
                    except ConflictError:
                        continue
                    raise AssertionError(f"{name} was {self.twin.ended[name]} and could be {state} too")

    def restart(self) -> None:
        self.db.close()
        self.reopen()

    def die_in_the_middle(self) -> None:
        """The process ends inside a transaction; what it did in it is gone, what was before is there."""
        with contextlib.suppress(KeyboardInterrupt), self.db.transaction():
            party = self.chance.choice(PARTIES)
            self.book.hold(self.name("hold"), purse(party), self.twin.left(party), self.now_ms() + 1)
            raise KeyboardInterrupt
        self.db.close()
        rival = sqlite3.connect(self.path, isolation_level=None)
        rival.execute("BEGIN IMMEDIATE")
        rival.execute("UPDATE accounts SET balance = balance + 1")
        rival.close()
        self.reopen()

    def fail_the_disk(self) -> None:
        """The file turns read-only under the book: each write is refused whole, and works again afterwards."""
        self.db.rows("PRAGMA query_only=ON")
        party = self.chance.choice(PARTIES)
        try:
            self.book.hold(self.name("hold"), purse(party), 0, self.now_ms() + 1)
        except StorageError:
            pass
        else:
            raise AssertionError("written to a disk that takes nothing")
        finally:
            self.db.rows("PRAGMA query_only=OFF")

    def agree(self) -> None:
        """The book says what the twin says, and proves itself."""
        for party in PARTIES:
            found = self.book.balance(purse(party))
            assert (found.balance, found.available) == (self.twin.balances[party], self.twin.left(party)), party
            assert found.available is not None and found.available >= 0
        assert {hold.id for hold in self.book.open_holds()} == set(self.twin.holds)
        checked = check_book(self.db)
        assert checked.holds, [line for line in checked.lines if not line.holds]
        assert set(checked.sums.values()) <= {0}


def test_the_book_agrees_with_its_twin(tmp_path: Path, sim_seed: int) -> None:
    world = World(tmp_path, sim_seed)
    steps = [world.credit, world.hold, world.hold, world.capture, world.void, world.expire, world.end_twice, world.restart]
    faults = [world.die_in_the_middle, world.fail_the_disk]
    for number in range(STEPS):
        world.chance.choice(faults if world.chance.random() < 0.1 else steps)()
        if number % 10 == 9:
            world.agree()
    world.agree()
    world.db.close()
