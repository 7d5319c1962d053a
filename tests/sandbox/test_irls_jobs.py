"""irls/1 as jobs: masked shares add up to the pooled round; what an exchange may not ask for is refused by its clause."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from isthmus.contracts.errors import InputError
from isthmus.contracts.head import Array
from isthmus.contracts.job import JobStatus
from isthmus.contracts.logistic import logistic_sums_from, logistic_units
from isthmus.contracts.statistic import IRLS, IrlsParams, TrainingParams
from isthmus.kit.logits import logistic_sums
from isthmus.sandbox import history
from isthmus.sandbox.history import JOBS_PER_RUN_MAX
from isthmus.sandbox.outlog import undeclared, verify_log
from tests.sandbox.world import OPERATIONS, VIEWS, D, World, tiny_stage, tiny_tools

NAMES = ("alfa", "bravo", "carol")
START = np.array([-0.3, 1e-4, -5e-5, 2e-5, 0.0])


@pytest.fixture
def rounds(tmp_path: Path) -> World:
    world = World(tmp_path, terms={"operations": (*OPERATIONS, IRLS)})
    world.add(*NAMES)
    world.steps(1)
    return world


def rows(world: World, name: str) -> tuple[Any, ...]:
    data = world.owners[name].home.owner_data(tiny_tools())
    return data.training(tiny_stage(), TrainingParams(views=tuple(VIEWS))).stacked()


def asked(world: World, at: np.ndarray, number: int = 1, weight: int = 0, **changes: Any) -> JobStatus:
    total = weight or sum(int(rows(world, name)[2].sum()) for name in NAMES)
    params = IrlsParams(views=tuple(VIEWS), coefficients=Array.of(at), total_weight=total)
    job = world.service.create_job(world.request(IRLS, msgspec.to_builtins(params), round=number, **changes))
    world.steps(2)
    return world.service.job(job.id)


def clauses(status: JobStatus) -> set[str]:
    return {refusal.clause for refusal in status.refusals}


def test_the_total_is_the_round_over_pooled_rows_and_its_bytes_are_logged(rounds: World) -> None:
    status = asked(rounds, START)
    assert status.phase == "done" and status.total is not None
    q, y, w = (np.concatenate([rows(rounds, name)[k] for name in NAMES]) for k in range(3))
    units = logistic_units(int(w.sum()))
    pooled = logistic_sums(q, w, y, START, units)
    found = logistic_sums_from(status.total.array().astype(np.int64), D, units)
    assert (found.packed() == pooled.packed()).all()
    for name in NAMES:
        owner = rounds.owners[name]
        entries = verify_log(owner.log, owner.home.key.public_hex)
        assert not undeclared(entries)
        assert [e.shape for e in entries if (e.kind, e.statistic) == ("vector", IRLS)] == [(pooled.packed().size,)]


def test_coefficients_that_single_out_records_are_refused(rounds: World) -> None:
    """A slab through one record, so thin that the weights p (1 - p) of all others vanish."""
    record = rows(rounds, "alfa")[0][0].astype(float)
    slopes = record / (record @ record) * 2000.0
    status = asked(rounds, np.concatenate([[-2000.0], slopes]))
    assert status.phase == "failed" and clauses(status) <= {"dimension", "least-group-size"}
    assert not any("record" in refusal.message and str(int(record[0])) in refusal.message for refusal in status.refusals)


def test_few_of_an_owners_records_behind_a_round_are_refused_even_of_one_feature(tmp_path: Path) -> None:
    world = World(tmp_path, terms={"operations": (*OPERATIONS, IRLS), "least_group_size": 30})
    world.add(*NAMES)
    world.steps(1)
    assert asked(world, START).phase == "done"
    spread = np.std(rows(world, "alfa")[0][:, 0].astype(float))
    far = np.array([0.0, 12.0 / spread, 0, 0, 0])
    assert "least-group-size" in clauses(asked(world, far, 2))


def test_more_rounds_than_a_run_may_ask_and_none_without_the_operation(rounds: World, tmp_path: Path) -> None:
    for number in range(JOBS_PER_RUN_MAX[IRLS]):
        assert asked(rounds, START * (1 + 0.01 * number), number).phase == "done"
    assert clauses(asked(rounds, START * 2, 99)) == {"rounds"}
    (tmp_path / "plain").mkdir()
    plain = World(tmp_path / "plain")
    plain.add(*NAMES)
    plain.steps(1)
    assert clauses(asked(plain, START)) == {"operation"}


def test_rounds_are_counted_over_all_runs(rounds: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "WEIGHTINGS_MAX", 3)
    for number, run in enumerate(("a", "a", "b")):
        assert asked(rounds, START * (1 + 0.01 * number), number, run_id=run).phase == "done"
    assert clauses(asked(rounds, START * 2, 1, run_id="c")) == {"rounds"}
    assert asked(rounds, START, 0, run_id="a").phase == "done", "what was answered is not a new question"


def test_a_weight_or_coefficients_that_do_not_fit_are_refused(rounds: World) -> None:
    assert clauses(asked(rounds, START, 1, weight=3)) == {"parameters"}
    assert clauses(asked(rounds, START[1:], 2)) == {"parameters"}
    with pytest.raises(InputError, match="weight"):
        asked(rounds, START, 3, weight=1 << 31)


def test_the_same_round_again_sends_the_same_bytes_also_after_a_restart(rounds: World) -> None:
    first = asked(rounds, START)
    for name in NAMES:
        rounds.restart(name)
    rounds.restart_exchange()
    again = asked(rounds, START)
    assert again.total_digest == first.total_digest and again.attempt == 1
