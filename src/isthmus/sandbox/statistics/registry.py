"""The fixed list of statistics that a node can compute. Nothing else runs beside the data.

A slice or split with fewer of the owner's own records than the agreement's least group size, but not none, is refused
as a whole job, and the refusal names the slice: contributing a part of it, or moving its records elsewhere, would make the
sums mean something other than what they say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.errors import InputError, RefusedError
from isthmus.contracts.head import Head, Stage
from isthmus.contracts.statistic import (
    AUGMENTATIONS_MAX,
    CANDIDATES_MAX,
    CLUSTERS,
    CONDITIONS_MAX,
    EVALUATE,
    FOLD_OUT,
    JOINT,
    MOMENTS,
    OTHER_HEADS_MAX,
    OWN_HEAD,
    PAIR,
    SITE_HEAD,
    SLICES_MAX,
    WEIGHT_MAX,
    ClustersParams,
    Corruption,
    EvaluateParams,
    FoldOutParams,
    MomentsParams,
    OwnHeadParams,
    PairParams,
    SiteHeadParams,
    TrainingParams,
    site_heads_size,
)
from isthmus.contracts.sums import EVALUATION_SIZE, PAIR_SIZE, foldout_size, moments_from, moments_size
from isthmus.sandbox.folder import SPLITS, TRAIN
from isthmus.sandbox.ownerdata import OwnerData
from isthmus.sandbox.ports import SiteRows
from isthmus.sandbox.statistics.evaluation import evaluation, linear_scores
from isthmus.sandbox.statistics.foldout import candidate_scores, clusters, foldout, verdicts
from isthmus.sandbox.statistics.moments import moments
from isthmus.sandbox.statistics.own_head import own_head
from isthmus.sandbox.statistics.pair import pair
from isthmus.sandbox.statistics.records import Records

Params = Any
Payload = NDArray[Any]


@dataclass(frozen=True)
class Statistic:
    """One statistic. releases_features: what becomes visible has the features' dimension, so that the dimension rule applies.

    single: the result leaves as floats, seen singly, not summed.
    """

    name: str
    params: type[msgspec.Struct]
    size: Callable[[Params, Stage], int]
    compute: Callable[[Params, Stage, OwnerData, int], Payload]
    releases_features: bool
    single: bool = False


def parsed_params(name: str, params: dict[str, Any], stage: Stage) -> tuple[Statistic, Params]:
    """The statistic and its checked parameters. Raises RefusedError: unknown statistic, or parameters out of bounds."""
    statistic = STATISTICS.get(name)
    if statistic is None:
        raise RefusedError("statistic", f"{name!r} is not a statistic that this node can compute", f"use {', '.join(STATISTICS)}")
    try:
        found = msgspec.convert(params, statistic.params)
    except msgspec.ValidationError as error:
        raise RefusedError("parameters", f"the parameters of {name} are malformed: {error}", "send what the schema says") from error
    _check_bounds(found, stage)
    return statistic, found


def computed(statistic: Statistic, params: Params, stage: Stage, data: OwnerData, least: int) -> Payload:
    """The owner's share: int64 of the declared size, or float64 for a single statistic. least: least group size."""
    try:
        value = statistic.compute(params, stage, data, least)
    except InputError as error:
        raise RefusedError("parameters", error.message, error.next_step) from error
    kind = np.float64 if statistic.single else np.int64
    if value.shape != (statistic.size(params, stage),) or value.dtype != kind:
        raise RefusedError(
            "parameters", f"{statistic.name} gave {value.shape} of {value.dtype}, not its declared shape", "use the same release"
        )
    return value


def _require(holds: bool, message: str, next_step: str) -> None:
    if not holds:
        raise RefusedError("parameters", message, next_step)


def _check_bounds(params: Params, stage: Stage) -> None:
    if isinstance(params, TrainingParams):
        views = params.views
        _require(
            bool(views) and views[0] == "identity" and len(set(views)) == len(views),
            "views must be distinct, identity first",
            "see the schema",
        )
        changed = params.augmentations
        _require(
            len(changed) <= AUGMENTATIONS_MAX and len(set(changed)) == len(changed),
            f"{len(changed)} augmentations, or one twice",
            f"give up to {AUGMENTATIONS_MAX} distinct ones",
        )
        _require(0 <= params.drawn_weight <= WEIGHT_MAX, f"drawn_weight is {params.drawn_weight}", f"use 0 to {WEIGHT_MAX}")
        weights = (params.sure_weight, params.unsure_weight)
        _require(all(1 <= w <= WEIGHT_MAX for w in weights), f"weights {weights} are out of bounds", f"use 1 to {WEIGHT_MAX}")
    if isinstance(params, FoldOutParams):
        _require(1 <= len(params.candidates) <= CANDIDATES_MAX, f"{len(params.candidates)} candidates", f"use 1 to {CANDIDATES_MAX}")
        _require(
            not params.histograms or len(params.candidates) == 1,
            "histograms of several candidates were asked for",
            "choose one by its loss",
        )
    if isinstance(params, OwnHeadParams):
        _require(1 <= len(params.penalties) <= CANDIDATES_MAX, f"{len(params.penalties)} penalties", f"use 1 to {CANDIDATES_MAX}")
        _require(all(0 < p < 1e12 for p in params.penalties), "penalties must be positive", "use a grid of positive numbers")
    if isinstance(params, SiteHeadParams):
        grids = (params.factors, params.penalties)
        _require(all(1 <= len(g) <= CANDIDATES_MAX for g in grids), "a grid is empty or too long", f"use 1 to {CANDIDATES_MAX} values")
        _require(
            all(0 < v < 1e12 for v in (*params.factors, *params.penalties, params.fleet_penalty)),
            "a grid is not positive",
            "use positive numbers",
        )
    if isinstance(params, EvaluateParams):
        _check_evaluate(params, stage)
    if isinstance(params, PairParams):
        _require(params.new.stage == stage, "the new head's stage is not the job's", "name one stage")
        _require(params.records in SPLITS, f"there is no split {params.records!r}", f"use one of {', '.join(SPLITS)}")


def _check_evaluate(params: EvaluateParams, stage: Stage) -> None:
    _require(params.head.stage == stage, "the head's stage is not the job's", "name one stage")
    _require(params.records in SPLITS, f"there is no split {params.records!r}", f"use one of {', '.join(SPLITS)}")
    for name, values, most in (
        ("slices", params.slices, SLICES_MAX),
        ("corruptions", params.corruptions, CONDITIONS_MAX),
        ("other heads", [other.name for other in params.others], OTHER_HEADS_MAX),
    ):
        _require(
            len(values) <= most and len(set(values)) == len(values),
            f"{len(values)} {name}, or one twice",
            f"give up to {most} distinct ones",
        )
    _require(all(part not in ("", "all") for part in params.slices), "a slice has no name of its own", "name record kinds")
    _require(all(other.name not in ("", JOINT) for other in params.others), "another head has no name of its own", "name it")


def _moments(params: MomentsParams, stage: Stage, data: OwnerData, least: int) -> Payload:
    _enough(data.records(TRAIN), least, (), TRAIN)
    return moments(data.training(stage, params)).packed()


def _foldout(params: FoldOutParams, stage: Stage, data: OwnerData, least: int) -> Payload:
    _enough(data.records(TRAIN), least, (), TRAIN)
    return foldout(data.training(stage, params), params).packed()


def _clusters(params: ClustersParams, stage: Stage, data: OwnerData, least: int) -> Payload:
    _enough(data.records(TRAIN), least, (), TRAIN)
    training = data.training(stage, params)
    return clusters(training.records, candidate_scores(training, params.candidate, params.total_weight), params.lo, params.hi).packed()


def _own_head(params: OwnHeadParams, stage: Stage, data: OwnerData, least: int) -> Payload:
    _enough(data.records(TRAIN), least, (), TRAIN)
    return own_head(data.training(stage, params), params.penalties)


def _site_head(params: SiteHeadParams, stage: Stage, data: OwnerData, least: int) -> Payload:
    if data.tools.site is None:
        raise RefusedError("statistic", "this node fits no site heads", "use a node with a fitter")
    _enough(data.records(TRAIN), least, (), TRAIN)
    try:
        fleet = moments_from(params.fleet.array().astype(np.int64), stage.dimension)
    except ValueError as error:
        raise RefusedError("parameters", f"the fleet's sums do not fit the stage: {error}", "send the fleet's moments") from error
    training = data.training(stage, params)
    q, y, w, groups = training.stacked()
    return data.tools.site(fleet, SiteRows(q, w, y, groups, training.records.size), stage, params).packed()


def _enough(records: Records, least: int, slices: tuple[str, ...], split: str) -> None:
    if records.size < least:
        raise RefusedError(
            "least-group-size",
            f"the {split} split has fewer than {least} records here",
            "ask for a larger split, or agree on a smaller group",
        )
    for part in slices:
        if 0 < int(records.of_kind(part).sum()) < least:
            raise RefusedError("least-group-size", f"slice {part!r} has fewer than {least} records here", "leave the slice out")


def _evaluate(params: EvaluateParams, stage: Stage, data: OwnerData, least: int) -> Payload:
    records = data.records(params.records)
    _enough(records, least, params.slices, params.records)
    artefact = data.tools.artefact(params.head)
    if artefact.digest != params.artefact:
        raise RefusedError(
            "artefact", f"the head rebuilds to {artefact.digest}, not to {params.artefact}", "send the head of that artefact"
        )
    chosen = [np.ones(records.size, dtype=bool), *(records.of_kind(part) for part in params.slices)]
    scored = [(_head_scores(data, params.head, params.records, c), params.head, c is None) for c in (None, *params.corruptions)]
    if not np.array_equal(data.artefact_scores(artefact, stage, params.records), scored[0][0]):
        raise RefusedError("artefact", "the artefact's own scores are not those of its head on this machine", "use the same release")
    scored += [(_head_scores(data, other.head, params.records, None), other.head, True) for other in params.others]
    parts = [
        evaluation(records, scores, head.lo, head.hi, mask, ranked=clean and place == 0)
        for scores, head, clean in scored
        for place, mask in enumerate(chosen)
    ]
    return np.concatenate([part.packed() for part in parts])


def _head_scores(data: OwnerData, head: Head, split: str, corruption: Corruption | None) -> NDArray[np.float64]:
    q, coefficients = data.features(head.stage, split, corruption=corruption), head.coefficients.array()
    _require(coefficients.shape == (q.shape[1],), "a head does not fit its stage", "send it as it was fitted")
    return linear_scores(q, coefficients, head.bias)


def _pair(params: PairParams, stage: Stage, data: OwnerData, least: int) -> Payload:
    records = data.records(params.records)
    _enough(records, least, (), params.records)
    old, new = (verdicts(_head_scores(data, head, params.records, None), head.lo, head.hi) for head in (params.old, params.new))
    return pair(records, old, new).packed()


def _evaluate_size(params: EvaluateParams, stage: Stage) -> int:
    return EVALUATION_SIZE * (1 + len(params.slices)) * (1 + len(params.corruptions) + len(params.others))


STATISTICS: dict[str, Statistic] = {
    s.name: s
    for s in (
        Statistic(MOMENTS, MomentsParams, lambda p, stage: moments_size(stage.dimension), _moments, True),
        Statistic(FOLD_OUT, FoldOutParams, lambda p, stage: foldout_size(len(p.candidates)), _foldout, True),
        Statistic(CLUSTERS, ClustersParams, lambda p, stage: 6, _clusters, False),
        Statistic(OWN_HEAD, OwnHeadParams, lambda p, stage: stage.dimension + 1, _own_head, True, single=True),
        Statistic(SITE_HEAD, SiteHeadParams, lambda p, stage: site_heads_size(stage.dimension), _site_head, True, single=True),
        Statistic(EVALUATE, EvaluateParams, _evaluate_size, _evaluate, False),
        Statistic(PAIR, PairParams, lambda p, stage: PAIR_SIZE, _pair, False),
    )
}
