"""Trees as rounds of a build: those of pooled rows, resumable at any round, carried to a site, compared in pairs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from isthmus.app.builders import build_of, site_build_of
from isthmus.app.grown import asked_features, tree_plan
from isthmus.app.worker import RunCancelled
from isthmus.contracts.build import RunRequest, SiteRequest
from isthmus.contracts.errors import InputError
from isthmus.contracts.head import Forest, Head, Stage
from isthmus.contracts.job import JobRequest
from isthmus.contracts.scenario import Trees
from isthmus.contracts.schema import Column, Schema
from isthmus.contracts.statistic import MOMENTS, PAIR, PairParams, TrainingParams
from isthmus.contracts.sums import moments_from, pair_from
from isthmus.contracts.treesums import ASIDE_SCORES, HISTOGRAMS
from isthmus.foundry.foldout import moments_of
from isthmus.foundry.ridge import standard
from isthmus.foundry.stages import stage_of
from isthmus.foundry.trees import Rows, TreePlan, cuts_of, drawn_edges, forest_of, grow, start
from isthmus.kit.treewalk import head_scores
from isthmus.sandbox.statistics.registry import computed, parsed_params
from isthmus.sandbox.statistics.trees import set_aside
from tests.app.world import LEAST_GROUP, OWNERS, PURPOSE, House, house, owner, owners, part, scenario, site

TREES = Trees(trees=8, depth=2, rate=0.5, features=3, cuts=1)


def wanted(trees: Trees = TREES, **more: Any) -> RunRequest:
    of = scenario(200_000)
    recipe = msgspec.structs.replace(of.recipe, head="trees", trees=trees)
    return RunRequest(scenario=msgspec.structs.replace(of, recipe=recipe), owners=OWNERS, **more)


def walked(of: House, request: RunRequest, run_id: str = "run_1") -> tuple[bool, dict[str, Any]]:
    of.begun(run_id, request)
    return build_of(of.shop, run_id, request).walk()


def head_of(result: dict[str, Any]) -> Head:
    return msgspec.convert(result["head"], Head)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> tuple[House, dict[str, Any]]:
    of = house(tmp_path_factory.mktemp("fleet"))
    certified, result = walked(of, wanted())
    assert certified
    return of, result


def rows_of(of: House, stage: Stage) -> list[Rows]:
    """Each owner's records that are grown on."""
    found = []
    for owner_of in of.jobs.owners.values():
        training = owner_of.training(stage, TrainingParams(sure_weight=2))
        rows = ~set_aside(training.records.groups, TREES.aside)
        found.append(Rows(training.views[0][rows], training.records.y[rows].astype(float), training.w[rows], LEAST_GROUP))
    return found


def by_library(of: House, result: dict[str, Any], parts: list[Rows], **rule: int) -> Forest:
    """The trees of these rows, by the plan that follows from the roster's moments."""
    packed = next(found.total for found in of.jobs.known.values() if found.statistic == MOMENTS)
    assert packed is not None
    moments = moments_from(packed.array(), result["stage"]["dimension"])
    norm = standard(moments)
    drawn = tuple(drawn_edges(norm.mean, norm.scale, tree, TREES.features, TREES.cuts) for tree in range(TREES.trees))
    plan = TreePlan(trees=TREES.trees, depth=TREES.depth, drawn=drawn, rate=TREES.rate, **rule)
    return forest_of(grow(start(plan, moments.sum_w, float(moments.sum_wy)), parts), result["trees"]["kept"])


def test_what_nodes_grow_jointly_are_the_trees_of_pooled_rows(tmp_path: Path) -> None:
    of = house(tmp_path, {party: owner(party, seed, train=4000) for seed, party in enumerate(OWNERS)})
    _, result = walked(of, wanted())
    parts = rows_of(of, head_of(result).stage)
    pooled = Rows(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("q", "y", "w")))
    forest = head_of(result).forest
    assert forest is not None and forest == by_library(of, result, [pooled]), "enough records: the rule forbids none of the best cuts"
    assert int(forest.sizes.array().max()) == 7


def test_where_records_are_few_the_rule_forbids_cuts(fleet: tuple[House, dict[str, Any]]) -> None:
    of, result = fleet
    parts = rows_of(of, head_of(result).stage)
    least = result["trees"]["owner_records_min"]
    assert least == 4 * TREES.features and head_of(result).forest == by_library(of, result, parts, owners_min=2, owner_records_min=least)
    assert head_of(result).forest != by_library(of, result, parts)


def test_it_answers_by_thresholds_and_trees_that_no_held_out_record_chose(tmp_path: Path, fleet: tuple[House, dict[str, Any]]) -> None:
    other = house(tmp_path)
    for place, found in enumerate(other.jobs.owners.values()):
        found.parts["holdout"] = part(7000 + place, 200)
    _, again = walked(other, wanted())
    _, first = fleet
    assert again["head"] == first["head"] and again["trees"] == first["trees"] and again["evaluations"] != first["evaluations"]
    assert first["auc"]["joint"] > 0.8 and first["trees"]["losses"][-1] < first["trees"]["losses"][0]


def test_trees_that_go_on_from_the_ridge_head_are_not_worse_than_it(tmp_path: Path) -> None:
    of = house(tmp_path)
    certified, result = walked(of, wanted(msgspec.structs.replace(TREES, start="ridge", rate=0.2)))
    head, losses = head_of(result), result["trees"]["losses"]
    assert certified and np.abs(head.coefficients.array()).max() > 0 and result["trees"]["steepness"] >= 1
    assert min(losses) <= losses[0]
    assert result["auc"]["joint"] > 0.9


def test_a_run_cut_off_in_any_round_ends_as_one_that_was_not(tmp_path: Path, fleet: tuple[House, dict[str, Any]]) -> None:
    _, whole = fleet
    cut, request = house(tmp_path), wanted()
    cut.begun("run_1", request)
    rounds = {"left": 0}

    def stopping(asked: JobRequest) -> None:
        if rounds["left"] == 0:
            raise RunCancelled
        rounds["left"] -= 1

    cut.jobs.before = stopping
    stopped = 0
    while True:
        rounds["left"] = 3
        try:
            certified, result = build_of(cut.shop, "run_1", request).walk()
            break
        except RunCancelled:
            stopped += 1
    assert certified and stopped > 5 and cut.jobs.made == len(cut.jobs.known), "no sum was made twice"
    assert {k: v for k, v in result.items() if k != "certificate"} == {k: v for k, v in whole.items() if k != "certificate"}


def test_labels_that_nothing_foretells_get_no_certificate(tmp_path: Path) -> None:
    certified, result = walked(house(tmp_path, owners(shuffled=True)), wanted())
    assert not certified and result["failures"]
    of = house(tmp_path / "turned")
    for found in of.jobs.owners.values():  # what is set aside says the opposite of what is grown on
        train = found.parts["train"]
        y = np.where(set_aside(train.groups, TREES.aside), -train.y, train.y)
        found.parts["train"] = dataclasses.replace(train, y=y)
    with pytest.raises(InputError, match="no tree foretells"):
        walked(of, wanted())


def test_too_few_records_for_the_cuts_are_told(tmp_path: Path) -> None:
    of = house(tmp_path)
    request = wanted(msgspec.structs.replace(TREES, features=64, cuts=16))
    with pytest.raises(InputError, match="are left to grow trees on"):
        walked(of, request)


def test_a_site_gets_the_trees_with_thresholds_of_its_own(tmp_path: Path) -> None:
    of = house(tmp_path)
    request = wanted()
    of.begun("run_1", request)
    certified, result = build_of(of.shop, "run_1", request).walk()
    of.catalogue.end("run_1", "certified", result, None)
    of.jobs.owners["delta"] = site("delta", 77, fit=40, proof=150)
    of.jobs.agree(PURPOSE + "/site", "delta")
    asked = SiteRequest(run="run_1", site="delta", fit=40, proof=150)
    of.begun("site_1", asked)
    _, at_site = site_build_of(of.shop, "site_1", asked).walk()
    head = head_of(at_site)
    assert certified and head.forest == head_of(result).forest
    assert {"fleet", "combined", "local"} == set(at_site["candidates"])
    assert at_site["candidates"]["combined"]["auc"] > 0.8 and at_site["claims"]["records"] == 150
    stage = stage_of(head.stage.backbone, head.stage.parts, head.stage.schema)
    q = of.jobs.owners["delta"].features(stage, "holdout")
    assert np.isfinite(head_scores(head, q)).all()
    statistics = [asked.statistic for asked in of.jobs.asked if asked.run_id == "site_1"]
    assert HISTOGRAMS not in statistics and ASIDE_SCORES not in statistics


def test_trees_and_a_ridge_head_are_compared_in_pairs(fleet: tuple[House, dict[str, Any]]) -> None:
    of, result = fleet
    new = head_of(result)
    old = msgspec.structs.replace(new, forest=None, bias=-1.0, lo=0.0, hi=0.0)  # says good of every record
    statistic, params = parsed_params(PAIR, msgspec.to_builtins(PairParams(old=old, new=new)), new.stage)
    found = of.jobs.owners["alba"]
    sums = pair_from(computed(statistic, params, new.stage, found, LEAST_GROUP))  # type: ignore[arg-type]
    held = found.parts["holdout"].y
    right, wrong, _ = sums.table.sum(axis=1)
    assert (right, wrong) == ((held < 0).sum(), (held > 0).sum()) and sums.table.sum(axis=0)[0] > right * 0.5


def test_trees_ask_about_columns_where_there_are_some_and_else_about_all_features() -> None:
    columns = (Column(name="a", low=0, high=1, missing=True), Column(name="b", low=0, high=1))
    row, window = Schema(columns=columns), Schema(columns=columns, steps=8)
    assert asked_features(stage_of("table", ("columns", "bins/4"), row)) == 3
    assert asked_features(stage_of("table", ("bins/4",), row)) == stage_of("table", ("bins/4",), row).dimension
    series = stage_of("series", ("last/2",), window)
    assert asked_features(series) == series.dimension
    rng = np.random.default_rng(1)
    q = rng.integers(-9000, 9000, (300, series.dimension)).astype(np.int16)
    moments = moments_of(q, np.ones(300, np.int64), np.where(q[:, 0] > 0, 1, -1), np.arange(300))
    plan = tree_plan(Trees(features=3, cuts=2), series, moments, ratio=4, owners=3)
    assert all(len(edges) == series.dimension and 1 <= len(cuts_of(edges)) <= 6 for edges in plan.drawn)
    assert plan.held_min == 2 * 4 * max(len(cuts_of(edges)) for edges in plan.drawn)
