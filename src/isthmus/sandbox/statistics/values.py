"""value-moments/1, value-foldout/1, value-clusters/1 and value-evaluate/1: numbers that are foretold, at the node.

As foldout/2 does, fold-out scores are found from the fit's coefficients and the owner's own rows, without sight of the others' sums.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.errors import InputError, RefusedError
from isthmus.contracts.head import Stage
from isthmus.contracts.schema import Schema
from isthmus.contracts.statistic import CANDIDATES_MAX, CONDITIONS_MAX, SLICES_MAX
from isthmus.contracts.sums import GroupSums, Ints
from isthmus.contracts.targets import TARGET_MAX, Target, Weighing, checked_targets, checked_weighing, units_of, values_of, weights_of
from isthmus.contracts.valuesums import (
    BANDS_MAX,
    ERROR_UNIT,
    GROUP_ERROR_MAX,
    GROUP_ERROR_UNIT,
    LEVEL_UNIT,
    RESIDUAL_BINS_MAX,
    SCORE_PARTS_MAX,
    VALUE_COUNTS,
    VALUE_LEVELS,
    Bands,
    ResidualGrid,
    ValueClustersParams,
    ValueEvaluateParams,
    ValueFoldOut,
    ValueFoldOutParams,
    ValueMoments,
    ValueMomentsParams,
    ValueSums,
)
from isthmus.kit.hatmatrix import Floats
from isthmus.sandbox.folder import SPLITS, TRAIN
from isthmus.sandbox.held import Data
from isthmus.sandbox.statistics.evaluation import linear_scores
from isthmus.sandbox.statistics.foldout import fold_out_scores, group_sums
from isthmus.sandbox.statistics.moments import moments
from isthmus.sandbox.statistics.records import TrainingRecords

RESIDUAL_MAX = 4 * TARGET_MAX
"""A larger miss counts as this one, so that losses stay within 64 bits."""

END_SHARE = 1e-6
Mask = NDArray[np.bool_]
Asked = ValueMomentsParams | ValueFoldOutParams | ValueClustersParams


@dataclass(frozen=True)
class ValueRows:
    """Training records with their outcomes. training: y of the first target. units: (n, targets), see contracts.targets."""

    training: TrainingRecords
    units: Ints

    def of_target(self, place: int) -> TrainingRecords:
        records = replace(self.training.records, y=self.units[:, place])
        return replace(self.training, records=records)


def _require(holds: bool, message: str, next_step: str) -> None:
    if not holds:
        raise RefusedError("parameters", message, next_step)


def _schema_of(stage: Stage) -> Schema:
    if stage.schema is None:
        raise RefusedError("stage", "numbers are foretold from rows and windows, not from pictures", "use a stage of columns")
    return stage.schema


def check_value_params(params: Any, stage: Stage) -> None:
    """Raises RefusedError for parameters out of bounds; other statistics' are not looked at."""
    if isinstance(params, Asked):
        _check_targets(params.targets, params.weigh, _schema_of(stage))
    if isinstance(params, ValueFoldOutParams):
        lengths = {len(one) for one in params.candidates}
        fits = len(params.candidates) == len(params.targets) and len(lengths) == 1
        _require(
            fits and 1 <= max(lengths) <= CANDIDATES_MAX, "candidates do not fit the targets", f"1 to {CANDIDATES_MAX} for each target"
        )
        _require(not params.grids or lengths == {1}, "residuals of several candidates were asked for", "choose one by its loss")
        _require(len(params.grids) in (0, len(params.targets)), "grids do not fit the targets", "send one a target, or none")
        for grid in params.grids:
            _check_grid(grid)
    if isinstance(params, ValueClustersParams):
        fits = len(params.candidates) == len(params.bands) == len(params.targets)
        _require(fits, "candidates or bands do not fit the targets", "send one of each a target")
        for bands in params.bands:
            _check_bands(bands)
    if isinstance(params, ValueEvaluateParams):
        _check_evaluate(params, stage)


def _check_targets(targets: tuple[Target, ...], weighing: Weighing | None, schema: Schema) -> None:
    try:
        checked_targets(targets, schema)
        if weighing is not None:
            checked_weighing(weighing, schema)
    except InputError as error:
        raise RefusedError("parameters", error.message, error.next_step) from error


def _check_grid(grid: ResidualGrid) -> None:
    ordered = list(grid.edges) == sorted(set(grid.edges)) and 0 < grid.limit < np.inf and bool(np.isfinite(grid.edges).all())
    small = grid.parts <= SCORE_PARTS_MAX and 2 <= grid.bins <= RESIDUAL_BINS_MAX
    most = f"use {SCORE_PARTS_MAX} by {RESIDUAL_BINS_MAX} at most"
    _require(ordered and small, "a grid of residuals is too fine, or out of order", most)


def _check_bands(bands: Bands) -> None:
    alike = len(bands.lows) == len(bands.highs) == len(bands.edges) + 1 <= BANDS_MAX
    ordered = list(bands.edges) == sorted(set(bands.edges)) and all(low <= high for low, high in zip(bands.lows, bands.highs, strict=False))
    _require(alike and ordered, "bands and edges do not belong together", f"send up to {BANDS_MAX} bands, one more than ascending edges")


def _check_evaluate(params: ValueEvaluateParams, stage: Stage) -> None:
    outputs = params.head.outputs
    _require(params.head.stage == stage, "the head's stage is not the job's", "name one stage")
    _require(params.records in SPLITS, f"there is no split {params.records!r}", f"use one of {', '.join(SPLITS)}")
    _check_targets(tuple(output.target for output in outputs), None, _schema_of(stage))
    naive = len(params.naive) == len(outputs) and bool(np.isfinite(params.naive).all())
    _require(naive, "the naive forecast does not fit the targets", "send its units for each target")
    for name, values, most in (("slices", params.slices, SLICES_MAX), ("corruptions", params.corruptions, CONDITIONS_MAX)):
        _require(len(values) <= most and len(set(values)) == len(values), f"{len(values)} {name}, or one twice", f"up to {most}, distinct")
    _require(all(part not in ("", "all") for part in params.slices), "a slice has no name of its own", "name record kinds")


def value_rows(params: Asked, stage: Stage, data: Data) -> ValueRows:
    """The training split, its outcomes in units, weighed as declared."""
    schema, outcomes = _schema_of(stage), data.outcomes(TRAIN, params.targets)
    columns = [
        units_of(target, outcomes[:, place], data.newest(TRAIN, schema, target.change_from) if target.change_from else None)
        for place, target in enumerate(params.targets)
    ]
    units = np.stack(columns, axis=1)
    w = np.ones(len(units), dtype=np.int64)
    if params.weigh is not None:
        w = weights_of(params.weigh, data.newest(TRAIN, schema, params.weigh.column))
    records = replace(data.records(TRAIN), y=units[:, 0])
    return ValueRows(TrainingRecords(records, (data.features(stage, TRAIN),), w), units)


def value_moments(rows: ValueRows) -> ValueMoments:
    """Exact sums of all targets over one Gram matrix."""
    training = rows.training
    w, q = training.w, training.views[0].astype(np.int64)
    weighted = w[:, None] * rows.units
    further = [np.concatenate([[weighted[:, place].sum()], weighted[:, place] @ q]) for place in range(1, rows.units.shape[1])]
    squares = (weighted * rows.units).sum(axis=0)
    return ValueMoments(moments(training), np.array(further, dtype=np.int64).reshape(-1, 1 + training.dimension), squares)


def _residuals(rows: ValueRows, place: int, candidate: Any, total_weight: int) -> tuple[Floats, Floats]:
    """(fold-out scores, outcome less score) of one target, each (n,) in units."""
    coefficients = candidate.coefficients.array()
    scores = fold_out_scores(rows.of_target(place), candidate.penalty, candidate.bias, coefficients, total_weight)
    return scores, rows.units[:, place] - scores


def _squared_loss(residuals: Floats, w: Ints) -> int:
    """Sum of w times the squared residual, in whole square units."""
    return int((w * np.rint(np.clip(residuals, -RESIDUAL_MAX, RESIDUAL_MAX) ** 2).astype(np.int64)).sum())


def residual_counts(scores: Floats, residuals: Floats, grid: ResidualGrid) -> Ints:
    """(parts, bins) counts."""
    part = np.searchsorted(np.array(grid.edges, dtype=np.float64), scores, side="right")
    bin_ = np.floor((residuals + grid.limit) * grid.bins / (2.0 * grid.limit))
    places = part.astype(np.int64) * grid.bins + np.clip(bin_, 0, grid.bins - 1).astype(np.int64)
    return np.bincount(places, minlength=grid.parts * grid.bins).astype(np.int64).reshape(grid.parts, grid.bins)


def value_foldout(rows: ValueRows, params: ValueFoldOutParams) -> ValueFoldOut:
    """Losses of all candidates, or one a target with its residuals counted."""
    w, losses, counts = rows.training.w, [], []
    for place, candidates in enumerate(params.candidates):
        found = [_residuals(rows, place, candidate, params.total_weight) for candidate in candidates]
        losses.append([_squared_loss(residuals, w) for _, residuals in found])
        if params.grids:
            counts.append(residual_counts(*found[0], params.grids[place]))
    return ValueFoldOut(int(w.sum()), np.array(losses, dtype=np.int64), tuple(counts))


def beyond(scores: Floats, residuals: Floats, bands: Bands) -> Mask:
    """(n,) whether the outcome lies beyond the band of its score."""
    place = np.searchsorted(np.array(bands.edges, dtype=np.float64), scores, side="right")
    return np.asarray((residuals < np.array(bands.lows)[place]) | (residuals > np.array(bands.highs)[place]))


def value_clusters(rows: ValueRows, params: ValueClustersParams) -> Ints:
    """GroupSums of each target, one after the other."""
    groups, found = rows.training.records.groups, []
    for place, (candidate, bands) in enumerate(zip(params.candidates, params.bands, strict=True)):
        missed = beyond(*_residuals(rows, place, candidate, params.total_weight), bands)
        found.append(group_sums(np.ones(len(missed), dtype=bool), missed, groups).packed())
    return np.concatenate(found)


def value_evaluation(params: ValueEvaluateParams, stage: Stage, data: Data) -> Ints:
    """The rebuilt artefact's own numbers, held against the outcomes."""
    records = data.records(params.records)
    artefact = data.tools.artefact(params.head)
    if artefact.digest != params.artefact:
        raise RefusedError(
            "artefact", f"the head rebuilds to {artefact.digest}, not to {params.artefact}", "send the head of that artefact"
        )
    targets = tuple(output.target for output in params.head.outputs)
    outcomes, naive = data.outcomes(params.records, targets), _naive(params, stage, data)
    clean = data.foretold(artefact, stage, params.records, None)
    q = data.features(stage, params.records)
    for place, output in enumerate(params.head.outputs):
        if not np.array_equal(linear_scores(q, output.coefficients.array(), output.bias), clean[:, 0, place]):
            raise RefusedError("artefact", "the artefact's own scores are not those of its head on this machine", "use the same release")
    masks = [np.ones(records.size, dtype=bool), *(records.of_kind(part) for part in params.slices)]
    given = [(clean, mask) for mask in masks]
    given += [(data.foretold(artefact, stage, params.records, one), masks[0]) for one in params.corruptions]
    found = [
        value_sums(target, outcomes[:, place], naive[:, place], foretold[:, 1:, place], records.groups, mask).packed()
        for foretold, mask in given
        for place, target in enumerate(targets)
    ]
    return np.concatenate(found)


def _naive(params: ValueEvaluateParams, stage: Stage, data: Data) -> Floats:
    """(n, targets): the newest value moved by the declared units, or the declared units alone."""
    schema, count, found = _schema_of(stage), data.count(params.records), []
    for output, units in zip(params.head.outputs, params.naive, strict=True):
        column = output.target.change_from
        newest = data.newest(params.records, schema, column) if column else None
        found.append(values_of(output.target, np.full(count, units), newest))
    return np.stack(found, axis=1)


def value_sums(target: Target, outcome: Floats, naive: Floats, foretold: Floats, groups: Ints, chosen: Mask) -> ValueSums:
    """Sums over the records in `chosen`. outcome, naive: (n,); foretold: (n, 3) value, low and high; all in the target's unit."""
    span = target.high - target.low
    y, usual, groups = outcome[chosen], naive[chosen], groups[chosen]
    value, low, high = foretold[chosen].T
    low_miss, high_miss = y < low, y > high
    # a band that reaches an end of the range, but for rounding to single precision, is open there and holds what lies at that end
    open_low, open_high = low <= target.low + END_SHARE * span, high >= target.high - END_SHARE * span
    low_miss &= ~open_low
    high_miss &= ~open_high
    errors = [np.rint(((y - one) / span) ** 2 * ERROR_UNIT).astype(np.int64) for one in (value, usual)]
    mm, nn, mn = _group_products(errors[0], errors[1], groups)
    level = np.rint((y - target.low) / span * LEVEL_UNIT).astype(np.int64)
    missed = low_miss | high_miss
    counts = (y.size, np.unique(groups).size, low_miss.sum(), high_miss.sum(), (open_low | open_high).sum())
    width = np.rint((high - low) / span * LEVEL_UNIT).astype(np.int64).sum()
    levels = (errors[0].sum(), errors[1].sum(), mm, nn, mn, level.sum(), (level**2).sum(), width)
    clusters = group_sums(np.ones(y.size, dtype=bool), missed, groups) if y.size else GroupSums(0, 0, 0, 0, 0, 0)
    named = [{name: int(one) for name, one in zip(*pair, strict=True)} for pair in ((VALUE_COUNTS, counts), (VALUE_LEVELS, levels))]
    return ValueSums(named[0], clusters, named[1])


def _group_products(model: Ints, naive: Ints, groups: Ints) -> tuple[int, int, int]:
    """Over groups: sums of squares of the model's squared errors and the naive forecast's, and of their product, in GROUP_ERROR_UNIT."""
    codes = np.unique(groups, return_inverse=True)[1].reshape(-1)
    sums = [np.bincount(codes, weights=one.astype(np.float64)) * (GROUP_ERROR_UNIT / ERROR_UNIT) for one in (model, naive)]
    m, n = (np.minimum(np.rint(one), GROUP_ERROR_MAX).astype(np.int64) for one in sums)
    return int((m * m).sum()), int((n * n).sum()), int((m * n).sum())
