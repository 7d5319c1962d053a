"""Boosted trees as rounds of a build: sums of each level from the owners, a split, the next level; then how many trees, and thresholds.

Every round is a job like any other: named by what it asks, so that a run that was cut off walks the same rounds again and finds their sums.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np

from isthmus.contracts.errors import InputError
from isthmus.contracts.head import SCORE_SHARE, Array, Head, Stage
from isthmus.contracts.ports import Json
from isthmus.contracts.scenario import Recipe, Trees
from isthmus.contracts.statistic import Candidate
from isthmus.contracts.sums import LOSS_UNIT, SCORE_BINS, SCORE_LIMIT, FoldOut, GroupSums, Ints, Moments, foldout_from, group_sums_from
from isthmus.contracts.tableparts import COLUMNS
from isthmus.contracts.treesums import (
    ASIDE_CLUSTERS,
    ASIDE_SCORES,
    HISTOGRAMS,
    NUMBERS,
    AsideClustersParams,
    AsideScoresParams,
    Beginning,
    HistogramsParams,
)
from isthmus.foundry.ridge import Candidate as Fit
from isthmus.foundry.ridge import head_from, standard
from isthmus.foundry.tablefeatures import TABLE_BACKBONE, feature_count
from isthmus.foundry.trees import Edges, Growth, TreePlan, cuts_of, drawn_edges, forest_of, grown, node_dimension, numbers_told, start
from isthmus.kit.treewalk import packed

OWNERS_MIN = 2
"""Times the least records that stand on each side of a split, each owner's counted up to that: the largest set aside, so many are left."""
PREFIXES = 20
STEEPNESSES = tuple(2.0 ** (power / 2) for power in range(11))


@dataclass(frozen=True)
class Asking:
    """How the owners are asked. ask: (statistic, parameters) -> the roster's sum as an int64 vector. training: fields of TrainingParams.
    aside, beginning: as in ForestParams."""

    ask: Callable[[str, msgspec.Struct], Any]
    training: Json
    aside: int
    beginning: Beginning | None

    def fields(self, growth: Growth, trees: int) -> Json:
        """Those of ForestParams."""
        known = {"forest": forest_of(growth, trees), "beginning": self.beginning}
        return {**self.training, **{name: msgspec.to_builtins(part) for name, part in known.items()}, "aside": self.aside}

    def scores(self, growth: Growth, prefixes: tuple[int, ...], histograms: bool) -> FoldOut:
        """Of the records set aside."""
        fields = {**self.fields(growth, prefixes[-1]), "prefixes": list(prefixes), "histograms": histograms}
        return foldout_from(self.ask(ASIDE_SCORES, msgspec.convert(fields, AsideScoresParams)), len(prefixes))

    def level(self, growth: Growth) -> Growth:
        """One round: the sums of the open nodes, and the growth that follows from them."""
        fields = {
            **self.fields(growth, len(growth.grown)),
            "growing": msgspec.to_builtins(Array.of(packed(growth.tree))),
            "open": list(growth.open),
            "cuts": msgspec.to_builtins(Array.of(growth.cuts)),
            "owner_records_min": growth.plan.owner_records_min,
        }
        total = self.ask(HISTOGRAMS, msgspec.convert(fields, HistogramsParams))
        return grown(growth, total.reshape(len(growth.open), -1, NUMBERS))


@dataclass(frozen=True)
class Trained:
    """Trees of a roster, as a build's fit. growth: all trees. kept: how many are published. losses: of the records set aside, after each of
    `prefixes` trees. histogram: their scores by class. told: numbers in the histograms of all rounds; rounds: how many. lam: the penalty
    of the head that they go on from, else the largest; a result names one of every fit."""

    growth: Growth
    stage: Stage
    asking: Asking
    kept: int
    prefixes: tuple[int, ...]
    losses: tuple[float, ...]
    histogram: Ints
    told: int
    rounds: int
    lam: float

    def head(self, lo: float, hi: float) -> Head:
        """The trees that are kept, with what they began from, as a head."""
        stage, growth, began = self.stage, self.growth, self.asking.beginning
        share = SCORE_SHARE if growth.plan.loss == "logistic" else 1.0
        slopes, bias = np.zeros(stage.dimension), 0.0
        if began is not None:
            times = began.steepness * share
            slopes, bias = began.candidate.coefficients.array() * times, began.candidate.bias * times
        flat = Fit(self.lam, np.zeros(stage.dimension), np.ones(stage.dimension), np.zeros((0, 0)), np.concatenate([[bias], slopes]))
        forest = forest_of(growth, self.kept) if self.kept else None
        return msgspec.structs.replace(head_from(flat, stage, lo, hi), forest=forest)

    def verdicts(self, lo: float, hi: float) -> GroupSums:
        """Verdicts on the records set aside, over groups; asked of the owners."""
        fields = {**self.asking.fields(self.growth, self.kept), "lo": lo, "hi": hi}
        return group_sums_from(self.asking.ask(ASIDE_CLUSTERS, msgspec.convert(fields, AsideClustersParams)))

    def facts(self) -> Json:
        """What a result says of them beside what it says of any fit."""
        plan = self.growth.plan
        told = {
            "kept": self.kept,
            "grown": len(self.growth.grown),
            "depth": plan.depth,
            "rate": plan.rate,
            "node_dimension": node_dimension(plan),
            "owner_records_min": plan.owner_records_min,
            "aside": self.asking.aside,
            "steepness": None if self.asking.beginning is None else self.asking.beginning.steepness,
            "rounds": self.rounds,
            "numbers_told": self.told,
            "prefixes": list(self.prefixes),
            "losses": list(self.losses),
        }
        return {"trees": told}


def asked_features(stage: Stage) -> int:
    """How many of a stage's features trees may ask about: its columns where it begins with them, else all."""
    if stage.schema is None or stage.parts[:1] != (COLUMNS,) or stage.backbone != TABLE_BACKBONE:
        return stage.dimension
    return feature_count(stage.schema, (COLUMNS,))


def tree_plan(wanted: Trees, stage: Stage, moments: Moments, ratio: int, owners: int) -> TreePlan:
    """How the trees are grown. ratio: records behind what becomes visible, for each feature. owners: in the roster."""
    norm, asked = standard(moments), asked_features(stage)
    rest: Edges = ((),) * (stage.dimension - asked)
    mean, scale, features = norm.mean[:asked], norm.scale[:asked], min(wanted.features, asked)
    drawn = tuple(drawn_edges(mean, scale, tree, features, wanted.cuts) + rest for tree in range(wanted.trees))
    return TreePlan(
        trees=wanted.trees,
        depth=wanted.depth,
        drawn=drawn,
        rate=wanted.rate,
        l2=wanted.l2,
        owners_min=min(OWNERS_MIN, owners),
        owner_records_min=ratio * max(len(cuts_of(edges)) for edges in drawn),
    )


def steepness(histogram: Ints) -> float:
    """The multiple of a linear head's scores that is most likely the logarithm of the odds. histogram: (2, SCORE_BINS) fold-out scores."""
    middles = -SCORE_LIMIT + (np.arange(SCORE_BINS) + 0.5) * (2 * SCORE_LIMIT / SCORE_BINS)
    losses = [float(histogram[0] @ np.logaddexp(0, k * middles) + histogram[1] @ np.logaddexp(0, -k * middles)) for k in STEEPNESSES]
    return float(STEEPNESSES[int(np.argmin(losses))])


@dataclass(frozen=True)
class Seen:
    """The sums that trees are grown after. linear: the ridge fit that they go on from, with its fold-out scores by class; None: none."""

    moments: Moments
    owners: int
    linear: Candidate | None = None
    histogram: Ints | None = None

    def beginning(self) -> Beginning | None:
        if self.linear is None or self.histogram is None:
            return None
        return Beginning(candidate=self.linear, total_weight=self.moments.sum_w, steepness=steepness(self.histogram))


def grow_at_nodes(recipe: Recipe, stage: Stage, seen: Seen, training: Json, ask: Callable[[str, msgspec.Struct], Any]) -> Trained:
    """Whole trees, their number and the scores that thresholds rest on; see `Asking`.

    Raises InputError when nothing can be grown on these sums, and what `ask` raises.
    """
    wanted, moments, began = recipe.trees or Trees(), seen.moments, seen.beginning()
    asking = Asking(ask, training, wanted.aside, began)
    plan = tree_plan(wanted, stage, moments, recipe.records_per_feature, seen.owners)
    growth, rounds = start(plan, moments.sum_w, float(moments.sum_wy)), 0
    growth = growth if began is None else replace(growth, base=0.0)
    while not growth.done:
        growth, rounds = asking.level(growth), rounds + 1
    prefixes = tuple(sorted({round(len(growth.grown) * part / PREFIXES) for part in range(PREFIXES + 1)}))
    losses = asking.scores(growth, prefixes, False)
    kept = prefixes[min(range(len(prefixes)), key=lambda place: int(losses.loss[place]))]
    if kept == 0 and began is None:
        raise InputError(
            "no tree foretells the groups that were set aside better than the share of defects does",
            "use a linear head, or more records",
        )
    chosen = asking.scores(growth, (kept,), True)
    per_record = tuple(int(value) / losses.sum_w / LOSS_UNIT for value in losses.loss)
    told, lam = numbers_told(growth), max(recipe.lambdas) if began is None else began.candidate.penalty
    return Trained(growth, stage, asking, kept, prefixes, per_record, chosen.histogram[0], told, rounds, lam)
