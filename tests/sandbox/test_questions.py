"""Questions to three owners' tables: what is told is the pooled answer, its bounds hold, and who refused is named with its clause."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from isthmus.contracts.agreement import PrivacyTerms
from isthmus.contracts.answer import Told
from isthmus.contracts.errors import InputError, NotFoundError
from isthmus.contracts.schema import Column, Schema
from isthmus.sandbox.duckrows import DuckRows
from isthmus.sandbox.outlog import undeclared, verify_log
from isthmus.sandbox.statistics import question
from tests.sandbox.question_world import CLINICS, SCHEMA, Clinics, DuckHere, lines


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(question, "DuckRows", DuckHere)


def filled(root: Path, sizes: tuple[int, ...] = (150, 180, 210), **terms: Any) -> Clinics:
    return Clinics(root).fill({name: lines(place, size) for place, (name, size) in enumerate(zip(CLINICS, sizes, strict=True))}, **terms)


@pytest.fixture
def clinics(tmp_path: Path) -> Iterator[Clinics]:
    yield filled(tmp_path)


EXACT = (
    "SELECT {} count(*), avg(age), sum(shift), count(chol) FROM clinic",
    "SELECT {sex,} avg(chol), stddev(chol), var_pop(age) FROM clinic GROUP BY sex",
    "SELECT {label,} count(*), avg(age) FROM clinic WHERE (age BETWEEN 40 AND 60 OR shift > 1.5) AND NOT (sex = 'Male') GROUP BY label",
    "SELECT {} count(*), sum(chol) FROM clinic WHERE pain IN ('some', 'much') OR chol IS NULL",
)


@pytest.mark.parametrize("text", EXACT)
def test_an_exact_answer_is_the_pooled_one(clinics: Clinics, text: str) -> None:
    before, _, rest = text.partition("{")
    group, _, after = rest.partition("}")
    found = clinics.ask(before + after)
    assert found.phase == "done" and found.owners == CLINICS, found
    expected = clinics.pooled(before + group + after + (f" ORDER BY 1 {'DESC' if 'label' in group else ''}" if group else ""))
    assert len(found.rows) == len(expected)
    for row, line in zip(found.rows, expected, strict=True):
        assert row.shown and row.withheld == 0
        wanted = [float(value) for value in line[len(found.groups) :]]
        assert [told.value for told in row.told] == pytest.approx(wanted, rel=1e-12)
        assert all(told.low == told.value == told.high for told in row.told)


def test_the_process_beside_the_data_gives_the_same(clinics: Clinics, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(question, "DuckRows", DuckRows)
    found = clinics.ask("SELECT count(*), avg(age) FROM clinic WHERE shift < 2 GROUP BY sex")
    expected = clinics.pooled("SELECT sex, count(*), avg(age) FROM clinic WHERE shift < 2 GROUP BY sex ORDER BY 1")
    assert [[told.value for told in row.told] for row in found.rows] == [pytest.approx([float(v) for v in line[1:]]) for line in expected]
    for owner in clinics.owners.values():
        entries = verify_log(owner.log, owner.home.key.public_hex)
        assert undeclared(entries) == [] and [e.statistic for e in entries if e.kind == "vector"] == ["query/1"]


def within(told: Told, truth: float | None) -> bool:
    if truth is None or told.value is None:
        return True
    slack = 1e-9 * (1 + abs(truth))
    return (told.low is None or told.low - slack <= truth) and (told.high is None or truth <= told.high + slack)


RISKY = (
    "count(*), avg(age), sum(shift) FROM clinic GROUP BY pain",
    "count(*), avg(chol), sum(chol), sum(shift) FROM clinic GROUP BY bins(age, 7)",
    "count(chol), quantile_bins(shift, 0.5, 6), quantile_bins(shift, 0.1, 6) FROM clinic GROUP BY sex",
    "count(*), avg(age), stddev(age) FROM clinic GROUP BY sex, pain",
    "count(*) FROM clinic WHERE chol > 300 GROUP BY label",
)


def test_the_bounds_hold_for_what_owners_left_out(tmp_path: Path) -> None:
    clinics = filled(tmp_path, (130, 200, 420), least_group_size=8)
    left = shown = 0
    for text in RISKY:
        found = clinics.ask(f"SELECT {text}")
        assert found.phase == "done", found
        truth = _truth(clinics, text)
        for row in found.rows:
            line = truth.get(row.groups, (0,) + (None,) * (len(found.names) - 1))
            left, shown = left + (row.withheld > 0), shown + row.shown
            assert all(within(told, None if value is None else float(value)) for told, value in zip(row.told, line, strict=bool(row.told)))
            assert not row.shown or row.told[0].value in (0.0, *range(8, 800)) or row.withheld or "chol" in text
    assert left > 3 and shown > 10


def _truth(clinics: Clinics, text: str) -> dict[tuple[str, ...], tuple[Any, ...]]:
    """groups -> numbers, by pooled DuckDB."""
    before, _, grouped = text.partition(" GROUP BY ")
    groups = [one.strip() for one in grouped.replace("bins(age, 7)", "age_bin").split(",") if one.strip()]
    columns = {"age_bin": "least(floor((age - 20) / 10), 6)", **{name: f"coalesce({name}, 'missing')" for name in ("sex", "pain", "label")}}
    before = before.replace("quantile_bins(shift, 0.5, 6)", "quantile_cont(shift, 0.5)").replace(
        "quantile_bins(shift, 0.1, 6)", "quantile_cont(shift, 0.1)"
    )
    named = ", ".join(columns[one] for one in groups)
    found = clinics.pooled(f"SELECT {named}{', ' if named else ''}{before}" + (f" GROUP BY {named}" if named else ""))

    def name(value: Any) -> str:
        return value if isinstance(value, str) else f"{20 + 10 * int(value)} to {30 + 10 * int(value)}"

    return {tuple(name(value) for value in line[: len(groups)]): line[len(groups) :] for line in found}


def test_an_owner_that_refuses_is_named_and_the_others_answer(tmp_path: Path) -> None:
    rows = {name: lines(place, 200) for place, name in enumerate(("alfa", "bravo", "carol", "delta"))}
    clinics = Clinics(tmp_path).fill(rows)
    home = clinics.owners["delta"].home
    other = Schema(columns=(*SCHEMA.columns[:-1], Column(name="shift", low=-3, high=6)))
    home.store.put_fact("schema", msgspec.json.encode(other))
    clinics.owners["delta"] = clinics.owner(home)
    found = clinics.ask("SELECT count(*) FROM clinic")
    assert found.phase == "done" and found.owners == ("alfa", "bravo", "carol") and found.rows[0].told[0].value == 600
    assert [(one.party, one.clause) for one in found.refusals] == [("delta", "columns")]


@pytest.mark.parametrize(
    ("terms", "fields", "clause"),
    [
        ({"operations": ("moments/1",)}, {}, "operation"),
        ({}, {"purpose": "marketing", "owners": CLINICS}, "purpose"),
        ({"expires_at_s": 1}, {}, "expiry"),
        ({"privacy": PrivacyTerms(epsilon=1.0, delta=1e-5)}, {}, "privacy-budget"),
        ({"privacy": PrivacyTerms(epsilon=0.01, delta=1e-5)}, {"epsilon": 0.5}, "privacy-budget"),
        ({"dimension_records_min_ratio": 400}, {}, "dimension"),
        ({"runs_max": 1}, {"first": True}, "runs"),
    ],
)
def test_a_refusal_says_which_clause_of_which_owner(tmp_path: Path, terms: Any, fields: dict[str, Any], clause: str) -> None:
    clinics = filled(tmp_path, issued_at_s=0, **terms)
    if fields.pop("first", False):
        assert clinics.ask("SELECT count(*) FROM clinic").phase == "done"
    found = clinics.ask("SELECT avg(age) FROM clinic", **fields)
    assert found.phase == "refused" and found.rows == () and found.reason
    assert {one.clause for one in found.refusals} == {clause} and found.refusals[0].party in CLINICS


def test_what_cannot_be_asked_is_told_at_once(clinics: Clinics) -> None:
    with pytest.raises(NotFoundError):
        clinics.questions.ask(clinics.request("SELECT count(*) FROM clinic", owners=("nobody",)))
    for epsilon in (-1.0, 1e9, float("nan")):
        with pytest.raises(InputError):
            clinics.questions.ask(clinics.request("SELECT count(*) FROM clinic", epsilon=epsilon))


# With a privacy budget.


def noisy(root: Path, epsilon: float = 50.0, **terms: Any) -> Clinics:
    return filled(root, privacy=PrivacyTerms(epsilon=epsilon, delta=1e-5), **terms)


def test_noise_is_as_large_as_was_said_and_its_bounds_hold(tmp_path: Path) -> None:
    clinics = noisy(tmp_path)
    text = "SELECT count(*), sum(age), avg(shift) FROM clinic GROUP BY bins(chol, 60)"
    preview = clinics.ask(text, epsilon=1.0, preview=True).preview
    assert preview is not None and preview.cells == 61 and preview.bytes_each == 8 * 61 * 5
    errors = {(one.kind, one.column): one.error for one in preview.noise}
    found = clinics.ask(text, epsilon=1.0)
    counted = _counts(clinics)
    exact = np.array([counted.get(row.groups[0], 0) for row in found.rows])
    total = clinics.service.job(found.job).total.array()
    assert not total[: 2 * 61].any()  # nothing is left out by true counts
    counts = total[2 * 61 : 3 * 61]
    misses = counts - exact
    assert 0.75 * errors["rows", ""] < 1.96 * np.std(misses) < 1.25 * errors["rows", ""]
    assert np.mean(np.abs(misses) <= errors["rows", ""]) > 0.85
    assert all(row.shown == (count >= 5) for row, count in zip(found.rows, counts, strict=True))


def _counts(clinics: Clinics) -> dict[str, int]:
    rows = clinics.pooled(
        "SELECT CASE WHEN chol IS NOT NULL THEN least(floor((chol - 100) / 500 * 60), 59) END AS b, count(*) FROM clinic GROUP BY b"
    )
    edges = [100 + 500 * place / 60 for place in range(61)]
    return {"missing" if b is None else f"{edges[int(b)]:.6g} to {edges[int(b) + 1]:.6g}": n for b, n in rows}


def test_the_same_question_gets_the_same_noise_and_a_new_one_is_paid_for(tmp_path: Path) -> None:
    clinics = noisy(tmp_path, epsilon=1.0)
    text = "SELECT count(*), avg(age) FROM clinic"
    first = clinics.ask(text, epsilon=0.5)
    assert clinics.ask(text, epsilon=0.5) == first
    spent = {name: owner.home.store.privacy.spent_nanos(name) for name, owner in clinics.owners.items()}
    for name in CLINICS:
        clinics.restart_clinic(name)
    assert clinics.ask(text, epsilon=0.5) == first
    assert {name: clinics.owners[name].home.store.privacy.spent_nanos(name) for name in CLINICS} == spent
    cost = clinics.ask("SELECT sum(age) FROM clinic", epsilon=0.5, preview=True).preview.costs[0]
    assert cost.epsilon == pytest.approx(0.5, abs=0.02) and 0.5 < cost.epsilon_after < 1.0 == cost.epsilon_total
    assert clinics.ask("SELECT sum(age) FROM clinic", epsilon=0.5).phase == "done"
    for text in ("SELECT avg(shift) FROM clinic", "SELECT avg(chol) FROM clinic", "SELECT count(chol) FROM clinic"):
        over = clinics.ask(text, epsilon=0.5)
    assert over.phase == "refused" and over.refusals[0].clause == "privacy-budget"
