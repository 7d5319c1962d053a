"""Features of tables: public, integers, the same digits whatever the batch; the head behind them in one graph."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper

from isthmus.contracts.errors import InputError
from isthmus.contracts.head import Array, Head
from isthmus.contracts.schema import Column, Schema
from isthmus.contracts.sums import FEATURE_MAX
from isthmus.contracts.tableparts import parsed_table_part
from isthmus.foundry.backbone import GraphWriter
from isthmus.foundry.export import _add_head
from isthmus.foundry.runtime import session
from isthmus.foundry.tablefeatures import (
    TABLE_BACKBONE,
    TableExtractor,
    add_table_features,
    feature_count,
    feature_names,
    fourier_weights,
    record_input,
)

SCHEMA = Schema(
    columns=(
        Column(name="age", unit="a", low=20, high=80, missing=True),
        Column(name="load", unit="kN", low=1, high=100, log=True),
        Column(name="colour", kind="category", levels=("red", "green", "blue"), missing=True),
        Column(name="side", kind="category", levels=("left", "right")),
    )
)
EVERY = ("columns", "bins/5", "pairs", "fourier/40/1.5", "fourier/7/0.3")
nan = math.nan


def drawn(count: int, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    age, load = rng.uniform(0, 100, count), np.exp(rng.uniform(-1, 6, count))
    age[rng.random(count) < 0.1] = nan
    colour = rng.integers(0, 3, count).astype(float)
    colour[rng.random(count) < 0.1] = nan
    return np.stack([age, load, colour, rng.integers(0, 2, count)], axis=1).astype(np.float32)


def columns_of(*rows: tuple[float, ...]) -> list[list[int]]:
    return TableExtractor(SCHEMA, ("columns",)).quantised(np.array(rows, np.float32)).tolist()


def test_numbers_levels_and_what_is_missing() -> None:
    found = columns_of((50, 10, 0, 1), (20, 1, 2, 0), (99, 1000, 1, 0), (-5, -3, nan, 1), (nan, 10, 7, 1), (math.inf, 1, 0, 1))
    full = FEATURE_MAX
    assert found == [
        [0, 0, full, 0, 0, full, 0],
        [-full, -full, 0, 0, full, 0, 0],
        [full, full, 0, full, 0, 0, 0],
        [-full, -full, 0, 0, 0, full, 0],
        [0, 0, 0, 0, 0, full, full],
        [full, -full, full, 0, 0, full, 0],
    ]
    assert feature_names(SCHEMA, ("columns",)) == [
        "age",
        "load",
        "colour is red",
        "colour is green",
        "colour is blue",
        "side is right",
        "age is missing",
    ]


def test_hats_add_up_to_one_and_to_the_number() -> None:
    records = drawn(200)
    found = TableExtractor(SCHEMA, ("columns", "bins/5")).quantised(records).astype(float)
    for place in (0, 1):
        hats = found[:, 7 + 5 * place : 12 + 5 * place]
        there = ~np.isnan(records[:, place])
        assert np.abs(hats[there].sum(axis=1) - FEATURE_MAX).max() <= 2
        assert np.abs(hats[there] @ np.linspace(-1, 1, 5) - found[there, place]).max() <= 2
        assert (hats[~there] == 0).all()
    assert feature_names(SCHEMA, ("bins/3",))[3:] == ["load near 1 kN", "load near 10 kN", "load near 100 kN"]


def test_pairs_are_products() -> None:
    found = TableExtractor(SCHEMA, ("columns", "pairs")).quantised(drawn(200)).astype(float)
    a, b = found[:, 0], found[:, 1]
    wanted = np.stack([a * a, a * b, b * b], axis=1) / FEATURE_MAX
    assert np.abs(found[:, 7:] - wanted).max() <= 0.5


def test_waves_are_cosines_and_near_the_kernel() -> None:
    records = drawn(60)
    inputs = TableExtractor(SCHEMA, ("columns",)).quantised(records).astype(float)
    weights, phases = fourier_weights(7, 1024, 1.5)
    found = TableExtractor(SCHEMA, ("fourier/1024/1.5",)).quantised(records).astype(float)
    assert np.abs(found - FEATURE_MAX * np.cos(2 * math.pi * (inputs @ weights + phases))).max() <= 0.51
    unit = inputs / FEATURE_MAX
    away = ((unit[:, None] - unit[None]) ** 2).sum(axis=2)
    estimated = 2 * (found / FEATURE_MAX) @ (found / FEATURE_MAX).T / 1024
    assert np.abs(estimated - np.exp(-away / (2 * 1.5**2))).max() < 0.2


def test_weights_are_the_same_everywhere_and_exact() -> None:
    weights, phases = fourier_weights(3, 4, 1.5)
    assert (fourier_weights(3, 2, 1.5)[1] == phases[:2]).all()
    assert [round(float(v) * FEATURE_MAX, 6) for v in weights[:, 0]] == [round(v, 6) for v in FIRST_WEIGHTS]
    scale = 2.0**80
    whole = [[int(v * scale) for v in row] for row in weights]
    step = math.gcd(*(v for row in whole for v in row))
    largest = max(sum(abs(row[j]) for row in whole) for j in range(4)) * FEATURE_MAX
    assert largest // step < 2**53  # every sum of products is a double


FIRST_WEIGHTS = [0.06076286451059021, 0.05465636379520933, -0.19087509371018818]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 1000), st.integers(0, 2**31), st.sampled_from([1, 2]))
def test_batch_and_threads_do_not_change_a_digit(size: int, seed: int, threads: int) -> None:
    records = drawn(1000, seed)
    together = EXTRACTOR.quantised(records)
    assert (TableExtractor(SCHEMA, EVERY, threads=threads).quantised(records[:size]) == together[:size]).all()
    assert (EXTRACTOR.quantised(records[size - 1 : size]) == together[size - 1 : size]).all()


EXTRACTOR = TableExtractor(SCHEMA, EVERY)


BOUNDS = st.tuples(st.floats(-1e30, 1e30), st.floats(1e-3, 1e3)).map(lambda pair: (pair[0], pair[0] + pair[1] * max(1e-3, abs(pair[0]))))
"""Ranges that single precision, in which fields come, can tell apart."""


@settings(max_examples=40, deadline=None)
@given(BOUNDS, st.floats(1e-20, 1e20), st.floats(1.01, 1e6), st.lists(st.floats(width=32), min_size=1, max_size=20))
def test_any_field_in_any_range_gives_whole_features(ends: tuple[float, float], low: float, factor: float, fields: list[float]) -> None:
    schema = Schema(
        columns=(
            Column(name="a", low=ends[0], high=ends[1], missing=True),
            Column(name="b", low=low, high=low * factor, log=True),
            Column(name="c", kind="category", levels=("x", "y", "z")),
        )
    )
    records = np.repeat(np.array(fields, np.float32)[:, None], 3, axis=1)
    found = TableExtractor(schema, EVERY).quantised(records).astype(int)
    assert np.abs(found).max() <= FEATURE_MAX
    (low_end, high_end) = TableExtractor(schema, ("columns",)).quantised(np.array([[-np.inf] * 3, [np.inf] * 3], np.float32))
    assert low_end[:2].tolist() == [-FEATURE_MAX] * 2 and high_end[:2].tolist() == [FEATURE_MAX] * 2
    order = np.argsort(records[:, 0])  # a number's feature rises with it
    known = found[order][~np.isnan(records[order, 0])]
    assert (np.diff(known[:, :2], axis=0) >= 0).all()


def test_one_at_a_time_is_the_same_as_a_thousand() -> None:
    records = drawn(1000)
    together = EXTRACTOR.quantised(records)
    assert (together == np.concatenate([EXTRACTOR.quantised(records[i : i + 1]) for i in range(1000)])).all()
    assert together.dtype == np.int16 and together.shape == (1000, EXTRACTOR.dimension) == (1000, feature_count(SCHEMA, EVERY))
    assert np.abs(together.astype(int)).max() <= FEATURE_MAX
    assert EXTRACTOR.quantised(records[:0]).shape == (0, EXTRACTOR.dimension)
    longer = np.tile(records, (9, 1))
    assert (EXTRACTOR.quantised(longer) == np.tile(together, (9, 1))).all()


def test_a_head_behind_it_in_one_graph_flips_no_verdict() -> None:
    records, rng = drawn(1000, 5), np.random.default_rng(4)
    coefficients = np.round(rng.normal(0, 2e-6, EXTRACTOR.dimension) * 2**40) / 2**40
    head = Head(stage=EXTRACTOR.stage(), coefficients=Array.of(coefficients), bias=0.125, lo=-0.1, hi=0.1, decoder="none")
    graph = GraphWriter()
    _add_head(graph, add_table_features(graph, SCHEMA, EVERY), head)
    outputs = [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n"])]
    outputs.append(helper.make_tensor_value_info("verdict", TensorProto.INT64, ["n"]))
    model = graph.model("t", [record_input(SCHEMA)], outputs)
    score, verdict = session(model.SerializeToString(), 1).run(["score", "verdict"], {"records": records})
    library = (0.125 + EXTRACTOR.quantised(records).astype(float) @ coefficients).astype(np.float32)
    assert (score == library).all()
    assert (verdict == np.where(library >= 0.1, 1, np.where(library <= -0.1, 0, 2))).all()
    assert len(np.unique(verdict)) == 3


def test_the_digest_names_schema_and_parts() -> None:
    same = TableExtractor(SCHEMA, EVERY, threads=2)
    assert same.digest == EXTRACTOR.digest and same.stage() == EXTRACTOR.stage()
    assert EXTRACTOR.stage().backbone == TABLE_BACKBONE
    wider = msgspec.structs.replace(SCHEMA, columns=(msgspec.structs.replace(SCHEMA.columns[0], high=81.0), *SCHEMA.columns[1:]))
    renamed = msgspec.structs.replace(SCHEMA, columns=(*SCHEMA.columns[:3], msgspec.structs.replace(SCHEMA.columns[3], levels=("l", "r"))))
    digests = {TableExtractor(schema, EVERY).digest for schema in (SCHEMA, wider, renamed)}
    assert len({*digests, TableExtractor(SCHEMA, EVERY[:2]).digest}) == 4


@pytest.mark.parametrize(
    "parts",
    [
        (),
        ("columns", "columns"),
        ("bins/4", "bins/5"),
        ("fourier/3/1", "fourier/4/1"),
        ("bins/1",),
        ("bins/65",),
        ("bins/04",),
        ("bins",),
        ("fourier/3",),
        ("fourier/3/0",),
        ("fourier/3/1.50",),
        ("fourier/3/1e1",),
        ("fourier/1025/1",),
        ("fourier/3/nan",),
        ("pairs/2",),
        ("elsewhere",),
        ("",),
    ],
)
def test_impossible_parts_are_refused(parts: tuple[str, ...]) -> None:
    with pytest.raises(InputError):
        TableExtractor(SCHEMA, parts)


def test_schemas_that_the_parts_cannot_be_made_of_are_refused() -> None:
    only = Schema(columns=SCHEMA.columns[2:])
    assert TableExtractor(only, ("columns", "fourier/3/1")).dimension == 7
    for parts in (("pairs",), ("bins/3",)):
        with pytest.raises(InputError, match="has none"):
            TableExtractor(only, parts)
    with pytest.raises(InputError, match="steps"):
        TableExtractor(msgspec.structs.replace(SCHEMA, steps=3), ("columns",))
    many = Schema(columns=tuple(Column(name=f"c{i}", low=0, high=1) for i in range(200)))
    with pytest.raises(InputError, match="at most"):
        TableExtractor(many, ("pairs",))


@pytest.mark.parametrize("records", [np.zeros((2, 3), np.float32), np.zeros((2, 4)), np.zeros(4, np.float32)])
def test_impossible_records_are_refused(records: NDArray[np.float32]) -> None:
    with pytest.raises(InputError, match="float32"):
        EXTRACTOR.quantised(records)


def test_parts_keep_their_text() -> None:
    for text in EVERY:
        assert parsed_table_part(text).text == text
