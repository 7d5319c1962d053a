"""Heads that foretell numbers, and the end of their graph: from quantised features to values with bands.

Outputs, each FLOAT (n, targets): `score`, in units of each target, an exact sum; `value`, `low`, `high`, the same in the target's own unit,
the band's ends within the declared range. Bands differ by the score (`edges` part the scores, a band a part), so that a rising river has a
wider one than a still; an infinite band reaches to the end of the range.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from isthmus.contracts.errors import DocumentError, InputError
from isthmus.contracts.head import Array, Head, Output, Stage
from isthmus.contracts.inference import HIGH, LOW, SCORE, VALUE
from isthmus.contracts.schema import Schema
from isthmus.contracts.sums import FEATURE_MAX
from isthmus.contracts.targets import Target, checked_targets, unit_step
from isthmus.foundry.backbone import GraphWriter
from isthmus.foundry.ridge import Candidate, snapped
from isthmus.kit.records import RECORD_DECODER

Floats = NDArray[np.float64]
FORECAST_OUTPUTS = (SCORE, VALUE, LOW, HIGH)
OFFSET_MAX = 8.0 * FEATURE_MAX
"""An end of a band that is farther from the score reaches beyond any range."""


@dataclass(frozen=True)
class Banded:
    """One target's fit with its bands. edges: ascending, one less than bands. bands: (low, high) in units, added to the score.
    held_ppm: as in contracts.head.Output."""

    target: Target
    candidate: Candidate
    edges: tuple[float, ...]
    bands: tuple[tuple[float, float], ...]
    held_ppm: int


def _output(banded: Banded) -> Output:
    """Coefficients are snapped, as `ridge.head_from` does, so that every score is an exact sum."""
    edges, bands = banded.edges, banded.bands
    if len(bands) != len(edges) + 1 or list(edges) != sorted(set(edges)) or any(not low <= high for low, high in bands):
        raise InputError(f"{len(bands)} bands and {len(edges)} edges do not belong together", "give one band more than ascending edges")
    raw = banded.candidate.raw()
    most = float(np.abs(raw[1:]).sum()) * FEATURE_MAX * 2.0 + abs(float(raw[0]))
    slopes = snapped(raw[1:], most)
    bias = float(snapped(np.array(raw[0] + float((raw[1:] - slopes) @ banded.candidate.mean)), most))
    lows, highs = (tuple(float(np.clip(end, -OFFSET_MAX, OFFSET_MAX)) for end in side) for side in zip(*bands, strict=True))
    return Output(
        target=banded.target,
        coefficients=Array.of(slopes),
        bias=bias,
        edges=tuple(float(edge) for edge in edges),
        lows=lows,
        highs=highs,
        held_ppm=banded.held_ppm,
    )


def forecast_head(stage: Stage, outputs: Sequence[Banded]) -> Head:
    """The head's document. Raises InputError when targets, bands or dimension do not fit."""
    if stage.schema is None:
        raise InputError("numbers are foretold from rows and windows, not from pictures", "use a stage of columns")
    checked_targets(tuple(one.target for one in outputs), stage.schema)
    if any(one.candidate.coefficients.shape != (stage.dimension + 1,) for one in outputs):
        raise InputError(f"a fit has not the stage's {stage.dimension} features", "fit on this stage's sums")
    found = tuple(_output(one) for one in outputs)
    return Head(stage=stage, coefficients=Array.of(np.zeros(0)), bias=0.0, lo=0.0, hi=0.0, decoder=RECORD_DECODER, outputs=found)


def _checked(head: Head) -> tuple[tuple[Output, Floats], ...]:
    """Outputs with their coefficients. Raises DocumentError."""
    schema = head.stage.schema
    try:
        if schema is None:
            raise InputError("the head foretells numbers from pictures", "fit it on columns")
        checked_targets(tuple(output.target for output in head.outputs), schema)
    except InputError as error:
        raise DocumentError(error.message, error.next_step) from error
    found = []
    for output in head.outputs:
        coefficients, ends = output.coefficients.array().astype(np.float64), (*output.edges, *output.lows, *output.highs, output.bias)
        right = coefficients.shape == (head.stage.dimension,) and bool(np.isfinite(ends).all())
        right = right and len(output.lows) == len(output.highs) == len(output.edges) + 1
        right = right and list(output.edges) == sorted(set(output.edges)) and all(np.array(output.lows) <= np.array(output.highs))
        if not right:
            raise DocumentError(f"the head of {output.target.name} does not fit its features or bands", "fit it again")
        found.append((output, coefficients))
    return tuple(found)


def _add_origin(graph: GraphWriter, schema: Schema, target: Target, given: str, tag: str) -> str:
    """(n,) or one double: what units count from, on the target's scale. A change counts from the column's newest value within its range."""
    low, high = (np.log(end) if target.log else end for end in (target.low, target.high))
    if not target.change_from:
        return graph.constant(f"{tag}_middle", np.array((low + high) / 2.0, np.float64))
    place = [column.name for column in schema.columns].index(target.change_from)
    row = given
    if schema.steps > 1:
        row = graph.node("Gather", [given, graph.constant(f"{tag}_step", np.array(schema.steps - 1, np.int64))], f"{tag}_row", axis=1)
    value = graph.node("Gather", [row, graph.constant(f"{tag}_column", np.array(place, np.int64))], f"{tag}_newest", axis=1)
    exact = graph.node("Cast", [value], f"{tag}_newest_exact", to=TensorProto.DOUBLE)
    above = graph.node("Max", [exact, graph.constant(f"{tag}_least", np.array(target.low, np.float64))], f"{tag}_newest_above")
    within = graph.node("Min", [above, graph.constant(f"{tag}_most", np.array(target.high, np.float64))], f"{tag}_newest_within")
    return graph.node("Log", [within], f"{tag}_origin") if target.log else within


def _add_value(graph: GraphWriter, target: Target, origin: str, units: str, tag: str) -> str:
    """Units (n,) in doubles -> FLOAT (n, 1) in the target's unit, within its range."""
    low, high = (np.log(end) if target.log else end for end in (target.low, target.high))
    moved = graph.node("Mul", [units, graph.constant(f"{tag}_unit", np.array(unit_step(target)))], f"{tag}_moved")
    seen = graph.node("Add", [moved, origin], f"{tag}_seen")
    above = graph.node("Max", [seen, graph.constant(f"{tag}_floor", np.array(low, np.float64))], f"{tag}_above")
    within = graph.node("Min", [above, graph.constant(f"{tag}_ceiling", np.array(high, np.float64))], f"{tag}_within")
    plain = graph.node("Exp", [within], f"{tag}_plain") if target.log else within
    return _column(graph, plain, tag)


def _column(graph: GraphWriter, value: str, tag: str) -> str:
    """(n,) doubles -> FLOAT (n, 1)."""
    return graph.node("Unsqueeze", [graph.node("Cast", [value], f"{tag}_single", to=TensorProto.FLOAT), "feature_axis"], f"{tag}_column")


def _add_output(graph: GraphWriter, schema: Schema, exact: str, given: str, output: tuple[Output, Floats], tag: str) -> list[str]:
    """The four columns of one target, in the order of FORECAST_OUTPUTS."""
    said, coefficients = output
    target = said.target
    products = graph.node("Mul", [exact, graph.constant(f"{tag}_coefficients", coefficients)], f"{tag}_contributions")
    summed = graph.node("ReduceSum", [products, "feature_axis"], f"{tag}_contribution_sum", keepdims=0)
    score = graph.node("Add", [summed, graph.constant(f"{tag}_bias", np.array(said.bias, np.float64))], f"{tag}_units")
    wide = graph.node("Unsqueeze", [score, "feature_axis"], f"{tag}_score_wide")
    edges = graph.constant(f"{tag}_edges", np.array(said.edges, np.float64).reshape(1, len(said.edges)))
    beyond = graph.node("GreaterOrEqual", [wide, edges], f"{tag}_beyond")
    ones = graph.node("Cast", [beyond], f"{tag}_beyond_ones", to=TensorProto.INT64)
    place = graph.node("ReduceSum", [ones, "feature_axis"], f"{tag}_band", keepdims=0)
    origin = _add_origin(graph, schema, target, given, tag)
    columns = [_column(graph, score, f"{tag}_score"), _add_value(graph, target, origin, score, f"{tag}_value")]
    for side, ends in ((LOW, said.lows), (HIGH, said.highs)):
        offset = graph.node("Gather", [graph.constant(f"{tag}_{side}s", np.array(ends, np.float64)), place], f"{tag}_{side}_offset")
        moved = graph.node("Add", [score, offset], f"{tag}_{side}_units")
        columns.append(_add_value(graph, target, origin, moved, f"{tag}_{side}"))
    return columns


def add_forecast(graph: GraphWriter, quantised: str, given: str, head: Head) -> list[onnx.ValueInfoProto]:
    """Adds all outputs of a head to a graph whose features and input have these names; returns the graph's outputs. Raises
    DocumentError."""
    outputs = _checked(head)
    schema = head.stage.schema
    assert schema is not None
    graph.constant("feature_axis", np.array([1], np.int64))
    exact = graph.node("Cast", [quantised], "quantised_double", to=TensorProto.DOUBLE)
    columns = [_add_output(graph, schema, exact, given, output, f"target_{place}") for place, output in enumerate(outputs)]
    for name, parts in zip(FORECAST_OUTPUTS, zip(*columns, strict=True), strict=True):
        graph.node("Concat", list(parts), name, axis=1)
    return [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", len(outputs)]) for name in FORECAST_OUTPUTS]
