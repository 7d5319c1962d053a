"""How much one privacy unit can change each part of a statistic: what the noise on it is measured against.

Neighbouring data sets differ by one unit whose records are blanked: they add nothing to any sum. Counts of records stay as the owners'
assets state them, so a noisy answer need not tell them. Every row of a unit counts: its views, augmentations, drawn copies, with weights.

Only what follows from a record alone can be bounded so. A fold-out score depends on all of its owner's records, so foldout/2 and clusters/2
have no entry here; nor have heads that are seen singly, nor trees, whose rounds begin at scores that earlier rounds left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from isthmus.contracts.errors import RefusedError
from isthmus.contracts.head import Stage
from isthmus.contracts.logistic import logistic_units
from isthmus.contracts.statistic import EvaluateParams, IrlsParams, MomentsParams, PairParams, TrainingParams
from isthmus.contracts.sums import EVALUATION_BINS, FEATURE_MAX

NOT_TOLD = 0
"""The deviation of a block whose entries do not leave."""


@dataclass(frozen=True)
class Unit:
    """Whose presence noise hides. records: at most so many. grouped: they are all records of a group; else each record is a unit."""

    records: int = 1
    grouped: bool = False


@dataclass(frozen=True)
class Block:
    """Entries that are given noise of one deviation. length: the greatest Euclidean length of a unit's part in them; infinite where
    nothing bounds it, so that they cannot be told."""

    name: str
    entries: int
    length: float


def norm_of(stage: Stage, norm_max: int) -> float:
    """The greatest length of a row of features: what rows are shortened to, or what the declared range of each feature allows."""
    widest = FEATURE_MAX * math.sqrt(stage.width)
    return min(float(norm_max), widest) if norm_max else widest


def _weight(params: TrainingParams) -> int:
    """The most that one record weighs, over all its rows."""
    return params.rows_per_record * max(params.sure_weight, params.unsure_weight) + params.drawn_weight


def moments_blocks(params: MomentsParams, stage: Stage, unit: Unit, norm_max: int) -> tuple[Block, ...]:
    """Of packed Moments. The upper triangle of q q^T is no longer than the square of q's length."""
    d, norm = stage.dimension, norm_of(stage, norm_max)
    weight = float(unit.records * _weight(params))
    return (
        Block("counts", 2, math.hypot(unit.records, unit.records)),
        Block("weight", 1, weight),
        Block("labels", 1, weight),
        Block("features", d, weight * norm),
        Block("features by labels", d, weight * norm),
        Block("gram", d * (d + 1) // 2, weight * norm**2),
    )


def irls_blocks(params: IrlsParams, stage: Stage, unit: Unit, norm_max: int) -> tuple[Block, ...]:
    """Of packed LogisticSums. Of a row the slope is at most its length, the curvature a quarter of the square; each is rounded to a whole
    number before it is multiplied, which adds at most half a step."""
    d, norm = stage.dimension, math.hypot(1.0, norm_of(stage, norm_max))
    units, weight = logistic_units(params.total_weight), float(unit.records * _weight(params))
    return (
        Block("weight", 1, weight),
        Block("loss", 1, math.inf),
        Block("slope", d + 1, weight * (units.slope + 0.5) * norm),
        Block("curvature", (d + 1) * (d + 2) // 2, weight * (units.curve / 4 + 1.0) * norm**2),
    )


def evaluate_blocks(params: EvaluateParams, stage: Stage, unit: Unit, norm_max: int) -> tuple[Block, ...]:
    """Of packed Evaluations, one after the other. A record is one defect or one good one, answered or not, in one bin. Sums over groups are
    bounded where a group is the unit. Kinds of records are not looked at, because a node refuses one that is too small."""
    if params.slices:
        raise RefusedError("noise", "a noisy evaluation has no slices, since whether one is too small would show", "ask for all records")
    records = float(unit.records)
    groups = records**2 * math.sqrt(3.0) if unit.grouped else math.inf
    one = (
        Block("counts", 2, math.hypot(records, records)),
        Block("defects", 1, records),
        Block("totals", 2, math.hypot(records, records)),
        Block("answers", 4, math.hypot(records, records)),
        Block("groups", 6, math.hypot(groups, math.sqrt(2.0) * records, 1.0)),
        Block("scores", 2 * EVALUATION_BINS, records),
    )
    return one * (1 + len(params.corruptions) + len(params.others))


def pair_blocks(params: PairParams, stage: Stage, unit: Unit, norm_max: int) -> tuple[Block, ...]:
    """Of packed PairSums. A record is in one cell."""
    records = float(unit.records)
    squares = records**2 * math.sqrt(5.0) if unit.grouped else math.inf
    return (Block("groups", 1, records), Block("table", 9, records), Block("squares", 5, squares))


def split_of(params: Any) -> str:
    """Which split of an asset's records an answer is about; a record is in one of them."""
    return params.records if isinstance(params, EvaluateParams | PairParams) else "train"
