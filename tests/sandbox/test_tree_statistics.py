"""Sums that trees grow from: nobody's split of the rows changes them, and a node does not believe that an open node holds enough."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.contracts.errors import InputError, RefusedError
from isthmus.contracts.head import Array
from isthmus.contracts.statistic import Candidate
from isthmus.contracts.treesums import ASIDE_CLUSTERS, ASIDE_SCORES, HISTOGRAMS, AsideScoresParams, Beginning, HistogramsParams
from isthmus.foundry.trees import Growth, Rows, TreePlan, equal_edges, forest_of, grow, grown, start
from isthmus.foundry.trees import histograms as library_histograms
from isthmus.kit.treewalk import Nodes, forest_doc, packed, standing_counts
from isthmus.sandbox.outlog import verify_log
from isthmus.sandbox.statistics.records import Records, TrainingRecords
from isthmus.sandbox.statistics.registry import parsed_params
from isthmus.sandbox.statistics.trees import aside_clusters, aside_scores, beginnings, histograms, set_aside
from tests.sandbox.test_jobs import run
from tests.sandbox.world import World, tiny_stage

EMPTY = forest_doc("logistic", 0.25, [])
PLAN = TreePlan(trees=3, depth=2, edges=equal_edges(3, 5), rate=0.5)


def training(seed: int, n: int = 240, groups: int = 12) -> TrainingRecords:
    rng = np.random.default_rng(seed)
    q = np.clip(rng.normal(0, 12000, (n, 3)), -32767, 32767).astype(np.int16)
    y = np.where(q[:, 0] + rng.normal(0, 6000, n) > 0, 1, -1).astype(np.int64)
    return TrainingRecords(Records(y, (np.arange(n) * groups // n).astype(np.int64), ("",) * n), (q,), rng.integers(1, 4, n))


def params(growth: Growth, **changes: Any) -> HistogramsParams:
    fields: dict[str, Any] = {
        "views": ("identity",),
        "forest": forest_of(growth),
        "aside": 4,
        "growing": Array.of(packed(growth.tree)),
        "open": growth.open,
        "cuts": Array.of(growth.cuts),
        "owner_records_min": 60,
    }
    return HistogramsParams(**{**fields, **changes})


def taken(of: TrainingRecords, rows: Any) -> TrainingRecords:
    records = Records(of.records.y[rows], of.records.groups[rows], ("",) * len(of.records.y[rows]))
    return TrainingRecords(records, (of.views[0][rows],), of.w[rows])


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 60), st.integers(2, 20), st.integers(0, 10**6))
def test_some_whole_groups_are_set_aside_and_never_all(groups: int, share: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, groups, 5 * groups)
    codes[:2] = (0, 1)
    aside = set_aside(codes, share)
    left, right = set(codes[aside].tolist()), set(codes[~aside].tolist())
    assert left and right and not left & right and abs(len(left) - len(left | right) / share) <= 1
    assert (aside == set_aside(codes, share)).all()


def test_the_nodes_sums_are_the_librarys_over_what_is_not_set_aside() -> None:
    of = training(1)
    aside = set_aside(of.records.groups, 4)
    kept = taken(of, ~aside)
    growth = start(PLAN, int(kept.w.sum()), float((kept.w * kept.records.y).sum()))
    halves = [Rows(kept.views[0][part], kept.records.y[part].astype(float), kept.w[part]) for part in (slice(0, 50), slice(50, None))]
    while not growth.done:
        asked = params(growth)
        told = histograms(of, asked, beginnings(of, asked), 1).reshape(growth.shape)
        pooled = np.sum([library_histograms(growth, half) for half in halves], axis=0)
        assert (told[..., :2] == pooled[..., :2]).all()
        owners = standing_counts(told[:, 1:, 2])
        assert owners[..., :2].max() <= 60 and not owners[..., 2:].any()
        growth = grown(growth, pooled)


def test_an_open_node_with_few_of_the_owners_records_is_refused_and_told_beforehand() -> None:
    of = training(2)
    edge = int(np.sort(of.views[0][~set_aside(of.records.groups, 4), 0])[4])  # five of the owner's records are below or at it
    growing = {"growing": Array.of(packed(asked_once(edge))), "open": (1, 2)}
    root = params(Growth(PLAN, 0.0), cuts=Array.of(np.array([[0, edge]])))
    counted = standing_counts(histograms(of, root, beginnings(of, root), 20).reshape(1, 2, 3)[0, 1, 2])
    assert counted.tolist() == [4, 60, 1, 0], "four left, as many as matter right; left is too few"
    asked = params(Growth(PLAN, 0.0), **growing)
    with pytest.raises(RefusedError, match="open node") as refused:
        histograms(of, asked, beginnings(of, asked), 20)
    assert refused.value.clause == "least-group-size"
    assert histograms(of, asked, beginnings(of, asked), 4).shape == (2 * 13 * 3,)


def asked_once(edge: int) -> Nodes:
    """One question, two open nodes."""
    return Nodes(np.array([0, -1, -1]), np.array([edge, -1, -1]), np.array([1, -1, -1]), np.zeros(3))


def test_prefixes_are_scored_on_what_is_set_aside_and_verdicts_follow() -> None:
    of = training(3)
    aside = set_aside(of.records.groups, 4)
    whole, rest = taken(of, aside), taken(of, ~aside)
    rows = Rows(rest.views[0], rest.records.y.astype(float), rest.w)
    growth = grow(start(PLAN, int(rest.w.sum()), float((rest.w * rest.records.y).sum())), [rows])
    fields: dict[str, Any] = {"views": ("identity",), "forest": forest_of(growth), "aside": 4}
    asked = AsideScoresParams(**fields, prefixes=(0, 1, 3))
    found = aside_scores(of, asked, beginnings(of, asked))
    assert found.sum_w == whole.w.sum() and found.histogram.sum() == 0 and found.loss[2] < found.loss[0]
    one = AsideScoresParams(**fields, prefixes=(3,), histograms=True)
    counted = aside_scores(of, one, beginnings(of, one))
    assert counted.loss[0] == found.loss[2] and counted.histogram.sum() == aside.sum()
    _, clustered = parsed_params(ASIDE_CLUSTERS, {**msgspec.to_builtins(fields), "lo": -0.1, "hi": 0.1}, tiny_stage())
    sums = aside_clusters(of, clustered, beginnings(of, clustered))
    assert 0 < sums.e < sums.a <= aside.sum() and sums.groups <= len(np.unique(whole.records.groups))


def test_trees_that_go_on_from_a_head_begin_at_scores_that_never_saw_the_group() -> None:
    of = training(4)
    known = Candidate(penalty=0.1, bias=0.0, coefficients=Array.of(np.full(3, 1e-5)))
    begun = Beginning(candidate=known, total_weight=10 * int(of.w.sum()), steepness=4.0)
    asked = params(Growth(PLAN, 0.0), beginning=begun)
    found = beginnings(of, asked)
    linear = of.views[0] @ np.full(3, 1e-5)
    assert np.corrcoef(found, linear)[0, 1] > 0.9 and np.abs(found - 4 * linear).max() > 1e-3


BAD: list[tuple[str, dict[str, Any]]] = [
    (HISTOGRAMS, {"views": ("identity", "rotate-180")}),
    (HISTOGRAMS, {"aside": 1}),
    (HISTOGRAMS, {"open": (1,)}),
    (HISTOGRAMS, {"open": (0, 0)}),
    (HISTOGRAMS, {"open": ()}),
    (HISTOGRAMS, {"cuts": Array.of(np.zeros((0, 2), np.int64))}),
    (HISTOGRAMS, {"owner_records_min": 0}),
    (HISTOGRAMS, {"owner_records_min": 1 << 20}),
    (
        HISTOGRAMS,
        {"forest": {"loss": "huber", "base": 0.0, "sizes": Array.of(np.zeros(0, np.int64)), "nodes": Array.of(np.zeros(0, np.int64))}},
    ),
    (ASIDE_SCORES, {"prefixes": (1,)}),
    (ASIDE_SCORES, {"prefixes": ()}),
]


@pytest.mark.parametrize("name,change", BAD)
def test_parameters_out_of_bounds_are_refused(name: str, change: dict[str, Any]) -> None:
    fields = msgspec.to_builtins(params(Growth(PLAN, 0.0)))
    if name == ASIDE_SCORES:
        fields = {key: fields[key] for key in ("views", "forest", "aside")} | {"prefixes": [0]}
    parsed_params(name, fields, tiny_stage())
    with pytest.raises(RefusedError):
        parsed_params(name, {**fields, **msgspec.to_builtins(change)}, tiny_stage())


def test_trees_and_cuts_that_lead_nowhere_are_refused_at_the_node() -> None:
    of = training(5)
    for change in (
        {"cuts": Array.of(np.array([[0, 5], [0, 5]]))},
        {"cuts": Array.of(np.array([[7, 5]]))},
        {"growing": Array.of(np.array([1, 1, 1]))},
        {"forest": msgspec.structs.replace(EMPTY, sizes=Array.of(np.array([3])))},
        {"forest": msgspec.structs.replace(EMPTY, sizes=Array.of(np.array([1])), nodes=Array.of(np.array([1 << 60])))},
    ):
        asked = params(Growth(PLAN, 0.0), **change)
        with pytest.raises(InputError, match=r"cuts|tree|leaf"):
            histograms(of, asked, beginnings(of, asked), 1)


def test_a_job_of_histograms_is_held_against_the_dimension_rule_and_logged(world: World) -> None:
    base: dict[str, Any] = msgspec.to_builtins(params(Growth(PLAN, 0.0), owner_records_min=8, cuts=Array.of(np.array([[0, 0], [1, 0]]))))
    status = run(world, HISTOGRAMS, base)
    assert status.phase == "done" and status.total.array().shape == (9,)
    owner = world.owners["alfa"]
    (left,) = [e for e in verify_log(owner.log, owner.home.key.public_hex) if e.kind == "vector"]
    assert (left.statistic, left.shape) == (HISTOGRAMS, (9,))
    few = run(world, HISTOGRAMS, {**base, "owner_records_min": 7}, round=2)
    assert few.phase == "failed" and {r.clause for r in few.refusals} == {"dimension"}
    many = [[0, edge] for edge in range(30)]
    wide = {**base, "owner_records_min": 120, "cuts": msgspec.to_builtins(Array.of(np.array(many)))}
    assert {r.clause for r in run(world, HISTOGRAMS, wide, round=3).refusals} == {"dimension"}
