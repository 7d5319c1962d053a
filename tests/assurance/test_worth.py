"""Worth: never better than the bounds allow, monotone in each cost, exact, and nothing assumed."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from isthmus.assurance.worth import ANSWERED, ANSWERED_MOST, ERROR, OWN_SHARE, RECALL, SPECIFICITY, Day, day_of, worth, worth_bounds
from isthmus.contracts.certificate import Claims
from isthmus.contracts.errors import InputError
from isthmus.contracts.worth import SiteCosts, Worth
from isthmus.scenarios.sitecosts import FIGURES, example, read_costs

PPM = 1_000_000
CLAIMS = Claims(
    records=600,
    groups=12,
    groups_inferred=False,
    confidence_ppm=950_000,
    design_effect_ppm=1_500_000,
    answered=360,
    answered_ppm=600_000,
    errors=12,
    error_ppm=33_334,
    error_bound_ppm=70_000,
    recall_ppm=940_000,
    recall_bound_ppm=880_000,
    specificity_ppm=980_000,
    specificity_bound_ppm=950_000,
    auc_ppm=900_000,
    auc_bound_ppm=860_000,
)
COSTS = SiteCosts(
    currency="EUR",
    parts_per_day=20_000,
    defect_ppm=20_000,
    mix="as-certified",
    inspected_ppm=PPM,
    missed_ppm=150_000,
    person_alarm_ppm=10_000,
    inspection_ms=15_000,
    escape_micros=40_000_000,
    false_alarm_micros=1_500_000,
    minute_micros=600_000,
    inference_micros=2_000,
    fixed_micros_per_day=25_000_000,
    setup_micros=6_000_000_000,
)
SHARE = st.integers(0, PPM)
MONEY = st.integers(0, 10**9)


def value(found: Worth, name: str) -> int | None:
    return next(line.value for line in found.lines if line.name == name)


@st.composite
def sites(draw: st.DrawFn) -> SiteCosts:
    other = draw(st.booleans())
    return SiteCosts(
        currency="EUR",
        parts_per_day=draw(st.integers(1, 10**6)),
        defect_ppm=draw(SHARE),
        mix="other" if other else "as-certified",
        answered_ppm=draw(SHARE) if other else None,
        inspected_ppm=draw(SHARE),
        missed_ppm=draw(SHARE),
        person_alarm_ppm=draw(SHARE),
        inspection_ms=draw(st.integers(0, 10**6)),
        escape_micros=draw(MONEY),
        false_alarm_micros=draw(MONEY),
        minute_micros=draw(MONEY),
        inference_micros=draw(MONEY),
        fixed_micros_per_day=draw(MONEY),
        setup_micros=draw(MONEY),
    )


@st.composite
def claimed(draw: st.DrawFn) -> Claims:
    records = draw(st.integers(1, 2000))
    answered = draw(st.integers(0, records))
    return msgspec.structs.replace(
        CLAIMS,
        records=records,
        answered=answered,
        groups=draw(st.integers(2, 40)),
        error_bound_ppm=draw(SHARE),
        recall_bound_ppm=draw(SHARE),
        specificity_bound_ppm=draw(SHARE),
    )


def world(day: Day, bounds: dict[str, int], costs: SiteCosts, draw: Any) -> dict[str, Fraction] | None:
    """A truth that keeps every bound, or None when this draw does not: who is answered, and how wrongly."""
    x, y, e, a = (Fraction(draw.draw(st.integers(0, 1000)), 1000) for _ in range(4))
    answered = day.defects * x + day.good * y
    least = bounds.get(ANSWERED, costs.answered_ppm or 0)
    most = bounds.get(ANSWERED_MOST, costs.answered_ppm if costs.answered_ppm is not None else PPM)
    if costs.answered_ppm is not None and day.good > 0:  # the site's own share is exact: the good parts make it up
        y = (day.parts * Fraction(costs.answered_ppm, PPM) - day.defects * x) / day.good
        answered = day.defects * x + day.good * y
    if not (0 <= y <= 1 and day.parts * Fraction(least, PPM) <= answered <= day.parts * Fraction(most, PPM)):
        return None
    missed, alarms = day.defects * x * day.r * e, day.good * y * day.f * a
    if ERROR in bounds and missed + alarms > answered * Fraction(bounds[ERROR], PPM):
        return None
    escapes = missed + day.defects * (1 - x) * day.missed
    left = day.parts - answered
    refused = alarms + day.good * (1 - y) * Fraction(costs.person_alarm_ppm, PPM)
    look = left * Fraction(costs.inspection_ms, 60_000) * costs.minute_micros
    money = escapes * costs.escape_micros + refused * costs.false_alarm_micros + look
    total = money + day.parts * costs.inference_micros + costs.fixed_micros_per_day
    return {"escapes": escapes, "alarms": refused, "seconds": left * Fraction(costs.inspection_ms, 1000), "total": total}


@settings(deadline=None, max_examples=300)
@given(claims=claimed(), costs=sites(), data=st.data())
def test_no_truth_within_the_bounds_is_worse_than_what_is_said(claims: Claims, costs: SiteCosts, data: Any) -> None:
    bounds = worth_bounds(claims, costs)
    day = day_of(costs, bounds)
    truth = world(day, bounds, costs, data)
    assume(truth is not None)
    assert truth is not None
    found = worth(claims, costs)
    said = {line.name: line.value for line in found.lines}
    assert truth["escapes"] * 1000 <= said["escapes with the model"]  # type: ignore[operator]
    assert truth["alarms"] * 1000 <= said["false alarms with the model"]  # type: ignore[operator]
    assert truth["seconds"] <= said["re-inspection with the model"]  # type: ignore[operator]
    assert truth["total"] / day.parts <= said["price per part with the model"]  # type: ignore[operator]
    inspected = Fraction(costs.inspected_ppm, PPM)
    today = day.defects * (1 - inspected + inspected * day.missed)
    assert (today - truth["escapes"]) * 1000 >= said["escapes avoided"]  # type: ignore[operator]


COST_FIELDS = ("escape_micros", "false_alarm_micros", "minute_micros", "inference_micros", "fixed_micros_per_day", "inspection_ms")


@settings(deadline=None, max_examples=120)
@given(claims=claimed(), costs=sites(), name=st.sampled_from([*COST_FIELDS, "missed_ppm", "person_alarm_ppm"]), more=st.integers(1, 10**6))
def test_what_it_costs_grows_with_each_cost(claims: Claims, costs: SiteCosts, name: str, more: int) -> None:
    dearer = msgspec.structs.replace(costs, **{name: min(getattr(costs, name) + more, PPM if name.endswith("ppm") else 10**12)})
    before, after = worth(claims, costs), worth(claims, dearer)
    assert value(after, "price per part with the model") >= value(before, "price per part with the model")  # type: ignore[operator]
    assert value(after, "price per part today") >= value(before, "price per part today")  # type: ignore[operator]
    if name in ("inference_micros", "fixed_micros_per_day"):
        assert value(after, "saved") <= value(before, "saved")  # type: ignore[operator]


@settings(deadline=None, max_examples=120)
@given(claims=claimed(), costs=sites(), name=st.sampled_from(["recall_bound_ppm", "specificity_bound_ppm", "error_bound_ppm"]), by=SHARE)
def test_a_better_bound_never_says_worse(claims: Claims, costs: SiteCosts, name: str, by: int) -> None:
    step = -by if name == "error_bound_ppm" else by
    better = msgspec.structs.replace(claims, **{name: max(0, min(PPM, getattr(claims, name) + step))})
    before, after = worth(claims, costs), worth(better, costs)
    for figure in ("saved", "escapes avoided"):
        assert value(after, figure) >= value(before, figure)  # type: ignore[operator]
    for figure in ("escapes with the model", "false alarms with the model", "price per part with the model"):
        assert value(after, figure) <= value(before, figure)  # type: ignore[operator]


def test_a_case_that_can_be_checked_by_hand() -> None:
    """Other mix, half answered: 400 defects; 12 % of answered ones missed at most, a person misses 15 %: worst when none is answered."""
    costs = msgspec.structs.replace(COSTS, mix="other", answered_ppm=500_000)
    found = worth(CLAIMS, costs)
    assert value(found, "escapes today") == 60_000 and value(found, "escapes with the model") == 60_000
    assert value(found, "escapes avoided") == 0
    assert value(found, "re-inspection with the model") == 10_000 * 15
    assert value(found, "inspection today") == 20_000 * 15
    assert value(found, "false alarms with the model") == (19_600 * 50_000 // 1000) + 100_000
    today = 60 * 40_000_000 + 196 * 1_500_000 + 20_000 * 150_000
    with_model = 60 * 40_000_000 + (980 + 100) * 1_500_000 + 10_000 * 150_000 + 20_000 * 2_000 + 25_000_000
    assert value(found, "price per part today") == -(-today // 20_000)
    assert value(found, "price per part with the model") == -(-with_model // 20_000)
    assert value(found, "saved") == today - with_model
    assert value(found, "break-even price per inference") == (today - with_model + 40_000_000) // 20_000
    margin = Fraction(today - with_model + 25_000_000, 20_000)
    assert value(found, "break-even volume") == -(-25_000_000 // margin)
    assert value(found, "pay-back of the set-up") == -(-6_000_000_000 // (today - with_model))
    assert ERROR not in found.bounds and found.together_ppm == 900_000
    assert all(ERROR not in line.rests_on and ANSWERED not in line.rests_on for line in found.lines)
    assert OWN_SHARE in next(line for line in found.lines if line.name == "saved").rests_on


def test_no_saving_has_no_break_even_and_says_so() -> None:
    found = worth(CLAIMS, msgspec.structs.replace(COSTS, escape_micros=0, minute_micros=0, inference_micros=10**9))
    for name in ("break-even volume", "pay-back of the set-up"):
        line = next(line for line in found.lines if line.name == name)
        assert line.value is None and "there is none" in line.why
    assert value(found, "saved") < 0 and value(found, "break-even price per inference") is not None  # type: ignore[operator]


def test_a_model_that_answers_nothing_is_worth_no_more_than_a_person() -> None:
    nothing = msgspec.structs.replace(CLAIMS, answered=0, error_bound_ppm=PPM, recall_bound_ppm=0, specificity_bound_ppm=0)
    found = worth(nothing, COSTS)
    assert value(found, "escapes avoided") <= 0 and value(found, "saved") < 0  # type: ignore[operator]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"parts_per_day": 0}, "parts a day"),
        ({"defect_ppm": PPM + 1}, "defect_ppm"),
        ({"escape_micros": -1}, "escape_micros"),
        ({"currency": "euro"}, "currency"),
        ({"answered_ppm": 3}, "mix is as-certified"),
        ({"mix": "other"}, "mix is other"),
        ({"inspection_ms": -5}, "inspection_ms"),
    ],
)
def test_figures_that_cannot_be_are_refused(change: dict[str, Any], word: str) -> None:
    with pytest.raises(InputError, match=word):
        worth(CLAIMS, msgspec.structs.replace(COSTS, **change))


# As people write them.


def written(path: Path, **changes: str | None) -> Path:
    lines = {name: figure.example for name, figure in FIGURES.items()} | changes
    path.write_text("".join(f"{name}: {text}\n" for name, text in lines.items() if text is not None), encoding="utf-8")
    return path


def test_the_example_is_a_file_that_works(tmp_path: Path) -> None:
    (tmp_path / "costs.yaml").write_text(example(), encoding="utf-8")
    assert read_costs(tmp_path / "costs.yaml", {}) == COSTS
    assert read_costs(None, {name: figure.example for name, figure in FIGURES.items()}) == COSTS
    assert read_costs(written(tmp_path / "c.yaml"), {"escape_cost": "41"}).escape_micros == 41_000_000


def test_all_that_is_missing_is_asked_for_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError) as told:
        read_costs(written(tmp_path / "c.yaml", escape_cost=None, mix=None, setup_cost=""), {})
    assert all(name in told.value.message for name in ("escape_cost", "mix", "setup_cost")) and "minute_cost" not in told.value.message
    assert "escape_cost: 40.00" in told.value.next_step and "\n" not in told.value.next_step


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"escape_costs": "3"}, "did you mean escape_cost"),
        ({"escape_cost": "forty"}, "no number"),
        ({"escape_cost": "0.0000001"}, "finer"),
        ({"escape_cost": "-3"}, "below 0"),
        ({"escape_cost": "3 %"}, "no share"),
        ({"defect_share": "120 %"}, "shares lie between"),
        ({"defect_share": "nan"}, "defect_share"),
        ({"parts_per_day": "1.5"}, "finer"),
        ({"parts_per_day": "1e999999"}, "parts_per_day"),
        ({"mix": "perhaps"}, "as-certified or other"),
        ({"escape_cost": "[1, 2]"}, "not a list"),
        ({"answered_share": "40 %"}, "leave it out"),
    ],
)
def test_what_is_written_wrongly_is_named(tmp_path: Path, changes: dict[str, str], word: str) -> None:
    with pytest.raises(InputError) as told:
        read_costs(written(tmp_path / "c.yaml", **changes), {})
    assert word in str(told.value)


def test_shares_and_money_are_exact(tmp_path: Path) -> None:
    found = read_costs(written(tmp_path / "c.yaml", defect_share="0.3 %", inference_price="0.000001", missed_share="0.15"), {})
    assert (found.defect_ppm, found.inference_micros, found.missed_ppm) == (3_000, 1, 150_000)


def test_bounds_of_the_answered_share_contain_it() -> None:
    found = worth_bounds(CLAIMS, COSTS)
    assert found[ANSWERED] < CLAIMS.answered_ppm < found[ANSWERED_MOST]
    assert (found[RECALL], found[SPECIFICITY]) == (CLAIMS.recall_bound_ppm, CLAIMS.specificity_bound_ppm)
    day = day_of(COSTS, found)
    assert replace(day, wrong=Fraction(0)).escapes() == day.defects * day.missed
