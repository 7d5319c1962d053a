"""Writes one deterministic ONNX graph from a raw window to a foretold number and its band.

Input `records`: FLOAT (n, steps, columns), NaN where missing. Outputs, each FLOAT (n,): `units`, the head's score in the target's
units, an exact sum; `value`, `low`, `high`, the same in the target's own unit, the band's ends within the declared range. Bands differ by
the score (`edges` part the scores, a band a part), so that a rising river has a wider one than a still; an infinite band reaches to the end
of the range.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from isthmus.contracts.errors import InputError
from isthmus.contracts.schema import Records, Schema
from isthmus.contracts.sums import FEATURE_MAX
from isthmus.contracts.targets import Target, checked_target, unit_step
from isthmus.foundry.backbone import GraphWriter
from isthmus.foundry.ridge import Candidate, snapped
from isthmus.foundry.runtime import session
from isthmus.foundry.seriesfeatures import add_series_features, checked_windows, record_input

Floats = NDArray[np.float64]
OUTPUTS = ("units", "value", "low", "high")


@dataclass(frozen=True)
class Forecast:
    """What a graph is written from. coefficients: (d,) on raw features; bias, edges, lows, highs: in units. edges: ascending, one less than
    there are bands; a score at an edge belongs to the part above it. lows, highs: what is added to the score."""

    schema: Schema
    parts: tuple[str, ...]
    target: Target
    coefficients: Floats
    bias: float
    edges: tuple[float, ...]
    lows: tuple[float, ...]
    highs: tuple[float, ...]


def forecast_from(
    candidate: Candidate,
    schema: Schema,
    parts: tuple[str, ...],
    target: Target,
    edges: tuple[float, ...],
    bands: tuple[tuple[float, float], ...],
) -> Forecast:
    """Coefficients are snapped, as `ridge.head_from` does, so that every score is an exact sum. bands: (low, high) in units, one more than
    edges. Raises InputError."""
    checked_target(target, schema)
    if len(bands) != len(edges) + 1 or list(edges) != sorted(set(edges)) or any(not low <= high for low, high in bands):
        raise InputError(f"{len(bands)} bands and {len(edges)} edges do not belong together", "give one band more than ascending edges")
    raw = candidate.raw()
    most = float(np.abs(raw[1:]).sum()) * FEATURE_MAX * 2.0 + abs(float(raw[0]))
    slopes = snapped(raw[1:], most)
    bias = float(snapped(np.array(raw[0] + float((raw[1:] - slopes) @ candidate.mean)), most))
    lows, highs = (tuple(float(found) for found in side) for side in zip(*bands, strict=True))
    return Forecast(schema, parts, target, slopes, bias, edges, lows, highs)


def _add_value(graph: GraphWriter, target: Target, origin: str, units: str, tag: str) -> str:
    """Units (n,) in doubles -> FLOAT (n,) in the target's unit, within its range."""
    moved = graph.node("Mul", [units, graph.constant("target_step", np.array(unit_step(target)))], f"{tag}_moved")
    seen = graph.node("Add", [moved, origin], f"{tag}_seen")
    low, high = (np.log(end) if target.log else end for end in (target.low, target.high))
    above = graph.node("Max", [seen, graph.constant("target_low", np.array(low, np.float64))], f"{tag}_above")
    within = graph.node("Min", [above, graph.constant("target_high", np.array(high, np.float64))], f"{tag}_within")
    plain = graph.node("Exp", [within], f"{tag}_plain") if target.log else within
    return graph.node("Cast", [plain], tag, to=TensorProto.FLOAT)


def _add_origin(graph: GraphWriter, forecast: Forecast) -> str:
    """(n,) or one double: what units count from, on the target's scale. A change counts from the column's newest value, filled and clipped
    as the features see it."""
    target = forecast.target
    ends = [np.log(end) if target.log else end for end in (target.low, target.high)]
    middle, half = (ends[0] + ends[1]) / 2.0, (ends[1] - ends[0]) / 2.0
    if not target.change_from:
        return graph.constant("target_middle", np.array(middle, np.float64))
    numbers = [column.name for column in forecast.schema.columns if column.kind == "number"]
    graph.constant("origin_column", np.array(numbers.index(target.change_from), np.int64))
    graph.constant("origin_step", np.array(forecast.schema.steps - 1, np.int64))
    column = graph.node("Gather", ["series_exact", "origin_column"], "origin_series", axis=1)
    newest = graph.node("Gather", [column, "origin_step"], "origin_units", axis=1)
    scaled = graph.node("Mul", [newest, graph.constant("origin_scale", np.array(half / FEATURE_MAX))], "origin_scaled")
    return graph.node("Add", [scaled, graph.constant("target_middle", np.array(middle, np.float64))], "origin")


def build_forecast(forecast: Forecast) -> bytes:
    """ONNX bytes; the same forecast gives the same bytes on one machine type and release of onnx. Raises InputError."""
    graph = GraphWriter()
    quantised = add_series_features(graph, forecast.schema, forecast.parts, "records")
    exact = graph.node("Cast", [quantised], "quantised_double", to=TensorProto.DOUBLE)
    graph.constant("head_coefficients", forecast.coefficients)
    graph.constant("head_bias", np.array(forecast.bias, np.float64))
    graph.constant("feature_axis", np.array([1], np.int64))
    products = graph.node("Mul", [exact, "head_coefficients"], "contributions")
    score = graph.node("Add", [graph.node("ReduceSum", [products, "feature_axis"], "contribution_sum", keepdims=0), "head_bias"], "score")
    graph.node("Cast", [score], "units", to=TensorProto.FLOAT)
    wide = graph.node("Unsqueeze", [score, "feature_axis"], "score_column")
    graph.constant("band_edges", np.array([forecast.edges], np.float64).reshape(1, len(forecast.edges)))
    beyond = graph.node("Cast", [graph.node("GreaterOrEqual", [wide, "band_edges"], "beyond")], "beyond_ones", to=TensorProto.INT64)
    place = graph.node("ReduceSum", [beyond, "feature_axis"], "band_place", keepdims=0)
    origin = _add_origin(graph, forecast)
    _add_value(graph, forecast.target, origin, score, "value")
    for side, ends in (("low", forecast.lows), ("high", forecast.highs)):
        finite = np.clip(np.array(ends, np.float64), -8.0 * FEATURE_MAX, 8.0 * FEATURE_MAX)
        offset = graph.node("Gather", [graph.constant(f"band_{side}s", finite), place], f"{side}_offset")
        _add_value(graph, forecast.target, origin, graph.node("Add", [score, offset], f"{side}_units"), side)
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in OUTPUTS]
    model = graph.model("isthmus_forecast", [record_input(forecast.schema)], outputs)
    return bytes(model.SerializeToString(deterministic=True))


class Forecaster:
    """Runs such a graph. threads: within one batch."""

    def __init__(self, artefact: bytes, schema: Schema, threads: int = 1) -> None:
        self._schema, self._session = schema, session(artefact, threads)

    def foretold(self, records: Records) -> dict[str, Floats]:
        """(n, steps, columns) float32 -> OUTPUTS, each (n,). Raises InputError."""
        found = self._session.run(list(OUTPUTS), {"records": checked_windows(self._schema, records)})
        return {name: np.asarray(value, dtype=np.float64) for name, value in zip(OUTPUTS, found, strict=True)}
