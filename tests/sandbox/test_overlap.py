from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.sandbox.overlap import isolates_one, reveals


def roster(*names: str) -> frozenset[tuple[str, str]]:
    return frozenset((name.split("@")[0], name) for name in names)


def test_small_rosters_show_one_owner_to_the_other() -> None:
    assert isolates_one([roster("a")]) == ("a", "a")
    assert isolates_one([roster("a", "b")]) is not None
    assert isolates_one([roster("a", "b", "c")]) is None


def test_pairs_that_are_too_close() -> None:
    first = roster("a", "b", "c", "d", "e")
    for second in (
        roster("a", "b", "c", "d"),
        roster("a", "b", "c", "d", "f"),
        roster("a", "b", "c", "d", "e", "f"),
        roster("a@2", "b", "c", "d", "e"),
    ):
        assert reveals([first], second, 2) is not None
    assert reveals([first], first, 2) is None
    assert reveals([first], roster("a", "b", "c"), 2) is None
    assert reveals([first], roster("v", "w", "x"), 2) is None


def test_one_leaver_and_the_exchange_together_need_three() -> None:
    first, second = roster("a", "b", "c", "d", "e"), roster("a", "b", "c")
    assert reveals([first], second, 2) is None and reveals([first], second, 3) is not None
    assert reveals([roster("a", "b", "c", "d", "e", "f")], second, 3) is None


def test_rosters_that_only_together_isolate() -> None:
    """abcd + abef - abcdef = ab: each pair of rosters differs by two, all three show b to a."""
    rosters = [roster(*"abcdef"), roster(*"abcd"), roster(*"abef")]
    for one, other in itertools.combinations(rosters, 2):
        assert reveals([one], other, 2) is None or not one & other
    assert reveals(rosters[:2], rosters[2], 2) is not None


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sets(st.sampled_from("abcdef"), min_size=3), min_size=1, max_size=4), st.permutations("abcdef"))
def test_verdict_does_not_depend_on_names_or_order(sets: list[set[str]], names: list[str]) -> None:
    renamed = dict(zip("abcdef", names, strict=True))
    plain = [roster(*s) for s in sets]
    other = [roster(*(renamed[n] for n in s)) for s in reversed(sets)]
    assert (isolates_one(plain) is None) == (isolates_one(other) is None)


@settings(max_examples=60, deadline=None)
@given(st.sets(st.sampled_from("abcdefgh"), min_size=4), st.data())
def test_one_leaver_is_always_refused(names: set[str], data: st.DataObject) -> None:
    leaver = data.draw(st.sampled_from(sorted(names)))
    assert reveals([roster(*names)], roster(*(names - {leaver})), 2) is not None
