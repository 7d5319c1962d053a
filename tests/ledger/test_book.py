"""Transfers and holds: against a model in memory, under threads, and at their edges."""

from __future__ import annotations

import sqlite3
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from isthmus.contracts.errors import (
    AmountError,
    CaptureTooLargeError,
    ConflictError,
    HoldCapturedError,
    HoldExpiredError,
    HoldVoidedError,
    InsufficientFundsError,
    IsthmusError,
    NotFoundError,
    UnknownHoldError,
)
from isthmus.contracts.money import AMOUNT_MAX, Entry
from isthmus.kit.clock import SetClock
from isthmus.ledger.book import Book, micro_text, open_book
from isthmus.ledger.check import check_book
from tests.ledger.world import money

LINE = money("line")
LATER_MS = 10**15


def moved(amount: int, to: str = "line") -> tuple[Entry, Entry]:
    return Entry(account=money("exchange", "issued"), amount=-amount), Entry(account=money(to), amount=amount)


def paid(amount: int) -> tuple[Entry, ...]:
    return (Entry(account=money("edge", "earned"), amount=amount),)


@pytest.fixture
def book(tmp_path: Path) -> Book:
    book = Book(open_book(tmp_path / "book.db"), SetClock())
    book.post("c", moved(1_000), "credit")
    return book


def test_hold_capture_gives_the_rest_back(book: Book) -> None:
    book.hold("h", LINE, 600, LATER_MS)
    assert (book.balance(LINE).held, book.balance(LINE).available) == (600, 400)
    transfer = book.capture("h", 250, paid(250), "served")
    assert book.capture("h", 250, paid(250), "served") == transfer
    assert book.balance(LINE).balance == 750 and book.balance(LINE).held == 0
    assert book.balance(money("edge", "earned")).balance == 250
    found = book.find_hold("h")
    assert found is not None and (found.state, found.captured) == ("captured", 250)
    assert book.transfer("capture:h") == transfer


def test_a_hold_ends_once_with_distinct_errors(book: Book) -> None:
    for name in ("captured", "voided", "expired"):
        book.hold(name, LINE, 10, LATER_MS if name != "expired" else 0)
    book.capture("captured", 10, paid(10), "")
    book.void("voided")
    book.expire("expired", book.now_ms())
    assert book.void("voided").state == "voided" and book.expire("expired", book.now_ms()).state == "expired"
    for name, error in (("captured", HoldCapturedError), ("voided", HoldVoidedError), ("expired", HoldExpiredError)):
        if name != "captured":
            with pytest.raises(error):
                book.capture(name, 1, paid(1), "")
        if name != "voided":
            with pytest.raises(error):
                book.void(name)
        if name != "expired":
            with pytest.raises(error):
                book.expire(name, LATER_MS)
    with pytest.raises(ConflictError):
        book.capture("captured", 9, paid(9), "")
    for end in (lambda: book.void("no"), lambda: book.expire("no", 0), lambda: book.capture("no", 0, (), "")):
        with pytest.raises(UnknownHoldError):
            end()


def test_a_hold_with_time_left_does_not_expire(book: Book) -> None:
    book.hold("h", LINE, 10, LATER_MS)
    with pytest.raises(ConflictError):
        book.expire("h", book.now_ms())
    assert [hold.id for hold in book.open_holds()] == ["h"]


def test_refusals_leave_nothing_behind(book: Book) -> None:
    before = book.db.rows("SELECT * FROM accounts"), book.db.rows("SELECT * FROM entries")
    book.hold("h", LINE, 600, LATER_MS)
    with pytest.raises(InsufficientFundsError, match=r"has 0\.000400 left"):
        book.hold("h2", LINE, 401, LATER_MS)
    with pytest.raises(CaptureTooLargeError):
        book.capture("h", 601, paid(601), "")
    with pytest.raises(AmountError):
        book.capture("h", 10, paid(11), "")
    with pytest.raises(InsufficientFundsError):
        book.post("t", (Entry(account=LINE, amount=-401), *paid(401)), "")
    with pytest.raises(AmountError):
        book.post("t", paid(1), "")
    with pytest.raises(AmountError):
        book.hold("h2", LINE, -1, LATER_MS)
    with pytest.raises(AmountError):
        book.post("t", moved(AMOUNT_MAX), "")
    with pytest.raises(InsufficientFundsError):
        book.hold("h2", money("stranger"), 1, LATER_MS)
    book.void("h")
    assert (book.db.rows("SELECT * FROM accounts"), book.db.rows("SELECT * FROM entries")) == before


def test_ids_are_idempotent_and_not_reused(book: Book) -> None:
    assert book.post("c", moved(1_000), "credit") == book.transfer("c")
    with pytest.raises(ConflictError):
        book.post("c", moved(1_001), "credit")
    first = book.hold("h", LINE, 5, LATER_MS)
    assert book.hold("h", LINE, 5, LATER_MS + 1) == first
    with pytest.raises(ConflictError):
        book.hold("h", LINE, 6, LATER_MS)
    assert book.balance(LINE).balance == 1_000 and book.balance(LINE).held == 5


def test_corrections_name_what_they_correct_and_nothing_is_edited(book: Book) -> None:
    back = book.post("fix", [Entry(account=e.account, amount=-e.amount) for e in moved(1_000)], "wrong party", corrects="c")
    assert back.corrects == "c" and book.balance(LINE).balance == 0
    with pytest.raises(NotFoundError):
        book.post("fix2", moved(1), "", corrects="never")
    for statement in ("UPDATE entries SET amount = 1", "DELETE FROM entries", "UPDATE transfers SET reason = ''", "DELETE FROM holds"):
        book.hold(f"h{len(statement)}", LINE, 0, LATER_MS)
        with pytest.raises(sqlite3.IntegrityError), book.db.transaction() as connection:
            connection.execute(statement)


def test_a_credit_line_lets_the_balance_go_below_zero_so_far(book: Book) -> None:
    book.set_floor(LINE, -500)
    book.hold("h", LINE, 1_500, LATER_MS)
    with pytest.raises(InsufficientFundsError):
        book.hold("h2", LINE, 1, LATER_MS)
    with pytest.raises(ConflictError):
        book.set_floor(LINE, 0)
    book.capture("h", 1_500, paid(1_500), "")
    assert book.balance(LINE).balance == -500 and check_book(book.db).holds


def test_micro_text() -> None:
    assert [micro_text(amount) for amount in (0, 1, -1, 1_500_000, -12_000_001)] == [
        "0.000000",
        "0.000001",
        "-0.000001",
        "1.500000",
        "-12.000001",
    ]


def test_two_hundred_threads_and_a_balance_for_ten(book: Book) -> None:
    passed: list[int] = []
    refused: list[int] = []
    gate = threading.Barrier(200)

    def ask(number: int) -> None:
        gate.wait()
        try:
            book.hold(f"t{number}", LINE, 100, LATER_MS)
            passed.append(number)
        except InsufficientFundsError:
            refused.append(number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(passed), len(refused)) == (10, 190)
    assert book.balance(LINE).held == 1_000 and check_book(book.db).holds


class Transfers(RuleBasedStateMachine):
    """Random calls, with ids that collide on purpose; a model of dictionaries predicts each reply."""

    ids = st.sampled_from("abcdef")
    amounts = st.integers(0, 60)
    parties = st.sampled_from(["line", "plant"])

    @initialize()
    def start(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.clock = SetClock()
        self.book = Book(open_book(Path(self.folder.name) / "book.db"), self.clock)
        self.book.db._connection.execute("PRAGMA synchronous=OFF")
        self.balance = {"line": 0, "plant": 0, "edge": 0}
        self.holds: dict[str, list[object]] = {}
        self.posts: dict[str, tuple[str, int]] = {}
        self.captures: dict[str, int] = {}

    def held(self, party: str) -> int:
        return sum(hold[1] for hold in self.holds.values() if hold[0] == party and hold[2] == "open")  # type: ignore[misc]

    def reply(self, call: object) -> str:
        try:
            call()  # type: ignore[operator]
            return "ok"
        except IsthmusError as error:
            return error.code

    @rule(name=ids, amount=amounts, party=parties)
    def post(self, name: str, amount: int, party: str) -> None:
        expected = "ok"
        if name in self.posts:
            same = self.posts[name] == (party, amount) or (amount == 0 and self.posts[name][1] == 0)
            expected = "ok" if same else "conflict"
        else:
            self.posts[name] = (party, amount)
            self.balance[party] += amount
        assert self.reply(lambda: self.book.post(f"p{name}", moved(amount, party), "")) == expected

    @rule(name=ids, amount=amounts, party=parties, ttl_s=st.integers(0, 3))
    def hold(self, name: str, amount: int, party: str, ttl_s: int) -> None:
        if name in self.holds:
            expected = "ok" if self.holds[name][:2] == [party, amount] else "conflict"
        elif self.balance[party] - self.held(party) < amount:
            expected = "insufficient-funds"
        else:
            expected = "ok"
            self.holds[name] = [party, amount, "open", self.book.now_ms() + ttl_s * 1000]
        expires = self.book.now_ms() + ttl_s * 1000
        assert self.reply(lambda: self.book.hold(name, money(party), amount, expires)) == expected

    @rule(name=ids, amount=amounts)
    def capture(self, name: str, amount: int) -> None:
        hold = self.holds.get(name)
        if hold is None:
            expected = "unknown-hold"
        elif hold[2] == "captured":
            expected = "ok" if self.captures[name] == amount else "conflict"
        elif hold[2] != "open":
            expected = f"hold-already-{hold[2]}"
        elif amount > hold[1]:  # type: ignore[operator]
            expected = "capture-exceeds-hold"
        else:
            expected = "ok"
            hold[2] = "captured"
            self.captures[name] = amount
            self.balance[hold[0]] -= amount  # type: ignore[index]
            self.balance["edge"] += amount
        assert self.reply(lambda: self.book.capture(name, amount, paid(amount), "")) == expected

    @rule(name=ids, how=st.sampled_from(["voided", "expired"]))
    def release(self, name: str, how: str) -> None:
        hold = self.holds.get(name)
        if hold is None:
            expected = "unknown-hold"
        elif hold[2] == how:
            expected = "ok"
        elif hold[2] != "open":
            expected = f"hold-already-{hold[2]}"
        elif how == "expired" and self.book.now_ms() < hold[3]:  # type: ignore[operator]
            expected = "conflict"
        else:
            expected = "ok"
            hold[2] = how
        end = (lambda: self.book.void(name)) if how == "voided" else (lambda: self.book.expire(name, self.book.now_ms()))
        assert self.reply(end) == expected

    @rule(seconds=st.integers(-1, 2))
    def time_passes(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @invariant()
    def as_the_model_says(self) -> None:
        if not hasattr(self, "book"):
            return
        for party in ("line", "plant"):
            standing = self.book.balance(money(party))
            assert (standing.balance, standing.held) == (self.balance[party], self.held(party))
        assert self.book.balance(money("edge", "earned")).balance == self.balance["edge"]

    def teardown(self) -> None:
        if hasattr(self, "book"):
            checked = check_book(self.book.db)
            assert checked.holds, checked.lines
            self.book.db.close()
            self.folder.cleanup()


Transfers.TestCase.settings = settings(max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
TestTransfers = Transfers.TestCase
