"""The graph of a forecast gives what the library gives: units bit for bit, values and bands in the target's own unit."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from isthmus.contracts.errors import InputError
from isthmus.contracts.schema import Column, Schema
from isthmus.contracts.targets import TARGET_MAX, Target, units_of, values_of
from isthmus.foundry.forecast import Forecast, Forecaster, build_forecast, forecast_from
from isthmus.foundry.regression import OwnerRows, fit_owners
from isthmus.foundry.seriesfeatures import SeriesExtractor

SCHEMA = Schema(
    columns=(Column(name="rain", low=0.0, high=60.0), Column(name="river", low=0.1, high=50.0, log=True, missing=True)), steps=20
)
PARTS = ("last/2", "memory/3")
CHANGE = Target(name="river_next", low=0.1, high=50.0, log=True, change_from="river")
PLAIN = Target(name="days_left", low=0.0, high=100.0)
EDGES, BANDS = (-500.0, 800.0), ((-300.0, 200.0), (-100.0, 400.0), (-math.inf, math.inf))


def records(count: int, seed: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    found = np.stack([rng.exponential(6, (count, 20)), np.exp(rng.normal(1, 1, (count, 20)))], axis=2)
    found[:, :-1, 1][rng.random((count, 19)) < 0.1] = np.nan
    return found.astype(np.float32)


def made(target: Target) -> tuple[Forecast, SeriesExtractor]:
    extractor, given = SeriesExtractor(SCHEMA, PARTS), records(300, 1)
    newest = given[:, -1, 1]
    outcome = newest * np.exp(0.03 * given[:, -1, 0] - 0.2) if target.change_from else 90.0 - given[:, -1, 0]
    y = units_of(target, outcome, newest if target.change_from else None)
    fit = fit_owners([OwnerRows(extractor.quantised(given), np.ones(300, np.int64), y, np.arange(300) // 10)], (0.01,))
    return forecast_from(fit.candidate, SCHEMA, PARTS, target, EDGES, BANDS), extractor


@pytest.mark.parametrize("target", [CHANGE, PLAIN], ids=["change on a logarithmic scale", "plain"])
def test_the_graph_gives_the_librarys_forecasts(target: Target) -> None:
    """1,000 cases."""
    forecast, extractor = made(target)
    cases = records(1000, 2)
    found = Forecaster(build_forecast(forecast), SCHEMA).foretold(cases)
    scores = extractor.quantised(cases).astype(float) @ forecast.coefficients + forecast.bias
    assert (found["units"] == scores.astype(np.float32)).all()
    place = np.searchsorted(EDGES, scores, side="right")
    newest = cases[:, -1, 1] if target.change_from else None
    for name, offset in (("value", 0.0), ("low", np.array(forecast.lows)[place]), ("high", np.array(forecast.highs)[place])):
        wanted = values_of(target, np.clip(scores + offset, -1e6, 1e6), newest)
        assert np.abs(found[name] / np.maximum(wanted, 1e-9) - 1.0).max() < 2e-4 or np.abs(found[name] - wanted).max() < 1e-3, name
    assert (found["low"] <= found["value"]).all() and (found["value"] <= found["high"]).all()
    assert len(set(place.tolist())) > 1 and (found["high"][place == 2] == np.float32(target.high)).all()


def test_one_at_a_time_gives_the_same_bits() -> None:
    forecast, _ = made(CHANGE)
    run, cases = Forecaster(build_forecast(forecast), SCHEMA), records(200, 3)
    together = run.foretold(cases)
    alone = [run.foretold(cases[k : k + 1]) for k in range(200)]
    for name, value in together.items():
        assert (value == np.concatenate([one[name] for one in alone])).all(), name


def test_the_same_forecast_gives_the_same_bytes() -> None:
    assert build_forecast(made(CHANGE)[0]) == build_forecast(made(CHANGE)[0])


def test_snapped_coefficients_are_those_of_the_fit() -> None:
    forecast, extractor = made(PLAIN)
    q = extractor.quantised(records(50, 4)).astype(float)
    assert np.abs(q @ forecast.coefficients + forecast.bias).max() < 2 * TARGET_MAX


def test_bands_that_do_not_fit_are_refused() -> None:
    _, extractor = made(PLAIN)
    rows = OwnerRows(extractor.quantised(records(40, 5)), np.ones(40, np.int64), np.arange(40) * 100, np.arange(40) // 5)
    candidate = fit_owners([rows], (0.1,)).candidate
    for edges, bands in (((0.0,), ((-1.0, 1.0),)), ((1.0, 0.0), ((-1.0, 1.0),) * 3), ((), ((1.0, -1.0),))):
        with pytest.raises(InputError, match="do not belong together"):
            forecast_from(candidate, SCHEMA, PARTS, PLAIN, edges, bands)
    assert Forecaster(build_forecast(forecast_from(candidate, SCHEMA, PARTS, PLAIN, (), ((-1.0, 1.0),))), SCHEMA)
