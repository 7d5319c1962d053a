"""Typed columns: what a schema may say, and how fields become numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.contracts.errors import InputError
from isthmus.contracts.schema import Column, Schema, checked_record, checked_schema, row_of, value_of

HEAT = Column(name="heat", unit="degC", low=0.0, high=100.0)
STATE = Column(name="state", kind="category", levels=("idle", "Running"), missing=True)
SCHEMA = Schema(columns=(HEAT, STATE))


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_a_number_comes_back_from_its_text(value: float) -> None:
    assert value_of(HEAT, repr(value)) == value


@given(st.text(max_size=12))
def test_any_text_is_a_level_missing_or_a_refusal(text: str) -> None:
    try:
        found = value_of(STATE, text)
    except InputError as error:
        assert "idle, Running" in error.next_step
        return
    assert math.isnan(found) or found in (0.0, 1.0)


def test_levels_are_found_whatever_their_case_and_what_is_missing_is_nan() -> None:
    row = row_of(SCHEMA, {"heat": "21.5", "state": " RUNNING ", "other": "not read"})
    assert row.dtype == np.float32 and row.tolist() == [21.5, 1.0]
    assert np.isnan(row_of(SCHEMA, {"heat": "1"})[1])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"state": "idle"}, "no column heat"),
        ({"heat": "", "state": "idle"}, "heat is empty"),
        ({"heat": "21,5"}, "no number"),
        ({"heat": "inf"}, "no finite number"),
        ({"heat": "1e39"}, "no finite number"),
        ({"heat": "1", "state": "off"}, "state is 'off'"),
    ],
)
def test_what_a_row_lacks_is_said(fields: dict[str, str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        row_of(SCHEMA, fields)


@pytest.mark.parametrize(
    ("columns", "steps", "said"),
    [
        ((), 1, "0 columns"),
        ((HEAT, HEAT), 1, "declared twice"),
        ((HEAT,), 0, "0 steps"),
        ((Column(name="Heat", low=0, high=1),), 1, "cannot be used"),
        ((Column(name="heat"),), 1, "no range"),
        ((Column(name="heat", low=0, high=1, log=True),), 1, "logarithmic"),
        ((Column(name="heat", low=0, high=1, levels=("a", "b")),), 1, "number with levels"),
        ((Column(name="state", kind="category", levels=("a",)),), 1, "levels"),
        ((Column(name="state", kind="category", levels=("a", "A")),), 1, "levels"),
        ((Column(name="state", kind="category", levels=("a", "b"), unit="m"),), 1, "range or unit"),
    ],
)
def test_a_schema_that_cannot_be_read_by_is_refused(columns: tuple[Column, ...], steps: int, said: str) -> None:
    with pytest.raises(InputError, match=said):
        checked_schema(Schema(columns=columns, steps=steps))


@pytest.mark.parametrize(("row", "said"), [([np.inf, 0], "infinite"), ([np.nan, 0], "missing"), ([1, 2], "levels"), ([1, 0.5], "levels")])
def test_numbers_that_no_field_could_give_are_refused(row: list[float], said: str) -> None:
    checked_record(SCHEMA, np.array([1.0, np.nan], dtype=np.float32))
    with pytest.raises(InputError, match=said):
        checked_record(SCHEMA, np.array(row, dtype=np.float32))
