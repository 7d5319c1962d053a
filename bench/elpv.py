"""Measures the solar-cell model on real images: Deitsch's protocol, block splits, and whether proven promises keep.

    .venv/bin/python bench/elpv.py [--json] [--seeds 20] [--cache FOLDER] [--threads 2]

random: 75 % train, 25 % test, cell by cell, as in Deitsch et al. 2019 (Solar Energy 185; their figures: SVM 82.44 %, VGG19
88.42 % accuracy). Cells of one module then stand on both sides, which flatters any model. block: whole inferred modules,
the figure to quote. Recipe, penalty and threshold are chosen inside training, for every seed anew. The dimension rule of DESIGN
allows a quarter as many features as records that become visible: a third of the training set is taken as the largest owner's.
Test images are single and not flipped. Answers and errors: the share answered, and wrong among those, with thresholds that answer most
of the fold-out scores at no more than 5 % errors there. What else was tried: bench/elpv_tried.py.
Images: ELPV data set, CC BY-NC-SA 4.0, for evaluation.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from bench_command import BarRows, Figures, Say, run_bench
from elpv_tried import SHIPPED, Views, averaged, fitted, judged, membership, of_parts, split, waves
from numpy.typing import NDArray
from solar_cells import (
    Cells,
    Fit,
    Mask,
    accuracy_cut,
    area,
    bar,
    best_fit,
    columns,
    fit,
    interval,
    load_cells,
    lone_groups,
    scores,
    share_thresholds,
)

from isthmus.assurance.bars import judge
from isthmus.assurance.bounds import design_effect, korn_graubard_bounds, korn_graubard_lower, korn_graubard_upper
from isthmus.assurance.evidence import Evidence
from isthmus.contracts.bars import PPM, Bars, bar_fields
from isthmus.contracts.scenario import Scenario
from isthmus.foundry.foldout import ThresholdPlan, choose_thresholds
from isthmus.sandbox.statistics.evaluation import evaluation
from isthmus.sandbox.statistics.foldout import clusters, group_sums, verdicts
from isthmus.sandbox.statistics.records import Records
from isthmus.scenarios.sample_owners import PARTIES, splits

SEEN = ("defects/max", "defects/mean")
RECIPES = ((*SEEN, "texture/24"), (*SEEN, "texture/46"), (*SEEN, "texture/82"))
"""Public parts that the nested choice may take under the dimension rule. The basis was made from drawn surfaces, but which of a few
such bases to keep was chosen on these same images; a choice made elsewhere would have been fairer by an amount that cannot be told here."""
UNRULED = (*RECIPES, (*SEEN, "texture/86", "deep/24"), ("block/10",), ("block/4", "block/13"))
"""And without it."""
FIRST_LOOP = {"first_loop_begin": (("block/10",),), "first_loop_end": ((*SEEN, "texture/24"),)}
"""What the first loop fitted, before and after it had a public basis; the second still ships."""
TEST_CELLS = 656
TEST_MODULES = 11
NEW_MODULES = 12
RULE = 4
"""The least that an agreement may ask; the shipped scenario asks for more."""
AUC_GOAL = 0.91
PUBLISHED_ACCURACY, ANSWERED_GAIN = 0.884, 0.1
ALL_TOLD_S, ALL_TOLD_SEEDS = 180.0, 20
WAVES, LEAK_SEEDS = (60, 150), 3
BROKEN_MAX = 3
"""Of 20 promises that each break with chance 1/20, more than 3 break with chance 1.6 %."""
PUBLISHED = {"svm_accuracy": 0.8244, "vgg19_accuracy": 0.8842, "source": "Deitsch et al. 2019, random 75/25, not rerun here"}


@dataclass(frozen=True)
class Promise:
    """One promise of a ladder, tried. bound: proven on held-out modules. passed: all bars are met there, as the product judges (pictures as
    they are; corruptions do not decide).

    new_share, new_error, new_least: answered and wrong on modules that nobody used, and the lower bound of that error.
    """

    goal: float
    share: float
    error: float
    bound: float
    passed: bool
    new_share: float
    new_error: float
    new_least: float


def tested(data: Cells, found: Fit, train: Mask, test: Mask) -> dict[str, float]:
    """Figures of one split."""
    score, truth = scores(data, found, test), data.y[test] > 0
    said = score >= accuracy_cut(found.scores, data.y[train])
    verdict = verdicts(score, *share_thresholds(found.histogram))
    answered = verdict != 0
    return {
        "answered": float(answered.mean()),
        "error": float(np.mean((verdict > 0)[answered] != truth[answered])) if answered.any() else 0.0,
        "auc": area(truth, score),
        "accuracy": float(np.mean(said == truth)),
        "recall": float(np.mean(said[truth])),
        "specificity": float(np.mean(~said[~truth])),
        "features": float(len(columns(found.parts))),
    }


def allowed(recipes: tuple[tuple[str, ...], ...], records: int) -> list[tuple[str, ...]]:
    """Recipes within the dimension rule, for three equal owners of whom one subtracts its own share."""
    visible = records - -(-records // 3)
    return [parts for parts in recipes if len(columns(parts)) * RULE <= visible]


def protocol(data: Cells, seeds: int, block: bool, rule: bool, say: Say, only: tuple[tuple[str, ...], ...] | None = None) -> dict[str, Any]:
    """One protocol over all seeds, nested choice inside each. only: recipes to choose from instead of those that the rule allows."""
    rows = []
    for seed in range(seeds):
        say(f"{'block' if block else 'random'} splits {'with' if rule else 'without'} the rule, {seed + 1} of {seeds}")
        rng = np.random.default_rng(seed)
        test = np.zeros(data.size, dtype=bool)
        if block:
            test = np.isin(data.groups, rng.permutation(int(data.groups.max()) + 1)[:TEST_MODULES])
        else:
            test[rng.permutation(data.size)[:TEST_CELLS]] = True
        groups = data.groups if block else lone_groups(data.size, rng)
        recipes = list(only) if only is not None else allowed(RECIPES, int((~test).sum())) if rule else list(UNRULED)
        found = best_fit(data, ~test, recipes, groups)
        rows.append(tested(data, found, ~test, test))
    names = ("auc", "accuracy", "recall", "specificity", "answered", "error", "features")
    return {name: interval([row[name] for row in rows]) for name in names}


def waved(data: Cells, seeds: int, say: Say) -> dict[str, Any]:
    """The first protocol with waves of the shipped features beside them, four looks at a cell singly or as one, chosen inside training.

    As many features as the dimension rule lets through; membership, as in bench/elpv_tried.py, says why they do not ship.
    """
    shipped = of_parts(data, SHIPPED)
    sizes: list[Views] = [waves(views, count) for views in (shipped, averaged(shipped)) for count in WAVES]
    visible = (data.size - TEST_CELLS) * 2 // 3
    sizes = [views for views in sizes if views[0].shape[1] * RULE <= visible]
    rows, most = [], 0
    for seed in range(seeds):
        say(f"random splits with waves, {seed + 1} of {seeds}")
        train, groups = split(data, seed, False)
        fits = [fitted(data, views, train, groups) for views in sizes]
        chosen = min(range(len(sizes)), key=lambda place: fits[place].loss)
        rows.append({**judged(data, fits[chosen], train), "features": float(sizes[chosen][0].shape[1])})
        most = max(most, chosen)
    found = {name: interval([row[name] for row in rows]) for name in rows[0]}
    return {**found, "membership": round(membership(data, sizes[most], LEAK_SEEDS), 4)}


def planned(scenario: Scenario, goal_ppm: int, records: int, groups: int) -> ThresholdPlan:
    """The plan that the exchange would make for one promise."""
    certify = scenario.certify
    confidence = certify.confidence_ppm / PPM
    return ThresholdPlan(
        bar=goal_ppm / PPM,
        records=records,
        groups=groups,
        design_effect=certify.planning_design_effect,
        bound=lambda errors, n, effect, count: korn_graubard_bounds(errors, n, effect, count, confidence),
        power=certify.planning_power,
        recall_min=certify.recall_ppm_min / PPM,
        specificity_min=certify.specificity_ppm_min / PPM,
    )


def bars_for(scenario: Scenario, goal_ppm: int) -> Bars:
    """The bars of one promise."""
    fields = bar_fields(scenario.certify)
    return msgspec.convert({**fields, "scenario": scenario.id, "tier": scenario.tier, "error_ppm_max": goal_ppm, "families": ()}, Bars)


def promise(data: Cells, scenario: Scenario, found: Fit, parts: tuple[Mask, Mask, Mask], goal_ppm: int) -> Promise:
    """Thresholds from fold-out scores of training, the bound from held-out modules, the truth from new ones. parts: those masks."""
    train, held, new = parts
    confidence = scenario.certify.confidence_ppm / PPM
    bars = bars_for(scenario, goal_ppm)
    plan = planned(scenario, goal_ppm, int(held.sum()), len(np.unique(data.groups[held])))
    cut = choose_thresholds(found.histogram, plan)
    trained = clusters(Records(data.y[train], data.groups[train], ()), found.scores, cut.lo, cut.hi)
    effect = max(design_effect(trained), scenario.certify.planning_design_effect)

    def counted(part: Mask) -> tuple[int, int, int]:
        said = verdicts(scores(data, found, part), cut.lo, cut.hi)
        sums = group_sums(said != 0, said != data.y[part], data.groups[part])
        return sums.a, sums.e, sums.groups

    (a, e, g), (new_a, new_e, new_g) = counted(held), counted(new)
    bound = korn_graubard_upper(e, a, effect, g, confidence)
    held_scores, kinds = scores(data, found, held), np.array([cell.kind for cell in data.cells])[held]
    records = Records(data.y[held], data.groups[held], ())
    seen = {kind: evaluation(records, held_scores, cut.lo, cut.hi, kinds == kind) for kind in np.unique(kinds)}
    clean = evaluation(records, held_scores, cut.lo, cut.hi, np.ones(len(kinds), dtype=bool))
    verdict = judge(bars, Evidence(clean=clean, slices=seen, corrupted={}, design_effect=effect))
    return Promise(
        goal=goal_ppm / PPM,
        share=a / max(1, int(held.sum())),
        error=e / max(1, a),
        bound=bound,
        passed=verdict.passed,
        new_share=new_a / max(1, int(new.sum())),
        new_error=new_e / max(1, new_a),
        new_least=korn_graubard_lower(new_e, new_a, effect, new_g, confidence),
    )


def ladder(data: Cells, scenario: Scenario, parts: tuple[Mask, Mask, Mask], owners: NDArray[np.int64] | None = None) -> list[Promise]:
    """Promises in fixed sequence up to the first that is not proven, which is the last in the list."""
    found = fit(data, parts[0], scenario.recipe.parts, data.groups, scenario.recipe.lambdas, owners)
    tried: list[Promise] = []
    for goal_ppm in scenario.certify.promises_ppm:
        tried.append(promise(data, scenario, found, parts, goal_ppm))
        if not tried[-1].passed:
            break
    return tried


def random_parts(data: Cells, seed: int) -> tuple[Mask, Mask, Mask]:
    """(train, held out, never used), whole modules at random."""
    order = np.random.default_rng(1000 + seed).permutation(int(data.groups.max()) + 1)
    new, held = (np.isin(data.groups, part) for part in (order[:NEW_MODULES], order[NEW_MODULES : NEW_MODULES + TEST_MODULES]))
    return ~new & ~held, held, new


def fold_out_off(data: Cells, scenario: Scenario, train: Mask, owners: NDArray[np.int64] | None = None) -> float:
    """Least fold-out loss as the owners find it over the exact one: below 1 is flattering."""
    recipe, alone = scenario.recipe, np.zeros(data.size, dtype=np.int64)
    found, exact = (fit(data, train, recipe.parts, data.groups, recipe.lambdas, who) for who in (owners, alone))
    return found.loss / exact.loss


def promises_kept(data: Cells, scenario: Scenario, seeds: int, say: Say) -> dict[str, Any]:
    """How often promises are proven, and whether the proven bound holds on modules that nobody used."""
    runs, off = [], []
    for seed in range(seeds):
        say(f"promises on modules at random, {seed + 1} of {seeds}")
        parts = random_parts(data, seed)
        runs.append(ladder(data, scenario, parts))
        off.append(fold_out_off(data, scenario, parts[0]))
    result: dict[str, Any] = {"seeds": seeds, "fold_out_loss_ratio": interval(off)}
    for goal_ppm in scenario.certify.promises_ppm:
        tried = [p for run in runs for p in run if p.goal == goal_ppm / PPM]
        proven = [p for p in tried if p.passed]
        result[f"{goal_ppm / 10_000:g}%"] = {
            "tried": len(tried),
            "proven": len(proven),
            "share_where_proven": round(float(np.mean([p.share for p in proven])), 4) if proven else None,
            "error_where_proven": round(float(np.mean([p.error for p in proven])), 4) if proven else None,
            "new_error_where_proven": round(float(np.mean([p.new_error for p in proven])), 4) if proven else None,
            "share": interval([p.share for p in tried]) if tried else None,
            "bound": interval([p.bound for p in tried]) if tried else None,
            "bound_above_on_new": sum(p.new_error > p.bound for p in tried),
            "promise_broken_on_new": sum(p.new_error > p.goal for p in proven),
            "promise_broken_beyond_chance": sum(p.new_least > p.goal for p in proven),
        }
    issued = [next((p for p in reversed(run) if p.passed), None) for run in runs]
    result["certificates"] = sum(p is not None for p in issued)
    result["certificates_broken_on_new"] = sum(p is not None and p.new_error > p.goal for p in issued)
    result["first_bounds_below_new_error"] = sum(run[0].new_error > run[0].bound for run in runs)
    return result


def sample_parts(data: Cells) -> tuple[dict[str, tuple[Mask, Mask]], Mask]:
    """party -> (train, held out) of the sample owners as they ship, and the new line."""
    owners, new = {}, np.zeros(data.size, dtype=bool)
    for party in PARTIES:
        mine = np.zeros(data.size, dtype=bool)
        for part in party.cells:
            mine[part] = True
        if party.kind == "site":
            new |= mine
            continue
        split_of = splits([data.cells[index].group for index in np.flatnonzero(mine)])
        held = mine & np.array([split_of.get(cell.group) == "holdout" for cell in data.cells])
        owners[party.party] = (mine & ~held, held)
    return owners, new


def arrangement(data: Cells, scenario: Scenario) -> dict[str, Any]:
    """The owners as they ship: joint and alone on the union of held-out modules, and the promises."""
    owners, new = sample_parts(data)
    train, held = (np.any([pair[side] for pair in owners.values()], axis=0) for side in (0, 1))
    recipe = scenario.recipe
    holder = np.sum([place * (mine | test) for place, (mine, test) in enumerate(owners.values())], axis=0)
    joint = fit(data, train, recipe.parts, data.groups, recipe.lambdas, holder)
    truth = data.y[held]
    alone = {}
    for party, (mine, _) in owners.items():
        one = np.zeros(data.size, dtype=np.int64)
        alone[party] = round(area(truth, scores(data, fit(data, mine, recipe.parts, data.groups, recipe.lambdas, one), held)), 4)
    counts = [int(mine.sum()) for mine, _ in owners.values()]
    tried = ladder(data, scenario, (train, held, new), holder)
    proven = next((p for p in reversed(tried) if p.passed), None)
    return {
        "training_cells": dict(zip(owners, counts, strict=True)),
        "held_out": {"cells": int(held.sum()), "modules": len(np.unique(data.groups[held]))},
        "never_used": {"cells": int(new.sum()), "modules": len(np.unique(data.groups[new]))},
        "features": len(columns(recipe.parts)),
        "features_allowed": (sum(counts) - max(counts)) // recipe.records_per_feature,
        "auc": {"joint": round(area(truth, scores(data, joint, held)), 4), "alone": alone},
        "fold_out_loss_ratio": round(fold_out_off(data, scenario, train, holder), 4),
        "auc_never_used": round(area(data.y[new], scores(data, joint, new)), 4),
        "promises": [{name: round(float(value), 4) if name != "passed" else value for name, value in vars(p).items()} for p in tried],
        "certified_goal": None if proven is None else proven.goal,
    }


def bars_of(figures: dict[str, Any], seeds: int) -> list[dict[str, Any]]:
    auc, kept = figures["arrangement"]["auc"], figures["promises"]
    now, first, most = (figures[name]["answered"]["mean"] for name in ("random", "random_first_loop_end", "random_waves"))
    return [
        bar("accuracy, random 75/25, dimension rule on", figures["random"]["accuracy"]["mean"], PUBLISHED_ACCURACY, "share"),
        bar("answered at 5 % fold-out error, random 75/25, above the first loop's: as it ships", now - first, ANSWERED_GAIN, "share"),
        bar("the same with all the features that the dimension rule lets through", most - first, ANSWERED_GAIN, "share"),
        bar("AUC, random 75/25, single view, dimension rule on", figures["random"]["auc"]["mean"], AUC_GOAL, "AUC"),
        bar("joint AUC less the best owner's own head, held-out modules", auc["joint"] - max(auc["alone"].values()), 0.0, "AUC"),
        bar(
            f"first promise's bound below the error on never-used modules, of {seeds} assignments",
            kept["first_bounds_below_new_error"],
            max(1, round(BROKEN_MAX * seeds / 20)),
            "assignments",
            at_most=True,
        ),
        bar(
            f"certificates broken on never-used modules, of {kept['certificates']}",
            kept["certificates_broken_on_new"],
            max(1, round(BROKEN_MAX * seeds / 20)),
            "certificates",
            at_most=True,
        ),
    ]


def table(result: dict[str, Any]) -> str:
    """For people."""
    figures = result["figures"]
    lines = [f"{'':44}{'AUC':>22}{'accuracy':>22}{'answers':>9}{'errors':>8}{'recall':>9}{'specificity':>13}{'features':>10}"]
    for name, title in (
        ("random", "random 75/25, with the dimension rule"),
        ("random_without_rule", "random 75/25, without it"),
        ("random_first_loop_begin", "random 75/25, first loop at its beginning"),
        ("random_first_loop_end", "random 75/25, first loop at its end"),
        ("block", "whole modules, with the rule (quote this)"),
        ("block_without_rule", "whole modules, without it"),
        ("block_first_loop_begin", "whole modules, first loop at its beginning"),
        ("block_first_loop_end", "whole modules, first loop at its end"),
    ):
        row = figures[name]
        spread = [f"{row[k]['mean']:.3f} ({row[k]['low']:.3f}-{row[k]['high']:.3f})" for k in ("auc", "accuracy")]
        wide = {"answered": 9, "error": 8, "recall": 9, "specificity": 13}
        rest = "".join(f"{row[k]['mean']:>{width}.3f}" for k, width in wide.items()) + f"{row['features']['mean']:>10.0f}"
        lines.append(f"{title:44}{spread[0]:>22}{spread[1]:>22}{rest}")
    row = figures["random_waves"]
    told = ", ".join(f"{name} {row[name]['mean']:.3f}" for name in ("auc", "accuracy", "answered", "error", "features"))
    lines.append(f"random 75/25, with waves, not shipped for membership at {row['membership']:.3f}: {told}")
    published, alone = figures["published"], figures["all_told"]
    lines.append(
        f"random 75/25 by itself, {alone['seeds']} seeds, features anew: {alone['all_s']} s, {alone['features_s']} of them for features"
    )
    lines.append(f"{'published, random 75/25: SVM':44}{'':22}{published['svm_accuracy']:>22.3f}")
    lines.append(f"{'published, random 75/25: VGG19':44}{'':22}{published['vgg19_accuracy']:>22.3f}")
    shown = figures["arrangement"]
    lines += ["", f"sample owners: joint AUC {shown['auc']['joint']:.3f}; alone {shown['auc']['alone']}"]
    for p in shown["promises"]:
        verdict = "proven" if p["passed"] else "not proven"
        lines.append(
            f"  at most {100 * p['goal']:g} % error: {verdict}; answers {p['share']:.1%}, bound {p['bound']:.1%};"
            f" never-used line: answers {p['new_share']:.1%}, error {p['new_error']:.1%}"
        )
    lines.append(f"  fold-out loss as the owners find it, over the exact one: {shown['fold_out_loss_ratio']:.3f}")
    kept = figures["promises"]
    ratio = kept["fold_out_loss_ratio"]
    lines.append(f"  the same over random arrangements: {ratio['mean']:.3f} ({ratio['low']:.3f}-{ratio['high']:.3f})")
    for goal, row in kept.items():
        if isinstance(row, dict) and "tried" in row:
            answered, wrong = row["share_where_proven"], row["new_error_where_proven"]
            lines.append(
                f"modules at random, at most {goal} error: proven {row['proven']} of {row['tried']} tried, answering {answered};"
                f" error there on never-used modules {wrong}, promise broken {row['promise_broken_on_new']} times"
            )
    lines += [""] + [
        f"{'holds' if b['holds'] else 'FAILS':6} {b['name']}: {b['value']} (goal {b['goal']} {b['unit']})" for b in result["bars"]
    ]
    return "\n".join(lines)


def measure(data: Cells, scenario: Scenario, seeds: int, say: Say) -> tuple[Figures, BarRows]:
    figures: Figures = {"seeds": seeds, "published": PUBLISHED, "cells": data.size, "modules_inferred": True}
    for block in (False, True):
        for rule in (True, False):
            name = ("block" if block else "random") + ("" if rule else "_without_rule")
            figures[name] = protocol(data, seeds, block, rule, say)
        for loop, recipes in FIRST_LOOP.items():
            figures[f"{'block' if block else 'random'}_{loop}"] = protocol(data, seeds, block, True, say, recipes)
    figures["random_waves"] = waved(data, seeds, say)
    figures["arrangement"] = arrangement(data, scenario)
    figures["promises"] = promises_kept(data, scenario, seeds, say)
    return figures, bars_of(figures, seeds)


def all_told(_data: Cells, _scenario: Scenario, _cache: Path, threads: int, say: Say) -> tuple[Figures, BarRows]:
    """The first protocol by itself, with features of all four views extracted anew: what one who has only the pictures waits for."""
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as fresh:
        data = load_cells(Path(fresh), threads, say)
    extracted = time.perf_counter() - begun
    row = protocol(data, ALL_TOLD_SEEDS, False, True, say)
    seconds = time.perf_counter() - begun
    figures = {
        "seeds": ALL_TOLD_SEEDS,
        "features_s": round(extracted, 1),
        "all_s": round(seconds, 1),
        "auc": row["auc"],
        "accuracy": row["accuracy"],
    }
    name = f"random 75/25, {ALL_TOLD_SEEDS} seeds, features of {len(data.views)} views extracted anew, all told"
    return {"all_told": figures}, [bar(name, round(seconds, 1), ALL_TOLD_S, "s", at_most=True)]


if __name__ == "__main__":
    raise SystemExit(run_bench("elpv", __doc__ or "", ("seeds", 20, "random splits of each protocol"), measure, table, all_told))
