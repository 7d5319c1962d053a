"""The graph of a forecast gives what the library gives: scores bit for bit, values and bands in the target's own unit."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from isthmus.contracts.errors import DocumentError, InputError, ModelFileError
from isthmus.contracts.head import Array, Head
from isthmus.contracts.schema import Column, Schema
from isthmus.contracts.targets import TARGET_MAX, Target, units_of, values_of
from isthmus.foundry.engine import Forecaster, Scorer
from isthmus.foundry.engine_process import EngineProcess
from isthmus.foundry.export import artefact_metadata, build_artefact
from isthmus.foundry.forecast import Banded, forecast_head
from isthmus.foundry.regression import OwnerRows, fit_owners
from isthmus.foundry.seriesfeatures import SeriesExtractor
from isthmus.foundry.stages import RecordStages
from isthmus.foundry.tablefeatures import TableExtractor

SCHEMA = Schema(
    columns=(Column(name="rain", low=0.0, high=60.0, missing=True), Column(name="river", low=0.1, high=50.0, log=True)), steps=20
)
PARTS = ("last/2", "memory/3")
CHANGE = Target(name="river_next", low=0.1, high=50.0, log=True, change_from="river")
PLAIN = Target(name="days_left", low=0.0, high=100.0)
EDGES, BANDS = (-500.0, 800.0), ((-300.0, 200.0), (-100.0, 400.0), (-math.inf, math.inf))


def records(count: int, seed: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    found = np.stack([rng.exponential(6, (count, 20)), np.exp(rng.normal(1, 1, (count, 20)))], axis=2)
    found[:, :-1, 0][rng.random((count, 19)) < 0.1] = np.nan
    return found.astype(np.float32)


def banded(target: Target) -> Banded:
    given = records(300, 1)
    newest = given[:, -1, 1]
    outcome = newest * np.exp(0.03 * given[:, -1, 0] - 0.2) if target.change_from else 90.0 - given[:, -1, 0]
    y = units_of(target, outcome, newest if target.change_from else None)
    q = SeriesExtractor(SCHEMA, PARTS).quantised(given)
    fit = fit_owners([OwnerRows(q, np.ones(300, np.int64), y, np.arange(300) // 10)], (0.01,))
    return Banded(target, fit.candidate, EDGES, BANDS, 800_000)


@pytest.fixture(scope="module")
def head() -> Head:
    return forecast_head(SeriesExtractor(SCHEMA, PARTS).stage(), [banded(CHANGE), banded(PLAIN)])


def test_the_graph_gives_the_librarys_forecasts_of_all_targets(head: Head) -> None:
    """1,000 cases."""
    cases = records(1000, 2)
    found = Forecaster(build_artefact(head)).outputs(list(cases))
    assert found.shape == (1000, 4, 2)
    q = SeriesExtractor(SCHEMA, PARTS).quantised(cases).astype(float)
    for place, output in enumerate(head.outputs):
        scores = q @ output.coefficients.array() + output.bias
        score, value, low, high = found[:, :, place].T
        assert (score == scores.astype(np.float32)).all()
        part = np.searchsorted(EDGES, scores, side="right")
        newest = cases[:, -1, 1] if output.target.change_from else None
        for given, offset in ((value, 0.0), (low, np.array(output.lows)[part]), (high, np.array(output.highs)[part])):
            wanted = values_of(output.target, np.clip(scores + offset, -1e6, 1e6), newest)
            assert np.allclose(given, wanted, rtol=2e-6, atol=1e-6)
        assert (low <= value).all() and (value <= high).all()
        assert len(set(part.tolist())) > 1 and (high[part == 2] == np.float32(output.target.high)).all()


def test_one_at_a_time_gives_the_same_bits(head: Head) -> None:
    run, cases = Forecaster(build_artefact(head)), list(records(100, 3))
    assert (run.outputs(cases) == np.concatenate([run.outputs([one]) for one in cases])).all()


def test_a_worker_process_gives_the_same_and_the_bytes_say_what_they_are(head: Head) -> None:
    artefact, cases = build_artefact(head), list(records(40, 4))
    assert artefact == build_artefact(msgspec.json.decode(msgspec.json.encode(head), type=Head))
    assert artefact_metadata(artefact)["stage_digest"] == head.stage.digest
    engine = EngineProcess(artefact)
    try:
        assert (engine.foretold(cases) == Forecaster(artefact).foretold(cases)).all()
        with pytest.raises(InputError):
            engine.foretold([np.zeros((3, 3, 3), np.float32)])
    finally:
        engine.close()
    with pytest.raises(ModelFileError, match="numbers, not verdicts"):
        Scorer(artefact)


def test_rows_of_a_table_are_foretold_too() -> None:
    schema = Schema(columns=(Column(name="wear", low=0.0, high=10.0), Column(name="load", low=0.0, high=5.0)))
    target = Target(name="wear_next", low=0.0, high=10.0, change_from="wear")
    rows = np.random.default_rng(5).uniform(0, 5, (400, 2)).astype(np.float32)
    extractor = TableExtractor(schema, ("columns",))
    y = units_of(target, rows[:, 0] + 0.3 * rows[:, 1], rows[:, 0])
    fit = fit_owners([OwnerRows(extractor.quantised(rows), np.ones(400, np.int64), y, np.arange(400) // 10)], (0.0001,))
    stage = RecordStages("table", ("columns",), schema).stage
    made = forecast_head(stage, [Banded(target, fit.candidate, (), ((-200.0, 200.0),), 900_000)])
    value = Forecaster(build_artefact(made)).foretold(list(rows))[:, 0, 0]
    assert np.abs(value - (rows[:, 0] + 0.3 * rows[:, 1])).max() < 0.02


def test_snapped_coefficients_are_those_of_the_fit(head: Head) -> None:
    q = SeriesExtractor(SCHEMA, PARTS).quantised(records(50, 4)).astype(float)
    assert np.abs(q @ head.outputs[1].coefficients.array() + head.outputs[1].bias).max() < 2 * TARGET_MAX


def test_what_does_not_belong_together_is_refused(head: Head) -> None:
    stage, fine = head.stage, banded(PLAIN)
    for edges, bands in (((0.0,), ((-1.0, 1.0),)), ((1.0, 0.0), ((-1.0, 1.0),) * 3), ((), ((1.0, -1.0),))):
        with pytest.raises(InputError, match="do not belong together"):
            forecast_head(stage, [Banded(PLAIN, fine.candidate, edges, bands, 800_000)])
    with pytest.raises(InputError, match="one twice"):
        forecast_head(stage, [fine, fine])
    output = head.outputs[0]
    for wrong in (
        msgspec.structs.replace(output, lows=output.lows[:1]),
        msgspec.structs.replace(output, coefficients=Array.of(np.zeros(3))),
        msgspec.structs.replace(output, bias=math.nan),
        msgspec.structs.replace(output, target=msgspec.structs.replace(CHANGE, change_from="rain")),
    ):
        with pytest.raises(DocumentError):
            build_artefact(msgspec.structs.replace(head, outputs=(wrong,)))
