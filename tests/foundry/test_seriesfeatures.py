"""Features of a window: what each part says, the same bits whatever the batch, the exported graph like the library."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper

from isthmus.contracts.errors import InputError
from isthmus.contracts.schema import Column, Schema
from isthmus.contracts.seriesparts import DEFAULT_SERIES_PARTS, parsed_series_part, series_part_names, series_part_size
from isthmus.foundry.backbone import GraphWriter
from isthmus.foundry.export import _add_head
from isthmus.foundry.foldout import moments_of
from isthmus.foundry.ridge import candidates, head_from
from isthmus.foundry.runtime import session
from isthmus.foundry.seriesfeatures import SeriesExtractor, add_series_features, feature_count, record_input
from isthmus.foundry.serieskernels import dilations, drawn_series, kernels
from tests.foundry import series_oracle as oracle

SCHEMA = Schema(
    columns=(
        Column(name="discharge", unit="m3/s", low=0.1, high=1000.0, log=True, missing=True),
        Column(name="gauge", kind="category", levels=("a", "b", "c")),
        Column(name="rain", unit="mm", low=0.0, high=100.0),
    ),
    steps=30,
)
PARTS = ("last/3", "summary", "memory/3", "changes/3", "kernels/84", "hinges/20", "levels")


def windows(count: int, seed: int = 0, schema: Schema = SCHEMA) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    shape = (count, schema.steps)
    found = np.stack([np.exp(rng.normal(2, 2, shape)), rng.integers(0, 3, shape), rng.exponential(8, shape)], axis=2)
    found[:, :, 0][rng.random(shape) < 0.2] = np.nan
    found[0, :, 0] = np.nan
    found[1, :5, 0] = np.nan
    return found.astype(np.float32)


@pytest.fixture(scope="module")
def extractor() -> SeriesExtractor:
    return SeriesExtractor(SCHEMA, PARTS)


def part_of(extractor: SeriesExtractor, q: NDArray[np.int16], text: str) -> NDArray[np.int64]:
    start = 0
    for name in extractor.parts:
        size = series_part_size(extractor.schema, parsed_series_part(name))
        if name == text:
            return q[:, start : start + size].astype(np.int64)
        start += size
    raise AssertionError(text)


def test_parts_say_what_their_description_says(extractor: SeriesExtractor) -> None:
    records = windows(25)
    q = extractor.quantised(records)
    assert q.shape == (25, extractor.dimension) and q.dtype == np.int16
    for row, record in enumerate(records):
        x = oracle.whole_numbers(SCHEMA, record)
        wanted = {
            "last/3": x[::-1][:3].reshape(-1),
            "summary": oracle.summary(x),
            "memory/3": np.concatenate([oracle.memory(x, k) for k in (1, 2, 4)]),
            "changes/3": np.concatenate([oracle.changes(x, k) for k in (1, 2, 4)]),
            "kernels/84": oracle.kernel_shares(x, 84),
            "hinges/20": oracle.hinges(x, 20),
            "levels": oracle.levels(SCHEMA, record),
        }
        for name, value in wanted.items():
            # One quantum for rounding; memory's weights are whole numbers of 1 / 32768, and constants of the range are floats.
            assert np.abs(part_of(extractor, q, name)[row] - value).max() <= 2.0, name


def test_any_batch_size_and_thread_count_gives_the_same_bits(extractor: SeriesExtractor) -> None:
    records = windows(1000, seed=1)
    together = extractor.quantised(records)
    alone = np.concatenate([extractor.quantised(records[k : k + 1]) for k in range(1000)])
    assert (together == alone).all()
    assert (SeriesExtractor(SCHEMA, PARTS, threads=3).quantised(records) == together).all()


def test_another_process_has_the_same_digest(extractor: SeriesExtractor) -> None:
    code = "from tests.foundry.test_seriesfeatures import *; print(SeriesExtractor(SCHEMA, PARTS).digest)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout.strip() == extractor.digest


def test_the_digest_follows_schema_and_parts(extractor: SeriesExtractor) -> None:
    other = Schema(columns=(*SCHEMA.columns[:2], Column(name="rain", unit="mm", low=0.0, high=200.0)), steps=30)
    found = {extractor.digest, SeriesExtractor(other, PARTS).digest, SeriesExtractor(SCHEMA, PARTS[:-1]).digest}
    assert len(found) == 3 and extractor.stage().digest == extractor.digest and extractor.stage().dimension == extractor.dimension


def test_more_of_a_part_begins_with_less_of_it() -> None:
    records = windows(40, seed=2)
    for few, many in (
        ("last/2", "last/5"),
        ("memory/1", "memory/4"),
        ("changes/1", "changes/4"),
        ("kernels/9", "kernels/60"),
        ("hinges/3", "hinges/30"),
    ):
        q = SeriesExtractor(SCHEMA, (few,)).quantised(records)
        assert (SeriesExtractor(SCHEMA, (many,)).quantised(records)[:, : q.shape[1]] == q).all(), few


def test_the_exported_graph_gives_the_librarys_verdicts(extractor: SeriesExtractor) -> None:
    """1,000 cases, no verdict flips, no score differs; the graph takes raw windows."""
    train, cases = windows(400, seed=3), windows(1000, seed=4)
    q = extractor.quantised(train)
    y = np.where(np.nanmean(train[:, -5:, 2], axis=1) > 8.0, 1, -1)
    fit = candidates(moments_of(q, np.ones(400, np.int64), y, np.arange(400)), (0.03,))[0]
    head = head_from(fit, extractor.stage(), -0.2, 0.2)
    graph = GraphWriter()
    _add_head(graph, add_series_features(graph, SCHEMA, PARTS, "records"), head)
    outputs = [
        helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n"]),
        helper.make_tensor_value_info("verdict", TensorProto.INT64, ["n"]),
    ]
    run = session(graph.model("test", [record_input(SCHEMA)], outputs).SerializeToString(), 1)
    scores, verdicts = run.run(["score", "verdict"], {"records": cases})
    exact = (head.bias + extractor.quantised(cases).astype(float) @ head.coefficients.array()).astype(np.float32)
    wanted = np.where(exact >= 0.2, 1, np.where(exact <= -0.2, 0, 2))
    assert (scores == exact).all() and (verdicts == wanted).all()
    assert len(set(verdicts.tolist())) == 3


@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_any_window_gives_features_in_range(data: st.DataObject) -> None:
    steps = data.draw(st.integers(9, 40))
    columns = tuple(
        Column(name=f"c{k}", low=0.5, high=data.draw(st.floats(1.0, 1e6)), log=data.draw(st.booleans()), missing=True)
        for k in range(data.draw(st.integers(1, 3)))
    )
    schema = Schema(columns=columns, steps=steps)
    value = st.floats(width=32, allow_infinity=False, allow_nan=True)
    flat = data.draw(st.lists(value, min_size=steps * len(columns), max_size=steps * len(columns)))
    record = np.array(flat, dtype=np.float32).reshape(1, steps, len(columns))
    q = SeriesExtractor(schema, ("last/1", "summary", "memory/2", "changes/2", "kernels/10", "hinges/5")).quantised(record)
    assert int(q.min()) >= -32767
    x = oracle.whole_numbers(schema, record[0])
    assert np.abs(q[0, : len(columns)] - x[-1]).max() <= 1


def test_a_still_sensor_is_no_signal() -> None:
    still = np.full((1, 30, 3), 5.0, dtype=np.float32)
    still[:, :, 1] = 1.0
    q = SeriesExtractor(SCHEMA, ("kernels/84",)).quantised(still)
    assert set(q[0].tolist()) <= {-32767, 32767}  # a flat answer of 0 is above all negative biases and below the others


def test_long_windows_stay_exact() -> None:
    schema = Schema(columns=(Column(name="c", low=-1.0, high=1.0),), steps=4096)
    records = np.sign(np.random.default_rng(5).normal(size=(3, 4096, 1))).astype(np.float32)
    q = SeriesExtractor(schema, ("summary", "changes/9", "kernels/12", "memory/12"))
    together = q.quantised(records)
    assert (np.concatenate([q.quantised(records[k : k + 1]) for k in range(3)]) == together).all()
    assert abs(int(together[0, 0]) - round(float(records[0].mean()) * 32767)) <= 1


def test_kernels_are_drawn_not_learned() -> None:
    assert kernels(30, 2, 20) == kernels(30, 2, 40)[:20]
    assert dilations(9) == (1,) and dilations(30) == (1, 2) and dilations(33) == (1, 2, 4)
    series = drawn_series(30)
    assert np.abs(series.mean(axis=1)).max() < 1e-9 and np.abs(series.std(axis=1) - 1).max() < 1e-9
    biases = np.array([kernel.bias for kernel in kernels(30, 2, 84)])
    assert (biases > 0).any() and (biases < 0).any() and float(np.abs(biases).max()) < 12.0


@pytest.mark.parametrize(
    ("parts", "steps", "said"),
    [
        ((), 30, "cannot be used together"),
        (("last/2", "last/3"), 30, "cannot be used together"),
        (("kernel/2",), 30, "names no features"),
        (("last/0",), 30, "names no features"),
        (("summary/2",), 30, "names no features"),
        (("kernels/10",), 8, "needs 9 steps"),
        (("last/31",), 30, "last/1 to last/30"),
        (("changes/5",), 30, "changes/1 to changes/4"),
        (("memory/13",), 30, "memory/1 to memory/12"),
        (("summary",), 1, "one step"),
    ],
)
def test_parts_that_cannot_be_made_are_refused(parts: tuple[str, ...], steps: int, said: str) -> None:
    with pytest.raises(InputError) as caught:
        feature_count(Schema(columns=SCHEMA.columns, steps=steps), parts)
    assert said in f"{caught.value.message} {caught.value.next_step}"


def test_parts_without_their_columns_are_refused() -> None:
    numbers = Schema(columns=(SCHEMA.columns[2],), steps=30)
    categories = Schema(columns=(SCHEMA.columns[1],), steps=30)
    with pytest.raises(InputError, match="without categories"):
        feature_count(numbers, ("levels",))
    with pytest.raises(InputError, match="without numbers"):
        feature_count(categories, ("summary",))
    assert SeriesExtractor(categories, ("levels",)).dimension == 3


def test_windows_that_do_not_fit_are_refused(extractor: SeriesExtractor) -> None:
    good = windows(2)
    gap, odd, endless = good.copy(), good.copy(), good.copy()
    gap[0, 3, 2], odd[0, 3, 1], endless[0, 3, 0] = np.nan, 1.5, np.inf
    for bad, said in (
        (gap, "rain is missing"),
        (odd, "gauge holds"),
        (endless, "discharge holds"),
        (good[:, :29], "are \\(2, 29, 3\\)"),
        (good.astype(float), "float64"),
    ):
        with pytest.raises(InputError, match=said):
            extractor.quantised(bad)
    assert extractor.quantised(good[:0]).shape == (0, extractor.dimension)


def test_a_change_follows_from_the_values_it_is_a_change_of(extractor: SeriesExtractor) -> None:
    """The newest change of width 1 is half the difference of the last two values: sums over it follow from sums over them."""
    q = extractor.quantised(windows(50)).astype(int)
    last, change = part_of(extractor, q.astype(np.int16), "last/3"), part_of(extractor, q.astype(np.int16), "changes/3")
    assert np.abs(change[:, :2] - (last[:, :2] - last[:, 2:4]) / 2).max() <= 1.0


def test_the_default_parts_are_few() -> None:
    assert 30 <= feature_count(SCHEMA, DEFAULT_SERIES_PARTS) <= 150


def test_each_feature_has_a_name(extractor: SeriesExtractor) -> None:
    names = [name for text in PARTS for name in series_part_names(SCHEMA, parsed_series_part(text))]
    assert len(names) == len(set(names)) == extractor.dimension
