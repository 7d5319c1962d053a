"""Boosted trees: divided among owners anyhow they are the trees of pooled rows, and the graph scores as the library does."""

from __future__ import annotations

import itertools
import math
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from isthmus.contracts.errors import DocumentError, InputError
from isthmus.contracts.head import Array, Forest, Head, Stage
from isthmus.contracts.schema import Column, Schema
from isthmus.foundry.engine import Scorer
from isthmus.foundry.export import build_artefact, parsed
from isthmus.foundry.runtime import session
from isthmus.foundry.tablefeatures import TableExtractor
from isthmus.foundry.treegraph import forest_in
from isthmus.foundry.trees import (
    Growth,
    Rows,
    TreePlan,
    binned_rows,
    equal_edges,
    fine_counts,
    forest_of,
    grow,
    grown,
    histograms,
    merged_edges,
    node_dimension,
    numbers_told,
    start,
)
from isthmus.kit.treewalk import checked_forest, forest_scores, head_scores

Features = NDArray[np.int16]


def drawn(n: int, d: int, seed: int, coarse: int = 1) -> tuple[Features, NDArray[np.int64], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    q = np.clip(np.round(rng.normal(0, 12000, (n, d)) / coarse) * coarse, -32767, 32767).astype(np.int16)
    y = np.where(q[:, 0] + 1.5 * np.abs(q[:, -1]) - 9000 + rng.normal(0, 6000, n) > 0, 1, -1)
    y[:2] = (1, -1)
    return q, y, rng.integers(1, 4, n)


def owned(q: Features, y: NDArray[Any], w: NDArray[np.int64], plan: TreePlan, cuts: list[int]) -> list[Rows]:
    return [
        Rows(b, part.astype(float), weights)
        for b, part, weights in zip(*(np.split(x, sorted(cut % len(y) for cut in cuts)) for x in (q, y, w)), strict=True)
    ]


def whole(q: Features, y: NDArray[Any], w: NDArray[np.int64], plan: TreePlan, cuts: list[int]) -> Growth:
    return grow(start(plan, int(w.sum()), float((w * y).sum())), owned(q, y, w, plan, cuts))


def brute(
    binned: NDArray[np.uint8], y: NDArray[Any], w: NDArray[np.int64], plan: TreePlan, base: float
) -> list[list[tuple[int, int, float]]]:
    """Trees from pooled rows, no histograms: each tree as (feature, bin, leaf) a node, level by level."""
    score, forest = np.full(len(y), base), []
    for _ in range(plan.trees):
        if plan.loss == "squared":
            g, h = (score - y) * w, w.astype(float)
        else:
            p = 1 / (1 + np.exp(-score))
            g, h = (p - (y > 0)) * w, p * (1 - p) * w
        nodes: list[tuple[int, int, float]] = []
        level = [np.ones(len(y), dtype=bool)]
        for depth in range(plan.depth + 1):
            coming = []
            for inside in level:
                total_g, total_h = g[inside].sum(), h[inside].sum()
                best: tuple[float, int, int] = (1e-6, -1, -1)
                for feature in range(binned.shape[1]) if depth < plan.depth else ():
                    for cut in range(len(plan.edges[feature])):
                        left = inside & (binned[:, feature] <= cut)
                        lg, lh = g[left].sum(), h[left].sum()
                        if min(lh, total_h - lh) < plan.child_weight_min - 1e-9:
                            continue
                        gain = lg**2 / (lh + plan.l2) + (total_g - lg) ** 2 / (total_h - lh + plan.l2)
                        gain -= total_g**2 / (total_h + plan.l2)
                        if gain > best[0] * (1 + 1e-6):
                            best = (gain, feature, cut)
                if best[1] < 0:
                    leaf = -plan.rate * total_g / (total_h + plan.l2)
                    nodes.append((-1, -1, leaf))
                    score = score + np.where(inside, leaf, 0.0)
                    continue
                left = binned[:, best[1]] <= best[2]
                nodes.append((best[1], best[2], 0.0))
                coming += [inside & left, inside & ~left]
            level = coming
        forest.append(nodes)
    return forest


@settings(max_examples=12, deadline=None)
@given(
    st.integers(30, 150),
    st.integers(1, 4),
    st.integers(0, 10**6),
    st.sampled_from(["logistic", "squared"]),
    st.sampled_from([1, 9000]),
    st.integers(1, 3),
)
def test_the_trees_of_pooled_rows(n: int, d: int, seed: int, loss: Any, coarse: int, depth: int) -> None:
    q, y, w = drawn(n, d, seed, coarse)
    plan = TreePlan(edges=equal_edges(d, 12), trees=4, depth=depth, rate=0.3, loss=loss)
    found = whole(q, y, w, plan, [n // 3, n // 2])
    wanted = brute(binned_rows(q, plan.edges), y, w, plan, found.base)
    for tree, nodes in zip(found.grown, wanted, strict=True):
        asked = [(int(f), plan.edges[f].index(e) if f >= 0 else -1) for f, e in zip(tree.feature, tree.edge, strict=True)]
        assert asked == [node[:2] for node in nodes]
        assert np.abs(tree.value - [node[2] for node in nodes]).max() < 1e-6


@settings(max_examples=15, deadline=None)
@given(st.integers(20, 200), st.integers(0, 10**6), st.lists(st.integers(0, 199), max_size=5))
def test_any_split_among_owners_gives_the_same_digits(n: int, seed: int, cuts: list[int]) -> None:
    q, y, w = drawn(n, 3, seed)
    plan = TreePlan(edges=equal_edges(3, 16), trees=5, depth=3)
    assert forest_of(whole(q, y, w, plan, cuts)) == forest_of(whole(q, y, w, plan, []))


def test_a_round_says_what_it_tells() -> None:
    q, y, w = drawn(100, 3, 5)
    plan = TreePlan(edges=equal_edges(3, 8), trees=2, depth=2)
    (rows,) = owned(q, y, w, plan, [])
    growth = start(plan, int(w.sum()), int((w * y).sum()))
    told = 0
    while not growth.done:
        asked = histograms(growth, rows)
        assert asked.shape == growth.shape
        told += asked.size
        growth = grown(growth, asked)
    assert told == numbers_told(growth) > 0
    fresh = Rows(rows.q, rows.y, rows.w)
    first = histograms(start(plan, int(w.sum()), int((w * y).sum())), rows)  # a later state does not linger
    assert (first == histograms(start(plan, int(w.sum()), int((w * y).sum())), fresh)).all()


def test_a_floor_on_curvature_keeps_the_dimension_rule_in_every_node() -> None:
    q, y, _ = drawn(2000, 3, 5)
    edges = equal_edges(3, 9)
    plan = TreePlan(edges=edges, trees=10, depth=4, child_weight_min=24.0)
    assert node_dimension(plan) == 24
    w = np.ones(2000, np.int64)
    (rows,) = owned(q, y, w, plan, [])
    growth = start(plan, 2000, float(y.sum()))
    while not growth.done:
        told = histograms(growth, rows)
        assert (told[:, 0, 1] / 2**30).min() >= 24 - 1e-5  # so each holds at least 96 records
        growth = grown(growth, told)
    assert max(len(tree.feature) for tree in growth.grown) > 3


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 400), st.integers(0, 10**6), st.integers(1, 40), st.integers(2, 64))
def test_merged_bins_hold_the_least_group(n: int, seed: int, group_min: int, bins: int) -> None:
    q = drawn(max(n, 2), 3, seed, coarse=[1, 500, 20000][seed % 3])[0]
    edges = merged_edges(fine_counts(q, equal_edges(3, 256)), group_min, bins)
    binned = binned_rows(q, edges)
    for feature, row in enumerate(edges):
        counts = np.bincount(binned[:, feature], minlength=len(row) + 1)
        assert len(row) < bins or len(row) == 0
        assert not len(row) or counts.min() >= group_min
        assert list(row) == sorted(set(row))


SCHEMA = Schema(
    columns=(
        Column(name="a", low=0, high=10, missing=True),
        Column(name="b", low=1, high=100, log=True),
        Column(name="c", kind="category", levels=("x", "y", "z")),
    )
)


def head_of(stage: Stage, forest: Forest, lo: float, hi: float) -> Head:
    zeros = Array.of(np.zeros(stage.dimension))
    return Head(stage=stage, coefficients=zeros, bias=0.0, lo=lo, hi=hi, decoder="table/1", forest=forest)


def artefact_of(forest: Forest, lo: float = -0.2, hi: float = 0.3) -> bytes:
    stage = TableExtractor(SCHEMA, ("columns",)).stage()
    return build_artefact(head_of(stage, forest, lo, hi))


def records(n: int, seed: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    found = np.stack([rng.uniform(-1, 11, n), np.exp(rng.uniform(0, 5, n)), rng.integers(0, 3, n)], axis=1)
    found[rng.random(n) < 0.1, 0] = math.nan
    return found.astype(np.float32)


def grown_on_records() -> Forest:
    given = records(600, 1)
    q = TableExtractor(SCHEMA, ("columns",)).quantised(given)
    y = np.where(np.nan_to_num(given[:, 0]) + 3 * given[:, 2] + np.log(given[:, 1]) > 10, 1, -1)
    w = np.ones(600, np.int64)
    plan = TreePlan(edges=merged_edges(fine_counts(q, equal_edges(q.shape[1], 256)), 5, 32), trees=60, depth=4)
    return forest_of(whole(q, y, w, plan, [200, 400]))


FOREST = grown_on_records()


def test_the_graph_flips_no_verdict_in_a_thousand_cases() -> None:
    cases, artefact = records(1000, 2), artefact_of(FOREST)
    exact = forest_scores(FOREST, TableExtractor(SCHEMA, ("columns",)).quantised(cases))
    for threads, step in ((1, 1000), (2, 1000), (1, 1), (2, 7)):
        runs = [session(artefact, threads).run(["score", "verdict"], {"records": cases[:2]})]
        running = session(artefact, threads)
        runs = [running.run(["score", "verdict"], {"records": cases[i : i + step]}) for i in range(0, 1000, step)]
        score, verdict = (np.concatenate(parts) for parts in zip(*runs, strict=True))
        assert (score == exact.astype(np.float32)).all()
        assert (verdict == np.where(score >= np.float64(0.3), 1, np.where(score <= np.float64(-0.2), 0, 2))).all()
    assert len(np.unique(verdict)) == 3
    assert artefact == artefact_of(msgspec.json.decode(msgspec.json.encode(FOREST), type=Forest))
    assert {p.key for p in onnx.load_model_from_string(artefact).metadata_props} == {"decoder", "head_digest", "stage_digest"}


def test_forests_whose_tables_are_damaged_are_refused() -> None:
    changes: list[dict[str, Any]] = [
        {"base": math.nan},
        {"nodes": Array.of(np.zeros(3))},
        {"nodes": Array.of(FOREST.nodes.array()[:-1])},
        {"sizes": Array.of(np.zeros(0, np.int64)), "nodes": Array.of(np.zeros(0, np.int64))},
        {"sizes": Array.of(np.array([1]))},
        {"nodes": Array.of(FOREST.nodes.array() & ~1)},
        {"nodes": Array.of(FOREST.nodes.array() | 1)},
        {"nodes": Array.of(FOREST.nodes.array() + (FOREST.nodes.array() & 1) * (99 << 18))},
    ]
    for change in changes:
        with pytest.raises(DocumentError):
            checked_forest(msgspec.structs.replace(FOREST, **change), 6)
    with pytest.raises(DocumentError):
        artefact_of(FOREST, 0.5, 0.1)
    stage = TableExtractor(SCHEMA, ("columns",)).stage()
    for stage_change in ({"digest": "sha256:" + "0" * 64}, {"backbone": "elsewhere"}, {"schema": None}):
        other = msgspec.structs.replace(stage, **stage_change)
        with pytest.raises(DocumentError):
            build_artefact(head_of(other, FOREST, 0.0, 0.0))


def test_plans_rows_and_rounds_that_cannot_be_used_are_refused() -> None:
    edges = equal_edges(2, 4)
    bad: list[dict[str, Any]] = [
        {"trees": 0},
        {"depth": 11},
        {"rate": 0.0},
        {"rate": math.nan},
        {"l2": -1.0},
        {"child_weight_min": 0.0},
        {"edges": ()},
        {"edges": ((3, 2),)},
        {"edges": ((),)},
    ]
    for change in bad:
        with pytest.raises(InputError):
            start(TreePlan(**{"edges": edges, "trees": 2, "depth": 2, **change}), 10, 0)
    plan = TreePlan(edges=edges, trees=2, depth=2)
    for total, signed in ((0, 0), (10, 10), (10, -10)):
        with pytest.raises(InputError):
            start(plan, total, signed)
    q, y, w = drawn(20, 2, 1)
    with pytest.raises(InputError, match="features"):
        binned_rows(q[:, :1], edges)
    with pytest.raises(InputError, match="labels"):
        Rows(q, y * 2.0, w)
    with pytest.raises(InputError, match="labels"):
        Rows(q, y.astype(float), w * 0)
    growth = start(plan, int(w.sum()), int((w * y).sum()))
    told = histograms(growth, Rows(q, y.astype(float), w))
    with pytest.raises(InputError, match="asked for"):
        grown(growth, told[:, :1])
    with pytest.raises(InputError, match="damaged"):
        grown(growth, told + (np.arange(told.size) << 40).reshape(told.shape))
    with pytest.raises(InputError, match="bins"):
        equal_edges(2, 1)


def test_the_graph_gives_its_trees_back_and_their_reasons_add_up_to_the_score() -> None:
    raw = artefact_of(FOREST)
    assert forest_in(parsed(raw)) == FOREST
    scorer, cases = Scorer(raw), records(50, 3)
    q = scorer.quantised(list(cases))
    reference = q.astype(np.float64).mean(axis=0)
    parts = scorer.attributions(list(cases), reference)
    assert np.abs(scorer.base(reference) + parts.sum(axis=1) - scorer.scores(list(cases))).max() < 1e-6
    for row in range(3):  # Shapley values by their definition, over all orders of the features that differ
        differing = [f for f in range(q.shape[1]) if q[row, f] != reference[f]]
        wanted = np.zeros(q.shape[1])
        orders = list(itertools.permutations(differing))
        for order in orders:
            mixed, before = reference.copy(), scorer.base(reference)
            for feature in order:
                mixed[feature] = q[row, feature]
                after = float(forest_scores(FOREST, mixed[None, :])[0])
                wanted[feature] += (after - before) / len(orders)
                before = after
        assert np.abs(parts[row] - wanted).max() < 1e-9
    head = head_of(TableExtractor(SCHEMA, ("columns",)).stage(), FOREST, -0.2, 0.3)
    assert (head_scores(head, q) == scorer.scores(list(cases))).all()
