"""What the parameters of a job may be, before a record is read: a node refuses all others."""

from __future__ import annotations

from math import prod
from typing import Any

from isthmus.contracts.brier import BUCKETS_MAX, HEAD_NUMBERS_MAX, HEADS_MAX, BrierParams
from isthmus.contracts.errors import RefusedError
from isthmus.contracts.head import Stage
from isthmus.contracts.logistic import TOTAL_WEIGHT_MAX
from isthmus.contracts.statistic import (
    AUGMENTATIONS_MAX,
    CANDIDATES_MAX,
    CONDITIONS_MAX,
    GAUSSIAN,
    JOINT,
    OTHER_HEADS_MAX,
    SLICES_MAX,
    WEIGHT_MAX,
    EvaluateParams,
    FoldOutParams,
    GaussianClustersParams,
    GaussianFoldOutParams,
    GaussianParams,
    IrlsParams,
    OwnHeadParams,
    PairParams,
    SiteGaussianParams,
    SiteHeadParams,
    TrainingParams,
)
from isthmus.contracts.treesums import (
    ASIDE_MAX,
    ASIDE_MIN,
    CUTS_MAX,
    DEPTH_MAX,
    OPEN_MAX,
    OWNER_RECORDS_MAX,
    PREFIXES_MAX,
    STEEPNESS_MAX,
    TREES_MAX,
    AsideScoresParams,
    ForestParams,
    HistogramsParams,
)
from isthmus.kit.mahalanobis import DIMENSION_MAX, TOP_MAX
from isthmus.sandbox.folder import SPLITS
from isthmus.sandbox.statistics.values import (
    check_value_params,
)

_OF_GOOD = (GaussianParams, GaussianFoldOutParams, GaussianClustersParams, SiteGaussianParams)
Params = Any


def require(holds: bool, message: str, next_step: str) -> None:
    if not holds:
        raise RefusedError("parameters", message, next_step)


def check_bounds(params: Params, stage: Stage) -> None:
    if isinstance(params, TrainingParams):
        views = params.views
        require(
            bool(views) and views[0] == "identity" and len(set(views)) == len(views),
            "views must be distinct, identity first",
            "see the schema",
        )
        changed = params.augmentations
        require(
            len(changed) <= AUGMENTATIONS_MAX and len(set(changed)) == len(changed),
            f"{len(changed)} augmentations, or one twice",
            f"give up to {AUGMENTATIONS_MAX} distinct ones",
        )
        require(0 <= params.drawn_weight <= WEIGHT_MAX, f"drawn_weight is {params.drawn_weight}", f"use 0 to {WEIGHT_MAX}")
        whole = isinstance(params, (*_OF_GOOD, ForestParams))
        require(not (whole and changed), "this head learns from records as they are", "send no augmentations")
        drawn = params.drawn_weight and (whole or isinstance(params, IrlsParams))
        require(not drawn, "drawn defects are rows of ridge heads only", "set drawn_weight to 0")
        weights = (params.sure_weight, params.unsure_weight)
        require(all(1 <= w <= WEIGHT_MAX for w in weights), f"weights {weights} are out of bounds", f"use 1 to {WEIGHT_MAX}")
    if isinstance(params, IrlsParams):
        require(1 <= params.total_weight <= TOTAL_WEIGHT_MAX, "the roster's weight is out of bounds", f"use 1 to {TOTAL_WEIGHT_MAX}")
    if isinstance(params, FoldOutParams):
        require(1 <= len(params.candidates) <= CANDIDATES_MAX, f"{len(params.candidates)} candidates", f"use 1 to {CANDIDATES_MAX}")
        require(
            not params.histograms or len(params.candidates) == 1,
            "histograms of several candidates were asked for",
            "choose one by its loss",
        )
    if isinstance(params, OwnHeadParams):
        require(1 <= len(params.penalties) <= CANDIDATES_MAX, f"{len(params.penalties)} penalties", f"use 1 to {CANDIDATES_MAX}")
        require(all(0 < p < 1e12 for p in params.penalties), "penalties must be positive", "use a grid of positive numbers")
    if isinstance(params, SiteHeadParams):
        grids = (params.factors, params.penalties)
        require(all(1 <= len(g) <= CANDIDATES_MAX for g in grids), "a grid is empty or too long", f"use 1 to {CANDIDATES_MAX} values")
        require(
            all(0 < v < 1e12 for v in (*params.factors, *params.penalties, params.fleet_penalty)),
            "a grid is not positive",
            "use positive numbers",
        )
    check_value_params(params, stage)
    _check_places(params, stage)
    if isinstance(params, EvaluateParams):
        _check_evaluate(params, stage)
    if isinstance(params, ForestParams):
        _check_forest(params)
    if isinstance(params, BrierParams):
        _check_brier(params, stage)
    if isinstance(params, PairParams):
        require(params.new.stage == stage, "the new head's stage is not the job's", "name one stage")
        require(params.records in SPLITS, f"there is no split {params.records!r}", f"use one of {', '.join(SPLITS)}")


def _check_places(params: Params, stage: Stage) -> None:
    """Sums over single features of patches are nobody's statistic; and what a Gaussian is fitted with is in bounds."""
    if isinstance(params, _OF_GOOD):
        require(stage.dimension <= DIMENSION_MAX, f"a Gaussian of {stage.dimension} features", f"use at most {DIMENSION_MAX}")
    elif isinstance(params, TrainingParams):
        require(stage.positions == 1, "this statistic does not take features of patches", f"use {GAUSSIAN}")
    if isinstance(params, GaussianFoldOutParams | SiteGaussianParams):
        shrinkages = params.shrinkages
        require(1 <= len(shrinkages) <= CANDIDATES_MAX, f"{len(shrinkages)} shrinkages", f"use 1 to {CANDIDATES_MAX}")
        require(all(0 < v <= 1 for v in shrinkages), "a shrinkage is not above 0 and at most 1", "use a grid of such")
    if isinstance(params, GaussianFoldOutParams | GaussianClustersParams | SiteGaussianParams):
        most = min(stage.positions, TOP_MAX)
        require(1 <= params.top <= most, f"the farthest {params.top} of {stage.positions} places", f"use 1 to {most}")
    if isinstance(params, GaussianFoldOutParams):
        alone = not params.histograms or len(params.shrinkages) == 1
        require(alone, "histograms of several shrinkages were asked for", "choose one by its loss")
    if isinstance(params, GaussianClustersParams):
        require(0 < params.shrinkage <= 1 and params.lo <= params.hi, "shrinkage or thresholds cannot be used", "fit again")
    if isinstance(params, SiteGaussianParams):
        require(0 < params.fleet_shrinkage <= 1, "the fleet's shrinkage cannot be used", "fit again")
        factors = 1 <= len(params.factors) <= CANDIDATES_MAX and all(0 < v < 1e12 for v in params.factors)
        require(factors, "the weightings cannot be used", f"use 1 to {CANDIDATES_MAX} positive numbers")


def _check_evaluate(params: EvaluateParams, stage: Stage) -> None:
    require(params.head.stage == stage, "the head's stage is not the job's", "name one stage")
    require(params.records in SPLITS, f"there is no split {params.records!r}", f"use one of {', '.join(SPLITS)}")
    for name, values, most in (
        ("slices", params.slices, SLICES_MAX),
        ("corruptions", params.corruptions, CONDITIONS_MAX),
        ("other heads", [other.name for other in params.others], OTHER_HEADS_MAX),
    ):
        require(
            len(values) <= most and len(set(values)) == len(values),
            f"{len(values)} {name}, or one twice",
            f"give up to {most} distinct ones",
        )
    require(all(part not in ("", "all") for part in params.slices), "a slice has no name of its own", "name record kinds")
    require(all(other.name not in ("", JOINT) for other in params.others), "another head has no name of its own", "name it")


def _check_brier(params: BrierParams, stage: Stage) -> None:
    shape = params.heads.shape
    require(len(shape) == 2 and shape[1:] == (stage.dimension + 1,), f"heads of shape {shape}", "send one row a head, the bias first")
    require(1 <= shape[0] <= HEADS_MAX and prod(shape) <= HEAD_NUMBERS_MAX, f"{shape[0]} heads", f"use 1 to {HEADS_MAX}, of few features")
    require(stage.positions == 1, "this statistic does not take features of patches", "use a stage of whole records")
    require(1 <= params.buckets <= BUCKETS_MAX, f"{params.buckets} parts of the records", f"use 1 to {BUCKETS_MAX}")
    require(params.bucket_records_min >= 1, "a part of no records", "ask for at least one record a part")
    require(params.records in SPLITS, f"there is no split {params.records!r}", f"use one of {', '.join(SPLITS)}")


def _check_forest(params: ForestParams) -> None:
    count = params.forest.sizes.shape[0] if params.forest.sizes.shape else 0
    require(params.views == ("identity",), "trees grow on the identity view only", "name no other view")
    require(count <= TREES_MAX, f"{count} trees", f"use up to {TREES_MAX}")
    size, most = prod(params.forest.nodes.shape), 2 << DEPTH_MAX
    require(size <= TREES_MAX * most, f"trees of {size} nodes", f"use up to {TREES_MAX * most}")
    steep = 1.0 if params.beginning is None else params.beginning.steepness
    require(0 < steep <= STEEPNESS_MAX, f"a steepness of {steep}", f"use up to {STEEPNESS_MAX}")
    require(ASIDE_MIN <= params.aside <= ASIDE_MAX, f"one group in {params.aside} set aside", f"use {ASIDE_MIN} to {ASIDE_MAX}")
    if isinstance(params, HistogramsParams):
        require(prod(params.growing.shape) <= most, "the growing tree has too many nodes", f"use up to {most}")
        nodes = params.growing.shape[0] if params.growing.shape else 0
        rising = list(params.open) == sorted(set(params.open)) and all(0 <= node < nodes for node in params.open)
        require(1 <= len(params.open) <= OPEN_MAX and rising, "the open nodes are not in order, or not of the tree", "name them ascending")
        shape = params.cuts.shape
        fits = len(shape) == 2 and 1 <= shape[0] <= CUTS_MAX
        require(fits, f"cuts of shape {shape}", f"name 1 to {CUTS_MAX} (feature, edge) pairs")
        least = params.owner_records_min
        require(1 <= least <= OWNER_RECORDS_MAX, f"a least number of {least} records", f"use 1 to {OWNER_RECORDS_MAX}")
    if isinstance(params, AsideScoresParams):
        counts = params.prefixes
        rising = list(counts) == sorted(set(counts)) and all(0 <= n <= count for n in counts)
        require(1 <= len(counts) <= PREFIXES_MAX and rising, "the numbers of trees are not ascending, or too many", "name each once")
        require(not params.histograms or len(counts) == 1, "histograms of several numbers of trees were asked for", "choose one")
