"""Our models of a table, chosen without test data: ridge on public features, logistic regression, boosted trees. Product functions only.

Choice is by the fold-out Brier score (mean squared difference between probability and truth). Within ridge it comes from the hat matrix, on
the same folds as all; within logistic regression from approximate leave-one-out; trees are grown on each fold's complement. The best
of each kind is fitted on each fold's complement too, and the kinds are compared on that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from datasets import SCENARIOS, SOURCES, Table, table
from numpy.typing import NDArray

from isthmus.app.grown import steepness, tree_plan
from isthmus.contracts.head import Forest
from isthmus.contracts.logistic import LogisticSums, logistic_sums_from, logistic_units
from isthmus.contracts.sums import Moments
from isthmus.foundry.foldout import choose_lambda, leave_one_group_out, moments_of
from isthmus.foundry.logistic import LogisticFit, fit_logistic, fold_out_logits
from isthmus.foundry.ridge import candidates
from isthmus.foundry.tablefeatures import TableExtractor, feature_count
from isthmus.foundry.trees import (
    Edges,
    Growth,
    Rows,
    TreePlan,
    equal_edges,
    fine_counts,
    forest_of,
    grow,
    merged_edges,
    start,
)
from isthmus.kit.logits import logistic_sums, probability
from isthmus.kit.treewalk import forest_scores, margins, share_of
from isthmus.sandbox.statistics.trees import set_aside
from isthmus.scenarios.package import load_package

ROUNDS_TRIED_MAX = 200
RECIPES = (
    ("columns",),
    ("columns", "bins/5"),
    ("columns", "bins/9"),
    ("columns", "pairs"),
    ("columns", "fourier/120/3"),
    ("columns", "fourier/160/1.5"),
    ("columns", "bins/5", "pairs"),
    ("columns", "bins/9", "pairs", "fourier/600/1"),
)
RIDGE_LAMBDAS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
LOGISTIC_LAMBDAS = (0.001, 0.003, 0.01, 0.03, 0.1)
LOGISTIC_RECIPES = RECIPES[:4]
PLANS: tuple[dict[str, Any], ...] = (
    {"depth": 1, "rate": 0.2, "child_weight_min": 1.0},
    {"depth": 3, "rate": 0.1, "child_weight_min": 2.0},
    {"depth": 5, "rate": 0.08, "child_weight_min": 1.0},
)
FINE_PLANS: tuple[dict[str, Any], ...] = ({"depth": 5, "rate": 0.2, "child_weight_min": 0.1, "l2": 0.5},)
TREES, TREES_STEP = 160, 20
TREE_BINS, GROUP_MIN = 64, 5
LEAST_GROUP = 20
RECORDS_PER_FEATURE = 4
MANY_RECORDS = 5000
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Predict = Callable[[Ints], Floats]


@dataclass(frozen=True)
class Found:
    """A fitted model. name: kind and settings. brier: fold-out. predict: rows of the table -> probabilities. keeps_rule: whether its
    sums keep the dimension rule on these records."""

    name: str
    brier: float
    predict: Predict
    keeps_rule: bool


@lru_cache(maxsize=64)
def features(name: str, parts: tuple[str, ...]) -> NDArray[np.int16]:
    """(n, d) of a whole table; the extractor knows nothing of the data, so nothing leaks from test to training."""
    data = table(name)
    return TableExtractor(data.schema, parts).quantised(data.records)


def usable(data: Table, records: int, recipes: tuple[tuple[str, ...], ...]) -> list[tuple[str, ...]]:
    """Recipes that the dimension rule allows with so many records."""
    found = []
    for parts in recipes:
        if not any(column.kind == "number" for column in data.schema.columns) and parts != ("columns",):
            continue
        if len(data.schema.columns) * RECORDS_PER_FEATURE > records and parts != ("columns",):
            continue
        if "pairs" in parts and len(data.schema.columns) > 60:
            continue
        if feature_count(data.schema, parts) * RECORDS_PER_FEATURE <= records or parts == ("columns",):
            found.append(parts)
    return found


def brier(chance: Floats, y: Ints) -> float:
    return float(np.mean((np.clip(chance, 0.0, 1.0) - (y > 0)) ** 2))


def by_folds(rows: Ints, folds: Ints, fitted: Callable[[Ints], Predict]) -> Floats:
    """(rows,) fold-out probabilities by refitting on each fold's complement. folds: (rows,) codes."""
    result = np.empty(len(rows))
    for fold in np.unique(folds):
        result[folds == fold] = fitted(rows[folds != fold])(rows[folds == fold])
    return result


def ridge(data: Table, rows: Ints, folds: Ints) -> Found:
    best: tuple[float, tuple[str, ...], float] = (np.inf, (), 0.0)
    for parts in usable(data, len(rows), RECIPES):
        q = features(data.name, parts)[rows]
        run = leave_one_group_out(q, np.ones(len(rows), np.int64), data.y[rows], folds, RIDGE_LAMBDAS)
        for place, lam in enumerate(RIDGE_LAMBDAS):
            best = min(best, (brier((run.scores[place] + 1) / 2, data.y[rows]), parts, lam))
    _, parts, lam = best
    q = features(data.name, parts)

    def fitted(chosen: Ints) -> Predict:
        moments = moments_of(q[chosen], np.ones(len(chosen), np.int64), data.y[chosen], data.groups[chosen])
        raw = candidates(moments, [lam])[0].raw()
        return lambda asked: np.asarray((raw[0] + q[asked].astype(np.float64) @ raw[1:] + 1.0) / 2.0)

    keeps = q.shape[1] * RECORDS_PER_FEATURE <= len(rows)
    return Found(f"ridge {'+'.join(parts)} {lam:g}", brier(by_folds(rows, folds, fitted), data.y[rows]), fitted(rows), keeps)


def logistic_fit(q: NDArray[np.int16], y: Ints, owners: Ints, lam: float) -> LogisticFit:
    """From summed rounds of the owners: as many as it takes, where nodes answer eight, so that weaker penalties are tried as well."""
    moments = Moments(**vars(moments_of(q, np.ones(len(y), np.int64), y, np.arange(len(y)))))
    parts = [np.flatnonzero(owners == owner) for owner in np.unique(owners)]

    units = logistic_units(moments.sum_w)

    def ask(at: Floats) -> LogisticSums:
        packed = [logistic_sums(q[part], np.ones(len(part), np.int64), y[part], at, units).packed() for part in parts]
        return logistic_sums_from(np.sum(packed, axis=0), q.shape[1], units)

    return fit_logistic(ask, moments, lam, ROUNDS_TRIED_MAX)


def logistic(data: Table, rows: Ints, folds: Ints) -> Found:
    best: tuple[float, tuple[str, ...], float] = (np.inf, (), 0.0)
    weights = np.ones(len(rows), np.int64)
    for parts in usable(data, len(rows), LOGISTIC_RECIPES):
        q = features(data.name, parts)[rows]
        for lam in LOGISTIC_LAMBDAS:
            fit = logistic_fit(q, data.y[rows], data.owners[rows], lam)
            chance = probability(fold_out_logits(fit, q, weights, data.y[rows], data.groups[rows]))
            best = min(best, (brier(chance, data.y[rows]), parts, lam))
    _, parts, lam = best
    q = features(data.name, parts)

    def fitted(chosen: Ints) -> Predict:
        fit = logistic_fit(q[chosen], data.y[chosen], data.owners[chosen], lam)
        return lambda asked: probability(fit.logits(q[asked]))

    keeps = q.shape[1] * RECORDS_PER_FEATURE <= len(rows)
    return Found(f"logistic {'+'.join(parts)} {lam:g}", brier(by_folds(rows, folds, fitted), data.y[rows]), fitted(rows), keeps)


def tree_edges(q: NDArray[np.int16], many: bool) -> Edges:
    """Bins merged from summed counts, or with many records, equal parts of the range."""
    fine = equal_edges(q.shape[1], 256)
    return fine if many else merged_edges(fine_counts(q, fine), GROUP_MIN, TREE_BINS)


def grown_trees(q: NDArray[np.int16], y: Ints, owners: Ints, plan: TreePlan, heard: Callable[[Growth], None] | None = None) -> Growth:
    """From summed histograms of the owners."""
    parts = [np.flatnonzero(owners == owner) for owner in np.unique(owners)]
    held = [Rows(q[part], y[part].astype(np.float64), np.ones(len(part), np.int64)) for part in parts]
    return grow(start(plan, len(y), float(y.sum())), held, heard)


def chance_of(forest: Forest, q: NDArray[np.int16]) -> Floats:
    """(n,) probabilities by trees of the logistic loss."""
    return probability(forest_scores(forest, q) / share_of(forest))


def staged(data: Table, q: NDArray[np.int16], rows: Ints, folds: Ints, plan: TreePlan) -> Floats:
    """(stages, rows) fold-out probabilities after every TREES_STEP trees."""
    stages = plan.trees // TREES_STEP
    result = np.empty((stages, len(rows)))
    for fold in np.unique(folds):
        kept, out = rows[folds != fold], folds == fold
        growth = grown_trees(q[kept], data.y[kept], np.zeros(len(kept), np.int64), plan)
        for stage in range(stages):
            result[stage, out] = chance_of(forest_of(growth, (stage + 1) * TREES_STEP), q[rows[out]])
    return result


def trees(data: Table, rows: Ints, folds: Ints) -> Found:
    q, many = features(data.name, ("columns",)), len(rows) >= MANY_RECORDS
    edges = tree_edges(q[rows], many)
    best: tuple[float, int, TreePlan] | None = None
    for settings in FINE_PLANS if many else PLANS:
        plan = TreePlan(edges=edges, trees=TREES, **settings)
        found = staged(data, q, rows, folds, plan)
        for stage, chance in enumerate(found):
            score = brier(chance, data.y[rows])
            if best is None or score < best[0]:
                best = (score, (stage + 1) * TREES_STEP, plan)
    assert best is not None
    score, count, plan = best
    chosen = TreePlan(**{**vars(plan), "trees": count})
    forest = forest_of(grown_trees(q[rows], data.y[rows], data.owners[rows], chosen))
    name = f"trees {count} x depth {plan.depth}"
    return Found(name, score, lambda asked: chance_of(forest, q[asked]), False)


def package_trees(data: Table, rows: Ints, folds: Ints) -> Found | None:
    """What the nodes of the shipped package fit, where its head is trees: its features, settings and rule, on the owners that there are;
    the number of trees by the groups that each sets aside. None where it has no such head."""
    named = SOURCES[data.name].scenario
    recipe = load_package(SCENARIOS / named).recipe if named else None
    if recipe is None or recipe.head != "trees" or recipe.trees is None or recipe.trees.start != "ridge":
        return None
    wanted, q = recipe.trees, features(data.name, recipe.parts)
    stage = TableExtractor(data.schema, recipe.parts).stage()

    def fitted(chosen: Ints) -> Predict:
        ones = np.ones(len(chosen), np.int64)
        run = leave_one_group_out(q[chosen], ones, data.y[chosen], data.groups[chosen], recipe.lambdas)
        place = choose_lambda(run.sums, recipe.lambdas)
        steep = steepness(run.sums.histogram[place])
        moments = moments_of(q[chosen], ones, data.y[chosen], data.groups[chosen])
        present = np.unique(data.owners[chosen])
        plan = tree_plan(wanted, stage, moments, recipe.records_per_feature, len(present))
        first, grown_on, aside = steep * run.scores[place], [], np.zeros(len(chosen), dtype=bool)
        for owner in present:
            own = np.flatnonzero(data.owners[chosen] == owner)
            out = set_aside(np.unique(data.groups[chosen][own], return_inverse=True)[1].reshape(-1), wanted.aside)
            aside[own[out]] = True
            kept = own[~out]
            labels = data.y[chosen][kept].astype(np.float64)
            grown_on.append(Rows(q[chosen][kept], labels, ones[kept], LEAST_GROUP, first[kept]))
        growth = grow(replace(start(plan, len(chosen), 0.0), base=0.0), grown_on)
        score, held = first[aside], q[chosen][aside]
        losses = [brier(probability(score), data.y[chosen][aside])]
        for tree in growth.grown:
            score = score + margins(0.0, [tree], held)
            losses.append(brier(probability(score), data.y[chosen][aside]))
        trees = list(growth.grown[: int(np.argmin(losses))])
        raw = run.candidates[place].raw()
        return lambda asked: probability(steep * (raw[0] + q[asked].astype(np.float64) @ raw[1:]) + margins(0.0, trees, q[asked]))

    return Found(f"nodes' trees of {named}", brier(by_folds(rows, folds, fitted), data.y[rows]), fitted(rows), True)


def ours(data: Table, rows: Ints, folds: Ints) -> list[Found]:
    """Best of each kind, best first; with what the nodes of the package fit, where that is trees."""
    kinds = [trees(data, rows, folds), ridge(data, rows, folds)]
    if len(rows) < MANY_RECORDS:
        kinds.append(logistic(data, rows, folds))
    at_nodes = package_trees(data, rows, folds)
    if at_nodes is not None:
        kinds.append(at_nodes)
    return sorted(kinds, key=lambda found: found.brier)
