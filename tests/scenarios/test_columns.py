"""Columns proposed from a table: what is a number, what is a level, what is left out, and that a package begun with them validates."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.contracts.errors import FolderError, InputError
from isthmus.contracts.schema import Column, Schema, checked_schema, row_of
from isthmus.scenarios.columns import _range, proposed_columns
from isthmus.scenarios.validation import validate
from isthmus.scenarios.workbench import begin

TABLE = "label,heat,state,serial,Flow Rate,always,torque\n" + "".join(
    f"{'good' if n % 2 else 'defect'},{20 + n / 3:.2f},{('Idle', 'running', 'idle')[n % 3]},s{n},{n},1,{0.001 * 3**n:.6g}\n"
    if n != 4
    else f"good,{20 + n / 3:.2f},idle,s{n},{n},1,\n"
    for n in range(80)
)


def test_kinds_ranges_and_what_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "records.csv").write_text(TABLE, encoding="utf-8")
    found = proposed_columns(tmp_path)
    columns = {column.name: column for column in found.columns}
    assert set(columns) == {"heat", "state", "torque"} and found.records == 80
    assert (columns["heat"].low, columns["heat"].high) == (20.0, 50.0) and not columns["heat"].missing
    assert columns["state"].levels == ("Idle", "running")
    assert columns["torque"].log and columns["torque"].missing
    assert set(found.left_out) == {"serial", "flow rate", "always"}
    row_of(Schema(columns=found.columns), {"heat": "30", "state": "RUNNING"})


def test_a_package_begun_from_a_table_validates_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "records.csv").write_text(TABLE, encoding="utf-8")
    begin(tmp_path / "pumps", "pumps", "", tmp_path)
    assert validate(tmp_path / "pumps") == ()
    assert "left out: its name must be" in (tmp_path / "pumps" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("text", ["label\ngood\n", "label,a\ngood,1\ndefect,1\n"])
def test_a_table_without_anything_to_see_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "records.csv").write_text(text, encoding="utf-8")
    with pytest.raises(FolderError, match="no column that a model could see"):
        proposed_columns(tmp_path)


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_a_proposed_range_holds_what_it_came_from(least: float, span: float) -> None:
    low, high, log = _range(least, least + span)
    checked_schema(Schema(columns=(Column(name="x", low=low, high=high, log=log),)))
    room = 1e-4 * max(abs(least), abs(least + span), span)
    assert low <= least + room and high >= least + span - room


def test_what_says_the_answer_is_no_column() -> None:
    with pytest.raises(InputError, match="no model may see"):
        checked_schema(Schema(columns=(Column(name="label", low=0, high=1),)))
