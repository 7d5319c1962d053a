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

from isthmus.contracts.brier import BRIER, BrierParams, brier_dimension, brier_size
from isthmus.contracts.errors import DocumentError, InputError, RefusedError
from isthmus.contracts.head import Head, Stage
from isthmus.contracts.logistic import logistic_size
from isthmus.contracts.statistic import (
    CLUSTERS,
    EVALUATE,
    FOLD_OUT,
    GAUSSIAN,
    GAUSSIAN_CLUSTERS,
    GAUSSIAN_FOLD_OUT,
    IRLS,
    MOMENTS,
    OWN_HEAD,
    PAIR,
    SITE_GAUSSIAN,
    SITE_HEAD,
    ClustersParams,
    Corruption,
    EvaluateParams,
    FoldOutParams,
    GaussianClustersParams,
    GaussianFoldOutParams,
    GaussianParams,
    IrlsParams,
    MomentsParams,
    OwnHeadParams,
    PairParams,
    SiteGaussianParams,
    SiteHeadParams,
    site_gaussians_size,
    site_heads_size,
)
from isthmus.contracts.sums import EVALUATION_SIZE, PAIR_SIZE, foldout_size, good_moments_size, moments_from, moments_size
from isthmus.contracts.treesums import (
    ASIDE_CLUSTERS,
    ASIDE_SCORES,
    HISTOGRAMS,
    AsideClustersParams,
    AsideScoresParams,
    ForestParams,
    HistogramsParams,
    aside_scores_size,
    histograms_size,
    told_dimension,
)
from isthmus.contracts.valuesums import (
    VALUE_CLUSTERS,
    VALUE_EVALUATE,
    VALUE_FOLD_OUT,
    VALUE_MOMENTS,
    VALUE_SUMS_SIZE,
    ValueClustersParams,
    ValueEvaluateParams,
    ValueFoldOutParams,
    ValueMomentsParams,
    value_foldout_size,
    value_keys,
    value_moments_size,
)
from isthmus.kit.canonical import digest_of
from isthmus.kit.treewalk import head_scores
from isthmus.sandbox.folder import TRAIN
from isthmus.sandbox.ownerdata import OwnerData
from isthmus.sandbox.ports import SiteRows
from isthmus.sandbox.statistics import trees
from isthmus.sandbox.statistics.brier import brier, checked_heads, smallest_part
from isthmus.sandbox.statistics.evaluation import evaluation
from isthmus.sandbox.statistics.foldout import candidate_scores, clusters, foldout, verdicts
from isthmus.sandbox.statistics.gaussian import gaussian_clusters, gaussian_foldout, gaussian_scores, good_moments, total_of
from isthmus.sandbox.statistics.irls import effective_records, irls
from isthmus.sandbox.statistics.moments import moments
from isthmus.sandbox.statistics.own_head import own_head
from isthmus.sandbox.statistics.pair import pair
from isthmus.sandbox.statistics.parameters import check_bounds
from isthmus.sandbox.statistics.records import Records, TrainingRecords
from isthmus.sandbox.statistics.site_gaussian import site_gaussians
from isthmus.sandbox.statistics.values import (
    value_clusters,
    value_evaluation,
    value_foldout,
    value_moments,
    value_rows,
)

GOOD_SHARE_MIN = 0.5
"""Of an owner's training records, where only good ones are summed: the dimension rule counts every owner's records at this share, because
how many of them are good is nobody's business."""
Params = Any
Payload = NDArray[Any]


@dataclass(frozen=True)
class Statistic:
    """One statistic. releases_features: what becomes visible has the features' dimension, so that the dimension rule applies.

    single: the result leaves as floats, seen singly, not summed. of_good: only records labelled good are in what becomes visible.
    dimension: how many features what becomes visible is a statistic of. effective: how many of the owner's own records its weighting
    leaves, where whoever asks chooses the weights; the dimension rule then counts these.
    """

    name: str
    params: type[msgspec.Struct]
    size: Callable[[Params, Stage], int]
    compute: Callable[[Params, Stage, OwnerData, int], Payload]
    releases_features: bool
    single: bool = False
    of_good: bool = False
    dimension: Callable[[Params, Stage], int] = lambda params, stage: stage.counted
    effective: Callable[[Params, Stage, OwnerData], float] | None = None


def parsed_params(name: str, params: dict[str, Any], stage: Stage) -> tuple[Statistic, Params]:
    """The statistic and its checked parameters. Raises RefusedError: unknown statistic, or parameters out of bounds."""
    statistic = STATISTICS.get(name)
    if statistic is None:
        raise RefusedError("statistic", f"{name!r} is not a statistic that this node can compute", f"use {', '.join(STATISTICS)}")
    try:
        found = msgspec.convert(params, statistic.params)
    except msgspec.ValidationError as error:
        raise RefusedError("parameters", f"the parameters of {name} are malformed: {error}", "send what the schema says") from error
    check_bounds(found, stage)
    return statistic, found


def computed(statistic: Statistic, params: Params, stage: Stage, data: OwnerData, least: int) -> Payload:
    """The owner's share: int64 of the declared size, or float64 for a single statistic. least: least group size."""
    try:
        value = statistic.compute(params, stage, data, least)
    except (InputError, DocumentError) as error:
        raise RefusedError("parameters", error.message, error.next_step) from error
    kind = np.float64 if statistic.single else np.int64
    if value.shape != (statistic.size(params, stage),) or value.dtype != kind:
        raise RefusedError(
            "parameters", f"{statistic.name} gave {value.shape} of {value.dtype}, not its declared shape", "use the same release"
        )
    return value


def _moments(params: MomentsParams, stage: Stage, data: OwnerData, least: int) -> Payload:
    _enough(data.records(TRAIN), least, (), TRAIN)
    return moments(data.training(stage, params)).packed()


def _irls(params: IrlsParams, stage: Stage, data: OwnerData, least: int) -> Payload:
    _enough(data.records(TRAIN), least, (), TRAIN)
    return irls(data.training(stage, params), params).packed()


def _irls_effective(params: IrlsParams, stage: Stage, data: OwnerData) -> float:
    return effective_records(data.training(stage, params), params.coefficients.array())


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


def _gaussian(params: GaussianParams, stage: Stage, data: OwnerData, least: int) -> Payload:
    _enough_good(data.records(TRAIN), least)
    return good_moments(data.training(stage, params), stage).packed()


def _gaussian_foldout(params: GaussianFoldOutParams, stage: Stage, data: OwnerData, least: int) -> Payload:
    _enough_good(data.records(TRAIN), least)
    return gaussian_foldout(data.training(stage, params), params, stage).packed()


def _gaussian_clusters(params: GaussianClustersParams, stage: Stage, data: OwnerData, least: int) -> Payload:
    _enough_good(data.records(TRAIN), least)
    return gaussian_clusters(data.training(stage, params), params, stage).packed()


def _site_gaussian(params: SiteGaussianParams, stage: Stage, data: OwnerData, least: int) -> Payload:
    _enough_good(data.records(TRAIN), least)
    return site_gaussians(data.training(stage, params), total_of(params.total, stage), params, stage).packed()


def _enough_good(records: Records, least: int) -> None:
    """Of records labelled good there are enough, and they are at least GOOD_SHARE_MIN, as the dimension rule takes for granted."""
    _enough(records, least, (), TRAIN)
    good = int((records.y < 0).sum())
    if good < least:
        raise RefusedError("least-group-size", f"fewer than {least} training records here are labelled good", "give more good ones")
    if good < GOOD_SHARE_MIN * records.size:
        raise RefusedError(
            "dimension",
            f"less than {GOOD_SHARE_MIN:.0%} of the training records here are labelled good, so they may be too few to hide among",
            "give more good ones, or move defects to the held-out part",
        )


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
    q = data.features(head.stage, split, corruption=corruption)
    if head.gaussian is not None:
        return gaussian_scores(q, head.stage, head.gaussian)
    try:
        return head_scores(head, q)
    except DocumentError as error:
        raise RefusedError("parameters", f"a head does not fit its stage: {error.message}", error.next_step) from error


def _beginnings(training: TrainingRecords, params: ForestParams, stage: Stage, data: OwnerData) -> NDArray[np.float64]:
    """The same in every round, so they are kept."""
    weights = [params.sure_weight, params.unsure_weight]
    asked = digest_of({"stage": stage.digest, "base": params.forest.base, "beginning": params.beginning, "weights": weights})
    if asked not in data.begun:
        data.begun.clear()
        data.begun[asked] = trees.beginnings(training, params)
    return data.begun[asked]


def _histograms(params: HistogramsParams, stage: Stage, data: OwnerData, least: int) -> Payload:
    _enough(data.records(TRAIN), least, (), TRAIN)
    training = data.training(stage, params)
    return trees.histograms(training, params, _beginnings(training, params, stage, data), least)


def _aside_scores(params: AsideScoresParams, stage: Stage, data: OwnerData, least: int) -> Payload:
    _enough(data.records(TRAIN), least, (), TRAIN)
    training = data.training(stage, params)
    return trees.aside_scores(training, params, _beginnings(training, params, stage, data)).packed()


def _aside_clusters(params: AsideClustersParams, stage: Stage, data: OwnerData, least: int) -> Payload:
    _enough(data.records(TRAIN), least, (), TRAIN)
    training = data.training(stage, params)
    return trees.aside_clusters(training, params, _beginnings(training, params, stage, data)).packed()


def _pair(params: PairParams, stage: Stage, data: OwnerData, least: int) -> Payload:
    records = data.records(params.records)
    _enough(records, least, (), params.records)
    old, new = (verdicts(_head_scores(data, head, params.records, None), head.lo, head.hi) for head in (params.old, params.new))
    return pair(records, old, new).packed()


def _brier(params: BrierParams, stage: Stage, data: OwnerData, least: int) -> Payload:
    records = data.records(params.records)
    _enough(records, least, (), params.records)
    checked_heads(params, stage.dimension)
    return brier(records, data.features(stage, params.records), params).packed()


def _evaluate_size(params: EvaluateParams, stage: Stage) -> int:
    return EVALUATION_SIZE * (1 + len(params.slices)) * (1 + len(params.corruptions) + len(params.others))


def _value_moments(params: ValueMomentsParams, stage: Stage, data: OwnerData, least: int) -> Payload:
    _enough(data.records(TRAIN), least, (), TRAIN)
    return value_moments(value_rows(params, stage, data)).packed()


def _value_foldout(params: ValueFoldOutParams, stage: Stage, data: OwnerData, least: int) -> Payload:
    _enough(data.records(TRAIN), least, (), TRAIN)
    return value_foldout(value_rows(params, stage, data), params).packed()


def _value_clusters(params: ValueClustersParams, stage: Stage, data: OwnerData, least: int) -> Payload:
    _enough(data.records(TRAIN), least, (), TRAIN)
    return value_clusters(value_rows(params, stage, data), params)


def _value_evaluate(params: ValueEvaluateParams, stage: Stage, data: OwnerData, least: int) -> Payload:
    return value_evaluation(params, stage, data, lambda records: _enough(records, least, params.slices, params.records))


STATISTICS: dict[str, Statistic] = {
    s.name: s
    for s in (
        Statistic(MOMENTS, MomentsParams, lambda p, stage: moments_size(stage.dimension), _moments, True),
        Statistic(IRLS, IrlsParams, lambda p, stage: logistic_size(stage.dimension), _irls, True, effective=_irls_effective),
        Statistic(FOLD_OUT, FoldOutParams, lambda p, stage: foldout_size(len(p.candidates)), _foldout, True),
        Statistic(CLUSTERS, ClustersParams, lambda p, stage: 6, _clusters, False),
        Statistic(OWN_HEAD, OwnHeadParams, lambda p, stage: stage.dimension + 1, _own_head, True, single=True),
        Statistic(SITE_HEAD, SiteHeadParams, lambda p, stage: site_heads_size(stage.dimension), _site_head, True, single=True),
        Statistic(
            GAUSSIAN, GaussianParams, lambda p, stage: good_moments_size(stage.dimension, stage.zones), _gaussian, True, of_good=True
        ),
        Statistic(
            GAUSSIAN_FOLD_OUT,
            GaussianFoldOutParams,
            lambda p, stage: foldout_size(len(p.shrinkages)),
            _gaussian_foldout,
            True,
            of_good=True,
        ),
        Statistic(GAUSSIAN_CLUSTERS, GaussianClustersParams, lambda p, stage: 6, _gaussian_clusters, False, of_good=True),
        Statistic(
            SITE_GAUSSIAN,
            SiteGaussianParams,
            lambda p, stage: site_gaussians_size(stage.dimension, stage.zones),
            _site_gaussian,
            True,
            single=True,
            of_good=True,
        ),
        Statistic(EVALUATE, EvaluateParams, _evaluate_size, _evaluate, False),
        Statistic(VALUE_MOMENTS, ValueMomentsParams, lambda p, s: value_moments_size(len(p.targets), s.dimension), _value_moments, True),
        Statistic(VALUE_FOLD_OUT, ValueFoldOutParams, lambda p, stage: value_foldout_size(p), _value_foldout, True),
        Statistic(VALUE_CLUSTERS, ValueClustersParams, lambda p, stage: 6 * len(p.targets), _value_clusters, False),
        Statistic(
            VALUE_EVALUATE,
            ValueEvaluateParams,
            lambda p, stage: VALUE_SUMS_SIZE * len(p.head.outputs) * len(value_keys(p)),
            _value_evaluate,
            False,
        ),
        Statistic(
            BRIER,
            BrierParams,
            lambda p, stage: brier_size(p),
            _brier,
            True,
            dimension=lambda p, stage: brier_dimension(p.heads.shape[0], stage.counted),
            effective=lambda p, stage, data: float(smallest_part(data.records(p.records), p)),
        ),
        Statistic(PAIR, PairParams, lambda p, stage: PAIR_SIZE, _pair, False),
        Statistic(
            HISTOGRAMS,
            HistogramsParams,
            lambda p, stage: histograms_size(p),
            _histograms,
            True,
            dimension=lambda p, stage: told_dimension(p),
        ),
        Statistic(ASIDE_SCORES, AsideScoresParams, lambda p, stage: aside_scores_size(p), _aside_scores, True),
        Statistic(ASIDE_CLUSTERS, AsideClustersParams, lambda p, stage: 6, _aside_clusters, False),
    )
}
