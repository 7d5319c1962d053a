"""Boosted trees as rounds of a build: sums of each level from the owners, a split, the next level; then how many trees, and thresholds.

Every round is a job like any other: named by what it asks, so that a run that was cut off walks the same rounds again and finds their sums.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from isthmus.contracts.errors import InputError
from isthmus.contracts.head import Array, Head, Stage
from isthmus.contracts.ports import Json
from isthmus.contracts.scenario import Recipe, Trees
from isthmus.contracts.sums import LOSS_UNIT, FoldOut, GroupSums, Ints, Moments, foldout_from, group_sums_from
from isthmus.contracts.treesums import (
    ASIDE_CLUSTERS,
    ASIDE_SCORES,
    HISTOGRAMS,
    NUMBERS,
    AsideClustersParams,
    AsideScoresParams,
    HistogramsParams,
)
from isthmus.foundry.ridge import standard
from isthmus.foundry.stages import decoder_of
from isthmus.foundry.trees import Growth, TreePlan, cuts_of, drawn_edges, forest_of, grown, node_dimension, numbers_told, start
from isthmus.kit.treewalk import packed

OWNERS_MIN = 2
"""Times the least records that stand on each side of a split, each owner's counted up to that: the largest set aside, so many are left."""
PREFIXES = 20


@dataclass(frozen=True)
class Asking:
    """How the owners are asked. ask: (statistic, parameters) -> the roster's sum as an int64 vector. training: fields of TrainingParams.
    aside: as in ForestParams."""

    ask: Callable[[str, msgspec.Struct], Any]
    training: Json
    aside: int

    def fields(self, growth: Growth, trees: int) -> Json:
        """Those of ForestParams."""
        return {**self.training, "forest": msgspec.to_builtins(forest_of(growth, trees)), "aside": self.aside}

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
    that a site's correction is fitted with, in place of a ridge fit's own."""

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
        """The trees that are kept, as a head."""
        stage, forest = self.stage, forest_of(self.growth, self.kept)
        zeros = Array.of(np.zeros(stage.dimension))
        return Head(stage=stage, coefficients=zeros, bias=0.0, lo=float(lo), hi=float(hi), decoder=decoder_of(stage), forest=forest)

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
            "rounds": self.rounds,
            "numbers_told": self.told,
            "prefixes": list(self.prefixes),
            "losses": list(self.losses),
        }
        return {"trees": told}


def tree_plan(wanted: Trees, moments: Moments, ratio: int, owners: int) -> TreePlan:
    """How the trees are grown. ratio: records behind what becomes visible, for each feature. owners: in the roster."""
    norm = standard(moments)
    features = min(wanted.features, moments.dimension)
    drawn = tuple(drawn_edges(norm.mean, norm.scale, tree, features, wanted.cuts) for tree in range(wanted.trees))
    most = max(len(cuts_of(edges)) for edges in drawn)
    return TreePlan(
        trees=wanted.trees,
        depth=wanted.depth,
        drawn=drawn,
        rate=wanted.rate,
        l2=wanted.l2,
        owners_min=min(OWNERS_MIN, owners),
        owner_records_min=ratio * most,
    )


def grow_at_nodes(
    recipe: Recipe, stage: Stage, moments: Moments, owners: int, training: Json, ask: Callable[[str, msgspec.Struct], Any]
) -> Trained:
    """Whole trees, their number and the scores that thresholds rest on; see `Asking`. owners: in the roster.

    Raises InputError when nothing can be grown on these sums, and what `ask` raises.
    """
    wanted = recipe.trees or Trees()
    asking = Asking(ask, training, wanted.aside)
    plan = tree_plan(wanted, moments, recipe.records_per_feature, owners)
    growth, rounds = start(plan, moments.sum_w, float(moments.sum_wy)), 0
    while not growth.done:
        growth, rounds = asking.level(growth), rounds + 1
    prefixes = tuple(sorted({round(len(growth.grown) * part / PREFIXES) for part in range(PREFIXES + 1)}))
    losses = asking.scores(growth, prefixes, False)
    kept = prefixes[min(range(len(prefixes)), key=lambda place: int(losses.loss[place]))]
    if kept == 0:
        raise InputError(
            "no tree foretells the groups that were set aside better than the share of defects does",
            "use a linear head, or more records",
        )
    chosen = asking.scores(growth, (kept,), True)
    per_record = tuple(int(value) / losses.sum_w / LOSS_UNIT for value in losses.loss)
    told, lam = numbers_told(growth), max(recipe.lambdas)
    return Trained(growth, stage, asking, kept, prefixes, per_record, chosen.histogram[0], told, rounds, lam)
