"""Attacks on questions: trees that an exchange made up, statements that reach for files, and questions whose difference is a person."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.contracts.errors import InputError, RefusedError
from isthmus.contracts.job import JOB_TYPE, NodeTask
from isthmus.contracts.question import QUESTION, UNITS_MAX, in_units, span_of
from isthmus.contracts.schema import Column
from isthmus.kit.canonical import canonical_bytes
from isthmus.kit.signing import Envelope, payload_of, seal
from isthmus.sandbox.askedbook import QUESTIONS_MAX
from isthmus.sandbox.atoms import OUTSIDE, Family, answerable, following
from isthmus.sandbox.duckrows import DuckRows
from isthmus.sandbox.duckworker import opened
from isthmus.sandbox.statistics import question
from isthmus.sandbox.statistics.question import table_stage
from isthmus.sandbox.statistics.registry import parsed_params
from tests.sandbox.question_world import CLINICS, SCHEMA, Clinics, DuckHere, lines

AGE = {"type": "compare", "column": "age", "operator": ">", "value": 40}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(question, "DuckRows", DuckHere)


def nested(depth: int) -> dict[str, Any]:
    found: dict[str, Any] = AGE
    for _ in range(depth):
        found = {"type": "negated", "part": found}
    return found


def group(column: str, count: int = 0) -> dict[str, Any]:
    return {"type": "bins", "column": column, "count": count} if count else {"type": "levels", "column": column}


TREES: tuple[dict[str, Any], ...] = (
    {"sql": "SELECT 1"},
    {"where": "age > 40"},
    {"where": {"type": "raw", "sql": "1=1"}},
    {"where": {**AGE, "column": "age) OR 1=1 --"}},
    {"where": {**AGE, "column": "read_csv('/etc/passwd')"}},
    {"where": {**AGE, "column": "c0"}},
    {"where": {**AGE, "column": "place"}},
    {"where": {**AGE, "operator": "LIKE"}},
    {"where": {**AGE, "operator": "> 1 OR"}},
    {"where": {**AGE, "value": "40"}},
    {"where": {**AGE, "value": None}},
    {"where": {**AGE, "value": [40]}},
    {"where": {**AGE, "value": {"type": "compare"}}},
    {"where": {**AGE, "column": "sex", "value": 1}},
    {"where": {**AGE, "column": "sex", "operator": "=", "value": "M'; DROP TABLE records; --"}},
    {"where": {**AGE, "column": "sex", "operator": "<", "value": "Male"}},
    {"where": {"type": "among", "column": "age", "values": []}},
    {"where": {"type": "among", "column": "age", "values": list(range(1000))}},
    {"where": {"type": "every", "parts": []}},
    {"where": {"type": "every", "parts": [AGE] * 100}},
    {"where": {"type": "missing", "column": "__class__"}},
    {"where": nested(20)},
    {"where": nested(300)},
    {"groups": [group("age")]},
    {"groups": [group("sex", 2)]},
    {"groups": [group("age", 1)]},
    {"groups": [group("age", 10**9)]},
    {"groups": [group("age", -5)]},
    {"groups": [group("sex"), group("sex")]},
    {"groups": [group("age", 64), group("chol", 64), group("shift", 64)]},
    {"groups": [group("records")]},
    {"measures": [{"kind": "min", "column": "age"}]},
    {"measures": [{"kind": "sum", "column": "sex"}]},
    {"measures": [{"kind": "sum", "column": "age", "bins": 4}]},
    {"measures": [{"kind": "histogram", "column": "age", "bins": 100_000}]},
    {"measures": [{"kind": "sum", "column": "age"}, {"kind": "sum", "column": "age"}]},
    {"measures": [{"kind": "sum", "column": "shift"}, {"kind": "sum", "column": "age"}]},
    {"noisy": 2},
    {"least": 1},
)


@pytest.mark.parametrize("params", TREES, ids=range(len(TREES)))
def test_a_tree_that_is_none_is_refused_before_a_record_is_read(params: dict[str, Any]) -> None:
    with pytest.raises(RefusedError) as caught:
        parsed_params(QUESTION, params, table_stage(SCHEMA))
    assert caught.value.clause == "parameters"


def test_a_stage_that_is_not_the_table_is_refused() -> None:
    stage = table_stage(SCHEMA)
    for changed in (msgspec.structs.replace(stage, digest="sha256:" + "0" * 64), msgspec.structs.replace(stage, schema=None)):
        with pytest.raises(RefusedError) as caught:
            parsed_params(QUESTION, {}, changed)
        assert caught.value.clause == "stage"


def test_an_exchange_that_makes_its_own_jobs_gets_no_further(tmp_path: Path) -> None:
    """Jobs signed by the very exchange that the agreement names, with trees that its own checks would not have let pass."""
    clinics = Clinics(tmp_path).fill({name: lines(place, 120) for place, name in enumerate(CLINICS)})
    clinics.questions.ask(clinics.request("SELECT count(*) FROM clinic"))
    honest = msgspec.convert(clinics.service.tasks("alfa")[0].job, Envelope)
    job = msgspec.json.decode(payload_of(honest))
    owner = clinics.owners["alfa"]
    narrow = msgspec.structs.replace(SCHEMA, columns=(Column(name="age", low=53, high=54), *SCHEMA.columns[1:]))
    changes: list[dict[str, Any]] = [{"params": tree} for tree in TREES[:23]]
    changes += [{"stage": msgspec.to_builtins(table_stage(narrow))}, {"scenario": "x", "params": {"where": nested(900)}}]
    for place, change in enumerate(changes):
        fake = seal(clinics.exchange_key, JOB_TYPE, {**job, **change, "run_id": f"r{place}"}) if place < len(changes) - 1 else None
        raw = msgspec.to_builtins(fake) if fake is not None else {**msgspec.to_builtins(honest), "payload": "e30="}
        owner.uplink.tampered = lambda tasks, raw=raw: [NodeTask(phase="countersign", job=raw)]  # type: ignore[misc]
        before = len(owner.events)
        owner.node.step(0)
        assert {event for event, _ in owner.events[before:]} <= {"refused", "task-malformed", "not-taken"}, change
    assert not [path for path, _ in owner.uplink.sent if "/countersign" in path or "/vector" in path]


def test_a_document_that_is_nested_without_end_is_no_document() -> None:
    for depth in (600, 950, 100_000):
        with pytest.raises(Exception, match="not JSON") as caught:
            from_canonical(b'{"a":' * depth + b"1" + b"}" * depth)
        assert caught.type.__name__ == "DocumentError"


def from_canonical(raw: bytes) -> Any:
    from isthmus.kit.canonical import parse_canonical

    return parse_canonical(raw)


REACHING = (
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_blob('/etc/passwd')",
    "SELECT * FROM read_json('/etc/passwd')",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM glob('/etc/*')",
    "SELECT * FROM sniff_csv('/etc/passwd')",
    "SELECT * FROM read_parquet('https://example.org/x.parquet')",
    "COPY (SELECT 1) TO 'x.csv'",
    "COPY records FROM '/etc/passwd'",
    "EXPORT DATABASE 'x'",
    "IMPORT DATABASE 'x'",
    "ATTACH 'x.db'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "LOAD '/etc/passwd'",
    "SET enable_external_access = true",
    "SET lock_configuration = false",
    "SET memory_limit = '64GB'",
    "RESET memory_limit",
    "PRAGMA memory_limit='64GB'",
    "SELECT getenv('HOME')",
    "SELECT * FROM os",
    "SELECT * FROM secret_of_the_program",
    "CALL pragma_import('x')",
)


@pytest.mark.parametrize("text", REACHING)
def test_even_a_statement_that_a_node_would_never_write_reaches_nothing(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    secret_of_the_program = np.arange(3)
    database = opened(64)
    with pytest.raises(duckdb.Error):
        database.execute(text).fetchall()
    database.close()
    assert not list(tmp_path.iterdir()) and secret_of_the_program.size == 3


def test_a_statement_that_never_ends_or_wants_all_memory_is_ended() -> None:
    endless = "SELECT count(*) FROM range(100000) a, range(100000) b, range(100000) c WHERE a.range + b.range * c.range = 7"
    with DuckRows(time_s=1.0) as duck, pytest.raises(RefusedError) as caught:
        duck.run({}, [(endless, [])])
    assert caught.value.clause == "limits"
    with DuckRows(memory_mb=32) as duck:
        with pytest.raises(RefusedError) as caught:
            duck.run({}, [("SELECT list(range) FROM range(100000000)", [])])
        assert caught.value.clause == "limits"


# Differences.


def brute_isolated(labelings: list[np.ndarray], least: int) -> bool:
    """Whether a combination of the sets rests on 1 to least - 1 records: for every such few records, by rank."""
    sets = [(labels == cell).astype(float) for labels in labelings for cell in np.unique(labels[labels >= 0])]
    matrix = np.array(sets).reshape(len(sets), labelings[0].size)
    whole = np.linalg.matrix_rank(matrix) if matrix.size else 0
    for size in range(1, least):
        for few in itertools.combinations(range(labelings[0].size), size):
            rest = np.delete(matrix, few, axis=1)
            if whole and np.linalg.matrix_rank(rest) < whole:
                return True
    return False


@given(st.integers(0, 10**6), st.integers(2, 3), st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_no_combination_of_answers_rests_on_few_records(seed: int, least: int, questions: int) -> None:
    rng = np.random.default_rng(seed)
    told = [np.zeros(9, dtype=np.int64)]
    universe = np.ones(9, dtype=bool)
    for _ in range(questions):
        known = bool(rng.random() < 0.5)
        asked = rng.integers(0 if known else OUTSIDE, 3, 9)
        kept = answerable(asked, 3, [Family(universe, tuple(told))], least, int(known))
        assert np.array_equal(kept[kept >= 0], asked[kept >= 0])
        told.append(kept)
    assert not brute_isolated(told, least)


@given(st.integers(0, 10**6), st.integers(2, 4), st.booleans())
@settings(max_examples=40, deadline=None)
def test_a_refusal_does_not_say_whether_one_person_is_there(seed: int, least: int, known: bool) -> None:
    """The same question over the same records with and without one more, whom a predicate picks out: told or not told alike, as long as no
    cell is just at the least group."""
    rng = np.random.default_rng(seed)
    others = np.arange(40) % 4
    there, away = np.ones(41, dtype=bool), np.arange(41) < 40
    base, cells = np.zeros(41, dtype=np.int64), np.append(others, int(rng.integers(0, 5)))
    if known:  # a group of its own, declared and otherwise empty
        asked, count = np.append(others, 4), 5
    else:  # everybody but the victim; a group with and without
        asked, count = (np.append(np.zeros(40, dtype=np.int64), OUTSIDE), 1) if rng.random() < 0.5 else (np.where(cells < 2, 0, OUTSIDE), 1)
    told = (base,) if known else (base, np.append(np.where(others < 2, 0, OUTSIDE), OUTSIDE))
    found = []
    for chosen in (there, away):
        family = Family(np.ones(int(chosen.sum()), dtype=bool), tuple(labels[chosen] for labels in told))
        kept = answerable(asked[chosen], count, [family], least, int(known))
        found.append(sorted(set(kept[kept >= 0].tolist())))
    assert found[0] == found[1]


def test_what_follows_by_form_is_what_marginals_have_in_common() -> None:
    """Held against the rank of the sums themselves, over all combinations of groups."""
    sizes = {"a": 2, "b": 3, "c": 4}
    atoms = list(itertools.product(*(range(size) for size in sizes.values())))

    def sums(names: tuple[str, ...]) -> np.ndarray:
        keys = [tuple(atom[list(sizes).index(name)] for name in names) for atom in atoms]
        return np.array([[float(key == other) for other in sorted(set(keys))] for key in keys])

    every = [names for size in range(4) for names in itertools.combinations(sizes, size)]
    for asked, first, second in itertools.product(every, repeat=3):
        told = np.hstack([sums(first), sums(second)])
        gained = np.linalg.matrix_rank(np.hstack([told, sums(asked)])) - np.linalg.matrix_rank(told)
        found = following([(name, sizes[name]) for name in asked], [frozenset(first), frozenset(second)])
        assert found == sums(asked).shape[1] - gained


def test_a_drill_down_is_answered_and_a_group_that_is_nearly_a_condition_is_not(tmp_path: Path) -> None:
    clinics = Clinics(tmp_path).fill({name: lines(place, 300) for place, name in enumerate(CLINICS)})
    for text in ("sex", "sex, label", "label", "sex"):
        found = clinics.ask(f"SELECT count(*), avg(age) FROM clinic GROUP BY {text}")
        assert found.phase == "done" and all(row.shown and row.withheld == 0 for row in found.rows), text
    assert clinics.ask("SELECT count(*) FROM clinic").rows[0].told[0].value == 900
    found = clinics.ask("SELECT count(*) FROM clinic WHERE sex = 'Male' OR (age = 33 AND chol = 577)")
    assert found.rows[0].withheld == 3, "nobody is like that, and no owner says so"


def test_questions_that_differ_by_one_record_are_not_both_answered(tmp_path: Path) -> None:
    rows = {name: lines(place, 200) for place, name in enumerate(CLINICS)}
    rows["alfa"][0] |= {"age": "33", "sex": "Female", "chol": "577", "shift": "-1.9"}
    clinics = Clinics(tmp_path).fill(rows)
    victim = "age = 33 AND sex = 'Female' AND chol = 577"
    answers = [
        clinics.ask(f"SELECT count(*), sum(shift) FROM clinic{where}")
        for where in ("", f" WHERE NOT ({victim})", f" WHERE {victim}", f" WHERE age > 50 OR {victim}", " WHERE age > 50")
    ]
    assert [answer.phase for answer in answers] == ["done"] * 5
    shown = [answer.rows[0] for answer in answers]
    assert shown[0].withheld == 0 and not shown[1].shown and not shown[2].shown
    assert not shown[4].shown, "the answers without and with the victim would differ by its record"
    flags = [clinics.service.job(answer.job).total.array()[:2].tolist() for answer in answers]
    assert flags[1] == flags[4] == [0, 3] and flags[2] == [3, 0], "owners with the victim and without say the same"


def test_records_that_are_added_or_taken_away_do_not_show(tmp_path: Path) -> None:
    terms = {"visibility": "individual", "least_participants": 1, "dimension_records_min_ratio": 0}
    clinics = Clinics(tmp_path).fill({"alfa": lines(1, 100)}, **terms)
    text = "SELECT count(*), sum(age) FROM clinic"
    first = clinics.ask(text).rows[0]
    assert first.told[0].value == 100
    clinics.restart_clinic("alfa", [*clinics.rows["alfa"], *lines(9, 2)], **terms)
    grown = clinics.ask(text).rows[0]
    assert not grown.shown or grown.told[:1] == first.told[:1]
    clinics.restart_clinic("alfa", clinics.rows["alfa"][3:], **terms)
    shrunk = clinics.ask(text).rows[0]
    assert not shrunk.shown and shrunk.why == "not told by 1 owner"


def test_an_answer_that_was_decided_is_given_again_after_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clinics = Clinics(tmp_path).fill({name: lines(place, 90) for place, name in enumerate(CLINICS)}, least_group_size=8)
    node = clinics.owners["bravo"].node

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    text = "SELECT count(*), avg(age) FROM clinic GROUP BY pain"
    clinics.questions.ask(clinics.request(text))
    with monkeypatch.context() as patched:
        patched.setattr(node, "_fix", crash)
        with pytest.raises(KeyboardInterrupt):
            clinics.steps(3)
    clinics.restart_clinic("bravo")
    found = clinics.ask(text)
    assert found.phase == "done"
    assert found == clinics.ask(text)


def test_there_is_an_end_to_exact_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isthmus.sandbox.askedbook.QUESTIONS_MAX", 2)
    clinics = Clinics(tmp_path).fill({name: lines(place, 90) for place, name in enumerate(CLINICS)})
    for column in ("age", "shift"):
        assert clinics.ask(f"SELECT avg({column}) FROM clinic").phase == "done"
    assert clinics.ask("SELECT avg(age) FROM clinic").phase == "done"
    found = clinics.ask("SELECT avg(chol) FROM clinic")
    assert found.phase == "refused" and found.refusals[0].clause == "questions" and QUESTIONS_MAX > 2


@given(st.floats(-1e30, 1e30), st.floats(1e-6, 1e30), st.floats(-1e38, 1e38))
@settings(max_examples=100, deadline=None)
def test_no_value_overflows_its_units(low: float, width: float, value: float) -> None:
    column = Column(name="x", low=low, high=low + width)
    if not low < low + width:
        return
    assert abs(in_units(column, value)) <= 2**53
    try:
        span = span_of(column)
    except InputError:
        return
    assert span.high - span.low <= UNITS_MAX + 1 and span.half**2 * 10**7 < 2**62
    assert canonical_bytes({"half": span.half})
