"""The ledger never forgets, never lets more leave than there is, and gives one question one answer."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.contracts.agreement import PrivacyTerms
from isthmus.contracts.errors import RefusedError
from isthmus.sandbox.budget import PrivacyLedger, Release, allowance_nanos, epsilon_spent
from isthmus.sandbox.noise import discrete_gaussian

TERMS = PrivacyTerms(epsilon=1.0, delta=1e-5)


def release(content: str, nanos: int, payload: str = "p") -> Release:
    return Release(
        content=content,
        rho_nanos=nanos,
        statistic="moments/1",
        purpose="quality",
        run_id="r",
        exchange="x",
        agreement="a",
        asset="d",
        at_s=1,
        payload=payload,
    )


def noise() -> np.ndarray:
    return discrete_gaussian(100.0, 4)


def test_spent_adds_up_and_the_last_nano_can_be_spent(tmp_path: Path) -> None:
    ledger, whole = PrivacyLedger(tmp_path / "b.sqlite"), allowance_nanos(TERMS)
    ledger.paid("alfa", release("one", whole - 5), TERMS, noise)
    with pytest.raises(RefusedError) as told:
        ledger.paid("alfa", release("two", 6), TERMS, noise)
    assert told.value.clause == "privacy-budget"
    ledger.paid("alfa", release("three", 5), TERMS, noise)
    assert ledger.spent_nanos("alfa") == whole
    assert ledger.spent_nanos("bravo") == 0
    assert 0.999 < epsilon_spent(whole, TERMS.delta) <= 1.0
    assert [r.content for r in ledger.releases("alfa")] == ["one", "three"]


def test_the_same_question_has_the_same_answer_and_costs_once(tmp_path: Path) -> None:
    ledger = PrivacyLedger(tmp_path / "b.sqlite")
    first = ledger.paid("alfa", release("one", 1000), TERMS, noise)
    again = PrivacyLedger(tmp_path / "b.sqlite").paid("alfa", release("one", 1000), TERMS, noise)
    assert np.array_equal(first, again)
    assert ledger.spent_nanos("alfa") == 1000
    with pytest.raises(RefusedError) as told:
        ledger.paid("alfa", release("one", 1000, payload="other"), TERMS, noise)
    assert told.value.clause == "payload"


def test_nothing_is_drawn_that_cannot_be_paid(tmp_path: Path) -> None:
    def never() -> np.ndarray:
        raise AssertionError("noise was drawn")

    with pytest.raises(RefusedError):
        PrivacyLedger(tmp_path / "b.sqlite").paid("alfa", release("one", 10**12), TERMS, never)


def test_rows_can_neither_be_changed_nor_removed(tmp_path: Path) -> None:
    PrivacyLedger(tmp_path / "b.sqlite").paid("alfa", release("one", 1000), TERMS, noise)
    with sqlite3.connect(tmp_path / "b.sqlite") as sql:
        for statement in ("DELETE FROM releases", "UPDATE releases SET rho_nanos = 1"):
            with pytest.raises(sqlite3.IntegrityError):
                sql.execute(statement)


def test_a_smaller_later_agreement_leaves_nothing_and_a_larger_one_leaves_the_rest(tmp_path: Path) -> None:
    ledger = PrivacyLedger(tmp_path / "b.sqlite")
    ledger.paid("alfa", release("one", allowance_nanos(TERMS)), TERMS, noise)
    assert ledger.left_nanos("alfa", PrivacyTerms(epsilon=0.5, delta=1e-5)) == 0
    wider = PrivacyTerms(epsilon=2.0, delta=1e-5)
    assert ledger.left_nanos("alfa", wider) == allowance_nanos(wider) - allowance_nanos(TERMS)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 10_000_000)), max_size=12))
def test_spent_is_the_sum_of_distinct_contents_and_never_more_than_there_is(tmp_path_factory, asked: list[tuple[str, int]]) -> None:
    ledger = PrivacyLedger(tmp_path_factory.mktemp("budget") / "b.sqlite")
    answered: dict[str, int] = {}
    for content, nanos in asked:
        try:
            ledger.paid("alfa", release(content, nanos), TERMS, noise)
        except RefusedError:
            assert content not in answered
            assert sum(answered.values()) + nanos > allowance_nanos(TERMS)
        else:
            answered.setdefault(content, nanos)
    assert ledger.spent_nanos("alfa") == sum(answered.values()) <= allowance_nanos(TERMS)
    ledger.close()


CHILD = """
import sys
from pathlib import Path
from tests.sandbox.test_budget import TERMS, noise, release
from isthmus.sandbox.budget import PrivacyLedger
ledger = PrivacyLedger(Path(sys.argv[1]))
begin = int(sys.argv[2])
print("ready", flush=True)
for number in range(begin, begin + 10**6):
    share = ledger.paid("alfa", release(f"job {number}", 1), TERMS, noise)
    print(f"job {number}", share.tolist(), flush=True)   # this is the share leaving
"""


@pytest.mark.parametrize("delay_s", [0.0, 0.02, 0.05])
def test_killed_in_the_middle_it_has_every_release_that_left(tmp_path: Path, delay_s: float) -> None:
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{root / 'src'}{os.pathsep}{root}"}
    command = [sys.executable, "-c", CHILD, str(tmp_path / "b.sqlite"), "0"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    time.sleep(delay_s)
    child.send_signal(signal.SIGKILL)
    left = child.stdout.read().splitlines()
    child.wait()
    whole = [line for line in left if line.endswith("]")]
    ledger = PrivacyLedger(tmp_path / "b.sqlite")
    kept = {r.content for r in ledger.releases("alfa")}
    assert {line.split(" [")[0] for line in whole} <= kept
    assert ledger.spent_nanos("alfa") == len(kept)
    for line in whole:
        content, numbers = line.split(" [")
        again = ledger.paid("alfa", release(content, 1), TERMS, noise)
        assert again.tolist() == [int(v) for v in numbers.rstrip("]").split(",")]
