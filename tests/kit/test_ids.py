"""Ids sort by time and do not repeat; slugs are checked."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.contracts.errors import InputError
from isthmus.kit.clock import SetClock, SystemClock
from isthmus.kit.ids import new_id, slug


@given(st.floats(0, 4e9), st.floats(0.002, 1e6))
def test_ids_sort_by_time(at_s: float, later_s: float) -> None:
    assert new_id("job", at_s) < new_id("job", at_s + later_s)


def test_ids_of_one_moment_differ() -> None:
    made = {new_id("req", 1_800_000_000.0) for _ in range(2_000)}
    assert len(made) == 2_000
    assert all(re.fullmatch(r"req_[0-9a-f]{28}", one) for one in made)


@given(st.from_regex(r"[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?", fullmatch=True))
def test_slugs_pass(value: str) -> None:
    assert slug(value, "site") == value


@pytest.mark.parametrize("value", ["", "-a", "a-", "A", "line 4", "line_4", "a/b", "..", "ä", "a" * 65, "a\n", "线"])
def test_what_is_no_slug_is_refused(value: str) -> None:
    with pytest.raises(InputError, match="site"):
        slug(value, "site")


def test_clocks() -> None:
    clock = SetClock(5.0)
    clock.advance(2.5)
    assert (clock.now_s(), clock.monotonic_s()) == (7.5, 7.5)
    real = SystemClock()
    assert real.now_s() > 1_700_000_000 and real.monotonic_s() <= real.monotonic_s()
