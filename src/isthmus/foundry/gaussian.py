"""The Gaussian head: solved from sums of good records, written into the graph, and what it says of a picture.

What a score is stands in kit.mahalanobis; nodes use the same arithmetic. The graph's further output `heat` (n, GRID_SIDE, GRID_SIDE) is
the distance of each place, 1 for a typical one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from isthmus.contracts.errors import DocumentError, InputError
from isthmus.contracts.head import Array, Gaussian, Head, Stage
from isthmus.contracts.parts import GRID_SIDE
from isthmus.contracts.sums import GoodMoments
from isthmus.foundry.backbone import GraphWriter
from isthmus.kit.mahalanobis import DIMENSION_MAX, PIVOT, SQUARE_MAX, TOP_MAX, UNIT, WHITE_MAX, Whitening, spread_of, whitening, zone_of
from isthmus.kit.pictures import DECODER
from isthmus.kit.records import RECORD_DECODER

Floats = NDArray[np.float64]
TOP_SHARE = 0.05
"""Of a picture's places, whose mean distance is its score: some ten of 196, about the size of a defect that matters."""
SHRINKAGES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)


@dataclass(frozen=True)
class GaussianFit:
    """One fit. lam: its shrinkage, called as a ridge's penalty is, so that a choice between fits reads alike."""

    lam: float
    fitted: Whitening


def top_of(stage: Stage) -> int:
    """How many of the farthest places a record's score is the mean of."""
    return min(TOP_MAX, max(1, round(TOP_SHARE * stage.positions)))


def gaussian_fits(sums: GoodMoments, shrinkages: Sequence[float] = SHRINKAGES) -> list[GaussianFit]:
    """One fit for each shrinkage. Raises InputError."""
    spread = spread_of(sums)
    return [GaussianFit(float(s), whitening(spread, s)) for s in shrinkages]


def gaussian_head(fitted: Whitening, stage: Stage, lo: float, hi: float) -> Head:
    """The fit as a head document. Raises InputError when dimension or thresholds do not fit."""
    if fitted.matrix.shape != (stage.zones, stage.dimension, stage.dimension):
        raise InputError(f"the fit is of {fitted.matrix.shape}, the stage has {stage.dimension} features", "fit on this stage's sums")
    return head_of_arrays(fitted.matrix, fitted.centre, stage, lo, hi)


def head_of_arrays(matrix: Floats, centre: Floats, stage: Stage, lo: float, hi: float) -> Head:
    """A head of a matrix (zones, d, d) and a centre (zones, d). Raises InputError."""
    if not (np.isfinite([lo, hi]).all() and lo <= hi):
        raise InputError(f"the thresholds {lo} and {hi} cannot be used", "give finite numbers, the lower first")
    return Head(
        stage=stage,
        coefficients=Array.of(np.zeros(0)),
        bias=0.0,
        lo=float(lo),
        hi=float(hi),
        decoder=DECODER if stage.schema is None else RECORD_DECODER,
        gaussian=Gaussian(matrix=Array.of(matrix), centre=Array.of(centre), top=top_of(stage)),
    )


def add_gaussian(graph: GraphWriter, quantised: str, stage: Stage, gaussian: Gaussian) -> str:
    """Adds distances and score; returns the name of the score in doubles, (n,). Raises DocumentError when the head does not fit."""
    matrix, centre = gaussian.matrix.array(), gaussian.centre.array()
    d, zones, positions = stage.dimension, stage.zones, stage.positions
    fits = matrix.shape == (zones, d, d) and centre.shape == (zones, d) and d <= DIMENSION_MAX
    if not fits or not 1 <= gaussian.top <= min(positions, TOP_MAX):
        raise DocumentError(f"the Gaussian has {matrix.shape} for {d} features in {zones} zones", "fit it again")
    squares = _add_squares(graph, quantised, stage, matrix, centre)
    graph.constant("gaussian_top", np.array([gaussian.top], np.int64))
    graph.constant("gaussian_unit", np.array(gaussian.top * d * UNIT * UNIT, np.float64))
    graph.constant("gaussian_pivot", np.array(PIVOT, np.float64))
    graph.constant("gaussian_two", np.array(2.0, np.float64))
    graph.constant("gaussian_axis", np.array([1], np.int64))
    graph.nodes.append(_top_k(squares))
    total = graph.node("ReduceSum", ["farthest", "gaussian_axis"], "farthest_sum", keepdims=0)
    ratio = graph.node("Div", [total, "gaussian_unit"], "distance_ratio")
    above = graph.node("Mul", [graph.node("Sub", [ratio, "gaussian_pivot"], "ratio_less"), "gaussian_two"], "ratio_twice")
    score = graph.node("Div", [above, graph.node("Add", [ratio, "gaussian_pivot"], "ratio_more")], "score_double")
    if positions > 1:
        _add_heat(graph, squares, d)
    return score


def _top_k(squares: str) -> onnx.NodeProto:
    return helper.make_node("TopK", [squares, "gaussian_top"], ["farthest", "farthest_places"], name="farthest", axis=1, sorted=0)


def _add_squares(graph: GraphWriter, quantised: str, stage: Stage, matrix: Floats, centre: Floats) -> str:
    """(n, positions) squared distances, whole numbers."""
    exact = graph.node("Cast", [quantised], "quantised_double", to=TensorProto.DOUBLE)
    graph.constant("gaussian_shape", np.array([0, stage.positions, stage.dimension], np.int64))
    graph.constant("gaussian_last", np.array([2], np.int64))
    for name, value in (("white_min", -WHITE_MAX), ("white_max", WHITE_MAX), ("square_max", SQUARE_MAX)):
        graph.constant(name, np.array(value, np.float64))
    rows = graph.node("Reshape", [exact, "gaussian_shape"], "gaussian_rows")
    zone, parts = zone_of(stage.positions, stage.zones), []
    for index in range(stage.zones):
        graph.constant(f"zone_{index}", np.flatnonzero(zone == index).astype(np.int64))
        graph.constant(f"zone_{index}_matrix", matrix[index].T)
        graph.constant(f"zone_{index}_centre", centre[index])
        chosen = graph.node("Gather", [rows, f"zone_{index}"], f"zone_{index}_rows", axis=1)
        turned = graph.node("MatMul", [chosen, f"zone_{index}_matrix"], f"zone_{index}_turned")
        white = graph.node("Round", [graph.node("Sub", [turned, f"zone_{index}_centre"], f"zone_{index}_less")], f"zone_{index}_round")
        bounded = graph.node("Clip", [white, "white_min", "white_max"], f"zone_{index}_white")
        square = graph.node("Mul", [bounded, bounded], f"zone_{index}_square")
        parts.append(graph.node("ReduceSum", [square, "gaussian_last"], f"zone_{index}_sum", keepdims=0))
    order = np.argsort(np.concatenate([np.flatnonzero(zone == index) for index in range(stage.zones)])).astype(np.int64)
    graph.constant("zone_order", order)
    joined = graph.node("Gather", [graph.node("Concat", parts, "zone_sums", axis=1), "zone_order"], "squares_all", axis=1)
    return graph.node("Min", [joined, "square_max"], "squares")


def _add_heat(graph: GraphWriter, squares: str, dimension: int) -> None:
    graph.constant("heat_unit", np.array(dimension * UNIT * UNIT, np.float64))
    graph.constant("heat_shape", np.array([0, GRID_SIDE, GRID_SIDE], np.int64))
    far = graph.node("Sqrt", [graph.node("Div", [squares, "heat_unit"], "heat_ratio")], "heat_double")
    graph.node("Reshape", [graph.node("Cast", [far], "heat_flat", to=TensorProto.FLOAT), "heat_shape"], "heat")
