"""The meter: each attempt ends in one receipt, and money, units and log move with it or not at all."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path

import pytest

from isthmus.contracts.errors import (
    AmountError,
    ConflictError,
    HoldCapturedError,
    HoldExpiredError,
    HoldVoidedError,
    InputError,
    InsufficientFundsError,
    NotFoundError,
    UnknownHoldError,
    UnknownPriceError,
    UnknownSplitError,
)
from isthmus.contracts.money import counted_unit
from isthmus.contracts.price import Usage
from isthmus.kit.clock import SetClock
from isthmus.ledger.check import check_book
from isthmus.ledger.meter import Meter
from tests.ledger.world import ARTEFACT, CERTIFICATE, ONE, PRICE, SPLIT, TRUSTED, money, new_meter, opened


@pytest.fixture
def meter(tmp_path: Path) -> Meter:
    return new_meter(tmp_path)


def balanced(meter: Meter) -> None:
    checked = check_book(meter.db, TRUSTED)
    assert checked.holds, [line for line in checked.lines if not line.holds]


def test_open_close_moves_money_units_and_log_together(meter: Meter) -> None:
    opened(meter, "r1", worst_case=Usage(inferences=4))
    assert meter.book.balance(money("line")).held == 4 * 997
    receipt = meter.close("r1", Usage(inferences=3), "reported")
    assert (receipt.charge_micros, receipt.outcome, receipt.leaf_index) == (3 * 997, "reported", 0)
    assert sum(line.amount_micros for line in receipt.lines) == 3 * 997
    assert meter.book.balance(money("line")).balance == 1_000_000 - 3 * 997
    earned = sum(meter.book.balance(money(party, "earned")).balance for party in ("edge", "lab", "north", "south", "west", "exchange"))
    assert earned + meter.book.balance(money("exchange", "residue")).balance == 3 * 997
    unit = counted_unit("inferences", ARTEFACT)
    assert meter.book.balance(money("line", "used", unit)).balance == 3
    assert meter.book.balance(money("edge", "made", unit)).balance == -3
    assert receipt.sections["certificate"].body == {"artefact_digest": ARTEFACT, "certificate_digest": CERTIFICATE}
    assert meter.open_holds() == () and meter.log.size() == 1
    assert meter.find("r1") == receipt
    balanced(meter)


def test_close_is_idempotent_and_refuses_another_usage(meter: Meter) -> None:
    opened(meter, "r1")
    first = meter.close("r1", ONE, "reported")
    assert meter.close("r1", ONE, "reported") == first
    with pytest.raises(ConflictError):
        meter.close("r1", Usage(), "reported")
    with pytest.raises(ConflictError):
        meter.close("r1", ONE, "partial")
    with pytest.raises(HoldCapturedError):
        meter.void("r1", "late")
    with pytest.raises(HoldCapturedError):
        opened(meter, "r1")
    assert meter.log.size() == 1
    balanced(meter)


def test_open_is_idempotent_while_open(meter: Meter) -> None:
    opened(meter, "r1")
    opened(meter, "r1")
    assert meter.book.balance(money("line")).held == 997
    with pytest.raises(ConflictError):
        opened(meter, "r1", worst_case=Usage(inferences=2))


def test_void_gives_everything_back_and_leaves_a_record(meter: Meter) -> None:
    opened(meter, "r1")
    record = meter.void("r1", "the engine failed")
    assert (record.outcome, record.charge_micros) == ("void", 0)
    assert record.sections["outcome"].body["reason"] == "the engine failed"
    assert meter.void("r1", "again") == record
    with pytest.raises(HoldVoidedError):
        meter.close("r1", ONE, "reported")
    with pytest.raises(HoldVoidedError):
        opened(meter, "r1")
    assert meter.book.balance(money("line")).available == 1_000_000 and meter.log.size() == 1
    balanced(meter)


@pytest.mark.parametrize(("outcome", "charge", "units"), [("reported", 997, 1), ("recounted", 997, 1), ("partial", 997, 1), ("zero", 0, 0)])
def test_each_outcome_has_its_policy(meter: Meter, outcome: str, charge: int, units: int) -> None:
    opened(meter, "r1")
    receipt = meter.close("r1", ONE, outcome)  # type: ignore[arg-type]
    assert receipt.charge_micros == charge
    assert meter.book.balance(money("line", "used", counted_unit("inferences", ARTEFACT))).balance == units
    balanced(meter)


def test_an_overrun_is_cut_to_the_hold_and_noted(meter: Meter) -> None:
    opened(meter, "r1")
    receipt = meter.close("r1", Usage(inferences=5), "reported")
    assert receipt.charge_micros == 997
    assert receipt.sections["price"].body["overrun_micros"] == 4 * 997
    balanced(meter)


def test_what_is_unknown_or_impossible_is_refused_before_anything_moves(meter: Meter) -> None:
    def ask(price: str = PRICE.id, split: str = SPLIT.id, usage: Usage = ONE, caller: str = "line") -> None:
        meter.open("r1", caller, "cells", ARTEFACT, price, split, usage, {})

    for arguments, error in (
        ({"price": "none"}, UnknownPriceError),
        ({"split": "none"}, UnknownSplitError),
        ({"usage": Usage(inferences=-1)}, AmountError),
        ({"usage": Usage(inferences=2000)}, InsufficientFundsError),
        ({"caller": "stranger"}, InsufficientFundsError),
    ):
        with pytest.raises(error):
            ask(**arguments)  # type: ignore[arg-type]
    for end in (lambda: meter.close("r1", ONE, "reported"), lambda: meter.void("r1", "")):
        with pytest.raises(UnknownHoldError):
            end()
    opened(meter, "r2")
    for usage, outcome, error2 in (
        (ONE, "void", InputError),
        (ONE, "nonsense", InputError),
        (Usage(tokens_in=-1), "reported", AmountError),
    ):
        with pytest.raises(error2):
            meter.close("r2", usage, outcome)  # type: ignore[arg-type]
    assert [hold.id for hold in meter.open_holds()] == ["r2"] and meter.log.size() == 0
    balanced(meter)


def test_what_stays_open_too_long_expires_with_a_record(tmp_path: Path) -> None:
    clock = SetClock()
    meter = new_meter(tmp_path, clock)
    opened(meter, "r1")
    clock.advance(1)
    opened(meter, "r2")
    assert meter.expire(clock.now_s()) == ()
    clock.advance(meter.hold_ttl_s - 0.5)
    assert [record.id for record in meter.expire(clock.now_s())] == ["r1"]
    with pytest.raises(HoldExpiredError):
        meter.close("r1", ONE, "reported")
    assert meter.close("r2", ONE, "reported").outcome == "reported"
    balanced(meter)


def test_recover_ends_what_a_crash_left_open(tmp_path: Path) -> None:
    clock = SetClock()
    meter = new_meter(tmp_path, clock)
    for name in ("r1", "r2", "r3"):
        opened(meter, name)
    meter.close("r2", ONE, "reported")
    meter.db.close()
    again = new_meter(tmp_path, clock, amount=0)
    assert [(record.id, record.outcome) for record in again.recover(clock.now_s())] == [("r1", "void"), ("r3", "void")]
    assert again.recover(clock.now_s()) == () and again.open_holds() == ()
    assert again.book.balance(money("line")).available == 1_000_000 - 997
    balanced(again)


def test_two_hundred_requests_and_credit_for_ten(tmp_path: Path) -> None:
    meter = new_meter(tmp_path, amount=10 * 997 + 996)
    results: Counter[str] = Counter()
    gate = threading.Barrier(200)

    def ask(number: int) -> None:
        gate.wait()
        try:
            opened(meter, f"r{number}")
            results["passed"] += 1
        except InsufficientFundsError:
            results["refused"] += 1

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {"passed": 10, "refused": 190}
    for hold in meter.open_holds():
        meter.close(hold.id, ONE, "reported")
    assert meter.book.balance(money("line")).balance == 996
    balanced(meter)


def test_each_party_sees_its_own_sections_only(meter: Meter) -> None:
    opened(meter, "r1")
    meter.close("r1", Usage(inferences=1), "reported")

    def seen(party: str | None) -> set[str]:
        return set(meter.receipts.shown("r1", party).sections)

    shares = {f"share-{place}" for place in range(7)}
    everything = {"usage", "price", "split", "policy", "parties", "certificate", "outcome"}
    assert seen(None) == everything | shares
    assert seen("line") == everything
    assert seen("edge") == {"usage", "certificate", "outcome", "share-0"}
    assert seen("lab") == {"usage", "certificate", "outcome", "share-1"}
    assert seen("south") == {"certificate", "outcome", "share-3"}
    assert meter.receipts.shown("r1", "south").sections["share-3"].body["line"]["party"] == "south"
    for stranger in ("nobody", ""):
        with pytest.raises(NotFoundError):
            meter.receipts.shown("r1", stranger)
    assert set(meter.receipts.shown("r1", "south").digests) == everything | shares


def test_salts_are_fresh(meter: Meter) -> None:
    for name in ("r1", "r2"):
        opened(meter, name)
        meter.close(name, ONE, "reported")
    one, two = meter.find("r1"), meter.find("r2")
    assert one is not None and two is not None
    salts = [section.salt for receipt in (one, two) for section in receipt.sections.values()]
    assert len(set(salts)) == len(salts)
    assert one.sections["policy"].body == two.sections["policy"].body and one.digests["policy"] != two.digests["policy"]
