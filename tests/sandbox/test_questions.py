"""Questions to three owners' tables: what is told is the pooled answer, and no sequence of questions isolates a few records."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.sandbox.question_world import CLINICS, Clinics, lines


@pytest.fixture
def clinics(tmp_path: Path) -> Clinics:
    return Clinics(tmp_path).fill({name: lines(place, 150 + 30 * place) for place, name in enumerate(CLINICS)})


QUESTIONS = (
    ("SELECT count(*), avg(age), sum(shift), count(chol) FROM clinic", "SELECT count(*), avg(age), sum(shift), count(chol) FROM clinic"),
    (
        "SELECT sex, avg(chol), stddev(chol), var_pop(age) FROM clinic GROUP BY sex",
        "SELECT sex, avg(chol), stddev(chol), var_pop(age) FROM clinic GROUP BY sex ORDER BY sex",
    ),
    (
        "SELECT count(*), avg(age) FROM clinic WHERE (age BETWEEN 40 AND 60 OR shift > 1.5) AND NOT (sex = 'Male') GROUP BY label",
        "SELECT label, count(*), avg(age) FROM clinic WHERE (age BETWEEN 40 AND 60 OR shift > 1.5) AND NOT (sex = 'Male')"
        " GROUP BY label ORDER BY label DESC",
    ),
)


@pytest.mark.parametrize(("asked", "pooled"), QUESTIONS)
def test_an_exact_answer_is_the_pooled_one(clinics: Clinics, asked: str, pooled: str) -> None:
    found = clinics.ask(asked)
    assert found.phase == "done" and found.owners == CLINICS, found
    expected = clinics.pooled(pooled)
    assert len(found.rows) == len(expected)
    for row, line in zip(found.rows, expected, strict=True):
        assert row.shown and row.withheld == 0
        wanted = [float(value) for value in line[len(found.groups) :]]
        assert [told.value for told in row.told] == pytest.approx(wanted, rel=1e-12)
        assert all(told.low == told.value == told.high for told in row.told)


def test_small(clinics: Clinics) -> None:
    found = clinics.ask("SELECT count(*), median(age) FROM clinic GROUP BY pain, bins(age, 7)")
    print(found.phase, found.reason, found.refusals)
    for row in found.rows:
        print(row)
    print({n: o.refusals() for n, o in clinics.owners.items()})
