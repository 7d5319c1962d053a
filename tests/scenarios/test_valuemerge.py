"""A site's values from one package version to the next: nothing is lost or bent without a word."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.scenarios.located import Document
from isthmus.scenarios.valuemerge import merged_values, same
from isthmus.scenarios.values import Knob, given_faults

PRICE, DAYS, CURRENCY = ("serve", "micros_per_inference"), ("certify", "validity_days"), ("serve", "currency")


def knob(name: str, path: tuple[str, ...] = PRICE, default: Any = 2000, **limits: Any) -> Knob:
    kind = "string" if isinstance(default, str) else "integer"
    return Knob(name, name, path, default, {"type": kind, **limits})


def fates(old: list[Knob], values: dict[str, Any], new: list[Knob]) -> tuple[dict[str, Any], list[str], list[str], list[str]]:
    found = merged_values(old, values, new)
    return found.values, *([note.sentence for note in notes] for notes in (found.kept, found.dropped, found.conflicts))


@pytest.mark.parametrize(
    ("old", "value", "new", "values", "fate", "said"),
    [
        (knob("price"), 1500, knob("price"), {"price": 1500}, "kept", "1500 is kept"),
        (knob("price"), 1500, knob("price", default=3000), {"price": 1500}, "kept", "also beside the new default 3000 (was 2000)"),
        (knob("price"), 2000, knob("price"), {"price": 2000}, "kept", "2000 is kept"),
        (knob("price"), 2000, knob("price", default=3000), {}, "dropped", "left it at the default, which is 3000 now and was 2000"),
        (knob("price"), 1500, knob("fee"), {"fee": 1500}, "kept", "price is called fee now"),
        (knob("price"), 1500, knob("fee", minimum=1600), {}, "conflict", "below the least that is allowed; write 1600 or more"),
        (knob("price"), 9000, knob("price", maximum=5000), {}, "conflict", "write 5000 or less"),
        (knob("price"), 1500, knob("price", DAYS, 90), {}, "conflict", "was serve.micros_per_inference and is certify.validity_days now"),
        (knob("price"), 1500, knob("days", DAYS, 90), {}, "conflict", "no knob sets serve.micros_per_inference any more"),
        (knob("price"), 2000, knob("days", DAYS, 90), {}, "dropped", "is no knob any more"),
        (knob("days", DAYS, 90), 1500, knob("days", DAYS, "90"), {}, "conflict", "string is expected"),
    ],
)
def test_each_way_a_knob_can_go(old: Knob, value: Any, new: Knob, values: dict[str, Any], fate: str, said: str) -> None:
    found, kept, dropped, conflicts = fates([old], {old.name: value}, [new])
    assert found == values
    assert {"kept": kept, "dropped": dropped, "conflict": conflicts}[fate][0].count(said) == 1
    assert len(kept) + len(dropped) + len(conflicts) == 1


def test_two_knobs_that_swap_names_keep_their_fields() -> None:
    old, new = [knob("a", PRICE), knob("b", DAYS, 90)], [knob("b", PRICE), knob("a", DAYS, 90)]
    assert fates(old, {"a": 1, "b": 2}, new)[0] == {"b": 1, "a": 2}


def test_a_value_that_never_had_a_knob_is_told() -> None:
    assert "the old package has no knob prize" in fates([knob("price")], {"prize": 1}, [knob("price")])[3][0]


def test_one_is_not_true() -> None:
    assert same([1, 2], [1, 2]) and not same(1, True) and not same(1, 1.0) and not same([1], [True]) and not same([1], [1, 1])


NAMES, PATHS = ["a", "b", "c", "d"], [PRICE, DAYS, CURRENCY, ("serve", "sample_requests")]
numbers = st.integers(-20, 20)


@st.composite
def knobs(draw: st.DrawFn) -> list[Knob]:
    """Knobs of different names and fields, each with a default within its limits."""
    count = draw(st.integers(0, 4))
    names, paths = draw(st.permutations(NAMES))[:count], draw(st.permutations(PATHS))[:count]
    found = []
    for name, path in zip(names, paths, strict=True):
        default, limits = draw(numbers), {}
        if draw(st.booleans()):
            limits["minimum"] = default - draw(st.integers(0, 10))
        if draw(st.booleans()):
            limits["maximum"] = default + draw(st.integers(0, 10))
        found.append(knob(name, path, default, **limits))
    return found


def valid(given_knobs: list[Knob], values: dict[str, Any]) -> bool:
    return not list(given_faults(Document("values", dict(values)), tuple(given_knobs)))


@st.composite
def sites(draw: st.DrawFn, of: list[Knob]) -> dict[str, Any]:
    values = {one.name: draw(st.one_of(st.just(one.default), numbers)) for one in of if draw(st.booleans())}
    return {name: value for name, value in values.items() if valid(of, {name: value})}


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_whatever_changes_each_value_has_one_fate_and_the_result_is_valid(data: st.DataObject) -> None:
    old, new = data.draw(knobs()), data.draw(knobs())
    values = data.draw(sites(old))
    found = merged_values(old, values, new)
    told = [note.knob for notes in (found.kept, found.dropped, found.conflicts) for note in notes]
    assert sorted(told) == sorted(values)
    assert valid(new, found.values)
    assert all(note.sentence for notes in (found.kept, found.dropped, found.conflicts) for note in notes)
    paths = {one.name: one.path for one in old}
    after = {one.name: one for one in new}
    for note in found.kept:
        assert same(found.values[note.to], values[note.knob]) and after[note.to].path == paths[note.knob], "to the same field"
    for note in found.dropped:
        assert same(values[note.knob], next(one.default for one in old if one.name == note.knob)), "only what was left at its default"


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_an_unchanged_package_changes_nothing(data: st.DataObject) -> None:
    old = data.draw(knobs())
    values = data.draw(sites(old))
    found = merged_values(old, values, old)
    assert found.values == values and not found.dropped and not found.conflicts


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_merge_of_the_merged_is_the_same(data: st.DataObject) -> None:
    old, new = data.draw(knobs()), data.draw(knobs())
    found = merged_values(old, data.draw(sites(old)), new)
    assert merged_values(new, found.values, new).values == found.values
