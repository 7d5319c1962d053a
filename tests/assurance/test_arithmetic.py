"""The sample arithmetic of a promise."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.assurance.arithmetic import arithmetic, prospects
from isthmus.assurance.bounds import clopper_pearson_upper


def test_rules_of_thumb() -> None:
    assert arithmetic(0.05, 0.95, 0, 0, 0, 0.0).answered_needed == 59
    assert arithmetic(0.01, 0.95, 0, 0, 0, 0.0).answered_needed == 299
    assert arithmetic(0.1, 0.95, 0, 0, 0, 0.0).answered_needed == 29


def test_errors_cost_more_records() -> None:
    """Checked against tables of zero, one and two failures at 95 %: 59, 93, 124 for 5 %."""
    assert [arithmetic(0.05, 0.95, 40, 40, errors, 1.0).answered_needed for errors in (0, 1, 2)] == [59, 93, 124]


def test_labels_are_counted_at_the_share_answered() -> None:
    found = arithmetic(0.05, 0.95, 40, 20, 0, 0.5)
    assert found.labels_needed == 78, "39 answered are missing, one in two is answered"
    assert "59 answered records" in found.sentence and "about 78 more labels" in found.sentence and "50 % answered" in found.sentence
    assert "what can be promised now is 13.9 %" in found.sentence


def test_nothing_known() -> None:
    found = arithmetic(0.05, 0.95, 0, 0, 0, 0.0)
    assert (found.labels_needed, found.provable) == (59, 1.0)
    assert "no labels were kept for proof" in found.sentence and "% answered" not in found.sentence


def test_proven() -> None:
    found = arithmetic(0.05, 0.95, 80, 60, 0, 0.75)
    assert found.labels_needed == 0 and found.provable <= 0.05 and found.sentence.endswith("so the promise is proven.")


@settings(max_examples=60, deadline=None)
@given(
    bar=st.sampled_from([0.01, 0.05, 0.1]),
    answered=st.integers(0, 400),
    errors=st.integers(0, 8),
    share=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
)
def test_what_is_asked_for_would_do_and_one_fewer_would_not(bar: float, answered: int, errors: int, share: float) -> None:
    errors = min(errors, answered)
    found = arithmetic(bar, 0.95, answered, answered, errors, share)
    assert (
        clopper_pearson_upper(errors, found.answered_needed, 0.95) <= bar < clopper_pearson_upper(errors, found.answered_needed - 1, 0.95)
    )
    assert (found.labels_needed == 0) == (found.provable <= bar)
    if found.labels_needed:
        assert answered + found.labels_needed * (share or 1.0) >= found.answered_needed - 1e-9


def test_the_arithmetic_before_any_work() -> None:
    found = prospects(59, 20, (0.1, 0.05), 0.95)
    rows = [(one.kind, one.of, round(one.bar, 6), one.needed, one.have, one.missing) for one in found]
    assert rows == [
        ("promise", "answered", 0.1, 29, 79, 0),
        ("promise", "answered", 0.05, 59, 79, 0),
        ("promise", "good", 0.05, 59, 59, 0),
        ("promise", "good", 0.01, 299, 59, 240),
        ("promise", "defect", 0.05, 59, 20, 39),
        ("expected", "good", 0.05, 19, 59, 0),
        ("expected", "good", 0.01, 99, 59, 40),
    ]
    said = [one.sentence for one in found]
    assert "299 good ones without a false alarm prove at most 1 % false alarms with 95 % confidence" in said[3]
    assert "240 more are missing; now at most 4.95 % false alarms can be promised at best" in said[3]
    assert "59 caught defects without a miss prove a recall of at least 95 %" in said[4] and "a recall of at least 86.1 %" in said[4]
    assert all("no promise" in one.sentence for one in found if one.kind == "expected")


@settings(max_examples=40, deadline=None)
@given(good=st.integers(0, 500), defects=st.integers(0, 500))
def test_what_can_be_promised_now_is_what_the_bound_says(good: int, defects: int) -> None:
    for one in prospects(good, defects, (0.05,), 0.95):
        if one.kind == "promise":
            assert (one.missing == 0) == (one.now <= one.bar + 1e-12)
            assert one.missing == 0 or clopper_pearson_upper(0, one.have + one.missing, 0.95) <= one.bar
        assert one.have or one.now == 1.0
